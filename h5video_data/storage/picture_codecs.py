"""Encoded pictures, JPEG and PNG: what their headers say, and their bytes into arrays and back.

To add a codec, add one record to `PICTURE_CODECS`.

JPEG is decoded by imagecodecs' libjpeg-turbo, straight into the caller's array and outside the
interpreter's lock: two threads decode twice as fast as one. OpenCV, Pillow, simplejpeg and
TensorFlow use the same library. The values are those of libjpeg's defaults, the accurate inverse
transform and smooth chroma upsampling, as Pillow and OpenCV give them, and as `tf.io.decode_jpeg`
does with `dct_method="INTEGER_ACCURATE"`; its default is a faster transform, off by a few values.
The orientation that Exif metadata may state is not applied, as in Keras.

Libraries forgive too much: for data that end early, libjpeg fills the rest with grey, and libpng
may leave checksums unread. So the segments of a picture are checked before a library sees them.
Values that were overwritten inside the compressed data of a JPEG are noticed only where they look
like a marker: the format has no checksum.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from imagecodecs import jpeg8_decode, jpeg8_encode, png_decode, png_encode
from numpy.typing import NDArray

from .scratch import scratch

Bytes = NDArray[np.uint8]

MAX_PICTURE_PIXELS = 1 << 27
"""Pictures with more pixels are refused before memory is taken: 134 million, or four frames of 8K.

As RGB, such a picture takes 400 MB in each thread that decodes one.
"""

CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
"""The channels of each color mode."""

# Weights of red, green and blue in grey, of 2**15: those of libpng, and so of `tf.io.decode_png`.
_GREY_WEIGHTS = (9797, 19234, 3737)
# Deflate makes at most so many bytes of one.
_MAX_DEFLATE_RATIO = 1032
# Huffman codes take at least a bit for each block of 64 values.
_MAX_JPEG_PIXELS_PER_BYTE = 8 * 64


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
    """

    codec: str
    rows: int
    columns: int
    channels: int
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        return self.rows, self.columns, self.channels


@dataclass(frozen=True)
class PictureCodec:
    """One way to encode a picture.

    Attributes:
        name: Its name; for `encode_picture`, the `codec` argument.
        begins: How the bytes begin.
        read_header: Returns the header of a picture, by its first segments.
        decode: Decodes the bytes of a picture with the given header into an array, C-contiguous, of
            shape (rows, columns, channels), in the given color mode.
        encode: Encodes an array (rows, columns, channels), with a quality.
    """

    name: str
    begins: bytes
    read_header: Callable[[Bytes], PictureHeader]
    decode: Callable[[Bytes, PictureHeader, NDArray[Any], str | None], None]
    encode: Callable[[NDArray[Any], int], bytes]


