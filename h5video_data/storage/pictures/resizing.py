"""Resizing of pictures, as `tf.image.resize(picture, size, method, antialias=False)` does it.

Each axis by itself: a value is a weighted sum of a few of the stored ones, the *taps*. The weights
of a pair of sizes are computed once. NumPy gathers and adds outside the interpreter's lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Taps = tuple[NDArray[np.intp], NDArray[np.float32]]

# The names that Keras has for them, in `image_dataset_from_directory`.
Interpolation: TypeAlias = Literal[
    "area", "bicubic", "bilinear", "gaussian", "lanczos3", "lanczos5", "mitchellcubic", "nearest"
]


def resize_into(picture: NDArray[Any], out: NDArray[Any], interpolation: str) -> None:
    """Resizes a picture.

    Args:
        picture: Unsigned integers (rows, columns, channels).
        out: Array of the same dtype and channels that receives it. Values are rounded, and those
            beyond the dtype's range (bicubic and Lanczos may overshoot) are set to its limits.
        interpolation: An `Interpolation`.
    """
    rows, columns, channels = out.shape
    stored_rows, stored_columns, _ = picture.shape
    lines = picture.reshape(stored_rows, stored_columns * channels)
    if interpolation == "nearest":
        places = _each_channel(_nearest(stored_columns, columns)[None], channels)[0]
        picked = np.take(lines, _nearest(stored_rows, rows), 0, mode="clip")
        out[...] = np.take(picked, places, 1, mode="clip").reshape(out.shape)
        return
    values = _weighted(lines, _taps(interpolation, stored_rows, rows), axis=0)
    taps = _channel_taps(interpolation, stored_columns, columns, channels)
    values = _weighted(values, taps, axis=1)
    np.rint(values, out=values)
    if interpolation not in ("bilinear", "area"):
        np.clip(values, 0, np.iinfo(out.dtype).max, out=values)
    np.copyto(out, values.reshape(out.shape), casting="unsafe")


def _weighted(lines: NDArray[Any], taps: Taps, axis: int) -> NDArray[np.float32]:
    """Returns a picture (rows, columns * channels) of another size along one axis, as float32.

    Columns and channels are one axis: NumPy is several times slower at loops over three channels.
    """
    total: NDArray[np.float32] | None = None
    for place, weight in zip(*taps, strict=True):
        # No place is outside; with "raise", NumPy takes a copy first.
        term = np.take(lines, place, axis, mode="clip").astype(np.float32, copy=False)
        np.multiply(term, weight[:, None] if axis == 0 else weight, out=term)
        total = term if total is None else np.add(total, term, out=total)
    if total is None:
        raise ValueError("no taps")
    return total


@functools.lru_cache(maxsize=256)
def _nearest(stored: int, size: int) -> NDArray[np.intp]:
    scale = np.float32(stored / size)
    places = np.floor((np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale)
    clipped: NDArray[np.intp] = np.minimum(places.astype(np.intp), stored - 1)
    return clipped


def _each_channel(places: NDArray[np.intp], channels: int) -> NDArray[np.intp]:
    """Returns the places (taps, size) of pixels as those of values, (taps, size * channels)."""
    values: NDArray[np.intp] = places[:, :, None] * channels + np.arange(channels)
    return values.reshape(len(places), -1)


@functools.lru_cache(maxsize=64)
def _channel_taps(interpolation: str, stored: int, size: int, channels: int) -> Taps:
    """Returns `_taps` for an axis that is columns and channels in one."""
    places, weights = _taps(interpolation, stored, size)
    return _each_channel(places, channels), np.repeat(weights, channels, 1)


@functools.lru_cache(maxsize=256)
def _taps(interpolation: str, stored: int, size: int) -> Taps:
    """Returns the stored values that each new one is a sum of, and weights: both (taps, size)."""
    if interpolation == "area":
        return _area_taps(stored, size)
    radius, kernel = _KERNELS[interpolation]
    centers = (np.arange(size) + 0.5) * (stored / size)
    if interpolation == "bicubic":  # TensorFlow takes its weights from a table
        centers = np.rint((centers - 0.5) * _CUBIC_STEPS) / _CUBIC_STEPS + 0.5
    # The stored values whose centers lie within the radius; those beyond the border weigh nothing,
    # and the others more: as in TensorFlow's ScaleAndTranslate.
    first = np.ceil(centers - radius - 0.5).astype(np.intp)
    places = first + np.arange(int(2 * radius) + 1)[:, None]
    weights = kernel(places + 0.5 - centers)
    weights[(places < 0) | (places >= stored)] = 0
    weights /= weights.sum(0)
    used = weights.any(1)
    return places.clip(0, stored - 1)[used], weights[used].astype(np.float32)


def _area_taps(stored: int, size: int) -> Taps:
    """Returns those of the means over (i, i + 1) * stored / size."""
    starts = np.arange(size) * (stored / size)
    stops = starts + stored / size
    first = np.floor(starts).astype(np.intp)
    places = first + np.arange(int(np.ceil(stored / size)) + 1)[:, None]
    weights = (np.minimum(places + 1, stops) - np.maximum(places, starts)).clip(0)
    weights[places >= stored] = 0
    weights /= weights.sum(0)
    used = (weights > 1e-9).any(1)
    return places.clip(0, stored - 1)[used], weights[used].astype(np.float32)


def _triangle(x: Floats) -> Floats:
    weights: Floats = np.maximum(1 - np.abs(x), 0)
    return weights


def _cubic(x: Floats) -> Floats:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _mitchell(x: Floats) -> Floats:
    x = np.abs(x)
    near = ((7 * x - 12) * x * x + 16 / 3) / 6
    far = (((-7 / 3 * x + 12) * x - 20) * x + 32 / 3) / 6
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _gaussian(x: Floats) -> Floats:
    """The kernel of radius 1.5, which is three times its deviation."""
    return np.where(np.abs(x) < 1.5, np.exp(-2 * x * x), 0)


def _lanczos(radius: int) -> Callable[[Floats], Floats]:
    def kernel(x: Floats) -> Floats:
        return np.where(np.abs(x) <= radius, np.sinc(x) * np.sinc(x / radius), 0)

    return kernel


_KERNELS: dict[str, tuple[float, Callable[[Floats], Floats]]] = {
    "bilinear": (1, _triangle),
    "bicubic": (2, _cubic),
    "gaussian": (1.5, _gaussian),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
    "mitchellcubic": (2, _mitchell),
}

_CUBIC_STEPS = 1024
