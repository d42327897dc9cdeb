"""The call that opens a file, as it is typed and as arguments."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from h5video_data.sampling.bounds import BoundsKind
from h5video_data.sampling.windows import Windows
from h5video_data.storage.picture_rows import Decode


class Opening(NamedTuple):
    """The arguments that open a file."""

    x: str
    y: str | None
    num_frames: int | None
    """Frames of a window; None: rows are samples."""
    bounds: tuple[BoundsKind | None, str] | None = None
    decode: Decode = "auto"
    image_size: tuple[int, int] | None = None
    allow_external: bool = False

    def call(self, path: str, *, has_options: bool = False) -> str:
        """Returns the call, as it is typed, but for `storage_options`, which are not shown."""
        words = [_quoted(path)]
        if self.num_frames is not None or self.x != "X":
            words.append(f"x={_quoted(self.x)}")
        if self.num_frames is not None or self.y != "Y":
            words.append(f"y={_quoted(self.y)}")
        if self.num_frames is not None:
            bounds = f", bounds={_bounds_text(*self.bounds)}" if self.bounds else ""
            words.append(f"windows=h5v.Windows({self.num_frames}{bounds})")
        if self.decode != "auto":
            words.append(f"decode={_quoted(self.decode)}")
        if self.image_size is not None:
            words.append(f"image_size={self.image_size}")
        if has_options:
            words.append("storage_options={...}")
        if self.allow_external:
            words.append("allow_external=True")
        return f"h5v.video_dataset_from_hdf5({', '.join(words)})"

    def arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments of the call."""
        found: dict[str, Any] = {"x": self.x, "y": self.y}
        if self.decode != "auto":
            found["decode"] = self.decode
        if self.image_size is not None:
            found["image_size"] = self.image_size
        if self.allow_external:
            found["allow_external"] = True
        if self.num_frames is None:
            return found
        kind, name = self.bounds or (None, None)
        bounds = name if kind is None or name is None else (kind, name)
        return {**found, "windows": Windows(self.num_frames, bounds=bounds)}


def _bounds_text(kind: BoundsKind | None, name: str) -> str:
    return _quoted(name) if kind is None else f"({_quoted(kind)}, {_quoted(name)})"


def _quoted(text: str | None) -> str:
    """Returns a string as it is typed, in double quotes where that is possible."""
    plain = text is not None and text.isprintable() and not re.search(r'["\\]', text)
    return f'"{text}"' if plain else repr(text)