def as_bytes(data: Any) -> Bytes:
    """Returns a view of bytes, a memoryview or an array, as uint8 (num_bytes,)."""
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
    codec = picture_codec_of(data)
    if codec is None:
        if not data.any():
            raise PictureError(f"not a picture, but {len(data)} bytes, none of them other than 0")
        raise PictureError(f"neither a JPEG nor a PNG: begins with {bytes(data[:8])!r}")
    header = codec.read_header(data)
    name, rows, columns = codec.name.upper(), header.rows, header.columns
    if not rows or not columns:
        raise PictureError(f"{name} of {rows} x {columns} pixels (rows x columns)")
    if rows * columns > MAX_PICTURE_PIXELS:
        raise PictureError(
            f"{name} claims {rows} x {columns} pixels (rows x columns); more than "
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
        out: C-contiguous array (rows, columns, channels), of the header's dtype. Undefined after
            an error.
        color_mode: "grayscale", "rgb", "rgba", or None for the channels as stored.

    Raises:
        PictureError: The picture is damaged or cut short.
    """
    name = header.codec.upper()
    try:
        PICTURE_CODECS[header.codec].decode(as_bytes(data), header, out, color_mode)
    except PictureError:
        raise
    except (RuntimeError, ValueError, EOFError) as error:  # the errors of imagecodecs
        raise PictureError(f"{name}: {error}") from error


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


# Colors.


def _convert(picture: NDArray[Any], out: NDArray[Any]) -> None:
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


def _scratch_picture(purpose: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    return scratch(purpose, num_bytes).view(dtype).reshape(shape)


def _squeezed(array: NDArray[Any]) -> NDArray[Any]:
    """Returns an array as imagecodecs takes it: without the axis of a single channel."""
    return array[..., 0] if array.shape[-1] == 1 else array


# JPEG: ITU-T T.81, annex B.

_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_RESTARTS = range(0xD0, 0xD8)
_ALONE = (0x01, *_RESTARTS)  # markers without a length
_SEGMENT = struct.Struct(">H")
_FRAME = struct.Struct(">BHHB")


def _jpeg_segments(data: Bytes, offset: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and stop of each segment, up to the first scan or the end of image."""
    view = data.data
    size = len(view)
    while True:
        if offset < size and view[offset] != 0xFF:
            raise PictureError(f"JPEG: damaged: no marker where one should be, at byte {offset}")
        while offset < size and view[offset] == 0xFF:  # fill bytes
            offset += 1
        if offset + 2 >= size and not (offset < size and view[offset] == _END_OF_IMAGE):
            raise PictureError(f"JPEG: cut short: {size} bytes, and no end-of-image marker")
        marker = view[offset]
        offset += 1
        if marker in _ALONE:
            continue
        if marker == _END_OF_IMAGE:
            yield marker, offset, offset
            return
        length = _SEGMENT.unpack_from(view, offset)[0]
        if length < 2 or marker in (0, 0xD8):
            raise PictureError(f"JPEG: damaged: invalid marker at byte {offset - 1}")
        if offset + length > size:
            raise PictureError(f"JPEG: cut short: {size} bytes, and no end-of-image marker")
        yield marker, offset + 2, offset + length
        offset += length
        if marker == _START_OF_SCAN:
            return


def _jpeg_header(data: Bytes) -> PictureHeader:
    for marker, start, stop in _jpeg_segments(data):
        if marker not in _START_OF_FRAME:
            continue
        if marker not in _DECODED_FRAMES or stop - start < _FRAME.size:
            raise PictureError(f"JPEG: this kind is not decoded: frame type {marker - 0xC0}")
        bits, rows, columns, channels = _FRAME.unpack_from(data.data, start)
        if bits != 8 or channels not in (1, 3, 4):
            raise PictureError(
                f"JPEG: this kind is not decoded: {channels} channels of {bits} bits"
            )
        if (
            marker in _HUFFMAN_FRAMES
            and MAX_PICTURE_PIXELS >= rows * columns > len(data) * _MAX_JPEG_PIXELS_PER_BYTE
        ):
            raise PictureError(
                f"JPEG: cut short: {rows} x {columns} pixels need more than {len(data)} bytes"
            )
        return PictureHeader("jpeg", rows, columns, channels, np.dtype(np.uint8))
    raise PictureError("JPEG: damaged: no frame header before the first scan")


def _check_jpeg(data: Bytes) -> bool:
    """Raises an error for a JPEG that does not end; returns whether Adobe's marker is in it."""
    # Markers of the compressed data; a 0xFF among the values is followed by a zero.
    ff = np.flatnonzero(data[:-1] == 0xFF)
    following = data[ff + 1]
    is_marker = (following != 0) & (following != 0xFF)
    places, markers = ff[is_marker], following[is_marker]
    is_adobe, num_scans, offset = False, 0, 2
    while True:
        for marker, start, stop in _jpeg_segments(data, offset):
            offset = stop
            if marker == 0xEE and bytes(data[start : start + 5]) == b"Adobe":
                is_adobe = True
            if marker in _START_OF_FRAME and num_scans:
                raise PictureError(f"JPEG: damaged: a second frame at byte {start}")
        if marker == _END_OF_IMAGE:
            if not num_scans:
                raise PictureError("JPEG: damaged: no scan before the end of the image")
            return is_adobe
        num_scans += 1
        first = int(np.searchsorted(places, offset))
        in_scan = markers[first:]
        others = np.flatnonzero((in_scan < _RESTARTS.start) | (in_scan >= _RESTARTS.stop))
        if not len(others):
            raise PictureError(f"JPEG: cut short: {len(data)} bytes, and no end-of-image marker")
        num_restarts = int(others[0])
        restarts = in_scan[:num_restarts] - _RESTARTS.start
        if num_restarts and (restarts != np.arange(num_restarts) % 8).any():
            raise PictureError(f"JPEG: damaged: restart markers out of order, from byte {offset}")
        offset = int(places[first + num_restarts])


def _decode_jpeg(
    data: Bytes, header: PictureHeader, out: NDArray[Any], color_mode: str | None
) -> None:
    is_adobe = _check_jpeg(data)
    if header.channels != 4 or color_mode is None:
        # libjpeg converts; its grey is the luma that the file holds.
        space = {None: None, "grayscale": "GRAYSCALE", "rgb": "RGB", "rgba": "RGBA"}[color_mode]
        jpeg8_decode(data, outcolorspace=space, out=_squeezed(out))
        return
    inks = _scratch_picture("cmyk", header.shape, header.dtype)
    jpeg8_decode(data, out=inks)
    if not is_adobe:  # Adobe stores 255 - ink
        np.subtract(255, inks, out=inks)
    product = inks[..., :3].astype(np.uint16) * inks[..., 3:]
    _convert((product // 255).astype(np.uint8), out)


def _encode_jpeg(array: NDArray[Any], quality: int) -> bytes:
    return bytes(jpeg8_encode(array, level=quality))


# PNG: the W3C's specification, sections 5 and 11.

_PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_IMAGE_HEADER = struct.Struct(">IIBBBBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# The chunks that values depend on. The others, such as color profiles, may be damaged, and libpng
# would print warnings about them.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def _png_chunks(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, start and stop of the contents of each chunk, up to the end of the picture."""
    view = data.data
    offset = len(_PNG_BEGINS)
    name = b""
    while name != b"IEND":
        if offset + _CHUNK.size > len(view):
            raise PictureError(f"PNG: cut short: {len(view)} bytes, and no IEND chunk")
        length, name = _CHUNK.unpack_from(view, offset)
        start = offset + _CHUNK.size
        offset = start + length + _CRC.size
        if not name.isalpha():
            raise PictureError(f"PNG: cut short or damaged: no chunk at byte {start - _CHUNK.size}")
        if offset > len(view):
            raise PictureError(f"PNG: cut short: {len(view)} bytes, and no IEND chunk")
        if name in _PNG_CHUNKS:
            crc = _CRC.unpack_from(view, start + length)[0]
            if crc != zlib.crc32(view[start - 4 : start + length]):
                raise PictureError(
                    f"PNG: damaged: wrong checksum of the {name.decode()} chunk at byte "
                    f"{start - _CHUNK.size}"
                )
        yield name, start, start + length


def _png_header(data: Bytes) -> PictureHeader:
    fields: tuple[int, ...] = ()
    has_alpha = False
    for name, start, stop in _png_chunks(data):
        if not fields:
            if name != b"IHDR" or stop - start != _IMAGE_HEADER.size:
                raise PictureError("PNG: damaged: does not begin with an IHDR chunk")
            fields = _IMAGE_HEADER.unpack_from(data.data, start)
            # Before the next chunk: a picture that is too large is refused for its size.
            if fields[0] * fields[1] > MAX_PICTURE_PIXELS:
                break
        has_alpha |= name == b"tRNS"
        if name in (b"IDAT", b"IEND"):
            break
    columns, rows, bits, kind = fields[:4]
    if bits not in _PNG_BITS.get(kind, ()):
        raise PictureError(f"PNG: damaged: color type {kind} with {bits} bits")
    channels = _PNG_CHANNELS[kind]
    stored_bits = rows * columns * bits * (1 if kind == 3 else channels)
    if rows * columns <= MAX_PICTURE_PIXELS and stored_bits > len(data) * 8 * _MAX_DEFLATE_RATIO:
        raise PictureError(
            f"PNG: cut short: {rows} x {columns} pixels need more than {len(data)} bytes"
        )
    if has_alpha and kind in (0, 2, 3):
        channels += 1
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    return PictureHeader("png", rows, columns, channels, dtype)


def _decode_png(
    data: Bytes, header: PictureHeader, out: NDArray[Any], color_mode: str | None
) -> None:
    del color_mode  # `out` has its channels
    pieces = [_PNG_BEGINS]
    for name, start, stop in _png_chunks(data):
        if name in _PNG_CHUNKS:
            pieces.append(data[start - _CHUNK.size : stop + _CRC.size].tobytes())
    picture = out
    if out.shape[2] != header.channels:
        picture = _scratch_picture("png", header.shape, header.dtype)
    png_decode(b"".join(pieces), out=_squeezed(picture))
    if picture is not out:
        _convert(picture, out)


def _encode_png(array: NDArray[Any], quality: int) -> bytes:
    del quality  # nothing is lost
    return bytes(png_encode(array))


PICTURE_CODECS = {
    codec.name: codec
    for codec in (
        PictureCodec("jpeg", b"\xff\xd8\xff", _jpeg_header, _decode_jpeg, _encode_jpeg),
        PictureCodec("png", _PNG_BEGINS, _png_header, _decode_png, _encode_png),
    )
}
"""By name."""
