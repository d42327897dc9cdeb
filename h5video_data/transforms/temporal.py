"""Map functions that choose among frames and order them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import Key

from .draws import random_starts, uniform
from .elements import (
    FRAMES,
    MapFunction,
    check_probability,
    check_whole,
    deterministic,
    length,
    per_clip,
    random,
)

# What these map functions are given may be of any rank; only the axis of the frames matters.
_ALIKE = {"frames": FRAMES}


def temporal_subsample(
    num_frames: int, stride: int = 1, *, position: str = "random", key: Key = None
) -> MapFunction:
    """Keeps `num_frames` frames of each clip, `stride` apart.

    Args:
        num_frames: Frames to keep.
        stride: Distance of one to the next, in frames.
        position: Where they start: `"random"` (anew for each clip), `"center"`, or `"start"`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...). It raises an
        ArgumentError if the clips have too few frames.
    """
    check_whole(num_frames=num_frames, stride=stride)
    if position not in ("random", "center", "start"):
        raise ArgumentError(
            f'`position` must be "random", "center" or "start". Received: {position!r}'
        )
    if position == "random":
        return random_temporal_crop(num_frames, stride, key=key)

    def keep(clips: tf.Tensor) -> tf.Tensor:
        room = _spare_frames(clips, num_frames, stride)
        start = room // 2 if position == "center" else 0
        return clips[:, start : start + (num_frames - 1) * stride + 1 : stride]

    return deterministic(keep, key, alike=_ALIKE)


def random_temporal_crop(
    num_frames: int, stride: int | Sequence[int] = 1, *, key: Key = None
) -> MapFunction:
    """Keeps `num_frames` frames of each clip from a random one on, at a random speed if wanted.

    Args:
        num_frames: Frames to keep.
        stride: Distance of one to the next, in frames; or (smallest, largest): drawn for each clip.
            With one stride, this is `temporal_subsample`.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...); needs `seeds`. It
        raises an ArgumentError if the clips have too few frames for the largest stride.
    """
    strides = (stride, stride) if isinstance(stride, (int, float, np.number)) else tuple(stride)
    for item in strides:
        check_whole(num_frames=num_frames, stride=item)
    if len(strides) != 2 or strides[0] > strides[1]:
        raise ArgumentError(
            "`stride` must be a whole number, or two, the smaller one first. "
            f"Received: stride={stride!r}"
        )
    smallest, largest = strides

    def crop(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        room = _spare_frames(clips, num_frames, largest)
        steps = smallest + random_starts(seeds, 2, largest - smallest)
        starts = random_starts(seeds, 1, room + (largest - steps) * (num_frames - 1))
        return _frames(clips, starts[:, tf.newaxis] + steps[:, tf.newaxis] * tf.range(num_frames))

    return random(crop, key, alike=_ALIKE)


def temporal_jitter(num_frames: int, *, key: Key = None) -> MapFunction:
    """Cuts each clip into `num_frames` stretches and keeps one frame of each, drawn at random.

    This is the sparse sampling of temporal segment networks: the frames cover the whole clip, in
    its order. Where the frames do not divide, some stretches are one frame longer than others.

    Args:
        num_frames: Frames to keep.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function from (batch, frames, ...) to (batch, num_frames, ...); needs `seeds`. It
        raises an ArgumentError if the clips have fewer frames.
    """
    check_whole(num_frames=num_frames)

    def jitter(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        frames = num_frames + _spare_frames(clips, num_frames, 1)
        bounds = np.arange(num_frames + 1, dtype=np.int32) * frames // num_frames
        offsets = random_starts(seeds, range(1, num_frames + 1), np.diff(bounds) - 1)
        return _frames(clips, bounds[:-1] + offsets)

    return random(jitter, key, alike=_ALIKE)


def random_reverse(*, probability: float = 0.5, key: Key = None) -> MapFunction:
    """Plays whole clips backwards: (batch, frames, ...).

    Args:
        probability: For each clip.
        key: Which values of the element, if not x itself: see `transforms`.

    Returns:
        A map function that keeps shape and dtype; needs `seeds`.
    """
    check_probability(probability)

    def reverse(clips: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        length(clips, FRAMES, rank=None)
        chosen = per_clip(uniform(seeds, 1) < probability, clips)
        return tf.where(chosen, tf.reverse(clips, [FRAMES]), clips)

    return random(reverse, key)


def _spare_frames(clips: tf.Tensor, num_frames: int, stride: int) -> int:
    """By how many frames the clips are longer than what is kept."""
    frames = length(clips, FRAMES, rank=None)
    span = (num_frames - 1) * stride + 1
    if frames < span:
        raise ArgumentError(
            f"{num_frames} frames, {stride} apart, span {span}. Received: clips of {frames} frames"
        )
    return frames - span


def _frames(clips: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """The frames of these numbers, int32 (batch, num_frames), of each clip."""
    return tf.gather(clips, numbers, axis=FRAMES, batch_dims=1)
