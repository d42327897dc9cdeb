"""How the feed's speed changes with what it is asked for, and how its time grows with the work.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --only threads samples --json scaling.json

`batch`: batch sizes. `sample`: samples of 64 KiB to 64 MiB. `threads`: 1 to all. `work`: epochs of
an eighth of the set up to all of it. `samples`: sets of 10^2 to 10^7 samples, and what it takes to
open and shuffle them. One file after the other, page cache warm, medians of several turns after
one that warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .contenders import Job, num_processors
from .contenders.ours import LoaderFeed
from .files import open_file
from .limits import buffers_of_a_feed, limit_of
from .machine import machine, versions
from .measure import Turn, measure_turn, spread, warm_cache
from .video_set import LAYOUTS, make_set

# A frame of 64 KiB: samples of other sizes have more of them.
FRAME_SHAPE = (4, 128, 128)

# Samples that are too small to matter: what is measured is what each of them costs.
TINY_SHAPE = (1, 1, 2, 2)


@dataclass(frozen=True)
class Sizes:
    """How large it all is; the tests have smaller ones."""

    num_samples: int = 1000
    batch_sizes: tuple[int, ...] = (1, 4, 16, 32, 64, 128, 256)
    sample_frames: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    total_bytes: int = 1 << 30
    """Of a set of samples of one size."""
    batch_bytes: int = 16 << 20
    """Of a batch of it, if it holds more than one sample."""
    indices: tuple[int, ...] = (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)
    max_chunks: int = 100_000
    """A chunk a sample is tried up to here: HDF5 takes long to write more."""
    rounds: int = 5
    seconds: float = 1.0


class Scaling:
    """Measures, and collects rows: dicts with `axis`, `layout`, `value` and what was found."""

    def __init__(self, folder: Path, sizes: Sizes, layouts: Sequence[str]) -> None:
        """Remembers where to make sets."""
        self._folder = folder
        self._sizes = sizes
        self._layouts = layouts
        self.rows: list[dict[str, Any]] = []

    def batch(self) -> None:
        """Batch sizes."""
        for layout in self._layouts:
            path = make_set(self._folder, layout, self._sizes.num_samples)
            for size in self._sizes.batch_sizes:
                if 2 * size <= self._sizes.num_samples:
                    self._speed("batch", layout, size, self._job(path, batch_size=size))

    def threads(self) -> None:
        """Threads, from one to as many as there are processors, and what as many can do."""
        counts = sorted({*(1 << i for i in range(10)), num_processors()})
        for layout in self._layouts:
            path = make_set(self._folder, layout, self._sizes.num_samples)
            for count in counts:
                if count <= num_processors():
                    job = self._job(path, num_threads=count)
                    self._speed("threads", layout, count, job, with_limit=True)

    def work(self) -> None:
        """Epochs of an eighth of the set, up to all of it: time should grow as work grows."""
        for layout in self._layouts:
            path = make_set(self._folder, layout, self._sizes.num_samples)
            for part in (8, 4, 2, 1):
                job = self._job(path, num_samples=self._sizes.num_samples // part)
                self._speed("work", layout, job.num_samples, job, one_epoch=True)

    def sample(self) -> None:
        """Samples of 64 KiB to 64 MiB, in batches of as many bytes, or of one sample."""
        for frames in self._sizes.sample_frames:
            shape = (frames, *FRAME_SHAPE)
            num_bytes = frames * int(np.prod(FRAME_SHAPE))
            batch_size = max(1, self._sizes.batch_bytes // num_bytes)
            num_samples = max(4 * batch_size, self._sizes.total_bytes // num_bytes)
            path = self._folder / f"frames_{frames}.h5"
            with h5py.File(path, "w") as file:
                X = file.create_dataset("X", (num_samples, *shape), np.uint8)
                for i in range(num_samples):
                    X[i] = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
                file["Y"] = np.zeros((num_samples, 10), np.float32)
            job = self._job(str(path), batch_size=batch_size)
            self._speed("sample", "contiguous", num_bytes, job)
            path.unlink()

    def samples(self) -> None:
        """Sets of 100 to 10 million samples: opening, the order of an epoch, memory."""
        for chunks in (None, (1, *TINY_SHAPE)):
            for count in self._sizes.indices:
                if chunks is None or count <= self._sizes.max_chunks:
                    self._bookkeeping(count, chunks)

    def _bookkeeping(self, count: int, chunks: tuple[int, ...] | None) -> None:
        from h5video_data import VideoLoader

        path = self._folder / f"tiny_{count}.h5"
        with h5py.File(path, "w") as file:
            # Given as an array: h5py writes a single value to one sample after the other.
            zeros = np.zeros((count, *TINY_SHAPE), np.uint8)
            file.create_dataset("X", data=zeros, chunks=chunks)
            file["Y"] = np.zeros((count, 1), np.float32)
        seconds: dict[str, list[float]] = {"open": [], "first_batch": []}
        # Twice: the second time without the tracing of memory, which takes time.
        for number in range(self._sizes.rounds + 1):
            if number == 0:
                tracemalloc.start()
            begin = time.perf_counter()
            with VideoLoader(str(path), batch_size=32, seed=0) as loader:
                opened = time.perf_counter()
                # The whole epoch's order is drawn before its first batch is read.
                next(iter(loader))
                first = time.perf_counter()
            if number == 0:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                continue
            seconds["open"].append(opened - begin)
            seconds["first_batch"].append(first - opened)
        path.unlink()
        self._add(
            "samples",
            "contiguous" if chunks is None else "a chunk a sample",
            count,
            open_seconds=spread(seconds["open"]),
            first_batch_seconds=spread(seconds["first_batch"]),
            peak_bytes=peak,
        )

    def _job(self, path: str, **options: Any) -> Job:
        with open_file(path) as file:
            stored = len(file["X"])
        fields: dict[str, Any] = {
            "batch_size": 32,
            "num_threads": num_processors(),
            "num_samples": stored,
        }
        fields |= options
        fields["batch_size"] = min(fields["batch_size"], fields["num_samples"])
        fields["num_samples"] -= fields["num_samples"] % fields["batch_size"]
        return Job(path, self._folder, **fields)

    def _speed(
        self,
        axis: str,
        layout: str,
        value: int,
        job: Job,
        *,
        one_epoch: bool = False,
        with_limit: bool = False,
    ) -> None:
        warm_cache(job.path)
        (shape, dtype), _ = job.array_specs()
        sample_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        turn = Turn(0.0 if one_epoch else self._sizes.seconds, max(10.0, self._sizes.seconds))
        feed = LoaderFeed(job, "exact")
        limit = limit_of(
            job.path,
            job.order(0),
            batch_size=job.batch_size,
            num_threads=job.num_threads,
            num_buffers=buffers_of_a_feed(job.batch_size * sample_bytes),
        )
        speeds, times, shares = [], [], []
        with feed.loader:
            for number in range(self._sizes.rounds + 1):
                result = measure_turn(feed, turn)
                possible = limit.measure() if with_limit and limit is not None else None
                if number == 0:
                    continue
                speeds.append(result.num_samples * sample_bytes / result.seconds)
                times.append(result.seconds / result.num_batches * job.steps)
                if possible is not None:
                    shares.append(speeds[-1] / possible)
        figures = {"bytes_per_second": spread(speeds), "epoch_seconds": spread(times)}
        if shares:
            figures["of_limit"] = spread(shares)
        self._add(axis, layout, value, **figures)

    def _add(self, axis: str, layout: str, value: int, **figures: Any) -> None:
        self.rows.append({"axis": axis, "layout": layout, "value": value, **figures})
        print(_text(self.rows[-1]), flush=True)


def _text(row: dict[str, Any]) -> str:
    head = f"{row['axis']:10}{row['layout']:18}{row['value']:>12,}"
    if "peak_bytes" in row:
        return (
            f"{head}  opening {row['open_seconds'][0] * 1000:9.2f} ms, first batch "
            f"{row['first_batch_seconds'][0] * 1000:9.2f} ms, "
            f"peak {row['peak_bytes'] / 1e6:8.1f} MB"
        )
    middle, half = row["bytes_per_second"]
    epoch = row["epoch_seconds"][0] * 1000
    share = f", {row['of_limit'][0]:.2f} of the limit" if "of_limit" in row else ""
    return f"{head}  {middle / 1e6:9,.0f} ±{half / 1e6:5,.0f} MB/s, {epoch:9.1f} ms an epoch{share}"


def main(arguments: Sequence[str] | None = None, sizes: Sizes | None = None) -> int:
    """Measures what is asked for, and prints a line for each point."""
    sizes = sizes or Sizes()
    axes = ("batch", "threads", "work", "sample", "samples")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=axes, default=axes)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["contiguous", "gzip"])
    parser.add_argument("--folder", type=Path, help="make the sets here (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        scaling = Scaling(folder, sizes, options.layouts)
        measures: dict[str, Callable[[], None]] = {axis: getattr(scaling, axis) for axis in axes}
        for axis in options.only:
            measures[axis]()
        report = {"machine": machine(folder), "versions": versions(), "rows": scaling.rows}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
