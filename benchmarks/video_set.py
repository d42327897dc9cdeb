"""The set that is measured: image-like samples, the same in every layout."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .facts import UsageError, drop_cache

SAMPLE_SHAPE = (16, 3, 112, 112)
NUM_CLASSES = 10
NUM_SAMPLES = 2000

# Bytes that are written at once, so that chunks of many samples are written once.
BLOCK_BYTES = 64 << 20


LAYOUTS = (
    "contiguous", "chunked", "gzip", "lzf", "zstd", "lz4", "blosc", "bitshuffle", "float32", "many",
    "auto",
)  # fmt: skip

# Filters of hdf5plugin, and their arguments.
PLUGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "zstd": ("Zstd", {"clevel": 3}),
    "lz4": ("LZ4", {"nbytes": 0}),
    "blosc": ("Blosc", {"cname": "lz4", "clevel": 5, "shuffle": 2}),
    "bitshuffle": ("Bitshuffle", {"cname": "lz4"}),
}


def storage(layout: str, sample_shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the arguments of `create_dataset` for a layout, but for the name and the shape.

    Raises:
        UsageError: hdf5plugin is needed, and not installed.
    """
    gzip = {"compression": "gzip", "compression_opts": 4}
    own: dict[str, dict[str, Any]] = {
        "contiguous": {"chunks": None},
        "gzip": gzip,
        "lzf": {"compression": "lzf"},
        "float32": {"dtype": "float32", "shuffle": True, **gzip},
        "many": {"chunks": (16, min(4, sample_shape[0]), *sample_shape[1:]), **gzip},
        "auto": {"chunks": True},
    }
    options = own.get(layout, {})
    if layout in PLUGINS:
        name, arguments = PLUGINS[layout]
        try:
            import hdf5plugin
        except ImportError as error:
            text = f"the filter {name} needs hdf5plugin: pip install '.[filters]'"
            raise UsageError(text) from error
        options = getattr(hdf5plugin, name)(**arguments)
    return {"dtype": "uint8", "chunks": (1, *sample_shape), **options}


def sample(index: int, shape: tuple[int, ...] = SAMPLE_SHAPE) -> NDArray[np.uint8]:
    """Makes one sample: a smooth gradient that drifts, a bright shape that moves, light noise.

    Args:
        index: Its number in the set.
        shape: (frames, channels, rows, columns).
    """
    frames, channels, rows, columns = shape
    rng = np.random.default_rng([7, index])
    t, c, y, x = np.ogrid[:frames, :channels, :rows, :columns]
    clip = (y * (1 + index % 3) + x * (1 + index % 2)) // 2 + 5 * index + 3 * t + 40 * c
    size = max(2, min(rows, columns) * 40 // 112)
    top, left = int(rng.integers(max(1, rows - size))), int(rng.integers(max(1, columns - size)))
    inside = (abs(y - top - t) < size // 2) & (abs(x - left - 2 * t) < size // 2)
    noise = rng.integers(0, 8, shape, dtype=np.uint8)
    pixels: NDArray[np.uint8] = (clip + 60 * inside + noise).astype(np.uint8)
    return pixels


def make_set(
    folder: Path, layout: str, num_samples: int, sample_shape: tuple[int, ...] = SAMPLE_SHAPE
) -> str:
    """Writes the set in a layout, unless it is there already; returns its path."""
    shape_text = "" if sample_shape == SAMPLE_SHAPE else "_" + "x".join(map(str, sample_shape))
    path = folder / f"{layout}_{num_samples}{shape_text}.h5"
    if path.exists():
        return str(path)
    arguments = storage(layout, sample_shape)
    partial = path.with_suffix(".partial")
    with h5py.File(partial, "w") as file:
        X = file.create_dataset("X", (num_samples, *sample_shape), **arguments)
        chunk = X.chunks[0] if X.chunks else 1
        block = chunk * max(1, BLOCK_BYTES // (chunk * math.prod(sample_shape) * X.dtype.itemsize))
        for first in range(0, num_samples, block):
            numbers = range(first, min(first + block, num_samples))
            pixels = np.stack([sample(i, sample_shape) for i in numbers])
            X[first : numbers.stop] = pixels if X.dtype == np.uint8 else pixels / X.dtype.type(255)
        file["Y"] = np.eye(NUM_CLASSES, dtype=np.float32)[np.arange(num_samples) % NUM_CLASSES]
        file.attrs["sample_count"] = num_samples
    partial.replace(path)
    return str(path)


def add_options(parser: argparse.ArgumentParser, layouts: list[str]) -> None:
    """Adds the options about sets to a command line, with these layouts as default."""
    add = parser.add_argument
    names = [*LAYOUTS, "all"]
    add("--layouts", nargs="+", default=layouts, choices=names, metavar="NAME", help=str(names))
    add("--samples", type=int, metavar="N", help="of a set, or of a given file at most")
    shape_text = ("FRAMES", "CHANNELS", "ROWS", "COLUMNS")
    add("--sample-shape", nargs=4, type=int, default=SAMPLE_SHAPE, metavar=shape_text)
    add("--folder", type=Path, help="make the sets here and keep them (default: temporary)")


def open_sets(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Makes the sets that a command line asks for; without `--folder`, each for its turn only.

    Yields:
        A layout, the path of its set, and a folder for more files.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given, place = (getattr(options, name, None) for name in ("file", "temporary"))
    if place:
        Path(place).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        # Other processes have other working folders.
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if given:
            yield Path(given).name, os.path.abspath(given), str(folder)
            return
        for layout in LAYOUTS if "all" in options.layouts else dict.fromkeys(options.layouts):
            shape = tuple(options.sample_shape)
            path = make_set(folder, layout, options.samples or NUM_SAMPLES, shape)
            # Otherwise the system might write it to the disk while something is measured.
            drop_cache([path])
            yield layout, path, str(folder)
            if not options.folder:
                Path(path).unlink()
