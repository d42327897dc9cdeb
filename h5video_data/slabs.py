"""Decodes chunks that hold (parts of) many samples, or that cut through the rows of a sample.

See `plan.SlabGeometry` for what slabs and bands are; `schedule` says when each is decoded, and
which samples are kept for later batches.
"""

from __future__ import annotations

import functools
import math
import time
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
from .sources import OpenFile, OpenFiles, ReadStats, check_identity, read_error

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
        geometry = self.geometry
        file = self._files.open(self._stored.path, self._stored.identity)
        whole = self._scratch("band", geometry.band_shape)
        first = (slab * geometry.num_bands + band) * len(geometry.patches)
        chunks = slice(first, first + len(geometry.patches))
        bytes_before, seconds_before = stats.read_bytes, stats.read_seconds
        file.announce(self._stored.offsets[chunks], self._stored.sizes[chunks])
        try:
            if geometry.is_one_chunk:
                self._decode_chunk(file, first, whole, stats)
            else:
                chunk = self._scratch("chunk", geometry.chunk_shape)
                for number, patch in enumerate(geometry.patches):
                    self._decode_chunk(file, first + number, chunk, stats)
                    whole[patch.in_band] = chunk[patch.in_chunk]
        except (OSError, EOFError, ValueError) as error:
            row = slab * geometry.samples_per_slab + rows[0]
            raise read_error(self._stored, row, str(error)) from error
        file.judge(stats.read_bytes - bytes_before, stats.read_seconds - seconds_before)
        check_identity(self._stored.path, self._stored.identity, file.fd)
        for row, first, target in zip(rows, firsts, targets, strict=True):
            wanted, in_band = self.frames(band, first)
            # A dataset of one dimension has no frames to cut.
            target[(slice(None), wanted)[: whole.ndim]] = whole[
                (slice(row, row + 1), in_band)[: whole.ndim]
            ]

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

    def _scratch(self, purpose: str, shape: tuple[int, ...]) -> NDArray[Any]:
        dtype = self._stored.dtype
        return scratch(purpose, math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _decode_chunk(
        self, file: OpenFile, number: int, out: NDArray[Any], stats: ReadStats
    ) -> None:
        stored = self._stored
        offset, size = int(stored.offsets[number]), int(stored.sizes[number])
        if offset < 0:
            out[...] = stored.fill_value
            return
        flat = out.reshape(-1).view(np.uint8)
        stats.num_chunks += 1
        begin = time.perf_counter()
        if stored.filters:
            data = file.read(size, offset)
            middle = time.perf_counter()
            decode_chunk(stored.filters, int(stored.masks[number]), data, flat)
            stats.decode_seconds += time.perf_counter() - middle
        else:
            if file.read_into(flat.data, offset) < size:
                raise EOFError("the file ends within a chunk")
            middle = time.perf_counter()
        stats.read_seconds += middle - begin
        stats.read_bytes += size


class SlabWindow:
    """Puts together the samples of a column that are read by slabs, batch by batch, for an epoch.

    It is driven by one thread; the tasks that it submits run in many. A kept sample is an array
    with the tasks that fill it, which were submitted earlier than those that copy it. When it is
    let go of, the tasks that still have to copy it hold it.

    Args:
        column: The column.
        sources: How it is read in each file; only the `SlabSource`s count here.
        video_set: Its files.
        order: int64 (n,), the numbers of the epoch's samples in the order of their use.
        firsts: int64 (n,), the first frame of each one's clip, if clips are read.
        ends: int64 (batches,), the end of each batch in `order`.
        capacity: Samples to keep for later batches.
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
        # Some of the memory is for arrays that wait for their next turn.
        in_reserve = capacity // 8
        self._steps = schedule(
            order,
            ends,
            np.array([start for _, _, start in self._slabs], np.int64),
            np.array(stops, np.int64),
            capacity - in_reserve,
        )
        self._pool = BufferPool(column.row_nbytes, max_kept=in_reserve)
        # Samples that could not be decoded, and why; filled by tasks.
        self._unreadable: dict[int, str] = {}
        self._kept: dict[int, tuple[NDArray[Any], list[Future[ReadStats]]]] = {}

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
            (sample, *self._kept[sample], out[place : place + 1])
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
        kept = [self._pool.lend(shape, dtype) for _ in decode.kept]
        samples = np.concatenate([decode.wanted, decode.kept])
        rows, firsts = (samples - first).tolist(), self._first_frames[samples].tolist()
        targets = [*(out[place : place + 1] for place in decode.places.tolist()), *kept]
        decode_band = _decode_band
        if failed is not None:
            decode_band = functools.partial(
                _decode_band_if_possible, self._unreadable, failed, decode
            )
        tasks = [
            self._submit(decode_band, source, number, band, rows, firsts, targets)
            for band in range(source.geometry.num_bands)
            if source.is_needed(band, firsts)
        ]
        for sample, array in zip(decode.kept.tolist(), kept, strict=True):
            self._kept[sample] = (array, tasks)
        return tasks


def _decode_band(
    source: SlabSource,
    slab: int,
    band: int,
    rows: Sequence[int],
    firsts: Sequence[int],
    targets: Sequence[NDArray[Any]],
) -> ReadStats:
    """A task: decodes a band into samples of a batch and samples to keep."""
    stats = ReadStats()
    source.decode(slab, band, rows, firsts, targets, stats)
    return stats


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
    copies: Sequence[tuple[int, NDArray[Any], Sequence[Future[ReadStats]], NDArray[Any]]],
    unreadable: dict[int, str],
    failed: dict[int, str] | None,
) -> ReadStats:
    """A task: copies kept samples into a batch, once the tasks that fill them are done."""
    for sample, array, tasks, target in copies:
        for task in tasks:
            # Its error comes out of the batch that it was decoded for. Here it would pick up this
            # frame, which holds the task: a cycle, see `PendingBatch.wait`.
            if task.exception() is not None:
                raise CancelledError("a sample that was to be copied was not decoded")
        if failed is not None and sample in unreadable:
            failed[sample] = unreadable[sample]
        target[...] = array
    return ReadStats()
