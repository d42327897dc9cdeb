"""What the map functions share: the clips of an element, their axes and dtypes, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import ClipAxes, Key, Place, as_names, find_places

MapFunction = Callable[..., Any]
# Of clips, and of their seeds, int32 (batch, 2), if the choice is random.
Change = Callable[..., tf.Tensor]

FRAMES = 1


def deterministic(
    change: Change | Sequence[Change], key: Key, *, alike: Mapping[str, int] | None = None
) -> MapFunction:
    """The map function that changes the clips of an element.

    Args:
        change: Makes new clips of clips; or one such function for each name of `key`.
        key: Which values of the element are the clips.
        alike: Axes along which all of them must have the same length, by name.
    """
    names = as_names(key)

    def apply(x: Any, *rest: Any) -> Any:
        return _changed((x, *rest), names, change, alike)

    return _named(apply, change)


def random(
    change: Change | Sequence[Change], key: Key, *, alike: Mapping[str, int] | None = None
) -> MapFunction:
    """The same for a function of clips and seeds: what is chosen is the same for all of them."""
    names = as_names(key)

    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        return _changed((x, *rest), names, change, alike, seeds)

    return _named(apply, change)


def _changed(
    element: tuple[Any, ...],
    names: Sequence[str],
    change: Change | Sequence[Change],
    alike: Mapping[str, int] | None,
    *seeds: tf.Tensor,
) -> Any:
    places = find_places(element, names)
    found = clips_at(element, places, alike)
    changes = [change] * len(found) if callable(change) else change
    for place, clips, function in zip(places, found, changes, strict=True):
        element = place.put(element, function(clips, *seeds))
    return as_element(element)


def _named(apply: MapFunction, change: Change | Sequence[Change]) -> MapFunction:
    """Gives a map function the name of the public one that made it, such as "random_crop"."""
    function = change if callable(change) else change[0]
    function = getattr(function, "python_function", function)  # of a tf.function
    apply.__name__ = function.__qualname__.partition(".")[0]
    return apply


def clips_at(
    element: tuple[Any, ...], places: Sequence[Place], alike: Mapping[str, int] | None = None
) -> list[tf.Tensor]:
    """The clips of an element.

    Args:
        element: x, y and sample_weight, as many as there are.
        places: Where the clips are.
        alike: Axes along which all of them must have the same length, by name: what is chosen at
            random for one of them is to fit the others.
    """
    found = [place.get(element) for place in places]
    for clips in found:
        if not tf.is_tensor(clips):
            raise ArgumentError(f"Clips should be a tensor. Received: {clips!r}")
    for what, axis in (alike or {}).items():
        if len({length(clips, axis, rank=None if axis == FRAMES else 5) for clips in found}) > 1:
            raise ArgumentError(
                f"What `key` names must have as many {what} as each other. "
                f"Received: shapes {', '.join(str(clips.shape) for clips in found)}"
            )
    return found


def as_element(parts: tuple[Any, ...]) -> Any:
    """An element in the form that Keras takes."""
    return parts if len(parts) > 1 else parts[0]


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
            "last; `tf.expand_dims` in a function before gives images the axis of the frames, and "
            "masks that of the channels. "
            f"Received: clips of shape {clips.shape}"
        )


def check_axes(clips: tf.Tensor, axes: ClipAxes) -> None:
    """Raises an ArgumentError if these are not clips, or their shape shows other axes."""
    check_rank(clips)
    axes.check(clips.shape.as_list())


def per_clip(values: tf.Tensor, clips: tf.Tensor) -> tf.Tensor:
    """Values (batch,) in a shape that broadcasts against the clips: (batch, 1, 1, ...)."""
    return tf.reshape(values, [-1] + [1] * (clips.shape.rank - 1))


def per_channel(
    name: str, values: NDArray[np.float64], clips: tf.Tensor, axes: ClipAxes
) -> NDArray[np.float64]:
    """A number, or one for each channel, in a shape that broadcasts against the clips.

    Args:
        name: What the numbers are called.
        values: One number, (), or (channels,).
        clips: The clips.
        axes: Which axis is that of the channels.
    """
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
    """Clips in the dtype to calculate in, which holds all their values exactly, or nearly so."""
    is_wide = clips.dtype == tf.float64 or (clips.dtype.is_integer and clips.dtype.size > 2)
    return tf.cast(clips, tf.float64 if is_wide else tf.float32)


def as_dtype(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Floats in a dtype; integers are rounded to the nearest, and no further than their range."""
    if values.dtype == dtype:  # TensorFlow 2.21 makes -2**63 of all int64
        return values
    if dtype == tf.bool:
        return values >= 0.5
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
