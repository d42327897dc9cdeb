"""Blocks of remote files on the local disk, within a limit, shared by all processes.

Each block is a file of its own, which is written beside its place and then moved there: a process
that is killed leaves nothing that looks like a block, and two that write the same one do not mind
each other. A checksum finds what a disk that lost its power has made of it. The limit is held by
each process: it counts what it writes, and looks at the whole folder now and then. What goes first
are the blocks that nobody has used since this process began; if there are none, new ones are not
kept: of an epoch in random order that is larger than the cache, the same part is always found.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import struct
import threading
import time
import uuid
import zlib

from h5video_data.errors import ArgumentError
from h5video_data.storage.file_identity import FileIdentity, ObjectIdentity
from h5video_data.storage.os_errors import unavailable
from h5video_data.storage.system import read_at

_log = logging.getLogger(__name__)

# A request of 50 ms takes 2 ms longer for so many bytes, at 100 MB/s.
BLOCK_BYTES = 256 << 10
_CHECKSUM = struct.Struct("<I")
# Of the disk, if no limit is given: what is free, and what the cache has of it already.
DEFAULT_FRACTION = 0.8
# The folder is looked at again when this part of the limit was written.
_LOOKED_AT = 0.02
# What is removed at once, beyond the limit.
_REMOVED = 0.05
_OLD_PARTIAL_SECONDS = 3600.0


class DiskCache:
    """A folder of blocks. Called by several threads at once, of several processes.

    Args:
        folder: The folder, which is made.
        max_bytes: The limit; None: `DEFAULT_FRACTION` of what is free.

    Raises:
        ArgumentError: It is no folder.
        UnavailableError: The folder cannot be made or read.

    Attributes:
        folder: As given, absolute.
        max_bytes: The limit.
        is_full: Whether no more blocks are kept.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int | None = None) -> None:
        self.folder = os.path.abspath(os.path.expanduser(os.fspath(folder)))
        self._began = time.time()
        self._checked: set[str] = set()
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._is_broken = False
        try:
            os.makedirs(self.folder, exist_ok=True)
            self._num_bytes = sum(size for _, _, size in self._list())
            free = shutil.disk_usage(self.folder).free
        except FileExistsError:
            raise ArgumentError(
                f"`cache_dir` must be a folder. Received: cache_dir={self.folder!r}"
            ) from None
        except OSError as error:
            raise unavailable(f"cannot use the folder {self.folder}", error) from error
        if max_bytes is None:
            max_bytes = int(DEFAULT_FRACTION * (free + self._num_bytes))
        self.max_bytes = max_bytes
        self._written = 0
        self.is_full = False
        if self._num_bytes > self.max_bytes:
            self._look()

    def __repr__(self) -> str:
        return f"DiskCache({self.folder!r}, {self.max_bytes})"

    def key_of(self, url: str, identity: FileIdentity) -> str | None:
        """Returns what stands for an object in one version; None: nothing tells its versions."""
        if not isinstance(identity, ObjectIdentity):
            return None
        if not (identity.version or identity.modified):
            return None
        parts = (url.partition("#")[0], *identity.__dict__.values(), BLOCK_BYTES)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]

    def has(self, key: str, number: int) -> bool:
        """Whether there seems to be a block."""
        path = self._path(key, number)
        return path in self._checked or os.path.exists(path)

    def read_into(self, target: memoryview, key: str, number: int, start: int, size: int) -> bool:
        """Fills `target` with bytes of a block; returns whether there is such a block.

        Args:
            target: Bytes; what is in it is undefined if there is none.
            key: The object.
            number: Number of the block.
            start: First byte, in the block.
            size: Bytes of the whole block.
        """
        path = self._path(key, number)
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError:
            if path in self._checked:  # somebody emptied the folder
                self._checked.clear()
            return False
        try:
            if path not in self._checked and not self._is_sound(fd, size):
                self._remove(path)
                return False
            if read_at(fd, target, start) < len(target):
                self._remove(path)
                return False
        except OSError:
            return False
        finally:
            os.close(fd)
        if path not in self._checked:
            with contextlib.suppress(OSError):
                os.utime(path)  # it is in use
            self._checked.add(path)
        return True

    def _is_sound(self, fd: int, size: int) -> bool:
        content = bytearray(size + _CHECKSUM.size + 1)
        count = read_at(fd, memoryview(content), 0)
        block = memoryview(content)[:size]
        return content[size:count] == _CHECKSUM.pack(zlib.crc32(block))

    def read(self, key: str, number: int, start: int, stop: int, size: int) -> bytes | None:
        """Returns bytes of a block, up to `stop`, as `read_into`; None: there is no such block."""
        found = bytearray(stop - start)
        is_there = self.read_into(memoryview(found), key, number, start, size)
        return bytes(found) if is_there else None

    def write(self, key: str, number: int, block: bytes) -> None:
        """Keeps a block, if there is room for it; a disk that is full is no error."""
        path = self._path(key, number)
        if self._pid != os.getpid():  # a thread that a fork has left behind may hold it
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            is_there = self._is_broken or os.path.exists(path)
            if is_there or not self._has_room(len(block) + _CHECKSUM.size):
                return
            partial = os.path.join(self.folder, f"{uuid.uuid4().hex}.partial")
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(partial, "wb") as file:
                    file.write(block + _CHECKSUM.pack(zlib.crc32(block)))
                os.replace(partial, path)
            except OSError as error:
                self._remove(partial)
                _log.warning("The cache %s cannot be written: %s", self.folder, error.strerror)
                self._is_broken = self.is_full = True
                return
            self._checked.add(path)

    def read_range(self, key: str, start: int, stop: int, num_bytes: int) -> bytes | None:
        """Returns bytes of an object of `num_bytes`; None: not all of them are there."""
        found = []
        for number in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
            first = number * BLOCK_BYTES
            begin, end = max(start, first) - first, min(stop - first, BLOCK_BYTES)
            part = self.read(key, number, begin, end, min(BLOCK_BYTES, num_bytes - first))
            if part is None:
                return None
            found.append(part)
        return b"".join(found)

    def write_range(self, key: str, start: int, content: bytes, num_bytes: int) -> None:
        """Keeps the blocks that a range of an object has whole."""
        stop = start + len(content)
        for number in range(-(-start // BLOCK_BYTES), -(-stop // BLOCK_BYTES)):
            first, last = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, num_bytes)
            if last <= stop:
                self.write(key, number, content[first - start : last - start])

    def _has_room(self, size: int) -> bool:
        """Counts a block that is about to be written; whether it is within the limit."""
        is_beyond = self._num_bytes + size > self.max_bytes
        if self._written >= _LOOKED_AT * self.max_bytes or (is_beyond and not self.is_full):
            self._look()
        self.is_full = self._num_bytes + size > self.max_bytes
        if self.is_full:
            return False
        self._num_bytes += size
        self._written += size
        return True

    def _look(self) -> None:
        """Counts all blocks, those of other processes too, and removes old ones."""
        self._written = 0
        blocks = sorted(self._list())
        self._num_bytes = sum(size for _, _, size in blocks)
        if self._num_bytes <= (1 - _LOOKED_AT) * self.max_bytes:
            return
        for used, path, size in blocks:
            if self._num_bytes <= (1 - _REMOVED) * self.max_bytes or used >= self._began:
                break
            self._remove(path)
            self._num_bytes -= size

    def _list(self) -> list[tuple[float, str, int]]:
        """Lists the blocks: when each was used, its path and its size."""
        found = []
        for folder in os.scandir(self.folder):
            if folder.is_dir() and len(folder.name) == 2:
                for item in os.scandir(folder.path):
                    with contextlib.suppress(FileNotFoundError):
                        stat = item.stat()
                        found.append((stat.st_mtime, item.path, stat.st_size))
            elif folder.name.endswith(".partial"):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - folder.stat().st_mtime > _OLD_PARTIAL_SECONDS:
                        self._remove(folder.path)  # of a process that was killed
        return found

    def _remove(self, path: str) -> None:
        self._checked.discard(path)
        with contextlib.suppress(OSError):
            os.unlink(path)

    def _path(self, key: str, number: int) -> str:
        return f"{self.folder}/{number & 255:02x}/{key}-{number}"
