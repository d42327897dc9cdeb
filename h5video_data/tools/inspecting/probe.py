"""Predicts samples per second: reads and decodes for two seconds, as a training would.

What is timed is the loader's own reading, by its threads, without TensorFlow. Where chunks hold
many samples, an epoch of exact shuffle decodes more in its beginning, while the cache is empty,
than later. So whole chunks are timed there, each decoded once, and the rate is divided by how many
times a shuffled epoch decodes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

from h5video_data.errors import H5VideoError
from h5video_data.loader import VideoLoader
from h5video_data.opening import Paths
from h5video_data.storage.hdf5_files import HDF5_ERRORS
from h5video_data.storage.system import disk_nbytes

from .facts import BATCH_SIZE, decodes_per_epoch
from .opened_set import OpenedSet
from .report import FileReport

PROBE_SECONDS = 2.0
# The part of it that is not timed: opening, threads that start; and the most that is not timed
# as long as memory is touched for the first time.
WARM_UP, MOST_WARM_UP = 0.25, 0.6
# What TensorFlow takes for a bundle, for each of its batches, and to begin an epoch: seconds of a
# thread, see docs/performance.md. While it takes them, one that reads has no processor, or no lock.
BUNDLE_SECONDS, BATCH_SECONDS, EPOCH_SECONDS = 0.3e-3, 0.1e-3, 5e-3
# Memory that is read into, or that of six batches. A loader has four times as much, which takes up
# to two seconds to be touched for the first time.
PROBE_BYTES = 128 << 20
# Several bundles are read at once: the time between few of them says nothing, and all are counted,
# from the start on.
_MIN_BUNDLES = 4
# Datasets that share it, the largest.
MAX_PROBED = 4


class Prediction(NamedTuple):
    """What a loader would give."""

    samples_per_second: float
    from_disk: float | None
    """Part of the bytes that came from a disk, not from the page cache; None: not known."""


def rate(
    epochs: Callable[[], Iterable[int]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    *,
    num_buffers: int = 0,
) -> float:
    """Measures samples per second, from the second bundle after the warm-up on.

    Args:
        epochs: Each call begins an epoch; it yields the number of samples of each bundle.
        seconds: How long to read.
        clock: Tells the time in seconds.
        num_buffers: Bundles whose memory is touched for the first time, which takes time.
    """
    begin = now = clock()
    times: list[float] = []
    counts: list[int] = []
    while now - begin < seconds:
        num_before = len(counts)
        for num_samples in epochs():
            now = clock()
            times.append(now - begin)
            counts.append(num_samples)
            if now - begin >= seconds:
                break
        if len(counts) == num_before:
            break
    least = sum(time < WARM_UP * seconds for time in times)
    most = sum(time < MOST_WARM_UP * seconds for time in times)
    first = max(least, min(num_buffers, most))
    if len(counts) - first <= _MIN_BUNDLES or times[-1] <= times[first]:
        return sum(counts) / max(now - begin, 1e-9)
    return sum(counts[first + 1 :]) / (times[-1] - times[first])


def handed_over(
    measured: float, *, batch_size: int, batches_per_bundle: int, num_samples: int
) -> float:
    """Returns the samples per second that come out of TensorFlow, of those that are read.

    Args:
        measured: Samples per second that are read.
        batch_size: Samples of a batch.
        batches_per_bundle: Batches that are handed over together.
        num_samples: Samples of an epoch.
    """
    of_batch = BATCH_SECONDS + BUNDLE_SECONDS / batches_per_bundle
    return 1 / (1 / measured + of_batch / batch_size + EPOCH_SECONDS / num_samples)


def disk_part(before: int | None, after: int | None, read_nbytes: int) -> float | None:
    """Returns which part of what was read came from a disk, not from the page cache.

    Args:
        before: Bytes that the process had had read from disks; None: not known.
        after: The same afterwards.
        read_nbytes: Bytes that were read meanwhile.
    """
    if before is None or after is None or not read_nbytes:
        return None
    return min(1.0, (after - before) / read_nbytes)


def predicted(measured: float, *, measured_decodes: float, epoch_decodes: float) -> float:
    """Returns the samples per second of a shuffled epoch.

    Args:
        measured: Samples per second that were measured.
        measured_decodes: How many times each chunk was decoded for them.
        epoch_decodes: How many times the epoch decodes it.
    """
    return measured * measured_decodes / max(epoch_decodes, measured_decodes)


def probe_datasets(path: str, report: FileReport, called: str) -> FileReport:
    """Adds the prediction for the largest datasets of samples of a file.

    Args:
        path: The file.
        report: Of it.
        called: Name of the dataset that the call in the report reads.
    """
    readable = [
        item
        for item in report.datasets
        if len(item.shape) > 2 and item.path not in ("memory", "none") and item.nbytes
    ]
    chosen = sorted(readable, key=lambda item: -item.nbytes)[:MAX_PROBED]
    rates: dict[str, Prediction | None] = {}
    for item in chosen:
        arguments: dict[str, Any] = {"x": item.name, "y": None}
        arguments["read_ahead_bytes"] = report.read_ahead_bytes
        if item.is_padded:
            arguments["decode"] = "image"
        if item.pictures is not None and len(item.pictures.sizes) > 1:
            arguments["image_size"] = item.pictures.sizes[0]
        rates[item.name] = probe_loader(path, arguments, PROBE_SECONDS / len(chosen))
    datasets = tuple(
        replace(item, samples_per_second=found.samples_per_second)
        if (found := rates.get(item.name)) is not None
        else item
        for item in report.datasets
    )
    return with_prediction(replace(report, datasets=datasets), rates.get(called))


def with_prediction(report: FileReport, found: Prediction | None) -> FileReport:
    """Adds the prediction for the call of a file."""
    return report if found is None else replace(report, **found._asdict())


def probe_loader(path: Paths, arguments: dict[str, Any], seconds: float) -> Prediction | None:
    """Predicts samples per second of a loader with these arguments; None: it cannot be opened."""
    try:
        return probe_set(OpenedSet(path, arguments), seconds)
    except (H5VideoError, *HDF5_ERRORS):  # which the report tells, or the training would
        return None


def probe_set(opened: OpenedSet, seconds: float | None = None) -> Prediction | None:
    """Predicts samples per second of the loaders of files; None: they cannot be read."""
    seconds = PROBE_SECONDS if seconds is None else seconds
    try:
        with opened.loader(batch_size=BATCH_SIZE, seed=0) as loader:
            decodes = _decodes_per_epoch(opened, loader)
            num_samples = loader.num_samples
            batches_per_bundle = opened.memory_of(loader).batches_per_bundle
        # In their order, also where the cache holds all of them: to fill it may take longer than a
        # probe.
        has_many = any(access.chunk_rows for item in opened.components for access in item.accesses)
        # A batch of a small set is no smaller than the set.
        size = min(BATCH_SIZE, num_samples)
        options: dict[str, Any] = {"batch_size": size, "seed": 0, "shuffle": not has_many}
        if not has_many:
            options["read_ahead_bytes"] = opened.read_ahead_bytes(PROBE_BYTES, size)
        with opened.loader(**options) as loader:

            def epoch() -> Iterable[int]:
                # By bundles: the batches of one come all at once.
                with closing(loader._next_epoch()) as bundles:  # type: ignore[type-var]
                    for bundle in bundles:
                        yield len(bundle.batch.indices)
                        del bundle

            memory = opened.memory_of(loader)
            num_buffers = memory.bundles_in_flight + memory.spare_bundles
            before = disk_nbytes()
            measured = rate(epoch, seconds, num_buffers=num_buffers)
            from_disk = disk_part(before, disk_nbytes(), loader.stats.read_bytes)
    except (H5VideoError, *HDF5_ERRORS):
        return None
    if not measured:
        return None
    found = handed_over(
        predicted(measured, measured_decodes=1.0, epoch_decodes=decodes),
        batch_size=size,
        batches_per_bundle=batches_per_bundle,
        num_samples=num_samples,
    )
    return Prediction(found, from_disk)


def _decodes_per_epoch(opened: OpenedSet, loader: VideoLoader) -> float:
    """Returns how many times a shuffled epoch of a loader decodes each chunk of many rows."""
    found = [1.0]
    for item in opened.components:
        rows = [access.chunk_rows for access in item.accesses if access.chunk_rows is not None]
        if rows:
            capacity = opened.memory_of(loader).cached_items
            num_rows = int(item.index.num_rows.sum())
            per_batch = min(num_rows, loader.global_batch_size * item.index.rows_per_sample)
            found.append(decodes_per_epoch(num_rows, rows[0].num_rows, per_batch, capacity))
    return max(found)
