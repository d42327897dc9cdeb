"""The map functions that choose among frames, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import FRAMES, call, correlation, make_clips, make_seeds

from h5video_data.errors import ArgumentError
from h5video_data.transforms import (
    random_reverse,
    random_temporal_crop,
    temporal_jitter,
    temporal_subsample,
)


def frames_of(num, frames=7):
    """Clips (num, frames, 1, 1, 2) that hold the number of the frame."""
    return np.broadcast_to(np.arange(frames).reshape(1, -1, 1, 1, 1), (num, frames, 1, 1, 2))


@pytest.mark.parametrize(
    ("num_frames", "stride", "start", "center"),
    [
        pytest.param(3, 1, [0, 1, 2], [2, 3, 4], id="neighbours"),
        pytest.param(2, 3, [0, 3], [1, 4], id="one to spare on either side"),
        pytest.param(3, 3, [0, 3, 6], [0, 3, 6], id="they just fit"),
        pytest.param(1, 9, [0], [3], id="a single one"),
        pytest.param(7, 1, [*range(7)], [*range(7)], id="all"),
    ],
)
def test_temporal_subsample(num_frames, stride, start, center):
    clips = tf.constant(frames_of(200))
    for position, expected in (("start", start), ("center", center)):
        result = temporal_subsample(num_frames, stride, position=position)(clips)
        np.testing.assert_array_equal(result, frames_of(200)[:, expected])
    result = temporal_subsample(num_frames, stride)(clips, seeds=make_seeds(200)).numpy()
    first = result[:, 0, 0, 0, 0]
    # The frames of a clip, each whole; starts that cover all the room there is.
    offsets = np.arange(num_frames) * stride
    np.testing.assert_array_equal(
        result, np.broadcast_to((first[:, None] + offsets)[..., None, None, None], result.shape)
    )
    assert set(first) == set(range(7 - (num_frames - 1) * stride))


def test_starts_are_spread_evenly():
    num = 7000
    result = temporal_subsample(1)(tf.constant(frames_of(num)), seeds=make_seeds(num))
    counts = np.bincount(result[:, 0, 0, 0, 0], minlength=7)
    assert (abs(counts - 1000) < 180).all()


def numbers_of(result):
    """(n, frames): the numbers of the frames, of clips made by frames_of."""
    numbers = np.asarray(result)[:, :, 0, 0, 0]
    whole = np.broadcast_to(numbers[..., np.newaxis, np.newaxis, np.newaxis], result.shape)
    np.testing.assert_array_equal(result, whole)
    return numbers


def test_temporal_subsample_is_an_alias():
    clips, seeds = tf.constant(frames_of(100)), make_seeds(100)
    np.testing.assert_array_equal(
        random_temporal_crop(3, 2)(clips, seeds=seeds),
        temporal_subsample(3, 2)(clips, seeds=seeds),
    )


def test_strides_are_drawn_for_each_clip():
    num = 9000
    result = random_temporal_crop(3, (1, 3))(tf.constant(frames_of(num, 9)), seeds=make_seeds(num))
    numbers = numbers_of(result)
    steps = np.diff(numbers, axis=1)
    assert (steps[:, 0] == steps[:, 1]).all()
    assert np.bincount(steps[:, 0])[1:] == pytest.approx([3000] * 3, abs=270)
    for step in (1, 2, 3):
        # All the starts that this stride leaves room for, each as often as the others.
        starts = numbers[steps[:, 0] == step, 0]
        counts = np.bincount(starts, minlength=9 - 2 * step)
        assert len(counts) == 9 - 2 * step
        assert counts == pytest.approx(np.full(len(counts), len(starts) / len(counts)), rel=0.2)


@pytest.mark.parametrize(
    ("num_frames", "stretches"),
    [
        pytest.param(4, [(0, 2), (2, 4), (4, 6), (6, 8)], id="all alike"),
        pytest.param(3, [(0, 2), (2, 5), (5, 8)], id="one shorter"),
        pytest.param(1, [(0, 8)], id="a single one"),
        pytest.param(8, [(i, i + 1) for i in range(8)], id="all frames"),
    ],
)
def test_temporal_jitter(num_frames, stretches):
    num = 3000
    result = temporal_jitter(num_frames)(tf.constant(frames_of(num, 8)), seeds=make_seeds(num))
    numbers = numbers_of(result).T
    assert len(numbers) == num_frames
    for chosen, (first, end) in zip(numbers, stretches, strict=True):
        counts = np.bincount(chosen, minlength=end)
        assert not counts[:first].any()
        assert len(counts) == end
        assert counts[first:] == pytest.approx(np.full(end - first, num / (end - first)), rel=0.25)
    if num_frames == 4:
        assert all(correlation(numbers[i], numbers[j]) < 0.08 for i in range(4) for j in range(i))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_random_reverse(probability, dtype):
    num = 2000
    clips = frames_of(num, 4).astype(dtype)
    result = random_reverse(probability=probability)(tf.constant(clips), seeds=make_seeds(num))
    assert result.dtype == dtype
    numbers = numbers_of(result)
    reversed_ = numbers[:, 0] == 3
    expected = np.where(reversed_[:, np.newaxis], [3, 2, 1, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(numbers, expected)
    assert reversed_.mean() == pytest.approx(probability, abs=0.05 if probability % 1 else 0)


def test_samples_that_are_no_clips():
    # Features over time: (batch, frames, features).
    features = tf.reshape(tf.range(4 * 5 * 2), (4, 5, 2))
    np.testing.assert_array_equal(
        call(random_reverse(probability=1), features), features.numpy()[:, ::-1]
    )
    assert call(temporal_jitter(2), features).shape == (4, 2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda: temporal_subsample(0), r"1 or more\. Received: num_frames=0", id="no frames"
        ),
        pytest.param(lambda: temporal_subsample(2, -1), "stride=-1", id="a negative stride"),
        pytest.param(lambda: temporal_subsample(2.5), r"num_frames=2\.5", id="half a frame"),
        pytest.param(
            lambda: temporal_subsample(2, position="middle"),
            r'"random", "center" or "start"\. Received: position=\'middle\'',
            id="no such position",
        ),
        pytest.param(lambda: random_temporal_crop(0), "num_frames=0", id="crop: no frames"),
        pytest.param(lambda: random_temporal_crop(2, 0), "stride=0", id="crop: no stride"),
        pytest.param(lambda: random_temporal_crop(2, 1.5), r"stride=1\.5", id="half a stride"),
        pytest.param(lambda: random_temporal_crop(2, (2, 1)), r"stride=\(2, 1\)", id="descending"),
        pytest.param(lambda: random_temporal_crop(2, (1, 2, 3)), "or two", id="three strides"),
        pytest.param(lambda: random_temporal_crop(2, ()), "or two", id="no strides"),
        pytest.param(lambda: temporal_jitter(0), "num_frames=0", id="jitter: no frames"),
        pytest.param(
            lambda: random_reverse(probability=-1), "Received: probability=-1", id="improbable"
        ),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(temporal_subsample(2, 3), id="random"),
        pytest.param(temporal_subsample(2, 3, position="center"), id="center"),
        pytest.param(temporal_subsample(4, position="start"), id="start"),
        pytest.param(random_temporal_crop(2, (1, 3)), id="the largest stride"),
        pytest.param(temporal_jitter(4), id="jitter"),
    ],
)
def test_clips_of_too_few_frames(function):
    with pytest.raises(ArgumentError, match=rf"span 4\. Received: clips of {FRAMES} frames"):
        call(function, tf.constant(make_clips(4)))
