"""What the map functions share: the clips of an element, their axes and dtypes, checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError

MapFunction = Callable[..., Any]

# Position of the axes in both orders.
CHANNELS = {"channels_first": 2, "channels_last": 4}
ROWS = {"channels_first": 3, "channels_last": 2}
COLUMNS = {"channels_first": 4, "channels_last": 3}
FRAMES = 1


def deterministic(function: Callable[[tf.Tensor], tf.Tensor], key: str | None) -> MapFunction:
    """The map function that changes the clips of an element by a function of them."""

    def apply(x: Any, *rest: Any) -> Any:
        return as_element(with_clips(x, key, function(clips_of(x, key))), rest)

    return _named(apply, function)


def random(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], key: str | None) -> MapFunction:
    """The same for a function of the clips and of their seeds, int32 (batch, 2)."""

    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        return as_element(with_clips(x, key, function(clips_of(x, key), seeds)), rest)

    return _named(apply, function)


def _named(apply: MapFunction, function: Callable[..., tf.Tensor]) -> MapFunction:
    """Gives a map function the name of the public one that made it, such as "random_crop"."""
    function = getattr(function, "python_function", function)  # of a tf.function
    apply.__name__ = function.__qualname__.partition(".")[0]
    return apply


def clips_of(x: Any, key: str | None) -> tf.Tensor:
    """The clips of x, which may be a dict."""
    if not isinstance(x, dict):
        return x
    if key not in x:
        raise ArgumentError(
            f"x is a dict: `key` must be one of {sorted(x)}, the clips. Received: key={key!r}"
        )
    return x[key]


def with_clips(x: Any, key: str | None, clips: tf.Tensor) -> Any:
    """The same x with other clips."""
    return {**x, key: clips} if isinstance(x, dict) else clips


def as_element(x: Any, rest: tuple[Any, ...]) -> Any:
    """An element of x and the rest, in the form that Keras takes."""
    return (x, *rest) if rest else x


def axis_of(axes: dict[str, int], data_format: str) -> int:
    """Where an axis is.

    Args:
        axes: `CHANNELS`, `ROWS` or `COLUMNS`.
        data_format: `"channels_first"` or `"channels_last"`.
    """
    if data_format not in axes:
        raise ArgumentError(
            f'`data_format` must be "channels_first" or "channels_last". Received: {data_format!r}'
        )
    return axes[data_format]


def length(clips: tf.Tensor, axis: int, rank: int | None = 5) -> int:
    """The length of clips along an axis, which must be known when the pipeline is made."""
    if rank is not None:
        check_rank(clips)
    if clips.shape.rank is None or clips.shape[axis] is None:
        raise ArgumentError(
            f"The length of axis {axis} is not known; after `tf.numpy_function`, tell it by "
            f"`set_shape`. Received: clips of shape {clips.shape}"
        )
    return int(clips.shape[axis])


def check_rank(clips: tf.Tensor) -> None:
    """Raises an ArgumentError if these are not batches of clips."""
    if clips.shape.rank != 5:
        raise ArgumentError(
            "Clips should have 5 dimensions, (batch, frames, channels, rows, columns) or channels "
            f"last. Received: clips of shape {clips.shape}"
        )


def per_clip(values: tf.Tensor, clips: tf.Tensor) -> tf.Tensor:
    """Values (batch,) in a shape that broadcasts against the clips: (batch, 1, 1, ...)."""
    return tf.reshape(values, [-1] + [1] * (clips.shape.rank - 1))


def per_channel(
    name: str, values: NDArray[np.float64], clips: tf.Tensor, axis: int
) -> NDArray[np.float64]:
    """A number, or one for each channel, in a shape that broadcasts against the clips.

    Args:
        name: What the numbers are called.
        values: One number, (), or (channels,).
        clips: The clips.
        axis: That of the channels.
    """
    if values.ndim == 0:
        return values
    if len(values) != length(clips, axis):
        raise ArgumentError(
            f"`{name}` must be a number, or one for each of the {clips.shape[axis]} channels "
            f"(axis {axis}). Received: {len(values)} numbers"
        )
    shape = [1] * 5
    shape[axis] = -1
    return values.reshape(shape)


def as_float(clips: tf.Tensor) -> tf.Tensor:
    """Clips in the dtype to calculate in, which holds all their values exactly, or nearly so."""
    is_wide = clips.dtype == tf.float64 or (clips.dtype.is_integer and clips.dtype.size > 2)
    return tf.cast(clips, tf.float64 if is_wide else tf.float32)


def as_dtype(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Floats in a dtype; integers are rounded to the nearest, and no further than their range."""
    return tf.saturate_cast(tf.round(values), dtype) if dtype.is_integer else tf.cast(values, dtype)


def check_whole(**values: Any) -> None:
    """Raises an ArgumentError unless all are whole numbers, 1 or more."""
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ArgumentError(
                f"`{name}` must be a whole number, 1 or more. Received: {name}={value!r}"
            )


def check_probability(probability: float) -> None:
    """Raises an ArgumentError unless it is one."""
    if not 0 <= probability <= 1:
        raise ArgumentError(f"`probability` must be from 0 to 1. Received: {probability}")


def check_pair(
    name: str, value: Any, least: float, most: float = float("inf"), *, ascending: bool = True
) -> tuple[float, float]:
    """Two numbers, or an ArgumentError.

    Args:
        name: What they are called.
        value: The two numbers.
        least: Neither may be below this.
        most: Neither may be above this, nor infinite.
        ascending: Whether the second must not be below the first.
    """
    numbers = isinstance(value, (Sequence, np.ndarray)) and len(value) == 2
    if numbers and all(isinstance(item, (int, float, np.number)) for item in value):
        first, second = (float(item) for item in value)
        if all(least <= item <= most and np.isfinite(item) for item in (first, second)) and (
            first <= second or not ascending
        ):
            return first, second
    limits = f"from {least:g} to {most:g}" if np.isfinite(most) else f"from {least:g}"
    order = ", the smaller one first" if ascending else ""
    raise ArgumentError(f"`{name}` must be two numbers {limits}{order}. Received: {name}={value!r}")
