"""The channels of pictures: color modes, and the conversion from one to another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.scratch import scratch

CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
"""The channels of each color mode."""

# Weights of red, green and blue in grey, of 2**15: those of libpng, and so of `tf.io.decode_png`.
_GREY_WEIGHTS = (9797, 19234, 3737)


def convert(picture: NDArray[Any], out: NDArray[Any]) -> None:
    """Writes a picture with other channels, as `tf.io.decode_png` converts them."""
    stored, wanted = picture.shape[2], out.shape[2]
    if wanted == 1:
        _grey(picture, out[..., 0])
        return
    out[..., :3] = picture[..., :3] if stored >= 3 else picture[..., :1]
    if wanted == 4:
        has_alpha = stored in (2, 4)
        out[..., 3] = picture[..., -1] if has_alpha else np.iinfo(out.dtype).max


def _grey(picture: NDArray[Any], out: NDArray[Any]) -> None:
    if picture.shape[2] < 3:
        out[...] = picture[..., 0]
        return
    total = np.zeros(out.shape, np.uint32)
    for channel, weight in enumerate(_GREY_WEIGHTS):
        total += picture[..., channel].astype(np.uint32) * np.uint32(weight)
    # libpng rounds 16 bits, and cuts 8.
    out[...] = (total + np.uint32(1 << 14 if out.itemsize == 2 else 0)) >> 15


def scratch_picture(purpose: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns a picture in working memory of the calling thread: see `scratch`."""
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    return scratch(purpose, num_bytes).view(dtype).reshape(shape)


def squeezed(array: NDArray[Any]) -> NDArray[Any]:
    """Returns an array as imagecodecs takes it: without the axis of a single channel."""
    return array[..., 0] if array.shape[-1] == 1 else array
