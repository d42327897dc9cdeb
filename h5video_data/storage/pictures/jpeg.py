"""JPEG: its segments and compressed data checked, and decoded. ITU-T T.81, annex B.

It is decoded by simplejpeg's libjpeg-turbo, straight into the caller's array and outside the
interpreter's lock: two threads decode twice as fast as one. OpenCV, Pillow, imagecodecs and
TensorFlow use the same library. The values are those of libjpeg's defaults, the accurate inverse
transform and smooth chroma upsampling, as Pillow and OpenCV give them, and as `tf.io.decode_jpeg`
does with `dct_method="INTEGER_ACCURATE"`; its default is a faster transform, off by a few values.
The orientation that Exif metadata may state is not applied, as in Keras.

For data that end early or make no sense, libjpeg fills the rest with grey and gives a warning: an
error here. The format has no checksum: bytes that were overwritten inside the compressed data, and
are codes of as many values, are not noticed. Some warnings are not of damage. Those pictures, and
kinds that simplejpeg does not decode, are checked as far as can be without decoding them, and
decoded by imagecodecs, which passes no warnings on.
"""

from __future__ import annotations

import bisect
import functools
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from imagecodecs import jpeg8_decode, jpeg8_encode
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from .colors import convert, scratch_picture, squeezed
from .header import MAX_PICTURE_PIXELS, Bytes, PictureError, PictureHeader
from .resizing import resize_into

JPEG_BEGINS = b"\xff\xd8\xff"
"""How the bytes of a JPEG begin."""

REDUCTIONS = (8, 4, 2)
"""Divisors of the size with which the inverse transform gives fewer values in the first place."""

# Huffman codes take at least a bit for each block of 64 values.
_MAX_PIXELS_PER_BYTE = 8 * 64
# Each scan takes time by the size of the picture, however few its bytes. Encoders write about ten.
_MAX_SCANS = 500
# First segments of more bytes, with a thumbnail for example, are not remembered.
_MAX_REMEMBERED = 4096

_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_SEQUENTIAL_FRAMES = (0xC0, 0xC1)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_RESTARTS = bytes(range(0xD0, 0xD8))
_ALONE = (0x01, *_RESTARTS)  # markers without a length
_SCAN_MARKER = bytes((0xFF, _START_OF_SCAN))
_EMPTY_SCAN = _SCAN_MARKER + b"\0\2"
_SEGMENT = struct.Struct(">H")
_UINT8 = np.dtype(np.uint8)
_FRAME = struct.Struct(">BHHB")

# libjpeg's names of colors, which convert as `color_mode` says, or leave as many channels.
_SPACES: dict[str | int, str] = {
    "grayscale": "GRAY",
    "rgb": "RGB",
    "rgba": "RGBA",
    1: "GRAY",
    3: "RGB",
}
# Warnings of libjpeg, which differ from its errors in that it goes on.
_DAMAGE = re.compile(r"premature end|bad Huffman code|instead of RST", re.IGNORECASE)
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")


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


@functools.lru_cache(maxsize=16)
def _parse(data: bytes) -> tuple[PictureHeader, bool]:
    """Returns the header, and whether the values are Huffman codes.

    The header's details are the offset of the first scan's marker, whether there is Adobe's marker,
    so that inks are stored as 255 - ink, and whether the frame is sequential, so that its scans are
    few. `data` may end with the header of that scan.
    """
    view = np.frombuffer(data, np.uint8)
    header, is_adobe, is_huffman, is_sequential = None, False, False, False
    for marker, start, stop in _segments(view):
        is_adobe |= marker == 0xEE and data[start : start + 5] == b"Adobe"
        if marker == _START_OF_SCAN and header is not None:
            details, begins = (start - 4, is_adobe, is_sequential), data[: start - 2]
            return replace(header, details=details, begins=begins), is_huffman
        if marker in _START_OF_FRAME:  # libjpeg refuses a second one
            header = _read_frame(view[start:stop], marker)
            is_huffman = marker in _HUFFMAN_FRAMES
            is_sequential = marker in _SEQUENTIAL_FRAMES
    if header is None:
        raise PictureError("JPEG: damaged: no frame header before the first scan")
    raise PictureError("JPEG: damaged: no scan before the end of the image")


def _read_frame(segment: Bytes, marker: int) -> PictureHeader:
    if marker not in _DECODED_FRAMES or len(segment) < _FRAME.size:
        raise PictureError(f"JPEG: this kind is not decoded: frame type {marker - 0xC0}")
    bits, rows, columns, channels = _FRAME.unpack_from(segment.data)
    if bits != 8 or channels not in (1, 3, 4):
        raise PictureError(f"JPEG: this kind is not decoded: {channels} channels of {bits} bits")
    return PictureHeader("jpeg", rows, columns, channels, _UINT8)


