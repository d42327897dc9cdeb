"""Another form of samples, for `repack`: channels last, another size of frames, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice
from h5video_data.errors import ArgumentError, RepackingError
from h5video_data.video_set import Component

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class SampleForm:
    """What samples are to become; as they are, by default.

    Attributes:
        channels_last: Whether the axis of channels is moved behind those of rows and columns.
        image_size: (rows, columns) to which frames are scaled, whatever their aspect ratio.
        dtype: "uint8" or None.
        scale: What values are multiplied by before they are rounded to uint8.
    """

    channels_last: bool = False
    image_size: tuple[int, int] | None = None
    dtype: str | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, None, "uint8")
        if self.scale is not None and self.dtype is None:
            raise ArgumentError(
                f'`scale` is for dtype="uint8" alone. Received: scale={self.scale!r}, dtype=None'
            )

    @property
    def changes(self) -> bool:
        """Whether samples become anything else."""
        return self != SampleForm()

    def shape_of(self, component: Component) -> tuple[int, ...]:
        """Returns the shape of a sample; may raise an ArgumentError."""
        shape = list(component.sample_shape)
        if not (self.channels_last or self.image_size):
            return component.sample_shape
        is_last = self._is_channels_last(component)
        if self.channels_last and not is_last:
            shape.append(shape.pop(-3))
            is_last = True
        if self.image_size is not None:
            shape[slice(-3, -1) if is_last else slice(-2, None)] = map(int, self.image_size)
        return tuple(shape)

    def dtype_of(self, component: Component) -> np.dtype[Any]:
        """Returns the dtype of the values."""
        return component.dtype if self.dtype is None else np.dtype(self.dtype)

    def apply(self, values: NDArray[Any], component: Component, begin: int) -> NDArray[Any]:
        """Changes samples.

        Args:
            values: (n, ...), as they are stored.
            component: The dataset that they are from.
            begin: Number of the first one, for messages.

        Raises:
            RepackingError: A value is none of uint8.
        """
        if not self.changes:
            return values
        dtype = component.dtype
        if self.dtype is not None:
            values = self._as_bytes(values, component.name, begin)
            dtype = values.dtype
        if self.channels_last or self.image_size is not None:
            is_last = self._is_channels_last(component)
            if self.image_size is not None:
                values = _resized(values, self.image_size, -3 if is_last else -2, dtype)
            if self.channels_last and not is_last:
                values = np.moveaxis(values, -3, -1)
        return np.ascontiguousarray(values)

    def _is_channels_last(self, component: Component) -> bool:
        shape = component.sample_shape
        is_first = len(shape) >= 3 and shape[-3] in _CHANNELS
        is_last = len(shape) >= 3 and shape[-1] in _CHANNELS
        if is_first == is_last:
            what = "could be either" if is_first else "has no such axis"
            raise ArgumentError(
                f"Samples of {component.name!r} must have channels (1, 3 or 4 of them) as the last "
                f"axis, or the third last one; their shape {shape} {what}. Received: "
                f"channels_last={self.channels_last}, image_size={self.image_size}"
            )
        return is_last

    def _as_bytes(self, values: NDArray[Any], name: str, begin: int) -> NDArray[Any]:
        if self.scale is None:
            scaled: NDArray[Any] = values
            is_valid = (values >= 0) & (values <= 255) & (values == np.floor(values))
        else:
            scaled = np.rint(values.astype(np.float64) * self.scale)
            is_valid = (scaled >= 0) & (scaled <= 255)
        if not is_valid.all():
            place = tuple(int(axis[0]) for axis in np.nonzero(~is_valid))
            rule = "whole numbers from 0 to 255" if self.scale is None else "0 to 255, multiplied"
            raise RepackingError(
                f'To become dtype="uint8", values must be {rule}; sample {begin + place[0]} of '
                f"{name!r} has {values[place]!s}. Values from 0 to 1 need scale=255."
            )
        return scaled.astype(np.uint8)


def _resized(
    values: NDArray[Any], size: tuple[int, int], axis: int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Scales two neighbouring axes: averages what a smaller pixel covers, or interpolates."""
    work = np.float64 if dtype.itemsize > 2 else np.float32
    for number, length in enumerate(size):
        moved = np.moveaxis(values, axis + number, -1)
        values = np.moveaxis(
            moved.astype(work) @ _weights(moved.shape[-1], length, work), -1, axis + number
        )
    if dtype.kind in "ui":
        values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype)


def _weights(old: int, new: int, dtype: Any) -> NDArray[Any]:
    """Returns the weights, (old, new), of old pixels in new ones; each column's sum is 1."""
    if new < old:
        edges = np.linspace(0, old, new + 1)
        pixel = np.arange(old)[:, np.newaxis]
        overlap = np.minimum(pixel + 1, edges[1:]) - np.maximum(pixel, edges[:-1])
        return np.asarray(np.maximum(overlap, 0) * (new / old), dtype)
    center = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(np.arange(old)[:, np.newaxis] - center)
    return np.asarray(np.maximum(1 - distance, 0), dtype)
