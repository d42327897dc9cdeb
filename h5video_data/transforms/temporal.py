"""Map functions that select and order frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from h5video_data.errors import ArgumentError
from h5video_data.sampling.clips import Clip, Position

from .draws import random_starts, uniform
from .elements import (
    FRAMES,
    MapFunction,
    check_probability,
    deterministic,
    length,
    per_clip,
    random,
)
from .selection import Key, may_be_images

# These functions take clips of any rank; only the number of frames matters.
_ALIKE = {"frames": FRAMES}


def random_temporal_crop(
    num_frames: int, stride: int | Sequence[int] = 1, *, key: Key = None
) -> MapFunction:
    """Keeps equally spaced frames of each clip, from a random one on, optionally at random speed.

    If all samples need only these frames, `clip=Clip(num_frames, stride)` selects them when the
    samples are read, and reads nothing else.

    Args:
        num_frames: Number of frames to keep.
        stride: Distance between consecutive frames; or (smallest, largest): drawn for each clip.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...); needs `seeds`. It
        raises an ArgumentError if the clips have too few frames for the largest stride.
    """
    strides = (stride, stride) if isinstance(stride, (int, float, np.number)) else tuple(stride)
    kept = [Clip(num_frames, item) for item in strides]
    if len(strides) != 2 or strides[0] > strides[1]:
        raise ArgumentError(
            "`stride` must be a whole number, or two, the smaller one first. "
            f"Received: stride={stride!r}"
        )
    smallest, largest = strides

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        spare = _spare_frames(clips, kept[1])
        steps = smallest + random_starts(seeds, 2, largest - smallest)
        starts = random_starts(seeds, 1, spare + (largest - steps) * (num_frames - 1))
        return _frames(clips, starts[:, tf.newaxis] + steps[:, tf.newaxis] * tf.range(num_frames))

    return random(crop, key, alike=_ALIKE)


def temporal_subsample(
    num_frames: int, stride: int = 1, *, position: Position = "random", key: Key = None
) -> MapFunction:
    """Keeps equally spaced frames of each clip.

    This is the older form of `Clip` and of `random_temporal_crop`, which it calls.

    Args:
        num_frames: Number of frames to keep.
        stride: Distance between consecutive frames.
        position: `"random"`, drawn for each clip; `"center"`; or `"start"`.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...). It raises an
        ArgumentError if the clips have too few frames.
    """
    clip = Clip(num_frames, stride, position)
    if position == "random":
        return random_temporal_crop(num_frames, stride, key=key)

    def keep(clips: tf.Tensor) -> tf.Tensor:
        spare = _spare_frames(clips, clip)
        first = spare // 2 if position == "center" else 0
        return clips[:, first : first + clip.span : stride]

    return deterministic(keep, key, alike=_ALIKE)


def temporal_jitter(num_frames: int, *, key: Key = None) -> MapFunction:
    """Divides each clip into `num_frames` segments and keeps a random frame of each.

    This is the sparse sampling of temporal segment networks: the frames cover the whole clip, in
    order. If the frames do not divide evenly, some segments are one frame longer than others.

    Args:
        num_frames: Number of frames to keep.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...); needs `seeds`. It
        raises an ArgumentError if the clips have fewer frames.
    """
    shortest = Clip(num_frames)

    def jitter(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        frames = num_frames + _spare_frames(clips, shortest)
        bounds = np.arange(num_frames + 1, dtype=np.int32) * frames // num_frames
        offsets = random_starts(seeds, range(1, num_frames + 1), np.diff(bounds) - 1)
        return _frames(clips, bounds[:-1] + offsets)

    return random(jitter, key, alike=_ALIKE)


def random_reverse(*, probability: float = 0.5, key: Key = None) -> MapFunction:
    """Reverses the frames of clips, (batch, frames, ...).

    Args:
        probability: Probability for each clip.
        key: Names of the values that are clips, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    check_probability(probability)

    def reverse(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        _num_frames(clips)
        chosen = per_clip(uniform(seeds, 1) < probability, clips)
        return tf.where(chosen, tf.reverse(clips, [FRAMES]), clips)

    return random(reverse, key)


def _num_frames(clips: tf.Tensor) -> int:
    """Returns the number of frames of clips, which must have some."""
    if may_be_images(clips.shape):
        raise ArgumentError(
            "Clips must have an axis of frames, (batch, frames, ...). These look like images, "
            "(batch, channels, rows, columns) or channels last: leave this function out. Video "
            "without channels needs an axis of one channel, by `tf.expand_dims(x, 2)` in a map "
            f"function before this one. Received: clips of shape {clips.shape}"
        )
    return length(clips, FRAMES)


def _spare_frames(clips: tf.Tensor, kept: Clip) -> int:
    """Returns by how many frames the clips are longer than what is kept of them."""
    frames = _num_frames(clips)
    if frames < kept.span:
        raise ArgumentError(
            f"{kept.num_frames} frames, {kept.stride} apart, span {kept.span}. "
            f"Received: clips of {frames} frames"
        )
    return frames - kept.span


def _frames(clips: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Returns the frames with the given numbers, int32 (batch, num_frames), of each clip."""
    return tf.gather(clips, numbers, axis=FRAMES, batch_dims=1)
