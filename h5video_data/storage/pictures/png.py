"""PNG: its chunks checked, and decoded. The W3C's specification, sections 5 and 11."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from imagecodecs import png_decode, png_encode, spng_decode
from numpy.typing import NDArray

from .colors import convert, scratch_picture, squeezed
from .header import MAX_PICTURE_PIXELS, Bytes, PictureError, PictureHeader

PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
"""How the bytes of a PNG begin."""

# Deflate makes at most so many bytes of one.
_MAX_DEFLATE_RATIO = 1032
_CHUNK = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_IMAGE_HEADER = struct.Struct(">IIBBBBB")
_INTERLACED = 28  # where in the file: IHDR is the first chunk
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# The chunks that values depend on. The others, such as color profiles, may be damaged, and libpng
# would warn about them.
_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def _chunks(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, start and stop of the contents of each chunk, up to the end of the picture."""
    view = data.data
    offset = len(PNG_BEGINS)
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
        if name in _CHUNKS:
            crc = _CRC.unpack_from(view, start + length)[0]
            if crc != zlib.crc32(view[start - 4 : start + length]):
                raise PictureError(
                    f"PNG: damaged: wrong checksum of the {name.decode()} chunk at byte "
                    f"{start - _CHUNK.size}"
                )
        yield name, start, start + length


def read_header(data: Bytes) -> PictureHeader:
    """Returns what a PNG says of itself: see `PictureCodec.read_header`."""
    fields: tuple[int, ...] = ()
    has_alpha = False
    for name, start, stop in _chunks(data):
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
    columns, rows, bits, kind, compression, filtering, interlaced = fields
    if bits not in _BITS.get(kind, ()):
        raise PictureError(f"PNG: damaged: color type {kind} with {bits} bits")
    if compression or filtering or interlaced > 1:
        raise PictureError("PNG: damaged: unknown compression, filter or interlace method")
    channels = _CHANNELS[kind]
    stored_bits = rows * columns * bits * (1 if kind == 3 else channels)
    if rows * columns <= MAX_PICTURE_PIXELS and stored_bits > len(data) * 8 * _MAX_DEFLATE_RATIO:
        raise PictureError(
            f"PNG: cut short: {rows} x {columns} pixels need more than {len(data)} bytes"
        )
    if has_alpha and kind in (0, 2, 3):
        channels += 1
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    return PictureHeader("png", rows, columns, channels, dtype)


def decode(data: Bytes, header: PictureHeader, out: NDArray[Any], color_mode: str | None) -> None:
    """Decodes a PNG: see `PictureCodec.decode`."""
    del color_mode  # `out` has its channels
    pieces = [PNG_BEGINS]
    has_alpha = False
    for name, start, stop in _chunks(data):
        has_alpha |= name == b"tRNS"
        if name in _CHUNKS:
            pieces.append(data[start - _CHUNK.size : stop + _CRC.size].tobytes())
    picture = out
    if out.shape[2] != header.channels:
        picture = scratch_picture("png", header.shape, header.dtype)
    # libpng decodes all kinds, but warns of each interlaced one; spng decodes most of those.
    by_spng = data[_INTERLACED] and header.dtype == np.uint8 and header.channels != 2
    decoder = spng_decode if by_spng and not has_alpha else png_decode
    decoder(b"".join(pieces), out=squeezed(picture))
    if picture is not out:
        convert(picture, out)


def encode(array: NDArray[Any], quality: int) -> bytes:
    """Encodes a PNG: see `PictureCodec.encode`."""
    del quality  # nothing is lost
    return bytes(png_encode(array))
