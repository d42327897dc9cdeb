"""Map functions that move, cut out, or cover pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from h5video_data.errors import ArgumentError

from .boxes import Boxes, inside, random_boxes
from .draws import random_starts, uniform
from .elements import (
    CHANNELS,
    COLUMNS,
    ROWS,
    MapFunction,
    as_dtype,
    axis_of,
    check_pair,
    check_probability,
    check_rank,
    check_whole,
    deterministic,
    length,
    per_channel,
    per_clip,
    random,
)

_INTERPOLATIONS = (
    "area",
    "bicubic",
    "bilinear",
    "gaussian",
    "lanczos3",
    "lanczos5",
    "mitchellcubic",
    "nearest",
)


def channels_last(*, key: str | None = None) -> MapFunction:
    """Moves the channels to the end, where Keras's layers have them by default.

    Args:
        key: Which value of x, if x is a dict.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, rows, columns, channels), of the same dtype.
    """

    def move(clips: tf.Tensor) -> tf.Tensor:
        length(clips, 4)
        return tf.transpose(clips, [0, 1, 3, 4, 2])

    return deterministic(move, key)


def resize(
    height: int,
    width: int,
    *,
    interpolation: str = "bilinear",
    antialias: bool = False,
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Resizes all frames, as `tf.image.resize` and `keras.layers.Resizing` do.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"area"`, `"lanczos3"`, `"lanczos5"`,
            `"gaussian"` or `"mitchellcubic"`.
        antialias: Whether to smooth what is made smaller, at several times the cost.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function to (batch, frames, channels, height, width), or channels last, of the same
        dtype.
    """
    check_whole(height=height, width=width)
    _check_interpolation(interpolation)
    axis_of(CHANNELS, data_format)

    def stretch(clips: tf.Tensor) -> tf.Tensor:
        check_rank(clips)
        return _resized(clips, height, width, interpolation, antialias, data_format)

    return deterministic(stretch, key)


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
    check_whole(height=height, width=width)
    axes = axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        rows, columns = (length(clips, axis) for axis in axes)
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

        return _for_each_box(clips, Boxes(top, left, *sizes), height, width, data_format, keep)

    return random(tf.function(crop, autograph=False), key)


