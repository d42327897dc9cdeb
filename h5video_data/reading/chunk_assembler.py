"""Puts batches together from slabs: what is decoded now, and what is kept for later batches.

`plan_decodes` says when each slab is decoded and which samples are kept; the tasks here do it.
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
from h5video_data.video_set import Component, VideoSet

from .buffers import BufferPool
from .chunk_decoder import ChunkRowDecoder
from .sample_sources import ReadStats
from .threads import Task

# A task copies about this many samples: few, so that all threads take part in a batch.
COPIES_PER_TASK = 8


class CachedSample:
    """A sample that is kept for later batches, and the tasks that fill it.

    It takes memory when the first of them runs, not when they are submitted: by then it may have
    been dropped in favour of others.
    """

    def __init__(self, lend: Callable[[], NDArray[Any]]) -> None:
        self.tasks: list[Task[ReadStats]] = []
        self._lend = lend
        self._array: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def array(self) -> NDArray[Any]:
        """Its memory, (1, ...); whole when the tasks are done."""
        with self._lock:
            if self._array is None:
                self._array = self._lend()
            return self._array


class ChunkAssembler:
    """Puts together the samples of a column that are read by slabs, batch by batch, for an epoch.

    It is driven by one thread; the tasks that it submits run in many. A kept sample is held here
    until it is dropped, and by the tasks that have to copy it, which were submitted later than
    those that fill it. These hold it weakly, and leave it out if nobody wants it any more.

    Args:
        column: The column.
        sources: How it is read in each file; only the `ChunkRowDecoder`s count here.
        video_set: Its files.
        order: int64 (n,), the numbers of the epoch's samples in the order of their use.
        firsts: int64 (n,), the first frame of each one's clip, if clips are read.
        ends: int64 (batches,), the end of each batch in `order`.
        capacity: Samples to keep for later batches.
        pool: Lends the memory for them; its blocks hold a sample.
        submit: Gives a task to the threads: a function that returns its ReadStats, and arguments.
    """

    def __init__(
        self,
        column: Component,
        sources: Sequence[object],
        video_set: VideoSet,
        order: NDArray[np.int64],
        firsts: NDArray[np.int64] | None,
        ends: NDArray[np.int64],
        *,
        capacity: int,
        pool: BufferPool,
        submit: Callable[..., Task[ReadStats]],
    ) -> None:
        self._column = column
        self._submit = submit
        # What is decoded and kept is an item: a sample, or a clip of one. They are numbered in the
        # order of the samples, so that those of a slab follow each other.
        self._samples = np.arange(video_set.num_samples)
        self._first_frames = np.zeros(video_set.num_samples, np.int64)
        if firsts is not None:
            most = int(firsts.max()) + 1
            items, order = np.unique(order * most + firsts, return_inverse=True)
            self._samples, self._first_frames = np.divmod(items, most)
        # Slab i of the plan_decodes is slab `number` of a source, and starts at sample `start`.
        self._slabs: list[tuple[ChunkRowDecoder, int, int]] = []
        stops: list[int] = []
        for source, first, count in zip(
            sources, video_set.starts.tolist(), video_set.counts.tolist(), strict=True
        ):
            if isinstance(source, ChunkRowDecoder):
                per_slab = source.geometry.samples_per_slab
                for number, start in enumerate(range(0, count, per_slab)):
                    self._slabs.append((source, number, first + start))
                    stops.append(first + min(start + per_slab, count))
        self._steps = plan_decodes(
            order,
            ends,
            np.searchsorted(self._samples, [start for _, _, start in self._slabs]),
            np.searchsorted(self._samples, stops),
            capacity,
        )
        self._pool = pool
        # Items that could not be decoded, and why; filled by tasks.
        self._unreadable: dict[int, str] = {}
        self._kept: dict[int, CachedSample] = {}

    def start(self, out: NDArray[Any], failed: dict[int, str] | None) -> list[Task[ReadStats]]:
        """Submits what fills the next batch's array, (batch, ...).

        Args:
            out: The array.
            failed: Takes the places whose sample cannot be read, and why; None: that is an error.

        Returns:
            The tasks to wait for.
        """
        step = next(self._steps)
        tasks = [task for decode in step.decodes for task in self._decode(decode, out, failed)]
        copies = [
            (item, place, self._kept[item], out[place : place + 1])
            for item, place in zip(step.copied.tolist(), step.places.tolist(), strict=True)
        ]
        tasks += [
            self._submit(_copy, copies[i : i + COPIES_PER_TASK], self._unreadable, failed)
            for i in range(0, len(copies), COPIES_PER_TASK)
        ]
        for item in step.dropped.tolist():
            del self._kept[item]
        return tasks

    def _decode(
        self, decode: ChunkRowDecode, out: NDArray[Any], failed: dict[int, str] | None
    ) -> list[Task[ReadStats]]:
        source, number, first = self._slabs[decode.slab]
        shape, dtype = (1, *self._column.sample_shape), self._column.dtype
        lend = functools.partial(self._pool.lend, shape, dtype)
        kept = {item: CachedSample(lend) for item in decode.kept.tolist()}
        items = np.concatenate([decode.wanted, decode.kept])
        rows = (self._samples[items] - first).tolist()
        firsts = self._first_frames[items].tolist()
        outs = [out[place : place + 1] for place in decode.places.tolist()]
        weakly_kept = [weakref.ref(sample) for sample in kept.values()]
        decode_band = _decode_band
        if failed is not None:
            decode_band = functools.partial(
                _decode_band_if_possible, self._unreadable, failed, decode
            )
        tasks = [
            self._submit(decode_band, source, number, band, rows, firsts, outs, weakly_kept)
            for band in range(source.geometry.num_bands)
            if source.is_needed(band, firsts)
        ]
        for sample in kept.values():
            sample.tasks = tasks
        self._kept.update(kept)
        return tasks


def _decode_band(
    source: ChunkRowDecoder,
    slab: int,
    band: int,
    rows: Sequence[int],
    firsts: Sequence[int],
    outs: Sequence[NDArray[Any]],
    weakly_kept: Sequence[weakref.ref[CachedSample]],
) -> ReadStats:
    """A task: decodes a band into samples of a batch, which come first, and samples to keep."""
    stats = ReadStats()
    targets = {
        i: target
        for i, target in enumerate([*outs, *map(_array_of, weakly_kept)])
        if target is not None
    }
    rows, firsts = [rows[i] for i in targets], [firsts[i] for i in targets]
    source.decode(slab, band, rows, firsts, list(targets.values()), stats)
    return stats


def _array_of(weak: weakref.ref[CachedSample]) -> NDArray[Any] | None:
    kept = weak()
    return None if kept is None else kept.array()


def _decode_band_if_possible(
    unreadable: dict[int, str],
    failed: dict[int, str],
    decode: ChunkRowDecode,
    source: ChunkRowDecoder,
    slab: int,
    band: int,
    rows: Sequence[int],
    firsts: Sequence[int],
    *targets: Any,
) -> ReadStats:
    """A task: the same, but if it cannot be decoded, its samples are noted down instead."""
    try:
        return _decode_band(source, slab, band, rows, firsts, *targets)
    except FileChangedError:
        raise
    except ReadError as error:
        needs_it = np.array([source.is_needed(band, [first]) for first in firsts])
        needed, kept_needed = np.split(needs_it, [len(decode.wanted)])
        failed.update(dict.fromkeys(decode.places[needed].tolist(), str(error)))
        unreadable.update(dict.fromkeys(decode.kept[kept_needed].tolist(), str(error)))
        return ReadStats()


def _copy(
    copies: Sequence[tuple[int, int, CachedSample, NDArray[Any]]],
    unreadable: dict[int, str],
    failed: dict[int, str] | None,
) -> ReadStats:
    """A task: copies kept samples into a batch, once the tasks that fill them are done."""
    for item, place, kept, target in copies:
        for task in kept.tasks:
            # Its error comes out of the batch that it was decoded for. Here it would pick up this
            # frame, which holds the task: a cycle, see `PendingBatch.wait`.
            if task.exception() is not None:
                raise CancelledError("a sample that was to be copied was not decoded")
        if failed is not None and item in unreadable:
            failed[place] = unreadable[item]
        target[...] = kept.array()
    return ReadStats()
