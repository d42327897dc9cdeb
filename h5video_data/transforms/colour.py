"""Map functions that change the values of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from h5video_data.errors import ArgumentError

from .draws import uniform
from .elements import (
    MapFunction,
    Range,
    as_dtype,
    as_float,
    check_axes,
    check_channel_values,
    check_pair,
    check_rank,
    deterministic,
    length,
    per_channel,
    per_clip,
    random,
)
from .selection import DataFormat, Key, axes_of


def to_float(
    scale: float | None = None, offset: float = 0.0, *, dtype: str = "float32", key: Key = None
) -> MapFunction:
    """Casts values of any shape to floats, multiplies by `scale`, and adds `offset`.

    On the host, this makes uint8 four times as large. If the model can start with a
    `keras.layers.Rescaling`, leave the clips in uint8 until they are on the accelerator.

    Args:
        scale: Factor. Default: 1 / 255 for uint8, which maps 0..255 to 0..1. It must be given for
            other dtypes, whose range of values is not known.
        offset: Added after scaling.
        dtype: A float dtype.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps the shape.
    """
    _check_floating(dtype)

    def convert(clips: tf.Tensor) -> tf.Tensor:
        if scale is None and clips.dtype != tf.uint8:
            raise ArgumentError(
                "`scale` must be given for other dtypes than uint8: scale=1 / 255 if the values "
                "are from 0 to 255, scale=1 if they are to stay. "
                f"Received: {clips.dtype.name} of shape {clips.shape}"
            )
        return tf.cast(clips, dtype) * (1 / 255 if scale is None else scale) + offset

    return deterministic(convert, key)


def normalize(
    mean: ArrayLike,
    std: ArrayLike,
    *,
    dtype: str = "float32",
    data_format: DataFormat | None = None,
    key: Key = None,
) -> MapFunction:
    """Subtracts the mean and divides by the standard deviation of each channel.

    Clips are (batch, frames, channels, rows, columns) or channels last.

    `channel_statistics` computes both: `normalize(*h5v.channel_statistics(loader))`. As with
    `to_float`, the model can do this on the accelerator, with a `keras.layers.Normalization`.

    Args:
        mean: A number for each channel, or one for all, in the units of the clips (0..255 for
            uint8).
        std: A number for each channel, or one for all, in the same units, above 0.
        dtype: A float dtype.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps the shape.
    """
    _check_floating(dtype)
    axes = axes_of(data_format)
    means, stds = check_channel_values("mean", mean), check_channel_values("std", std)
    if not (stds > 0).all():
        raise ArgumentError(
            "`std` must be above 0; it is 0 for a channel whose values are all equal. "
            f"Received: std={stds.tolist()}"
        )

    def scale(clips: tf.Tensor) -> tf.Tensor:
        check_axes(clips, axes)
        _check_units(clips, means, stds)
        values = as_float(clips)
        centre = tf.constant(per_channel("mean", means, clips, axes), values.dtype)
        spread = tf.constant(per_channel("std", stds, clips, axes), values.dtype)
        return tf.cast((values - centre) / spread, dtype)

    return deterministic(scale, key, axes=axes)


def random_brightness(
    factor: float | Sequence[float], *, value_range: Sequence[float] | None = None, key: Key = None
) -> MapFunction:
    """Adds a random number to all values of a clip, as `keras.layers.RandomBrightness` does.

    Clips are (batch, frames, channels, rows, columns), or channels last.

    Args:
        factor: (lower, upper), from -1 to 1: range of the number, as a fraction of the width of
            the value range. A number f stands for (-f, f).
        value_range: (lowest, highest) value of the clips; results are clipped to it. Default: 0
            to 255 for uint8, 0 to 65535 for uint16, 0 to 1 for floats; it must be given for other
            dtypes. TensorFlow raises an error if floats in the first frame of a batch are far
            outside 0 to 1.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    pair = (-factor, factor) if isinstance(factor, (int, float, np.number)) else factor
    lower, upper = check_pair("factor", pair, -1, 1)
    limits = _check_value_range(value_range)

    def adjust(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_rank(clips, images=True)
        values, low, high = _with_range(clips, limits)
        added = tf.cast(uniform(seeds, 1, lower, upper), values.dtype) * (high - low)
        result = tf.clip_by_value(values + per_clip(added, clips), low, high)
        return as_dtype(result, clips.dtype)

    return random(adjust, key)


def random_contrast(
    factor: float | Sequence[float],
    *,
    value_range: Sequence[float] | None = None,
    data_format: DataFormat | None = None,
    key: Key = None,
) -> MapFunction:
    """Scales the distance of values to their mean, as `keras.layers.RandomContrast` does.

    The scale is the same for all frames of a clip, (batch, frames, channels, rows, columns) or
    channels last; each frame and channel has its own mean.

    Args:
        factor: (lower, upper), from 0 to 1: the scale is between 1 - lower and 1 + upper. A number
            f stands for (f, f).
        value_range: (lowest, highest) value of the clips; results are clipped to it. Default: 0
            to 255 for uint8, 0 to 65535 for uint16, 0 to 1 for floats; it must be given for other
            dtypes. TensorFlow raises an error if floats in the first frame of a batch are far
            outside 0 to 1.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    lower, upper = _factors(factor)
    limits = _check_value_range(value_range)
    axes = axes_of(data_format)

    def adjust(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_axes(clips, axes)
        values, low, high = _with_range(clips, limits)
        scale = tf.cast(uniform(seeds, 1, 1 - lower, 1 + upper), values.dtype)
        mean = tf.reduce_mean(values, [axes.rows, axes.columns], keepdims=True)
        result = tf.clip_by_value((values - mean) * per_clip(scale, clips) + mean, low, high)
        return as_dtype(result, clips.dtype)

    return random(adjust, key, axes=axes)


def random_saturation(
    factor: float | Sequence[float], *, data_format: DataFormat | None = None, key: Key = None
) -> MapFunction:
    """Scales the saturation of all pixels of a clip, as `tf.image.adjust_saturation` does.

    That is the S of HSV, (max - min) / max of a pixel's three channels; hue and value do not
    change. A scale of 1 means no change, 0 means grey. (In `keras.layers.RandomSaturation`, 0.5
    means no change.)

    Args:
        factor: (lower, upper), from 0 to 1: the scale is between 1 - lower and 1 + upper. A number
            f stands for (f, f).
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`. Clips are (batch, frames, 3, rows,
        columns) or channels last. TensorFlow raises an error if the first frame of a batch has
        negative values.
    """
    lower, upper = _factors(factor)
    axes = axes_of(data_format)
    axis = axes.channels

    def adjust(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_axes(clips, axes)
        if length(clips, axis) != 3:
            raise ArgumentError(
                "Saturation needs clips of three channels: red, green, blue. "
                f"Received: clips of shape {clips.shape}, channels on axis {axis}"
            )
        values = as_float(_inside(clips, None))
        scale = per_clip(tf.cast(uniform(seeds, 1, 1 - lower, 1 + upper), values.dtype), clips)
        # With constant hue and value, the distance of each channel to the largest is proportional
        # to the saturation. At its maximum, 1, the smallest channel is 0.
        largest = tf.reduce_max(values, axis, keepdims=True)
        distance = largest - values
        most = tf.math.divide_no_nan(largest, tf.reduce_max(distance, axis, keepdims=True))
        return as_dtype(largest - distance * tf.minimum(scale, most), clips.dtype)

    return random(adjust, key, axes=axes)


def _check_floating(dtype: str) -> None:
    if not tf.as_dtype(dtype).is_floating:
        raise ArgumentError(f"`dtype` must be a float dtype. Received: dtype={dtype!r}")


def _factors(factor: float | Sequence[float]) -> Range:
    pair = (factor, factor) if isinstance(factor, (int, float, np.number)) else factor
    return check_pair("factor", pair, 0, 1, ascending=False)


def _check_value_range(value_range: Sequence[float] | None) -> Range | None:
    if value_range is None:
        return None
    low, high = check_pair("value_range", value_range, float("-inf"))
    if low == high:
        raise ArgumentError(
            f"`value_range` must be two different numbers. Received: value_range={value_range!r}"
        )
    return low, high


def _with_range(clips: tf.Tensor, value_range: Range | None) -> tuple[tf.Tensor, float, float]:
    """Returns clips as floats, and their lowest and highest value."""
    if value_range is not None:
        return as_float(clips), *value_range
    dtype = clips.dtype
    if not dtype.is_floating and dtype not in (tf.uint8, tf.uint16):
        raise ArgumentError(
            "`value_range` must be given for integers other than uint8 and uint16, such as "
            f"value_range=(0, 255). Received: clips of {dtype.name}"
        )
    high = 1.0 if dtype.is_floating else float(dtype.max)
    return as_float(_inside(clips, high)), 0.0, high


def _inside(clips: tf.Tensor, high: float | None) -> tf.Tensor:
    """Returns the clips; TensorFlow raises an error if values are far below 0 or above `high`.

    It checks the first frame of a batch, which costs little and is enough to tell 0..255 or
    normalised values from 0..1. A margin allows for the overshoot of bicubic interpolation.
    """
    if clips.dtype.is_unsigned:
        return clips
    first = as_float(clips[:1, :1] if clips.shape.rank == 5 else clips[:1])
    if high is None:
        # Black frames may have some noise around 0.
        is_outside = first < -tf.maximum(tf.reduce_max(first), 0.1) / 4
        wanted = "not be negative"
    else:
        is_outside = (first < -high / 4) | (first > high + high / 4)
        wanted = f"be from 0 to {high:g}, or `value_range` must be given"
    check = tf.debugging.Assert(
        tf.logical_not(tf.reduce_any(is_outside)),
        [f"Values must {wanted}. Received: from", tf.reduce_min(first), "to", tf.reduce_max(first)],
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(clips)


def _check_units(clips: tf.Tensor, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
    """Raises an ArgumentError for statistics of 0..1 with clips of 0..255, a frequent mistake."""
    if clips.dtype == tf.uint8 and std.max() < 1 and 0 < np.abs(mean).max() <= 1:
        raise ArgumentError(
            "`mean` and `std` must be in the units of the clips, but look like those of values "
            "from 0 to 1: multiply both by 255, or put `to_float()` first (`to_float(1)`, if the "
            f"clips hold 0 and 1). Received: mean={mean.tolist()}, std={std.tolist()}, "
            f"clips of {clips.dtype.name}"
        )
