"""Map functions that resize, against TensorFlow's own resizing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from geometry_helpers import boxes_of, ramps
from transform_helpers import (
    CHANNELS,
    COLUMNS,
    FRAMES,
    LAST,
    ROWS,
    apply,
    call,
    data_formats,
    dtypes,
    make_seeds,
    noise,
)

from h5video_data.transforms import (
    random_resized_crop,
    resize,
)


def bilinear(frames, height, width):
    """NumPy: (..., rows, columns) to (..., height, width), pixels being squares with a middle."""
    for axis, size in ((-2, height), (-1, width)):
        count = frames.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.floor(place).astype(int)
        fraction = (place - low).reshape((-1, 1) if axis == -2 else -1)
        high = np.minimum(low + 1, count - 1)
        frames = (1 - fraction) * frames.take(low, axis) + fraction * frames.take(high, axis)
    return frames


def close(found, expected, dtype):
    """Checks results: whole numbers are rounded to the nearest one."""
    atol = {"float32": 1e-5, "float16": 1e-3}.get(np.dtype(dtype).name, 0.501)
    np.testing.assert_allclose(found.astype(float), expected, rtol=0, atol=atol)


@data_formats
@dtypes
@pytest.mark.parametrize(("height", "width"), [(10, 4), (3, 20), (1, 1), (5, 8)], ids=str)
def test_resize(data_format, dtype, height, width):
    clips = noise((4, FRAMES, CHANNELS, ROWS, COLUMNS), dtype)
    result = apply(resize(height, width, data_format=data_format), clips, data_format)
    assert result.dtype == dtype
    close(result, bilinear(clips.astype(float), height, width), dtype)


@data_formats
def test_resize_to_the_nearest(data_format):
    clips = noise((4, FRAMES, CHANNELS, ROWS, COLUMNS))
    function = resize(3, 12, interpolation="nearest", data_format=data_format)
    rows, columns = ((np.arange(n) + 0.5) * m // n for n, m in ((3, ROWS), (12, COLUMNS)))
    expected = clips[..., rows.astype(int)[:, np.newaxis], columns.astype(int)]
    np.testing.assert_array_equal(apply(function, clips, data_format), expected)


@data_formats
@pytest.mark.parametrize("interpolation", ["bicubic", "area", "lanczos3", "bilinear"])
@pytest.mark.parametrize("antialias", [False, True])
def test_other_ways_to_resize(data_format, interpolation, antialias):
    clips = noise((4, FRAMES, CHANNELS, ROWS, COLUMNS))
    options = {"interpolation": interpolation, "antialias": antialias}
    result = apply(resize(3, 4, data_format=data_format, **options), clips, data_format)
    frames = clips.transpose(LAST).reshape(-1, ROWS, COLUMNS, CHANNELS)
    wide = tf.image.resize(frames, (3, 4), interpolation, antialias=antialias).numpy()
    expected = wide.reshape(4, FRAMES, 3, 4, CHANNELS).transpose(0, 1, 4, 2, 3)
    close(result, np.clip(expected, 0, 255), "uint8")


@pytest.mark.parametrize("dtype", ["bool", "uint32", "uint64"])
def test_dtypes_that_tensorflow_does_not_resize(dtype):
    clips = (noise((4, FRAMES, CHANNELS, ROWS, COLUMNS)) > 127).astype(dtype)
    for make in (resize, random_resized_crop):
        nearest = call(make(3, 12, interpolation="nearest"), tf.constant(clips))
        assert nearest.dtype == dtype
        expected = call(make(3, 12, interpolation="nearest"), tf.constant(clips.astype("uint8")))
        np.testing.assert_array_equal(nearest, expected.numpy().astype(dtype))
    # A blend is rounded: a pixel is true if half of what it is made of was.
    found = resize(3, 4, antialias=True)(tf.constant(clips))
    exact = resize(3, 4, antialias=True)(tf.constant(clips.astype("float32"))).numpy()
    expected = exact >= 0.5 if dtype == "bool" else np.rint(exact)
    np.testing.assert_array_equal(found, expected.astype(dtype))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "float64"])
def test_large_class_numbers_stay_as_they_are(dtype):
    clips = noise((4, FRAMES, CHANNELS, ROWS, COLUMNS)).astype(dtype)
    clips += 2**53 - 256 if clips.dtype.itemsize == 8 else np.iinfo(dtype).max - 255
    found = resize(ROWS * 2, COLUMNS * 2, interpolation="nearest")(tf.constant(clips))
    np.testing.assert_array_equal(found, clips.repeat(2, axis=3).repeat(2, axis=4))


@data_formats
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_random_resized_crop(data_format, dtype):
    num, rows, columns = 40, 12, 16
    options = {"scale": (0.3, 1), "data_format": data_format}
    places = random_resized_crop(2, 2, **options)
    boxes = boxes_of(apply(places, ramps(num, rows, columns), data_format, seeds=make_seeds(num)))
    assert len(np.unique(boxes, axis=0)) > 30
    clips = noise((num, FRAMES, CHANNELS, rows, columns), dtype)
    function = random_resized_crop(7, 9, **options)
    result = apply(function, clips, data_format, seeds=make_seeds(num))
    assert result.dtype == dtype
    for clip, found, (top, left, height, width) in zip(clips, result, boxes, strict=True):
        box = clip[:, :, top : top + height, left : left + width].astype(float)
        close(found, bilinear(box, 7, 9), dtype)


@pytest.mark.parametrize(
    ("ratio", "box"),
    [
        pytest.param((0.5, 0.5), np.s_[:, :, :, :, 2:6], id="too high"),
        pytest.param((2, 2), np.s_[:, :, :, 2:6, :], id="too wide"),
    ],
)
def test_where_no_box_fits_it_is_the_middle(ratio, box):
    clips = noise((4, FRAMES, CHANNELS, 8, 8))
    expected = clips[box]
    function = random_resized_crop(*expected.shape[-2:], scale=(1, 1), ratio=ratio)
    np.testing.assert_array_equal(call(function, tf.constant(clips)), expected)
