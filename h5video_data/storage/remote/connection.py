"""Sends requests to a file system of fsspec, many at once. Imported when a URL is opened."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from .reads import compared_version, is_gcs, read_range
from .request_options import RequestOptions
from .requests import Attempts, Failure, check_length, try_again, wait_for

T = TypeVar("T")


class Version(NamedTuple):
    """Which version of an object is read."""

    tag: str
    """Its ETag or generation, see `reads.compared_version`; none: any version."""
    num_bytes: int


ANY_VERSION = Version("", 0)

_left_to_parent: list[Any] = []


class Connection:
    """Sends requests to a file system, many at once. Called by several threads at once.

    A thread that holds h5py's lock calls `info_here` and `read_here` alone: requests of the others
    are sent by fsspec's thread. If that collects garbage, it waits for h5py's lock, to close files;
    and who holds the lock would wait for it.

    Args:
        open_one: Opens the file system.
        options: How many requests are sent at once, in fsspec's thread and in that one, and what is
            done when one fails.
    """

    def __init__(self, open_one: Callable[..., Any], options: RequestOptions) -> None:
        self.filesystem = open_one()
        self._open_one = open_one
        self._options = options
        self._gate: _Gate | None = None
        self._here: tuple[Any, asyncio.AbstractEventLoop] | None = None

    @property
    def compared_version(self) -> str:
        """By what a read is of one version, or an error. See `reads.compared_version`."""
        return compared_version(self.filesystem)

    def info_here(self, key: str) -> Mapping[str, Any]:
        """Returns what `info` does, in this thread, which holds h5py's lock.

        Raises:
            VideoFileNotFoundError: There is no such object.
            RequestError: The request failed until the deadline, or cannot succeed.
        """
        system, loop = self._own_system()
        if loop is None:
            return try_again(lambda: system.info(key), self._options)

        async def ask() -> Mapping[str, Any]:
            found: Mapping[str, Any] = await self._try_again(lambda: system._info(key), 0, _Gate(1))
            return found

        return _run(loop, ask())

    def read_here(
        self, key: str, starts: Sequence[int], stops: Sequence[int], version: Version = ANY_VERSION
    ) -> list[bytes]:
        """Reads byte ranges as `read_ranges`, in this thread, which holds h5py's lock."""
        system, loop = self._own_system()
        if loop is None:
            return self._read_one_by_one(key, starts, stops)

        async def read() -> list[bytes]:
            gate = _Gate(self._options.max_requests)
            reads = (
                self._try_again(_reader(system, key, *pair, version), pair[1] - pair[0], gate)
                for pair in zip(starts, stops, strict=True)
            )
            found = await asyncio.gather(*reads, return_exceptions=True)  # none is left behind
            for item in found:
                if isinstance(item, BaseException):
                    raise item
            return [item for item in found if not isinstance(item, BaseException)]

        return _run(loop, read())

    def _own_system(self) -> tuple[Any, asyncio.AbstractEventLoop | None]:
        """Returns a file system whose loop runs in the calling thread; None: it needs no loop."""
        if not self.filesystem.async_impl:
            return self.filesystem, None
        if self._here is None:
            loop = asyncio.new_event_loop()
            system = self._open_one(asynchronous=True)
            if is_gcs(system) and not getattr(system, "_use_client_cert", False):
                _run(loop, _open_session(system))
            self._here = system, loop
            weakref.finalize(self, _close, system, loop, os.getpid())
        return self._here

    def _read_one_by_one(
        self, key: str, starts: Sequence[int], stops: Sequence[int]
    ) -> list[bytes]:
        system = self.filesystem

        def read_one(start: int, stop: int) -> bytes:
            return check_length(system.cat_file(key, start=start, end=stop), stop - start)

        pairs = zip(starts, stops, strict=True)
        return [try_again(functools.partial(read_one, *pair), self._options) for pair in pairs]

    def read_ranges(
        self, key: str, starts: Sequence[int], stops: Sequence[int], version: Version = ANY_VERSION
    ) -> list[bytes]:
        """Reads byte ranges of an object, at most `RequestOptions.max_requests` at once.

        Args:
            key: The object, as the file system names it.
            starts: The first byte of each range.
            stops: The end of each, at most the size of the object.
            version: Which version it must be, if there is a `compared_version`.

        Raises:
            VideoFileNotFoundError: There is no such object.
            ObjectChangedError: It is another version.
            RequestError: A range could not be read before the deadline, or not at all.
        """
        if not self.filesystem.async_impl:
            return self._read_one_by_one(key, starts, stops)
        futures = self.begin_ranges(key, starts, stops, version)
        try:
            return [wait_for(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def begin_ranges(
        self, key: str, starts: Sequence[int], stops: Sequence[int], version: Version = ANY_VERSION
    ) -> list[Future[bytes]]:
        """Begins to read byte ranges as `read_ranges` does, and returns at once.

        Returns:
            For each, what `wait_for` waits for; empty if the file system reads one at a time.
        """
        system = self.filesystem
        if not system.async_impl:
            return []
        return self._begin(
            [
                (_reader(system, key, *pair, version), pair[1] - pair[0])
                for pair in zip(starts, stops, strict=True)
            ]
        )

    def begin_info(self, key: str) -> Callable[[], Mapping[str, Any]]:
        """Begins to ask what `info` returns; the result waits for it."""
        system = self.filesystem
        if not system.async_impl:
            return functools.partial(self.info, key)
        return functools.partial(wait_for, *self._begin([(lambda: system._info(key), 0)]))

    def info(self, key: str) -> Mapping[str, Any]:
        """Returns what the store tells of an object now, as fsspec's `info`."""
        found: Mapping[str, Any] = self._call("info", key)
        return found

    def glob(self, pattern: str) -> list[str]:
        """Returns the objects that match a glob, sorted, as the file system names them."""
        return sorted(self._call("glob", pattern))

    def _call(self, method: str, *args: Any) -> Any:
        system = self.filesystem
        if not system.async_impl:
            return try_again(lambda: getattr(system, method)(*args), self._options)
        function = getattr(system, f"_{method}")
        (future,) = self._begin([(lambda: function(*args), 0)])
        return wait_for(future)

    def _begin(self, calls: list[tuple[Callable[[], Awaitable[Any]], int]]) -> list[Future[Any]]:
        """Begins to send requests again until they succeed, in fsspec's thread.

        Args:
            calls: For each, a function that sends it, and how many bytes it reads.
        """
        loop: asyncio.AbstractEventLoop = self.filesystem.loop
        futures: list[Future[Any]] = [Future() for _ in calls]

        def start() -> None:
            if self._gate is None:
                self._gate = _Gate(self._options.max_requests)
            for future, call in zip(futures, calls, strict=True):
                if not future.cancelled():
                    task = loop.create_task(self._outcome(*call, self._gate))
                    task.add_done_callback(functools.partial(_hand_over, future))
                    future.add_done_callback(functools.partial(_cancel_too, loop, task))

        loop.call_soon_threadsafe(start)  # once for all: to wake that thread takes its time
        return futures

    async def _outcome(
        self, function: Callable[[], Awaitable[T]], num_bytes: int, gate: _Gate
    ) -> T | Failure:
        try:
            return await self._try_again(function, num_bytes, gate)
        except Exception as error:
            return Failure(error)  # raised, it would be printed if nobody waits any more

    async def _try_again(
        self, function: Callable[[], Awaitable[T]], num_bytes: int, gate: _Gate
    ) -> T:
        attempts = Attempts(self._options)
        while True:
            try:
                async with gate.semaphore:
                    gate.num_bytes += num_bytes
                    try:
                        return await _within(attempts.begin(gate.num_bytes), function)
                    finally:
                        gate.num_bytes -= num_bytes
            except Exception as error:
                pause = attempts.pause_after(error)
            await asyncio.sleep(pause)


def _hand_over(future: Future[Any], task: asyncio.Task[Any]) -> None:
    """Gives what a task brought to who waits for it in another thread."""
    if task.cancelled():
        future.cancel()
    elif future.set_running_or_notify_cancel():
        error = task.exception()
        if error is None:
            future.set_result(task.result())
        else:
            future.set_exception(error)


def _cancel_too(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], future: Future[Any]
) -> None:
    if future.cancelled() and not task.done():
        with contextlib.suppress(RuntimeError):  # the process ends
            loop.call_soon_threadsafe(task.cancel)


async def _within(seconds: float, function: Callable[[], Awaitable[T]]) -> T:
    """Returns what a function returns, or raises a TimeoutError."""
    if sys.version_info < (3, 11):
        return await asyncio.wait_for(function(), seconds)
    async with asyncio.timeout(seconds):  # half as much work: it makes no task
        return await function()


class _Gate:
    """Lets requests of one loop pass, some at once.

    Args:
        max_requests: How many.

    Attributes:
        num_bytes: Bytes of those that have passed it, and are being read.
    """

    def __init__(self, max_requests: int) -> None:
        self.semaphore = asyncio.Semaphore(max_requests)
        self.num_bytes = 0


def _reader(
    system: Any, key: str, start: int, stop: int, version: Version
) -> Callable[[], Awaitable[bytes]]:
    """Returns a function that sends the request for a range."""

    async def read() -> bytes:
        found = await read_range(system, key, start, stop, *version)
        return check_length(found, stop - start)

    return read


def _run(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in this thread, also if another loop runs it, as that of a notebook."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return loop.run_until_complete(call)
    finally:
        asyncio._set_running_loop(outer)


async def _open_session(system: Any) -> None:
    """Gives a file system of gcsfs its client: its own one it would close in fsspec's thread."""
    import aiohttp

    options = {"connector": aiohttp.TCPConnector(limit=0), **system.session_kwargs}
    system._session = aiohttp.ClientSession(**options)


def _close(system: Any, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """Closes the connections of a loop that does not run, and the loop."""
    if os.getpid() != pid:
        _left_to_parent.append((system, loop))  # to collect them would print a warning
        return

    async def close() -> None:
        # fsspec leaves that to who opens a file system for a loop, under the names of each kind.
        if (creator := getattr(system, "_s3creator", None)) is not None:
            await creator.__aexit__(None, None, None)
        elif (session := getattr(system, "_session", None)) is not None:
            await session.close()
        await loop.shutdown_default_executor()

    with contextlib.suppress(Exception):
        _run(loop, close())
    loop.close()
