"""Decides how each dataset is read, and why: once, when its set is opened.

The reader, the memory budget, `inspect` and `repack` all go by the `Access` that is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from h5video_data.storage.filters import undecodable
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.picture_rows import StoredPictures

from .byte_ranges import RowPlanner, row_planner
from .chunk_rows import ChunkRows

AccessKind: TypeAlias = Literal["memory", "direct", "chunks", "pictures", "h5py"]

# Labels, weights and features (samples of one dimension at the most) are read once and kept if they
# are small: a read for a label of a few bytes costs as much as one for a frame.
MEMORY_ROW_BYTES = 4 << 10
MEMORY_BYTES = 32 << 20

# Datasets of so many samples, each as small as a label may be, are read once and kept: their epochs
# take 5 to 30 times as long otherwise. With fewer samples, it makes no visible difference.
MANY_SAMPLES = 10_000


@dataclass(frozen=True, eq=False, slots=True)
class Access:
    """The way that one dataset of one file is read.

    By kind:
        "memory": All values are read by h5py when reading begins, and kept.
        "direct": A row is whole byte ranges of the file, which are read, or read and decoded,
            straight into its place.
        "chunks": A chunk holds several rows, and is decoded for all of them.
        "pictures": A row is an encoded picture, whose bytes are read as `encoded` says, or as
            `stored`, a `StoredPictures`, does if their lengths vary.
        "h5py": HDF5 reads it, with one lock for the whole process.
    """

    kind: AccessKind
    stored: StoredArray
    reason: str
    """Why, for people."""
    ranges: RowPlanner | None = None
    """Plans the byte ranges, if `kind` is "direct"."""
    chunk_rows: ChunkRows | None = None
    """The layout of its chunks, if `kind` is "chunks"."""
    encoded: Access | None = None
    """How the bytes of pictures are read, if `kind` is "pictures" and they have a fixed length."""
    without_memory: Access | None = None
    """The way to read it if its values cannot be kept; None for labels, whose values always are,
    and take no part of the memory budget."""

    @property
    def has_positioned_reads(self) -> bool:
        """Whether its bytes are read past HDF5 while an epoch runs."""
        stored = self.stored
        if not isinstance(stored, StoredPictures):
            return self.kind in ("direct", "chunks")
        return stored.variable is not None or (
            self.encoded is not None and self.encoded.kind != "h5py"
        )


def direct_access(stored: StoredArray) -> Access:
    """Decides how a dataset is read whose values are not kept in memory."""
    if isinstance(stored, StoredPictures):
        return _picture_access(stored)
    if stored.obstacle:
        return Access("h5py", stored, stored.obstacle)
    unknown = undecodable(stored.filters_in_use)
    if unknown:
        return Access("h5py", stored, f"its filter {unknown[0].name!r} is decoded by HDF5")
    ranges = row_planner(stored)
    if isinstance(ranges, str):
        return Access("chunks", stored, ranges, chunk_rows=ChunkRows(stored))
    reason = "it is contiguous" if stored.chunk_shape is None else "its chunks are parts of a row"
    return Access("direct", stored, reason, ranges=ranges)


def _picture_access(stored: StoredPictures) -> Access:
    encoded = None if stored.fixed is None else direct_access(stored.fixed)
    reason = f"its rows are pictures ({stored.codec.upper()})"
    obstacle = stored.heap_obstacle
    if encoded is not None and encoded.kind == "chunks":
        reason += f"; {encoded.reason}"
    elif encoded is not None and encoded.kind == "h5py":
        obstacle = encoded.reason
    if obstacle is not None:
        reason += f", whose bytes are read by h5py: {obstacle}"
    return Access("pictures", stored, reason, encoded=encoded)


def decide_access(
    parts: Sequence[StoredArray],
    num_samples: int,
    sample_shape: tuple[int, ...],
    *,
    is_whole: bool = True,
    budget_nbytes: int = 0,
) -> tuple[Access, ...]:
    """Decides how the parts of a component are read.

    Args:
        parts: How it is stored in each file.
        num_samples: How many samples there are.
        sample_shape: The shape of a sample as it is read.
        is_whole: Whether whole rows are read; only these can be kept beyond labels.
        budget_nbytes: Memory for datasets of many small samples, beyond labels.

    Returns:
        An access for each part, all or none of them of the kind "memory".
    """
    row_nbytes = max(part.row_nbytes for part in parts)
    nbytes = sum(part.nbytes for part in parts)
    is_small = row_nbytes <= MEMORY_ROW_BYTES
    if is_small and nbytes <= MEMORY_BYTES and len(sample_shape) <= 1:
        reason = "it is small, as labels are: read once and kept"
        return tuple(Access("memory", part, reason) for part in parts)
    found = tuple(map(direct_access, parts))
    if any(access.kind == "pictures" for access in found):
        return found
    if is_small and is_whole and num_samples >= MANY_SAMPLES and nbytes <= budget_nbytes:
        reason = "it has many small samples: read once and kept"
        return tuple(
            Access("memory", access.stored, reason, without_memory=access) for access in found
        )
    return found
