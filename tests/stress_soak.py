"""Memory, threads and descriptors over many epochs, dropped iterators, and loaders.

    python tests/stress_soak.py [--epochs 10000] [--iterators 1000] [--loaders 200]

Prints, for each, the slope of what the process holds, with the 95% interval of a straight line
through the second half of the measurements; the exit code is 1 if memory grows by more than
`LIMIT_NBYTES` a step, or threads or descriptors at all.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np

import h5video_data as h5v
from h5video_data import testing
from h5video_data.planning import access

SHAPE = (4, 3, 16, 16)
# Bytes a step. TensorFlow keeps its functions of a dataset, until their memory is used again.
LIMIT_NBYTES = {"epochs": 200, "iterators": 20_000, "loaders": 20_000}


def write(path: Path) -> None:
    """Writes samples that are read in each of the ways."""
    testing.write_video_file(path, num_samples=40, sample_shape=SHAPE)
    with h5py.File(path, "a") as file:
        values = file["X"][()]
        file.create_dataset("rows", data=values, chunks=(5, *SHAPE), compression="gzip")
        file.create_dataset("odd", data=values.astype(np.int16), scaleoffset=0)


def held() -> tuple[int, int, int]:
    """Returns the process's memory in bytes, its threads and its descriptors."""
    gc.collect()
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return memory, threading.active_count(), len(os.listdir("/proc/self/fd"))


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the slope of a straight line, and half of its 95% interval."""
    x = x - x.mean()
    value = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - value * x
    # Student's t is 2.05 for 28 degrees of freedom.
    return value, 2.05 * math.sqrt(float((rest**2).sum()) / (len(x) - 2) / float((x * x).sum()))


def soak(name: str, count: int, step: Callable[[int], None]) -> bool:
    """Makes steps, and measures 60 times; prints and returns whether nothing grows."""
    begin, found, at = time.monotonic(), [], []
    moments = set(np.linspace(count // 60, count, 60).astype(int).tolist())
    for number in range(1, count + 1):
        step(number)
        if number in moments:
            at.append(number)
            found.append(held())
    x, values = np.array(at[len(at) // 2 :], float), np.array(found[len(at) // 2 :], float).T
    texts, is_flat = [], True
    limits = (LIMIT_NBYTES[name], 1e-6, 1e-6)
    for what, y, limit in zip(("bytes", "threads", "descriptors"), values, limits, strict=True):
        value, half = slope(x, y)
        is_flat &= value - half <= limit
        texts.append(f"{y[0]:.0f} to {y[-1]:.0f} {what}, {value:+.4g} ± {half:.2g} a step")
    print(f"{count} {name}, {time.monotonic() - begin:.0f} s: {'; '.join(texts)}", flush=True)
    return is_flat


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--iterators", type=int, default=1_000)
    parser.add_argument("--loaders", type=int, default=200)
    options = parser.parse_args()
    access.MEMORY_ROW_BYTES = 64  # or the samples would be kept in memory
    flat = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        write(path)
        arguments = {"batch_size": 8, "seed": 0, "num_threads": 2}
        x = {"a": "X", "b": "rows", "c": "odd"}

        if options.epochs:
            with h5v.VideoLoader(path, x=x, **arguments) as loader:

                def epoch(_: int) -> None:
                    count = sum(len(numbers) for _, numbers, _ in loader.batches())
                    assert count == 40

                flat.append(soak("epochs", options.epochs, epoch))
        if options.iterators:
            dataset = h5v.video_dataset_from_hdf5(path, x=x, **arguments)

            def drop(number: int) -> None:
                iterator = iter(dataset)
                for _ in range(number % 4):
                    next(iterator)

            flat.append(soak("iterators", options.iterators, drop))
            del dataset
        if options.loaders:

            def open_one(number: int) -> None:
                some = h5v.video_dataset_from_hdf5(path, x=x, **arguments)
                for _ in some.take(1 + number % 9):
                    pass

            flat.append(soak("loaders", options.loaders, open_one))
    return int(not all(flat))


if __name__ == "__main__":
    sys.exit(main())
