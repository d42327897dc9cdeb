"""Measures the feed against the machine's limit and against a plain generator, in one run.

    python -m benchmarks.feed
    python -m benchmarks.feed --layouts contiguous --at-least 0.8

Both feeds are `tf.data.Dataset`s that give shuffled batches of 32 with the page cache warm, to a
loop inside TensorFlow, as Keras's `fit` is one; the limit is positioned reads of the same samples,
or decoding of the same chunks from memory, by all threads. They take turns of some seconds, the
first round warms up, and medians are reported with the spread (the range of the middle half). The
bytes delivered are verified in the first round.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checks import compare, stored_digests
from .contenders import Job
from .contenders.ours import LoaderFeed
from .files import open_file
from .limits import buffers_of_a_feed, limit_of
from .measure import Turn
from .plain_generator import generate_training_sequences
from .video_set import LAYOUTS, SAMPLE_SHAPE, make_set

BATCH_SIZE = 32

STRICT = ["contiguous", "chunked", "gzip", "lzf"]

# How long each of them runs in a round, so that it is not the start of an iterator that is
# measured: TensorFlow takes some 50 ms for one.
SECONDS = 3.0

# A plain generator takes minutes for an epoch of a chunked file.
PLAIN_BATCHES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurement; the exit code is 1 if a ratio to the limit is below `--at-least`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=STRICT)
    parser.add_argument("--samples", type=int, default=2000)
    shape_text = ("FRAMES", "CHANNELS", "ROWS", "COLUMNS")
    parser.add_argument(
        "--sample-shape", nargs=4, type=int, default=SAMPLE_SHAPE, metavar=shape_text
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, help="keep the files here (default: temporary)")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="RATIO")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    worst = 1.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("bytes per second in MB/s: median ± half the range of the middle half")
        print(f"{'layout':12}{'limit':>16}{'h5video_data':>16}{'plain':>16}", end="")
        print(f"{'of limit':>10}{'x plain':>9}")
        for layout in options.layouts:
            path = make_set(folder, layout, options.samples, tuple(options.sample_shape))
            limit, ours, plain = _measure(path, layout, options.rounds, options.threads)
            ratio = float(np.median(ours / limit))
            worst = min(worst, ratio)
            print(
                f"{layout:12}{_text(limit)}{_text(ours)}{_text(plain)}"
                f"{ratio:10.2f}{np.median(ours) / np.median(plain):9.1f}"
            )
    return int(worst < options.at_least)


def _measure(path: str, layout: str, rounds: int, num_threads: int) -> tuple[Any, Any, Any]:
    """Bytes per second in each round: of the limit, of this package, of the plain generator."""
    import tensorflow as tf

    with open_file(path) as file:
        num_samples = len(file["X"]) // BATCH_SIZE * BATCH_SIZE
        sample_bytes = file["X"].dtype.itemsize * math.prod(file["X"].shape[1:])
        job = Job(path, Path(path).parent, num_samples, BATCH_SIZE, num_threads)
        order = job.order(0)
        limit = limit_of(
            path,
            order,
            batch_size=BATCH_SIZE,
            num_threads=num_threads,
            num_buffers=buffers_of_a_feed(BATCH_SIZE * sample_bytes),
        )
        assert limit is not None
        feed = LoaderFeed(job, "exact")
        ours: Any = feed.batches
        plain = tf.data.Dataset.from_generator(
            lambda: generate_training_sequences(BATCH_SIZE, file, order.tolist()),
            output_signature=ours.element_spec,
        )
        plain = plain.take(job.steps if layout == "contiguous" else min(job.steps, PLAIN_BATCHES))
        epochs = 1

        def drain(dataset: Any) -> float:
            # Inside TensorFlow, as Keras's fit does it: a loop in Python costs time of its own.
            begin = time.perf_counter()
            num_batches = int(dataset.reduce(np.int64(0), lambda count, *_: count + 1))
            num_bytes = num_batches * BATCH_SIZE * sample_bytes
            return float(num_bytes / (time.perf_counter() - begin))

        def drain_ours() -> float:
            # What was read ahead at the end of the round before would be a gift.
            nonlocal epochs
            feed.start_turn()
            speed = drain(ours.repeat(epochs))
            epochs = math.ceil(SECONDS * speed / (num_samples * sample_bytes))
            return speed

        def repeat_limit() -> float:
            begin = time.perf_counter()
            speeds = [limit.measure()]
            while time.perf_counter() - begin < SECONDS / 2:
                speeds.append(limit.measure())
            return statistics.harmonic_mean(speeds)

        measures: list[Callable[[], float]] = [repeat_limit, drain_ours, lambda: drain(plain)]
        with feed.loader:
            delivered = feed.take_turn(Turn(max_seconds=math.inf, with_digests=True)).digests
            compare(delivered, stored_digests(path, num_samples), is_whole_epoch=True)
            speeds = np.array([[measure() for measure in measures] for _ in range(rounds + 1)])[1:]
    return speeds[:, 0], speeds[:, 1], speeds[:, 2]


def _text(speeds: Any) -> str:
    low, middle, high = np.percentile(speeds / 1e6, [25, 50, 75])
    return f"{middle:9.0f} ±{(high - low) / 2:5.0f}"


if __name__ == "__main__":
    sys.exit(main())
