"""Sends requests to a file system of fsspec, many at once. Imported when a URL is opened."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from . import requests
from .requests import MAX_REQUESTS, check_length, pause_after, try_again, wait_for

T = TypeVar("T")

_left_to_parent: list[Any] = []


class Connection:
    """Sends requests to a file system, many at once. Called by several threads at once.

    A thread that holds h5py's lock calls `here` and nothing else: requests of the others are sent
    by fsspec's thread. If that collects garbage, it waits for h5py's lock, to close files; and who
    holds the lock would wait for it.

    Args:
        open_one: Opens the file system.
    """

    def __init__(self, open_one: Callable[..., Any]) -> None:
        self.filesystem = open_one()
        self._open_one = open_one
        self._gate: asyncio.Semaphore | None = None
        self._here: tuple[Any, asyncio.AbstractEventLoop] | None = None

    def here(self, method: str, *args: Any, **options: Any) -> Any:
        """Calls `info` or `cat_file` of the file system in this thread, which holds h5py's lock.

        Raises:
            VideoFileNotFoundError: There is no such object.
            RequestError: The request failed until the deadline, or cannot succeed.
        """
        deadline = time.monotonic() + requests.DEADLINE_SECONDS

        def check(found: Any) -> Any:
            is_read = method == "cat_file"
            return check_length(found, options["end"] - options["start"]) if is_read else found

        if not self.filesystem.async_impl:
            function = getattr(self.filesystem, method)
            return try_again(lambda: check(function(*args, **options)), deadline)
        if self._here is None:
            loop = asyncio.new_event_loop()
            system = self._open_one(asynchronous=True)
            self._here = system, loop
            weakref.finalize(self, _close, system, loop, os.getpid())
        system, loop = self._here
        function = getattr(system, f"_{method}")

        def once() -> Any:
            call = asyncio.wait_for(function(*args, **options), requests.REQUEST_SECONDS)
            return check(_run(loop, call))

        return try_again(once, deadline)

    def read_ranges(self, key: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """Reads byte ranges of an object, at most `MAX_REQUESTS` at once.

        Args:
            key: The object, as the file system names it.
            starts: The first byte of each range.
            stops: The end of each, at most the size of the object.

        Raises:
            VideoFileNotFoundError: There is no such object.
            RequestError: A range could not be read before the deadline, or not at all.
        """
        system = self.filesystem
        if not system.async_impl:
            deadline = time.monotonic() + requests.DEADLINE_SECONDS
            pairs = zip(starts, stops, strict=True)

            def read_one(start: int, stop: int) -> bytes:
                return check_length(system.cat_file(key, start=start, end=stop), stop - start)

            return [try_again(functools.partial(read_one, *pair), deadline) for pair in pairs]

        futures = self.begin_ranges(key, starts, stops)
        try:
            return [wait_for(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def begin_ranges(
        self, key: str, starts: Sequence[int], stops: Sequence[int]
    ) -> list[Future[bytes]]:
        """Begins to read byte ranges as `read_ranges` does, and returns at once.

        Returns:
            For each, what `wait_for` waits for; empty if the file system reads one at a time.
        """
        deadline = time.monotonic() + requests.DEADLINE_SECONDS
        system = self.filesystem
        if not system.async_impl:
            return []

        async def read(start: int, stop: int) -> bytes:
            found = await system._cat_file(key, start=start, end=stop)
            return check_length(found, stop - start)

        return [
            asyncio.run_coroutine_threadsafe(
                self._try_again(functools.partial(read, *pair), deadline), system.loop
            )
            for pair in zip(starts, stops, strict=True)
        ]

    def info(self, key: str) -> Mapping[str, Any]:
        """Returns what the store tells of an object now, as fsspec's `info`."""
        found: Mapping[str, Any] = self._call("info", key)
        return found

    def glob(self, pattern: str) -> list[str]:
        """Returns the objects that match a glob, sorted, as the file system names them."""
        return sorted(self._call("glob", pattern))

    def _call(self, method: str, *args: Any) -> Any:
        deadline = time.monotonic() + requests.DEADLINE_SECONDS
        system = self.filesystem
        if not system.async_impl:
            return try_again(lambda: getattr(system, method)(*args), deadline)
        function = getattr(system, f"_{method}")
        again = self._try_again(lambda: function(*args), deadline)
        return wait_for(asyncio.run_coroutine_threadsafe(again, system.loop))

    async def _try_again(self, function: Callable[[], Awaitable[T]], deadline: float) -> T:
        if self._gate is None:
            self._gate = asyncio.Semaphore(MAX_REQUESTS)
        attempt = 0
        while True:
            try:
                async with self._gate:
                    left = max(0.1, min(requests.REQUEST_SECONDS, deadline - time.monotonic()))
                    return await asyncio.wait_for(function(), left)
            except Exception as error:
                pause = pause_after(error, attempt, deadline)
            attempt += 1
            await asyncio.sleep(pause)


def _run(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in this thread, also if another loop runs it, as that of a notebook."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return loop.run_until_complete(call)
    finally:
        asyncio._set_running_loop(outer)


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
