"""h5py alone: the plain generator of the original example, and reads straight into a batch.

The latter is the fair second baseline: h5py's selection of a list of samples, which the plain
generator uses, is slow in itself. Either is given to `from_generator`, or to `fit` of a model that
does nothing: the generator as it is, the other as a `PyDataset`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import num_processors, open_file
from benchmarks.measure import Feed, OnBatch
from benchmarks.plain_generator import generate_training_sequences

from .base import Contender, Job, SkippedError, from_generator, from_reader


def read_directly(dataset: Any, batch: NDArray[np.int64]) -> NDArray[Any]:
    """Reads samples of a dataset, each into its place."""
    clips = np.empty((len(batch), *dataset.shape[1:]), dataset.dtype.newbyteorder("="))
    for row, index in enumerate(batch.tolist()):
        dataset.read_direct(clips, np.s_[index], np.s_[row])
    return clips


class FitFeed(Feed):
    """Epochs of `fit`; `given()` is what it is given for each."""

    def __init__(self, job: Job, given: Any) -> None:
        import keras

        if keras.backend.backend() != "tensorflow":
            raise SkippedError("the model's step is written for Keras on TensorFlow")

        class Idle(keras.Model):  # type: ignore[misc]
            """Takes its batches, and computes nothing."""

            on_batch: OnBatch

            def train_step(self, data: Any) -> dict[str, float]:
                self.on_batch(*data)
                return {"loss": 0.0}

        super().__init__()
        self._steps, self._given, self._model = job.steps, given, Idle()
        self._model.compile(run_eagerly=True)

    def epoch(self, on_batch: OnBatch) -> None:
        """Calls fit for one epoch."""
        self._model.on_batch = on_batch
        with warnings.catch_warnings():
            # That is its default, which it does not apply to either; both shuffle by themselves.
            warnings.filterwarnings("ignore", ".*shuffle=True. was passed")
            self._model.fit(self._given(), steps_per_epoch=self._steps, verbose=0)


def py_dataset(job: Job, file: Any) -> Any:
    """Makes a `PyDataset` that reads each sample into its place, by threads."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """A batch at a time, shuffled anew at the end of each epoch."""

        number = 0

        def __len__(self) -> int:
            return job.steps

        def __getitem__(self, index: int) -> Any:
            batch = np.sort(job.batches(self.number)[index])
            return read_directly(file["X"], batch), labels[batch]

        def on_epoch_end(self) -> None:
            self.number += 1

    labels = job.labels()
    return Batches(job.workers or num_processors(), use_multiprocessing=False)


@contextmanager
def open_feed(job: Job, name: str) -> Iterator[Feed]:
    """Opens the file; the plain generator has one order, as in the original."""
    with open_file(job.path) as file:
        order = job.batches(0).ravel().tolist()
        generate = functools.partial(generate_training_sequences, job.batch_size, file, order)
        if name == "plain-keras":
            yield FitFeed(job, generate)
        elif name == "pydataset":
            dataset = py_dataset(job, file)
            yield FitFeed(job, lambda: dataset)
        elif name == "read_direct":
            yield Feed(from_reader(job, lambda batch: read_directly(file["X"], batch)))
        else:
            yield Feed(from_generator(job, generate, prefetch=name == "plain-prefetch"))


NAMES = ("plain", "plain-prefetch", "plain-keras", "read_direct", "pydataset")
CONTENDERS = {name: Contender(functools.partial(open_feed, name=name)) for name in NAMES}
