"""A generator and a `PyDataset` as Keras iterates over them: `fit` of a model that does nothing."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.facts import num_processors, open_file
from benchmarks.measure import Feed, OnBatch
from benchmarks.plain_generator import generate_training_sequences

from .base import Contender, Job, SkippedError
from .read_direct import read_directly


class FitFeed(Feed):
    """Epochs of `fit`; `given` returns what it is given for each of them."""

    def __init__(self, job: Job, given: Callable[[], Any]) -> None:
        super().__init__()
        import keras

        class Idle(keras.Model):  # type: ignore[misc]
            """Takes its batches, and computes nothing."""

            on_batch: OnBatch

            def train_step(self, data: Any) -> dict[str, float]:
                self.on_batch(*data)
                return {"loss": 0.0}

        self._steps, self._given, self._model = job.steps, given, Idle()
        self._model.compile(run_eagerly=True)

    def epoch(self, on_batch: OnBatch) -> None:
        """Calls fit for one epoch."""
        self._model.on_batch = on_batch
        with warnings.catch_warnings():
            # That is its default, which it does not apply to either; both shuffle by themselves.
            warnings.filterwarnings("ignore", ".*shuffle=True. was passed")
            self._model.fit(self._given(), steps_per_epoch=self._steps, verbose=0)


@contextmanager
def open_feed(job: Job, *, as_dataset: bool) -> Iterator[Feed]:
    """Opens the file for either."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise SkippedError("the model's step is written for Keras on TensorFlow")

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

    with open_file(job.path) as file:
        if as_dataset:
            labels = job.labels()
            dataset = Batches(job.workers or num_processors(), use_multiprocessing=False)
            yield FitFeed(job, lambda: dataset)
        else:
            order = job.batches(0).ravel().tolist()
            yield FitFeed(job, lambda: generate_training_sequences(job.batch_size, file, order))


generator, dataset = (functools.partial(open_feed, as_dataset=given) for given in (False, True))
CONTENDERS = {
    "plain-keras": Contender(generator, "the generator given to fit"),
    "pydataset": Contender(dataset, "a worker thread a processor"),
}
