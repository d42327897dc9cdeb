"""PyTorch's `DataLoader` and Grain over h5py, which opens the file in each worker process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from benchmarks.facts import num_processors, open_file
from benchmarks.measure import Feed, OnBatch

from .base import Contender, Job

# Grain's default. Its buffer of 500 samples is meant for some KiB each, not for video.
NUM_THREADS = 16
BATCHES_AHEAD = 2


class Samples:
    """A sequence of (sample, label) by h5py; another process that it is sent to opens the file."""

    def __init__(self, job: Job) -> None:
        self._path = job.path
        self._labels = job.labels()
        (shape, self._dtype), _ = job.array_specs()
        self._shape = shape[1:]
        self._file: Any = None

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if self._file is None:
            self._file = open_file(self._path)
        clip = np.empty(self._shape, self._dtype)
        self._file["X"].read_direct(clip, np.s_[index])
        return clip, self._labels[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


@contextmanager
def open_torch(job: Job) -> Iterator[Feed]:
    """Makes the loader; its worker processes stay from epoch to epoch."""
    import torch
    from torch.utils.data import DataLoader

    workers = num_processors() if job.workers is None else job.workers
    loader = DataLoader(
        Samples(job),
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        # TensorFlow's threads are in this process: a fork of it could hang.
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator().manual_seed(0),
    )
    feed = Feed(loader)
    try:
        yield feed
    finally:
        # The workers end with the loader.
        feed.batches = None
        del loader


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
        self._job, self._source, self._seeds = job, source, itertools.count()

    def __iter__(self) -> Iterator[Any]:
        import grain

        size = self._job.batch_size
        ahead = grain.ReadOptions(NUM_THREADS, max(NUM_THREADS, BATCHES_AHEAD * size))
        dataset = self._source.seed(next(self._seeds)).shuffle()
        return iter(dataset.to_iter_dataset(ahead).batch(size))


@contextmanager
def open_grain(job: Job) -> Iterator[Feed]:
    """Makes the dataset, and starts worker processes, if there are any."""
    import grain
    from absl import flags

    source = grain.MapDataset.source(Samples(job))
    if not job.workers:
        yield Feed(Epochs(job, source))
        return
    # Worker processes look at flags that only a program of absl's has parsed.
    flags.FLAGS.mark_as_parsed()
    # Batched first, so that each process makes whole batches, and an epoch is an epoch.
    dataset = source.seed(0).shuffle().repeat().batch(job.batch_size)
    read = dataset.to_iter_dataset(grain.ReadOptions(BATCHES_AHEAD, BATCHES_AHEAD))
    options = grain.MultiprocessingOptions(num_workers=job.workers)
    with closing(iter(read.mp_prefetch(options))) as batches:
        yield WorkersFeed(job, batches)


CONTENDERS = {
    "torch": Contender(open_torch, needs="torch"),
    "grain": Contender(open_grain, needs="grain"),
}
