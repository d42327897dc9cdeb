"""Puts batches together from chunks of many rows: decodes what is missing, caches what comes later.

`plan_decodes` says when each chunk row is decoded and which of its rows are cached; the tasks here
do it.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, ReadError
from h5video_data.planning.cache_plan import ChunkRowDecode, plan_decodes
from h5video_data.sampling.sample_index import SampleIndex

from .batch import EpochPlan, PendingBatch
from .batch_rows import BatchRows
from .buffers import BufferPool
from .chunk_decoder import ChunkRowDecoder
from .read_stats import ReadStats
from .threads import Task

# A task copies about this many items: few, so that all threads take part in a batch.
COPIES_PER_TASK = 8


class CachedItem:
    """A row that is cached for later batches, or a clip of one, and the tasks that fill it.

    It takes memory when the first of them runs, not when they are submitted: by then it may have
    been evicted in favour of others.
    """

    def __init__(self, lend: Callable[[], NDArray[Any]]) -> None:
        self.tasks: list[Task[ReadStats]] = []
        self._lend = lend
        self._array: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def array(self) -> NDArray[Any]:
        """Gives its memory, (1, ...); whole when the tasks are done."""
        with self._lock:
            if self._array is None:
                self._array = self._lend()
            return self._array


class ChunkAssembler:
    """Fills the rows of a dataset for an epoch, as far as its chunks hold many. See `batch.Filler`.

    The tasks that it submits run in many threads. A cached item is held here until it is evicted,
    and by the tasks that have to copy it, which were submitted later than those that fill it. These
    hold it weakly, and leave it out if it was evicted.

    Args:
        rows: The rows of the dataset that batches have.
        number: The number of their array in a batch.
        decoders: For each part, what decodes its chunk rows; None: it is read in another way.
        plan: The epoch.
        capacity: Items to cache for later batches.
        pool: Lends the memory for them; its blocks hold an item.
        submit: Gives a task to the threads: a function that returns its ReadStats, and arguments.
    """

    def __init__(
        self,
        rows: BatchRows,
        number: int,
        decoders: Sequence[ChunkRowDecoder | None],
        plan: EpochPlan,
        *,
        capacity: int,
        pool: BufferPool,
        submit: Callable[..., Task[ReadStats]],
    ) -> None:
        self._batch_rows = rows
        self._number = number
        self._submit = submit
        index = rows.index
        length, num_rows = index.rows_per_sample, index.num_rows
        # Rows are numbered through all parts; items, in the order of these, so that those of a
        # chunk row follow each other.
        part_starts = np.cumsum(num_rows) - num_rows
        parts, order = index.rows(plan.order, plan.shifts)
        order = part_starts[parts] + order
        self._rows = np.arange(num_rows.sum())
        self._first_frames = np.zeros(len(self._rows), np.int64)
        if plan.first_frames is not None:
            firsts = np.repeat(plan.first_frames, length)
            most = int(firsts.max()) + 1
            items, order = np.unique(order * most + firsts, return_inverse=True)
            self._rows, self._first_frames = np.divmod(items, most)
        # Chunk row i of the plan is chunk row `n` of a decoder, and starts at row `start`.
        self._chunk_rows: list[tuple[ChunkRowDecoder, int, int]] = []
        stops: list[int] = []
        for decoder, first, count in zip(
            decoders, part_starts.tolist(), num_rows.tolist(), strict=True
        ):
            if decoder is not None:
                size = decoder.chunk_rows.num_rows
                for n, start in enumerate(range(0, count, size)):
                    self._chunk_rows.append((decoder, n, first + start))
                    stops.append(first + min(start + size, count))
        self._plans = plan_decodes(
            order,
            plan.stops[plan.bundles] * length,
            np.searchsorted(self._rows, [start for _, _, start in self._chunk_rows]),
            np.searchsorted(self._rows, stops),
            capacity,
        )
        self._pool = pool
        # Items that could not be decoded, and why; filled by tasks.
        self._unreadable: dict[int, str] = {}
        self._cached: dict[int, CachedItem] = {}

    def start(self, batch: PendingBatch) -> list[Task[ReadStats]]:
        """Submits the tasks that fill the next bundle."""
        out, count = batch.rows[self._number], len(batch.indices)
        failed = _Failures.of(batch, self._batch_rows.index)
        places = self._batch_rows.places(0, count, count)
        plan = next(self._plans)
        tasks = [
            task for decode in plan.decodes for task in self._decode(decode, out, places, failed)
        ]
        copies = [
            (item, planned, self._cached[item], out[out_row : out_row + 1])
            for item, planned, out_row in zip(
                plan.copied.tolist(),
                plan.out_rows.tolist(),
                places[plan.out_rows].tolist(),
                strict=True,
            )
        ]
        tasks += [
            self._submit(_copy, copies[i : i + COPIES_PER_TASK], self._unreadable, failed)
            for i in range(0, len(copies), COPIES_PER_TASK)
        ]
        for item in plan.evicted.tolist():
            del self._cached[item]
        return tasks

    def _decode(
        self,
        decode: ChunkRowDecode,
        out: NDArray[Any],
        places: NDArray[np.int64],
        failed: _Failures | None,
    ) -> list[Task[ReadStats]]:
        decoder, number, start = self._chunk_rows[decode.chunk_row]
        component = self._batch_rows.first
        shape, dtype = (1, *component.row_shape), component.dtype
        lend = functools.partial(self._pool.lend, shape, dtype)
        cached = {item: CachedItem(lend) for item in decode.cached.tolist()}
        items = np.concatenate([decode.wanted, decode.cached])
        rows = (self._rows[items] - start).tolist()
        firsts = self._first_frames[items].tolist()
        outs = [out[out_row : out_row + 1] for out_row in places[decode.out_rows].tolist()]
        weakly_cached = [weakref.ref(item) for item in cached.values()]
        decode_unit = _decode_unit
        if failed is not None:
            decode_unit = functools.partial(
                _decode_unit_if_possible, self._unreadable, failed, decode
            )
        tasks = [
            self._submit(decode_unit, decoder, number, unit, rows, firsts, outs, weakly_cached)
            for unit in range(decoder.chunk_rows.num_units)
            if decoder.is_needed(unit, firsts)
        ]
        for item in cached.values():
            item.tasks = tasks
        self._cached.update(cached)
        return tasks


class _Failures:
    """Notes down the samples of a bundle that cannot be read, by rows as they are planned."""

    def __init__(self, failed: dict[int, str], rows_per_sample: int) -> None:
        self._failed = failed
        self._rows_per_sample = rows_per_sample

    @classmethod
    def of(cls, batch: PendingBatch, index: SampleIndex) -> _Failures | None:
        """Those of a bundle; None: a sample that cannot be read is an error."""
        if batch.failed is None:
            return None
        return cls(batch.failed, index.rows_per_sample)

    def note(self, planned: Sequence[int], reason: str) -> None:
        """Notes down the samples that these rows belong to."""
        self._failed.update({row // self._rows_per_sample: reason for row in planned})


def _decode_unit(
    decoder: ChunkRowDecoder,
    chunk_row: int,
    unit: int,
    rows: Sequence[int],
    first_frames: Sequence[int],
    outs: Sequence[NDArray[Any]],
    weakly_cached: Sequence[weakref.ref[CachedItem]],
) -> ReadStats:
    """A task: decodes a unit into rows of a batch, which come first, and into cached items."""
    stats = ReadStats()
    targets = {
        i: target
        for i, target in enumerate([*outs, *map(_array_of, weakly_cached)])
        if target is not None
    }
    rows, firsts = [rows[i] for i in targets], [first_frames[i] for i in targets]
    decoder.decode(chunk_row, unit, rows, firsts, list(targets.values()), stats)
    return stats


def _array_of(weak: weakref.ref[CachedItem]) -> NDArray[Any] | None:
    item = weak()
    return None if item is None else item.array()


def _decode_unit_if_possible(
    unreadable: dict[int, str],
    failed: _Failures,
    decode: ChunkRowDecode,
    decoder: ChunkRowDecoder,
    chunk_row: int,
    unit: int,
    rows: Sequence[int],
    first_frames: Sequence[int],
    *targets: Any,
) -> ReadStats:
    """A task: decodes a unit, or notes down the rows that needed it, if it cannot be decoded."""
    try:
        return _decode_unit(decoder, chunk_row, unit, rows, first_frames, *targets)
    except FileChangedError:
        raise
    except ReadError as error:
        needs_it = np.array([decoder.is_needed(unit, [first]) for first in first_frames])
        needed, cached_needed = np.split(needs_it, [len(decode.wanted)])
        failed.note(decode.out_rows[needed].tolist(), str(error))
        unreadable.update(dict.fromkeys(decode.cached[cached_needed].tolist(), str(error)))
        return ReadStats()


def _copy(
    copies: Sequence[tuple[int, int, CachedItem, NDArray[Any]]],
    unreadable: dict[int, str],
    failed: _Failures | None,
) -> ReadStats:
    """A task: copies cached items into a batch, once the tasks that fill them are done."""
    for item, planned, cached, target in copies:
        for task in cached.tasks:
            # Its error comes out of the batch that it was decoded for. Here it would pick up this
            # frame, which holds the task: a cycle, see `PendingBatch.wait`.
            if task.exception() is not None:
                raise CancelledError("a row that was to be copied was not decoded")
        if failed is not None and item in unreadable:
            failed.note([planned], unreadable[item])
        target[...] = cached.array()
    return ReadStats()
