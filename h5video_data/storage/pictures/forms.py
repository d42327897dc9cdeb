"""Encoded pictures as rows of one shape: which size, channels and dtype each is delivered as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.scratch import scratch

from .codecs import CHANNELS, PictureError, PictureHeader, decode_picture, read_header, reduction
from .resizing import resize_into


@dataclass(frozen=True)
class PictureForm:
    """What every picture of a dataset is delivered as.

    Attributes:
        rows: Height, in pixels.
        columns: Width, in pixels.
        channels: Values of a pixel.
        dtype: uint8 or uint16.
        color_mode: "grayscale", "rgb" or "rgba"; None: the channels as stored.
        resize: Whether pictures of other sizes are resized; without it, they are an error.
        interpolation: How they are resized: see `resizing`.
    """

    rows: int
    columns: int
    channels: int
    dtype: np.dtype[Any]
    color_mode: str | None = None
    resize: bool = False
    interpolation: str = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        return self.rows, self.columns, self.channels

    def decode_into(self, data: Any, out: NDArray[Any]) -> None:
        """Decodes a picture into an array, and resizes it where it should be.

        Args:
            data: The bytes of a picture; zeros may follow them.
            out: C-contiguous array (rows, columns, channels) of `dtype`. Undefined after an error.

        Raises:
            PictureError: The picture is damaged, cut short, or not of this form.
            ValueError: `out` is another array.
        """
        if out.shape != self.shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"`out` must be a C-contiguous {self.dtype} array of shape {self.shape}. Received: "
                f"{out.dtype} {out.shape} with strides {out.strides}"
            )
        header = read_header(data)
        self._check(header)
        if (header.rows, header.columns) == (self.rows, self.columns):
            decode_picture(data, header, out, self.color_mode)
            return
        divisor = 1
        if self.interpolation == "area":  # means of means are means
            divisor = reduction(header, self.rows, self.columns)
        rows, columns = header.rows // divisor, header.columns // divisor
        if (rows, columns) == (self.rows, self.columns):
            decode_picture(data, header, out, self.color_mode)
            return
        num_bytes = rows * columns * self.channels * self.dtype.itemsize
        picture = scratch("picture", num_bytes).view(self.dtype)
        picture = picture.reshape(rows, columns, self.channels)
        decode_picture(data, header, picture, self.color_mode)
        resize_into(picture, out, self.interpolation)

    def _check(self, header: PictureHeader) -> None:
        name = header.codec.upper()
        if header.dtype != self.dtype:
            raise PictureError(
                f"{name} of dtype {header.dtype}, where the others have {self.dtype}: they cannot "
                "be in one batch"
            )
        if self.color_mode is None and header.channels != self.channels:
            raise PictureError(
                f"{name} with {header.channels} channels, where the others have {self.channels}; "
                "`color_mode` ('grayscale', 'rgb' or 'rgba') makes them alike"
            )
        if not self.resize and (header.rows, header.columns) != (self.rows, self.columns):
            raise PictureError(
                f"{name} of {header.rows} x {header.columns} pixels (rows x columns), where the "
                f"others have {self.rows} x {self.columns}; `image_size=({self.rows}, "
                f"{self.columns})` resizes all to one size"
            )


def form_of(
    header: PictureHeader,
    *,
    image_size: tuple[int, int] | None = None,
    interpolation: str = "bilinear",
    color_mode: str | None = None,
) -> PictureForm:
    """Returns what the pictures of a dataset are delivered as.

    Args:
        header: That of its first picture.
        image_size: (rows, columns) that all are resized to; None: the first picture's, which all
            must have.
        interpolation: How they are resized.
        color_mode: "grayscale", "rgb" or "rgba"; None: the channels of the first picture, which all
            must have.
    """
    rows, columns = image_size or (header.rows, header.columns)
    return PictureForm(
        rows=rows,
        columns=columns,
        channels=header.channels if color_mode is None else CHANNELS[color_mode],
        dtype=header.dtype,
        color_mode=color_mode,
        resize=image_size is not None,
        interpolation=interpolation,
    )
