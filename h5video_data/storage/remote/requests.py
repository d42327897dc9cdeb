"""What is done when a request to a store fails, and what of it is told.

Requests fail and are slow in ways that reads from a disk are not: each is tried again after a
pause, until a deadline. What fsspec and the libraries behind it raise may name keys and signed
URLs, so none of it is passed on: `RequestError` says in words what happened.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import NamedTuple, TypeVar

from h5video_data.errors import VideoFileNotFoundError
from h5video_data.storage.os_errors import ObjectChangedError, RequestError

from .request_options import RequestOptions

T = TypeVar("T")

# What is being read may come as slowly as this without being given up. Bytes.
SLOWEST_BYTES_PER_SECOND = 1 << 20

# What the server is asked again for: timeout, too early, throttling. All of 500 and above are too.
_TRANSIENT_STATUS = (408, 425, 429)
_TRANSIENT_CODES = ("SlowDown", "Throttling", "RequestTimeout", "InternalError", "RequestLimit")
_PRECONDITION_FAILED = 412
_STATUS_MEANINGS = {401: "not authorized", 403: "permission denied", 429: "too many requests"}


class Failure(NamedTuple):
    """What a request ends with in place of its answer."""

    error: Exception


def wait_for(future: Future[T]) -> T:
    """Returns what a request brings, or raises as `Connection.read_ranges`."""
    try:
        found = future.result()
        if isinstance(found, Failure):
            raise found.error
        return found
    except (VideoFileNotFoundError, RequestError) as error:
        # Anew: that of the loop has the traceback of its thread.
        raise type(error)(*error.args) from None
    except (Exception, CancelledError) as error:
        raise RequestError(f"the connection failed ({type(error).__name__})") from None


class Attempts:
    """The times that one request is sent, until it succeeds or is given up.

    Args:
        options: How often, and until when.
    """

    def __init__(self, options: RequestOptions) -> None:
        self._options = options
        self._deadline: float | None = None
        self._num_failed = 0

    def begin(self, num_bytes: int = 0) -> float:
        """Notes that it is sent, which begins its time: to wait for others is not to fail.

        Args:
            num_bytes: Bytes that are being read, by this and by other requests.

        Returns:
            The seconds after which this time is given up.
        """
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._options.deadline_seconds
        left = max(0.1, min(self._options.timeout_seconds, self._deadline - now))
        return left + num_bytes / SLOWEST_BYTES_PER_SECOND

    def pause_after(self, error: Exception) -> float:
        """Returns the seconds to wait before it is sent again.

        Half of them are drawn at random: the requests that a server refused together do not come
        back together.

        Raises:
            VideoFileNotFoundError: There is no such object.
            RequestError: To send it again would not help, or it was sent often or long enough.
        """
        origin = _origin(error)
        found = {_status(item) for item in (origin, origin.__cause__) if item is not None}
        if isinstance(error, ObjectChangedError) or _PRECONDITION_FAILED in found:
            raise ObjectChangedError("it is another version now") from None
        reason, is_transient = _reason(error)
        if _is_missing(error):
            raise VideoFileNotFoundError("No such object") from None
        if not is_transient:
            raise RequestError(reason) from None
        options, number = self._options, self._num_failed
        self._num_failed += 1
        pause: float = options.first_pause_seconds * 2.0 ** min(number, 64)
        pause = max(min(options.max_pause_seconds, pause), _wished_pause(origin))
        pause *= random.uniform(0.5, 1)
        is_last = options.max_retries is not None and number >= options.max_retries
        deadline = math.inf if self._deadline is None else self._deadline
        if is_last or time.monotonic() + pause > deadline:
            times = f", also the last of {number + 1} times" if number else ""
            raise RequestError(reason + times) from None
        return pause


def try_again(function: Callable[[], T], options: RequestOptions) -> T:
    """Sends a request again until it succeeds, or raises as `Attempts.pause_after`."""
    attempts = Attempts(options)
    while True:
        attempts.begin()
        try:
            return function()
        except Exception as error:
            pause = attempts.pause_after(error)
        time.sleep(pause)


class _ShortBodyError(Exception):
    """A server sent fewer bytes than asked for."""


class _WholeObjectError(Exception):
    """A server sent more bytes than asked for."""


def check_length(data: bytes, expected: int) -> bytes:
    """Returns what a server sent, or raises an error if that is not as long as what was asked."""
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


def _wished_pause(error: BaseException) -> float:
    """Returns twice the seconds that a server asks to wait, of which half are drawn; 0: none."""
    response = getattr(error, "response", None)
    headers = getattr(error, "headers", None)
    if isinstance(response, Mapping):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    if not isinstance(headers, Mapping):
        return 0.0
    wished = headers.get("Retry-After", headers.get("retry-after", ""))
    return 2.0 * int(wished) if str(wished).isdecimal() else 0.0  # or it is a date


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
    # gcsfs has an OSError of its own text for 403.
    if isinstance(origin, PermissionError) or str(origin).startswith("Forbidden: "):
        return "permission denied", False
    name = type(origin).__name__
    for item in (origin, origin.__cause__):
        if type(item).__module__.startswith("google.auth"):
            kind = type(item).__name__
            is_transient = "Transport" in kind or bool(getattr(item, "retryable", False))
            return f"no valid credentials ({kind})", is_transient
    if "Credential" in name:
        return f"no valid credentials ({name})", False
    if "Timeout" in name:
        return "no answer in time", True
    # A RuntimeError: the connections are closed, because the process ends.
    if isinstance(origin, (ImportError, TypeError, ValueError, AttributeError, RuntimeError)):
        return f"fsspec failed ({name})", False
    if isinstance(origin, OSError) and origin.errno:
        return os.strerror(origin.errno).lower() if origin.errno > 0 else "no such host", True
    return f"the connection failed ({name})", True
