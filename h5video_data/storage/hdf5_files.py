"""Opens HDF5 files for reading, and turns what h5py raises into errors of this package.

Easy to miss: another process may replace or write a file while it is read; and opening one that
this process has open for writing returns that one, with unwritten changes.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import h5py

from h5video_data.errors import (
    FileInUseError,
    H5VideoError,
    NotHDF5Error,
    ReadError,
    VideoFileNotFoundError,
)

from .descriptors import with_free_descriptors
from .file_handles import Descriptor, FileHandle
from .file_identity import FileIdentity, check_identity, identity_of, is_compared, require_identity
from .os_errors import RequestError, error_number, unavailable
from .remote.files import RemoteFile, remote_file_of
from .remote.paths import RemotePath
from .system import at_fork

if h5py.version.version_tuple < (3, 14):
    # If another thread is reading during a fork, the child inherits a lock that nobody releases.
    # From 3.14 on, h5py takes care of this itself (h5py/h5py#2584).
    from h5py._objects import phil

    at_fork(before=phil.acquire, after_in_parent=phil.release, after_in_child=phil.release)

# All that h5py raises on a damaged file: HDF5's errors, and those of Python code in h5py that meets
# values it does not expect.
HDF5_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError),
)

_Value = TypeVar("_Value")

# What datasets have in common is remembered for so many of them.
_VALUES_SHARED = 1000

# The superblock begins with a signature of 8 bytes and takes 48 to 100 (HDF5 File Format
# Specification, II.A).
MIN_SUPERBLOCK_NBYTES = 48
# Length of a file that contains no more than that, or a part of it.
_SUPERBLOCK_ONLY_NBYTES = range(8, 129)


@contextlib.contextmanager
def open_file(path: str, expected: FileIdentity | None = None, **options: Any) -> Iterator[Any]:
    """Opens an HDF5 file for reading, as a context that closes it.

    Args:
        path: The file's path.
        expected: The identity that the file must have; None: any.
        **options: Passed on to `h5py.File`.

    Yields:
        The `h5py.File`.

    Raises:
        VideoFileNotFoundError: The file does not exist.
        NotHDF5Error: It is not an HDF5 file, or a truncated one.
        FileInUseError: It is open for writing elsewhere.
        FileChangedError: It does not have the expected identity, or changed while it was open.
        UnavailableError: The machine cannot open it: permissions, descriptors, memory.
        ReadError: HDF5 cannot open it.
    """
    with connect(path, **options) as file:
        if not options:  # those are for reading values, in any order
            _keep_little(file)
        identity = file_identity(file)
        require_identity(path, expected or identity, identity)
        try:
            yield file
        except HDF5_ERRORS:
            check_identity(path, identity)
            raise
        # What was read so far may come from before a change and after it.
        if not is_compared(path, identity):
            check_identity(path, identity)


def _keep_little(file: Any) -> None:
    """Has HDF5 keep 2 MiB of metadata, where it would take 200 MB for a file of many datasets.

    Each is looked at once, and its group's list of links, even if that is larger, is kept all the
    same. Faster by a tenth, too, for 40,000 datasets: what is kept is what the processor has.
    """
    config = file.id.get_mdc_config()
    config.incr_mode = 0  # H5C_incr__off
    file.id.set_mdc_config(config)


@with_free_descriptors
def connect(path: str, **options: Any) -> Any:
    """Opens an HDF5 file as `open_file` does, and returns the `h5py.File`, which the caller closes.

    Changes of the file while it is open are not noticed.
    """
    before = path.identity_once() if isinstance(path, RemotePath) else identity_of(path)
    remote = None
    if isinstance(path, RemotePath):
        path.take_start(before)
        remote = RemoteFile(path, before)
    try:
        if remote is not None:
            return h5py.File(remote, "r", **options)
        # The driver whose handle is a descriptor, whatever HDF5_DRIVER says.
        file = h5py.File(path, "r", driver="sec2", **options)
    except (VideoFileNotFoundError, RequestError) as error:
        check_identity(path, before)
        raise unavailable(f"cannot read {path}", error) from None
    except FileNotFoundError:
        raise VideoFileNotFoundError(f"No such file. Received: path={path!r}") from None
    except PermissionError as error:
        raise unavailable(f"cannot read {path}", error) from error
    except OSError as error:
        raise _open_error(path, before.num_bytes, error) from error
    try:
        # HDF5 reads the beginning of a file when it opens it.
        handle_of(file).check(before)
        if file.mode != "r":
            # This process has it open for writing as well. Without this, changes that are still in
            # memory would reach the file when this one is closed.
            file.flush()
    except BaseException:
        file.close()
        raise
    return file


def handle_of(file: Any) -> FileHandle:
    """Returns what reads the bytes of an open `h5py.File`, whatever is at its path by now.

    Raises:
        FileFormatError: A link in a remote file led to it.
    """
    remote = remote_file_of(file)
    if remote is not None:
        return remote
    return Descriptor(os.path.abspath(file.filename), file.id.get_vfd_handle())


def path_of(file: Any) -> str:
    """Returns the absolute path of an open `h5py.File`, or its URL. Raises as `handle_of`."""
    remote = remote_file_of(file)
    return os.path.abspath(file.filename) if remote is None else remote.path


def file_identity(file: Any) -> FileIdentity:
    """Returns the identity of an open `h5py.File`, whatever is at its path by now.

    That of a remote file is from when it was opened. Raises as `handle_of`.
    """
    return handle_of(file).identity()


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """An open file, with what HDF5 takes a while to tell: it may have many datasets."""

    file: Any
    """The `h5py.File`."""
    path: str
    """Its `path_of`."""
    identity: FileIdentity
    """Its `file_identity` when this was made."""
    types: list[tuple[Any, Any]] = field(default_factory=list)
    """`h5py.h5t.TypeID` of its datasets, and what was found out about each: most are the same."""
    _shared: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Any) -> OpenedFile:
        """Looks at an open `h5py.File`."""
        return cls(file, path_of(file), file_identity(file))

    @functools.cached_property
    def handle(self) -> FileHandle:
        """What reads its bytes: its `handle_of`."""
        return handle_of(self.file)

    def shared(self, value: _Value) -> _Value:
        """Returns an equal value, the same for all datasets: many are alike."""
        if len(self._shared) >= _VALUES_SHARED:
            self._shared.clear()
        same: _Value = self._shared.setdefault(value, value)
        return same

    @functools.cached_property
    def userblock_nbytes(self) -> int:
        """Bytes before what HDF5 reads, which are not its own."""
        return int(self.file.userblock_size)

    @functools.cached_property
    def _name(self) -> bytes:
        return bytes(h5py.h5f.get_name(self.file.id))

    def holds(self, dataset: Any) -> bool:
        """Whether a dataset is in it: a link may have led to another file."""
        if getattr(dataset, "is_own", False):  # a `hdf5_names.FoundDataset`
            return True
        # The name that a file was opened by is told faster than which one it is.
        return h5py.h5f.get_name(dataset.id) == self._name or bool(
            h5py.h5i.get_file_id(dataset.id) == self.file.id
        )


def _open_error(path: str, num_bytes: int, error: OSError) -> H5VideoError:
    message = str(error)
    if "unable to lock" in message or "already open for" in message:
        return FileInUseError(
            f"{path} is open for writing elsewhere. Close it there first. If the program that "
            "wrote it crashed, run `h5clear -s` on it; on a file system without locks, set "
            f"HDF5_USE_FILE_LOCKING=FALSE. HDF5 error: {message}"
        )
    if error_number(error):
        return unavailable(f"cannot open {path}", error)
    is_cut = num_bytes in _SUPERBLOCK_ONLY_NBYTES and "signature not" not in message
    if is_cut or "truncated file" in message:
        return NotHDF5Error(
            f"{path} is truncated ({num_bytes} bytes): it was not written or copied completely. "
            f"HDF5 error: {message}"
        )
    if "file signature not found" in message:
        return NotHDF5Error(f"{path} ({num_bytes} bytes) is not an HDF5 file.")
    return ReadError(f"cannot open {path}. HDF5 error: {message}")
