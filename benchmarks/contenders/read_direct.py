"""h5py, a sample at a time straight into its place in the batch: the fair second baseline.

h5py's selection of a list of samples, which the plain generator uses, is slow in itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.files import open_file
from benchmarks.measure import Feed

from . import Job
from ._tensorflow import from_generator


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Opens the file; each iterator is the next epoch."""
    epochs = itertools.count()
    (shape, dtype), _ = job.array_specs()
    with open_file(job.path) as file:
        X, labels = file["X"], job.labels()

        def generate() -> Iterator[Any]:
            for batch in job.batches(next(epochs)):
                batch.sort()
                clips = np.empty(shape, dtype)
                for place, index in enumerate(batch.tolist()):
                    X.read_direct(clips, np.s_[index], np.s_[place])
                yield clips, labels[batch]

        yield Feed(from_generator(job, generate, prefetch=True))
