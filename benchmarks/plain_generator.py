"""The baseline: what people write to train on video in HDF5 without this package.

The three functions of the well-known example "Dealing with large training datasets using Keras
fit_generator, Python generators, and HDF5 file format", brought to Python 3 and today's Keras:
`fit` takes a generator itself, and counts steps instead of samples. How the data is read is left as
it was: an index batch, sorted, and `file["X"][batch_idxs]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Batch = tuple[NDArray[Any], NDArray[Any]]


def train_model(
    model: Any,
    video_data_fn: str = "video_data.h5",
    validation_ratio: float = 0.3,
    batch_size: int = 32,
    epochs: int = 100,
) -> Any:
    """Train the video classification model."""
    with h5py.File(video_data_fn, "r") as video_data:
        sample_count = int(video_data.attrs["sample_count"])
        sample_idxs = np.random.default_rng().permutation(sample_count)
        training_sample_idxs = sample_idxs[0 : int((1 - validation_ratio) * sample_count)]
        validation_sample_idxs = sample_idxs[int((1 - validation_ratio) * sample_count) :]
        training_sequence_generator = generate_training_sequences(
            batch_size=batch_size,
            video_data=video_data,
            training_sample_idxs=training_sample_idxs,
        )
        validation_sequence_generator = generate_validation_sequences(
            batch_size=batch_size,
            video_data=video_data,
            validation_sample_idxs=validation_sample_idxs,
        )
        return model.fit(
            training_sequence_generator,
            validation_data=validation_sequence_generator,
            steps_per_epoch=math.ceil(len(training_sample_idxs) / batch_size),
            validation_steps=math.ceil(len(validation_sample_idxs) / batch_size),
            epochs=epochs,
            verbose=2,
        )


def generate_training_sequences(
    batch_size: int, video_data: Any, training_sample_idxs: Sequence[int] | NDArray[np.int64]
) -> Iterator[Batch]:
    """Generates training sequences on demand."""
    while True:
        # generate sequences for training
        training_sample_count = len(training_sample_idxs)
        batches = int(training_sample_count / batch_size)
        remainder_samples = training_sample_count % batch_size
        if remainder_samples:
            batches = batches + 1
        # generate batches of samples
        for idx in range(batches):
            if idx == batches - 1:
                batch_idxs = training_sample_idxs[idx * batch_size :]
            else:
                batch_idxs = training_sample_idxs[idx * batch_size : idx * batch_size + batch_size]
            batch_idxs = sorted(batch_idxs)

            X = video_data["X"][batch_idxs]
            Y = video_data["Y"][batch_idxs]

            yield (np.array(X), np.array(Y))


def generate_validation_sequences(
    batch_size: int, video_data: Any, validation_sample_idxs: Sequence[int] | NDArray[np.int64]
) -> Iterator[Batch]:
    """Generates validation sequences on demand."""
    # In the original, the same lines again.
    yield from generate_training_sequences(batch_size, video_data, validation_sample_idxs)
