"""Remote files as HDF5 opens them: a Python file object.

Easy to miss: HDF5 opens the files that an external link or a virtual dataset names by the driver of
the file that names them, and this driver would give it the same file again, with other data.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import h5py
from h5py._objects import phil

from h5video_data.errors import FileFormatError, VideoFileNotFoundError
from h5video_data.storage.file_identity import FileIdentity, no_longer_exists, require_identity
from h5video_data.storage.os_errors import ObjectChangedError

from .metadata_blocks import BLOCK_BYTES, NodesAhead
from .paths import RemotePath

# Values that HDF5 reads are requested in parts of this size, at once.
MAX_REQUEST_BYTES = 8 << 20

# HDF5 knows an open file by its name alone, so that each has one of its own.
_numbers = itertools.count()
_opened: weakref.WeakValueDictionary[str, RemoteFile] = weakref.WeakValueDictionary()


@contextlib.contextmanager
def _calling() -> Iterator[None]:
    """Returns a context in which to send requests: with h5py's lock, and no garbage collection.

    HDF5 may be in the middle of a read; what is collected may be one of its files, to be closed.
    """
    with phil:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


class RemoteFile(io.RawIOBase):
    """An object of a store, as a file to read. One thread at a time: it holds h5py's lock.

    See `file_handles.FileHandle`.

    Args:
        path: Its path.
        identity: The identity that it has.
    """

    def __init__(self, path: RemotePath, identity: FileIdentity) -> None:
        super().__init__()
        self.path = path
        self._identity = identity
        self._name = f"{ascii(str(path))[1:-1]} ({next(_numbers)})"
        self._position = 0
        self._lists_chunks = False
        self._is_refused = False  # a read, because the object has changed
        self._nodes = NodesAhead(self._fetch, identity.num_bytes)
        index = path.store.copies.index
        self._pieces = None if index is None else index.pieces_of(path, identity)
        self._owner = path.owner(identity, self._name)
        self._last = (0, b"")  # a block, and where it is
        _opened[self._name] = self

    def __repr__(self) -> str:
        return self._name  # which HDF5 takes for the name of the file

    def _fetch(self, starts: list[int], stops: list[int]) -> list[bytes]:
        try:
            return self._fetch_through_cache(starts, stops)
        except (VideoFileNotFoundError, ObjectChangedError):
            self._is_refused = True
            raise

    def _fetch_through_cache(self, starts: list[int], stops: list[int]) -> list[bytes]:
        cache, size = self.path.store.copies.cache, self._identity.num_bytes
        key = None if cache is None else cache.key_of(self.path, self._identity)
        if cache is None or key is None:
            return self.path.read_here(starts, stops, self._identity)
        ranges = [*zip(starts, stops, strict=True)]
        found = {span: cache.read_range(key, *span, size) for span in ranges}
        missing = [span for span in ranges if found[span] is None]
        if missing:
            begins, ends = ([span[i] for span in missing] for i in (0, 1))
            contents = self.path.read_here(begins, ends, self._identity)
            for span, content in zip(missing, contents, strict=True):
                cache.write_range(key, span[0], content, size)
                found[span] = content
        return [found[span] or b"" for span in ranges]

    def _read(self, start: int, stop: int) -> bytes:
        found = None if self._pieces is None else self._pieces.read(start, stop)
        if found is not None:
            return found
        found = self._nodes.take(start, stop)
        if found is None and stop - start > BLOCK_BYTES:  # values, not metadata
            parts = [*range(start, stop, MAX_REQUEST_BYTES), stop]
            found = b"".join(self._fetch(parts[:-1], parts[1:]))
        if found is None:
            size = self._identity.num_bytes
            found = self.path.store.blocks.read(self._owner, start, stop, size, self._fetch)
            self._last = self.path.store.blocks.last
        if self._lists_chunks:
            self._nodes.look(start, found)
        return found

    @contextlib.contextmanager
    def listing_chunks(self, userblock_nbytes: int) -> Iterator[None]:
        """Returns a context in which the whole chunk index is read. See `FileHandle`."""
        self._lists_chunks, self._nodes.base = True, userblock_nbytes
        try:
            yield
        finally:
            self._lists_chunks = False
            self._nodes.clear()

    def identity(self) -> FileIdentity:
        """Returns the identity from when it was opened. See `FileHandle.identity`."""
        return self._identity

    def check(self, expected: FileIdentity) -> None:
        """Asks the store, unless each read was compared. See `FileHandle.check`."""
        if self.path.is_compared(expected) and not self._is_refused:
            require_identity(self.path, expected, self._identity)
            return
        with _calling():
            try:
                found = self.path.identity_here()
            except VideoFileNotFoundError:
                raise no_longer_exists(self.path) from None
        require_identity(self.path, expected, found)

    def read_at(self, target: memoryview, offset: int) -> int:
        """Reads blocks. See `FileHandle.read_at`."""
        size = self._identity.num_bytes
        stop = min(offset + len(target), size)
        if offset >= stop:
            return 0
        recording = self.path.store.copies.recording
        begin, block = self._last
        is_there = begin <= offset and stop <= begin + len(block)
        if is_there and recording is None and not self._lists_chunks:  # as thousands of times
            target[: stop - offset] = memoryview(block)[offset - begin : stop - begin]
            return stop - offset
        with _calling():
            found = self._read(offset, stop)
            if recording is not None and len(found) <= BLOCK_BYTES:
                recording.add(self.path, self._identity, offset, found)
        target[: len(found)] = found
        return len(found)

    # A file object, as HDF5's driver of h5py asks for it.

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets the position, and returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._identity.num_bytes}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """Returns the position."""
        return self._position

    def readinto(self, target: Any) -> int:
        """Reads from the position on; returns how many bytes there were."""
        count = self.read_at(memoryview(target).cast("B"), self._position)
        self._position += count
        return count


def remote_file_of(file: Any) -> RemoteFile | None:
    """Returns what an open `h5py.File` is read by; None: it is a local file.

    Raises:
        FileFormatError: It was opened by a link in a remote file.
    """
    if not _opened:
        return None
    found = _opened.get(file.filename)
    if found is None and file.driver == "fileobj":
        raise FileFormatError(
            f"A link in a remote file leads to another file, {file.filename!r}, which is not "
            "followed. Name that file in `path`, or copy both to a disk."
        )
    return found


@atexit.register
def _close_all() -> None:
    """Closes what is open: HDF5 would do it when there is no Python left to close file objects."""
    if not _opened:
        return
    for identifier in h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE):
        file = h5py.File(identifier)
        if file.driver == "fileobj" and file.filename in _opened:
            file.close()
