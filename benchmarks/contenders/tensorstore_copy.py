"""A zarr copy of the same samples, a chunk a sample, read by tensorstore."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.files import open_file
from benchmarks.measure import Feed

from . import Job
from ._tensorflow import from_generator

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


def why_not(job: Job) -> str | None:
    """The copy is compressed as the original is, or not at all."""
    return None if tuple(job.filters()) in CODECS else "zarr has no codec like this file's filters"


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Writes the copy, and removes it at the end."""
    import tensorstore

    folder = job.folder / f"{Path(job.path).stem}_zarr"
    shutil.rmtree(folder, ignore_errors=True)
    (shape, dtype), _ = job.array_specs()
    try:
        store = tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": str(folder)},
                "metadata": {
                    "shape": [job.num_samples, *shape[1:]],
                    "chunks": [1, *shape[1:]],
                    "dtype": dtype.str,
                    "compressor": CODECS[tuple(job.filters())],
                },
            },
            create=True,
        ).result()
        with open_file(job.path) as file:
            _copy(job, file["X"], store)
            files = [str(path) for path in folder.rglob("*") if path.is_file()]
            epochs = itertools.count()

            def generate() -> Iterator[Any]:
                pending: list[Any] = []
                for batch in [*job.batches(next(epochs)), *[None] * READ_AHEAD]:
                    if batch is not None:
                        pending.append((batch, store[batch].read()))
                    if len(pending) > READ_AHEAD or (batch is None and pending):
                        indices, clips = pending.pop(0)
                        yield clips.result(), labels[indices]

            labels = job.labels()
            yield Feed(from_generator(job, generate, prefetch=True), files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(job: Job, clips: Any, store: Any) -> None:
    slab = max(job.batch_size, clips.chunks[0] if clips.chunks else 1)
    for first in range(0, job.num_samples, slab):
        rows = slice(first, min(first + slab, job.num_samples))
        store[rows].write(clips[rows]).result()
