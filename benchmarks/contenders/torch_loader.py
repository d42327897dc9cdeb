"""PyTorch's `DataLoader` over h5py: each worker process opens the file for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import Feed

from . import Job, num_processors
from ._samples import Samples


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Makes the loader; its worker processes stay from epoch to epoch."""
    import torch
    from torch.utils.data import DataLoader

    workers = num_processors() if job.workers is None else job.workers
    samples = Samples(job)
    loader = DataLoader(
        samples,
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
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
        samples.close()