def random_resized_crop(
    height: int,
    width: int,
    *,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    antialias: bool = False,
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Cuts a window of random size and shape out of each clip, and resizes it.

    As torchvision's `RandomResizedCrop`: the first of ten windows that fits into the frame, or, if
    none does, the largest in the middle whose width / height is within `ratio`.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        scale: The window's share of the frame's area: (smallest, largest), above 0, 1 at the most.
        ratio: The window's width / height: (smallest, largest).
        interpolation: As for `resize`.
        antialias: Whether to smooth what is made smaller, at several times the cost.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function to (batch, frames, channels, height, width), or channels last, of the same
        dtype; needs `seeds`.
    """
    check_whole(height=height, width=width)
    _check_interpolation(interpolation)
    scales, ratios = _check_boxes(scale, ratio)
    axes = axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        rows, columns = (length(clips, axis) for axis in axes)
        drawn, found = random_boxes(seeds, rows, columns, scales, ratios)
        middle = _middle_box(rows, columns, ratios)
        boxes = Boxes(*(tf.where(found, *pair) for pair in zip(drawn, middle, strict=True)))

        def stretch(window: tf.Tensor) -> tf.Tensor:
            return _resized(
                window[tf.newaxis], height, width, interpolation, antialias, data_format
            )[0]

        return _for_each_box(clips, boxes, height, width, data_format, stretch)

    return random(tf.function(crop, autograph=False), key)


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
    columns, rows = axis_of(COLUMNS, data_format), axis_of(ROWS, data_format)
    axes = [(1, columns)] * horizontal + [(2, rows)] * vertical
    check_probability(probability)

    def flip(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        for draw, axis in axes:
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
    data_format: str = "channels_first",
    key: str | None = None,
) -> MapFunction:
    """Covers a box of each clip, in the same place in all of its frames.

    Size and shape are drawn as torchvision's `RandomErasing` does; a clip for which none of ten
    boxes fits stays as it is.

    Args:
        probability: That a clip gets a box.
        scale: The box's share of the frame's area: (smallest, largest), above 0, 1 at the most.
        ratio: The box's width / height: (smallest, largest).
        fill_value: What the box is filled with: a number, or one for each channel.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x, if x is a dict.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    check_probability(probability)
    scales, ratios = _check_boxes(scale, ratio)
    channels = axis_of(CHANNELS, data_format)
    axes = axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)
    fill = np.asarray(fill_value, np.float64)
    if fill.ndim > 1 or not np.isfinite(fill).all():
        raise ArgumentError(
            "`fill_value` must be a number, or one for each channel. "
            f"Received: fill_value={fill_value!r}"
        )

    def erase(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        rows, columns = (length(clips, axis) for axis in axes)
        boxes, found = random_boxes(seeds, rows, columns, scales, ratios)
        chosen = found & (uniform(seeds, 23) < probability)
        cover = inside(boxes, rows, columns, data_format) & per_clip(chosen, clips)
        values = per_channel("fill_value", fill, clips, channels)
        return tf.where(cover, as_dtype(tf.constant(values), clips.dtype), clips)

    return random(erase, key)


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in _INTERPOLATIONS:
        raise ArgumentError(
            f"`interpolation` must be one of {', '.join(_INTERPOLATIONS)}. "
            f"Received: {interpolation!r}"
        )


def _check_boxes(
    scale: Sequence[float], ratio: Sequence[float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    scales, ratios = check_pair("scale", scale, 0, 1), check_pair("ratio", ratio, 0)
    for name, (smallest, _) in (("scale", scales), ("ratio", ratios)):
        if smallest == 0:
            raise ArgumentError(f"`{name}` must be above 0. Received: {name}=(0, ...)")
    return scales, ratios


def _middle_box(rows: int, columns: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest box in the middle that has such a ratio."""
    height = min(rows, max(1, round(columns / ratio[0])))
    width = min(columns, max(1, round(rows * ratio[1])))
    return (rows - height) // 2, (columns - width) // 2, height, width


def _resized(
    clips: tf.Tensor,
    height: int,
    width: int,
    interpolation: str,
    antialias: bool,
    data_format: str,
) -> tf.Tensor:
    """Clips with frames of another size, in the same dtype; rows and columns may be unknown."""
    rows, columns = axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)
    dynamic = tf.shape(clips)
    shape = [dynamic[i] if size is None else size for i, size in enumerate(clips.shape)]
    # If the channels come first, as frames of one channel: that takes no transposition.
    channels = shape[axis_of(CHANNELS, data_format)] if data_format == "channels_last" else 1
    frames = tf.reshape(clips, [-1, shape[rows], shape[columns], channels])
    resized = tf.image.resize(frames, [height, width], interpolation, antialias=antialias)
    shape[rows], shape[columns] = height, width
    return tf.reshape(as_dtype(resized, clips.dtype), shape)


def _for_each_box(
    clips: tf.Tensor,
    boxes: Boxes,
    height: int,
    width: int,
    data_format: str,
    function: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """What a function makes of each clip's box, which is one clip without the batch's axis.

    The function makes frames of `height` x `width` of it. This loops over the clips: it copies a
    box row by row, where `tf.gather` goes pixel by pixel and takes several times as long.
    Its callers are a `tf.function` each: without a graph, the loop is slow.
    """
    rows, columns = axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)

    def one(values: tuple[tf.Tensor, Boxes]) -> tf.Tensor:
        number, box = values
        begin = [number, 0, 0, 0, 0]
        size = [1, *(-1 if length is None else length for length in clips.shape[1:])]
        begin[rows], size[rows] = box.top, box.height
        begin[columns], size[columns] = box.left, box.width
        return function(tf.slice(clips, tf.stack(begin), tf.stack(size))[0])

    shape = clips.shape.as_list()
    shape[rows], shape[columns] = height, width
    return tf.map_fn(
        one,
        (tf.range(tf.shape(clips)[0]), boxes),
        fn_output_signature=tf.TensorSpec(shape[1:], clips.dtype),
    )
