"""Encoded pictures, JPEG and PNG: what their headers say, and their bytes into arrays and back.

To add a codec, add one record to `PICTURE_CODECS`.

Libraries forgive too much: for data that end early, libjpeg fills the rest with grey, and libpng
may leave checksums unread. So the segments of a picture are checked before a library sees them:
see `jpeg` and `png`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import jpeg, png
from .colors import CHANNELS
from .header import MAX_PICTURE_PIXELS, Bytes, PictureError, PictureHeader

__all__ = [
    "CHANNELS",
    "MAX_PICTURE_PIXELS",
    "PICTURE_CODECS",
    "PictureCodec",
    "PictureError",
    "PictureHeader",
    "as_bytes",
    "decode_picture",
    "encode_picture",
    "picture_codec_of",
    "read_header",
    "reduction",
]


@dataclass(frozen=True)
class PictureCodec:
    """One way to encode a picture.

    Attributes:
        name: Its name; for `encode_picture`, the `codec` argument.
        begins: How the bytes begin.
        read_header: Returns the header of a picture, by its first segments.
        decode: Decodes the bytes of a picture with the given header into an array, C-contiguous, of
            shape (rows, columns, channels), in the given color mode. Rows and columns are the
            header's, or those divided by a reduction.
        encode: Encodes an array (rows, columns, channels), with a quality.
        reductions: What the size of a picture may be divided by as it is decoded, in descending
            order: the values are means then, within rounding.
    """

    name: str
    begins: bytes
    read_header: Callable[[Bytes], PictureHeader]
    decode: Callable[[Bytes, PictureHeader, NDArray[Any], str | None], None]
    encode: Callable[[NDArray[Any], int], bytes]
    reductions: tuple[int, ...] = ()


def as_bytes(data: Any) -> Bytes:
    """Returns a view of bytes, a memoryview or an array, as uint8 (num_bytes,)."""
    if type(data) is np.ndarray and data.dtype == np.uint8:
        return data
    return np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)


def picture_codec_of(data: Any) -> PictureCodec | None:
    """Returns the codec of a picture by its first bytes; None: no picture."""
    try:
        first = bytes(as_bytes(data)[:8])
    except (BufferError, TypeError, ValueError):
        return None
    return next((c for c in PICTURE_CODECS.values() if first.startswith(c.begins)), None)


def read_header(data: Any) -> PictureHeader:
    """Returns what a picture says of itself, without decoding it.

    Args:
        data: The bytes of a picture; zeros may follow them.

    Raises:
        PictureError: Not a picture, or one that is cut short in its header, that has more than
            `MAX_PICTURE_PIXELS`, or that is of a kind that is not decoded.
    """
    data = as_bytes(data)
    first = data[:8].tobytes()
    codec = next((c for c in PICTURE_CODECS.values() if first.startswith(c.begins)), None)
    if codec is None:
        if not data.any():
            raise PictureError(f"not a picture, but {len(data)} bytes, none of them other than 0")
        raise PictureError(f"neither a JPEG nor a PNG: begins with {first!r}")
    header = codec.read_header(data)
    rows, columns = header.rows, header.columns
    if not rows or not columns:
        raise PictureError(f"{codec.name.upper()} of {rows} x {columns} pixels (rows x columns)")
    if rows * columns > MAX_PICTURE_PIXELS:
        raise PictureError(
            f"{codec.name.upper()} claims {rows} x {columns} pixels (rows x columns); more than "
            f"{MAX_PICTURE_PIXELS} are refused"
        )
    return header


def decode_picture(
    data: Any, header: PictureHeader, out: NDArray[Any], color_mode: str | None = None
) -> None:
    """Decodes a picture into an array.

    Args:
        data: The bytes of the picture; zeros may follow them.
        header: What `read_header` returns for them.
        out: C-contiguous array (rows, columns, channels), of the header's dtype. Rows and columns
            may be divided by a `reduction`. Undefined after an error.
        color_mode: "grayscale", "rgb", "rgba", or None for the channels as stored.

    Raises:
        PictureError: The picture is damaged or cut short.
    """
    try:
        PICTURE_CODECS[header.codec].decode(as_bytes(data), header, out, color_mode)
    except PictureError:
        raise
    except (RuntimeError, ValueError, EOFError) as error:  # the errors of the libraries
        raise PictureError(f"{header.codec.upper()}: {error}") from error


def reduction(header: PictureHeader, rows: int, columns: int) -> int:
    """Returns what the size of a picture can be divided by while decoding it; 1 if by nothing.

    Args:
        header: That of the picture.
        rows: Height that must be left, in pixels.
        columns: Width that must be left, in pixels.
    """
    for divisor in PICTURE_CODECS[header.codec].reductions:
        is_whole = header.rows % divisor == header.columns % divisor == 0
        if is_whole and header.rows >= rows * divisor and header.columns >= columns * divisor:
            return divisor
    return 1


def encode_picture(array: NDArray[Any], codec: str = "jpeg", quality: int = 95) -> bytes:
    """Encodes a picture.

    Args:
        array: uint8, of shape (rows, columns) or (rows, columns, channels): 1 or 3 channels for
            "jpeg"; 1 to 4, and also uint16, for "png".
        codec: Name of the codec.
        quality: Of a JPEG, 1 to 100. Its chroma is stored at half the resolution, as is usual.

    Raises:
        PictureError: The codec does not encode such an array.
    """
    array = np.ascontiguousarray(array)
    name = codec.upper()
    channels = {"jpeg": (1, 3), "png": (1, 2, 3, 4)}[codec]
    dtypes = ("uint8",) if codec == "jpeg" else ("uint8", "uint16")
    rank_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in channels)
    if not rank_fits or array.dtype.name not in dtypes or not array.size:
        raise PictureError(
            f"a {name} holds {' or '.join(dtypes)} (rows, columns, channels), with one of "
            f"{channels} channels. Received: {array.dtype.name} {array.shape}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    try:
        return PICTURE_CODECS[codec].encode(array, quality)
    except (RuntimeError, ValueError) as error:
        raise PictureError(f"{name}: {error}") from error


PICTURE_CODECS = {
    codec.name: codec
    for codec in (
        PictureCodec(
            "jpeg",
            jpeg.JPEG_BEGINS,
            jpeg.read_header,
            jpeg.decode,
            jpeg.encode,
            jpeg.REDUCTIONS,
        ),
        PictureCodec("png", png.PNG_BEGINS, png.read_header, png.decode, png.encode),
    )
}
"""By name."""
