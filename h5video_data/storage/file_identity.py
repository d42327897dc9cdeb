"""What the operating system says about a file: whether it is the same one, and what went wrong."""

from __future__ import annotations

import errno
import functools
import glob
import os
import re
import resource
import stat
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from h5video_data.errors import (
    FileChangedError,
    H5VideoError,
    NotHDF5Error,
    ReadError,
    UnavailableError,
    VideoFileNotFoundError,
)

T = TypeVar("T")


@dataclass(frozen=True)
class FileIdentity:
    """What tells a file from another one of the same name: see `stat(2)`.

    The time of its last status change is not part of it: a backup that makes hard links, `chmod`
    and `mv` set it and leave every byte as it is, in the middle of a training. What it would show
    beyond the others is a file that was overwritten in place and whose time was then set back.
    """

    device: int
    inode: int
    num_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileIdentity:
        """The identity that a stat result shows."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def changes(self, now: FileIdentity) -> str:
        """What is different now, for people."""
        if (self.device, self.inode) != (now.device, now.inode):
            return "it is another file"
        found = []
        if self.num_bytes != now.num_bytes:
            found.append(f"its size went from {self.num_bytes} to {now.num_bytes} bytes")
        if self.modified_ns != now.modified_ns:
            then, later = _time_texts(self.modified_ns, now.modified_ns)
            found.append(f"its time of change went from {then} to {later}")
        return ", ".join(found)


def _time_texts(*times_ns: int) -> list[str]:
    """Times as texts that tell them apart, without a date or a fraction if it is not needed."""
    seconds = [datetime.fromtimestamp(time_ns // 10**9) for time_ns in times_ns]
    date = "%Y-%m-%d " if len({time.date() for time in seconds}) > 1 else ""
    texts = [time.strftime(f"{date}%H:%M:%S") for time in seconds]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{text}.{t % 10**9:09}" for text, t in zip(texts, times_ns, strict=True)]


def identity_of(path: str, fd: int | None = None) -> FileIdentity:
    """The identity of a regular file.

    Args:
        path: The file's path.
        fd: Its descriptor, if it is open: the identity is then that of what was opened.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: It is a directory, a pipe (whose opening could wait for ever) or a device.
        UnavailableError: The operating system cannot tell.
    """
    try:
        found = os.stat(path if fd is None else fd)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a character that no path has
        raise VideoFileNotFoundError(f"No such file. Received: path={path!r}") from None
    except OSError as error:
        raise unavailable(f"{path} cannot be looked at", error) from error
    if stat.S_ISDIR(found.st_mode):
        pattern = os.path.join(glob.escape(path), "*.h5")
        raise NotHDF5Error(f"{path} is a directory. Name its files, or use a glob: {pattern!r}")
    if not stat.S_ISREG(found.st_mode):
        raise NotHDF5Error(f"{path} is a pipe, a socket or a device, not a file.")
    return FileIdentity.of(found)


def absolute(path: str) -> str:
    """The absolute form of a path.

    Raises:
        UnavailableError: It is relative, and the working directory is gone.
    """
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise unavailable(f"{path}: the working directory cannot be found", error) from error


def check_identity(path: str, expected: FileIdentity, fd: int | None = None) -> None:
    """Raises an error if a file is not the one whose layout was read.

    Args:
        path: The file's path.
        expected: What it was like then.
        fd: Its descriptor, if it is open.

    Raises:
        FileChangedError: It was changed or replaced.
        VideoFileNotFoundError: It is gone.
        UnavailableError: The operating system cannot tell.
    """
    try:
        found = FileIdentity.of(os.stat(path if fd is None else fd))
    except (FileNotFoundError, NotADirectoryError):
        raise VideoFileNotFoundError(f"{path} is gone since it was opened.") from None
    except OSError as error:
        raise unavailable(f"{path} cannot be looked at", error) from error
    require_identity(path, expected, found)


def require_identity(path: str, expected: FileIdentity, found: FileIdentity) -> None:
    """Raises a FileChangedError if a file is not the one whose layout was read."""
    if found != expected:
        raise FileChangedError(
            f"{path} was changed or replaced since it was opened: {expected.changes(found)}. "
            "Open the set anew."
        )


Files = tuple[tuple[str, FileIdentity], ...]
"""Paths of files and what each was like when its layout was read."""


def check_files(files: Iterable[tuple[str, FileIdentity]]) -> None:
    """Raises an error, as `check_identity` does, if one of the files is another one now."""
    for path, identity in files:
        check_identity(path, identity)


# What is wrong with the bytes that were asked for: the sample is at fault, and `on_error="skip"`
# leaves it out. EIO is what a damaged sector of a disk gives, the case that this option is made
# for. (A network that is gone gives it as well, but then to the look at the file, too, which
# follows each read.) EBADMSG and EUCLEAN are checksums of file systems, ENODATA and EILSEQ a
# medium's; EINVAL, EOVERFLOW and EFBIG a position that no file has. All others are the machine's.
_OF_THE_BYTES = frozenset(
    {
        *(errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA, errno.EILSEQ),
        *(errno.EINVAL, errno.EOVERFLOW, errno.EFBIG),
    }
)
_TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)


def error_number(error: BaseException | None) -> int | None:
    """The `errno` of an error, which HDF5 puts into its message; None: it has none."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"\berrno = (\d+)", str(error))):
        number = int(found[1])
    return number or None


