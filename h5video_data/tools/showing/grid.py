"""A grid of clips: in a notebook moving pictures, in a PNG a row of frames a sample."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError

from .frames import spread
from .lettering import LETTER_HEIGHT, LETTER_WIDTH, written
from .png import data_url, encode_png

_GAP = 4  # pixels between frames
_INK, _PAPER, _WRONG = (32, 32, 32), (255, 255, 255), (176, 0, 32)
_ON_ANY_PAPER = (128, 128, 128)  # between frames of a page, which may be light or dark


@dataclass(frozen=True, eq=False)
class Cell:
    """One sample of a grid."""

    frames: NDArray[np.uint8]
    """(frames, rows, columns, 3)."""
    caption: str
    """Its label, and the prediction."""
    is_wrong: bool = False
    """Whether the prediction is another class than the label."""


class ClipGrid:
    """Clips to look at: what `show` returns.

    A notebook shows moving pictures; `save` writes a PNG, a row of frames a sample, or a page.

    Attributes:
        cells: The samples.
        note: What is to be known of the values that are black and white; "" if nothing.
    """

    def __init__(self, cells: Sequence[Cell], note: str = "", num_frames: int = 8) -> None:
        self.cells = tuple(cells)
        self.note = note
        self._num_frames = num_frames

    def __repr__(self) -> str:
        frames = max(len(cell.frames) for cell in self.cells)
        count = len(self.cells)
        return (
            f"<ClipGrid: {count} sample{'s' * (count != 1)} of {frames} frame{'s' * (frames != 1)};"
            ' .save("clips.png") or .save("clips.html")>'
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a PNG, with a row of frames a sample, or an HTML page, with moving pictures.

        Args:
            path: The file, `.png` or `.html`, which is replaced if it exists.

        Returns:
            The path.
        """
        out = Path(path)
        if out.suffix.lower() == ".png":
            out.write_bytes(encode_png([self._sheet()]))
        elif out.suffix.lower() in (".html", ".htm"):
            style = ":root{color-scheme:light dark}body{margin:16px;font:14px system-ui,sans-serif}"
            head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            out.write_text(
                f"<!doctype html><html lang=en><head>{head}<title>Clips</title>"
                f"<style>{style}</style></head><body>{self._repr_html_()}</body></html>",
                encoding="utf-8",
            )
        else:
            raise ArgumentError(f"`path` must end in .png or .html. Received: path={str(path)!r}")
        return out

    def _repr_html_(self) -> str:
        return self.html(is_moving=True)

    def html(self, *, is_moving: bool) -> str:
        """Returns the grid as a part of a page: moving pictures, or a row of frames a sample."""
        figures, width = [], 120
        for cell in self.cells:
            frames = cell.frames
            if not is_moving:
                frames = frames[spread(len(frames), self._num_frames)]
                frames = _in_a_row(frames, _ON_ANY_PAPER)[np.newaxis]
            width = max(width, frames.shape[2])
            mark = "&#10007; " if cell.is_wrong else ""
            text = html.escape(cell.caption)
            style = "margin:0;min-width:0;max-width:100%"
            image = data_url(encode_png(list(frames)))
            scroll = "overflow-x:auto" if not is_moving else ""
            figures.append(
                f'<figure style="{style}"><div style="{scroll}"><img alt="{text}" '
                f'src="{image}" style="display:block;image-rendering:auto;'
                f'max-width:{"100%" if is_moving else "none"}"></div><figcaption style="overflow-'
                f'wrap:anywhere;padding:2px 0">{mark}{text}</figcaption></figure>'
            )
        columns = f"repeat(auto-fill,minmax(min(100%,{width}px),1fr))"
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return (
            f'<div style="display:grid;gap:12px;grid-template-columns:{columns}">'
            f"{''.join(figures)}</div>{note}"
        )

    def _sheet(self) -> NDArray[np.uint8]:
        """Returns all samples as one picture: a row of frames each, and the caption above it."""
        scale, bands = 2, []
        for cell in self.cells:
            row = _in_a_row(cell.frames[spread(len(cell.frames), self._num_frames)])
            caption = ("X " if cell.is_wrong else "") + cell.caption
            most = max(8, row.shape[1] // (LETTER_WIDTH * scale))
            caption = caption if len(caption) <= most else f"{caption[: most - 3]}..."
            bands += [_line(caption, scale, _WRONG if cell.is_wrong else _INK), row]
        if self.note:
            bands.append(_line(self.note, 1, _INK))
        width = max(band.shape[1] for band in bands)
        gap = np.full((_GAP, width, 3), _PAPER, np.uint8)
        sheet = [gap]
        for band in bands:
            pad = ((0, 0), (0, width - band.shape[1]), (0, 0))
            sheet += [np.pad(band, pad, constant_values=255), gap]
        return np.pad(np.concatenate(sheet), ((0, 0), (_GAP, _GAP), (0, 0)), constant_values=255)


def _in_a_row(frames: NDArray[np.uint8], paper: tuple[int, int, int] = _PAPER) -> NDArray[np.uint8]:
    gap = np.full((frames.shape[1], _GAP, 3), paper, np.uint8)
    pieces = [piece for frame in frames for piece in (frame, gap)]
    return np.concatenate(pieces[:-1], axis=1)


def _line(text: str, scale: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    line = np.full((LETTER_HEIGHT * scale, max(1, len(text)) * LETTER_WIDTH * scale, 3), 255, "u1")
    line[:, : len(text) * LETTER_WIDTH * scale][written(text, scale)] = colour
    return line
