"""Where objects of an object store or a web server are read, through fsspec.

Requests fail and are slow in ways that reads from a disk are not: each is tried again after a
pause, until a deadline. What fsspec and the libraries behind it raise may name keys and signed
URLs, so none of it leaves this module: `RequestError` says in words what happened.

fsspec is imported when the first URL is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from h5video_data.errors import MissingDependencyError, VideoFileNotFoundError

from .os_errors import RequestError

T = TypeVar("T")

# Not measured yet: chosen for about 50 ms a request, and some 100 MB/s a connection.
MAX_REQUESTS = 64
# A server that is restarted or that throttles comes back within this; a training waits for it.
DEADLINE_SECONDS = 60.0
# One request that takes longer is given up and sent again.
REQUEST_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0

# What the server is asked again for: timeout, too early, throttling. All of 500 and above are too.
_TRANSIENT_STATUS = (408, 425, 429)
_TRANSIENT_CODES = ("SlowDown", "Throttling", "RequestTimeout", "InternalError", "RequestLimit")
_STATUS_MEANINGS = {401: "not authorized", 403: "permission denied", 429: "too many requests"}


_left_to_parent: list[Any] = []


class Store:
    """A file system of fsspec with its options, one for each process.

    Nothing of the options is ever shown: they may hold credentials.

    Args:
        url: A URL on it.
        options: Arguments of the file system of fsspec.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url
        self.options = dict(options)
        self._pid = -1
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        return f"<Store: {self._url.partition('://')[0]}>"

    @property
    def connection(self) -> Connection:
        """The connection of this process: a forked child has its own."""
        connection = self._connection
        if connection is None or self._pid != os.getpid():
            if self._pid not in (-1, os.getpid()):
                self._lock = threading.Lock()  # another thread of the parent may have held it
            with self._lock:
                if self._connection is None or self._pid != os.getpid():
                    self._connection = Connection(
                        functools.partial(open_filesystem, self._url, self.options)
                    )
                    self._pid = os.getpid()
                connection = self._connection
        return connection


def open_filesystem(url: str, options: Mapping[str, Any], **more: Any) -> Any:
    """Returns the file system of fsspec for a URL.

    Args:
        url: The URL.
        options: Arguments of the file system.
        **more: Others.

    Raises:
        MissingDependencyError: fsspec, or what it needs for this kind of URL, is not installed.
        RequestError: fsspec does not take these options.
    """
    protocol = url.partition("://")[0]
    try:
        import fsspec.core
    except ImportError:
        raise MissingDependencyError(
            f"Reading {protocol}:// needs fsspec: pip install h5video_data[remote]"
        ) from None
    own: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False, **more}
    if protocol in ("s3", "s3a"):  # or no more than 10 at once
        given = options.get("config_kwargs") or {}
        own["config_kwargs"] = {"max_pool_connections": MAX_REQUESTS, **given}
    try:
        return fsspec.core.url_to_fs(url, **{**options, **own})[0]
    except ImportError as error:
        name = f": {error.name}" if error.name else ""
        raise MissingDependencyError(
            f"Reading {protocol}:// needs another package{name}. pip install h5video_data[remote] "
            "has those for s3://, gs:// and https://"
        ) from None
    except Exception as error:
        names = ", ".join(map(repr, options)) or "none"
        raise RequestError(
            f"fsspec cannot open a {protocol}:// URL ({type(error).__name__}); options given in "
            f"`storage_options`: {names}"
        ) from None


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
        deadline = time.monotonic() + DEADLINE_SECONDS

        def check(found: Any) -> Any:
            is_read = method == "cat_file"
            return _check_length(found, options["end"] - options["start"]) if is_read else found

        if not self.filesystem.async_impl:
            function = getattr(self.filesystem, method)
            return _try_again(lambda: check(function(*args, **options)), deadline)
        if self._here is None:
            loop = asyncio.new_event_loop()
            system = self._open_one(asynchronous=True)
            self._here = system, loop
            weakref.finalize(self, _close, system, loop, os.getpid())
        system, loop = self._here
        function = getattr(system, f"_{method}")

        def once() -> Any:
            call = asyncio.wait_for(function(*args, **options), REQUEST_SECONDS)
            return check(_run(loop, call))

        return _try_again(once, deadline)

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
            deadline = time.monotonic() + DEADLINE_SECONDS
            pairs = zip(starts, stops, strict=True)

            def read_one(start: int, stop: int) -> bytes:
                return _check_length(system.cat_file(key, start=start, end=stop), stop - start)

            return [_try_again(functools.partial(read_one, *pair), deadline) for pair in pairs]

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
        deadline = time.monotonic() + DEADLINE_SECONDS
        system = self.filesystem
        if not system.async_impl:
            return []

        async def read(start: int, stop: int) -> bytes:
            found = await system._cat_file(key, start=start, end=stop)
            return _check_length(found, stop - start)

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
        deadline = time.monotonic() + DEADLINE_SECONDS
        system = self.filesystem
        if not system.async_impl:
            return _try_again(lambda: getattr(system, method)(*args), deadline)
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
                    left = max(0.1, min(REQUEST_SECONDS, deadline - time.monotonic()))
                    return await asyncio.wait_for(function(), left)
            except Exception as error:
                pause = _pause(error, attempt, deadline)
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


