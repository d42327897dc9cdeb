"""Plans the byte ranges of a file that a batch needs, and where each lands. No files.

A dataset can be planned here if each sample is made of whole byte ranges of the file: a contiguous
dataset, or chunks that hold (part of) one sample and come out as contiguous bytes of it:

    chunk (1, 16, 3, 112, 112)    the whole sample
    chunk (1, 4, 3, 112, 112)     four frames
    chunk (1, 1, 1, 112, 112)     a channel of a frame

Without filters, the same holds for chunks of many samples: each is a byte range of the chunk.
Everything else that has a chunk table is decoded by chunk rows: see `chunk_rows`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.sampling.clips import Clip
from h5video_data.storage.layout import StoredArray


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """Byte ranges of one file, and where each lands; the arrays are parallel, (ranges,)."""

    offsets: NDArray[np.int64]
    """First byte in the file; -1: never written, so the range is filled with the fill value."""
    sizes: NDArray[np.int64]
    """Stored bytes."""
    masks: NDArray[np.uint32]
    """Filter mask of the chunk."""
    starts: NDArray[np.int64]
    """First byte in the destination."""
    stops: NDArray[np.int64]
    """End (exclusive) in the destination. An unfiltered range is read to just there; a filtered
    one may decode to more bytes, which are dropped: the rest of an edge chunk, frames that are not
    wanted."""
    skips: NDArray[np.int64] | None = None
    """First byte of a decoded chunk that counts; None: 0 for all."""

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, eq=False, slots=True)
class RowPlanner:
    """Plans the reading of samples of one dataset, or of a clip of each.

    Each sample is made of the same number of pieces, one a chunk: piece i of a sample holds its
    bytes from `starts[i]` to `stops[i]` (exclusive).
    """

    stored: StoredArray
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    clip: Clip | None = None
    """The frames of each row to read; None: all of them."""

    def of_clips(self, clip: Clip | None) -> RowPlanner:
        """Returns a planner of clips of the rows."""
        return replace(self, clip=clip)

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of a decoded chunk; an edge chunk is stored whole, so it has as many."""
        shape = self.stored.chunk_shape or self.stored.shape[1:]
        return math.prod(shape) * self.stored.dtype.itemsize

    @property
    def frame_nbytes(self) -> int:
        """Bytes of a frame."""
        return math.prod(self.stored.shape[2:]) * self.stored.dtype.itemsize

    @property
    def row_nbytes(self) -> int:
        """Bytes of a sample, or of its clip."""
        if self.clip is None:
            return self.stored.row_nbytes
        return self.clip.num_frames * self.frame_nbytes

    def plan(
        self,
        rows: NDArray[np.int64],
        out_rows: NDArray[np.int64],
        first_frames: NDArray[np.int64] | None = None,
    ) -> ReadPlan:
        """Plans the reading of samples into rows of a buffer.

        Args:
            rows: int64 (n,), positions along the first axis, in any order, repeats allowed.
            out_rows: int64 (n,), the row of the buffer where each lands.
            first_frames: int64 (n,), the first frame of each sample's clip, if there is a clip.

        Returns:
            The ranges, in the order of `rows`. Unfiltered ranges that follow each other both in the
            file and in the buffer are one.
        """
        begin = (out_rows * self.row_nbytes)[:, np.newaxis]
        if self.clip is not None and first_frames is not None:
            return self._plan_clips(rows, begin, first_frames[:, np.newaxis])
        starts, stops = (begin + self.starts).ravel(), (begin + self.stops).ravel()
        stored = self.stored
        if stored.chunk_shape is None:
            offsets = stored.offsets[0] + rows * stored.row_nbytes
            masks = np.zeros(len(rows), np.uint32)
            return _merged(ReadPlan(offsets, stops - starts, masks, starts, stops))
        return self._of_chunks(rows[:, np.newaxis], np.arange(len(self.starts)), 0, starts, stops)

    def _of_chunks(
        self,
        rows: NDArray[np.int64],
        pieces: NDArray[np.int64],
        inside: NDArray[np.int64] | int,
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
    ) -> ReadPlan:
        """Plans ranges: `pieces` of `rows`, from byte `inside` of each piece on."""
        stored = self.stored
        assert stored.chunk_shape is not None
        chunk_rows, in_chunk = np.divmod(rows, stored.chunk_shape[0])
        chunks = (chunk_rows * len(self.starts) + pieces).ravel()
        offsets, masks = stored.offsets[chunks], stored.masks[chunks]
        row_nbytes = self.chunk_nbytes // stored.chunk_shape[0]
        skips: NDArray[Any] = np.broadcast_to(
            in_chunk * row_nbytes + inside, (chunk_rows + pieces).shape
        ).ravel()
        if stored.filters:
            return ReadPlan(offsets, stored.sizes[chunks], masks, starts, stops, skips)
        offsets = np.where(offsets < 0, offsets, offsets + skips)
        return _merged(ReadPlan(offsets, stops - starts, masks, starts, stops))

    def _plan_clips(
        self, rows: NDArray[np.int64], begin: NDArray[np.int64], first_frames: NDArray[np.int64]
    ) -> ReadPlan:
        """Plans clips: `begin` and `first_frames` are (n, 1)."""
        assert self.clip is not None
        stored = self.stored
        rows = rows[:, np.newaxis]
        frames = first_frames + self.clip.stride * np.arange(self.clip.num_frames)
        starts = begin + self.frame_nbytes * np.arange(self.clip.num_frames)
        if stored.chunk_shape is None:
            offsets = stored.offsets[0] + rows * stored.row_nbytes + frames * self.frame_nbytes
            starts = starts.ravel()
            sizes, masks = np.full(len(starts), self.frame_nbytes), np.zeros(len(starts), np.uint32)
            return _merged(ReadPlan(offsets.ravel(), sizes, masks, starts, starts + sizes))
        depth = stored.chunk_shape[1]
        if depth == 1:
            # One chunk a frame, or several: those of the first frame say where theirs go.
            per_frame = len(self.starts) // stored.shape[1]
            pieces = frames[:, :, np.newaxis] * per_frame + np.arange(per_frame)
            return self._of_chunks(
                rows[:, :, np.newaxis],
                pieces,
                0,
                (starts[:, :, np.newaxis] + self.starts[:per_frame]).ravel(),
                (starts[:, :, np.newaxis] + self.stops[:per_frame]).ravel(),
            )
        pieces, inside = np.divmod(frames, depth)
        skips = inside * self.frame_nbytes
        if not stored.filters:
            starts = starts.ravel()
            return self._of_chunks(rows, pieces, skips, starts, starts + self.frame_nbytes)
        # Frames of the same chunk are decoded together.
        is_first = np.diff(pieces, axis=1, prepend=-1) > 0
        of_row, of_frame = np.nonzero(is_first)
        ends = np.append(of_frame[1:], 0)
        counts = np.where(ends > of_frame, ends, self.clip.num_frames) - of_frame
        starts = starts[is_first]
        return self._of_chunks(
            rows[of_row, 0],
            pieces[is_first],
            skips[is_first],
            starts,
            starts + counts * self.frame_nbytes,
        )


