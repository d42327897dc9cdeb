"""Where the bytes of a file come from. Nothing above knows descriptors, or that there is a disk.

A new kind of place is another `ByteSource`, and a line in `_open_source`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.descriptors import keep_open, open_descriptor, with_free_descriptors
from h5video_data.storage.file_identity import (
    FileIdentity,
    check_files,
    check_identity,
    identity_of,
    require_identity,
)
from h5video_data.storage.remote.paths import RemotePath
from h5video_data.storage.scratch import scratch
from h5video_data.storage.system import HAS_POSITIONED_READS, fetch_soon, num_processors, read_at

from .cached_source import CachedObject
from .io_submit import ReadQueue, open_queue
from .range_errors import RangeError as RangeError
from .range_errors import cut_short
from .remote_source import RemoteObject

MAX_OPEN_FILES = 256

# A thread that reads less than this is waiting for a disk: the page cache gives several times more.
SLOW_BYTES_PER_SECOND = 1.5e9
# Few bytes say nothing: they take as long as the system call.
JUDGED_BYTES = 1 << 20
# What one more read costs, in bytes that could be read meanwhile from the page cache: it takes some
# 1.3 us, however short it is.
BYTES_PER_READ = 8 << 10

# Threads that wait for answers need no processor. Not more: `default_read_ahead_bytes` counts them.
LEAST_REMOTE_THREADS = 8

# Stored bytes that a thread reads before it decodes them: a call takes 70 us, mostly of Python, as
# long as to decode a chunk of 64 KiB.
BYTES_AT_ONCE = 1 << 23

Ranges = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def is_slow(num_bytes: int, num_reads: int, seconds: float) -> bool:
    """Tells by the speed of reads whether they waited for a disk."""
    return num_bytes + num_reads * BYTES_PER_READ < SLOW_BYTES_PER_SECOND * seconds


class ByteSource(Protocol):
    """The bytes of one file. Called by several threads at once."""

    def identity(self) -> FileIdentity:
        """Tells this file from others, and from itself before a change."""
        ...

    def announce(self, offsets: Ranges, sizes: Ranges) -> None:
        """Says which ranges will be read soon; a source may begin to fetch them, or do nothing.

        Args:
            offsets: int64 (n,), first byte of each range in the file.
            sizes: int64 (n,), bytes of each range.
        """
        ...

    def read_ranges(
        self, offsets: Ranges, sizes: Ranges, starts: Ranges, target: NDArray[np.uint8]
    ) -> None:
        """Reads ranges of the file into places of an array.

        Args:
            offsets: int64 (n,), first byte of each range in the file.
            sizes: int64 (n,), bytes of each range.
            starts: int64 (n,), first byte of each in `target`. Nothing else of it is written.
            target: uint8 (m,), contiguous.

        Raises:
            RangeError: A range cannot be read; others may have been.
        """
        ...


def runs_of_bytes(sizes: Ranges) -> Iterator[slice]:
    """Cuts items of these sizes into runs of about `BYTES_AT_ONCE`, at least one item each."""
    if not len(sizes):
        return
    number = (np.cumsum(sizes) - sizes) // BYTES_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    for begin, stop in itertools.pairwise(edges):
        yield slice(begin, stop)


class StoredRun(NamedTuple):
    """Ranges of a file that were read together."""

    numbers: NDArray[np.intp]
    """(n,), which ranges, among those that there are."""
    data: Bytes
    """Their bytes, uint8 (m,), until the next run is asked for, or the thread asks for others."""
    starts: Ranges
    """int64 (n,), where each begins in `data`."""
    stops: Ranges
    """int64 (n,), where it ends (exclusive)."""


def read_in_runs(
    source: ByteSource, offsets: Ranges, sizes: Ranges, chosen: NDArray[np.intp]
) -> Iterator[StoredRun]:
    """Reads ranges of the file, about `BYTES_AT_ONCE` at a time.

    Args:
        source: The file.
        offsets: int64 (n,), first byte of each range in the file.
        sizes: int64 (n,), bytes of each range.
        chosen: Integers (m,), the ranges to read.

    Raises:
        RangeError: A range cannot be read.
    """
    for some in runs_of_bytes(sizes[chosen]):
        numbers = chosen[some]
        stops = np.cumsum(sizes[numbers])
        starts = stops - sizes[numbers]
        try:
            data = scratch("stored", int(stops[-1]))
            source.read_ranges(offsets[numbers], sizes[numbers], starts, data)
        except RangeError as error:
            raise RangeError(int(numbers[error.number])) from error.__cause__
        except MemoryError as error:
            raise RangeError(int(numbers[0])) from error
        yield StoredRun(numbers, data, starts, stops)


def each_range(runs: Iterable[StoredRun]) -> Iterator[tuple[int, Bytes]]:
    """Yields the number and the bytes of each range of these runs."""
    for run in runs:
        for number, start, stop in zip(
            run.numbers.tolist(), run.starts.tolist(), run.stops.tolist(), strict=True
        ):
            yield number, run.data[start:stop]


def check_source(source: ByteSource, path: str, expected: FileIdentity) -> None:
    """Raises a FileChangedError if a file is not the one whose layout was read."""
    require_identity(path, expected, source.identity())


class ByteSources:
    """Keeps byte sources open, the least recently used ones up to `MAX_OPEN_FILES`."""

    def __init__(self) -> None:
        self._open = keep_open(functools.partial(_open_source, ThreadQueues()), MAX_OPEN_FILES)

    def open(self, path: str, identity: FileIdentity) -> ByteSource:
        """Opens a file, or gives the source that is open.

        Raises:
            VideoFileNotFoundError: It does not exist any more.
            FileChangedError: It is not the one of that identity.
            UnavailableError: The operating system refuses.
        """
        source: ByteSource = self._open(path, identity)
        return source

    def check(self, files: Iterable[tuple[str, FileIdentity]]) -> None:
        """Raises a FileChangedError if a path leads to another file than the one it was."""
        check_files(files)

    def close(self) -> None:
        """Closes all of them; those in use close afterwards."""
        self._open.cache_clear()


def _open_source(queues: ThreadQueues, path: str, identity: FileIdentity) -> ByteSource:
    if isinstance(path, RemotePath):
        cache = path.store.copies.cache
        key = None if cache is None else cache.key_of(path, identity)
        if cache is None or key is None:
            return RemoteObject(path, identity)
        return CachedObject(path, identity, cache, key)
    return (LocalFile if HAS_POSITIONED_READS else SeekingFile)(queues, path, identity)


def default_num_threads(paths: Sequence[str]) -> int:
    """Returns how many threads read and decode, unless the user says it."""
    is_remote = any(isinstance(path, RemotePath) for path in paths)
    return max(num_processors(), LEAST_REMOTE_THREADS if is_remote else 1)


class ThreadQueues:
    """For each thread that reads, a queue for many reads at once."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @property
    def queue(self) -> ReadQueue | None:
        """The calling thread's own queue; None: the system has none."""
        try:
            queue: ReadQueue | None = self._of_thread.queue
        except AttributeError:
            queue = self._of_thread.queue = open_queue()
        return queue


