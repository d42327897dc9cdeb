"""Map functions on batches of clips, for `map_fn=`.

    map_fn=[random_crop(96, 96), random_flip(), channels_last(), to_float()]

Each of these makes a function of what an element is made of: it changes x and hands the rest (y,
sample weights) on. Clips are (batch, frames, channels, rows, columns), as they are stored, or with
`data_format="channels_last"` (batch, frames, rows, columns, channels). If x is a dict, `key` says
which of its values are the clips.

Random choices are the same for all frames of a clip and independent from clip to clip. They are a
function of `seeds`, int32 (batch, 2), alone, so they do not depend on the number of threads, and
come again with the same seed and epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from .errors import ArgumentError

__all__ = ["channels_last", "random_crop", "random_flip", "temporal_subsample", "to_float"]

MapFunction = Callable[..., Any]

# Position of the axes in both orders.
_ROWS = {"channels_first": 3, "channels_last": 2}
_COLUMNS = {"channels_first": 4, "channels_last": 3}
_FRAMES = 1


def channels_last(*, key: str | None = None) -> MapFunction:
    """Moves the channels to the end, where Keras's layers have them by default.

    Args:
        key: Which value of x, if x is a dict.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, rows, columns, channels), of the same dtype.
    """

    def move(clips: tf.Tensor) -> tf.Tensor:
        _length(clips, 4)
        return tf.transpose(clips, [0, 1, 3, 4, 2])

    return _deterministic(move, key)


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
    if not tf.as_dtype(dtype).is_floating:
        raise ArgumentError(f"`dtype` must be a float dtype. Received: {dtype!r}")
    return _deterministic(lambda clips: tf.cast(clips, dtype) * scale + offset, key)


def temporal_subsample(
    num_frames: int, stride: int = 1, *, position: str = "random", key: str | None = None
) -> MapFunction:
    """Keeps `num_frames` frames of each clip, `stride` apart.

    Args:
        num_frames: Frames to keep.
        stride: Distance of one to the next, in frames.
        position: Where they start: `"random"` (anew for each clip), `"center"`, or `"start"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...). It raises an
        ArgumentError if the clips have too few frames.
    """
    _check_whole(num_frames=num_frames, stride=stride)
    if position not in ("random", "center", "start"):
        raise ArgumentError(
            f'`position` must be "random", "center" or "start". Received: {position!r}'
        )
    span = (num_frames - 1) * stride + 1

    def spare(clips: tf.Tensor) -> int:
        frames = _length(clips, _FRAMES, rank=None)
        if frames < span:
            raise ArgumentError(
                f"{num_frames} frames, {stride} apart, span {span}. "
                f"Received: clips of {frames} frames"
            )
        return frames - span

    if position == "random":
        return _random(
            lambda clips, seeds: tf.gather(
                clips,
                _random_starts(seeds, 1, spare(clips))[:, tf.newaxis]
                + tf.range(0, span, stride)[tf.newaxis],
                axis=_FRAMES,
                batch_dims=1,
            ),
            key,
        )

    def keep(clips: tf.Tensor) -> tf.Tensor:
        room = spare(clips)
        start = room // 2 if position == "center" else 0
        return clips[:, start : start + span : stride]

    return _deterministic(keep, key)


def random_flip(
    *,
    horizontal: bool = True,
    vertical: bool = False,
    probability: float = 0.5,
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Mirrors whole clips.

    Args:
        horizontal: Whether to swap left and right.
        vertical: Whether to swap top and bottom; chosen independently.
        probability: Of each swap, for each clip.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    columns, rows = _axis(_COLUMNS, data_format), _axis(_ROWS, data_format)
    axes = [(1, columns)] * horizontal + [(2, rows)] * vertical
    if not 0 <= probability <= 1:
        raise ArgumentError(f"`probability` must be from 0 to 1. Received: {probability}")

    def flip(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        for draw, axis in axes:
            _length(clips, axis)
            chosen = _uniform(seeds, draw) < probability
            mask = tf.reshape(chosen, [-1, 1, 1, 1, 1])
            clips = tf.where(mask, tf.reverse(clips, [axis]), clips)
        return clips

    return _random(flip, key)


def random_crop(
    height: int, width: int, *, data_format: str = "channels_first", key: str | None = None
) -> MapFunction:
    """Cuts a window out of each clip, in the same place in all of its frames.

    Args:
        height: Rows of the window.
        width: Columns of the window.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function to (batch, frames, channels, height, width), or channels last, of the same
        dtype; needs `seeds`. It raises an ArgumentError if the clips are smaller.
    """
    _check_whole(height=height, width=width)
    axes = [(1, _axis(_ROWS, data_format), height), (2, _axis(_COLUMNS, data_format), width)]

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        for draw, axis, length in axes:
            spare = _length(clips, axis) - length
            if spare < 0:
                raise ArgumentError(
                    f"A window of {height} x {width} does not fit into the clips. "
                    f"Received: clips of shape {clips.shape}"
                )
            starts = _random_starts(seeds, draw, spare)
            window = starts[:, tf.newaxis] + tf.range(length)[tf.newaxis]
            clips = tf.gather(clips, window, axis=axis, batch_dims=1)
        return clips

    return _random(crop, key)


def _axis(axes: dict[str, int], data_format: str) -> int:
    if data_format not in axes:
        raise ArgumentError(
            f'`data_format` must be "channels_first" or "channels_last". Received: {data_format!r}'
        )
    return axes[data_format]


def _check_whole(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ArgumentError(
                f"`{name}` must be a whole number, 1 or more. Received: {name}={value!r}"
            )


def _length(clips: tf.Tensor, axis: int, rank: int | None = 5) -> int:
    """The length of clips along an axis, which must be known when the pipeline is made."""
    if rank is not None and clips.shape.rank != rank:
        raise ArgumentError(
            "Clips should have 5 dimensions, (batch, frames, channels, rows, columns) or channels "
            f"last. Received: clips of shape {clips.shape}"
        )
    if clips.shape.rank is None or clips.shape[axis] is None:
        raise ArgumentError(
            f"The length of axis {axis} is not known; after `tf.numpy_function`, tell it by "
            f"`set_shape`. Received: clips of shape {clips.shape}"
        )
    return int(clips.shape[axis])


def _deterministic(function: Callable[[tf.Tensor], tf.Tensor], key: str | None) -> MapFunction:
    def apply(x: Any, *rest: Any) -> Any:
        return _result(_on_clips(function, x, key), rest)

    return apply


def _random(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], key: str | None) -> MapFunction:
    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        return _result(_on_clips(lambda clips: function(clips, seeds), x, key), rest)

    return apply


def _on_clips(function: Callable[[tf.Tensor], tf.Tensor], x: Any, key: str | None) -> Any:
    if not isinstance(x, dict):
        return function(x)
    if key not in x:
        raise ArgumentError(
            f"x is a dict: `key` must be one of {sorted(x)}, the clips. Received: key={key!r}"
        )
    return {**x, key: function(x[key])}


def _result(x: Any, rest: tuple[Any, ...]) -> Any:
    return (x, *rest) if rest else x


def _random_starts(seeds: tf.Tensor, draw: int, spare: int) -> tf.Tensor:
    """Whole numbers from 0 to `spare`, int32 (batch,), each as likely as the others."""
    return tf.cast(_uniform(seeds, draw) * (spare + 1), tf.int32)


def _uniform(seeds: tf.Tensor, draw: int) -> tf.Tensor:
    """Uniform numbers in [0, 1), float32 (batch,), one a sample; `draw` tells the draws apart.

    `tf.random.stateless_uniform` takes one seed a call, not one a sample, so the seeds are mixed
    here: by the finaliser of MurmurHash3 (fmix32), in the low half of 64-bit integers.
    """
    low = tf.constant(0xFFFFFFFF, tf.int64)
    words = tf.bitwise.bitwise_and(tf.cast(seeds, tf.int64), low)

    def mixed(value: tf.Tensor) -> tf.Tensor:
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            value = tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, shift))
            value = tf.bitwise.bitwise_and(value * factor, low)
        return value

    salted = tf.bitwise.bitwise_xor(words[:, 0], draw * 0x9E3779B9 & 0xFFFFFFFF)
    bits = mixed(tf.bitwise.bitwise_xor(mixed(salted), words[:, 1]))
    # 24 bits are what a float32 holds exactly, so the result is below 1.
    return tf.cast(tf.bitwise.right_shift(bits, 8), tf.float32) * 2.0**-24
