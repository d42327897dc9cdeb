"""Building blocks of the map functions: clips of an element, their axes and dtypes, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from h5video_data.errors import ArgumentError

from .selection import ClipAxes, Key, Place, as_names, find_places

MapFunction = Callable[..., Any]
Range = tuple[float, float]
# Function of clips and, if it makes random choices, of their seeds, int32 (batch, 2).
Change = Callable[..., tf.Tensor]

FRAMES = 1


def deterministic(
    change: Change | Sequence[Change],
    key: Key,
    *,
    alike: Mapping[str, int] | None = None,
    axes: ClipAxes | None = None,
) -> MapFunction:
    """Returns a map function that replaces the clips that `key` names.

    Args:
        change: Function from clips to new clips; or one for each name of `key`.
        key: Names of the values that are clips.
        alike: Axes, by name, along which all of these values must have the same length.
        axes: Axes of the clips, if `change` may get images too, as clips of one frame: then values
            of 4 dimensions are images. None: it gets values as they are.
    """
    names = as_names(key)

    def apply(x: Any, *rest: Any) -> Any:
        return _changed((x, *rest), names, change, alike, axes)

    return _named(apply, change)


def random(
    change: Change | Sequence[Change],
    key: Key,
    *,
    alike: Mapping[str, int] | None = None,
    axes: ClipAxes | None = None,
) -> MapFunction:
    """Returns a map function like `deterministic`, of clips and seeds, the same for all clips."""
    names = as_names(key)

    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        return _changed((x, *rest), names, change, alike, axes, seeds)

    return _named(apply, change)


def _changed(
    element: tuple[Any, ...],
    names: Sequence[str],
    change: Change | Sequence[Change],
    alike: Mapping[str, int] | None,
    axes: ClipAxes | None,
    *seeds: tf.Tensor,
) -> Any:
    found = find_clips(element, names, alike, axes)
    changes = [change] * len(found) if callable(change) else change
    for (place, clips), function in zip(found.items(), changes, strict=True):
        element = put_clips(element, place, function(clips, *seeds), clips)
    return as_element(element)


def _named(apply: MapFunction, change: Change | Sequence[Change]) -> MapFunction:
    """Gives a map function the name of the public function that made it: "random_crop"."""
    function = change if callable(change) else change[0]
    function = getattr(function, "python_function", function)  # of a tf.function
    apply.__name__ = function.__qualname__.partition(".")[0]
    return apply


def find_clips(
    element: tuple[Any, ...],
    names: Sequence[str],
    alike: Mapping[str, int] | None = None,
    axes: ClipAxes | None = None,
) -> dict[Place, tf.Tensor]:
    """Finds the clips of an element, checked: tensors, of the same lengths along some axes.

    With `axes`, images are returned as clips of one frame; `put_clips` returns their results.
    """
    found = {place: place.get(element) for place in find_places(element, names)}
    for clips in found.values():
        if not tf.is_tensor(clips):
            raise ArgumentError(f"Clips must be a tensor. Received: {clips!r}")
    if axes is not None:
        if {clips.shape.rank for clips in found.values()} == {4, 5}:
            raise ArgumentError(
                "Values of 4 dimensions beside clips may be images, or video without channels: add "
                "the axis that is missing in a map function before this one, of one frame by "
                "`tf.expand_dims(y, 1)`, or of one channel by `tf.expand_dims(y, 2)`, or -1 for "
                "channels last. "
                f"Received: shapes {', '.join(str(clips.shape) for clips in found.values())}"
            )
        found = {place: _as_clips(clips, axes) for place, clips in found.items()}
    for clips in found.values():
        if alike and FRAMES not in alike.values():
            check_rank(clips)
    for what, axis in (alike or {}).items():
        if len({length(clips, axis) for clips in found.values()}) > 1:
            raise ArgumentError(
                f"All values that `key` names must have the same number of {what}. "
                f"Received: shapes {', '.join(str(clips.shape) for clips in found.values())}"
            )
    return found


def _as_clips(values: tf.Tensor, axes: ClipAxes) -> tf.Tensor:
    """Returns images as clips of one frame, and clips as they are."""
    if values.shape.rank != 4:
        return values
    axes.check_images(values.shape.as_list())
    return tf.expand_dims(values, FRAMES)


def put_clips(
    element: tuple[Any, ...], place: Place, changed: tf.Tensor, clips: tf.Tensor
) -> tuple[Any, ...]:
    """Returns an element with what `find_clips` found there changed: images are images again."""
    are_images = place.get(element).shape.rank == 4 and clips.shape.rank == 5
    return place.put(element, tf.squeeze(changed, [FRAMES]) if are_images else changed)


def as_element(items: tuple[Any, ...]) -> Any:
    """Returns an element as Keras takes it: a tuple, or x alone."""
    return items if len(items) > 1 else items[0]


def length(clips: tf.Tensor, axis: int) -> int:
    """Returns the length of clips along an axis, which must be known to TensorFlow in advance."""
    if clips.shape.rank is None or clips.shape[axis] is None:
        raise ArgumentError(
            f"The length of axis {axis} must be known: after `tf.numpy_function`, call `set_shape` "
            f"or `tf.ensure_shape`. Received: clips of shape {clips.shape}"
        )
    return int(clips.shape[axis])


def check_rank(clips: tf.Tensor, *, images: bool = False) -> None:
    """Raises an ArgumentError if a tensor is not a batch of clips, nor of images if these may be.

    Whoever takes images of 4 dimensions here must not care which of their axes is which.
    """
    if clips.shape.rank != 5 and not (images and clips.shape.rank == 4):
        raise ArgumentError(
            "Clips must have 5 dimensions, (batch, frames, channels, rows, columns) or channels "
            "last; images 4. A map function before this one can add an axis with `tf.expand_dims`: "
            "channels to masks and to grey video. "
            f"Received: clips of shape {clips.shape}"
        )


def check_axes(clips: tf.Tensor, axes: ClipAxes) -> None:
    """Raises an ArgumentError if a tensor is not a batch of clips, or its axes are others."""
    check_rank(clips)
    axes.check(clips.shape.as_list())


def frame_size(clips: tf.Tensor, axes: ClipAxes) -> tuple[int, int]:
    """Returns the numbers of rows and columns of clips, whose axes are checked."""
    check_axes(clips, axes)
    return length(clips, axes.rows), length(clips, axes.columns)


def per_clip(values: tf.Tensor, clips: tf.Tensor) -> tf.Tensor:
    """Reshapes values (batch,) to (batch, 1, 1, ...), which broadcasts against the clips."""
    return tf.reshape(values, [-1] + [1] * (clips.shape.rank - 1))


def check_channel_values(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Returns an argument that is a number, or one for each channel: () or (channels,)."""
    values = np.asarray(value, np.float64)
    if values.ndim > 1 or not np.isfinite(values).all():
        raise ArgumentError(
            f"`{name}` must be a finite number, or one for each channel. Received: {name}={value!r}"
        )
    return values


