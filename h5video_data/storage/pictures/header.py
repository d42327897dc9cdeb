"""What a picture says of itself, and the error of bytes that are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

MAX_PICTURE_PIXELS = 1 << 27
"""Pictures with more pixels are refused before memory is taken: 134 million, or four frames of 8K.

As RGB, such a picture takes 400 MB in each thread that decodes one.
"""


class PictureError(ValueError):
    """Bytes are not a picture that can be decoded. The message is the codec's own."""


@dataclass(frozen=True)
class PictureHeader:
    """What a picture says of itself.

    Attributes:
        codec: Name of the codec.
        rows: Height, in pixels.
        columns: Width, in pixels.
        channels: Values of a pixel, as stored: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (of
            a JPEG: CMYK). A palette counts as the colors that it stands for.
        dtype: uint8, or uint16 for a PNG of 16 bits.
        details: What the codec has seen on its way, and decodes with.
        begins: Another picture that begins with these bytes has the same header; empty: not known.
    """

    codec: str
    rows: int
    columns: int
    channels: int
    dtype: np.dtype[Any]
    details: tuple[int, ...] = field(default=(), compare=False, repr=False)
    begins: bytes = field(default=b"", compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        return self.rows, self.columns, self.channels
