"""Threads that fill batches ahead of the one who takes them."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, ReadError
from h5video_data.planning.byte_ranges import ChunkRows, RowPlanner, planner
from h5video_data.sampling.clips import Clip
from h5video_data.storage.file_identity import check_files
from h5video_data.storage.layout import StoredArray
from h5video_data.video_set import Component, VideoSet, read_values

from .buffers import BufferPool
from .chunk_assembler import ChunkAssembler
from .chunk_decoder import ChunkRowDecoder
from .cut_source import CutSource
from .hdf5_source import Hdf5Files, Hdf5Source
from .sample_sources import DirectSource, MemorySource, OpenFiles, ReadStats, Source
from .threads import Task, Threads

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """What an epoch reads."""

    number: int
    order: Indices
    """The numbers of its samples in the order of their use."""
    ends: Indices
    """The end (exclusive) of each element in `order`."""
    group: int
    """How many elements are read together, as one batch."""
    firsts: Indices | None = None
    """The first frame of each sample's clip, if clips are read."""
    earlier: Indices | None = None
    """How often each sample came before in the epoch, if some come several times."""

    @property
    def batches(self) -> Indices:
        """The number of the last element of each batch."""
        count = len(self.ends)
        return np.append(np.arange(self.group - 1, count - 1, self.group), count - 1)


@dataclass(frozen=True, eq=False)
class PendingBatch:
    """A batch that is being filled: some elements of an epoch."""

    indices: Indices
    """The numbers of its samples, (batch,)."""
    ends: Indices
    """The end (exclusive) of each element among them."""
    arrays: list[NDArray[Any]]
    """One for each column; not to be looked at before `wait` returns."""
    tasks: list[Task[ReadStats]]
    failed: dict[int, str] | None
    """Places in the batch whose sample cannot be read, and why; None: that is an error. Whole after
    `wait`."""
    earlier: Indices | None = None
    """How often each sample came before in the epoch, if some come several times."""

    def without_failed(self) -> PendingBatch:
        """The same without the samples that cannot be read; elements without any are left out."""
        if not self.failed:
            return self
        is_good = np.ones(len(self.indices), np.bool_)
        is_good[list(self.failed)] = False
        ends: Indices = np.cumsum(is_good, dtype=np.int64)[self.ends - 1]
        ends = ends[np.diff(ends, prepend=0) > 0]
        arrays = [array[is_good] for array in self.arrays]
        indices: Indices = self.indices[is_good]
        earlier = None if self.earlier is None else self.earlier[is_good]
        return PendingBatch(indices, ends, arrays, [], None, earlier)

    def wait(self) -> ReadStats:
        """Waits until the batch is whole.

        Returns:
            What filling it cost.

        Raises:
            H5VideoError: What went wrong in a thread, with its traceback.
        """
        stats = ReadStats()
        task = None
        try:
            for task in self.tasks:
                stats.add(task.result())
        finally:
            # A task holds its error, whose traceback holds this frame: a cycle that would keep the
            # threads and buffers until the garbage collector comes.
            task = None
            self.tasks.clear()
        return stats

    def cancel(self) -> None:
        """Drops what has not begun; what has begun ends in buffers that nobody sees."""
        for task in self.tasks:
            task.cancel()