class LocalFile:
    """A file that the operating system reads. See `ByteSource`.

    Its descriptor is closed when nobody holds the object.

    Attributes:
        is_slow: Whether the last reads came from the disk, to judge by their speed.
    """

    _fd = -1

    def __init__(self, queues: ThreadQueues, path: str, identity: FileIdentity) -> None:
        self.is_slow = False
        self._path = path
        self._queues = queues
        # Since the last judgement.
        self._seconds, self._num_bytes_read, self._num_reads = 0.0, 0, 0
        self._identity = identity
        self._fd = self._open()

    def _open(self) -> int:
        # If a pipe has taken the file's place, opening it would wait for somebody to write to it.
        check_identity(self._path, self._identity)
        fd = with_free_descriptors(open_descriptor)(self._path)
        try:
            check_identity(self._path, self._identity, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def identity(self) -> FileIdentity:
        """The identity of what is open. See `ByteSource.identity`."""
        return identity_of(self._path, self._fd)

    def announce(self, offsets: Ranges, sizes: Ranges) -> None:
        """Tells the kernel, if the file comes from a disk. See `ByteSource.announce`.

        A disk then has many requests at hand instead of one a thread. If the file is in the page
        cache, this would only cost time.
        """
        if self.is_slow:
            with contextlib.suppress(OSError):  # reading the ranges tells what is wrong
                for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
                    fetch_soon(self._fd, offset, size)

    def read_ranges(
        self, offsets: Ranges, sizes: Ranges, starts: Ranges, target: NDArray[np.uint8]
    ) -> None:
        """Reads them by one system call where that can be. See `ByteSource.read_ranges`."""
        begin = time.perf_counter()
        queue = self._queues.queue if len(offsets) > 1 else None
        done = np.zeros(len(offsets), np.int64)
        if queue is not None:
            done = queue.read(self._fd, offsets, sizes, target.ctypes.data + starts)
        for number in np.flatnonzero(done < sizes).tolist():
            offset, size, got = int(offsets[number]), int(sizes[number]), int(done[number])
            start = int(starts[number])
            try:
                got += self._read(target[start + got : start + size].data, offset + got)
                if got < size:
                    raise cut_short(offset, size - got, self._identity.num_bytes)
            except (OSError, EOFError, MemoryError) as error:
                raise RangeError(number, got) from error
        self._judge(time.perf_counter() - begin, int(sizes.sum()), len(sizes))

    def _read(self, target: memoryview, offset: int) -> int:
        """Fills `target` with the bytes from `offset` on; returns how many the file has."""
        return read_at(self._fd, target, offset)

    def _judge(self, seconds: float, num_bytes: int, num_reads: int) -> None:
        """Judges by the speed of the reads whether the file comes from a disk."""
        # Threads may overwrite each other's sums: a judgement of some reads is good enough.
        self._seconds += seconds
        self._num_bytes_read += num_bytes
        self._num_reads += num_reads
        if self._num_bytes_read >= JUDGED_BYTES:
            self.is_slow = is_slow(self._num_bytes_read, self._num_reads, self._seconds)
            self._seconds, self._num_bytes_read, self._num_reads = 0.0, 0, 0


class SeekingFile(LocalFile):
    """A file of a system without positioned reads: each reading thread has its own descriptor.

    There are as many descriptors as threads have read at once.
    """

    def __init__(self, queues: ThreadQueues, path: str, identity: FileIdentity) -> None:
        # Those that no thread is reading by. A list: `pop` and `append` are one step each.
        self._idle: list[int] = []
        super().__init__(queues, path, identity)
        self._idle.append(self._fd)

    def __del__(self) -> None:
        for fd in self._idle:
            os.close(fd)

    def _read(self, target: memoryview, offset: int) -> int:
        try:
            fd = self._idle.pop()
        except IndexError:
            fd = self._open()
        try:
            return read_at(fd, target, offset)
        finally:
            self._idle.append(fd)
