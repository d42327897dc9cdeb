"""Reads chunks that hold (parts of) many samples, or that cut through the rows of a sample.

See `plan.ChunkRows` for what slabs and bands are; `window` keeps samples for later batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.planning.byte_ranges import ChunkRows
from h5video_data.sampling.clips import Clip
from h5video_data.storage.file_identity import check_identity
from h5video_data.storage.filters import decode_chunk
from h5video_data.storage.scratch import scratch

from .sample_sources import BYTES_PER_READ, OpenFile, OpenFiles, ReadStats, read_error


class ChunkRowDecoder:
    """Decodes bands of one dataset of one file. Called by several threads at once."""

    def __init__(self, geometry: ChunkRows, clip: Clip | None, files: OpenFiles) -> None:
        self.geometry = geometry
        # A clip of frames that come first decides what is decoded; another one, what is copied.
        self._clip = clip if clip is not None and not clip.axis else None
        self._cut = clip if clip is not None and clip.axis else None
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
        except (OSError, EOFError, ValueError, MemoryError) as error:
            check_identity(stored.path, stored.identity, file.fd)
            row = slab * self.geometry.samples_per_slab + rows[0]
            raise read_error(stored, row, error) from error
        file.judge(cost)
        stats.add(cost)
        check_identity(stored.path, stored.identity, file.fd)
        for sample, first, target in zip(samples, firsts, targets, strict=True):
            wanted, in_band = self.frames(band, first)
            # A dataset of one dimension has no frames to cut.
            frames = target[0, wanted] if target.ndim > 1 else target
            if self._cut is None:
                self._copy(sample, in_band, frames)
                continue
            whole = self._scratch("frames", (len(frames), *stored.shape[2:]))
            self._copy(sample, in_band, whole)
            frames[...] = self._cut.cut(whole, first)

    def _copy(self, sample: NDArray[Any], in_band: slice, frames: NDArray[Any]) -> None:
        """Copies frames of a sample out of a band."""
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
        # Copying from there into a sample turns the order of bytes.
        dtype = self._stored.file_dtype
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
