"""Pictures to decode: JPEGs by Pillow and imagecodecs, PNGs written here by the specification."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import imagecodecs
import numpy as np
from PIL import Image

ROWS, COLUMNS = 60, 83


def smooth(rows=ROWS, columns=COLUMNS, channels=3):
    """Returns waves and a little noise, as photographs have: uint8 (rows, columns, channels)."""
    y, x = np.mgrid[:rows, :columns]
    waves = [127 + 100 * np.sin(x / 17 + y / 31 + k) for k in range(channels)]
    noise = np.random.default_rng(0).normal(0, 6, (rows, columns, channels))
    return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def save(image, codec="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream.getvalue()


def without_segment(jpeg, marker):
    """Returns a JPEG without the segment of one marker, which is before its first scan."""
    offset = 2
    while jpeg[offset + 1] != marker:
        offset += 2 + int.from_bytes(jpeg[offset + 2 : offset + 4])
    stop = offset + 2 + int.from_bytes(jpeg[offset + 2 : offset + 4])
    return jpeg[:offset] + jpeg[stop:]


@functools.cache
def jpegs(rows=ROWS, columns=COLUMNS):
    """Returns the kinds of JPEG by name."""
    pixels = smooth(rows, columns)
    image = Image.fromarray(pixels)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: to be turned by 90 degrees
    inks = np.dstack([pixels, pixels[..., 0] // 2 + 100])
    cmyk = save(image.convert("CMYK"))
    return {
        "420": save(image, quality=90, subsampling="4:2:0"),
        "422": save(image, quality=90, subsampling="4:2:2"),
        "444": save(image, quality=90, subsampling="4:4:4"),
        "progressive-420": save(image, progressive=True),
        "progressive-444": save(image, progressive=True, subsampling="4:4:4"),
        "grey": save(Image.fromarray(pixels[..., 0])),
        "restarts": save(image, restart_marker_blocks=1),
        "progressive-restarts": save(image, restart_marker_rows=1, progressive=True),
        "exif": save(image, exif=rotated),
        "rgb": imagecodecs.jpeg8_encode(pixels, colorspace="RGB", outcolorspace="RGB"),
        "cmyk": cmyk,
        "cmyk-no-adobe": without_segment(cmyk, 0xEE),
        "ycck": imagecodecs.jpeg8_encode(inks, colorspace="CMYK", outcolorspace="YCCK"),
    }


JPEG_NAMES = (
    "420", "422", "444", "progressive-420", "progressive-444", "grey", "restarts",
    "progressive-restarts", "exif", "rgb", "cmyk", "cmyk-no-adobe", "ycck",
)  # fmt: skip


def with_jpeg_size(jpeg, rows, columns):
    """Returns a JPEG that claims another size."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        offset = jpeg.find(marker)
        if offset > 0:
            return jpeg[: offset + 5] + struct.pack(">HH", rows, columns) + jpeg[offset + 9 :]
    raise ValueError("no frame header")


# --------------------------------------------------------------------------- PNG

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
          (1, 0, 2, 1))  # fmt: skip


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _lines(values, bits):
    """Returns the lines of samples (rows, columns, channels), without a filter."""
    lines = values.reshape(len(values), -1)
    if bits == 16:
        packed = lines.astype(">u2").view(np.uint8)
    elif bits == 8:
        packed = lines.astype(np.uint8)
    else:
        unpacked = np.unpackbits(lines.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
        packed = np.packbits(unpacked.reshape(len(lines), -1), axis=-1)
    return b"".join(b"\0" + line.tobytes() for line in packed)


def png(values, kind, bits=8, *, palette=None, transparent=None, interlaced=False, more=()):
    """Returns a PNG of samples (rows, columns, channels).

    `palette` is uint8 (colors, 3), `transparent` the bytes of tRNS, `more` further chunks.
    """
    rows, columns = values.shape[:2]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[y::dy, x::dx] for y, x, dy, dx in passes]
    data = zlib.compress(b"".join(_lines(part, bits) for part in parts if part.size))
    header = struct.pack(">IIBBBBB", columns, rows, bits, kind, 0, 0, int(interlaced))
    chunks = [chunk(b"IHDR", header), *more]
    if palette is not None:
        chunks.append(chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes()))
    if transparent is not None:
        chunks.append(chunk(b"tRNS", transparent))
    half = len(data) // 2
    chunks += [chunk(b"IDAT", data[:half]), chunk(b"IDAT", data[half:]), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_png_size(data, rows, columns):
    """Returns a PNG that claims another size, with a right checksum."""
    header = struct.pack(">II", columns, rows) + data[24:29]
    return data[:8] + chunk(b"IHDR", header) + data[33:]
