"""File descriptors: opened, cached, and freed when the process has no more.

A set may have more files than the process may have open.
"""

from __future__ import annotations

import atexit
import functools
import os
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from h5video_data.errors import UnavailableError

from .file_identity import ObjectPath, no_longer_exists
from .os_errors import TOO_MANY_OPEN, error_number, unavailable
from .system import OPEN_FLAGS, file_numbers, max_open_files, open_descriptors

P = ParamSpec("P")
T = TypeVar("T")

_caches: set[weakref.ref[Any]] = set()


def keep_open(open_one: Callable[..., T], maxsize: int) -> Any:
    """Returns a `functools.lru_cache` of open files.

    Args:
        open_one: Opens a file, which is closed when its result is no longer referenced.
        maxsize: Files to keep open; fewer if the process may have few descriptors.
    """
    limit = max_open_files()
    if limit is not None:
        # A quarter of the descriptors: other loaders, TensorFlow and the user open files as well.
        maxsize = max(1, min(maxsize, limit // 4))
    cached = functools.lru_cache(maxsize)(open_one)
    _caches.add(weakref.ref(cached, _caches.discard))
    return cached


@atexit.register
def _close_all() -> None:
    """Closes all files that are kept open.

    At the end of the process, too: TensorFlow keeps generators for ever, and HDF5 (1.14.6) crashes
    when it is ended while h5py has a virtual dataset open.
    """
    for cached in [weak() for weak in list(_caches)]:
        if cached is not None:
            cached.cache_clear()


def with_free_descriptors(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function: if no descriptor is free, empties all caches of files and retries."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except UnavailableError as error:
            if error_number(error.__cause__) not in TOO_MANY_OPEN:
                raise
        _close_all()
        return function(*args, **kwargs)

    return call


def open_descriptor(path: str) -> int:
    """Opens a file for reading and returns its descriptor, which the caller closes.

    Raises:
        VideoFileNotFoundError: The file no longer exists.
        UnavailableError: It cannot be opened.
    """
    try:
        return os.open(path, OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise no_longer_exists(path) from None
    except OSError as error:
        raise unavailable(f"cannot open {path}", error) from error


def check_openable(path: str) -> None:
    """Raises the error of `open_descriptor` if a file cannot be opened."""
    if isinstance(path, ObjectPath):
        return  # it has no descriptor: what cannot be had now, its reads have told
    os.close(open_descriptor(path))


def open_identities() -> set[tuple[int, int]] | None:
    """Returns device and inode of all files that the process has open; None: not known."""
    found = set()
    try:
        numbers = open_descriptors()
    except OSError as error:
        raise unavailable("cannot list the open files of this process", error) from error
    if numbers is None:
        return None
    for number in numbers:
        try:
            opened = os.stat(number)
        except OSError:  # the listing's own descriptor, or one closed since
            continue
        found.add(file_numbers(opened))
    return found
