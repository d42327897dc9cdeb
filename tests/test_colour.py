"""The map functions that change values, against NumPy, Keras and Python's colorsys."""

from __future__ import annotations

import colorsys

import keras
import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import (
    LAST,
    apply,
    as_integers,
    call,
    data_formats,
    make_clips,
    make_seeds,
    noise,
)

from h5video_data.errors import ArgumentError
from h5video_data.transforms import (
    normalize,
    random_brightness,
    random_contrast,
    random_saturation,
    to_float,
)

NUM = 300
SHAPE = (NUM, 2, 3, 4, 5)
stored = pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "float16"])


def highest(dtype):
    return 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max


def tolerance(dtype):
    """Float results may differ from NumPy's by rounding, whole numbers not by one."""
    return {"float16": 2e-3, "float32": 1e-6, "float64": 1e-6}.get(dtype, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, lambda clips: clips / np.float32(255), id="0 to 1"),
        pytest.param(
            {"scale": 2 / 255, "offset": -1}, lambda clips: clips / 127.5 - 1, id="-1 to 1"
        ),
        pytest.param(
            {"scale": 1, "dtype": "float64"}, lambda clips: clips.astype(float), id="float64"
        ),
        pytest.param({"dtype": "bfloat16"}, lambda clips: clips / 255, id="bfloat16"),
    ],
)
@pytest.mark.parametrize("stored", ["uint8", "int32", "float64"])
def test_to_float(options, expected, stored):
    clips = make_clips(4, stored)
    if stored != "uint8":  # which alone tells where its values end
        with pytest.raises(
            ArgumentError, match=rf"scale=1 / 255 if .* Received: {stored} of shape"
        ):
            to_float()(tf.constant(clips))
        options = {"scale": 1 / 255, **options}
    result = to_float(**options)(tf.constant(clips))
    assert result.dtype.name == options.get("dtype", "float32")
    tolerance = 1e-2 if result.dtype == tf.bfloat16 else 1e-6
    np.testing.assert_allclose(
        tf.cast(result, tf.float64), expected(clips), rtol=tolerance, atol=1e-6
    )


