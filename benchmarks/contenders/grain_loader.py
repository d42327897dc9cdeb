"""Grain over h5py, which its threads call, or those of its worker processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.measure import Feed, OnBatch

from .base import Contender, Job, Samples

# Grain's default. Its buffer of 500 samples is meant for some KiB each, not for video.
NUM_THREADS = 16
BATCHES_AHEAD = 2


class WorkersFeed(Feed):
    """An iterator for all epochs: worker processes take long to start."""

    def __init__(self, job: Job, batches: Any) -> None:
        super().__init__()
        self._job, self._batches = job, batches

    def start_turn(self) -> None:
        """Takes batches that were made in the pause, until the workers are as busy as they get."""
        ahead = 4 * BATCHES_AHEAD * (self._job.workers or 0)
        for _ in range(-(-ahead // self._job.steps)):
            self.epoch(lambda *_: None)

    def epoch(self, on_batch: OnBatch) -> None:
        """Takes as many batches as an epoch has."""
        for batch in itertools.islice(self._batches, self._job.steps):
            on_batch(*batch)


class Epochs:
    """Each iteration is an epoch, shuffled anew."""

    def __init__(self, job: Job, source: Any) -> None:
        self._job, self._source, self._seeds = job, source, itertools.count(job.seed)

    def __iter__(self) -> Iterator[Any]:
        import grain

        size = self._job.batch_size
        ahead = grain.ReadOptions(NUM_THREADS, max(NUM_THREADS, BATCHES_AHEAD * size))
        dataset = self._source.seed(next(self._seeds)).shuffle()
        return iter(dataset.to_iter_dataset(ahead).batch(size))


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Makes the dataset, and starts worker processes, if there are any."""
    import grain
    from absl import flags

    with closing(Samples(job)) as samples:
        source = grain.MapDataset.source(samples)
        if not job.workers:
            yield Feed(Epochs(job, source))
            return
        # Worker processes look at flags that only a program of absl's has parsed.
        flags.FLAGS.mark_as_parsed()
        # Batched first, so that each process makes whole batches, and an epoch is an epoch.
        dataset = source.seed(job.seed).shuffle().repeat().batch(job.batch_size)
        read = dataset.to_iter_dataset(grain.ReadOptions(BATCHES_AHEAD, BATCHES_AHEAD))
        options = grain.MultiprocessingOptions(num_workers=job.workers)
        with closing(iter(read.mp_prefetch(options))) as batches:
            yield WorkersFeed(job, batches)


CONTENDERS = {"grain": Contender(open_feed, "16 reading threads, no worker processes", "grain")}
