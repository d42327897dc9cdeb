"""A zarr copy of the same samples, a chunk a sample, read by tensorstore."""

from __future__ import annotations

import itertools
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.facts import open_file
from benchmarks.measure import Feed

from .base import Contender, Job, SkippedError, from_generator

# Batches whose reading has begun while another one is in use.
READ_AHEAD = 2

# The codec that is closest to the file's filters.
CODECS: dict[tuple[int, ...], Any] = {
    (): None,
    (1,): {"id": "zlib", "level": 4},
    (2, 1): {"id": "blosc", "cname": "zlib", "clevel": 4, "shuffle": 1},
    (32015,): {"id": "zstd", "level": 3},
    (32001,): {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2},
}


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Writes the copy, compressed as the original is, or not at all; removes it at the end."""
    import tensorstore

    if job.filters() not in CODECS:
        raise SkippedError("zarr has no codec like this file's filters")
    (shape, dtype), _ = job.array_specs()
    metadata = {
        "shape": [job.num_samples, *shape[1:]],
        "chunks": [1, *shape[1:]],
        "dtype": dtype.str,
        "compressor": CODECS[job.filters()],
    }
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        place = {"driver": "file", "path": folder}
        spec = {"driver": "zarr", "kvstore": place, "metadata": metadata}
        store = tensorstore.open(spec, create=True).result()
        with open_file(job.path) as file:
            clips = file["X"]
            size = max(job.batch_size, clips.chunks[0] if clips.chunks else 1)
            for first in range(0, job.num_samples, size):
                rows = slice(first, min(first + size, job.num_samples))
                store[rows].write(clips[rows]).result()
        epochs, labels = itertools.count(), job.labels()

        def generate() -> Iterator[Any]:
            reading: deque[Any] = deque()
            for batch in job.batches(next(epochs)):
                reading.append((store[batch].read(), labels[batch]))
                if len(reading) > READ_AHEAD:
                    future, y = reading.popleft()
                    yield future.result(), y
            for future, y in reading:
                yield future.result(), y

        files = [str(path) for path in Path(folder).rglob("*") if path.is_file()]
        yield Feed(from_generator(job, generate, prefetch=True), files)


CONTENDERS = {
    "tensorstore": Contender(open_feed, "zarr, a sample a chunk", "tensorstore", is_copy=True)
}
