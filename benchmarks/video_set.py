"""The set that is measured: image-like samples, the same in every layout."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

SAMPLE_SHAPE = (16, 3, 112, 112)
NUM_CLASSES = 10

# Bytes that are written at once, so that chunks of many samples are written once.
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Layout:
    """How `X` is stored."""

    chunk: tuple[int, int] | bool = (1, 0)
    """(samples, frames) of a chunk, 0 for all frames; True: as h5py chooses; False: contiguous."""
    options: dict[str, Any] = field(default_factory=dict)
    """Filters: arguments of h5py's `create_dataset`."""
    plugin: str | None = None
    """A filter of hdf5plugin; `options` are then its arguments."""
    dtype: str = "uint8"

    @property
    def is_compressed(self) -> bool:
        """Whether it has a filter."""
        return bool(self.options)

    def why_not(self) -> str | None:
        """Why it cannot be written here, and what to do about it; None: it can."""
        if self.plugin and importlib.util.find_spec("hdf5plugin") is None:
            return "hdf5plugin is not installed: pip install '.[filters]'"
        return None

    def arguments(self, sample_shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments of `create_dataset`, but for its name and its shape."""
        arguments: dict[str, Any] = {"dtype": self.dtype}
        if self.chunk is True:
            arguments["chunks"] = True
        elif self.chunk:
            samples, frames = self.chunk
            frames = min(frames or sample_shape[0], sample_shape[0])
            arguments["chunks"] = (samples, frames, *sample_shape[1:])
        if self.plugin is None:
            return {**arguments, **self.options}
        import hdf5plugin

        return {**arguments, **getattr(hdf5plugin, self.plugin)(**self.options)}


LAYOUTS = {
    "contiguous": Layout(False),
    "chunked": Layout(),
    "gzip": Layout(options={"compression": "gzip", "compression_opts": 4}),
    "lzf": Layout(options={"compression": "lzf"}),
    "zstd": Layout(options={"clevel": 3}, plugin="Zstd"),
    "lz4": Layout(options={"nbytes": 0}, plugin="LZ4"),
    "blosc": Layout(options={"cname": "lz4", "clevel": 5, "shuffle": 2}, plugin="Blosc"),
    "bitshuffle": Layout(options={"cname": "lz4"}, plugin="Bitshuffle"),
    "float32": Layout(
        options={"compression": "gzip", "compression_opts": 4, "shuffle": True}, dtype="float32"
    ),
    "many": Layout((16, 4), options={"compression": "gzip", "compression_opts": 4}),
    "auto": Layout(True),
}


def sample(index: int, shape: tuple[int, ...] = SAMPLE_SHAPE) -> NDArray[np.uint8]:
    """One sample: a smooth gradient that drifts, a bright shape that moves, light noise.

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
    """Writes the set in a layout, unless it is there already.

    Args:
        folder: Where to write.
        layout: A key of `LAYOUTS`.
        num_samples: How many samples.
        sample_shape: (frames, channels, rows, columns).

    Returns:
        The file's path.
    """
    shape_text = "" if sample_shape == SAMPLE_SHAPE else "_" + "x".join(map(str, sample_shape))
    path = folder / f"{layout}_{num_samples}{shape_text}.h5"
    if path.exists():
        return str(path)
    partial = path.with_suffix(".partial")
    arguments = LAYOUTS[layout].arguments(sample_shape)
    with h5py.File(partial, "w") as file:
        X = file.create_dataset("X", (num_samples, *sample_shape), **arguments)
        slab = X.chunks[0] if X.chunks else 1
        block = slab * max(1, BLOCK_BYTES // (slab * math.prod(sample_shape) * X.dtype.itemsize))
        for first in range(0, num_samples, block):
            numbers = range(first, min(first + block, num_samples))
            pixels = np.stack([sample(i, sample_shape) for i in numbers])
            X[first : numbers.stop] = pixels if X.dtype == np.uint8 else pixels / X.dtype.type(255)
        file["Y"] = np.eye(NUM_CLASSES, dtype=np.float32)[np.arange(num_samples) % NUM_CLASSES]
        file.attrs["sample_count"] = num_samples
    partial.replace(path)
    return str(path)
