"""Map functions that change values where they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from h5video_data.errors import ArgumentError

from .draws import uniform
from .elements import (
    CHANNELS,
    COLUMNS,
    ROWS,
    MapFunction,
    as_dtype,
    as_float,
    axis_of,
    check_pair,
    check_rank,
    deterministic,
    length,
    per_channel,
    per_clip,
    random,
)


def to_float(
    scale: float = 1 / 255, offset: float = 0.0, *, dtype: str = "float32", key: str | None = None
) -> MapFunction:
    """Casts to a float, multiplies by `scale`, and adds `offset`.

    On the host this makes four bytes of each one. Where the model can start with a
    `keras.layers.Rescaling`, leave the clips in uint8 until they are on the accelerator.

    Args:
        scale: Factor; the default maps 0..255 to 0..1.
        offset: Added after scaling.
        dtype: A float dtype.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps the shape.
    """
    _check_floating(dtype)

    def convert(clips: tf.Tensor) -> tf.Tensor:
        return tf.cast(clips, dtype) * scale + offset

    return deterministic(convert, key)


def normalize(
    mean: ArrayLike,
    std: ArrayLike,
    *,
    dtype: str = "float32",
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Subtracts the mean and divides by the standard deviation, channel by channel.

    `channel_statistics` finds both: `normalize(*channel_statistics(loader))`. As for `to_float`,
    the model can do the same on the accelerator, with a `keras.layers.Normalization`.

    Args:
        mean: One for each channel, in the units of the clips (0..255 if they are uint8), or one for
            all.
        std: The same, above 0.
        dtype: A float dtype.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps the shape.
    """
    _check_floating(dtype)
    axis = axis_of(CHANNELS, data_format)
    numbers = {"mean": np.asarray(mean, np.float64), "std": np.asarray(std, np.float64)}
    for name, values in numbers.items():
        if values.ndim > 1 or not np.isfinite(values).all():
            raise ArgumentError(
                f"`{name}` must be a finite number, or one for each channel. "
                f"Received: {name}={values.tolist()}"
            )
    if not (numbers["std"] > 0).all():
        raise ArgumentError(
            "`std` must be above 0; it is 0 for a channel whose values are all alike. "
            f"Received: std={numbers['std'].tolist()}"
        )

    def scale(clips: tf.Tensor) -> tf.Tensor:
        check_rank(clips)
        values = as_float(clips)
        centre, spread = (
            tf.constant(per_channel(name, array, clips, axis), values.dtype)
            for name, array in numbers.items()
        )
        return tf.cast((values - centre) / spread, dtype)

    return deterministic(scale, key)


def random_brightness(
    factor: float | Sequence[float],
    *,
    value_range: Sequence[float] | None = None,
    key: str | None = None,
) -> MapFunction:
    """Adds the same number to all values of a clip, as `keras.layers.RandomBrightness` does.

    Args:
        factor: (lower, upper), from -1 to 1: what is added lies between these parts of the
            value range's width. A number f stands for (-f, f).
        value_range: (lowest, highest) value of the clips: results are clipped to it. Default: from
            0 to the dtype's largest for integers (0 to 255 for uint8), 0 to 1 for floats.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    pair = (-factor, factor) if isinstance(factor, (int, float, np.number)) else factor
    lower, upper = check_pair("factor", pair, -1, 1)
    _check_value_range(value_range)

    def adjust(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_rank(clips)
        low, high = _value_range(value_range, clips.dtype)
        values = as_float(clips)
        added = tf.cast(uniform(seeds, 1, lower, upper), values.dtype) * (high - low)
        result = tf.clip_by_value(values + per_clip(added, clips), low, high)
        return as_dtype(result, clips.dtype)

    return random(adjust, key)


def random_contrast(
    factor: float | Sequence[float],
    *,
    value_range: Sequence[float] | None = None,
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Scales the distance of values to the mean, as `keras.layers.RandomContrast` does.

    The scale is the same for all frames of a clip; the mean is that of each frame and channel.

    Args:
        factor: (lower, upper), from 0 to 1: the scale lies between 1 - lower and 1 + upper. A
            number f stands for (f, f).
        value_range: (lowest, highest) value of the clips: results are clipped to it. Default: from
            0 to the dtype's largest for integers (0 to 255 for uint8), 0 to 1 for floats.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    lower, upper = _factors(factor)
    _check_value_range(value_range)
    axes = [axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)]

    def adjust(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_rank(clips)
        low, high = _value_range(value_range, clips.dtype)
        values = as_float(clips)
        scale = tf.cast(uniform(seeds, 1, 1 - lower, 1 + upper), values.dtype)
        mean = tf.reduce_mean(values, axes, keepdims=True)
        result = tf.clip_by_value((values - mean) * per_clip(scale, clips) + mean, low, high)
        return as_dtype(result, clips.dtype)

    return random(adjust, key)


def random_saturation(
    factor: float | Sequence[float],
    *,
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Scales the saturation of all pixels of a clip, as `tf.image.adjust_saturation` does.

    That is the S of hue, saturation and value: (max - min) / max of a pixel's three channels; hue
    and value stay as they are. `factor` is as for `random_contrast`: 1 means no change, 0 grey. (In
    `keras.layers.RandomSaturation`, 0.5 means no change.)

    Args:
        factor: (lower, upper), from 0 to 1: the scale lies between 1 - lower and 1 + upper. A
            number f stands for (f, f).
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`. The clips must have three
        channels, and no negative values.
    """
    lower, upper = _factors(factor)
    axis = axis_of(CHANNELS, data_format)

    def adjust(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        if length(clips, axis) != 3:
            raise ArgumentError(
                "Saturation is of clips of three channels: red, green, blue. "
                f"Received: clips of shape {clips.shape}, channels on axis {axis}"
            )
        values = as_float(clips)
        scale = per_clip(tf.cast(uniform(seeds, 1, 1 - lower, 1 + upper), values.dtype), clips)
        # With hue and value kept, the distance of each channel to the largest is in proportion to
        # the saturation, which ends at 1: there the smallest channel is 0.
        largest = tf.reduce_max(values, axis, keepdims=True)
        distance = largest - values
        most = tf.math.divide_no_nan(largest, tf.reduce_max(distance, axis, keepdims=True))
        return as_dtype(largest - distance * tf.minimum(scale, most), clips.dtype)

    return random(adjust, key)


def _check_floating(dtype: str) -> None:
    if not tf.as_dtype(dtype).is_floating:
        raise ArgumentError(f"`dtype` must be a float dtype. Received: {dtype!r}")


def _factors(factor: float | Sequence[float]) -> tuple[float, float]:
    pair = (factor, factor) if isinstance(factor, (int, float, np.number)) else factor
    return check_pair("factor", pair, 0, 1, ascending=False)


def _check_value_range(value_range: Sequence[float] | None) -> None:
    if value_range is not None:
        low, high = check_pair("value_range", value_range, float("-inf"))
        if low == high:
            raise ArgumentError(
                "`value_range` must hold more than one value. "
                f"Received: value_range={value_range!r}"
            )


def _value_range(value_range: Sequence[float] | None, dtype: tf.DType) -> tuple[float, float]:
    if value_range is not None:
        return float(value_range[0]), float(value_range[1])
    return 0.0, float(dtype.max) if dtype.is_integer else 1.0
