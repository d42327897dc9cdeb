"""zea's chunk reader, a batch at a time: the closest peer.

Reads below a MiB, contiguous datasets and filters that it does not know it hands to h5py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.facts import open_file
from benchmarks.measure import Feed

from .base import Contender, Job, from_reader


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Opens the file, and its bytes a second time for the chunk reader."""
    from zea.data import chunk_reader

    with open_file(job.path) as file, closing(chunk_reader.fetcher_for(file)) as fetcher:
        yield Feed(from_reader(job, lambda batch: chunk_reader.read(file["X"], batch, fetcher)))


CONTENDERS = {"zea": Contender(open_feed, "a sorted batch a read, prefetch(AUTOTUNE)", "zea")}
