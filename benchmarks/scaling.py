"""Measures how the feed's speed depends on what it is asked for, and how its time grows with it.

    python -m benchmarks.scaling --json scaling.json

`batch`: batch sizes. `sample`: samples of 64 KiB to 64 MiB. `threads`: 1 to all. `work`: epochs of
an eighth of the set up to all of it. `samples`: sets of 10^2 to 10^7 samples, and what it takes to
open and shuffle them. One file after the other, page cache warm, medians of several turns after
one that warms up.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .contenders import Job
from .contenders.ours import LoaderFeed
from .facts import machine, num_processors, versions, warm_cache
from .limits import limit_of
from .measure import Turn, in_turns, spread
from .report import megabytes
from .video_set import make_parser, open_sets, temporary_folder

ROUNDS = 5
TURN = Turn(1.0, 10.0)
BATCH_SIZES = (1, 4, 16, 32, 64, 128, 256)

# Samples of several sizes, by their frames of 64 KiB: bytes of a set, and of a batch that holds
# more than one sample.
FRAMES = (1, 4, 16, 64, 256, 1024)
FRAME_SHAPE = (4, 128, 128)
SET_BYTES = 1 << 30
BATCH_BYTES = 16 << 20

# Numbers of samples too small to matter: what is measured is what each of them costs. A chunk a
# sample is tried up to MAX_CHUNKS: HDF5 takes long to write more.
NUM_SAMPLES = (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)
MAX_CHUNKS = 100_000
TINY_SHAPE = (1, 1, 2, 2)

# An axis, a layout, a value on the axis, and the figures there.
Point = tuple[str, str, int, dict[str, Any]]


def of_a_set(layout: str, path: str) -> Iterator[Point]:
    """Measures batch sizes, numbers of threads, and the work of an epoch."""
    job = Job.of_file(path, "", 32)
    for size in BATCH_SIZES:
        if 2 * size <= job.num_samples:
            yield "batch", layout, size, _speed(Job.of_file(path, "", size))
    for count in sorted({*(1 << i for i in range(10)), num_processors()}):
        if count <= num_processors():
            figures = _speed(replace(job, num_threads=count), with_limit=True)
            yield "threads", layout, count, figures
    for part in (8, 4, 2, 1):
        smaller = Job.of_file(path, "", 32, job.num_samples // part)
        yield "work", layout, smaller.num_samples, _speed(smaller, turn=Turn(0.0, 10.0))


def of_sample_sizes(path: str) -> Iterator[Point]:
    """Measures samples of several sizes."""
    for frames in FRAMES:
        shape = (frames, *FRAME_SHAPE)
        num_bytes = int(np.prod(shape))
        batch_size = max(1, BATCH_BYTES // num_bytes)
        num_samples = max(4 * batch_size, SET_BYTES // num_bytes)
        with h5py.File(path, "w") as file:
            X = file.create_dataset("X", (num_samples, *shape), np.uint8)
            for i in range(num_samples):
                X[i] = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
            file["Y"] = np.zeros((num_samples, 10), np.float32)
        yield "sample", "contiguous", num_bytes, _speed(Job.of_file(path, "", batch_size))


def of_numbers_of_samples(path: str) -> Iterator[Point]:
    """Measures the opening of sets of many small samples, and their first batches."""
    for layout, chunks in {"contiguous": None, "a chunk a sample": (1, *TINY_SHAPE)}.items():
        for count in NUM_SAMPLES:
            if chunks is not None and count > MAX_CHUNKS:
                continue
            with h5py.File(path, "w") as file:
                # Given as an array: h5py writes a single value to one sample after the other.
                zeros = np.zeros((count, *TINY_SHAPE), np.uint8)
                file.create_dataset("X", data=zeros, chunks=chunks)
                file["Y"] = np.zeros((count, 1), np.float32)
            tracemalloc.start()
            _open(path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()  # it takes time
            opening, first = np.array([_open(path) for _ in range(ROUNDS)]).T
            figures = {"open_seconds": spread(opening), "first_batch_seconds": spread(first)}
            yield "samples", layout, count, {**figures, "peak_bytes": peak}


def _open(path: str) -> tuple[float, float]:
    """Seconds to open a set, and from there to its first batch."""
    from h5video_data import VideoLoader

    begin = time.perf_counter()
    with VideoLoader(path, batch_size=32, seed=0) as loader:
        opened = time.perf_counter()
        # The whole epoch's order is drawn before its first batch is read.
        next(iter(loader))
        return opened - begin, time.perf_counter() - opened


def _speed(job: Job, *, turn: Turn | None = None, with_limit: bool = False) -> dict[str, Any]:
    """The figures of the feed; a turn is an epoch or more."""
    feed, batch_bytes = LoaderFeed(job), job.batch_bytes
    limit = limit_of(job) if with_limit else None
    warm_cache(job.path)

    def measure() -> tuple[float, float]:
        result = feed.take_turn(turn or TURN)
        batch_seconds = result.seconds / result.num_batches
        return batch_bytes / batch_seconds, batch_seconds * job.steps

    measures: dict[str, Callable[[], Any]] = {"feed": measure}
    if limit is not None:
        measures["limit"] = limit.measure
    with feed.loader:
        found = in_turns(measures, ROUNDS)
    speeds, seconds = np.array(found["feed"]).T
    figures = {"bytes_per_second": spread(speeds), "epoch_seconds": spread(seconds)}
    return figures | ({"of_limit": spread(speeds / found["limit"])} if "limit" in found else {})


def _text(row: dict[str, Any]) -> str:
    head = f"{row['axis']:10}{row['layout']:18}{row['value']:>12,}"
    if "peak_bytes" in row:
        opening, first = (1000 * row[name][0] for name in ("open_seconds", "first_batch_seconds"))
        peak = f"peak {row['peak_bytes'] / 1e6:8.1f} MB"
        return f"{head}  opening {opening:9.2f} ms, first batch {first:9.2f} ms, {peak}"
    epoch = row["epoch_seconds"][0] * 1000
    share = f", {row['of_limit'][0]:.2f} of the limit" if "of_limit" in row else ""
    return f"{head}  {megabytes(row['bytes_per_second']):>16} MB/s, {epoch:9.1f} ms an epoch{share}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is asked for, and prints a line for each point."""
    parser = make_parser("benchmarks.scaling", __doc__, ["contiguous", "gzip"])
    parser.set_defaults(samples=1000)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures")
    options = parser.parse_args(arguments)
    rows = []

    def add(points: Iterator[Point]) -> None:
        for axis, layout, value, figures in points:
            rows.append({"axis": axis, "layout": layout, "value": value, **figures})
            print(_text(rows[-1]), flush=True)

    for layout, path, _ in open_sets(options):
        add(of_a_set(layout, path))
    with temporary_folder(options) as folder:
        add(of_sample_sizes(str(folder / "set.h5")))
        add(of_numbers_of_samples(str(folder / "set.h5")))
        report = {"machine": machine(folder), "versions": versions(), "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
