"""Reads samples of one dataset of one file into their places in a batch.

A source is what a reader's thread calls. Three kinds: `DirectSource` here (positioned reads and
decoding, outside the interpreter's lock), `MemorySource` here (labels and the like, read once), and
`fallback.Hdf5Source` (everything else).
"""

from __future__ import annotations

import functools
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError
from h5video_data.planning.byte_ranges import ReadPlan, RowPlanner
from h5video_data.storage.descriptors import keep_open, open_descriptor, with_free_descriptors
from h5video_data.storage.file_identity import FileIdentity, check_identity
from h5video_data.storage.filters import RAW_PREFIX, are_raw, decode_chunk, may_be_raw
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.os_errors import read_failure
from h5video_data.storage.scratch import scratch

from .io_submit import ReadQueue, open_queue

MAX_OPEN_FILES = 256

# A thread that reads less than this is waiting for a disk: the page cache gives several times more.
SLOW_BYTES_PER_SECOND = 1.5e9
# Few bytes say nothing: they take as long as the system call.
JUDGED_BYTES = 1 << 20
# What one more read costs, in bytes that could be read meanwhile from the page cache: it takes some
# 1.3 us, however short it is.
BYTES_PER_READ = 8 << 10

Rows = NDArray[np.int64]


@dataclass
class ReadStats:
    """What reading cost so far; seconds are summed over the threads."""

    read_seconds: float = 0.0
    """Waiting for the operating system, or for HDF5 if that does it all."""
    decode_seconds: float = 0.0
    """Undoing filters."""
    read_bytes: int = 0
    """Stored bytes that were read."""
    num_reads: int = 0
    """Ranges of files, or runs of samples by HDF5, that they were read in."""
    num_chunks: int = 0
    """Chunks that were read and decoded."""

    def add(self, other: ReadStats) -> None:
        """Adds what another one counted."""
        self.read_seconds += other.read_seconds
        self.decode_seconds += other.decode_seconds
        self.read_bytes += other.read_bytes
        self.num_reads += other.num_reads
        self.num_chunks += other.num_chunks

    @property
    def is_slow(self) -> bool:
        """Whether reading waited for a disk, to judge by its speed."""
        effort = self.read_bytes + self.num_reads * BYTES_PER_READ
        return effort < SLOW_BYTES_PER_SECOND * self.read_seconds


class Source(Protocol):
    """Reads samples of one dataset of one file. Called by several threads at once."""

    def read(
        self, rows: Rows, places: Rows, firsts: Rows | None, out: NDArray[Any], stats: ReadStats
    ) -> None:
        """Reads samples, or a clip of each.

        Args:
            rows: int64 (n,), positions along the dataset's first axis, n >= 1, in any order,
                repeats allowed.
            places: int64 (n,), the row of `out` that each fills, ascending, without repeats.
            firsts: int64 (n,), the first frame of each clip, for a source that reads clips.
            out: (m, ...), m >= n, C-contiguous, of the dataset's dtype in memory.
            stats: Counts what it cost; belongs to the calling thread.

        Raises:
            ReadError: A sample cannot be read or decoded.
        """
        ...


def read_error(stored: StoredArray, row: int, error: BaseException) -> H5VideoError:
    """The error of one sample, which says where it is, and whether the machine is at fault."""
    return read_failure(f"{stored.path}: dataset {stored.name!r}, sample {row}", error)


