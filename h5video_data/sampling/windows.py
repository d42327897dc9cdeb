"""`Windows`: samples that are windows of recordings, whose rows are frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number, is_whole_number
from h5video_data.errors import ArgumentError

from .bounds import BoundsKind
from .sample_index import Indices, SampleIndex
from .window_index import Recordings, WindowIndex

WindowPosition = Literal["random", "center", "start", "spread"]
Pad = Literal["edge", "zeros"]
# Larger numbers are slips: no recording has so many rows, and no memory such a window.
MAX_FRAMES = 1 << 24
MAX_OFFSET = 1 << 40

Offsets: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of recordings: rows of the datasets are frames, and a sample is several of them.

        windows=Windows(16)                          # 16 frames that follow each other
        windows=Windows(4, stride=5)                 # of every fifth frame
        windows=Windows(range(10), range(10, 20))    # next-frame prediction: x="frames", y="frames"
        windows=Windows(1, range(100), pad="edge")   # an observation, and the actions from there on

    A window has an anchor, a row of the recording, and frames at fixed offsets from it. It never
    reaches into another recording.

    Args:
        x: The frames of x, relative to the anchor: a number n, for (0, stride, ..., (n - 1) *
            stride); or offsets, such as `range(-3, 1)`; or a dict of these by the keys of x,
            where a key that is missing has the value of the anchor's row, without an axis of
            frames.
        y: The frames of y, likewise. None: y is not windowed. It is the value of the anchor's row,
            or, where a dataset has as many rows as there are recordings, a value of the recording.
        stride: Distance between the frames of a number n, in rows.
        hop: Distance from one anchor to the next, in rows.
        bounds: Name of a dataset that divides the rows into recordings: the row where each begins,
            their lengths, the row after each, or an id for each row. What it is follows from the
            values, or is said: `bounds=("lengths", "ep_len")`; `"starts"`, `"ends"`, `"ids"`. None:
            each dataset is one recording.
        per_recording: Number of windows of each recording in an epoch. None: all that there are.
        position: Which ones, with `per_recording`: `"random"`, drawn anew each epoch; `"spread"`,
            at equal distances over the recording; `"center"` or `"start"`, of which there is one.
        pad: What frames beyond the recording are: None, there are no such windows; `"edge"`, the
            nearest frame of the recording; `"zeros"`. Every `hop`-th row is an anchor then.
        mask: With `pad`, the key in x, a dict, of an array that tells which frames are padded:
            bool (batch, frames), of y if y is windowed, else of x.

    Raises:
        ArgumentError: An argument is invalid.
    """

    x: Offsets | Mapping[Any, Offsets]
    y: Offsets | Mapping[Any, Offsets] | None = None
    stride: int = field(default=1, kw_only=True)
    hop: int = field(default=1, kw_only=True)
    bounds: str | tuple[BoundsKind, str] | None = field(default=None, kw_only=True)
    per_recording: int | None = field(default=None, kw_only=True)
    position: WindowPosition = field(default="random", kw_only=True)
    pad: Pad | None = field(default=None, kw_only=True)
    mask: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_whole_number("stride", self.stride, 1)
        check_whole_number("hop", self.hop, 1)
        check_whole_number("per_recording", self.per_recording, 1, or_none=True)
        _check_size("stride", self.stride, MAX_OFFSET)
        _check_size("hop", self.hop, MAX_OFFSET)
        _check_size("per_recording", self.per_recording or 1, MAX_FRAMES)
        check_choice("position", self.position, *get_args(WindowPosition))
        check_choice("pad", self.pad, None, *get_args(Pad))
        for name in ("x", "y"):
            given = getattr(self, name)
            if given is not None or name == "x":
                object.__setattr__(self, name, self._checked(name, given))
        self._check_bounds()
        if self.stride != 1 and not self._has_number:
            raise ArgumentError(
                "`stride` is the distance between the frames of a number of frames; offsets say "
                f"it themselves. Received: stride={self.stride} with offsets for x and y"
            )
        if self.per_recording is None and self.position != "random":
            raise ArgumentError(
                "`position` says which windows `per_recording` takes. "
                f"Received: position={self.position!r} without per_recording"
            )
        if self.position in ("center", "start") and self.per_recording != 1:
            raise ArgumentError(
                f"There is one window at position={self.position!r}: per_recording=1. "
                f"Received: per_recording={self.per_recording}"
            )
        if self.mask is not None and (self.pad is None or not isinstance(self.mask, str)):
            raise ArgumentError(
                "`mask` is a key in x that tells which frames are padded: it needs `pad`. "
                f"Received: mask={self.mask!r}, pad={self.pad!r}"
            )

    @property
    def _has_number(self) -> bool:
        """Whether a number of frames was given, which `stride` is for."""
        given = [
            item
            for side in (self.x, self.y)
            for item in (side.values() if isinstance(side, Mapping) else [side])
        ]
        return any(is_whole_number(item) for item in given)

    @property
    def reach(self) -> tuple[int, int]:
        """The lowest and the highest offset from the anchor, of all frames and the anchor."""
        found = [0]
        for side in (self.x, self.y):
            for item in side.values() if isinstance(side, Mapping) else [side]:
                if item is not None:
                    found += [int(edge(self._as_offsets(item))) for edge in (np.min, np.max)]
        return min(found), max(found)

    def offsets(self, side: str, key: Any = None) -> Indices | None:
        """Returns the offsets of the frames of x, or of y, from the anchor.

        Args:
            side: "x" or "y".
            key: Its key, if it is a dict.

        Returns:
            int64 (frames,); None: it is not windowed.
        """
        given = self.x if side == "x" else self.y
        if isinstance(given, Mapping):
            given = given.get(key)
        return None if given is None else self._as_offsets(given)

    def anchors(self, num_rows: Indices) -> tuple[Indices, Indices]:
        """Returns where the anchors of recordings are.

        Args:
            num_rows: int64 (recordings,), their rows.

        Returns:
            int64 (recordings,) each: the row of the first anchor, counted in the recording; and how
            many there are, `hop` rows apart.
        """
        lowest, highest = (0, 0) if self.pad is not None else self.reach
        first = np.full(len(num_rows), -lowest, np.int64)
        last = num_rows - 1 - highest
        return first, np.maximum(0, (last - first) // self.hop + 1)

    def of_recordings(self, recordings: Recordings, num_rows: Indices) -> WindowIndex:
        """Makes the index of the windows of recordings.

        Args:
            recordings: The recordings.
            num_rows: int64 (parts,), the rows of each part.
        """
        first, counts = self.anchors(recordings.lengths)
        numbers = np.flatnonzero(counts)
        first, counts = first[numbers] + recordings.first_rows[numbers], counts[numbers]
        num_samples, step, choices = counts, self.hop, None
        if self.per_recording is not None and self.position == "random":
            num_samples, step, choices = np.full_like(counts, self.per_recording), 0, counts
        elif self.per_recording is not None:
            # The distances may differ by a row: a run for each window.
            first = (first[:, np.newaxis] + self.hop * self._chosen(counts)).ravel()
            numbers = np.repeat(numbers, self.per_recording)
            num_samples = np.ones_like(numbers)
        starts = recordings.first_rows[numbers]
        anchors = SampleIndex(
            run_parts=recordings.parts[numbers],
            run_rows=first,
            run_stops=np.cumsum(num_samples),
            num_rows=num_rows,
            step=step,
            limits=None if self.pad is None else (starts, starts + recordings.lengths[numbers]),
            pads_zeros=self.pad == "zeros",
        )
        return WindowIndex(recordings, anchors, numbers, self.hop, choices)

    def _chosen(self, counts: Indices) -> Indices:
        """Returns at which anchors the windows of recordings are: (recordings, per_recording)."""
        assert self.per_recording is not None
        if self.position == "start":
            return np.zeros((len(counts), 1), np.int64)
        if self.per_recording == 1:
            return (counts[:, np.newaxis] - 1) // 2
        places = np.arange(self.per_recording, dtype=np.int64)
        return (places * (counts[:, np.newaxis] - 1)) // (self.per_recording - 1)

    def _as_offsets(self, given: Any) -> Indices:
        if is_whole_number(given):
            return np.arange(given, dtype=np.int64) * self.stride
        return np.array(given, np.int64)

    def _checked(self, name: str, given: Any) -> Any:
        """Returns what was given in a form that cannot change."""
        if isinstance(given, Mapping):
            if not given:
                raise ArgumentError(f"`{name}` of Windows must not be an empty dict.")
            return {key: self._checked(f"{name}[{key!r}]", item) for key, item in given.items()}
        if is_whole_number(given):
            check_whole_number(name, given, 1)
            _check_size(name, given, MAX_FRAMES)
            return int(given)
        try:
            offsets = np.asarray(given)
        except (TypeError, ValueError):
            offsets = np.empty(0)
        if offsets.ndim != 1 or not len(offsets) or offsets.dtype.kind not in "iu":
            raise ArgumentError(
                f"`{name}` of Windows must be a number of frames, or their offsets from the "
                f"anchor, whole numbers such as range(-3, 1). Received: {name}={given!r}"
            )
        for offset in (offsets.min(), offsets.max()):
            _check_size(name, int(offset), MAX_OFFSET)
        return tuple(int(offset) for offset in offsets)

    def _check_bounds(self) -> None:
        bounds = self.bounds
        if bounds is None or isinstance(bounds, str):
            return
        if not (
            isinstance(bounds, tuple)
            and len(bounds) == 2
            and bounds[0] in get_args(BoundsKind)
            and isinstance(bounds[1], str)
        ):
            raise ArgumentError(
                "`bounds` must be the name of a dataset, or a pair such as "
                f'("lengths", "ep_len"): {", ".join(get_args(BoundsKind))}. '
                f"Received: bounds={bounds!r}"
            )


def _check_size(name: str, number: int, limit: int) -> None:
    if not -limit <= number <= limit:
        raise ArgumentError(f"`{name}` of Windows must be at most {limit}. Received: {number}")
