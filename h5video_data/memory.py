"""What the memory of a feed, `read_ahead_bytes`, is used for."""

from __future__ import annotations

from dataclasses import dataclass

from .columns import Column, VideoSet
from .plan import SlabGeometry, planner

# What the feed may hold if `read_ahead_bytes` is not given: these many batches, but no more bytes
# than this.
DEFAULT_BATCHES = 12
DEFAULT_READ_AHEAD_BYTES = 256 << 20

# The same if samples share their chunks: the more of them are kept, the fewer times a chunk is
# decoded.
DEFAULT_SLAB_BYTES = 1 << 30


@dataclass(frozen=True)
class Memory:
    """What `read_ahead_bytes` is used for."""

    window: int
    """Batches being read."""
    reserve: int
    """Batches' buffers that wait for their next turn."""
    kept_samples: int
    """Samples of each column read by slabs that are kept for later batches."""


def share_out(
    video_set: VideoSet, step_nbytes: int, read_ahead_bytes: int | None, num_threads: int
) -> Memory:
    """Shares the memory out.

    Half of it is for batches being read, half for buffers that wait for their next turn while
    TensorFlow works on others. If samples share their chunks, it is best spent on samples that were
    decoded together with others: then as few batches as keep the threads busy are read ahead.

    Args:
        video_set: What is read.
        step_nbytes: Bytes of a batch.
        read_ahead_bytes: The memory, in bytes; None: the default.
        num_threads: Threads that decode.
    """
    by_slabs = _slab_columns(video_set)
    if not by_slabs:
        if read_ahead_bytes is None:
            read_ahead_bytes = min(DEFAULT_BATCHES * step_nbytes, DEFAULT_READ_AHEAD_BYTES)
        num_buffers = read_ahead_bytes // step_nbytes
        window = max(1, num_buffers // 2)
        return Memory(window, max(0, num_buffers - window), 0)
    if read_ahead_bytes is None:
        read_ahead_bytes = DEFAULT_SLAB_BYTES
    num_buffers = min(4, read_ahead_bytes // (4 * step_nbytes))
    window = max(1, num_buffers // 2)
    reserve = max(0, num_buffers - window)
    bands = max(geometry.band_nbytes for _, geometries in by_slabs for geometry in geometries)
    rest = read_ahead_bytes - (window + reserve) * step_nbytes - num_threads * bands
    return Memory(window, reserve, max(0, rest // sum(column.row_nbytes for column, _ in by_slabs)))


def _slab_columns(video_set: VideoSet) -> list[tuple[Column, list[SlabGeometry]]]:
    """The columns that are read by slabs, in some of their files at least."""
    found = []
    for column in video_set.columns:
        planners = [] if column.is_kept_in_memory else [planner(part) for part in column.parts]
        geometries = [item for item in planners if isinstance(item, SlabGeometry)]
        if geometries:
            found.append((column, geometries))
    return found