def unavailable(what: str, error: BaseException) -> UnavailableError:
    """The error for what the operating system refuses, or has not got."""
    number = error_number(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return UnavailableError(f"{what}: there is not enough memory ({error})")
    reason = os.strerror(number) if number else str(error)
    hint = ". The limit of open files is too low: raise it with `ulimit -n`"
    return UnavailableError(f"{what}: {reason}{hint if number in _TOO_MANY_OPEN else ''}")


def read_failure(where: str, error: BaseException) -> H5VideoError:
    """The error for a read that failed.

    Returns:
        A ReadError if the bytes are at fault, an UnavailableError if the machine is.
    """
    number = error_number(error)
    if isinstance(error, MemoryError) or (number and number not in _OF_THE_BYTES):
        return unavailable(f"{where} cannot be read", error)
    return ReadError(f"{where}: {error}")


# Of the descriptors that the process may have, each of these keeps a part at most: there are other
# loaders, TensorFlow, and what the user opens.
_PART_OF_DESCRIPTORS = 4
_kept: set[weakref.ref[Any]] = set()


def keep_open(open_one: Callable[..., T], most: int) -> Any:
    """Like `functools.lru_cache`: keeps what was opened, the least recently used up to a number.

    Args:
        open_one: Opens a file, which is closed when nobody holds what this returns.
        most: How many are kept at most; fewer if the process may have few files open.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        most = max(1, min(most, soft // _PART_OF_DESCRIPTORS))
    cached = functools.lru_cache(most)(open_one)
    _kept.add(weakref.ref(cached, _kept.discard))
    return cached


def with_room(call: Callable[[], T]) -> T:
    """Calls; if no file can be opened any more, closes all that are kept open and calls again."""
    try:
        return call()
    except UnavailableError as error:
        if error_number(error.__cause__) not in _TOO_MANY_OPEN:
            raise
    for cached in [weak() for weak in list(_kept)]:
        if cached is not None:
            cached.cache_clear()
    return call()


def check_openable(path: str) -> None:
    """Raises an UnavailableError if a file cannot be opened."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise unavailable(f"{path} cannot be opened", error) from error


def open_identities() -> set[tuple[int, int]] | None:
    """Device and inode of all files that the process has open; None: there is no /proc.

    Raises:
        UnavailableError: There is no descriptor to look with.
    """
    found = set()
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable("/proc/self/fd cannot be read", error) from error
    for number in numbers:
        try:
            opened = os.stat(int(number))
        except OSError:  # the listing's own, or closed meanwhile
            continue
        found.add((opened.st_dev, opened.st_ino))
    return found
