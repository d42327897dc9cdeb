"""PyTorch's `DataLoader` over h5py: each worker process opens the file for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.facts import num_processors
from benchmarks.measure import Feed

from .base import Contender, Job, Samples


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Makes the loader; its worker processes stay from epoch to epoch."""
    import torch
    from torch.utils.data import DataLoader

    workers = num_processors() if job.workers is None else job.workers
    with closing(Samples(job)) as samples:
        loader = DataLoader(
            samples,
            batch_size=job.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            # TensorFlow's threads are in this process: a fork of it could hang.
            multiprocessing_context="spawn" if workers else None,
            generator=torch.Generator().manual_seed(job.seed),
        )
        feed = Feed(loader)
        try:
            yield feed
        finally:
            # The workers end with the loader.
            feed.batches = None
            del loader


CONTENDERS = {"torch": Contender(open_feed, "a worker process a processor", "torch")}
