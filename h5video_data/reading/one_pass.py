"""Reads samples of a set once, in a given order: for what is no training."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.system import num_processors
from h5video_data.video_set import VideoSet

from .batch import EpochPlan, Indices, PendingBatch
from .batch_reader import BatchReader
from .memory_budget import split_budget


def read_once(
    video_set: VideoSet,
    samples: Indices,
    *,
    batch_size: int,
    read_ahead_bytes: int | None = None,
    num_threads: int | None = None,
) -> Generator[tuple[Indices, list[NDArray[Any]]], None, None]:
    """Reads samples in order, by threads that end with the iteration.

    Args:
        video_set: The set.
        samples: int64 (n,), their numbers, n >= 1.
        batch_size: Samples of a batch; the last one may have fewer.
        read_ahead_bytes: Memory, as for a loader.
        num_threads: Threads that read and decode. None: the processors that this process may use.

    Yields:
        The samples' numbers, int64 (batch,), and an array (batch, ...) for each component.

    Raises:
        ReadError: A sample cannot be read, or a file has changed.
    """
    count = len(samples)
    batch_size = min(batch_size, count)
    num_threads = num_threads or num_processors()
    stops = np.append(np.arange(batch_size, count, batch_size), count)
    budget = split_budget(video_set, batch_size, len(stops), read_ahead_bytes, num_threads)
    plan = EpochPlan(0, samples, stops, budget.batches_per_bundle)
    with closing(
        BatchReader(
            video_set,
            num_threads=num_threads,
            bundle_size=batch_size * budget.batches_per_bundle,
            max_kept=budget.spare_bundles,
            cached_items=budget.cached_items,
            tasks_per_bundle=budget.tasks_per_bundle(num_threads),
        )
    ) as reader:
        epoch = reader.epoch(plan)
        try:
            epoch.fill(budget.bundles_in_flight)
            while (bundle := epoch.take()) is not None:
                bundle.wait()
                epoch.fill(budget.bundles_in_flight)
                yield from bundle.split()
                del bundle  # its buffers go back when nobody holds them, this frame included
        finally:
            epoch.cancel()


def read_together(
    video_set: VideoSet, plan: EpochPlan, *, num_threads: int, skips_failed: bool
) -> PendingBatch:
    """Reads the samples of a plan at once, by threads that end before it returns.

    Args:
        video_set: The set.
        plan: The samples, as one batch.
        num_threads: Threads that read and decode, at most.
        skips_failed: Whether a sample that cannot be read is noted in `failed`, not an error.

    Raises:
        ReadError: A sample cannot be read, or a file has changed.
    """
    count = len(plan.order)
    # For a few samples, the values of a whole dataset are not read, unless they are labels.
    components = tuple(
        replace(item, accesses=tuple(access.without_memory or access for access in item.accesses))
        for item in video_set.components
    )
    num_threads = min(num_threads, count)
    with closing(
        BatchReader(
            replace(video_set, components=components),
            num_threads=num_threads,
            bundle_size=count,
            max_kept=0,
            cached_items=0,
            tasks_per_bundle=num_threads,
            skips_failed=skips_failed,
        )
    ) as reader:
        epoch = reader.epoch(plan)
        try:
            epoch.fill(1)
            batch = next(iter(epoch.take, None))
            batch.wait()
        finally:
            epoch.cancel()
        return batch
