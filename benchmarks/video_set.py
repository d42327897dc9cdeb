"""The set that is measured: image-like samples, the same in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

SAMPLE_SHAPE = (16, 3, 112, 112)
NUM_CLASSES = 10

# How `X` is stored; the arguments of h5py's `create_dataset`.
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (1, *SAMPLE_SHAPE)},
    "gzip": {"chunks": (1, *SAMPLE_SHAPE), "compression": "gzip", "compression_opts": 4},
    "lzf": {"chunks": (1, *SAMPLE_SHAPE), "compression": "lzf"},
}


def sample(index: int) -> NDArray[np.uint8]:
    """One sample: a smooth gradient that drifts, a bright shape that moves, light noise."""
    frames, channels, rows, columns = SAMPLE_SHAPE
    rng = np.random.default_rng([7, index])
    t, c, y, x = np.ogrid[:frames, :channels, :rows, :columns]
    clip = (y * (1 + index % 3) + x * (1 + index % 2)) // 2 + 5 * index + 3 * t + 40 * c
    top, left = int(rng.integers(rows - 40)), int(rng.integers(columns - 40))
    inside = (abs(y - top - t) < 20) & (abs(x - left - 2 * t) < 20)
    noise = rng.integers(0, 8, SAMPLE_SHAPE, dtype=np.uint8)
    pixels: NDArray[np.uint8] = (clip + 60 * inside + noise).astype(np.uint8)
    return pixels


def make_set(folder: Path, layout: str, num_samples: int) -> str:
    """Writes the set in a layout, unless it is there already.

    Args:
        folder: Where to write.
        layout: A key of `LAYOUTS`.
        num_samples: How many samples.

    Returns:
        The file's path.
    """
    path = folder / f"{layout}_{num_samples}.h5"
    if path.exists():
        return str(path)
    partial = path.with_suffix(".partial")
    with h5py.File(partial, "w") as file:
        X = file.create_dataset("X", (num_samples, *SAMPLE_SHAPE), np.uint8, **LAYOUTS[layout])
        for i in range(num_samples):
            X[i] = sample(i)
        file["Y"] = np.eye(NUM_CLASSES, dtype=np.float32)[np.arange(num_samples) % NUM_CLASSES]
        file.attrs["sample_count"] = num_samples
    partial.replace(path)
    return str(path)
