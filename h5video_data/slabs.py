"""Decodes chunks that hold (parts of) many samples, or that cut through the rows of a sample.

See `plan.SlabGeometry` for what slabs and bands are; `schedule` says when each is decoded, and
which samples are kept for later batches.
"""

from __future__ import annotations

import functools
import math
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buffers import BufferPool, scratch
from .clips import Clip
from .columns import Column, VideoSet
from .errors import FileChangedError, ReadError
from .filters import decode_chunk
from .plan import SlabGeometry
from .schedule import SlabDecode, schedule
from .sources import BYTES_PER_READ, OpenFile, OpenFiles, ReadStats, check_identity, read_error

# A task copies about this many samples: few, so that all threads take part in a batch.
COPIES_PER_TASK = 8


class SlabSource:
    """Decodes bands of one dataset of one file. Called by several threads at once."""

    def __init__(self, geometry: SlabGeometry, clip: Clip | None, files: OpenFiles) -> None:
        self.geometry = geometry
        self._clip = clip
        self._stored = geometry.stored
        self._files = files

    def decode(
        self,
        slab: int,
        band: int,
        rows: Sequence[int],
        firsts: Sequence[int],
        targets: Sequence[NDArray[Any]],
        stats: ReadStats,
    ) -> None:
        """Decodes a band and copies samples' frames out of it.

        Args:
            slab: Which slab.
            band: Which band of it.
            rows: Positions of samples in the slab.
            firsts: The first frame of each one's clip, if the source reads clips.
            targets: For each of them, an array (1, ...) of the sample as it is read, whose frames
                of this band are filled.
            stats: Counts what it cost; belongs to the calling thread.

        Raises:
            ReadError: A chunk cannot be read or decoded.
        """
        stored, cost = self._stored, ReadStats()
        file = self._files.open(stored.path, stored.identity)
        try:
            samples = self._read_band(file, slab, band, rows, cost)
        except (OSError, EOFError, ValueError) as error:
            row = slab * self.geometry.samples_per_slab + rows[0]
            raise read_error(stored, row, str(error)) from error
        file.judge(cost)
        stats.add(cost)
        check_identity(stored.path, stored.identity, file.fd)
        for sample, first, target in zip(samples, firsts, targets, strict=True):
            wanted, in_band = self.frames(band, first)
            # A dataset of one dimension has no frames to cut.
            frames = target[0, wanted] if target.ndim > 1 else target
            for tile in self.geometry.tiles:
                tile.copy(sample, in_band, frames)

    def is_needed(self, band: int, firsts: Sequence[int]) -> bool:
        """Whether a band holds frames of any of the clips that begin at these frames."""
        if self._clip is None:
            return True
        wanted = (self.frames(band, first)[0] for first in set(firsts))
        return any(frames.start < frames.stop for frames in wanted)

    def frames(self, band: int, first: int) -> tuple[slice, slice]:
        """Which frames of a sample, or of its clip from frame `first` on, a band holds.

        Returns:
            Their places in the sample as it is read, and in the band.
        """
        frames = self.geometry.frames(band)
        if self._clip is None:
            return frames, slice(0, frames.stop - frames.start)
        stride = self._clip.stride
        # The number of the clip's first frame that is not before the band, and after it.
        begin, end = (
            min(max(0, -(-(edge - first) // stride)), self._clip.num_frames)
            for edge in (frames.start, frames.stop)
        )
        start = first + begin * stride - frames.start
        return slice(begin, end), slice(start, start + (end - begin) * stride, stride)

    def _read_band(
        self, file: OpenFile, slab: int, band: int, rows: Sequence[int], stats: ReadStats
    ) -> list[NDArray[Any]]:
        """What a band holds of each of the rows: (chunks along each axis..., frames, ...)."""
        geometry, stored = self.geometry, self._stored
        first = (slab * geometry.num_bands + band) * geometry.chunks_per_band
        chunks = slice(first, first + geometry.chunks_per_band)
        offsets, chunk_nbytes = stored.offsets[chunks], geometry.chunk_nbytes
        row_nbytes = chunk_nbytes // geometry.samples_per_slab
        few = len(rows) * (BYTES_PER_READ + row_nbytes) < BYTES_PER_READ + chunk_nbytes
        if few and not stored.filters:
            samples = self._scratch("band", (len(rows), *geometry.grid, *geometry.sample_shape))
            starts = offsets + row_nbytes * np.array(rows)[:, np.newaxis]
            self._read(file, np.where(offsets < 0, -1, starts).ravel(), samples, stats)
            return list(samples)
        whole = self._scratch("band", (*geometry.grid, *geometry.chunk_shape))
        if stored.filters:
            self._decode(file, chunks, whole, stats)
        else:
            self._read(file, offsets, whole, stats)
        stats.num_chunks += int((offsets >= 0).sum())
        samples = np.moveaxis(whole, len(geometry.grid), 0)
        return [samples[row] for row in rows]

    def _scratch(self, purpose: str, shape: tuple[int, ...]) -> NDArray[Any]:
        dtype = self._stored.dtype
        return scratch(purpose, math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _read(
        self, file: OpenFile, offsets: NDArray[np.int64], out: NDArray[Any], stats: ReadStats
    ) -> None:
        """Fills an array with as many ranges of the file, all of the same size."""
        begin = time.perf_counter()
        target = out.reshape(-1).view(np.uint8)
        sizes = np.full(len(offsets), len(target) // len(offsets))
        starts = sizes * np.arange(len(offsets))
        is_written = offsets >= 0
        if not is_written.all():
            out[...] = self._stored.fill_value
            offsets, sizes, starts = offsets[is_written], sizes[is_written], starts[is_written]
        file.announce(offsets, sizes)
        self._files.read_ranges(file, offsets, sizes, starts, target)
        stats.read_seconds += time.perf_counter() - begin
        stats.read_bytes += int(sizes.sum())
        stats.num_reads += len(sizes)

    def _decode(self, file: OpenFile, chunks: slice, out: NDArray[Any], stats: ReadStats) -> None:
        """Fills an array with decoded chunks."""
        stored = self._stored
        offsets, sizes = stored.offsets[chunks], stored.sizes[chunks]
        file.announce(offsets, sizes)
        for offset, size, mask, place in zip(
            offsets.tolist(),
            sizes.tolist(),
            stored.masks[chunks].tolist(),
            out.reshape(len(offsets), -1),
            strict=True,
        ):
            if offset < 0:
                place[...] = stored.fill_value
                continue
            begin = time.perf_counter()
            data = file.read(size, offset)
            middle = time.perf_counter()
            decode_chunk(stored.filters, mask, data, place.view(np.uint8))
            stats.decode_seconds += time.perf_counter() - middle
            stats.read_seconds += middle - begin
            stats.read_bytes += size
            stats.num_reads += 1


class KeptSample:
    """A sample that is kept for later batches, and the tasks that fill it.

    It takes memory when the first of them runs, not when they are submitted: by then it may have
    been dropped in favour of others.
    """

    def __init__(self, lend: Callable[[], NDArray[Any]]) -> None:
        self.tasks: list[Future[ReadStats]] = []
        self._lend = lend
        self._array: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def array(self) -> NDArray[Any]:
        """Its memory, (1, ...); whole when the tasks are done."""
        with self._lock:
            if self._array is None:
                self._array = self._lend()
            return self._array


class SlabWindow:
    """Puts together the samples of a column that are read by slabs, batch by batch, for an epoch.

    It is driven by one thread; the tasks that it submits run in many. A kept sample is held here
    until it is dropped, and by the tasks that have to copy it, which were submitted later than
    those that fill it. These hold it weakly, and leave it out if nobody wants it any more.

    Args:
        column: The column.
        sources: How it is read in each file; only the `SlabSource`s count here.
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
        column: Column,
        sources: Sequence[object],
        video_set: VideoSet,
        order: NDArray[np.int64],
        firsts: NDArray[np.int64] | None,
        ends: NDArray[np.int64],
        *,
        capacity: int,
        pool: BufferPool,
        submit: Callable[..., Future[ReadStats]],
    ) -> None:
        self._column = column
        self._submit = submit
        self._first_frames = np.zeros(video_set.num_samples, np.int64)
        if firsts is not None:
            self._first_frames[order] = firsts
        # Slab i of the schedule is slab `number` of a source, and starts at sample `start`.
        self._slabs: list[tuple[SlabSource, int, int]] = []
        stops: list[int] = []
        for source, first, count in zip(
            sources, video_set.starts.tolist(), video_set.counts.tolist(), strict=True
        ):
            if isinstance(source, SlabSource):
                per_slab = source.geometry.samples_per_slab
                for number, start in enumerate(range(0, count, per_slab)):
                    self._slabs.append((source, number, first + start))
                    stops.append(first + min(start + per_slab, count))
        self._steps = schedule(
            order,
            ends,
            np.array([start for _, _, start in self._slabs], np.int64),
            np.array(stops, np.int64),
            capacity,
        )
        self._pool = pool
        # Samples that could not be decoded, and why; filled by tasks.
        self._unreadable: dict[int, str] = {}
        self._kept: dict[int, KeptSample] = {}

    def start(self, out: NDArray[Any], failed: dict[int, str] | None) -> list[Future[ReadStats]]:
        """Submits what fills the next batch's array, (batch, ...).

        Args:
            out: The array.
            failed: Takes the samples that cannot be read, and why; None: that is an error.

        Returns:
            The tasks to wait for.
        """
        step = next(self._steps)
        tasks = [task for decode in step.decodes for task in self._decode(decode, out, failed)]
        copies = [
            (sample, self._kept[sample], out[place : place + 1])
            for sample, place in zip(step.copied.tolist(), step.places.tolist(), strict=True)
        ]
        tasks += [
            self._submit(_copy, copies[i : i + COPIES_PER_TASK], self._unreadable, failed)
            for i in range(0, len(copies), COPIES_PER_TASK)
        ]
        for sample in step.dropped.tolist():
            del self._kept[sample]
        return tasks

    def _decode(
        self, decode: SlabDecode, out: NDArray[Any], failed: dict[int, str] | None
    ) -> list[Future[ReadStats]]:
        source, number, first = self._slabs[decode.slab]
        shape, dtype = (1, *self._column.sample_shape), self._column.dtype
        lend = functools.partial(self._pool.lend, shape, dtype)
        kept = {sample: KeptSample(lend) for sample in decode.kept.tolist()}
        samples = np.concatenate([decode.wanted, decode.kept])
        rows, firsts = (samples - first).tolist(), self._first_frames[samples].tolist()
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
    source: SlabSource,
    slab: int,
    band: int,
    rows: Sequence[int],
    firsts: Sequence[int],
    outs: Sequence[NDArray[Any]],
    weakly_kept: Sequence[weakref.ref[KeptSample]],
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


def _array_of(weak: weakref.ref[KeptSample]) -> NDArray[Any] | None:
    kept = weak()
    return None if kept is None else kept.array()


def _decode_band_if_possible(
    unreadable: dict[int, str], failed: dict[int, str], decode: SlabDecode, *arguments: Any
) -> ReadStats:
    """A task: the same, but if it cannot be decoded, its samples are noted down instead."""
    try:
        return _decode_band(*arguments)
    except FileChangedError:
        raise
    except ReadError as error:
        unreadable.update((sample, str(error)) for sample in decode.kept.tolist())
        failed.update((sample, str(error)) for sample in decode.wanted.tolist())
        return ReadStats()


def _copy(
    copies: Sequence[tuple[int, KeptSample, NDArray[Any]]],
    unreadable: dict[int, str],
    failed: dict[int, str] | None,
) -> ReadStats:
    """A task: copies kept samples into a batch, once the tasks that fill them are done."""
    for sample, kept, target in copies:
        for task in kept.tasks:
            # Its error comes out of the batch that it was decoded for. Here it would pick up this
            # frame, which holds the task: a cycle, see `PendingBatch.wait`.
            if task.exception() is not None:
                raise CancelledError("a sample that was to be copied was not decoded")
        if failed is not None and sample in unreadable:
            failed[sample] = unreadable[sample]
        target[...] = kept.array()
    return ReadStats()
