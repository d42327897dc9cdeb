"""Whether a file is still the one whose layout was read.

After a set is opened, its bytes are read without asking HDF5 again. So each file's identity is
compared whenever an epoch begins and after each read, by its descriptor if it is open: an open
descriptor outlives its name.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from h5video_data.errors import FileChangedError, NotHDF5Error, VideoFileNotFoundError

from .os_errors import unavailable
from .system import file_numbers


@dataclass(frozen=True)
class FileIdentity:
    """Identity of a file: what tells it from another of the same name, see `stat(2)`.

    The time of the last status change is left out: `chmod`, `mv` and backups that make hard links
    set it and leave every byte as it is, in the middle of a training.
    """

    device: int
    inode: int
    num_bytes: int
    modified_ns: int  # since the epoch

    @classmethod
    def of(cls, found: os.stat_result) -> FileIdentity:
        """Returns the identity in a result of `os.stat`."""
        return cls(*file_numbers(found), found.st_size, found.st_mtime_ns)

    def changes(self, now: FileIdentity) -> str:
        """Returns a description of the differences, for error messages."""
        if (self.device, self.inode) != (now.device, now.inode):
            return "it is another file"
        found = []
        if self.num_bytes != now.num_bytes:
            found.append(f"size from {self.num_bytes} to {now.num_bytes} bytes")
        if self.modified_ns != now.modified_ns:
            before, after = map(_time_text, (self.modified_ns, now.modified_ns))
            found.append(f"modification time from {before} to {after}")
        return ", ".join(found)


@dataclass(frozen=True)
class ObjectIdentity(FileIdentity):
    """Identity of an object of a store, which has neither device nor inode (-1 and 0)."""

    version: str
    """What tells its contents from others: its ETag, or what else the store has; "": nothing."""
    modified: str
    """When it was written, in the words of the store; "": not known."""

    def changes(self, now: FileIdentity) -> str:
        """Returns a description of the differences, for error messages."""
        if not isinstance(now, ObjectIdentity):
            return "it is another file"
        found = []
        if self.num_bytes != now.num_bytes:
            found.append(f"size from {self.num_bytes} to {now.num_bytes} bytes")
        if self.version != now.version:
            found.append(f"version from {self.version!r} to {now.version!r}")
        if self.modified != now.modified:
            found.append(f"modification time from {self.modified} to {now.modified}")
        return ", ".join(found)


def _time_text(time_ns: int) -> str:
    # With all digits: changes may be less than a microsecond apart, which is all datetime has.
    seconds, fraction = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds)}.{fraction:09}"


Files = tuple[tuple[str, FileIdentity], ...]
"""Paths of files, each with the identity that it had when its layout was read."""


class ObjectPath(str):
    """A path that is not of this machine's file system, which asks a store itself."""

    def identity(self) -> FileIdentity:
        """Returns the identity that it has now; raises as `identity_of`."""
        raise NotImplementedError

    def identity_once(self) -> FileIdentity:
        """Returns the identity, which need not be asked for anew if all reads are compared."""
        return self.identity()

    def ask_identity(self) -> Callable[[], FileIdentity]:
        """Begins to ask for the identity; the result waits for it."""
        return self.identity

    def is_compared(self, identity: FileIdentity) -> bool:
        """Whether each read is compared with this identity, which it need not be afterwards."""
        del identity
        return False


def is_compared(path: str, identity: FileIdentity) -> bool:
    """Whether what is read of a file is that of this identity, or an error."""
    return isinstance(path, ObjectPath) and path.is_compared(identity)


def identity_of(path: str, fd: int | None = None) -> FileIdentity:
    """Returns the identity of a regular file, or of the open file if its descriptor is given.

    Raises:
        VideoFileNotFoundError: The file does not exist.
        NotHDF5Error: It is a directory, a pipe (which could block forever when opened) or a device.
        UnavailableError: `os.stat` failed, or the store does not answer.
    """
    if isinstance(path, ObjectPath):
        return path.identity()
    try:
        found = os.stat(path if fd is None else fd)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character
        raise VideoFileNotFoundError(f"No such file. Received: path={path!r}") from None
    except OSError as error:
        raise unavailable(f"cannot access {path}", error) from error
    if stat.S_ISDIR(found.st_mode):
        pattern = os.path.join(glob.escape(path), "*.h5")
        raise NotHDF5Error(f"{path} is a directory. List its files, or use a glob: {pattern!r}")
    if not stat.S_ISREG(found.st_mode):
        raise NotHDF5Error(f"{path} is not a regular file, but a pipe, a socket or a device.")
    return FileIdentity.of(found)


def check_identity(path: str, expected: FileIdentity, fd: int | None = None) -> None:
    """Raises an error if a file, or the open file of a descriptor, has another identity.

    Raises:
        FileChangedError: The file was changed or replaced.
        VideoFileNotFoundError: It no longer exists.
        UnavailableError: `os.stat` failed, or the store does not answer.
    """
    try:
        if isinstance(path, ObjectPath):
            found = path.identity()
        else:
            found = FileIdentity.of(os.stat(path if fd is None else fd))
    except (FileNotFoundError, NotADirectoryError):
        raise no_longer_exists(path) from None
    except OSError as error:
        raise unavailable(f"cannot access {path}", error) from error
    require_identity(path, expected, found)


def require_identity(path: str, expected: FileIdentity, found: FileIdentity) -> None:
    """Raises a FileChangedError if a file is not the one whose layout was read."""
    if found != expected:
        raise FileChangedError(
            f"{path} was changed or replaced after opening: {expected.changes(found)}. "
            "Recreate the dataset."
        )


def check_files(files: Iterable[tuple[str, FileIdentity]]) -> None:
    """Calls `check_identity` for each file; stores are asked for all of theirs at once."""
    asked: list[tuple[str, FileIdentity, Callable[[], FileIdentity] | None]] = []
    for path, identity in dict.fromkeys(files):
        answer = path.ask_identity() if isinstance(path, ObjectPath) else None
        asked.append((path, identity, answer))
    for path, identity, answer in asked:
        if answer is None:
            check_identity(path, identity)
            continue
        try:
            found = answer()
        except VideoFileNotFoundError:
            raise no_longer_exists(path) from None
        require_identity(path, identity, found)


def no_longer_exists(path: str) -> VideoFileNotFoundError:
    """Returns the error for a file that disappeared after its layout was read."""
    return VideoFileNotFoundError(
        f"{path} no longer exists (deleted or moved after opening). Recreate the dataset."
    )


def absolute_path(path: str) -> str:
    """Returns the absolute form of a path, or raises an UnavailableError."""
    if isinstance(path, ObjectPath):
        return path
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise unavailable(f"cannot find the working directory of {path}", error) from error
