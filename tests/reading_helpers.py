"""What the tests of reading share with others."""

from __future__ import annotations

import os

import h5py
import numpy as np
from conftest import Order

from h5video_data.loader import VideoLoader

SHAPE = (7, 4, 3, 5)


def values(shape=SHAPE, dtype="<u2", seed=0):
    """Values that use every byte of the dtype; every other sample can be compressed."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        made = rng.integers(0, 2, shape)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        made = rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True)
    else:
        made = rng.standard_normal(shape)
        if dtype.kind == "c":
            made = made + 1j * rng.standard_normal(shape)
    made[::2, ...] = made[::2, ..., :1] if made.ndim > 1 else made[::2]
    return made.astype(dtype)


def check(path, name="X", order=None, **options):
    """Compares two epochs (the second goes into used buffers) with h5py, byte by byte."""
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    rows = []
    for item in paths:
        with h5py.File(item) as file:
            dataset = file[name]
            count = int(file.attrs.get("sample_count", len(dataset)))
            rows += [dataset[i] for i in range(count)]
    order = np.arange(len(rows))[::-1] if order is None else np.asarray(order)
    expected = np.stack([rows[i] for i in order])
    expected = expected.astype(expected.dtype.newbyteorder("="))
    options = {"batch_size": 3, "num_threads": 2, **options}
    with VideoLoader(path, x=name, y=None, shuffle=Order(order), **options) as loader:
        for _ in range(2):
            if options["batch_size"] is None:
                got = np.stack(list(loader))
            else:
                got = np.concatenate(list(loader))
            assert got.dtype.name == expected.dtype.name
            assert got.dtype.isnative
            np.testing.assert_array_equal(got, expected)
            assert got.tobytes() == expected.tobytes()  # -0.0, NaN
