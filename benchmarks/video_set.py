"""The set that is measured: image-like samples or crops of films, the same in every layout."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .facts import UsageError, drop_cache, sample_bytes
from .films import film_sample

SAMPLE_SHAPE = (16, 3, 112, 112)
NUM_CLASSES = 10
NUM_SAMPLES = 2000

# Bytes that are written at once, so that chunks of many samples are written once.
BLOCK_BYTES = 64 << 20

GZIP = {"compression": "gzip", "compression_opts": 4}

# Filters of hdf5plugin, and their arguments.
PLUGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "zstd": ("Zstd", {"clevel": 3}),
    "lz4": ("LZ4", {"nbytes": 0}),
    "blosc": ("Blosc", {"cname": "lz4", "clevel": 5, "shuffle": 2}),
    "bitshuffle": ("Bitshuffle", {"cname": "lz4"}),
}

# Arguments of `create_dataset`; those that are missing: uint8, a chunk a sample.
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {"chunks": None},
    "chunked": {},
    "gzip": GZIP,
    "lzf": {"compression": "lzf"},
    **{name: {} for name in PLUGINS},
    "float32": {"dtype": "float32", "shuffle": True, **GZIP},
    "many": GZIP,  # chunks of 16 samples, 4 frames
    "auto": {"chunks": True},
}


def sample(index: int, shape: tuple[int, ...] = SAMPLE_SHAPE) -> NDArray[np.uint8]:
    """Makes one sample: a smooth gradient that drifts, a bright shape that moves, light noise."""
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


CONTENTS = {"gradients": sample, "films": film_sample}


def make_set(
    folder: Path,
    layout: str,
    num_samples: int,
    sample_shape: tuple[int, ...] = SAMPLE_SHAPE,
    content: str = "gradients",
) -> str:
    """Writes the set in a layout; returns its path."""
    make = CONTENTS[content]
    path = folder / f"{layout}.h5"
    options = {"dtype": "uint8", "chunks": (1, *sample_shape), **LAYOUTS[layout]}
    if layout == "many":
        options["chunks"] = (16, min(4, sample_shape[0]), *sample_shape[1:])
    if layout in PLUGINS:
        try:
            import hdf5plugin
        except ImportError as error:
            text = f"the layout {layout} needs hdf5plugin: pip install '.[filters]'"
            raise UsageError(text) from error
        name, arguments = PLUGINS[layout]
        options |= getattr(hdf5plugin, name)(**arguments)
    with h5py.File(path, "w") as file:
        X = file.create_dataset("X", (num_samples, *sample_shape), **options)
        chunk = X.chunks[0] if X.chunks else 1
        block = chunk * max(1, BLOCK_BYTES // (chunk * sample_bytes(X)))
        for first in range(0, num_samples, block):
            numbers = range(first, min(first + block, num_samples))
            pixels = np.stack([make(i, sample_shape) for i in numbers])
            X[first : numbers.stop] = pixels if X.dtype == np.uint8 else pixels / X.dtype.type(255)
        file["Y"] = np.eye(NUM_CLASSES, dtype=np.float32)[np.arange(num_samples) % NUM_CLASSES]
        file.attrs["sample_count"] = num_samples
    # Otherwise the system might write it to the disk while something is measured.
    drop_cache([path])
    return str(path)


def positive_integer(text: str) -> int:
    """Parses an argument of the command line."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def make_parser(
    prog: str, text: str | None, layouts: list[str], choices: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """Makes a command line's parser with the options about sets, `layouts` as default.

    Args:
        prog: Name of the program's module.
        text: What it does.
        layouts: The default.
        choices: What there is to choose from; None: all of `LAYOUTS`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {prog}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = [*LAYOUTS, "all"] if choices is None else [*choices]
    add("--layouts", nargs="+", default=layouts, choices=names, metavar="NAME", help=str(names))
    add(
        "--samples", type=positive_integer, metavar="N", help="of a set, or of a given file at most"
    )
    shape_text = ("FRAMES", "CHANNELS", "ROWS", "COLUMNS")
    add("--sample-shape", nargs=4, type=positive_integer, default=SAMPLE_SHAPE, metavar=shape_text)
    contents = "what the samples are: gradients with noise, or crops of films (extra demo)"
    add("--content", choices=[*CONTENTS], default="gradients", help=contents)
    add("--temporary", type=Path, metavar="FOLDER", help="make the temporary folder here")
    return parser


@contextlib.contextmanager
def temporary_folder(options: argparse.Namespace) -> Iterator[Path]:
    """Makes a temporary folder where a command line wants it."""
    if options.temporary:
        options.temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.temporary) as folder:
        # Other processes have other working folders.
        yield Path(folder).absolute()


def open_sets(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Makes the sets that a command line asks for, each for its turn only.

    Yields:
        A layout, the path of its set, and a folder for more files.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = getattr(options, "file", None)
    with temporary_folder(options) as folder:
        if given:
            yield Path(given).name, os.path.abspath(given), str(folder)
            return
        for layout in LAYOUTS if "all" in options.layouts else dict.fromkeys(options.layouts):
            shape = tuple(options.sample_shape)
            count, content = options.samples or NUM_SAMPLES, options.content
            path = make_set(folder, layout, count, shape, content)
            yield layout, path, str(folder)
            os.unlink(path)
