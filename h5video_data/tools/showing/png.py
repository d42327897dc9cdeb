"""Encodes pictures as PNG, and moving ones as APNG, which browsers show as an image.

W3C, Portable Network Graphics Specification (Third Edition): chunks are in section 5, the filters
of rows in section 9, animation in section 11.3.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def encode_png(frames: Sequence[Picture], frames_per_second: float = 8.0) -> bytes:
    """Encodes one picture, or several as a moving one that repeats.

    Args:
        frames: (rows, columns, 3) each, of one size.
        frames_per_second: Of a moving picture.
    """
    rows, columns, _ = frames[0].shape
    parts = [b"\x89PNG\r\n\x1a\n"]
    parts.append(_chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)))
    if len(frames) == 1:
        parts.append(_chunk(b"IDAT", _compressed(frames[0])))
    else:
        parts.append(_chunk(b"acTL", struct.pack(">II", len(frames), 0)))
        number = 0
        for i, frame in enumerate(frames):
            delay = max(1, round(1000 / frames_per_second))
            control = struct.pack(">IIIIIHHBB", number, columns, rows, 0, 0, delay, 1000, 0, 0)
            parts.append(_chunk(b"fcTL", control))
            number += 1
            data = _compressed(frame)
            if i == 0:
                parts.append(_chunk(b"IDAT", data))
            else:
                parts.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
                number += 1
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def data_url(png: bytes) -> str:
    """Returns a PNG as the address of an image in HTML."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _compressed(picture: Picture) -> bytes:
    """Returns the rows, each as differences from the row above it (filter 2, Up)."""
    lines = picture.reshape(len(picture), -1)
    up = lines.copy()
    up[1:] -= lines[:-1]
    filters = np.full((len(lines), 1), 2, np.uint8)
    return zlib.compress(np.concatenate([filters, up], axis=1).tobytes(), 6)
