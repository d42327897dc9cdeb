"""Random rectangles of a frame, one a clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import ClipAxes

from .draws import random_starts, uniform
from .elements import check_pair

_ATTEMPTS = 10


class Boxes(NamedTuple):
    """A rectangle for each clip, in pixels, int32 (batch,)."""

    top: tf.Tensor
    left: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor


def check_boxes(
    scale: Sequence[float], ratio: Sequence[float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The arguments `scale` and `ratio` of a map function, or an ArgumentError."""
    scales, ratios = check_pair("scale", scale, 0, 1), check_pair("ratio", ratio, 0)
    for name, (smallest, _) in (("scale", scales), ("ratio", ratios)):
        if smallest == 0:
            raise ArgumentError(f"`{name}` must be above 0. Received: {name}=(0, ...)")
    return scales, ratios


def place_boxes(
    seeds: tf.Tensor, draw: int, rows: int, columns: int, height: tf.Tensor, width: tf.Tensor
) -> Boxes:
    """Boxes of given sizes, each at a random place inside of the frame.

    Args:
        seeds: int32 (batch, 2).
        draw: Number of the draw of the row; that of the column is the next.
        rows: Of the frame.
        columns: Of the frame.
        height: int32 (batch,), from 0 to `rows`.
        width: int32 (batch,), from 0 to `columns`.
    """
    top = random_starts(seeds, draw, rows - height)
    left = random_starts(seeds, draw + 1, columns - width)
    return Boxes(top, left, height, width)


def random_boxes(
    seeds: tf.Tensor,
    rows: int,
    columns: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Boxes, tf.Tensor]:
    """Boxes of random sizes, as torchvision draws them: the first of ten that fits.

    Args:
        seeds: int32 (batch, 2); draws 1 to 22 are used.
        rows: Of the frame.
        columns: Of the frame.
        scale: From which share of the frame's area to which, uniformly.
        ratio: From which width / height to which, uniformly in its logarithm.

    Returns:
        The boxes, and whether one was found that fits, bool (batch,); where none was, the box is
        of no use.
    """
    sizes = range(1, _ATTEMPTS + 1)
    shapes = range(_ATTEMPTS + 1, 2 * _ATTEMPTS + 1)
    # In float64: the last bit of `exp` depends on the place in the batch, and must not be seen.
    area = rows * columns * tf.cast(uniform(seeds, sizes, *scale), tf.float64)
    logarithm = uniform(seeds, shapes, math.log(ratio[0]), math.log(ratio[1]))
    aspect = tf.exp(tf.cast(logarithm, tf.float64))
    height = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
    width = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
    fits = (height >= 1) & (height <= rows) & (width >= 1) & (width <= columns)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    found = tf.reduce_any(fits, axis=1)
    height = tf.where(found, tf.gather(height, first, batch_dims=1), 1)
    width = tf.where(found, tf.gather(width, first, batch_dims=1), 1)
    return place_boxes(seeds, 2 * _ATTEMPTS + 1, rows, columns, height, width), found


def inside(boxes: Boxes, rows: int, columns: int, axes: ClipAxes) -> tf.Tensor:
    """Which pixels are inside of their clip's box.

    Returns:
        bool (batch, 1, 1, rows, columns), or (batch, 1, rows, columns, 1) for channels last.
    """

    def along(axis: int, count: int, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        place = tf.range(count)[tf.newaxis]
        start, size = start[:, tf.newaxis], size[:, tf.newaxis]
        shape = [1] * 5
        shape[0], shape[axis] = -1, count
        return tf.reshape((place >= start) & (place < start + size), shape)

    return along(axes.rows, rows, boxes.top, boxes.height) & along(
        axes.columns, columns, boxes.left, boxes.width
    )


def for_each_box(
    clips: tf.Tensor,
    boxes: Boxes,
    height: int,
    width: int,
    axes: ClipAxes,
    function: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """What a function makes of each clip's box, which is one clip without the batch's axis.

    The function makes frames of `height` x `width` of it. This loops over the clips: it copies a
    box row by row, where `tf.gather` goes pixel by pixel and takes several times as long.
    Its callers are a `tf.function` each: without a graph, the loop is slow.
    """

    def one(values: tuple[tf.Tensor, Boxes]) -> tf.Tensor:
        number, box = values
        begin = [number, 0, 0, 0, 0]
        size = [1, *(-1 if length is None else length for length in clips.shape[1:])]
        begin[axes.rows], size[axes.rows] = box.top, box.height
        begin[axes.columns], size[axes.columns] = box.left, box.width
        return function(tf.slice(clips, tf.stack(begin), tf.stack(size))[0])

    shape = clips.shape.as_list()
    shape[axes.rows], shape[axes.columns] = height, width
    return tf.map_fn(
        one,
        (tf.range(tf.shape(clips)[0]), boxes),
        fn_output_signature=tf.TensorSpec(shape[1:], clips.dtype),
    )