def per_channel(
    name: str, values: NDArray[np.float64], clips: tf.Tensor, axes: ClipAxes
) -> NDArray[np.float64]:
    """Reshapes the argument `name`, () or (channels,), to broadcast against the clips."""
    axis = axes.channels
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
    """Casts clips to the dtype to calculate in: float32, or float64 if they are wider."""
    is_wide = clips.dtype == tf.float64 or (clips.dtype.is_integer and clips.dtype.size > 2)
    return tf.cast(clips, tf.float64 if is_wide else tf.float32)


def as_dtype(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Casts floats to a dtype; integers are rounded to the nearest one and saturate."""
    if values.dtype == dtype:  # TensorFlow 2.21 saturates int64 to -2**63
        return values
    if dtype == tf.bool:
        return values >= 0.5
    return tf.saturate_cast(tf.round(values), dtype) if dtype.is_integer else tf.cast(values, dtype)


def is_number(value: Any) -> bool:
    """Returns whether a value is a number of Python or NumPy."""
    return isinstance(value, (int, float, np.number))


def check_probability(probability: float) -> None:
    """Raises an ArgumentError if an argument is not a probability."""
    if not is_number(probability) or not 0 <= probability <= 1:
        raise ArgumentError(
            f"`probability` must be from 0 to 1. Received: probability={probability!r}"
        )


def check_pair(
    name: str, value: Any, least: float, most: float = float("inf"), *, ascending: bool = True
) -> tuple[float, float]:
    """Returns an argument that is two finite numbers from `least` to `most`, as floats."""
    is_pair = isinstance(value, (Sequence, np.ndarray)) and len(value) == 2
    if is_pair and all(is_number(item) for item in value):
        first, second = (float(item) for item in value)
        if all(least <= item <= most and np.isfinite(item) for item in (first, second)) and (
            first <= second or not ascending
        ):
            return first, second
    limits = f"from {least:g} to {most:g}" if np.isfinite(most) else f"from {least:g}"
    order = ", the smaller one first" if ascending else ""
    raise ArgumentError(f"`{name}` must be two numbers {limits}{order}. Received: {name}={value!r}")
