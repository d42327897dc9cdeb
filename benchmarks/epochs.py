"""Measures what an epoch costs beyond its batches: how it starts, and short ones.

    python -m benchmarks.epochs
    python -m benchmarks.epochs --samples 1500 --layouts contiguous chunked --toy 34

Of each layout: the first start in a process, from the call of `video_dataset_from_hdf5` to
`iter()`; `iter()` and the first batch of later epochs, against the mean of the other batches; and
whole epochs in a Python loop, against positioned reads of the same samples. Then `fit` with
validation, of a small model on a toy set, against the plain generator, in turns. The first turn
warms up, and medians are reported.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import h5video_data as h5v

from .contenders import Job
from .facts import warm_cache
from .limits import limit_of
from .measure import in_turns
from .plain_generator import generate_training_sequences
from .video_set import (
    make_parser,
    make_set,
    open_sets,
    positive_integer,
    temporary_folder,
)

FIRST_START = """
import sys, time
import tensorflow
begin = time.perf_counter()
import h5video_data
iter(h5video_data.video_dataset_from_hdf5(sys.argv[1], batch_size=int(sys.argv[2])))
print(time.perf_counter() - begin)
"""


def first_start(path: str, batch_size: int) -> float:
    """Returns the seconds that a new process takes until `iter()`, TensorFlow's import aside."""
    command = [sys.executable, "-c", FIRST_START, path, str(batch_size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def loop(dataset: Any) -> tuple[float, list[float]]:
    """Iterates over an epoch; returns the seconds until the first batch, and of each other."""
    begin = time.perf_counter()
    batches = iter(dataset)
    next(batches)
    times = [time.perf_counter()]
    times += [time.perf_counter() for _ in batches]
    return times[0] - begin, np.diff(times).tolist()


def measure_layout(path: str, options: argparse.Namespace) -> dict[str, float]:
    """Returns the figures of a layout."""
    job = Job.of_file(path, "", options.batch_size)
    warm_cache(path)
    found = {
        "first start, ms": 1e3 * min(first_start(path, job.batch_size) for _ in range(2)),
    }
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=job.batch_size, seed=0)
    limit = limit_of(job)
    starts: list[float] = []
    steps: list[float] = []

    def epoch() -> float:
        begin = time.perf_counter()
        start, others = loop(dataset)
        seconds = time.perf_counter() - begin
        starts.append(start)
        steps.append((seconds - start) / max(1, len(others)))
        return job.num_samples * job.batch_bytes / job.batch_size / seconds

    measures = {"epochs": epoch}
    if limit is not None:
        measures["limit"] = limit.measure
    speeds = in_turns(measures, options.rounds)
    start = float(np.median(starts[1:] or starts))
    found |= {"start, ms": 1e3 * start, "start / batch": start / float(np.median(steps))}
    found["MB/s"] = float(np.median(speeds["epochs"])) / 1e6
    if limit is not None:
        ratios = np.array(speeds["epochs"]) / np.array(speeds["limit"])
        found["of the limit"] = float(np.median(ratios))
    return found


def measure_fit(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Returns the seconds of an epoch of `fit`, by this package and by the plain generator."""
    import h5py
    import keras

    path = make_set(folder, "contiguous", options.toy, tuple(options.sample_shape))
    shape = tuple(options.sample_shape)
    batch_size = max(1, min(options.batch_size, options.toy // 4) // 2 * 2)
    layers = [
        keras.layers.Input(shape),
        keras.layers.Rescaling(1 / 255),
        keras.layers.GlobalAveragePooling3D(data_format="channels_last"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("sgd", "categorical_crossentropy")
    train, val = h5v.video_dataset_from_hdf5(
        path, batch_size=batch_size, validation_split=0.3, subset="both", seed=0
    )
    settings = {"epochs": options.epochs, "verbose": 0, "shuffle": False}
    sides = [side.loader.sample_indices for side in (train, val)]

    def ours() -> float:
        begin = time.perf_counter()
        model.fit(train, validation_data=val, **settings)
        return (time.perf_counter() - begin) / int(options.epochs)

    def plain() -> float:
        with h5py.File(path) as file:
            feeds = [generate_training_sequences(batch_size, file, side) for side in sides]
            begin = time.perf_counter()
            model.fit(
                feeds[0], validation_data=feeds[1], steps_per_epoch=len(train),
                validation_steps=len(val), **settings,
            )  # fmt: skip
            return (time.perf_counter() - begin) / int(options.epochs)

    speeds = in_turns({"h5video_data": ours, "plain generator": plain}, options.rounds)
    seconds = {name: float(np.median(found)) for name, found in speeds.items()}
    return {**seconds, "ratio": seconds["h5video_data"] / seconds["plain generator"]}


def main(arguments: list[str] | None = None) -> int:
    """Measures, and prints a line for each layout, and one for `fit`."""
    parser = make_parser("benchmarks.epochs", __doc__, ["contiguous", "chunked"])
    parser.add_argument("--batch-size", type=positive_integer, default=32)
    parser.add_argument("--rounds", type=positive_integer, default=7)
    parser.add_argument("--toy", type=positive_integer, default=34, help="samples of the toy set")
    parser.add_argument("--epochs", type=positive_integer, default=5, help="of a `fit`")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.samples = options.samples or 1500
    for layout, path, _ in open_sets(options):
        found = measure_layout(path, options)
        print(f"{layout}:", ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    with temporary_folder(options) as folder:
        found = measure_fit(folder, options)
    print("fit, s an epoch:", ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
