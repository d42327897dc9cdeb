"""How a picture is fitted into the frames of a file: scaled, cropped, letterboxed or turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FITS = ("crop", "letterbox", "stretch")
"""The values of `fit`; the first is the default."""

Slices = tuple[slice, slice]


@dataclass(frozen=True)
class FrameForm:
    """What each frame of a file looks like.

    Attributes:
        size: (rows, columns), in pixels.
        fit: How pictures of another shape get that size, one of `FITS`.
    """

    size: tuple[int, int]
    fit: str = FITS[0]


class Placement(NamedTuple):
    """How to scale a picture, and which part of it goes where; rows before columns."""

    scaled: tuple[int, int]
    taken: Slices
    """Of the scaled picture."""
    filled: Slices
    """Of the frame; the rest of it is black."""


def place(rows: float, columns: float, form: FrameForm) -> Placement:
    """Computes how a picture of some shape is fitted into a frame.

    Args:
        rows: Its height.
        columns: Its width, in the same unit: not the number of its pixels if these are not square.
        form: The frame. With "crop", the picture covers it and its center is taken; with
            "letterbox" it is inside, in the center; with "stretch" it has its size.
    """
    size = form.size
    whole = (slice(0, size[0]), slice(0, size[1]))
    if form.fit == "stretch":
        return Placement(size, whole, whole)
    if form.fit == "crop":
        scale = max(size[0] / rows, size[1] / columns)
        scaled = (max(size[0], round(rows * scale)), max(size[1], round(columns * scale)))
        return Placement(scaled, _centered(size, scaled), whole)
    scale = min(size[0] / rows, size[1] / columns)
    scaled = (
        min(size[0], max(1, round(rows * scale))),
        min(size[1], max(1, round(columns * scale))),
    )
    return Placement(scaled, (slice(0, scaled[0]), slice(0, scaled[1])), _centered(scaled, size))


def _centered(inner: tuple[int, int], outer: tuple[int, int]) -> Slices:
    top, left = (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2
    return slice(top, top + inner[0]), slice(left, left + inner[1])


class Turn(NamedTuple):
    """How a stored picture is turned before it is shown: swapped axes first, then flips."""

    swaps: bool = False
    flips_rows: bool = False
    flips_columns: bool = False

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turns an array (rows, columns, ...)."""
        if self.swaps:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.flips_rows else 1, :: -1 if self.flips_columns else 1]


def turn_of_matrix(matrix: NDArray[np.int32]) -> Turn:
    """Reads a display matrix: 9 int32 (FFmpeg's display.h; ISO 14496-12, section 8.3.2).

    It takes column p and row q of the stored picture to (a p + c q, b p + d q), where a, b, c, d
    are its items 0, 1, 3, 4. Angles between right ones, which no camera writes, are rounded.
    """
    a, b, c, d = (int(matrix[item]) for item in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, b < 0, c < 0)
    return Turn(False, d < 0, a < 0)


def fitted(
    scaled: NDArray[np.uint8], turn: Turn, placement: Placement, form: FrameForm
) -> NDArray[np.uint8]:
    """Turns a scaled picture, (rows, columns, 3) as it is stored, into a frame.

    Returns:
        uint8 (3, rows, columns), contiguous: a view would keep the cropped pixels in memory.
    """
    taken = np.moveaxis(turn.of(scaled)[placement.taken], -1, 0)
    if placement.filled == (slice(0, form.size[0]), slice(0, form.size[1])):
        return np.array(taken, order="C")
    frame = np.zeros((3, *form.size), np.uint8)
    frame[:, placement.filled[0], placement.filled[1]] = taken
    return frame
