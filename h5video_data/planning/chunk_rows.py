"""The layout of chunks that hold many rows of a dataset, and copies of rows out of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from h5video_data.storage.layout import StoredArray


@dataclass(frozen=True)
class Region:
    """Chunks of a decode unit that a row is copied out of in one go.

    They are all whole, or an edge of the dataset cuts them off alike. All fields have an entry for
    each axis from the third on.
    """

    chunks: tuple[slice, ...]
    """The chunks."""
    inside: tuple[slice, ...]
    """The part of each chunk that counts: an edge chunk is stored whole."""
    in_frame: tuple[slice, ...]
    """The part of a frame that they fill."""
    split: tuple[int, ...]
    """The shape of that in chunks and cells of a chunk: (chunks, cells, chunks, cells, ...)."""

    def copy(self, unit: NDArray[Any], in_unit: slice, out: NDArray[Any]) -> None:
        """Copies frames of one row.

        Args:
            unit: The row in a decode unit: (chunks along each axis..., frames, cells along each
                axis).
            in_unit: Which of these frames.
            out: (frames, ...), takes them.
        """
        source = unit[self.chunks + (in_unit,) + self.inside]
        rank = len(self.chunks)
        axes = [axis for i in range(rank) for axis in (i, rank + 1 + i)]
        # Cutting axes in parts gives a view, whatever the strides.
        target = out[(slice(None),) + self.in_frame].reshape(len(out), *self.split)
        target[...] = source.transpose(rank, *axes)


class ChunkRows:
    """The chunk rows, decode units and regions of a chunked dataset.

    A *chunk row* is the rows of a dataset that share their chunks: those with the same position in
    the chunk grid along the first axis. A *decode unit* is the part of a chunk row that is one
    chunk deep along the second axis (frames), and whole along the others:

        X (rows 0..9, frames 0..7, height, width), chunks (4, 2, ...)

             frames 0 1 | 2 3 | 4 5 | 6 7
        rows 0..3    unit 0 |  1  |  2  |  3      chunk row 0
        rows 4..7       ...                       chunk row 1
        rows 8..9       ...                       chunk row 2

    A decode unit is what one task decodes, chunk after chunk; then each row is copied out of it, a
    *region* at a time.

    A dataset of one dimension counts as one of (rows, 1).

    Attributes:
        stored: The dataset.
        chunk_shape: The shape of a chunk.
        num_chunk_rows: Chunk rows of the dataset.
        num_units: Decode units of a chunk row.
        grid: Chunks of a decode unit along each axis from the third on.
        regions: They fill the frames of a row, without overlap.
    """

    def __init__(self, stored: StoredArray) -> None:
        if stored.chunk_shape is None:
            raise ValueError(f"{stored.name} has no chunks")
        self.stored = stored
        one = (1,) if len(stored.shape) == 1 else ()
        shape, self.chunk_shape = stored.shape + one, stored.chunk_shape + one
        self.num_chunk_rows, self.num_units, *grid = (
            -(-length // chunk) for length, chunk in zip(shape, self.chunk_shape, strict=True)
        )
        self.grid = tuple(grid)
        self.num_frames = shape[1]
        axes = itertools.product(*map(_pieces, shape[2:], self.chunk_shape[2:]))
        self.regions = tuple(_region(pieces) for pieces in axes)

    @property
    def num_rows(self) -> int:
        """Rows of a chunk row; the last one may have fewer."""
        return self.chunk_shape[0]

    @property
    def chunks_per_unit(self) -> int:
        """Chunks of a decode unit."""
        return math.prod(self.grid)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of what a chunk holds of a row: (frames, ...)."""
        return self.chunk_shape[1:]

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunk_shape) * self.stored.dtype.itemsize

    @property
    def unit_nbytes(self) -> int:
        """Memory that decoding a unit takes."""
        return self.chunks_per_unit * self.chunk_nbytes

    def frames(self, unit: int) -> range:
        """The frames of a row that a decode unit holds."""
        begin = unit * self.chunk_shape[1]
        return range(begin, min(begin + self.chunk_shape[1], self.num_frames))

    def chunks(self, chunk_row: int, unit: int) -> slice:
        """The chunks of a decode unit, in the dataset's chunk table."""
        first = (chunk_row * self.num_units + unit) * self.chunks_per_unit
        return slice(first, first + self.chunks_per_unit)


# Along one axis: which chunks, what of each, what of a frame, and that in chunks and cells.
_Piece = tuple[slice, slice, slice, tuple[int, int]]


def _pieces(length: int, chunk: int) -> list[_Piece]:
    count, rest = divmod(length, chunk)
    whole = (slice(0, count), slice(0, chunk), slice(0, count * chunk), (count, chunk))
    edge = (slice(count, count + 1), slice(0, rest), slice(count * chunk, length), (1, rest))
    return [whole] * (count > 0) + [edge] * (rest > 0)


def _region(pieces: Sequence[_Piece]) -> Region:
    chunks, inside, in_frame, split = zip(*pieces, strict=True) if pieces else ((),) * 4
    return Region(chunks, inside, in_frame, tuple(itertools.chain.from_iterable(split)))