@data_formats
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("target", ["float32", "float64", "float16"])
def test_normalize(data_format, dtype, target):
    clips = make_clips(4, dtype)
    mean, std = np.array([100.0, 110.5, 3.0]), np.array([58.2, 0.5, 100])
    function = normalize(mean, std, dtype=target, data_format=data_format)
    result = apply(function, clips, data_format)
    assert result.dtype == target
    expected = (clips - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(result, expected, rtol=1e-3 if target == "float16" else 1e-5)


def test_normalize_by_one_number_for_all_channels():
    clips = make_clips(4)
    result = normalize(127.5, [50.0] * 3)(tf.constant(clips))
    np.testing.assert_allclose(result, (clips - 127.5) / 50, rtol=1e-5)


def test_normalize_is_what_keras_does():
    clips = make_clips(4)
    mean, std = [100.0, 110.5, 3.0], np.array([58.2, 0.5, 100])
    layer = keras.layers.Normalization(mean=mean, variance=std**2)
    expected = np.moveaxis(layer(np.moveaxis(clips, 2, -1)), -1, 2)
    np.testing.assert_allclose(
        normalize(mean, std)(tf.constant(clips)), expected, rtol=1e-5, atol=1e-5
    )


@stored
def test_random_brightness(dtype):
    clips, top = noise(SHAPE, dtype), highest(dtype)
    if top > 255:
        clips = clips * 257
    result = random_brightness(0.2)(tf.constant(clips), seeds=make_seeds(NUM)).numpy()
    assert result.dtype == dtype
    inside = (result > 0) & (result < top)
    change = result.astype(float) - clips
    # One number for a clip, wherever the range leaves room for it.
    added = np.array([np.median(c[i]) for c, i in zip(change, inside, strict=True)])
    expected = as_integers(
        np.clip(clips + added[:, None, None, None, None].astype(np.float64), 0, top), dtype
    )
    atol = 1 if np.dtype(dtype).kind == "u" else 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(result.astype(float), expected, atol=atol)
    assert np.abs(added).max() <= 0.2 * top + atol
    counts = np.histogram(added, bins=4, range=(-0.2 * top, 0.2 * top))[0]
    assert counts == pytest.approx([75] * 4, abs=40)


@pytest.mark.parametrize(
    ("options", "dtype", "expected"),
    [
        pytest.param({}, "uint8", lambda x: np.rint(np.minimum(x + 25.5, 255)), id="rounded"),
        pytest.param({}, "float32", lambda x: np.minimum(x + 0.1, 1), id="0 to 1"),
        pytest.param({"value_range": (0, 255)}, "float32", lambda x: x + 25.5, id="another range"),
        pytest.param(
            {"value_range": (-1, 1)}, "float32", lambda x: np.minimum(x + 0.2, 1), id="from -1"
        ),
        pytest.param(
            {"value_range": (16, 235)},
            "uint8",
            lambda x: np.rint(np.clip(x + 21.9, 16, 235)),
            id="of video",
        ),
    ],
)
def test_brightness_and_the_range_of_values(options, dtype, expected):
    clips = noise((4, *SHAPE[1:]), dtype)
    result = call(random_brightness((0.1, 0.1), **options), tf.constant(clips))
    np.testing.assert_allclose(result, expected(clips.astype(float)), rtol=1e-5, atol=1e-5)


def test_brightness_is_what_keras_does():
    clips = noise((4, *SHAPE[1:])).astype("float32")
    layer = keras.layers.RandomBrightness((-0.3, -0.3))
    result = call(random_brightness((-0.3, -0.3), value_range=(0, 255)), tf.constant(clips))
    frames = clips.transpose(LAST).reshape(-1, 4, 5, 3)
    expected = layer(frames, training=True).numpy().reshape(4, 2, 4, 5, 3)
    np.testing.assert_allclose(result, expected.transpose(0, 1, 4, 2, 3), rtol=1e-5, atol=1e-4)


ADJUSTING = pytest.mark.parametrize(
    "function", [random_brightness(0.1), random_contrast(0.1)], ids=["brightness", "contrast"]
)


@ADJUSTING
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "int64", "bool"])
def test_dtypes_that_do_not_tell_the_range_of_values(function, dtype):
    with pytest.raises(ArgumentError, match=rf"value_range=\(0, 255\)\. Received: .* {dtype}"):
        call(function, tf.constant(noise((4, *SHAPE[1:])).astype(dtype)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("function", "low", "high", "message"),
    [
        pytest.param(random_brightness(0.1), 0, 255, "from 0 to 1, or `value_r", id="bytes"),
        pytest.param(random_contrast(0.1), -2, 2, "from 0 to 1, or `value_r", id="normalised"),
        pytest.param(random_contrast(0.1), -1, 1, "from 0 to 1, or `value_r", id="from -1"),
        pytest.param(random_saturation(0.1), -1, 1, "not be negative", id="saturation"),
    ],
)
def test_floats_of_another_range(function, low, high, message, dtype):
    # They would come out white, or without what is below 0.
    clips = noise((4, *SHAPE[1:]), dtype) * (high - low) + low
    graph = tf.function(lambda x: call(function, x), autograph=False)
    for run in (graph, lambda x: call(function, x)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            run(tf.constant(clips.astype(dtype)))
    # What an interpolation adds beyond the ends is no reason.
    call(function, tf.constant((noise((4, *SHAPE[1:]), dtype) * 1.2 - 0.1).astype(dtype)))


def test_saturation_of_black_frames_with_some_noise():
    clips = tf.constant(noise((4, *SHAPE[1:]), "float32") * -1e-3)
    assert np.isfinite(call(random_saturation(0.1), clips)).all()


def test_integers_below_zero_have_no_saturation():
    clips = noise((4, *SHAPE[1:])).astype("int16")
    call(random_saturation(0.1), tf.constant(clips))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not be negative"):
        call(random_saturation(0.1), tf.constant(clips - 128))


def test_normalize_by_numbers_of_other_units():
    clips = tf.constant(make_clips(4))
    of_image_net = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    with pytest.raises(ArgumentError, match=r"multiply both by 255.* mean=\[0\.485, .* of uint8"):
        normalize(*of_image_net)(clips)
    x = normalize(*of_image_net)(to_float()(clips))
    by_255 = [np.multiply(numbers, 255) for numbers in of_image_net]
    np.testing.assert_allclose(x, normalize(*by_255)(clips), atol=1e-5)
    np.testing.assert_allclose(normalize(0, 0.5)(clips), 2.0 * clips.numpy())


def scales_of(clips, result):
    """(n,): by how much distances between pixels have grown, of float clips."""
    before = clips[:, 0, 0].reshape(len(clips), -1).astype(float)
    after = result[:, 0, 0].reshape(len(clips), -1).astype(float)
    return np.ptp(after, axis=1) / np.ptp(before, axis=1)


@data_formats
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize(
    ("factor", "low", "high"), [(0.4, 0.6, 1.4), ((0.5, 0), 0.5, 1), ((0, 0.8), 1, 1.8)], ids=str
)
def test_random_contrast(data_format, dtype, factor, low, high):
    # In the middle of the range, so that nothing is clipped.
    clips = (noise(SHAPE, "float64") * 0.4 + 0.3) * highest(dtype)
    clips = clips.astype(dtype)
    wide = clips.astype(float)
    function = random_contrast(factor, data_format=data_format)
    result = apply(function, clips, data_format, seeds=make_seeds(NUM))
    assert result.dtype == dtype
    scale = scales_of(wide, result)
    mean = wide.mean(axis=(3, 4), keepdims=True)  # of each frame and channel
    expected = (wide - mean) * scale[:, None, None, None, None] + mean
    np.testing.assert_allclose(result, expected, atol=2 if dtype == "uint8" else 1e-5)
    counts = np.histogram(scale, bins=4, range=(low - 0.02, high + 0.02))[0]
    assert counts.sum() == NUM
    assert counts == pytest.approx([75] * 4, abs=45)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_contrast_is_clipped_and_rounded(dtype):
    top = highest(dtype)
    clips = np.zeros((1, 1, 1, 2, 2), dtype)
    clips[0, 0, 0, 0, 0] = top  # the mean is a quarter of that
    sharp = call(random_contrast((0, 1)), tf.constant(clips.repeat(4, 0))).numpy()
    np.testing.assert_array_equal(sharp, clips.repeat(4, 0))
    flat = call(random_contrast((1, 0)), tf.constant(clips.repeat(4, 0))).numpy().astype(float)
    scale = (flat[:, 0, 0, 0, 0] - flat[:, 0, 0, 0, 1]) / top
    assert len(set(scale)) == 4
    expected = top / 4 * (1 + 3 * scale)
    np.testing.assert_allclose(flat[:, 0, 0, 0, 0], expected, atol=1 if top > 1 else 1e-6)


def test_contrast_is_what_tensorflow_does():
    clips = noise((4, *SHAPE[1:]), "float32")
    function = random_contrast((0.5, 0.5), value_range=(-9, 9), data_format="channels_last")
    frames = tf.constant(clips.transpose(LAST))
    result = call(function, frames)
    scale = scales_of(clips, result.numpy().transpose(0, 1, 4, 2, 3))
    for clip, found, factor in zip(frames, result, scale, strict=True):
        np.testing.assert_allclose(found, tf.image.adjust_contrast(clip, factor), atol=1e-5)


def saturation_of(pixels):
    """(n, ...): of pixels whose channels are on axis 2."""
    return 1 - pixels.min(axis=2) / pixels.max(axis=2)


@data_formats
@pytest.mark.parametrize(
    ("factor", "low", "high"), [(0.3, 0.7, 1.3), ((1, 0), 0, 1), ((0, 1), 1, 2)], ids=str
)
def test_random_saturation(data_format, factor, low, high):
    clips = noise(SHAPE, "float32") * 0.9 + 0.05
    function = random_saturation(factor, data_format=data_format)
    result = apply(function, clips, data_format, seeds=make_seeds(NUM))
    before, after = saturation_of(clips), saturation_of(result)
    # From a pixel of each clip that has some saturation, but does not come to the end of it.
    flat = before.reshape(NUM, -1)
    place = np.arange(NUM), np.abs(flat - 0.3).argmin(axis=1)
    scale = after.reshape(NUM, -1)[place] / flat[place]
    counts = np.histogram(scale, bins=4, range=(low - 1e-3, high + 1e-3))[0]
    assert counts.sum() == NUM
    assert counts == pytest.approx([75] * 4, abs=45)
    for number in range(0, NUM, 10):
        pixels = np.moveaxis(clips[number], 1, -1).reshape(-1, 3)
        found = np.moveaxis(result[number], 1, -1).reshape(-1, 3)
        for pixel, changed in zip(pixels.tolist(), found, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            expected = colorsys.hsv_to_rgb(hue, min(1, saturation * scale[number]), value)
            np.testing.assert_allclose(changed, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float64"])
def test_saturation_of_other_dtypes(dtype):
    clips = noise((4, *SHAPE[1:]), dtype)
    clips[0, 0, :, 0, 0] = 0  # black, grey and white stay as they are
    clips[0, 0, :, 0, 1] = clips[0, 0, 0, 0, 1]
    clips[0, 0, :, 0, 2] = highest(dtype)
    wide = call(random_saturation((0.5, 1)), tf.constant(clips.astype("float64"))).numpy()
    result = call(random_saturation((0.5, 1)), tf.constant(clips)).numpy()
    assert result.dtype == dtype
    exact = as_integers(wide, dtype).astype(float)
    # What is half-way between two whole numbers may become either.
    np.testing.assert_allclose(
        result.astype(float), exact, atol=1 if dtype[0] == "u" else tolerance(dtype)
    )
    np.testing.assert_array_equal(result[0, 0, :, 0, :3], clips[0, 0, :, 0, :3])
    assert not np.array_equal(result, clips)


def test_saturation_needs_three_channels():
    with pytest.raises(ArgumentError, match=r"three channels: .* \(4, 2, 1, 5, 8\), .* axis 2"):
        call(random_saturation(0.3), tf.constant(make_clips(4)[:, :, :1]))


@pytest.mark.parametrize(
    "function", [normalize([1, 2], 3), normalize(0, [1, 2])], ids=["mean", "std"]
)
def test_numbers_for_other_channels(function):
    with pytest.raises(ArgumentError, match=r"each of the 3 channels \(axis 2\)\. Received: 2 num"):
        call(function, tf.constant(make_clips(4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: to_float(dtype="int32"), "Received: dtype='int32'", id="no float"),
        pytest.param(lambda: normalize(0, 1, dtype="uint8"), "Received: dtype='uint8'", id="uint8"),
        pytest.param(lambda: normalize([1, 2], [1, 0]), r"std=\[1\.0, 0\.0\]", id="no deviation"),
        pytest.param(lambda: normalize(0, -1), r"above 0.*std=-1\.0", id="below 0"),
        pytest.param(lambda: normalize([np.nan], 1), r"mean=\[nan\]", id="mean: nan"),
        pytest.param(lambda: normalize(0, [[1]]), r"std=\[\[1\]\]", id="a table"),
        pytest.param(lambda: random_brightness(1.5), r"factor=\(-1\.5, 1\.5\)", id="too bright"),
        pytest.param(lambda: random_brightness((0.2, 0.1)), "smaller one first", id="descending"),
        pytest.param(lambda: random_brightness("0.2"), "factor='0.2'", id="a string"),
        pytest.param(lambda: random_brightness((0.1,)), "two numbers", id="one number"),
        pytest.param(lambda: random_brightness(float("nan")), "nan", id="brightness: nan"),
        pytest.param(
            lambda: random_contrast((0.8, 1.2)), r"from 0 to 1\. .*\(0\.8, 1\.2\)", id="a range"
        ),
        pytest.param(lambda: random_contrast(-0.1), r"\(-0\.1, -0\.1\)", id="negative"),
        pytest.param(lambda: random_saturation(2), r"\(2, 2\)", id="too colourful"),
        pytest.param(
            lambda: random_contrast(0.1, value_range=(255, 0)), r"value_range=\(255, 0\)", id="down"
        ),
        pytest.param(
            lambda: random_brightness(0.1, value_range=(1, 1)), "two different numbers", id="empty"
        ),
        pytest.param(lambda: random_brightness(0.1, value_range=(0, np.inf)), "inf", id="no end"),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
