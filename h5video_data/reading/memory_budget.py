"""Splits `read_ahead_bytes` between batches in flight, spare buffers and cached samples."""

from __future__ import annotations

from dataclasses import dataclass

from h5video_data.storage.file_identity import ObjectPath
from h5video_data.storage.scratch import ALIGNMENT
from h5video_data.video_set import Component, VideoSet

# The memory if `read_ahead_bytes` is not given: these many batches, but no more bytes than this.
DEFAULT_BATCHES = 192
DEFAULT_READ_AHEAD_BYTES = 512 << 20
# More threads need more bundles in flight, or they wait for the next one to begin.
DEFAULT_BYTES_PER_THREAD = 64 << 20

# The same if samples share their chunks: the more of them are cached, the fewer times a chunk is
# decoded.
DEFAULT_CACHE_BYTES = 1 << 30

# What a cached item costs beside its own bytes: objects of Python, entries of tables. (A million
# samples of 40 bytes took 2 GB.)
CACHED_ITEM_NBYTES = 2 << 10

# Batches of an epoch are read and handed over in bundles of about this many bytes, some
# milliseconds of reading: each bundle costs a fixed third of a millisecond in TensorFlow's Python.
BUNDLE_BYTES = 80 << 20
# The same if samples are decoded, which takes ten times as long; and of a task, so that all threads
# work at the first bundles of an epoch.
DECODED_BUNDLE_BYTES = 40 << 20
DECODED_TASK_BYTES = 8 << 20
MAX_BUNDLE_BATCHES = 32
# A bundle is no more than this part of an epoch, nor of the memory.
MIN_BUNDLES = 6


@dataclass(frozen=True)
class MemoryBudget:
    """The parts that `read_ahead_bytes` is split into."""

    batches_per_bundle: int
    """Batches that are read, and handed to TensorFlow, together."""
    bundles_in_flight: int
    """Bundles being read."""
    spare_bundles: int
    """Buffers of bundles that wait for their next turn."""
    cached_items: int
    """Items of each component read by chunks that are cached for later batches: rows, or clips of
    rows."""
    least_tasks: int = 1
    """Tasks that a bundle is cut into at least."""

    def tasks_per_bundle(self, num_threads: int) -> int:
        """Returns how many tasks a bundle is cut into.

        All threads have work while one of the bundles in flight is complete and handed over.
        """
        return max(self.least_tasks, -(-num_threads // max(1, self.bundles_in_flight - 1)))


def default_read_ahead_bytes(batch_nbytes: int, num_threads: int) -> int:
    """Returns the memory if nothing else is said, and samples do not share chunks, in bytes."""
    most = max(DEFAULT_READ_AHEAD_BYTES, num_threads * DEFAULT_BYTES_PER_THREAD)
    return min(DEFAULT_BATCHES * batch_nbytes, most)


def small_samples_budget(read_ahead_bytes: int | None) -> int:
    """Returns the bytes that datasets of many small samples may take, to be read once and kept.

    Read one by one, or cached one by one, such a sample costs many times its bytes.
    """
    return (DEFAULT_READ_AHEAD_BYTES if read_ahead_bytes is None else read_ahead_bytes) // 2


def split_budget(
    video_set: VideoSet,
    batch_size: int,
    num_batches: int,
    read_ahead_bytes: int | None,
    num_threads: int,
    *,
    min_cached_items: int = 0,
) -> MemoryBudget:
    """Splits the memory.

    Half of it is for bundles being read, half for buffers that wait for their next turn while
    TensorFlow works on others. If samples share their chunks, it is best spent on caching samples
    that were decoded together with others: then as few batches as keep the threads busy are in
    flight.

    Args:
        video_set: What is read.
        batch_size: Samples of a batch.
        num_batches: Batches of an epoch.
        read_ahead_bytes: The memory, in bytes; None: the default.
        num_threads: Threads that read and decode.
        min_cached_items: Items to cache in any case.
    """
    batch_nbytes = batch_size * video_set.sample_nbytes
    # x and y may be of one dataset, which is read once.
    datasets = {id(item.accesses): item for item in video_set.components if item.parts}.values()
    units = [
        (item, access.chunk_rows.unit_nbytes)
        for item in datasets
        for access in item.accesses
        if access.chunk_rows is not None
    ]
    if read_ahead_bytes is not None:
        read_ahead_bytes -= sum(item.budget_nbytes for item in datasets)
    if not units:
        if read_ahead_bytes is None:
            read_ahead_bytes = default_read_ahead_bytes(batch_nbytes, num_threads)
        size = _batches_per_bundle(video_set, batch_size, num_batches, read_ahead_bytes)
        num_buffers = read_ahead_bytes // (size * batch_nbytes)
        in_flight = max(1, num_buffers // 2)
        spare = max(0, num_buffers - in_flight)
        least_tasks = 1
        if _is_decoded(video_set):
            least_tasks = -(-size * batch_nbytes // DECODED_TASK_BYTES)
        return MemoryBudget(size, in_flight, spare, min_cached_items, least_tasks)
    if read_ahead_bytes is None:
        read_ahead_bytes = DEFAULT_CACHE_BYTES
    num_buffers = min(4, read_ahead_bytes // (4 * batch_nbytes))
    in_flight = max(1, num_buffers // 2)
    spare = max(0, num_buffers - in_flight)
    decoding_nbytes = num_threads * max(unit_nbytes for _, unit_nbytes in units)
    rest = read_ahead_bytes - (in_flight + spare) * batch_nbytes - decoding_nbytes
    by_chunks: list[Component] = list({id(item): item for item, _ in units}.values())
    item_nbytes = sum(item.row_nbytes + CACHED_ITEM_NBYTES for item in by_chunks)
    return MemoryBudget(1, in_flight, spare, max(min_cached_items, rest // item_nbytes))


def _batches_per_bundle(
    video_set: VideoSet, batch_size: int, num_batches: int, read_ahead_bytes: int
) -> int:
    if any(batch_size * item.sample_nbytes % ALIGNMENT for item in _large(video_set)):
        return 1  # or TensorFlow would copy every batch but the first
    batch_nbytes = batch_size * video_set.sample_nbytes
    most = min(
        MAX_BUNDLE_BATCHES,
        (DECODED_BUNDLE_BYTES if _is_decoded(video_set) else BUNDLE_BYTES) // batch_nbytes,
        read_ahead_bytes // (MIN_BUNDLES * batch_nbytes),
        num_batches // MIN_BUNDLES,
    )
    return max(1, most)


def _large(video_set: VideoSet) -> list[Component]:
    return [item for item in video_set.components if not item.is_in_memory]


def _is_decoded(video_set: VideoSet) -> bool:
    # A store takes as long to send them.
    is_remote = any(isinstance(path, ObjectPath) for path in video_set.paths)
    return is_remote or any(item.is_decoded for item in _large(video_set))
