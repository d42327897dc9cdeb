"""Resizing, against `tf.image.resize` and against small models in NumPy."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from conftest import tf

from h5video_data.storage.pictures.resizing import Interpolation, resize_into

STORED = (37, 53)
SIZES = [(17, 20), (64, 80), (37, 53), (1, 1), (74, 53), (20, 90), (37, 20), (111, 159)]
DTYPES = ["uint8", "uint16"]
PICTURE = np.random.default_rng(0).integers(0, 1 << 16, (*STORED, 3), np.uint16)


def picture(dtype, channels=3):
    values = PICTURE if dtype == "uint16" else PICTURE >> 8
    return np.ascontiguousarray(values[..., :channels].astype(dtype))


def resized(stored, size, interpolation):
    out = np.full((*size, stored.shape[2]), 7, stored.dtype)
    resize_into(stored, out, interpolation)
    return out


@pytest.mark.tf
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_is_what_tensorflow_gives(interpolation, size, dtype):
    stored = picture(dtype)
    wanted = tf.image.resize(stored, size, interpolation).numpy().astype(float)
    wanted = np.clip(np.rint(wanted), 0, np.iinfo(dtype).max)
    difference = abs(resized(stored, size, interpolation) - wanted)
    # Of values halfway between two integers, float32 rounds either way.
    assert difference.max() <= (0 if interpolation == "nearest" else 1)
    assert (difference > 0).mean() < 0.05


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nearest_is_a_stored_value(size, channels):
    stored = np.repeat(picture("uint16", 1), channels, -1)
    stored[:] += np.arange(channels, dtype=np.uint16)
    places = [
        [min(math.floor((i + 0.5) * old / new), old - 1) for i in range(new)]
        for old, new in zip(STORED, size, strict=True)
    ]
    np.testing.assert_array_equal(resized(stored, size, "nearest"), stored[np.ix_(*places)])


def bilinear(values, size):
    """Returns values (stored, ...) resized along their first axis, one by one."""
    stored = len(values)
    rows = []
    for i in range(size):
        center = (i + 0.5) * stored / size - 0.5
        low = math.floor(center)
        part = center - low
        first, second = (values[min(max(k, 0), stored - 1)] for k in (low, low + 1))
        rows.append(first * (1 - part) + second * part)
    return np.array(rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bilinear_is_the_mean_of_two_by_two(size, channels, dtype):
    stored = picture(dtype)[..., [0, 1, 2, 0][:channels]]
    wanted = bilinear(stored.astype(float), size[0])
    wanted = bilinear(wanted.swapaxes(0, 1), size[1]).swapaxes(0, 1)
    difference = abs(resized(np.ascontiguousarray(stored), size, "bilinear") - wanted)
    assert difference.max() <= (0.502 if dtype == "uint8" else 0.52)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_one_color_stays_itself(interpolation, size, dtype):
    for value in (0, 200, np.iinfo(dtype).max):
        stored = np.full((*STORED, 3), value, dtype)
        assert (resized(stored, size, interpolation) == value).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_no_value_wraps_around(interpolation, dtype):
    """Kernels with negative weights overshoot at an edge."""
    stored = np.zeros((*STORED, 1), dtype)
    stored[:, 20:] = np.iinfo(dtype).max
    line = resized(stored, (37, 300), interpolation)[0, :, 0].astype(int)
    assert (line[:90] < np.iinfo(dtype).max // 4).all()
    assert (line[140:] > np.iinfo(dtype).max // 4 * 3).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_area_is_the_mean_of_blocks(dtype):
    stored = picture(dtype)[:36, :52]
    wanted = stored.astype(float).reshape(12, 3, 13, 4, 3).mean((1, 3))
    difference = abs(resized(np.ascontiguousarray(stored), (12, 13), "area") - wanted)
    assert difference.max() <= (0.502 if dtype == "uint8" else 0.52)


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_a_size_that_alternates(interpolation):
    """What is kept between calls is that of a pair of sizes."""
    first = resized(picture("uint8"), (17, 20), interpolation)
    other = resized(picture("uint8")[:20, :30], (17, 20), interpolation)
    np.testing.assert_array_equal(resized(picture("uint8"), (17, 20), interpolation), first)
    assert (other != first).any()
