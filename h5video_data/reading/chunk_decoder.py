"""Reads chunks that hold (parts of) many rows, or that cut through a row of pixels.

See `planning.chunk_rows` for chunk rows and decode units; `chunk_assembler` caches what is decoded
before it is needed.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.planning.byte_ranges import ReadPlan
from h5video_data.planning.chunk_rows import ChunkRows
from h5video_data.sampling.clips import Clip
from h5video_data.storage.scratch import scratch

from .byte_sources import (
    BYTES_PER_READ,
    ByteSource,
    ByteSources,
    RangeError,
    check_source,
)
from .read_stats import ReadStats
from .sample_sources import read_error
from .stored_chunks import decode_chunks


class ChunkRowDecoder:
    """Decodes units of one dataset of one file. Called by several threads at once.

    Args:
        chunk_rows: How its chunks hold its rows.
        clip: Which frames of each row to deliver; None: all of them.
        sources: Opens the file.
    """

    def __init__(self, chunk_rows: ChunkRows, clip: Clip | None, sources: ByteSources) -> None:
        self.chunk_rows = chunk_rows
        # A clip of frames that come first decides what is decoded; another one, what is copied.
        self._clip = clip if clip is not None and not clip.axis else None
        self._cut = clip if clip is not None and clip.axis else None
        self._stored = chunk_rows.stored
        self._sources = sources

    def decode(
        self,
        chunk_row: int,
        unit: int,
        rows: Sequence[int],
        first_frames: Sequence[int],
        targets: Sequence[NDArray[Any]],
        stats: ReadStats,
    ) -> None:
        """Decodes a unit and copies rows' frames out of it.

        Args:
            chunk_row: Which chunk row.
            unit: Which decode unit of it.
            rows: Positions of rows in the chunk row.
            first_frames: The first frame of each one's clip, if there is a clip.
            targets: For each of them, an array (1, ...) of the row as it is read, whose frames of
                this unit are filled.
            stats: Counts what it cost; belongs to the calling thread.

        Raises:
            ReadError: A chunk cannot be read or decoded.
        """
        stored, cost = self._stored, ReadStats()
        source = self._sources.open(stored.path, stored.identity)
        try:
            found = self._read_unit(source, self.chunk_rows.chunks(chunk_row, unit), rows, cost)
        except (RangeError, ValueError, MemoryError) as error:
            check_source(source, stored.path, stored.identity)
            row = chunk_row * self.chunk_rows.num_rows + rows[0]
            raise read_error(stored, row, error) from error.__cause__ or error
        stats.add(cost)
        check_source(source, stored.path, stored.identity)
        for row_in_unit, first, target in zip(found, first_frames, targets, strict=True):
            wanted, in_unit = self._frames(unit, first)
            # A dataset of one dimension has no frames to cut.
            frames = target[0, wanted] if target.ndim > 1 else target
            if self._cut is None:
                self._copy(row_in_unit, in_unit, frames)
                continue
            whole = self._scratch("frames", (len(frames), *stored.shape[2:]))
            self._copy(row_in_unit, in_unit, whole)
            frames[...] = self._cut.cut(whole, first)

    def _copy(self, row_in_unit: NDArray[Any], in_unit: slice, frames: NDArray[Any]) -> None:
        """Copies frames of a row out of a decode unit."""
        for region in self.chunk_rows.regions:
            region.copy(row_in_unit, in_unit, frames)

    def is_needed(self, unit: int, first_frames: Sequence[int]) -> bool:
        """Tells whether a unit holds frames of any of the clips that begin at these frames."""
        if self._clip is None:
            return True
        wanted = (self._frames(unit, first)[0] for first in set(first_frames))
        return any(frames.start < frames.stop for frames in wanted)

    def _frames(self, unit: int, first: int) -> tuple[slice, slice]:
        """Finds the frames of a row, or of its clip from frame `first` on, in a decode unit.

        Returns:
            Their places in the row as it is read, and in the unit.
        """
        held = self.chunk_rows.frames(unit)
        if self._clip is None:
            return slice(held.start, held.stop), slice(0, len(held))
        frames = self._clip.frames(first)
        wanted = range(frames.start, frames.stop, frames.step)
        begin, end = (bisect.bisect_left(wanted, edge) for edge in (held.start, held.stop))
        start = frames.start + begin * frames.step - held.start
        return slice(begin, end), slice(start, start + (end - begin) * frames.step, frames.step)

    def _read_unit(
        self, source: ByteSource, chunks: slice, rows: Sequence[int], stats: ReadStats
    ) -> list[NDArray[Any]]:
        """Reads what a unit holds of each of the rows: (chunks along each axis..., frames, ...)."""
        layout, stored = self.chunk_rows, self._stored
        offsets, chunk_nbytes = stored.offsets[chunks], layout.chunk_nbytes
        row_nbytes = chunk_nbytes // layout.num_rows
        are_few = len(rows) * (BYTES_PER_READ + row_nbytes) < BYTES_PER_READ + chunk_nbytes
        if are_few and not stored.filters:
            found = self._scratch("unit", (len(rows), *layout.grid, *layout.row_shape))
            starts = offsets + row_nbytes * np.array(rows)[:, np.newaxis]
            self._read(source, np.where(offsets < 0, -1, starts).ravel(), found, stats)
            return list(found)
        whole = self._scratch("unit", (*layout.grid, *layout.chunk_shape))
        if stored.filters:
            self._decode(source, chunks, whole, stats)
        else:
            self._read(source, offsets, whole, stats)
            stats.num_chunks += int((offsets >= 0).sum())
        by_row = np.moveaxis(whole, len(layout.grid), 0)
        return [by_row[row] for row in rows]

    def _scratch(self, purpose: str, shape: tuple[int, ...]) -> NDArray[Any]:
        # Copying from there into a row turns the order of bytes.
        dtype = self._stored.file_dtype
        return scratch(purpose, math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _read(
        self, source: ByteSource, offsets: NDArray[np.int64], out: NDArray[Any], stats: ReadStats
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
        source.announce(offsets, sizes)
        source.read_ranges(offsets, sizes, starts, target)
        stats.read_seconds += time.perf_counter() - begin
        stats.read_bytes += int(sizes.sum())
        stats.num_reads += len(sizes)

    def _decode(
        self, source: ByteSource, chunks: slice, out: NDArray[Any], stats: ReadStats
    ) -> None:
        """Fills an array with decoded chunks."""
        stored = self._stored
        offsets, places = stored.offsets[chunks], out.reshape(len(stored.offsets[chunks]), -1)
        is_written = offsets >= 0
        for number in np.flatnonzero(~is_written).tolist():
            places[number] = stored.fill_value
        chosen = np.flatnonzero(is_written)
        if not len(chosen):
            return
        starts = self.chunk_rows.chunk_nbytes * np.arange(len(offsets))
        stops = starts + self.chunk_rows.chunk_nbytes
        plan = ReadPlan(offsets, stored.sizes[chunks], stored.masks[chunks], starts, stops)
        source.announce(offsets[chosen], plan.sizes[chosen])
        decode_chunks(source, stored.filters, plan, chosen, out.reshape(-1).view(np.uint8), stats)
        stats.num_reads += len(chosen)
