"""h5py, a sample at a time straight into its place in the batch: the fair second baseline.

h5py's selection of a list of samples, which the plain generator uses, is slow in itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import open_file
from benchmarks.measure import Feed

from .base import Contender, Job, from_reader


def read_directly(dataset: Any, batch: NDArray[np.int64]) -> NDArray[Any]:
    """Reads samples of a dataset."""
    clips = np.empty((len(batch), *dataset.shape[1:]), dataset.dtype.newbyteorder("="))
    for row, index in enumerate(batch.tolist()):
        dataset.read_direct(clips, np.s_[index], np.s_[row])
    return clips


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Opens the file."""
    with open_file(job.path) as file:
        yield Feed(from_reader(job, lambda batch: read_directly(file["X"], batch)))


CONTENDERS = {"read_direct": Contender(open_feed, "from_generator, prefetch(AUTOTUNE)")}
