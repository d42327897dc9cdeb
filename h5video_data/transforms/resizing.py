"""Map functions that give frames another size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import ClipAxes, Key, as_names, axes_of

from .boxes import Boxes, check_boxes, for_each_box, random_boxes
from .elements import (
    Change,
    MapFunction,
    as_dtype,
    as_float,
    check_axes,
    check_whole,
    deterministic,
    length,
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
# By TensorFlow. They go through floats, which hold all of them but the largest of uint64.
_NOT_RESIZED = (tf.bool, tf.uint32, tf.uint64)


def resize(
    height: int,
    width: int,
    *,
    interpolation: str | Mapping[str, str] | None = None,
    antialias: bool = False,
    data_format: str | None = None,
    key: Key = None,
) -> MapFunction:
    """Resizes all frames, as `tf.image.resize` and `keras.layers.Resizing` do.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        interpolation: `"bilinear"`, the default, `"nearest"`, `"bicubic"`, `"area"`, `"lanczos3"`,
            `"lanczos5"`, `"gaussian"` or `"mitchellcubic"`; or a dict with one for each name of
            `key`. Where `key` names y, or several values, integers need it said: class numbers
            must not be blended, so masks need `"nearest"`.
        antialias: Whether to smooth what is made smaller, at several times the cost.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, channels, height, width), or channels last, of the same dtype.
    """
    check_whole(height=height, width=width)
    axes = axes_of(data_format)

    def stretching(method: str | None) -> Change:
        def stretch(clips: tf.Tensor) -> tf.Tensor:
            check_axes(clips, axes)
            return _resized(clips, height, width, _known(method, clips), antialias, axes)

        return stretch

    return deterministic([stretching(method) for method in _methods(interpolation, key)], key)


def random_resized_crop(
    height: int,
    width: int,
    *,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: str | Mapping[str, str] | None = None,
    antialias: bool = False,
    data_format: str | None = None,
    key: Key = None,
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
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, channels, rows, columns) to
        (batch, frames, channels, height, width), or channels last, of the same dtype; needs
        `seeds`.
    """
    check_whole(height=height, width=width)
    scales, ratios = check_boxes(scale, ratio)
    axes = axes_of(data_format)

    def cropping(method: str | None) -> Change:
        def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            check_axes(clips, axes)
            known = _known(method, clips)
            rows, columns = (length(clips, axis) for axis in axes.of_frames.values())
            drawn, found = random_boxes(seeds, rows, columns, scales, ratios)
            middle = _middle_box(rows, columns, ratios)
            boxes = Boxes(*(tf.where(found, *pair) for pair in zip(drawn, middle, strict=True)))

            def stretch(window: tf.Tensor) -> tf.Tensor:
                return _resized(window[tf.newaxis], height, width, known, antialias, axes)[0]

            return for_each_box(clips, boxes, height, width, axes, stretch)

        compiled: Change = tf.function(crop, autograph=False)
        return compiled

    crops = [cropping(method) for method in _methods(interpolation, key)]
    return random(crops, key, alike=axes.of_frames)


def _methods(interpolation: str | Mapping[str, str] | None, key: Key) -> list[str | None]:
    """How to interpolate for each name of `key`; None: bilinear, but not for integers."""
    names = as_names(key)
    if interpolation is None:
        is_clear = len(names) < 2 and names != ("y",)
        return ["bilinear" if is_clear else None] * max(1, len(names))
    if isinstance(interpolation, Mapping):
        if set(interpolation) != set(names):
            raise ArgumentError(
                "`interpolation`, if it is a dict, must have the names of `key`. "
                f"Received: interpolation={dict(interpolation)!r}, key={key!r}"
            )
        methods = [interpolation[name] for name in names]
    else:
        methods = [interpolation] * max(1, len(names))
    for method in methods:
        if method not in _INTERPOLATIONS:
            raise ArgumentError(
                f"`interpolation` must be one of {', '.join(_INTERPOLATIONS)}. Received: {method!r}"
            )
    return [*methods]


def _known(method: str | None, clips: tf.Tensor) -> str:
    """How to interpolate clips."""
    if method is None and clips.dtype.is_integer:
        raise ArgumentError(
            "`interpolation` must be given for integers of y, and of several values at once: "
            'interpolation={"x": "bilinear", "y": "nearest"} if y are masks of class numbers, '
            'interpolation="bilinear" if all are images. '
            f"Received: {clips.dtype.name} of shape {clips.shape}"
        )
    return method or "bilinear"


def _middle_box(rows: int, columns: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest box in the middle that has such a ratio."""
    height = min(rows, max(1, round(columns / ratio[0])))
    width = min(columns, max(1, round(rows * ratio[1])))
    return (rows - height) // 2, (columns - width) // 2, height, width


def _resized(
    clips: tf.Tensor, height: int, width: int, method: str, antialias: bool, axes: ClipAxes
) -> tf.Tensor:
    """Clips with frames of another size, in the same dtype; rows and columns may be unknown."""
    dynamic = tf.shape(clips)
    shape = [dynamic[i] if size is None else size for i, size in enumerate(clips.shape)]
    # If the channels come first, as frames of one channel: that takes no transposition.
    channels = shape[axes.channels] if axes.data_format == "channels_last" else 1
    frames = tf.reshape(clips, [-1, shape[axes.rows], shape[axes.columns], channels])
    if clips.dtype in _NOT_RESIZED:
        frames = as_float(frames)
    resized = tf.image.resize(frames, [height, width], method, antialias=antialias)
    shape[axes.rows], shape[axes.columns] = height, width
    return tf.reshape(as_dtype(resized, clips.dtype), shape)
