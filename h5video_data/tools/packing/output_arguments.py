"""The arguments that `pack`, `repack` and `write_videos` share: how a new file is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from h5video_data.arguments import check_choice, check_whole_number, is_whole_number
from h5video_data.errors import ArgumentError

from .encoded_rows import CODECS, DEFAULT_QUALITY, ROWS, Encoding


def checked_size(name: str, size: Any) -> tuple[int, int]:
    """Checks a size of frames, the argument of that name; may raise an ArgumentError."""
    is_pair = isinstance(size, Sequence) and len(size) == 2
    if not (is_pair and all(is_whole_number(item) and item > 0 for item in size)):
        raise ArgumentError(
            f"`{name}` must be (rows, columns), whole numbers of pixels. Received: {name}={size!r}"
        )
    rows, columns = map(int, size)
    return rows, columns


def checked_encoding(
    codec: Any, quality: Any, rows: Any, *, compression: Any, compressions: Iterable[str]
) -> Encoding | None:
    """Checks the arguments of these names; None: frames are not encoded.

    Raises:
        ArgumentError: One is invalid, or given without what it needs.
    """
    check_choice("compression", compression, None, *compressions)
    check_choice("codec", codec, None, *CODECS)
    check_choice("rows", rows, None, *ROWS)
    check_whole_number("quality", quality, 1, or_none=True)
    if codec is None:
        if quality is not None or rows is not None:
            raise ArgumentError(
                '`quality` and `rows` are for codec="jpeg" or codec="png". Received: codec=None, '
                f"quality={quality!r}, rows={rows!r}"
            )
        return None
    if quality is not None and (codec != "jpeg" or quality > 100):
        raise ArgumentError(
            "`quality` is that of a JPEG, from 1 to 100. "
            f"Received: codec={codec!r}, quality={quality}"
        )
    if compression is not None:
        raise ArgumentError(
            "Encoded frames are not compressed again. "
            f"Received: codec={codec!r}, compression={compression!r}"
        )
    return Encoding(codec, int(quality or DEFAULT_QUALITY), rows or ROWS[0])
