"""Samples as pictures: which axes are frames and channels, and which values are black and white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError

DataFormat = Literal["channels_first", "channels_last"]

_CHANNELS = (1, 2, 3, 4)


def as_frames(
    sample: NDArray[Any], data_format: DataFormat | None = None, frames_axis: int | None = None
) -> NDArray[Any]:
    """Returns a sample as (frames, rows, columns, channels), of its dtype.

    Args:
        sample: (frames, channels, rows, columns) or channels last; grey video, without channels; or
            one image.
        data_format: Which axis the channels are, of frames that have them; None: told by its
            length, 1 to 4, and an error where both fit.
        frames_axis: The axis of the frames, if that is known; None: the first one, if the sample is
            not one image.
    """
    if frames_axis is not None:
        sample = np.moveaxis(sample, frames_axis, 0)
    shape = sample.shape
    if sample.ndim == 2 and frames_axis is None:
        return sample[np.newaxis, ..., np.newaxis]
    if sample.ndim == 3:
        is_image = frames_axis is None and (
            data_format is not None or shape[0] in _CHANNELS[::2] or shape[2] in _CHANNELS
        )
        if not is_image:
            return sample[..., np.newaxis]
        sample = sample[np.newaxis]
    if sample.ndim != 4:
        raise ArgumentError(
            "Samples must be (frames, channels, rows, columns), (frames, rows, columns, channels), "
            f"(frames, rows, columns), or images. Received: a sample of shape {shape}"
        )
    first, last = sample.shape[1] in _CHANNELS, sample.shape[3] in _CHANNELS
    if data_format is None and first == last:
        what = "either axis may be the channels" if first else "no axis of 1 to 4 channels"
        raise ArgumentError(
            f'{what}: pass data_format="channels_first" or "channels_last". '
            f"Received: a sample of shape {shape}"
        )
    if data_format == "channels_first" or (data_format is None and first):
        sample = np.moveaxis(sample, 1, -1)
    if sample.shape[3] not in _CHANNELS:
        raise ArgumentError(
            f"A frame must have 1 to 4 channels. Received: a sample of shape {shape}, "
            f"data_format={data_format!r}"
        )
    return sample


def is_video(shape: Sequence[int]) -> bool:
    """Whether samples of a shape may be pictures, and not labels or features."""
    return (len(shape) in (3, 4) and math.prod(sorted(shape)[-2:]) >= 16) or (
        len(shape) == 2 and min(shape) >= 16
    )


def value_range(samples: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Returns which values are to be black and white, over all samples.

    uint8 is what it is, masks of 0 and 1 are those; values from 0 to 1 and -1 to 1 keep these
    limits; others are stretched between the smallest and the largest.
    """
    with np.errstate(invalid="ignore"):
        finite = [item[np.isfinite(item)] for item in samples]
    finite = [item for item in finite if item.size]
    if not finite:
        return 0.0, 1.0
    low = float(min(item.min() for item in finite))
    high = float(max(item.max() for item in finite))
    if samples[0].dtype == np.uint8:
        return (0.0, 1.0) if high == 1 else (0.0, 255.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= -1 and high <= 1:
        return -1.0, 1.0
    return low, high


def as_pixels(frames: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Returns (frames, rows, columns, channels) as RGB, uint8; what is no number is black."""
    low, high = limits
    if frames.dtype == np.uint8 and limits == (0.0, 255.0):
        pixels = frames
    else:
        scaled = (frames.astype(np.float64) - low) * (255 / (high - low if high > low else 1))
        pixels = np.clip(np.nan_to_num(np.rint(scaled), nan=0), 0, 255).astype(np.uint8)
    channels = pixels.shape[-1]
    if channels == 1:
        return np.repeat(pixels, 3, axis=-1)
    if channels == 2:  # such as optical flow
        return np.concatenate([pixels, np.full_like(pixels[..., :1], 128)], axis=-1)
    return pixels[..., :3]


def resized(frames: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """Returns frames with about so many rows: of every n-th pixel, or each pixel n times."""
    height, width = frames.shape[1:3]
    columns = max(1, round(width * rows / height))
    at_rows = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
    at_columns = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
    if rows < height:  # the mean of the pixels that each covers
        return _means(_means(frames, rows, 1), columns, 2)
    return frames[:, at_rows][:, :, at_columns]


def _means(frames: NDArray[np.uint8], count: int, axis: int) -> NDArray[np.uint8]:
    length = frames.shape[axis]
    if count >= length:
        return frames
    edges = (np.arange(count) * length) // count
    sums = np.add.reduceat(frames.astype(np.uint32), edges, axis=axis)
    sizes = np.diff(np.append(edges, length))
    shape = [1] * frames.ndim
    shape[axis] = count
    return (sums // sizes.reshape(shape)).astype(np.uint8)


def spread(num_frames: int, count: int) -> NDArray[np.int64]:
    """Returns the numbers of at most `count` frames, evenly spread, the first and last included."""
    return np.unique(
        np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(np.int64)
    )
