"""Which frames of a video become samples: pure, from the time stamps of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
"""(frames,), when each frame is shown, in seconds; nan where no time stamp says it."""

SHORT = ("skip", "loop", "pad")
"""What to do with a video that is shorter than a clip; the first is the default."""

# Containers round time stamps, Matroska to milliseconds.
_ROUNDING_SECONDS = 1e-3


class Span(NamedTuple):
    """A part of a video, in seconds from its first frame; half-open."""

    start: float = 0.0
    stop: float = float("inf")


class ClipFrames(NamedTuple):
    """The frames of a sample or, as they are, of a recording."""

    span: int
    """Number of the span that it is cut from."""
    frames: NDArray[np.int64]
    """Numbers of the video's frames, never falling unless the clip loops."""
    length: int
    """How many of these are shown; the others are padding, and black."""


@dataclass(frozen=True)
class ClipRule:
    """Chooses clips.

    Attributes:
        num_frames: Frames of a clip. None: all of the video's, as one recording.
        stride: Distance between two frames of a clip, in frames as they are shown.
        clips_per_video: Clips of each span, at most.
        uniform: Whether the frames of a clip are spread over the whole span.
        short: What to do with what is shorter than a clip, one of `SHORT`.
        frame_rate: Frames a second to which videos are brought; None: their own.
    """

    num_frames: int | None
    stride: int = 1
    clips_per_video: int = 1
    uniform: bool = False
    short: str = SHORT[0]
    frame_rate: float | None = None

    @property
    def clip_span(self) -> int:
        """Frames, as they are shown, from the first to the last of a clip."""
        if self.num_frames is None:
            return 1
        return self.num_frames if self.uniform else (self.num_frames - 1) * self.stride + 1

    def choose(self, times: Times, spans: tuple[Span, ...] = (Span(),)) -> list[ClipFrames]:
        """Chooses the clips of a video; sorted by their last frame, as they get complete."""
        shown, seconds = regular_frames(times, self.frame_rate)
        clips = []
        for number, span in enumerate(spans):
            begin, end = np.searchsorted(seconds, np.array(span) - _ROUNDING_SECONDS)
            clips += [
                ClipFrames(number, frames, length)
                for frames, length in self._of_span(shown[begin:end])
            ]
        return sorted(clips, key=lambda clip: (int(clip.frames.max()), clip.span))

    def _of_span(self, shown: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], int]]:
        count = len(shown)
        if count == 0:
            return []
        if self.num_frames is None:
            kept = shown[:: self.stride]
            return [(kept, len(kept))]
        if count >= self.clip_span:
            if self.uniform:
                places = ((2 * np.arange(self.num_frames) + 1) * count) // (2 * self.num_frames)
                return [(shown[places], self.num_frames)]
            offsets = np.arange(self.num_frames) * self.stride
            starts = clip_starts(count, num_clips=self.clips_per_video, span=self.clip_span)
            return [(shown[start + offsets], self.num_frames) for start in starts]
        if self.short == "skip":
            return []
        places = np.arange(self.num_frames) * (1 if self.uniform else self.stride)
        if self.short == "loop":
            return [(shown[places % count], self.num_frames)]
        length = int((places < count).sum())
        return [(shown[np.minimum(places, places[length - 1])], length)]


def clip_starts(num_video_frames: int, *, num_clips: int, span: int) -> tuple[int, ...]:
    """Picks the first frames of evenly spaced clips of `span` frames.

        video     0 1 2 3 4 5 6 7 8 9      num_clips=2, span=5, here with a stride of 2
        clip 0    x . x . x
        clip 1              x . x . x

    Returns:
        Different frame numbers in rising order, `num_clips` of them or as many as there are. The
        first is 0 and the last is the last that fits; a single one is in the middle (the earlier
        one, where there are two). Empty if the video is shorter than a clip's span.
    """
    last = num_video_frames - span
    if last < 0:
        return ()
    num_clips = min(num_clips, last + 1)
    if num_clips == 1:
        return (last // 2,)
    return tuple(k * last // (num_clips - 1) for k in range(num_clips))


def regular_frames(times: Times, frame_rate: float | None) -> tuple[NDArray[np.int64], Times]:
    """Finds which frame is shown at regular intervals.

        time stamps     0   1   2           6   7      a camera that paused
        shown, every 1  0   1   2  2  2  2  3   4

    A video of constant rate has each frame once. One of variable rate is sampled at its usual
    interval, at which a frame that is shown for longer comes several times.

    Args:
        times: The time stamps.
        frame_rate: Frames a second; None: the video's own.

    Returns:
        The frames' numbers, and when they are shown, in seconds from the first one; frames without
        a time stamp are taken to follow each other every second.
    """
    count = len(times)
    every = np.arange(count)
    if count == 0 or not np.isfinite(times).all():
        return every, every.astype(np.float64)
    times = np.maximum.accumulate(times - times[0])
    if frame_rate is None:
        interval = usual_interval(times)
        if interval is None:
            return every, times
    else:
        interval = 1 / frame_rate
    count = int((times[-1] + _ROUNDING_SECONDS) / interval) + 1
    seconds: Times = np.asarray(np.arange(count) * interval, np.float64)
    shown = np.searchsorted(times, seconds + _ROUNDING_SECONDS, side="right") - 1
    return shown.astype(np.int64), seconds


def usual_interval(times: Times) -> float | None:
    """Returns the seconds between most frames if these are irregular; None: if they are regular."""
    if len(times) < 3 or times[-1] <= 0:
        return None
    average = times[-1] / (len(times) - 1)
    if np.abs(times - np.arange(len(times)) * average).max() <= average / 2 + _ROUNDING_SECONDS:
        return None
    gaps = np.diff(times)
    # Not less than an eighth of the average: a video may have two frames at nearly the same time.
    usual = max(float(np.median(gaps)), float(average) / 8)
    near = gaps[np.abs(gaps - usual) <= usual / 4]
    return float(near.mean()) if len(near) else usual
