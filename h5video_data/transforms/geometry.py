"""Map functions that move, crop, or erase pixels."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from h5video_data.arguments import check_whole_number
from h5video_data.errors import ArgumentError

from .boxes import check_boxes, for_each_box, inside, place_boxes, random_boxes
from .draws import uniform
from .elements import (
    MapFunction,
    as_dtype,
    check_axes,
    check_channel_values,
    check_probability,
    check_rank,
    deterministic,
    frame_size,
    length,
    per_channel,
    per_clip,
    random,
)
from .selection import DataFormat, Key, axes_of, has_channels_last


def channels_last(*, key: Key = None) -> MapFunction:
    """Moves the channels to the last axis, the default of Keras layers.

    Args:
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, rows, columns, channels), of the same dtype. It raises an ArgumentError if
        the channels are last already.
    """

    def move(clips: tf.Tensor) -> tf.Tensor:
        check_rank(clips)
        length(clips, 4)
        if has_channels_last(*clips.shape[2:]):
            raise ArgumentError(
                "The clips have their channels last already: leave `channels_last()` out (if they "
                "do not, use `tf.transpose`). "
                f"Received: clips of shape {clips.shape}"
            )
        return tf.transpose(clips, [0, 1, 3, 4, 2])

    return deterministic(move, key, axes=axes_of(None))


def random_crop(
    height: int, width: int, *, data_format: DataFormat | None = None, key: Key = None
) -> MapFunction:
    """Crops each clip at a random location, the same for all of its frames.

    Args:
        height: Rows of the crop.
        width: Columns of the crop.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, channels, height, width), or channels last, of the same dtype; needs
        `seeds`. It raises an ArgumentError if the clips are smaller.
    """
    check_whole_number("height", height, 1)
    check_whole_number("width", width, 1)
    axes = axes_of(data_format)

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        rows, columns = frame_size(clips, axes)
        if rows < height or columns < width:
            raise ArgumentError(
                f"A crop of {height} x {width} does not fit into the clips. "
                f"Received: clips of shape {clips.shape}"
            )
        sizes = (tf.fill(tf.shape(seeds)[:1], size) for size in (height, width))
        boxes = place_boxes(seeds, 1, rows, columns, *sizes)
        return for_each_box(clips, boxes, (height, width), axes, lambda box: box)

    return random(tf.function(crop, autograph=False), key, alike=axes.of_frames, axes=axes)


def random_flip(
    *,
    horizontal: bool = True,
    vertical: bool = False,
    probability: float = 0.5,
    data_format: DataFormat | None = None,
    key: Key = None,
) -> MapFunction:
    """Flips clips, (batch, frames, channels, rows, columns) or channels last, at random.

    Args:
        horizontal: Whether to flip left and right.
        vertical: Whether to flip top and bottom, independently of left and right.
        probability: Probability of each flip, for each clip.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

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

    return random(flip, key, axes=axes)


def random_erasing(
    *,
    probability: float = 0.5,
    scale: Sequence[float] = (0.02, 0.33),
    ratio: Sequence[float] = (0.3, 3.3),
    fill_value: float | Sequence[float] = 0.0,
    data_format: DataFormat | None = None,
    key: Key = None,
) -> MapFunction:
    """Erases a random box of each clip, the same in all of its frames.

    Clips are (batch, frames, channels, rows, columns) or channels last. Size and shape are drawn as
    in torchvision's `RandomErasing`; a clip is not changed if none of ten boxes fits.

    Args:
        probability: Probability that a clip gets a box.
        scale: Area of the box as a fraction of the frame's: (smallest, largest), above 0, at most
            1.
        ratio: Width / height of the box: (smallest, largest).
        fill_value: Value inside the box: a number, or one for each channel.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    check_probability(probability)
    scales, ratios = check_boxes(scale, ratio)
    axes = axes_of(data_format)
    fill = check_channel_values("fill_value", fill_value)

    def erase(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        rows, columns = frame_size(clips, axes)
        boxes, found = random_boxes(seeds, rows, columns, scales, ratios)
        chosen = found & (uniform(seeds, 23) < probability)
        cover = inside(boxes, rows, columns, axes) & per_clip(chosen, clips)
        values = per_channel("fill_value", fill, clips, axes)
        return tf.where(cover, as_dtype(tf.constant(values), clips.dtype), clips)

    return random(erase, key, alike=axes.of_frames, axes=axes)