def wait_for(future: Future[T]) -> T:
    """Returns what a request brings, or raises as `Connection.read_ranges`."""
    try:
        return future.result()
    except (VideoFileNotFoundError, RequestError) as error:
        # Anew: that of the loop has the traceback of its thread.
        raise type(error)(*error.args) from None
    except (Exception, CancelledError) as error:
        raise RequestError(f"the connection failed ({type(error).__name__})") from None


def _try_again(function: Callable[[], T], deadline: float) -> T:
    attempt = 0
    while True:
        try:
            return function()
        except Exception as error:
            pause = _pause(error, attempt, deadline)
        attempt += 1
        time.sleep(pause)


def _pause(error: Exception, attempt: int, deadline: float) -> float:
    """Returns the seconds to wait before a request is sent again.

    Half of them are drawn at random: the requests that a server refused together do not come back
    together.

    Raises:
        VideoFileNotFoundError: There is no such object.
        RequestError: To send it again would not help, or the deadline has passed.
    """
    reason, is_transient = _reason(error)
    if _is_missing(error):
        raise VideoFileNotFoundError("No such object") from None
    pause: float = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 16))
    pause *= random.uniform(0.5, 1)
    if not is_transient:
        raise RequestError(reason) from None
    if time.monotonic() + pause > deadline:
        raise RequestError(f"{reason}, also the last of {attempt + 1} times") from None
    return pause


class _ShortBodyError(Exception):
    """A server sent fewer bytes than asked for."""


class _WholeObjectError(Exception):
    """A server sent more bytes than asked for."""


def _check_length(data: bytes, expected: int) -> bytes:
    if len(data) < expected:
        raise _ShortBodyError(f"{len(data)} bytes came of {expected}")
    if len(data) > expected:
        raise _WholeObjectError(
            f"the server does not read byte ranges: {len(data)} bytes came instead of {expected}"
        )
    return data


def _origin(error: BaseException) -> BaseException:
    """Returns the error behind a FileNotFoundError: fsspec has that for all that fails."""
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    # `code` is gcsfs's name for it; aiohttp has a `code` of 400 for an answer that was cut short.
    is_gcsfs = type(error).__module__.startswith("gcsfs")
    status = getattr(error, "code" if is_gcsfs else "status", None)
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", status)
    try:
        return int(status) if status is not None else None
    except (TypeError, ValueError):
        return None


def _is_missing(error: BaseException) -> bool:
    origin = _origin(error)
    return isinstance(origin, FileNotFoundError) or _status(origin) in (404, 410)


def _reason(error: Exception) -> tuple[str, bool]:
    """Says why a request failed, without what may hold credentials, and whether that may pass."""
    if isinstance(error, RequestError):
        return str(error), False
    if isinstance(error, (_ShortBodyError, _WholeObjectError)):
        return str(error), isinstance(error, _ShortBodyError)
    origin = _origin(error)
    for item in (origin, origin.__cause__):
        if item is None:
            continue
        status = _status(item)
        response = getattr(item, "response", None)
        code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
        if status is not None and status >= 300:
            meaning = _STATUS_MEANINGS.get(status, "")
            text = f"the server answered {status}" + "".join(
                f" ({part})" for part in (code or meaning,) if part and part.isprintable()
            )
            is_transient = status >= 500 or status in _TRANSIENT_STATUS
            return text, is_transient or code.startswith(_TRANSIENT_CODES)
    if isinstance(origin, PermissionError):
        return "permission denied", False
    name = type(origin).__name__
    if "Credential" in name:
        return f"no valid credentials ({name})", False
    if isinstance(origin, (asyncio.TimeoutError, TimeoutError)):
        return "no answer in time", True
    # A RuntimeError: the connections are closed, because the process ends.
    if isinstance(origin, (ImportError, TypeError, ValueError, AttributeError, RuntimeError)):
        return f"fsspec failed ({name})", False
    if isinstance(origin, OSError) and origin.errno:
        return os.strerror(origin.errno).lower() if origin.errno > 0 else "no such host", True
    return f"the connection failed ({name})", True