def row_planner(stored: StoredArray) -> RowPlanner | str:
    """The planner of a dataset, or what stands in the way, as text for a person."""
    if stored.chunk_shape is None:
        return RowPlanner(stored, *_one_piece(stored.row_nbytes))
    if stored.chunk_shape[0] != 1 and stored.filters:
        return f"its chunks hold {stored.chunk_shape[0]} samples each"
    shape, chunk = stored.shape[1:], stored.chunk_shape[1:]
    if not chunk:
        return RowPlanner(stored, *_one_piece(stored.dtype.itemsize))
    # Chunks of length 1 along the leading axes, then one axis cut anywhere, then whole axes.
    axis = next((i for i, length in enumerate(chunk[:-1]) if length != 1), len(chunk) - 1)
    if chunk[axis + 1 :] != shape[axis + 1 :]:
        return f"its chunks of {stored.chunk_shape} cut through the rows of a sample"
    inner = math.prod(shape[axis + 1 :]) * stored.dtype.itemsize
    return RowPlanner(stored, *_pieces(math.prod(shape[:axis]), shape[axis], chunk[axis], inner))


# All parts of a set have rows of one shape, and there may be many parts.


@functools.lru_cache(8)
def _one_piece(nbytes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns where the one piece of a row begins and ends, in bytes."""
    return _read_only(np.zeros(1, np.int64)), _read_only(np.array([nbytes], np.int64))


@functools.lru_cache(8)
def _pieces(
    num_blocks: int, length: int, chunk: int, inner: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns where the pieces of a row begin and end, in bytes.

    Args:
        num_blocks: Blocks of a row that follow each other.
        length: Of the axis along which each of them is cut.
        chunk: The length of a piece along it; the last one may be shorter.
        inner: Bytes of one step along it.
    """
    cuts = np.arange(0, length, chunk)
    ends = np.minimum(cuts + chunk, length)
    blocks = (np.arange(num_blocks) * length)[:, np.newaxis]
    begins, stops = ((inner * (blocks + places)).ravel() for places in (cuts, ends))
    return _read_only(begins), _read_only(stops)


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.flags.writeable = False
    return array


def _merged(plan: ReadPlan) -> ReadPlan:
    """Joins ranges that follow each other both in the file and in the destination."""
    follows = plan.offsets[1:] == plan.offsets[:-1] + plan.sizes[:-1]
    follows &= plan.starts[1:] == plan.stops[:-1]
    follows &= (plan.offsets[1:] >= 0) & (plan.offsets[:-1] >= 0)
    if not follows.any():
        return plan
    first = np.flatnonzero(np.concatenate([[True], ~follows]))
    last = np.concatenate([first[1:] - 1, [len(plan) - 1]])
    starts, stops = plan.starts[first], plan.stops[last]
    return ReadPlan(plan.offsets[first], stops - starts, plan.masks[first], starts, stops)