class MemorySource:
    """Gives samples of an array in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def read(
        self, rows: Rows, places: Rows, firsts: Rows | None, out: NDArray[Any], stats: ReadStats
    ) -> None:
        """Copies rows."""
        del firsts, stats
        out[places] = self._values[rows]


class OpenFile:
    """A file descriptor for positioned reads, closed when nobody holds the object.

    Attributes:
        fd: The descriptor.
        is_slow: Whether the last reads came from the disk, to judge by their speed.
    """

    fd = -1

    def __init__(self, path: str, identity: FileIdentity) -> None:
        self.is_slow = False
        self._num_bytes = identity.num_bytes
        # If a pipe has taken the file's place, opening it would wait for somebody to write to it.
        check_identity(path, identity)
        self.fd = with_free_descriptors(functools.partial(open_descriptor, path))
        check_identity(path, identity, self.fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def announce(self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Tells the kernel which ranges come next, if that pays.

        A disk then has many requests at hand instead of one a thread. If the file is in the page
        cache, this would only cost time.
        """
        if self.is_slow:
            for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
                if offset >= 0:
                    os.posix_fadvise(self.fd, offset, size, os.POSIX_FADV_WILLNEED)

    def judge(self, stats: ReadStats) -> None:
        """Takes note of how long a thread's reads took."""
        if stats.read_bytes >= JUDGED_BYTES:
            self.is_slow = stats.is_slow

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fills `target` with the bytes from `offset` on; returns how many the file has."""
        done = os.preadv(self.fd, [target], offset)
        while done < len(target):
            # A read may be cut short: by a signal, or at 2 GiB, the most that Linux reads at once.
            count = os.preadv(self.fd, [target[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def read(self, size: int, offset: int) -> NDArray[np.uint8]:
        """`size` bytes from `offset` on, uint8; valid until the thread calls this again."""
        data = scratch("stored", size)
        done = self.read_into(data.data, offset)
        if done < size:
            raise self.cut_short(offset, size - done)
        return data

    def cut_short(self, offset: int, missing: int) -> EOFError:
        """The error of a range from `offset` on that has fewer bytes than it should have."""
        if offset >= self._num_bytes:  # see `chunk_table.read_chunk_table`
            return EOFError("where it lies in the file, or its stored size, is damaged")
        return EOFError(f"the file ends {missing} bytes too early")


class OpenFiles:
    """Keeps files open, the least recently used ones up to `MAX_OPEN_FILES`."""

    def __init__(self) -> None:
        self.open = keep_open(OpenFile, MAX_OPEN_FILES)
        self._of_thread = threading.local()

    @property
    def queue(self) -> ReadQueue | None:
        """The calling thread's own queue for many reads at once, or None."""
        try:
            queue: ReadQueue | None = self._of_thread.queue
        except AttributeError:
            queue = self._of_thread.queue = open_queue()
        return queue

    def read_ranges(
        self,
        file: OpenFile,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        starts: NDArray[np.int64],
        target: NDArray[np.uint8],
    ) -> None:
        """Reads ranges of a file, by one system call where that can be.

        Args:
            file: The file.
            offsets: int64 (n,), first byte of each range in the file.
            sizes: int64 (n,), bytes of each range.
            starts: int64 (n,), where each goes in `target`.
            target: uint8, the bytes to fill.

        Raises:
            EOFError: The file ends before the end of a range.
        """
        queue = self.queue
        done = np.zeros(len(offsets), np.int64)
        if queue is not None:
            done = queue.read(file.fd, offsets, sizes, target.ctypes.data + starts)
        for number in np.flatnonzero(done < sizes).tolist():
            begin, size, got = int(starts[number]), int(sizes[number]), int(done[number])
            rest = target[begin + got : begin + size]
            got += file.read_into(rest.data, int(offsets[number]) + got)
            if got < size:
                raise file.cut_short(int(offsets[number]), size - got)

    def close(self) -> None:
        """Lets go of all of them."""
        self.open.cache_clear()


def _turn_bytes(out: NDArray[Any], places: Rows, file_dtype: np.dtype[Any]) -> None:
    """Brings values of these rows, which have a file's byte order, into the machine's."""
    begin, end = int(places[0]), int(places[-1]) + 1
    if end - begin > len(places):
        out[places] = out[places].view(file_dtype)
        return
    # An assignment has five times the speed of `byteswap`, and holds no lock; of one dimension, it
    # needs no memory either.
    values = out[begin:end].reshape(-1)
    values[...] = values.view(file_dtype)


