"""Map functions that move, cut out, or cover pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import Key, axes_of, has_channels_last

from .boxes import Boxes, check_boxes, for_each_box, inside, random_boxes
from .draws import random_starts, uniform
from .elements import (
    MapFunction,
    as_dtype,
    check_axes,
    check_probability,
    check_whole,
    deterministic,
    length,
    per_channel,
    per_clip,
    random,
)


def channels_last(*, key: Key = None) -> MapFunction:
    """Moves the channels to the end, where Keras's layers have them by default.

    Args:
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, rows, columns, channels), of the same dtype. It raises an ArgumentError if
        the channels are last already.
    """

    def move(clips: tf.Tensor) -> tf.Tensor:
        length(clips, 4)
        if has_channels_last(clips.shape.as_list()):
            raise ArgumentError(
                "The clips have their channels last already: leave `channels_last()` out (if they "
                "have not, `tf.transpose` moves axes whatever there is). "
                f"Received: clips of shape {clips.shape}"
            )
        return tf.transpose(clips, [0, 1, 3, 4, 2])

    return deterministic(move, key)


def random_crop(
    height: int, width: int, *, data_format: str | None = None, key: Key = None
) -> MapFunction:
    """Cuts a window out of each clip, in the same place in all of its frames.

    Args:
        height: Rows of the window.
        width: Columns of the window.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, channels, height, width), or channels last, of the same dtype; needs
        `seeds`. It raises an ArgumentError if the clips are smaller.
    """
    check_whole(height=height, width=width)
    axes = axes_of(data_format)

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_axes(clips, axes)
        rows, columns = (length(clips, axis) for axis in axes.of_frames.values())
        spare = rows - height, columns - width
        if min(spare) < 0:
            raise ArgumentError(
                f"A window of {height} x {width} does not fit into the clips. "
                f"Received: clips of shape {clips.shape}"
            )
        top, left = (random_starts(seeds, draw, room) for draw, room in enumerate(spare, 1))
        sizes = tf.fill(tf.shape(top), height), tf.fill(tf.shape(left), width)

        def keep(window: tf.Tensor) -> tf.Tensor:
            return window

        return for_each_box(clips, Boxes(top, left, *sizes), height, width, axes, keep)

    return random(tf.function(crop, autograph=False), key, alike=axes.of_frames)


def random_flip(
    *,
    horizontal: bool = True,
    vertical: bool = False,
    probability: float = 0.5,
    data_format: str | None = None,
    key: Key = None,
) -> MapFunction:
    """Mirrors whole clips, (batch, frames, channels, rows, columns) or channels last.

    Args:
        horizontal: Whether to swap left and right.
        vertical: Whether to swap top and bottom; chosen independently.
        probability: Of each swap, for each clip.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    axes = axes_of(data_format)
    draws = [(1, axes.columns)] * horizontal + [(2, axes.rows)] * vertical
    check_probability(probability)

    def flip(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_axes(clips, axes)
        for draw, axis in draws:
            length(clips, axis)
            chosen = uniform(seeds, draw) < probability
            clips = tf.where(per_clip(chosen, clips), tf.reverse(clips, [axis]), clips)
        return clips

    return random(flip, key)


def random_erasing(
    *,
    probability: float = 0.5,
    scale: Sequence[float] = (0.02, 0.33),
    ratio: Sequence[float] = (0.3, 3.3),
    fill_value: float | Sequence[float] = 0.0,
    data_format: str | None = None,
    key: Key = None,
) -> MapFunction:
    """Covers a box of each clip, in the same place in all of its frames.

    Clips are (batch, frames, channels, rows, columns) or channels last.
    Size and shape are drawn as torchvision's `RandomErasing` does; a clip for which none of ten
    boxes fits stays as it is.

    Args:
        probability: That a clip gets a box.
        scale: The box's share of the frame's area: (smallest, largest), above 0, 1 at the most.
        ratio: The box's width / height: (smallest, largest).
        fill_value: What the box is filled with: a number, or one for each channel.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    check_probability(probability)
    scales, ratios = check_boxes(scale, ratio)
    axes = axes_of(data_format)
    fill = np.asarray(fill_value, np.float64)
    if fill.ndim > 1 or not np.isfinite(fill).all():
        raise ArgumentError(
            "`fill_value` must be a number, or one for each channel. "
            f"Received: fill_value={fill_value!r}"
        )

    def erase(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_axes(clips, axes)
        rows, columns = (length(clips, axis) for axis in axes.of_frames.values())
        boxes, found = random_boxes(seeds, rows, columns, scales, ratios)
        chosen = found & (uniform(seeds, 23) < probability)
        cover = inside(boxes, rows, columns, axes) & per_clip(chosen, clips)
        values = per_channel("fill_value", fill, clips, axes)
        return tf.where(cover, as_dtype(tf.constant(values), clips.dtype), clips)

    return random(erase, key, alike=axes.of_frames)
