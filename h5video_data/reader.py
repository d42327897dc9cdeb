"""Threads that fill batches ahead of the one who takes them."""

from __future__ import annotations

import concurrent.futures.thread
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buffers import BufferPool
from .columns import Column, VideoSet, read_values
from .fallback import Hdf5Files, Hdf5Source
from .filters import undecodable
from .layout import StoredArray
from .plan import RowPlanner, row_planner
from .sources import DirectSource, MemorySource, OpenFiles, ReadStats, Source, check_identity

# Datasets of labels, weights and features (samples of one dimension at the most) are read once and
# kept if they are small: a read for a label of a few bytes costs as much as one for a frame.
MEMORY_ROW_BYTES = 4 << 10
MEMORY_BYTES = 32 << 20


def direct_planner(stored: StoredArray) -> RowPlanner | str:
    """The planner of positioned reads for a dataset, or why HDF5 has to read it instead."""
    if stored.obstacle:
        return stored.obstacle
    unknown = undecodable(stored.filters)
    if unknown:
        return f"its filter {unknown[0].name!r} is decoded by HDF5"
    planner = row_planner(stored)
    if isinstance(planner, RowPlanner) and stored.filters:
        # A file may say that its edge chunks are not filtered (H5Pset_chunk_opts), which h5py does
        # not tell. They then have just the size of a decoded chunk.
        is_edge = planner.stops - planner.starts < planner.chunk_nbytes
        sizes = stored.sizes.reshape(-1, len(is_edge))[:, is_edge]
        masks = stored.masks.reshape(-1, len(is_edge))[:, is_edge]
        if ((sizes == planner.chunk_nbytes) & (masks == 0)).any():
            return "its edge chunks may be stored without filters"
    return planner


def is_kept_in_memory(column: Column) -> bool:
    """Whether a column is read once and kept: labels, weights."""
    nbytes = sum(part.nbytes for part in column.parts)
    is_small = column.row_nbytes <= MEMORY_ROW_BYTES and nbytes <= MEMORY_BYTES
    return len(column.sample_shape) <= 1 and is_small


@dataclass(frozen=True, eq=False)
class PendingBatch:
    """A batch that is being filled."""

    arrays: list[NDArray[Any]]
    """One for each column; not to be looked at before `wait` returns."""
    tasks: list[Future[ReadStats]]

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

    A batch is cut by rows into a few tasks; a task reads its rows of all columns. Tasks never wait
    for each other or for a buffer, so nothing here can be a deadlock. The arrays of a batch belong
    to whoever holds them; their memory comes back to the reader when nobody does.

    The threads end when the reader is closed or collected, and at the interpreter's exit. A reader
    must not cross a fork: threads don't.

    Args:
        video_set: What to read.
        num_threads: How many threads.
        batch_size: The largest number of samples asked for at once.
        max_kept: Batches whose memory is kept for reuse at most.
        tasks_per_batch: How many tasks a batch is cut into.
    """

    def __init__(
        self,
        video_set: VideoSet,
        *,
        num_threads: int,
        batch_size: int,
        max_kept: int,
        tasks_per_batch: int,
    ) -> None:
        self._set = video_set
        self._starts = video_set.starts
        self._tasks_per_batch = tasks_per_batch
        self._files = OpenFiles()
        self._hdf5_files = Hdf5Files()
        self.check_files()
        self._sources = [self._column_sources(column) for column in video_set.columns]
        self._pools = [
            BufferPool(batch_size * column.row_nbytes, max_kept=max_kept)
            for column in video_set.columns
        ]
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="h5video_data")
        self.pid = os.getpid()

    def _column_sources(self, column: Column) -> list[Source]:
        """How the column is read, file by file."""
        if is_kept_in_memory(column):
            values = read_values(self._set, column.name).astype(column.dtype, copy=False)
            return [
                MemorySource(values[start : start + count])
                for start, count in zip(self._starts, self._set.counts, strict=True)
            ]
        sources: list[Source] = []
        for stored in column.parts:
            planner = direct_planner(stored)
            if isinstance(planner, RowPlanner):
                sources.append(DirectSource(planner, self._files))
            else:
                sources.append(Hdf5Source(stored, self._hdf5_files))
        return sources

    def check_files(self) -> None:
        """Raises a FileChangedError if a file is not the one that was opened."""
        files = {part.path: part.identity for column in self._set.columns for part in column.parts}
        for path, identity in files.items():
            check_identity(path, identity)

    def start(self, indices: NDArray[np.int64]) -> PendingBatch:
        """Begins to read a batch.

        Args:
            indices: int64 (n,), sample numbers in the order of the batch, n >= 1.

        Returns:
            The batch to wait for.
        """
        count = len(indices)
        arrays = [
            pool.lend((count, *column.sample_shape), column.dtype)
            for pool, column in zip(self._pools, self._set.columns, strict=True)
        ]
        num_tasks = min(self._tasks_per_batch, count)
        bounds = [count * i // num_tasks for i in range(num_tasks + 1)]
        tasks = [
            self._threads.submit(
                _fill,
                self._sources,
                self._starts,
                indices[lower:upper],
                [array[lower:upper] for array in arrays],
            )
            for lower, upper in itertools.pairwise(bounds)
        ]
        return PendingBatch(arrays, tasks)

    def close(self) -> None:
        """Ends the threads, waiting for what they have begun, and closes the files."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._files.close()
        self._hdf5_files.close()


def _fill(
    sources: Sequence[Sequence[Source]],
    starts: NDArray[np.int64],
    indices: NDArray[np.int64],
    outs: Sequence[NDArray[Any]],
) -> ReadStats:
    """A task: reads some rows of a batch, of all columns."""
    if getattr(concurrent.futures.thread, "_shutdown", False):
        raise CancelledError("the interpreter ends")  # nobody will take what was read ahead
    stats = ReadStats()
    # The last file that starts at or before a sample: files without samples start there as well.
    numbers = np.searchsorted(starts, indices, side="right") - 1
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        rows = indices[places] - starts[number]
        for files, out in zip(sources, outs, strict=True):
            files[number].read(rows, places, out, stats)
    return stats
