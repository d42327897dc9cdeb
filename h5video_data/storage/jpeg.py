"""JPEG: its segments and compressed data checked, and decoded. ITU-T T.81, annex B.

It is decoded by imagecodecs' libjpeg-turbo, straight into the caller's array and outside the
interpreter's lock: two threads decode twice as fast as one. OpenCV, Pillow, simplejpeg and
TensorFlow use the same library. The values are those of libjpeg's defaults, the accurate inverse
transform and smooth chroma upsampling, as Pillow and OpenCV give them, and as `tf.io.decode_jpeg`
does with `dct_method="INTEGER_ACCURATE"`; its default is a faster transform, off by a few values.
The orientation that Exif metadata may state is not applied, as in Keras.

For data that end early, libjpeg fills the rest with grey, so the whole picture is checked before
the library sees it. Values that were overwritten inside the compressed data are noticed only where
they look like a marker: the format has no checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from imagecodecs import jpeg8_decode, jpeg8_encode
from numpy.typing import NDArray

from .picture_colors import convert, scratch_picture, squeezed
from .picture_header import MAX_PICTURE_PIXELS, Bytes, PictureError, PictureHeader

JPEG_BEGINS = b"\xff\xd8\xff"
"""How the bytes of a JPEG begin."""

# Huffman codes take at least a bit for each block of 64 values.
_MAX_PIXELS_PER_BYTE = 8 * 64
# Each scan takes time by the size of the picture, however few its bytes. Encoders write about ten.
_MAX_SCANS = 500
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_RESTARTS = range(0xD0, 0xD8)
_ALONE = (0x01, *_RESTARTS)  # markers without a length
_SEGMENT = struct.Struct(">H")
_FRAME = struct.Struct(">BHHB")


def _segments(data: Bytes, offset: int = 2) -> Iterator[tuple[int, int, int]]:
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


def read_header(data: Bytes) -> PictureHeader:
    """Returns what a JPEG says of itself: see `PictureCodec.read_header`."""
    for marker, start, stop in _segments(data):
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
            and MAX_PICTURE_PIXELS >= rows * columns > len(data) * _MAX_PIXELS_PER_BYTE
        ):
            raise PictureError(
                f"JPEG: cut short: {rows} x {columns} pixels need more than {len(data)} bytes"
            )
        return PictureHeader("jpeg", rows, columns, channels, np.dtype(np.uint8))
    raise PictureError("JPEG: damaged: no frame header before the first scan")


def _check(data: Bytes) -> bool:
    """Raises an error for a JPEG that does not end; returns whether Adobe's marker is in it."""
    # Markers of the compressed data; a 0xFF among the values is followed by a zero.
    ff = np.flatnonzero(data[:-1] == 0xFF)
    following = data[ff + 1]
    is_marker = (following != 0) & (following != 0xFF)
    places, markers = ff[is_marker], following[is_marker]
    is_adobe, num_scans, offset = False, 0, 2
    while True:
        for marker, start, stop in _segments(data, offset):
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
        if num_scans > _MAX_SCANS:
            raise PictureError(f"JPEG: more than {_MAX_SCANS} scans are refused")
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


def decode(data: Bytes, header: PictureHeader, out: NDArray[Any], color_mode: str | None) -> None:
    """Decodes a JPEG: see `PictureCodec.decode`."""
    is_adobe = _check(data)
    if header.channels != 4 or color_mode is None:
        # libjpeg converts; its grey is the luma that the file holds.
        space = {None: None, "grayscale": "GRAYSCALE", "rgb": "RGB", "rgba": "RGBA"}[color_mode]
        jpeg8_decode(data, outcolorspace=space, out=squeezed(out))
        return
    inks = scratch_picture("cmyk", header.shape, header.dtype)
    jpeg8_decode(data, out=inks)
    if not is_adobe:  # Adobe stores 255 - ink
        np.subtract(255, inks, out=inks)
    product = inks[..., :3].astype(np.uint16) * inks[..., 3:]
    convert((product // 255).astype(np.uint8), out)


def encode(array: NDArray[Any], quality: int) -> bytes:
    """Encodes a JPEG: see `PictureCodec.encode`."""
    return bytes(jpeg8_encode(array, level=quality))
