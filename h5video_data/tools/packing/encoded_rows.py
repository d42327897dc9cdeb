"""Frames as rows of encoded bytes: how `pack` and `repack` encode them, and what the rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, PackingError
from h5video_data.storage.pictures.codecs import PICTURE_CODECS, PictureError, encode_picture
from h5video_data.tools.inspecting.text import size_text

CODECS = tuple(PICTURE_CODECS)
ROWS = ("fixed", "variable")
"""The values of `rows`; the first is the default: about a twentieth faster to read."""

DEFAULT_QUALITY = 95
LENGTHS = "_num_bytes"
"""What follows the name of a dataset of fixed rows, in the name of that of their lengths."""

_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
        codec: One of `CODECS`.
        quality: Of a JPEG, 1 to 100.
        rows: One of `ROWS`: strings as long as the longest row, or rows of variable length.
    """

    codec: str
    quality: int
    rows: str

    def encode(self, frame: NDArray[Any]) -> bytes:
        """Encodes a frame: (rows, columns), or with an axis of channels, first or last.

        Raises:
            PackingError: The codec does not encode such a picture.
        """
        axis = channel_axis(frame.shape)
        try:
            picture = frame if axis is None else np.moveaxis(frame, axis, -1)
            return encode_picture(picture, self.codec, self.quality)
        except PictureError as error:
            raise PackingError(f"A frame cannot be encoded: {error}") from error

    def dtype(self, longest: int) -> np.dtype[Any]:
        """Returns the dtype of the rows, the longest of which has so many bytes."""
        if self.rows == "variable":
            variable: np.dtype[Any] = h5py.vlen_dtype(np.uint8)
            return variable
        return np.dtype(f"S{max(1, longest)}")

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Raises an ArgumentError for a dataset whose rows cannot be encoded."""
        received = (
            f"Received: codec={self.codec!r}, and rows of {dtype} of shape {shape} in {name!r}"
        )
        dtypes = ("uint8",) if self.codec == "jpeg" else ("uint8", "uint16")
        if dtype.name not in dtypes:
            raise ArgumentError(
                f'A {self.codec.upper()} holds {" or ".join(dtypes)}; use dtype="uint8", with '
                f"scale=255 for values from 0 to 1. {received}"
            )
        if len(shape) == 4:
            raise ArgumentError(
                "Encoded rows are frames, not clips, which are cut when frames of recordings are "
                f'read. Pack the videos with layout="recordings". {received}'
            )
        if len(shape) == 1:
            raise ArgumentError(
                "Rows must be frames; those that are pictures, padded, are decoded with "
                f'decode="image". {received}'
            )
        try:
            axis = channel_axis(shape)
        except PackingError as error:
            raise ArgumentError(f"{error}. {received}") from error
        if self.codec == "jpeg" and axis is not None and shape[axis] not in _CHANNELS:
            raise ArgumentError(f"A JPEG has 1 or 3 channels. {received}")

    def saved(self, raw_nbytes: int, nbytes: int) -> Saved:
        """Returns what it has saved: bytes of raw frames, and of the encoded ones."""
        return Saved(self.codec, self.quality, raw_nbytes, nbytes)

    @property
    def attributes(self) -> dict[str, Any]:
        """What a file says of it."""
        quality = {"quality": self.quality} if self.codec == "jpeg" else {}
        return {"codec": self.codec, **quality}


def encoded_values(rows: Sequence[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns encoded rows as what h5py writes to a dataset of that dtype."""
    if dtype.kind == "S":
        return np.array(rows, dtype)
    values = np.empty(len(rows), dtype)
    for number, row in enumerate(rows):
        values[number] = np.frombuffer(row, np.uint8)
    return values


class EncodedFrames(list[bytes]):
    """Frames that were encoded together."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(map(len, self))


class EncodedChunks(list[tuple[Any, int]]):
    """Chunks of a row each, encoded: the bytes and the filter mask of each."""


@dataclass(frozen=True)
class Saved:
    """What encoding has saved.

    Attributes:
        codec: "jpeg" or "png".
        quality: Of a JPEG.
        raw_nbytes: Bytes of the frames, not encoded.
        nbytes: Bytes of their rows in the file.
    """

    codec: str
    quality: int
    raw_nbytes: int
    nbytes: int

    def __str__(self) -> str:
        kind = f"JPEG of quality {self.quality}, with some loss"
        kind = kind if self.codec == "jpeg" else f"{self.codec.upper()}, without loss"
        ratio = self.raw_nbytes / max(1, self.nbytes)
        return (
            f"{size_text(self.nbytes)} as {kind}, where raw frames have "
            f"{size_text(self.raw_nbytes)} ({ratio:.1f} times that)"
        )


def sum_of(parts: Sequence[Saved]) -> Saved | None:
    """Returns what was saved in several files; None: nothing was encoded."""
    if not parts:
        return None
    sums = sum(part.raw_nbytes for part in parts), sum(part.nbytes for part in parts)
    return Saved(parts[0].codec, parts[0].quality, *sums)


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Returns the axis of a frame's channels; None: it has none.

    Raises:
        PackingError: It is no frame, or may be read in two ways.
    """
    if len(shape) == 2:
        return None
    axes = [axis for axis in (0, 2) if len(shape) == 3 and shape[axis] in _CHANNELS]
    if not axes and len(shape) == 3 and shape[2] in (2, 4):
        axes = [2]
    if len(axes) != 1:
        raise PackingError(
            "A frame must be (rows, columns), or have an axis of 1 or 3 channels, first or last; "
            f"{shape} is not, or could be either"
        )
    return axes[0]
