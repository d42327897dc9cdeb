"""Encoded pictures as rows of one shape: which size, channels and dtype each is delivered as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.scratch import scratch

from .codecs import (
    CHANNELS,
    PictureError,
    PictureHeader,
    as_bytes,
    decode_picture,
    read_header,
    reduction,
)
from .header import Bytes
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
        PictureDecoder(self, out[np.newaxis]).decode(as_bytes(data), 0)

    def check(self, header: PictureHeader) -> None:
        """Raises a PictureError if a picture with this header is not of this form."""
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


class PictureDecoder:
    """Decodes pictures into their places in a batch, one after the other.

    Pictures of one writer mostly begin alike. Each that begins like the one before has its header:
    it is neither read nor checked again, which would hold up the other threads.

    Args:
        form: What they are delivered as.
        out: C-contiguous array (pictures, rows, columns, channels) of the form's dtype.

    Raises:
        ValueError: `out` is another array.
    """

    def __init__(self, form: PictureForm, out: NDArray[Any]) -> None:
        if out.shape[1:] != form.shape or out.dtype != form.dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"`out` must be a C-contiguous {form.dtype} array of shape {form.shape}. Received: "
                f"{out.dtype} {out.shape[1:]} with strides {out.strides[1:]}"
            )
        self._form = form
        self._out = out
        self._header: PictureHeader | None = None  # of pictures of the size that is delivered

    def decode(self, data: Bytes, place: int) -> None:
        """Decodes a picture, and resizes it where it should be.

        Args:
            data: The bytes of a picture; zeros may follow them.
            place: Its place in the batch, which is undefined after an error.

        Raises:
            PictureError: The picture is damaged, cut short, or not of this form.
        """
        header, out = self._header, self._out[place]
        if header is None or data[: len(header.begins)].tobytes() != header.begins:
            header = read_header(data)
            self._form.check(header)
            if header.shape[:2] != out.shape[:2]:
                self._decode_and_resize(data, header, out)
                return
            self._header = header if header.begins else None
        decode_picture(data, header, out, self._form.color_mode)

    def _decode_and_resize(self, data: Bytes, header: PictureHeader, out: NDArray[Any]) -> None:
        form, divisor = self._form, 1
        if form.interpolation == "area":  # means of means are means
            divisor = reduction(header, form.rows, form.columns)
        rows, columns = header.rows // divisor, header.columns // divisor
        if (rows, columns) == (form.rows, form.columns):
            decode_picture(data, header, out, form.color_mode)
            return
        num_bytes = rows * columns * form.channels * form.dtype.itemsize
        picture = scratch("picture", num_bytes).view(form.dtype)
        picture = picture.reshape(rows, columns, form.channels)
        decode_picture(data, header, picture, form.color_mode)
        resize_into(picture, out, form.interpolation)


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
