"""What the memory of a feed, `read_ahead_bytes`, is used for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from h5video_data import video_set as columns
from h5video_data.errors import MissingFilterError
from h5video_data.planning.byte_ranges import ChunkRows, planner
from h5video_data.video_set import Component, VideoSet, check_readable

from .buffers import ALIGNMENT

# What the feed may hold if `read_ahead_bytes` is not given: these many batches, but no more bytes
# than this.
DEFAULT_BATCHES = 96
DEFAULT_READ_AHEAD_BYTES = 512 << 20

# The same if samples share their chunks: the more of them are kept, the fewer times a chunk is
# decoded.
DEFAULT_SLAB_BYTES = 1 << 30

# Datasets of so many samples, each as small as a label may be, are read once and kept: their epochs
# take 5 to 30 times as long otherwise. With fewer samples, it makes no difference that people see.
MANY_SAMPLES = 10_000

# What a sample that is kept costs beside its own bytes: objects of Python, entries of tables. (A
# million samples of 40 bytes took 2 GB.)
KEPT_SAMPLE_NBYTES = 2 << 10

# Batches of an epoch are read and handed over in groups of about this many bytes, some milliseconds
# of reading: each group costs a fixed third of a millisecond in TensorFlow's Python.
GROUP_BYTES = 80 << 20
# The same if samples are decoded, which takes ten times as long.
DECODED_GROUP_BYTES = 4 << 20
MAX_GROUP_BATCHES = 16
# A group is no more than this share of an epoch, nor of the memory.
MIN_GROUPS = 6


@dataclass(frozen=True)
class MemoryBudget:
    """What `read_ahead_bytes` is used for."""

    group: int
    """Batches of a group: they are read, and handed to TensorFlow, together."""
    window: int
    """Groups being read."""
    reserve: int
    """Groups' buffers that wait for their next turn."""
    kept_samples: int
    """Samples of each column read by slabs that are kept for later batches."""


def default_read_ahead_bytes(batch_nbytes: int) -> int:
    """What a feed may hold if nothing else is said, and samples do not share chunks, in bytes."""
    return min(DEFAULT_BATCHES * batch_nbytes, DEFAULT_READ_AHEAD_BYTES)


def with_small_samples_kept(video_set: VideoSet, read_ahead_bytes: int | None) -> VideoSet:
    """The set, with datasets of many small samples, such as tables of features, read once and kept.

    Read one by one, or kept one by one, such a sample costs many times its bytes. Half of
    `read_ahead_bytes` may be used so.
    """
    left = (DEFAULT_READ_AHEAD_BYTES if read_ahead_bytes is None else read_ahead_bytes) // 2
    kept: list[Component] = []
    for column in video_set.columns:
        is_small = column.row_nbytes <= columns.MEMORY_ROW_BYTES and column.clip is None
        if (
            is_small
            and not column.is_kept_in_memory
            and video_set.num_samples >= MANY_SAMPLES
            and _nbytes(column) <= left
            and _can_hdf5_read(column, video_set.counts.tolist())
        ):
            left -= _nbytes(column)
            column = replace(column, is_read_once=True)
        kept.append(column)
    return replace(video_set, columns=tuple(kept))


def _nbytes(column: Component) -> int:
    return sum(part.nbytes for part in column.parts)


def _can_hdf5_read(column: Component, counts: list[int]) -> bool:
    try:
        for part, count in zip(column.parts, counts, strict=True):
            if part.filters:
                check_readable(part, count)
    except MissingFilterError:
        return False
    return True


def split_budget(
    video_set: VideoSet,
    batch_size: int,
    num_batches: int,
    read_ahead_bytes: int | None,
    num_threads: int,
) -> MemoryBudget:
    """Shares the memory out.

    Half of it is for groups being read, half for buffers that wait for their next turn while
    TensorFlow works on others. If samples share their chunks, it is best spent on samples that were
    decoded together with others: then as few batches as keep the threads busy are read ahead.

    Args:
        video_set: What is read.
        batch_size: Samples of a batch.
        num_batches: Batches of an epoch.
        read_ahead_bytes: The memory, in bytes; None: the default.
        num_threads: Threads that decode.
    """
    batch_nbytes = batch_size * video_set.row_nbytes
    by_slabs = _slab_columns(video_set)
    if read_ahead_bytes is not None:
        read_ahead_bytes -= sum(_nbytes(item) for item in video_set.columns if item.is_read_once)
    if not by_slabs:
        if read_ahead_bytes is None:
            read_ahead_bytes = default_read_ahead_bytes(batch_nbytes)
        group = _group(video_set, batch_size, num_batches, read_ahead_bytes)
        num_buffers = read_ahead_bytes // (group * batch_nbytes)
        window = max(1, num_buffers // 2)
        return MemoryBudget(group, window, max(0, num_buffers - window), 0)
    if read_ahead_bytes is None:
        read_ahead_bytes = DEFAULT_SLAB_BYTES
    num_buffers = min(4, read_ahead_bytes // (4 * batch_nbytes))
    window = max(1, num_buffers // 2)
    reserve = max(0, num_buffers - window)
    bands = max(geometry.band_nbytes for _, geometries in by_slabs for geometry in geometries)
    rest = read_ahead_bytes - (window + reserve) * batch_nbytes - num_threads * bands
    kept_nbytes = sum(column.row_nbytes + KEPT_SAMPLE_NBYTES for column, _ in by_slabs)
    kept_samples = max(0, rest // kept_nbytes)
    return MemoryBudget(1, window, reserve, kept_samples)


def _group(video_set: VideoSet, batch_size: int, num_batches: int, read_ahead_bytes: int) -> int:
    """How many batches make a group."""
    large = [column for column in video_set.columns if not column.is_kept_in_memory]
    if any(batch_size * column.row_nbytes % ALIGNMENT for column in large):
        return 1  # or TensorFlow would copy every batch but the first
    is_decoded = any(column.is_decoded for column in large)
    batch_nbytes = batch_size * video_set.row_nbytes
    most = min(
        MAX_GROUP_BATCHES,
        (DECODED_GROUP_BYTES if is_decoded else GROUP_BYTES) // batch_nbytes,
        read_ahead_bytes // (MIN_GROUPS * batch_nbytes),
        num_batches // MIN_GROUPS,
    )
    return max(1, most)


def _slab_columns(video_set: VideoSet) -> list[tuple[Component, list[ChunkRows]]]:
    """The columns that are read by slabs, in some of their files at least."""
    found = []
    for column in video_set.columns:
        planners = [] if column.is_kept_in_memory else [planner(part) for part in column.parts]
        geometries = [item for item in planners if isinstance(item, ChunkRows)]
        if geometries:
            found.append((column, geometries))
    return found
