"""What the tests of `repack` share."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from h5video_data.planning.access import direct_access
from h5video_data.storage.layout import describe
from h5video_data.testing import SAMPLE_SHAPE, sample_values, write_video_file

ONE = (1, *SAMPLE_SHAPE)
MANY = (4, *SAMPLE_SHAPE)
GZIP = {"compression": "gzip"}


def noise(shape, dtype=np.uint8, seed=0):
    """Values of all bytes, NaNs among them, in the dtype's own byte order."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(count), dtype).reshape(shape)


def native(values):
    return values.astype(values.dtype.newbyteorder("="))


def stored(path, name="X"):
    """The dataset's storage, chunks, filters, values in this machine's byte order."""
    with h5py.File(path) as file:
        dataset = file[name]
        made = describe(dataset)
        assert direct_access(made).kind == "direct"  # what all this is about
        return made.storage, made.chunk_shape, [item.id for item in made.filters], dataset[()]


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()  # NaN, -0.0


def files_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def write_virtual(folder):
    """A virtual dataset over two files in a folder below."""
    (folder / "parts").mkdir()
    layout = h5py.VirtualLayout((10, *SAMPLE_SHAPE), "u1")
    for number in range(2):
        name = f"parts/{number}.h5"
        write_video_file(folder / name, num_samples=5, first=5 * number)
        layout[5 * number : 5 * number + 5] = h5py.VirtualSource(name, "X", (5, *SAMPLE_SHAPE))
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
        file["other"] = 1
    return folder / "a.h5"


def write_external(folder):
    """Datasets whose bytes are in other files."""
    with h5py.File(folder / "a.h5", "w", driver="sec2") as file:
        for name in ("X", "other"):
            shape, data = (10, *SAMPLE_SHAPE), sample_values(np.arange(10))
            place = [(os.fspath(folder / f"{name}.raw"), 0, data.nbytes)]
            file.create_dataset(name, shape, "u1", external=place)
            file[name][...] = data
    return folder / "a.h5"


def change(path, name, values):
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if values is not None:
            file[name] = values