def _parse_first(data: Bytes) -> tuple[PictureHeader, bool]:
    """Returns `_parse` of a picture. Those of one writer mostly begin alike: it is done once."""
    begin = data[:_MAX_REMEMBERED].tobytes()
    scan = begin.find(_SCAN_MARKER)
    if scan > 0:
        try:  # an empty scan header ends them
            return _parse(begin[:scan] + _EMPTY_SCAN)
        except PictureError:  # or those bytes are inside of a segment, such as a thumbnail
            pass
    return _parse.__wrapped__(data.tobytes())


def read_header(data: Bytes) -> PictureHeader:
    """Returns what a JPEG says of itself: see `PictureCodec.read_header`."""
    header, is_huffman = _parse_first(data)
    pixels = header.rows * header.columns
    if MAX_PICTURE_PIXELS >= pixels > len(data) * _MAX_PIXELS_PER_BYTE and is_huffman:
        raise PictureError(
            f"JPEG: cut short: {header.rows} x {header.columns} pixels need more than "
            f"{len(data)} bytes"
        )
    return header


def _check(data: Bytes, offset: int) -> None:
    """Raises an error for a JPEG that does not end; `offset` is that of its first scan."""
    offset = next(_segments(data, offset))[2]  # the header of the scan
    coded = data[offset:]
    # A 0xFF among the values is followed by a zero; others begin a marker.
    is_marker = (coded[:-1] == 0xFF) & (coded[1:] != 0)
    if len(is_marker):
        first = int(is_marker.argmax())
        if coded[first] == 0xFF and coded[first + 1] == _END_OF_IMAGE:
            return
    places = np.flatnonzero(is_marker)
    following = coded[places + 1]
    is_marker = following != 0xFF  # fill bytes
    _check_scans(
        data, offset, (places[is_marker] + offset).tolist(), following[is_marker].tobytes()
    )


def _check_scans(data: Bytes, offset: int, places: list[int], markers: bytes) -> None:
    """Goes through the scans of a JPEG.

    Args:
        data: The JPEG.
        offset: Where the compressed data of the first scan begin.
        places: Where there are markers from there on, in the data of scans or in other segments.
        markers: What is at those places.
    """
    for _ in range(_MAX_SCANS):
        first = bisect.bisect_left(places, offset)
        in_scan = markers[first:]
        after = in_scan.lstrip(_RESTARTS)
        num_restarts = len(in_scan) - len(after)
        if not after:
            raise PictureError(f"JPEG: cut short: {len(data)} bytes, and no end-of-image marker")
        if in_scan[:num_restarts] != (_RESTARTS * (num_restarts // 8 + 1))[:num_restarts]:
            raise PictureError(f"JPEG: damaged: restart markers out of order, from byte {offset}")
        for marker, _, stop in _segments(data, places[first + num_restarts]):
            if marker == _END_OF_IMAGE:
                return
            offset = stop
    raise PictureError(f"JPEG: more than {_MAX_SCANS} scans are refused")


def decode(data: Bytes, header: PictureHeader, out: NDArray[Any], color_mode: str | None) -> None:
    """Decodes a JPEG: see `PictureCodec.decode`."""
    offset, _, is_sequential = header.details
    if not is_sequential:
        _check(data, offset)
    if header.channels == 4:
        _decode_leniently(data, header, out, color_mode)
        return
    try:
        shape = decode_jpeg(
            data,
            _SPACES[color_mode or header.channels],
            min_height=out.shape[0],
            min_width=out.shape[1],
            min_factor=REDUCTIONS[-1],
            buffer=out,
        ).shape
    except ValueError as error:
        if _is_damage(data, offset, str(error)):
            _check(data, offset)
            raise
        _decode_leniently(data, header, out, color_mode)
        return
    if shape != out.shape:
        raise PictureError(f"JPEG: damaged: {shape[:2]} pixels where {out.shape[:2]} were stated")


def _is_damage(data: Bytes, offset: int, warning: str) -> bool:
    """Returns whether libjpeg warns of damage, in a picture whose first scan is at `offset`."""
    if extraneous := _EXTRANEOUS.search(warning):
        # Some cameras fill up their data before a marker.
        count, marker = int(extraneous[1]), bytes((0xFF, int(extraneous[2], 16)))
        stop = data.tobytes().find(marker, offset + len(_SCAN_MARKER))
        filling = data[max(stop - count, 0) : max(stop, 0)]
        return len(filling) != count or bool((filling != filling[0]).any())
    return _DAMAGE.search(warning) is not None


def _decode_leniently(
    data: Bytes, header: PictureHeader, out: NDArray[Any], color_mode: str | None
) -> None:
    """Decodes a JPEG that ends as it should, whatever else libjpeg may warn of."""
    offset, is_adobe, _ = header.details
    _check(data, offset)
    if out.shape[:2] != (header.rows, header.columns):
        picture = scratch_picture("whole", (*header.shape[:2], out.shape[2]), header.dtype)
        _decode_leniently(data, header, picture, color_mode)
        resize_into(picture, out, "area")
        return
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
