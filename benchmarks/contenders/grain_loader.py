"""Grain over h5py, which its threads call, or those of its worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Feed, OnBatch

from . import Job
from ._samples import Samples

# Grain's default. Its buffer of 500 samples is meant for some KiB each, not for video.
NUM_THREADS = 16
BATCHES_AHEAD = 2


class GrainFeed(Feed):
    """Without worker processes, an iterator an epoch. Else one for all: they take long to start."""

    def __init__(self, job: Job, samples: Samples) -> None:
        """Starts worker processes, if there are any."""
        super().__init__()
        import grain

        self._job = job
        self._number = 0
        self._source = grain.MapDataset.source(samples)
        self._workers: Any = None
        if job.workers:
            from absl import flags

            # Worker processes look at flags that only a program of absl's has parsed.
            flags.FLAGS.mark_as_parsed()
            # Batched first, so that each process makes whole batches, and an epoch is an epoch.
            dataset = self._source.seed(job.seed).shuffle().repeat().batch(job.batch_size)
            batches = dataset.to_iter_dataset(grain.ReadOptions(BATCHES_AHEAD, BATCHES_AHEAD))
            options = grain.MultiprocessingOptions(num_workers=job.workers)
            self._workers = iter(batches.mp_prefetch(options))

    def start_turn(self) -> None:
        """Takes batches that were made in the pause, until it is as busy as it will be."""
        if self._workers is not None:
            ahead = 4 * BATCHES_AHEAD * (self._job.workers or 0)
            for _ in range(-(-ahead // self._job.steps) * self._job.steps):
                next(self._workers)

    def epoch(self, on_batch: OnBatch) -> None:
        """Takes as many batches as an epoch has."""
        if self._workers is not None:
            for _ in range(self._job.steps):
                on_batch(*next(self._workers))
            return
        import grain

        size = self._job.batch_size
        ahead = grain.ReadOptions(NUM_THREADS, max(NUM_THREADS, BATCHES_AHEAD * size))
        dataset = self._source.seed(self._job.seed + self._number).shuffle()
        self._number += 1
        for x, y in dataset.to_iter_dataset(ahead).batch(size):
            on_batch(x, y)

    def close(self) -> None:
        """Ends the worker processes."""
        if self._workers is not None:
            self._workers.close()


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Makes the dataset."""
    samples = Samples(job)
    feed = GrainFeed(job, samples)
    try:
        yield feed
    finally:
        feed.close()
        samples.close()
