"""Random boxes, rectangles of a frame: one for each clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from h5video_data.errors import ArgumentError

from .draws import random_starts, uniform
from .elements import Range, check_pair
from .selection import ClipAxes

_ATTEMPTS = 10


class Boxes(NamedTuple):
    """A box for each clip, in pixels, int32 (batch,)."""

    top: tf.Tensor
    left: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor


def check_boxes(scale: Sequence[float], ratio: Sequence[float]) -> tuple[Range, Range]:
    """Returns the arguments `scale` and `ratio` of a map function, ranges of positive numbers."""
    scales, ratios = check_pair("scale", scale, 0, 1), check_pair("ratio", ratio, 0)
    for name, (smallest, _) in (("scale", scales), ("ratio", ratios)):
        if smallest == 0:
            raise ArgumentError(f"`{name}` must be above 0. Received: {name}=(0, ...)")
    return scales, ratios


def place_boxes(
    seeds: tf.Tensor, draw: int, rows: int, columns: int, height: tf.Tensor, width: tf.Tensor
) -> Boxes:
    """Places boxes of given sizes, int32 (batch,), at random in the frame, by two draws."""
    top = random_starts(seeds, draw, rows - height)
    left = random_starts(seeds, draw + 1, columns - width)
    return Boxes(top, left, height, width)


def random_boxes(
    seeds: tf.Tensor, rows: int, columns: int, scale: Range, ratio: Range
) -> tuple[Boxes, tf.Tensor]:
    """Draws boxes of random sizes, as torchvision does: the first of ten that fits into the frame.

    The area, as a fraction of the frame's, is uniform in the range `scale`; width / height is
    log-uniform in `ratio`. Draws 1 to 22 are used.

    Returns:
        The boxes, and bool (batch,), whether one fits; if not, the box is meaningless.
    """
    sizes = range(1, _ATTEMPTS + 1)
    shapes = range(_ATTEMPTS + 1, 2 * _ATTEMPTS + 1)
    # In float64, because the last bit of `exp` depends on the place in the batch.
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
    """Returns a mask of the pixels in each clip's box, which broadcasts against the clips."""

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
    size: tuple[int, int],
    axes: ClipAxes,
    function: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Applies a function to the box of each clip: (frames, ...) to frames of a size.

    It loops over the clips: slices copy row by row, whereas `tf.gather` copies pixel by pixel and
    takes several times as long. Callers must wrap it in a `tf.function`: the loop is slow in eager
    mode.
    """

    def one(values: tuple[tf.Tensor, Boxes]) -> tf.Tensor:
        number, box = values
        begin = [number, 0, 0, 0, 0]
        lengths = [1, *(-1 if length is None else length for length in clips.shape[1:])]
        begin[axes.rows], lengths[axes.rows] = box.top, box.height
        begin[axes.columns], lengths[axes.columns] = box.left, box.width
        return function(tf.slice(clips, tf.stack(begin), tf.stack(lengths))[0])

    shape = clips.shape.as_list()
    shape[axes.rows], shape[axes.columns] = size
    return tf.map_fn(
        one,
        (tf.range(tf.shape(clips)[0]), boxes),
        fn_output_signature=tf.TensorSpec(shape[1:], clips.dtype),
    )