class Reader:
    """Fills batches by a fixed number of threads.

    Tasks never wait for a buffer, nor for a task that was submitted after them, so nothing here can
    be a deadlock. The arrays of a batch belong to whoever holds them; their memory comes back to
    the reader when nobody does.

    The threads end when the reader is closed or collected, and at the interpreter's exit. A reader
    must not cross a fork: threads don't.

    Args:
        video_set: What to read.
        num_threads: How many threads.
        batch_size: The largest number of samples of a batch.
        max_kept: Batches whose memory is kept for reuse at most.
        kept_samples: Samples of each column that is read by slabs to keep for later batches.
        tasks_per_batch: How many tasks the rows of a batch are cut into.
        skips_failed: Whether a sample that cannot be read is left out, instead of an error.
    """

    def __init__(
        self,
        video_set: VideoSet,
        *,
        num_threads: int,
        batch_size: int,
        max_kept: int,
        kept_samples: int,
        tasks_per_batch: int,
        skips_failed: bool = False,
    ) -> None:
        self.pid = os.getpid()
        self._set = video_set
        self._starts = video_set.starts
        self.batch_size = batch_size
        self._kept_samples = kept_samples
        self._tasks_per_batch = tasks_per_batch
        self._skips_failed = skips_failed
        self._files = OpenFiles()
        self._hdf5_files = Hdf5Files()
        self.check_files()
        self._sources = [self._column_sources(column) for column in video_set.columns]
        self._pools = [
            BufferPool(batch_size * column.row_nbytes, max_kept=max_kept)
            for column in video_set.columns
        ]
        self._kept_pools = [
            BufferPool(column.row_nbytes, max_kept=kept_samples) for column in video_set.columns
        ]
        self._threads = Threads(num_threads, "h5video_data")

    def _column_sources(self, column: Component) -> list[Source | ChunkRowDecoder]:
        """How the column is read, file by file."""
        try:
            values = read_values(self._set, column.name) if column.is_kept_in_memory else None
        except FileChangedError:
            raise
        except ReadError:
            if not column.is_read_once:
                raise
            values = None  # perhaps nobody asks for the sample that cannot be read
        if values is not None:
            values = values.astype(column.dtype, copy=False)
            return [
                MemorySource(values[start : start + count])
                for start, count in zip(self._starts, self._set.counts, strict=True)
            ]
        return [self._part_source(stored, column.clip) for stored in column.parts]

    def _part_source(self, stored: StoredArray, clip: Clip | None) -> Source | ChunkRowDecoder:
        plan = planner(stored)
        if isinstance(plan, ChunkRows):
            return ChunkRowDecoder(plan, clip, self._files)
        if clip is not None and clip.axis:
            return CutSource(self._rows_source(stored, None), stored, clip)
        return self._rows_source(stored, clip)

    def _rows_source(self, stored: StoredArray, clip: Clip | None) -> Source:
        plan = planner(stored)
        if isinstance(plan, RowPlanner):
            return DirectSource(replace(plan, clip=clip), self._files)
        return Hdf5Source(stored, clip, self._hdf5_files)

    def check_files(self) -> None:
        """Raises a FileChangedError if a file is not the one that was opened."""
        parts = (part for column in self._set.columns for part in column.parts)
        check_files(dict.fromkeys(file for part in parts for file in part.files))

    def epoch(self, plan: EpochPlan) -> EpochReader:
        """Prepares an epoch; nothing is read before it is asked for."""
        windows: dict[int, ChunkAssembler] = {}
        for position, (column, sources) in enumerate(
            zip(self._set.columns, self._sources, strict=True)
        ):
            in_use = zip(sources, self._set.counts.tolist(), strict=True)
            if any(count and isinstance(source, ChunkRowDecoder) for source, count in in_use):
                windows[position] = ChunkAssembler(
                    column,
                    sources,
                    self._set,
                    plan.order,
                    plan.firsts,
                    plan.ends[plan.batches],
                    capacity=self._kept_samples,
                    pool=self._kept_pools[position],
                    submit=self._threads.submit,
                )
        return EpochReader(self, plan, windows)

    def start(
        self,
        indices: Indices,
        ends: Indices,
        firsts: Indices | None,
        earlier: Indices | None = None,
    ) -> PendingBatch:
        """Begins to read a batch, but for what is read by slabs.

        Args:
            indices: int64 (n,), sample numbers in the order of the batch, n >= 1.
            ends: int64, the end (exclusive) of each element among them.
            firsts: int64 (n,), the first frame of each one's clip, if clips are read.
            earlier: int64 (n,), how often each one came before, if some come several times.
        """
        count = len(indices)
        arrays = [
            pool.lend((count, *column.sample_shape), column.dtype)
            for pool, column in zip(self._pools, self._set.columns, strict=True)
        ]
        failed: dict[int, str] | None = {} if self._skips_failed else None
        num_tasks = min(self._tasks_per_batch, count)
        bounds = [count * i // num_tasks for i in range(num_tasks + 1)]
        tasks = [
            self._threads.submit(
                _fill,
                self._sources,
                self._starts,
                indices[lower:upper],
                None if firsts is None else firsts[lower:upper],
                [array[lower:upper] for array in arrays],
                failed,
                lower,
            )
            for lower, upper in itertools.pairwise(bounds)
        ]
        return PendingBatch(indices, ends, arrays, tasks, failed, earlier)

    def close(self) -> None:
        """Ends the threads, waiting for what they have begun, and closes the files."""
        self._threads.close()
        self._files.close()
        self._hdf5_files.close()


class EpochReader:
    """The batches of one epoch that are being read. Driven by one thread at a time.

    Args:
        reader: Whose threads and buffers to use.
        plan: The epoch.
        windows: By column, what reads those of its files that are read by slabs.
    """

    def __init__(self, reader: Reader, plan: EpochPlan, windows: dict[int, ChunkAssembler]) -> None:
        self.reader = reader
        self.plan = plan
        self._windows = windows
        self._next = iter(plan.batches.tolist())
        self._last = -1
        self._batches: deque[PendingBatch] = deque()

    def __len__(self) -> int:
        """How many batches are being read."""
        return len(self._batches)

    def fill(self, count: int) -> None:
        """Begins to read further batches until `count` are being read, or there are no more."""
        plan = self.plan
        while len(self._batches) < count and (last := next(self._next, None)) is not None:
            begin = int(plan.ends[self._last]) if self._last >= 0 else 0
            part = slice(begin, int(plan.ends[last]))
            batch = self.reader.start(
                plan.order[part],
                plan.ends[self._last + 1 : last + 1] - begin,
                None if plan.firsts is None else plan.firsts[part],
                None if plan.earlier is None else plan.earlier[part],
            )
            for position, window in self._windows.items():
                batch.tasks.extend(window.start(batch.arrays[position], batch.failed))
            self._batches.append(batch)
            self._last = last

    def take(self) -> PendingBatch | None:
        """The batch that is next, to be waited for, or None at the end of the epoch."""
        return self._batches.popleft() if self._batches else None

    def cancel(self) -> None:
        """Drops what is being read, and what was kept for later; nothing more can be read."""
        for batch in self._batches:
            batch.cancel()
        self._batches.clear()
        # The traceback of an error, which people hold on to, holds this object. And what was kept
        # holds its tasks, one of which may hold the error: a cycle.
        self._next = iter(())
        self._windows.clear()


def _fill(
    sources: Sequence[Sequence[Source | ChunkRowDecoder]],
    starts: Indices,
    indices: Indices,
    firsts: Indices | None,
    outs: Sequence[NDArray[Any]],
    failed: dict[int, str] | None,
    begin: int,
) -> ReadStats:
    """A task: reads some rows of a batch, of all columns that are not read by slabs.

    They are those from place `begin` on; `failed` takes those that cannot be read, by their places.
    """
    stats = ReadStats()
    for number, places, rows in _by_file(starts, indices):
        begins = None if firsts is None else firsts[places]
        for files, out in zip(sources, outs, strict=True):
            source = files[number]
            if isinstance(source, ChunkRowDecoder):
                continue
            try:
                source.read(rows, places, begins, out, stats)
            except ReadError as error:
                if failed is None or isinstance(error, FileChangedError):
                    raise
                for i in range(len(rows)):
                    one = slice(i, i + 1)
                    first = None if begins is None else begins[one]
                    try:
                        source.read(rows[one], places[one], first, out, stats)
                    except FileChangedError:
                        raise
                    except ReadError as reason:
                        failed[begin + int(places[i])] = str(reason)
    return stats


def _by_file(starts: Indices, indices: Indices) -> Iterator[tuple[int, Indices, Indices]]:
    """For each file that samples are in: its number, their places in the batch, and their rows."""
    if len(starts) == 1:
        yield 0, np.arange(len(indices)), indices
        return
    # The last file that starts at or before a sample: files without samples start there as well.
    numbers = np.searchsorted(starts, indices, side="right") - 1
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        yield number, places, indices[places] - starts[number]
