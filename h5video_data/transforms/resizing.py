"""Map functions that resize frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import tensorflow as tf

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError
from h5video_data.storage.pictures.resizing import Interpolation

from .boxes import Boxes, check_boxes, for_each_box, random_boxes
from .elements import (
    Change,
    MapFunction,
    as_dtype,
    as_float,
    check_axes,
    deterministic,
    frame_size,
    random,
)
from .selection import ClipAxes, DataFormat, Key, as_names, axes_of

# `tf.image.resize` does not take these dtypes. They are cast to floats first, which is exact except
# for the largest values of uint64.
_NOT_RESIZED = (tf.bool, tf.uint32, tf.uint64)


def resize(
    height: int,
    width: int,
    *,
    interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    antialias: bool = False,
    data_format: DataFormat | None = None,
    key: Key = None,
) -> MapFunction:
    """Resizes all frames, as `tf.image.resize` and `keras.layers.Resizing` do.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        interpolation: `"bilinear"`, the default, `"nearest"`, `"bicubic"`, `"area"`, `"lanczos3"`,
            `"lanczos5"`, `"gaussian"` or `"mitchellcubic"`; or a dict with one for each name of
            `key`. It must be given for integers if `key` names y, or several values: masks of
            class numbers need `"nearest"`, since classes must not be blended.
        antialias: Whether to smooth frames that become smaller, at several times the cost.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, channels, height, width), or channels last, of the same dtype.
    """
    check_whole_number("height", height, 1)
    check_whole_number("width", width, 1)
    axes = axes_of(data_format)

    def resizing(method: Interpolation | None) -> Change:
        def resize_clips(clips: tf.Tensor) -> tf.Tensor:
            check_axes(clips, axes)
            return _resized(clips, (height, width), _known(method, clips), antialias, axes)

        return resize_clips

    return deterministic(
        [resizing(method) for method in _methods(interpolation, key)], key, axes=axes
    )


def random_resized_crop(
    height: int,
    width: int,
    *,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    antialias: bool = False,
    data_format: DataFormat | None = None,
    key: Key = None,
) -> MapFunction:
    """Crops a box of random size and shape out of each clip, and resizes it.

    The box is drawn as in torchvision's `RandomResizedCrop`: the first of ten that fits into the
    frame or, if none does, the largest central one whose width / height is within `ratio`.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        scale: Area of the box as a fraction of the frame's: (smallest, largest), above 0, at most
            1.
        ratio: Width / height of the box: (smallest, largest).
        interpolation: As for `resize`.
        antialias: Whether to smooth frames that become smaller, at several times the cost.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, channels, height, width), or channels last, of the same dtype; needs
        `seeds`.
    """
    check_whole_number("height", height, 1)
    check_whole_number("width", width, 1)
    scales, ratios = check_boxes(scale, ratio)
    axes = axes_of(data_format)

    def cropping(method: Interpolation | None) -> Change:
        def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            rows, columns = frame_size(clips, axes)
            known = _known(method, clips)
            drawn, found = random_boxes(seeds, rows, columns, scales, ratios)
            middle = _middle_box(rows, columns, ratios)
            boxes = Boxes(*(tf.where(found, *pair) for pair in zip(drawn, middle, strict=True)))

            def resize_box(box: tf.Tensor) -> tf.Tensor:
                return _resized(box[tf.newaxis], (height, width), known, antialias, axes)[0]

            return for_each_box(clips, boxes, (height, width), axes, resize_box)

        compiled: Change = tf.function(crop, autograph=False)
        return compiled

    crops = [cropping(method) for method in _methods(interpolation, key)]
    return random(crops, key, alike=axes.of_frames, axes=axes)


def _methods(
    interpolation: Interpolation | Mapping[str, Interpolation] | None, key: Key
) -> list[Interpolation | None]:
    """Returns the interpolation for each name of `key`; None: bilinear, but not for integers."""
    names = as_names(key)
    if interpolation is None:
        is_clear = len(names) < 2 and names != ("y",)
        return ["bilinear" if is_clear else None] * max(1, len(names))
    if isinstance(interpolation, Mapping):
        if set(interpolation) != set(names):
            raise ArgumentError(
                "A dict of `interpolation` must have the names of `key`. "
                f"Received: interpolation={dict(interpolation)!r}, key={key!r}"
            )
        methods = [interpolation[name] for name in names]
    else:
        methods = [interpolation] * max(1, len(names))
    for method in methods:
        check_choice("interpolation", method, *get_args(Interpolation))
    return [*methods]


def _known(method: Interpolation | None, clips: tf.Tensor) -> Interpolation:
    """Returns the interpolation of clips."""
    if method is None and clips.dtype.is_integer:
        raise ArgumentError(
            "`interpolation` must be given for integers of y, and of several values at once: "
            'interpolation={"x": "bilinear", "y": "nearest"} if y holds masks of class numbers, '
            'interpolation="bilinear" if all are images. '
            f"Received: {clips.dtype.name} of shape {clips.shape}"
        )
    return method or "bilinear"


def _middle_box(rows: int, columns: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of the largest central box within a range of ratios."""
    height = min(rows, max(1, round(columns / ratio[0])))
    width = min(columns, max(1, round(rows * ratio[1])))
    return (rows - height) // 2, (columns - width) // 2, height, width


def _resized(
    clips: tf.Tensor, size: tuple[int, int], method: Interpolation, antialias: bool, axes: ClipAxes
) -> tf.Tensor:
    """Resizes the frames of clips and keeps their dtype; rows and columns may be unknown."""
    dynamic = tf.shape(clips)
    shape = [dynamic[i] if length is None else length for i, length in enumerate(clips.shape)]
    # Channels first: each channel is resized as an image of its own, without a transposition.
    channels = shape[axes.channels] if axes.data_format == "channels_last" else 1
    frames = tf.reshape(clips, [-1, shape[axes.rows], shape[axes.columns], channels])
    if clips.dtype in _NOT_RESIZED:
        frames = as_float(frames)
    resized = tf.image.resize(frames, size, method, antialias=antialias)
    shape[axes.rows], shape[axes.columns] = size
    return tf.reshape(as_dtype(resized, clips.dtype), shape)