class DirectSource:
    """Reads byte ranges straight into their places, or decodes them straight into their places."""

    def __init__(self, planner: RowPlanner, files: OpenFiles) -> None:
        self._planner = planner
        self._stored = planner.stored
        self._files = files

    def read(
        self, rows: Rows, places: Rows, firsts: Rows | None, out: NDArray[Any], stats: ReadStats
    ) -> None:
        """Plans the ranges of the rows, then reads them."""
        stored, cost = self._stored, ReadStats()
        plan = self._planner.plan(rows, places, firsts)
        file = self._files.open(stored.path, stored.identity)
        target = out.reshape(-1).view(np.uint8)
        is_plain = self._is_plain(plan)
        begin = time.perf_counter()
        file.announce(plan.offsets, plan.sizes)
        done = self._read_together(file, plan, is_plain, target)
        cost.read_seconds += time.perf_counter() - begin
        is_filled = (plan.offsets >= 0) & (plan.sizes > 0) & (done >= plan.sizes)
        for number in np.flatnonzero(~is_filled).tolist():
            # As far as it is right; this is where an error is.
            position = int(plan.starts[number] + done[number])
            place = target[position : plan.stops[number]]
            try:
                if plan.offsets[number] < 0:
                    place.view(stored.file_dtype)[...] = stored.fill_value
                elif not is_plain[number]:
                    self._decode(file, plan, number, place, cost)
                else:
                    begin = time.perf_counter()
                    count = file.read_into(place.data, int(plan.offsets[number] + done[number]))
                    cost.read_seconds += time.perf_counter() - begin
                    done[number] += count
                    if count < len(place):
                        position += count
                        raise file.cut_short(int(plan.offsets[number]), len(place) - count)
            except (OSError, EOFError, ValueError, MemoryError) as error:
                check_identity(stored.path, stored.identity, file.fd)
                row = int(rows[np.searchsorted(places, position // self._planner.row_nbytes)])
                raise read_error(stored, row, error) from error
        if not stored.file_dtype.isnative:
            _turn_bytes(out, places, stored.file_dtype)
        cost.read_bytes += int(done.sum())
        cost.num_reads += len(plan)
        file.judge(cost)
        stats.add(cost)
        check_identity(stored.path, stored.identity, file.fd)

    def _is_plain(self, plan: ReadPlan) -> NDArray[np.bool_]:
        """Which ranges are the values themselves: none of the filters was applied."""
        if not self._stored.filters:
            return np.ones(len(plan), np.bool_)
        none_applied = (1 << len(self._stored.filters)) - 1
        is_plain: NDArray[np.bool_] = (
            (plan.masks == none_applied)
            & (plan.sizes == self._planner.chunk_nbytes)
            & (plan.sizes == plan.stops - plan.starts)
        )
        return is_plain

    def _read_together(
        self,
        file: OpenFile,
        plan: ReadPlan,
        is_plain: NDArray[np.bool_],
        target: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """Reads what one system call can read; returns how many bytes of each range it got.

        The chunks that may be raw are read as if they were, and their prefixes aside; of those that
        are not, this got nothing.
        """
        done = np.zeros(len(plan), np.int64)
        queue = self._files.queue
        if queue is None:
            return done
        values_nbytes, chunk_nbytes = plan.stops - plan.starts, self._planner.chunk_nbytes
        is_maybe_raw = may_be_raw(self._stored.filters, plan.masks, plan.sizes, chunk_nbytes)
        is_maybe_raw &= values_nbytes == chunk_nbytes
        wanted = np.flatnonzero((is_plain | is_maybe_raw) & (plan.offsets >= 0))
        if not len(wanted):
            return done
        maybe_raw = np.flatnonzero(is_maybe_raw)
        offsets = plan.offsets + RAW_PREFIX.itemsize * is_maybe_raw
        prefixes = np.empty(len(maybe_raw), RAW_PREFIX)
        counts = queue.read(
            file.fd,
            np.concatenate([offsets[wanted], plan.offsets[maybe_raw]]),
            np.concatenate([values_nbytes[wanted], np.full(len(maybe_raw), RAW_PREFIX.itemsize)]),
            np.concatenate(
                [
                    target.ctypes.data + plan.starts[wanted],
                    prefixes.ctypes.data + RAW_PREFIX.itemsize * np.arange(len(maybe_raw)),
                ]
            ),
        )
        done[wanted], prefix_counts = np.split(counts, [len(wanted)])
        is_raw = (
            are_raw(prefixes, chunk_nbytes)
            & (done[maybe_raw] == chunk_nbytes)
            & (prefix_counts == RAW_PREFIX.itemsize)
        )
        done[maybe_raw] = np.where(is_raw, plan.sizes[maybe_raw], 0)
        return done

    def _decode(
        self,
        file: OpenFile,
        plan: ReadPlan,
        number: int,
        place: NDArray[np.uint8],
        stats: ReadStats,
    ) -> None:
        size, mask = int(plan.sizes[number]), int(plan.masks[number])
        begin = time.perf_counter()
        stored = file.read(size, int(plan.offsets[number]))
        middle = time.perf_counter()
        chunk_nbytes = self._planner.chunk_nbytes
        if len(place) == chunk_nbytes:
            decode_chunk(self._stored.filters, mask, stored, place)
        else:
            whole = scratch("chunk", chunk_nbytes)
            decode_chunk(self._stored.filters, mask, stored, whole)
            skip = 0 if plan.skips is None else int(plan.skips[number])
            clip = self._planner.clip
            frame = self._planner.frame_nbytes
            if clip is None or clip.stride == 1 or len(place) <= frame:
                place[:] = whole[skip : skip + len(place)]
            else:
                wanted = place.reshape(-1, frame)
                frames = whole[skip:].reshape(-1, frame)
                wanted[:] = frames[: len(wanted) * clip.stride : clip.stride]
        stats.decode_seconds += time.perf_counter() - middle
        stats.read_seconds += middle - begin
        stats.read_bytes += size
        stats.num_chunks += 1
