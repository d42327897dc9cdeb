"""What Keras makes of a generator or a `PyDataset`: `fit` of a model that does nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.files import open_file
from benchmarks.measure import Feed, OnBatch
from benchmarks.plain_generator import generate_training_sequences

from . import Job, num_processors


class FitFeed(Feed):
    """Epochs that are taken by `fit`."""

    def __init__(self, job: Job, variant: str, file: Any) -> None:
        """Makes the generator's order or the `PyDataset`, and a model that does nothing."""
        super().__init__()
        self._job = job
        self._file = file
        self._order = job.order(0).tolist()
        self._model = _idle_model()
        self._dataset = _py_dataset(job, file) if variant == "pydataset" else None

    def epoch(self, on_batch: OnBatch) -> None:
        """Calls fit for one epoch."""
        self._model.on_batch = on_batch
        given = (
            generate_training_sequences(self._job.batch_size, self._file, self._order)
            if self._dataset is None
            else self._dataset
        )
        with warnings.catch_warnings():
            # That is its default, which it does not apply to either; both shuffle by themselves.
            warnings.filterwarnings("ignore", ".*shuffle=True. was passed")
            self._model.fit(given, steps_per_epoch=self._job.steps, verbose=0)


def why_not(job: Job, variant: str) -> str | None:
    """The model's step is written for Keras on TensorFlow."""
    del job, variant
    import keras

    if keras.backend.backend() != "tensorflow":
        return "measured with Keras on its TensorFlow backend only"
    return None


@contextmanager
def open_feed(job: Job, variant: str) -> Iterator[Feed]:
    """Opens the file for both."""
    with open_file(job.path) as file:
        yield FitFeed(job, variant, file)


def _idle_model() -> Any:
    import keras

    class Idle(keras.Model):  # type: ignore[misc]
        """Takes its batches, and computes nothing."""

        on_batch: OnBatch

        def call(self, x: Any) -> Any:
            return x

        def train_step(self, data: Any) -> dict[str, float]:
            self.on_batch(*data)
            return {"loss": 0.0}

    model = Idle()
    model.compile(run_eagerly=True)
    return model


def _py_dataset(job: Job, file: Any) -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """A batch at a time, shuffled anew at the end of each epoch."""

        def __init__(self, workers: int) -> None:
            super().__init__(workers=workers, use_multiprocessing=False)
            self.number = 0
            self.order = job.batches(0)

        def __len__(self) -> int:
            return job.steps

        def __getitem__(self, index: int) -> Any:
            batch = np.sort(self.order[index])
            (shape, dtype), _ = specs
            clips = np.empty(shape, dtype)
            for place, sample in enumerate(batch.tolist()):
                file["X"].read_direct(clips, np.s_[sample], np.s_[place])
            return clips, labels[batch]

        def on_epoch_end(self) -> None:
            self.number += 1
            self.order = job.batches(self.number)

    specs, labels = job.array_specs(), job.labels()
    return Batches(job.workers or num_processors())
