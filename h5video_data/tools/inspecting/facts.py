"""Facts of a dataset: how it is stored, how it is read, and what an epoch of it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError, UnsupportedDtypeError
from h5video_data.planning.access import Access, AccessKind, decide_access
from h5video_data.planning.cache_plan import plan_decodes
from h5video_data.reading.memory_budget import (
    CACHED_ITEM_NBYTES,
    small_samples_budget,
    split_budget,
)
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.storage.attributes import read_sample_count
from h5video_data.storage.filters import lacks_run_codec
from h5video_data.storage.hdf5_files import HDF5_ERRORS, OpenedFile
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.layout import describe, dtype_name
from h5video_data.storage.picture_rows import (
    Decoding,
    StoredPictures,
    describe_pictures,
    look_at_pictures,
)
from h5video_data.storage.strings import is_strings
from h5video_data.storage.system import num_processors
from h5video_data.video_set import Component, VideoSet

from .advice import Facts
from .report import DatasetReport

# Samples of a batch, where a figure depends on it.
BATCH_SIZE = 32

# Rows of the epoch that is planned to count its decodes; a longer one is counted on a part of it,
# with the same part of the memory.
MAX_PLANNED_ROWS = 6000


def facts_of(
    file: OpenedFile, name: str, problems: list[str], read_ahead_bytes: int | None
) -> Facts | DatasetReport:
    """Describes a dataset; its report alone if it cannot be read into a tensor as numbers.

    Args:
        file: The file.
        name: The dataset's name in it.
        problems: Takes what would be an error when it is read.
        read_ahead_bytes: The memory, as for a loader.
    """
    dataset = find_dataset(file.file, name)
    own = file if file.holds(dataset) else None
    try:
        pictured = describe_pictures(dataset, Decoding("image"))
        stored = pictured or describe(dataset, name if own else None, file=own)
        is_encoded = isinstance(stored, StoredPictures)
        pictures = look_at_pictures(dataset) if is_encoded else None
    except H5VideoError as error:
        return _unreadable(dataset, name, problems, error)
    num_samples, budget = stored.shape[0], small_samples_budget(read_ahead_bytes)
    (access,) = decide_access((stored,), num_samples, stored.shape[1:], budget_nbytes=budget)
    is_decoded = access.kind == "h5py" or (stored.filters and access.kind != "memory")
    amplification = 1.0
    if is_decoded and stored.row_nbytes:
        amplification = stored.row_decoded_nbytes / stored.row_nbytes
    in_epoch, whole_cache_nbytes = amplification, 0
    if access.chunk_rows is not None and num_samples:
        in_epoch, whole_cache_nbytes = _epoch_of_chunks(access, read_ahead_bytes)
    reads = 1
    if access.ranges is not None and num_samples and stored.row_nbytes:
        first = np.zeros(1, np.int64)
        reads = len(access.ranges.plan(first, first))
    elif access.chunk_rows is not None:
        reads = access.chunk_rows.num_units * access.chunk_rows.chunks_per_unit
    is_chunked = stored.storage == "chunked"
    report = DatasetReport(
        name=name,
        shape=stored.shape,
        dtype=stored.dtype.name,
        storage=stored.storage,
        chunk_shape=stored.chunk_shape,
        pictures=pictures,
        is_padded=is_encoded and dataset.dtype.kind in "iu",
        filters=tuple(item.name for item in stored.filters),
        nbytes=stored.nbytes,
        stored_nbytes=dataset.id.get_storage_size(),
        path=access.kind,
        reason=None if access.kind == "direct" else access.reason,
        read_amplification=amplification,
        epoch_amplification=in_epoch,
        reads_per_sample=reads,
        num_chunks=len(stored.offsets) if is_chunked else 0,
        num_unwritten_chunks=int((stored.offsets < 0).sum()) if is_chunked else 0,
    )
    in_use = _known(lambda: read_sample_count(file.file, name, num_samples).num_samples, None)
    lacks_helper = access.kind in ("direct", "chunks") and lacks_run_codec(stored.filters)
    return Facts(report, access, in_use, whole_cache_nbytes, lacks_helper)


def _epoch_of_chunks(access: Access, read_ahead_bytes: int | None) -> tuple[float, int]:
    """Counts what a shuffled epoch decodes.

    Returns:
        The bytes decoded, over those of its samples; and the memory with which each chunk is
        decoded once.
    """
    stored, rows = access.stored, access.chunk_rows
    assert rows is not None
    count = stored.shape[0]
    item = Component(stored.name, (access,), SampleIndex.stacked(np.array([count])))
    video_set = VideoSet((stored.path,), (stored.identity,), np.array([count]), (item,), (0,), None)
    size, threads = min(BATCH_SIZE, count), num_processors()
    budget = split_budget(video_set, size, -(-count // size), read_ahead_bytes, threads)
    times = decodes_per_epoch(count, rows.num_rows, size, budget.cached_items)
    ideal = stored.row_decoded_nbytes / rows.num_rows / max(1, stored.row_nbytes)
    # The least memory that caches all rows, to a MiB.
    least, most = 0, count * (stored.row_nbytes + CACHED_ITEM_NBYTES) >> 20
    most += (16 * size * stored.row_nbytes + threads * rows.unit_nbytes >> 20) + 1
    while least < most:
        middle = (least + most) // 2
        found = split_budget(video_set, size, -(-count // size), middle << 20, threads)
        least, most = (least, middle) if found.cached_items >= count else (middle + 1, most)
    return times * ideal, least << 20


def decodes_per_epoch(num_rows: int, rows_per_chunk: int, batch_size: int, capacity: int) -> float:
    """Plans a shuffled epoch; returns how many times it decodes each chunk, on average.

    Args:
        num_rows: Rows of the dataset.
        rows_per_chunk: Rows of a chunk.
        batch_size: Rows of a batch.
        capacity: Rows that the cache holds.
    """
    planned = min(num_rows, max(MAX_PLANNED_ROWS, 8 * rows_per_chunk))
    capacity = min(planned, capacity * planned // num_rows)
    starts = np.arange(0, planned, rows_per_chunk)
    stops = np.minimum(starts + rows_per_chunk, planned)
    order: NDArray[np.int64] = np.random.default_rng(0).permutation(planned)
    batch_stops = np.append(np.arange(batch_size, planned, batch_size), planned)
    plans = plan_decodes(order, batch_stops, starts, stops, capacity)
    return sum(len(plan.decodes) for plan in plans) / len(starts)


def _unreadable(dataset: Any, name: str, problems: list[str], error: H5VideoError) -> DatasetReport:
    dtype: np.dtype[Any] | None = _known(lambda: dataset.dtype, None)
    path: AccessKind | Literal["none"] = "none"
    reason: str | None = "it has no samples"
    if is_strings(dataset):
        path, reason = "memory", "strings, which `y` reads as class numbers"
    elif isinstance(error, UnsupportedDtypeError):
        is_number = dtype is None or dtype.kind in "iufc"
        reason = "its dtype is not supported" if is_number else "its values are not numbers"
    elif dataset.is_virtual or dataset.external:
        reason = "its values are not all where it says"
        problems.append(str(error))
    elif dataset.shape:
        reason = "it is damaged, or of a kind that h5py cannot read"
        problems.append(str(error))
    return DatasetReport(
        name=name,
        shape=dataset.shape or (),
        dtype="unknown" if dtype is None else dtype_name(dtype),
        storage=_known(lambda: _storage(dataset), "unknown"),
        chunk_shape=_known(lambda: dataset.chunks, None),
        filters=(),
        nbytes=_known(lambda: (dataset.size or 0) * dataset.id.get_type().get_size(), 0),
        stored_nbytes=_known(dataset.id.get_storage_size, 0),
        path=path,
        reason=reason,
        read_amplification=0.0,
        epoch_amplification=0.0,
    )


def _known(read: Callable[[], Any], otherwise: Any) -> Any:
    """What h5py tells of a dataset, or something else if it fails: what is damaged, or foreign."""
    try:
        return read()
    except (H5VideoError, *HDF5_ERRORS):
        return otherwise


def _storage(dataset: Any) -> str:
    if dataset.is_virtual:
        return "virtual"
    return "chunked" if dataset.chunks else "contiguous"
