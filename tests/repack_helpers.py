"""What the tests of `repack` share."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from h5video_data.planning.access import direct_access
from h5video_data.storage.layout import describe
from h5video_data.testing import SAMPLE_SHAPE

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
