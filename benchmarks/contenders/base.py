"""The contract between the suite and a contender, and what several contenders share."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import filter_ids, num_processors, open_file, sample_bytes
from benchmarks.measure import Feed

INSTALL = "pip install '.[bench]'"


class SkippedError(Exception):
    """A contender cannot take part: why, and what to do about it."""


@dataclass(frozen=True)
class Job:
    """The samples and batches that all contenders deliver."""

    path: str  # an HDF5 file with X and Y, (samples, ...)
    folder: str  # for copies
    num_samples: int  # the first of the file take part; a multiple of batch_size
    batch_size: int
    num_threads: int = field(default_factory=num_processors)
    workers: int | None = None  # processes or threads, if it has them; None: its own default

    @classmethod
    def of_file(cls, path: str, folder: str, batch_size: int, num_samples: int = 0) -> Job:
        """Makes a job of a file, of all of its samples or of the first ones, in whole batches."""
        with open_file(path) as file:
            num_samples = num_samples or len(file["X"])
        batch_size = min(batch_size, num_samples)
        return cls(path, folder, num_samples // batch_size * batch_size, batch_size)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.num_samples // self.batch_size

    def batches(self, epoch: int) -> NDArray[np.int64]:
        """The order of an epoch, int64 (steps, batch_size), for contenders that are given one."""
        order = np.random.default_rng([0, epoch]).permutation(self.num_samples)
        return order.reshape(self.steps, self.batch_size)

    @property
    def batch_bytes(self) -> int:
        """Bytes of a batch of `X`, decoded."""
        with open_file(self.path) as file:
            return self.batch_size * sample_bytes(file["X"])

    def array_specs(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shape and the dtype of a batch of `X`, and of one of `Y`."""
        with open_file(self.path) as file:
            return [
                ((self.batch_size, *file[name].shape[1:]), file[name].dtype.newbyteorder("="))
                for name in ("X", "Y")
            ]

    def labels(self) -> NDArray[Any]:
        """The labels, for contenders that keep them in memory: h5py takes long for each."""
        with open_file(self.path) as file:
            labels: NDArray[Any] = file["Y"][: self.num_samples]
            return labels

    def filters(self) -> tuple[int, ...]:
        """The registered numbers of the filters of `X`."""
        with open_file(self.path) as file:
            return filter_ids(file["X"])


@dataclass(frozen=True)
class Contender:
    """A feed to compare with; `open_feed` raises SkippedError if it cannot take part."""

    open_feed: Callable[[Job], AbstractContextManager[Feed]]
    needs: str = ""  # a package beyond those that this package needs
    is_copy: bool = False  # it works on a copy in another format
    has_environment: bool = False  # it runs in an environment of its own, because of what it needs

    @contextmanager
    def open(self, job: Job) -> Iterator[Feed]:
        """Opens it in this process."""
        try:
            importlib.import_module(self.needs or "numpy")
        except Exception as error:  # it is not installed, or broken
            text = f"{self.needs} cannot be imported: {type(error).__name__}: {error}: {INSTALL}"
            raise SkippedError(" ".join(text.split())) from error
        with self.open_feed(job) as feed:
            yield feed


def from_generator(job: Job, generator: Callable[[], Iterator[Any]], *, prefetch: bool) -> Any:
    """Makes a `tf.data.Dataset` of a generator of batches (x, y), as users write it."""
    import tensorflow as tf

    signature = tuple(tf.TensorSpec(shape, dtype) for shape, dtype in job.array_specs())
    dataset = tf.data.Dataset.from_generator(generator, output_signature=signature)
    dataset = dataset.take(job.steps)
    # fit counts the steps, as the user would otherwise with `steps_per_epoch`.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(job.steps))
    return dataset.prefetch(tf.data.AUTOTUNE) if prefetch else dataset


def from_reader(job: Job, read: Callable[[NDArray[np.int64]], Any]) -> Any:
    """Makes a prefetching `tf.data.Dataset` of a function that reads sorted samples of `X`."""
    epochs, labels = itertools.count(), job.labels()

    def generate() -> Iterator[Any]:
        for batch in np.sort(job.batches(next(epochs))):
            yield read(batch), labels[batch]

    return from_generator(job, generate, prefetch=True)
