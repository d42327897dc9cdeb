"""zea's chunk reader, a batch at a time: the closest peer.

Reads below a MiB, contiguous datasets and filters that it does not know it hands to h5py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.files import open_file
from benchmarks.measure import Feed

from . import Job
from ._tensorflow import from_generator


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Opens the file, and its bytes a second time for the chunk reader."""
    from zea.data import chunk_reader

    epochs = itertools.count()
    with open_file(job.path) as file:
        labels = job.labels()
        fetcher = chunk_reader.fetcher_for(file)

        def generate() -> Iterator[Any]:
            for batch in job.batches(next(epochs)):
                batch.sort()
                yield chunk_reader.read(file["X"], batch, fetcher), labels[batch]

        try:
            yield Feed(from_generator(job, generate, prefetch=True))
        finally:
            fetcher.close()
