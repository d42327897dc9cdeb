"""Measures the feed against the machine's limit and against a plain generator, in one run.

    python -m benchmarks.feed
    python -m benchmarks.feed --layouts contiguous --at-least 0.8

Both feeds are `tf.data.Dataset`s that give shuffled batches of 32 with the page cache warm; the
limit is positioned reads of the same samples, or decoding of the same chunks from memory, by all
threads. They take turns, the first round warms up, and medians are reported with the spread
(the range of the middle half). The bytes delivered are verified in the first round.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .limits import SAMPLE_BYTES, decoding, positioned_reads
from .plain_generator import generate_training_sequences
from .video_set import LAYOUTS, make_set

BATCH_SIZE = 32

# Epochs of a run, where one takes a tenth of a second.
EPOCHS = 4

# A plain generator takes minutes for an epoch of a chunked file.
PLAIN_BATCHES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurement; the exit code is 1 if a ratio to the limit is below `--at-least`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=[*LAYOUTS])
    parser.add_argument("--samples", type=int, default=2000)
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
            path = make_set(folder, layout, options.samples)
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

    from h5video_data import VideoLoader
    from h5video_data.memory import DEFAULT_BATCHES

    loader = VideoLoader(
        path, batch_size=BATCH_SIZE, seed=0, drop_remainder=True, num_threads=num_threads
    )
    ours = loader.dataset()
    order = np.random.default_rng([0, 0]).permutation(loader.num_samples)

    def limit() -> float:
        if "compression" in LAYOUTS[layout]:
            return decoding(
                path,
                num_threads=num_threads,
                num_samples_in_memory=DEFAULT_BATCHES * BATCH_SIZE,
            )
        return positioned_reads(
            path,
            order,
            batch_size=BATCH_SIZE,
            num_threads=num_threads,
            num_buffers=DEFAULT_BATCHES,
        )

    with h5py.File(path, "r") as file:
        plain = tf.data.Dataset.from_generator(
            lambda: generate_training_sequences(BATCH_SIZE, file, order.tolist()),
            output_signature=ours.element_spec,
        )
        if layout != "contiguous":
            plain = plain.take(PLAIN_BATCHES)
        plain = plain.take(len(ours))
        _verify(ours, file, BATCH_SIZE * len(ours))
        many_epochs = ours.repeat(1 if "compression" in LAYOUTS[layout] else EPOCHS)
        measures: list[Callable[[], float]] = [
            limit,
            lambda: _drain(many_epochs),
            lambda: _drain(plain),
        ]
        speeds = np.array([[measure() for measure in measures] for _ in range(rounds + 1)])[1:]
    loader.close()
    return speeds[:, 0], speeds[:, 1], speeds[:, 2]


def _drain(dataset: Any) -> float:
    num_batches = 0
    begin = time.perf_counter()
    for _ in dataset:
        num_batches += 1
    return num_batches * BATCH_SIZE * SAMPLE_BYTES / (time.perf_counter() - begin)


def _verify(dataset: Any, file: Any, num_samples: int) -> None:
    """Raises if an epoch is not made of that many different samples of the file, unchanged."""

    def checksums(clips: Any) -> list[int]:
        # The noise makes every sample's own.
        weights = np.arange(1, 65, dtype=np.uint64)
        words = np.ascontiguousarray(clips).reshape(len(clips), -1).view(np.uint64)
        return [int(value) for value in (words[:, ::1171][:, :64] * weights).sum(axis=1)]

    stored = {c for i in range(0, len(file["X"]), 16) for c in checksums(file["X"][i : i + 16])}
    found = [c for x, _ in dataset for c in checksums(x.numpy())]
    if len(set(found)) != num_samples or not stored.issuperset(found):
        sys.exit("wrong samples were delivered")


def _text(speeds: Any) -> str:
    low, middle, high = np.percentile(speeds / 1e6, [25, 50, 75])
    return f"{middle:9.0f} ±{(high - low) / 2:5.0f}"


if __name__ == "__main__":
    sys.exit(main())
