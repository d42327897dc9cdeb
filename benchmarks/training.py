"""Trains one model from several feeds: seconds, the part of them spent waiting, and the loss.

    python -m benchmarks.training --layouts contiguous chunked

Each feed trains the same model from the same first weights for the same number of steps, by
`model.fit`: the plain generator, a Keras `PyDataset` that reads each sample into its place, a
TFRecord of the same samples, and this package. All but the plain generator, which has one order,
shuffle anew each epoch, so their losses are near each other but not equal. The model looks at every
fourth frame, row and column, so that a step is short, and the feed counts. Waiting is what the
training takes beyond the same steps of a batch that is in memory. Keras's backend and the device
are those of the process: on a machine with a GPU, the model is trained there.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from .contenders import CONTENDERS, Job
from .contenders.plain import py_dataset
from .facts import open_file, warm_cache
from .measure import in_turns, spread
from .video_set import make_parser, open_sets, positive_integer

BATCH_SIZE = 32
LEARNING_RATE = 1e-4
STRIDE = 4


@dataclass(frozen=True)
class Training:
    """What a training took, and what it ended with."""

    seconds: float  # of all epochs but the first, which compiles
    loss: float  # of the last epoch


def label_by_brightness(path: str) -> None:
    """Replaces the labels of a set by something that can be learned: how bright a sample is."""
    with h5py.File(path, "r+") as file:
        brightness = [float(clip[:, :, ::STRIDE, ::STRIDE].mean()) for clip in file["X"]]
        num_samples, num_classes = file["Y"].shape
        classes = np.argsort(np.argsort(brightness)) * num_classes // num_samples
        file["Y"][...] = np.eye(num_classes, dtype=np.float32)[classes]


def make_model(job: Job) -> Any:
    """Makes a small classifier of video as it is stored, with the same weights each time."""
    import keras

    class Thinned(keras.layers.Layer):  # type: ignore[misc]
        """Takes every fourth frame, row and column, between 0 and 1."""

        def call(self, clips: Any) -> Any:
            return keras.ops.cast(clips[:, ::STRIDE, :, ::STRIDE, ::STRIDE], "float32") / 255

    (clips, dtype), (labels, _) = job.array_specs()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input(clips[1:], dtype=str(dtype)),
            Thinned(dtype="float32", autocast=False),
            layers.Flatten(),
            layers.Dense(32, "tanh"),
            layers.Dense(labels[1], "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "categorical_crossentropy")
    return model


def train(job: Job, batches: Any, epochs: int) -> Training:
    """Trains a new model for one epoch, and then for as many as are timed."""
    import keras

    model = make_model(job)
    model.fit(batches, verbose=0, shuffle=False)
    begin = time.perf_counter()
    history = model.fit(batches, epochs=epochs, verbose=0, shuffle=False)
    seconds = time.perf_counter() - begin
    keras.utils.clear_session()
    return Training(seconds, history.history["loss"][-1])


def feeds(job: Job, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Opens the feeds: what `fit` is given, by name."""
    import tensorflow as tf

    file = stack.enter_context(open_file(job.path))
    batch = file["X"][: job.batch_size], file["Y"][: job.batch_size]
    found = {"in memory": tf.data.Dataset.from_tensors(batch).repeat(job.steps)}
    for name in ("h5video_data", "tfrecord", "plain"):
        found[name] = stack.enter_context(CONTENDERS[name].open(job)).batches
    return {**found, "pydataset": py_dataset(job, file)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a row for each feed."""
    parser = make_parser("benchmarks.training", __doc__, ["contiguous"])
    add = parser.add_argument
    add("--epochs", type=positive_integer, default=3, help="that are timed, after a first one")
    add("--rounds", type=positive_integer, default=3)
    options = parser.parse_args(arguments)
    options.samples = options.samples or 640
    for layout, path, folder in open_sets(options):
        label_by_brightness(path)
        job = Job.of_file(path, folder, BATCH_SIZE)
        with contextlib.ExitStack() as stack:
            given = feeds(job, stack)
            warm_cache(path)
            measures = {
                name: functools.partial(train, job, batches, options.epochs)
                for name, batches in given.items()
            }
            found = in_turns(measures, options.rounds, warm_up=False)
        seconds = {name: np.array([each.seconds for each in of]) for name, of in found.items()}
        print(f"{layout}: {options.epochs} epochs of {job.steps} steps of {BATCH_SIZE} samples")
        print(f"  {'feed':14}{'seconds':>16}{'waiting':>9}{'loss':>8}")
        for name, taken in seconds.items():
            middle, half = spread(taken)
            waiting = max(0.0, float(np.median(1 - seconds["in memory"] / taken)))
            loss = np.median([each.loss for each in found[name]])
            print(f"  {name:14}{middle:9.2f} ±{half:5.2f}{waiting:9.0%}{loss:8.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
