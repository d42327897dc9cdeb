"""Decodes chunks that hold (parts of) many samples, or that cut through the rows of a sample.

A *slab* is the samples that share their chunks: those with the same position in the chunk grid
along the first axis. A *band* is the part of a slab that is one chunk deep along the second axis
(frames), and whole along the others:

    X (samples 0..9, frames 0..7, rows, columns), chunks (4, 2, ...)

            frames 0 1 | 2 3 | 4 5 | 6 7
    samples 0..3    band 0 |  1  |  2  |  3      slab 0
    samples 4..7       ...                       slab 1
    samples 8..9       ...                       slab 2

A band is what one task decodes: its chunks are put together once, and each sample's frames of it
are then one run of bytes. `schedule` says when, and which samples to keep for later batches.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buffers import BufferPool
from .columns import Column, VideoSet
from .filters import decode_chunk
from .layout import StoredArray
from .schedule import SlabDecode, schedule
from .sources import OpenFile, OpenFiles, ReadStats, read_error

# A task copies about this many samples: few, so that all threads take part in a batch.
COPIES_PER_TASK = 8


@dataclass(frozen=True)
class Patch:
    """Where a chunk of a band lies; both are indices of as many axes as the dataset has."""

    in_band: tuple[slice, ...]
    """Its place in the band."""
    in_chunk: tuple[slice, ...]
    """What of the chunk counts: an edge chunk is stored whole."""


class SlabGeometry:
    """The slabs, bands and patches of a chunked dataset. Pure.

    Attributes:
        stored: The dataset.
        num_slabs: Slabs of the dataset.
        num_bands: Bands of a slab.
        patches: The chunks of a band, in the order of the chunk table.
    """

    def __init__(self, stored: StoredArray) -> None:
        if stored.chunk_shape is None:
            raise ValueError(f"{stored.name} has no chunks")
        self.stored = stored
        self.chunk_shape = stored.chunk_shape
        grid = [-(-n // c) for n, c in zip(stored.shape, stored.chunk_shape, strict=True)]
        self.num_slabs = grid[0]
        self.num_bands = grid[1] if len(grid) > 1 else 1
        self.patches = tuple(
            _patch(corner, stored.shape[2:], stored.chunk_shape[2:])
            for corner in itertools.product(*map(range, grid[2:]))
        )

    @property
    def samples_per_slab(self) -> int:
        """Samples of a slab; the last one may have fewer."""
        return self.chunk_shape[0]

    @property
    def band_shape(self) -> tuple[int, ...]:
        """The shape of a whole band in memory: (samples, frames, ...)."""
        return self.chunk_shape[:2] + self.stored.shape[2:]

    @property
    def is_one_chunk(self) -> bool:
        """Whether a band is a chunk as it is decoded."""
        return self.chunk_shape[2:] == self.stored.shape[2:]

    def frames(self, band: int) -> slice:
        """The part of a sample along its first axis that a band holds."""
        if len(self.chunk_shape) == 1:
            return slice(0, 0)
        begin = band * self.chunk_shape[1]
        return slice(begin, min(begin + self.chunk_shape[1], self.stored.shape[1]))

    @property
    def band_nbytes(self) -> int:
        """Memory that decoding a band takes."""
        cells = math.prod(self.band_shape) + (not self.is_one_chunk) * math.prod(self.chunk_shape)
        return cells * self.stored.dtype.itemsize


def _patch(corner: Sequence[int], shape: Sequence[int], chunk: Sequence[int]) -> Patch:
    starts = [place * length for place, length in zip(corner, chunk, strict=True)]
    lengths = [
        min(length, whole - start)
        for start, length, whole in zip(starts, chunk, shape, strict=True)
    ]
    whole = (slice(None), slice(None))
    return Patch(
        whole + tuple(slice(start, start + n) for start, n in zip(starts, lengths, strict=True)),
        whole + tuple(slice(0, n) for n in lengths),
    )


class SlabSource:
    """Decodes bands of one dataset of one file. Called by several threads at once."""

    def __init__(self, geometry: SlabGeometry, files: OpenFiles) -> None:
        self.geometry = geometry
        self._stored = geometry.stored
        self._files = files

    def decode(
        self,
        slab: int,
        band: int,
        rows: Sequence[int],
        targets: Sequence[NDArray[Any]],
        stats: ReadStats,
    ) -> None:
        """Decodes a band and copies samples' frames out of it.

        Args:
            slab: Which slab.
            band: Which band of it.
            rows: Positions of samples in the slab.
            targets: For each of them, an array (1, ...) of the whole sample, whose frames of this
                band are filled.
            stats: Counts what it cost; belongs to the calling thread.

        Raises:
            ReadError: A chunk cannot be read or decoded.
        """
        geometry = self.geometry
        file = self._files.open(self._stored.path, self._stored.identity)
        whole = np.empty(geometry.band_shape, self._stored.dtype)
        first = (slab * geometry.num_bands + band) * len(geometry.patches)
        try:
            if geometry.is_one_chunk:
                self._decode_chunk(file, first, whole, stats)
            else:
                chunk = np.empty(geometry.chunk_shape, self._stored.dtype)
                for number, patch in enumerate(geometry.patches):
                    self._decode_chunk(file, first + number, chunk, stats)
                    whole[patch.in_band] = chunk[patch.in_chunk]
        except (OSError, EOFError, ValueError) as error:
            row = slab * geometry.samples_per_slab + rows[0]
            raise read_error(self._stored, row, str(error)) from error
        frames = geometry.frames(band)
        for row, target in zip(rows, targets, strict=True):
            # A dataset of one dimension has no frames to cut.
            place = (slice(None), frames)[: whole.ndim]
            part = (slice(row, row + 1), slice(0, frames.stop - frames.start))[: whole.ndim]
            target[place] = whole[part]

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
            file.read_into(flat.data, offset)
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
        batch_size: Samples of a batch.
        capacity: Samples to keep for later batches.
        threads: Where tasks are submitted.
    """

    def __init__(
        self,
        column: Column,
        sources: Sequence[object],
        video_set: VideoSet,
        order: NDArray[np.int64],
        *,
        batch_size: int,
        capacity: int,
        threads: Executor,
    ) -> None:
        self._column = column
        self._threads = threads
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
            batch_size,
            np.array([start for _, _, start in self._slabs], np.int64),
            np.array(stops, np.int64),
            capacity - in_reserve,
        )
        self._pool = BufferPool(column.row_nbytes, max_kept=in_reserve)
        self._kept: dict[int, tuple[NDArray[Any], list[Future[ReadStats]]]] = {}

    def start(self, out: NDArray[Any]) -> list[Future[ReadStats]]:
        """Submits what fills the next batch's array, (batch, ...).

        Returns:
            The tasks to wait for.
        """
        step = next(self._steps)
        tasks = [task for decode in step.decodes for task in self._decode(decode, out)]
        copies = [
            (*self._kept[sample], out[place : place + 1])
            for sample, place in zip(step.copied.tolist(), step.places.tolist(), strict=True)
        ]
        tasks += [
            self._threads.submit(_copy, copies[i : i + COPIES_PER_TASK])
            for i in range(0, len(copies), COPIES_PER_TASK)
        ]
        for sample in step.dropped.tolist():
            del self._kept[sample]
        return tasks

    def _decode(self, decode: SlabDecode, out: NDArray[Any]) -> list[Future[ReadStats]]:
        source, number, first = self._slabs[decode.slab]
        shape, dtype = (1, *self._column.sample_shape), self._column.dtype
        kept = [self._pool.lend(shape, dtype) for _ in decode.kept]
        rows = [*(decode.wanted - first).tolist(), *(decode.kept - first).tolist()]
        targets = [*(out[place : place + 1] for place in decode.places.tolist()), *kept]
        tasks = [
            self._threads.submit(_decode_band, source, number, band, rows, targets)
            for band in range(source.geometry.num_bands)
        ]
        for sample, array in zip(decode.kept.tolist(), kept, strict=True):
            self._kept[sample] = (array, tasks)
        return tasks


def _decode_band(
    source: SlabSource,
    slab: int,
    band: int,
    rows: Sequence[int],
    targets: Sequence[NDArray[Any]],
) -> ReadStats:
    """A task: decodes a band into samples of a batch and samples to keep."""
    stats = ReadStats()
    source.decode(slab, band, rows, targets, stats)
    return stats


def _copy(
    copies: Sequence[tuple[NDArray[Any], Sequence[Future[ReadStats]], NDArray[Any]]],
) -> ReadStats:
    """A task: copies kept samples into a batch, once the tasks that fill them are done."""
    for array, tasks, target in copies:
        for task in tasks:
            task.result()
        target[...] = array
    return ReadStats()
