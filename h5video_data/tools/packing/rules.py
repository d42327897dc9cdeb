"""The arguments that say which frames of a video are taken, and in which form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError

from .clip_rules import SHORT, ClipRule
from .fitting import FITS, FrameForm
from .output_arguments import checked_size


def checked_rule(
    *,
    num_frames: Any,
    stride: Any,
    size: Any,
    clips_per_video: Any,
    fit: Any,
    short: Any,
    uniform: Any,
    frame_rate: Any,
    is_recordings: bool,
) -> tuple[ClipRule, FrameForm]:
    """Checks the arguments that say which frames are packed, and how; may raise ArgumentErrors."""
    check_whole_number("num_frames", num_frames, 1)
    check_whole_number("stride", stride, 1)
    check_whole_number("clips_per_video", clips_per_video, 1)
    check_choice("fit", fit, *FITS)
    check_choice("short", short, *SHORT)
    size = checked_size("size", size)
    is_number = isinstance(frame_rate, (int, float, np.integer, np.floating))
    if frame_rate is not None and not (is_number and 0 < frame_rate < math.inf):
        raise ArgumentError(
            "`frame_rate` must be a number of frames per second, more than 0. "
            f"Received: frame_rate={frame_rate!r}"
        )
    if uniform and (stride != 1 or clips_per_video != 1):
        raise ArgumentError(
            "`uniform` spreads one clip over the whole video, without `stride` and "
            f"`clips_per_video`. Received: uniform=True, stride={stride}, "
            f"clips_per_video={clips_per_video}"
        )
    if is_recordings and (uniform or clips_per_video != 1 or short != SHORT[0]):
        raise ArgumentError(
            "A recording is a whole video, without `uniform`, `clips_per_video` and `short`. "
            f"Received: layout='recordings', uniform={bool(uniform)}"
            f", clips_per_video={clips_per_video}, short={short!r}"
        )
    rule = ClipRule(
        num_frames=None if is_recordings else int(num_frames),
        stride=int(stride),
        clips_per_video=int(clips_per_video),
        uniform=bool(uniform),
        short=short,
        frame_rate=None if frame_rate is None else float(frame_rate),
    )
    return rule, FrameForm(size, fit)


def settings_of(rule: ClipRule, form: FrameForm) -> dict[str, Any]:
    """Returns the attributes from which `read_video` prepares another video alike."""
    named = {
        "num_frames": rule.num_frames,
        "stride": rule.stride,
        "clips_per_video": rule.clips_per_video,
        "size": form.size,
        "fit": form.fit,
        "short": rule.short,
        "uniform": rule.uniform,
        "target_frame_rate": rule.frame_rate,
    }
    return {name: value for name, value in named.items() if value is not None}
