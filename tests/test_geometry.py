"""The map functions that move, cut out, or cover pixels, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from geometry_helpers import boxes_of, ramps
from transform_helpers import (
    CHANNELS,
    COLUMNS,
    FRAMES,
    LAST,
    ROWS,
    apply,
    as_integers,
    call,
    correlation,
    data_formats,
    dtypes,
    make_clips,
    make_seeds,
    noise,
)

from h5video_data.errors import ArgumentError
from h5video_data.transforms import (
    channels_last,
    random_crop,
    random_erasing,
    random_flip,
    random_resized_crop,
    resize,
)


def flips_of(clips, flipped):
    """(n, 2): whether the rows, and whether the columns, of each clip are in reverse order."""
    found = []
    for clip, result in zip(clips, flipped, strict=True):
        matches = [
            (rows, columns)
            for rows in (False, True)
            for columns in (False, True)
            if np.array_equal(result, clip[:, :, :: 1 - 2 * rows, :: 1 - 2 * columns])
        ]
        assert len(matches) == 1
        found += matches
    return np.array(found)


def places_of(clips, cropped):
    """(n, 2): the row and the column where the box of each clip begins."""
    height, width = cropped.shape[-2:]
    found = []
    for clip, result in zip(clips, cropped, strict=True):
        _, _, row, column = (int(i[0]) for i in np.nonzero(clip == result[0, 0, 0, 0]))
        box = clip[:, :, row : row + height, column : column + width]
        np.testing.assert_array_equal(result, box)  # in all frames and channels
        found.append((row, column))
    return np.array(found)


@dtypes
def test_channels_last(dtype):
    clips = make_clips(4, dtype)
    result = channels_last()(tf.constant(clips))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, clips.transpose(LAST))


@data_formats
@dtypes
def test_random_flip(data_format, dtype):
    clips = make_clips(64, dtype)
    result = apply(
        random_flip(vertical=True, data_format=data_format),
        clips,
        data_format,
        seeds=make_seeds(64),
    )
    assert result.dtype == dtype
    assert len(np.unique(flips_of(clips, result), axis=0)) == 4


@data_formats
@pytest.mark.parametrize(
    ("horizontal", "vertical"), [(True, False), (False, True), (True, True), (False, False)]
)
def test_random_flip_swaps_only_what_it_should(data_format, horizontal, vertical):
    clips = make_clips(8)
    function = random_flip(
        horizontal=horizontal, vertical=vertical, probability=1, data_format=data_format
    )
    result = apply(function, clips, data_format, seeds=make_seeds(8))
    assert (flips_of(clips, result) == (vertical, horizontal)).all()


@data_formats
@dtypes
@pytest.mark.parametrize(
    ("height", "width"), [(2, 3), (ROWS, 1), (1, COLUMNS), (ROWS, COLUMNS)], ids=str
)
def test_random_crop(data_format, dtype, height, width):
    clips = make_clips(64, dtype)
    function = random_crop(height, width, data_format=data_format)
    result = apply(function, clips, data_format, seeds=make_seeds(64))
    assert result.dtype == dtype
    assert result.shape == (64, FRAMES, CHANNELS, height, width)
    rows, columns = places_of(clips, result).T
    assert set(rows) == set(range(ROWS - height + 1))
    assert set(columns) == set(range(COLUMNS - width + 1))


@pytest.mark.parametrize("probability", [0, 0.1, 0.5, 0.9, 1])
def test_flips_are_as_frequent_as_asked_for(probability):
    num = 20_000
    clips = np.broadcast_to(np.arange(4).reshape(1, 1, 1, 2, 2), (num, 1, 1, 2, 2))
    function = random_flip(vertical=True, probability=probability)
    result = function(tf.constant(clips), seeds=make_seeds(num)).numpy()
    corner = result[:, 0, 0, 0, 0]
    rows, columns = corner // 2, corner % 2
    for flipped in (rows, columns):
        assert flipped.mean() == pytest.approx(
            probability, abs=0 if probability in (0, 1) else 0.02
        )
    if 0 < probability < 1:
        assert correlation(rows, columns) < 0.03


def test_windows_are_spread_evenly():
    num = 24_000
    clips = np.broadcast_to(np.arange(48).reshape(1, 1, 1, 6, 8), (num, 1, 1, 6, 8))
    result = random_crop(1, 1)(tf.constant(clips), seeds=make_seeds(num)).numpy()
    counts = np.bincount(result.ravel(), minlength=48)
    assert counts.min() > 375  # 500 and six standard deviations of 22
    assert counts.max() < 625
    assert correlation(result.ravel() // 8, result.ravel() % 8) < 0.03


def test_boxes_are_drawn_from_scale_and_ratio():
    num, rows, columns = 4000, 100, 120
    function = random_resized_crop(2, 2, scale=(0.1, 0.4), ratio=(0.5, 2))
    boxes = boxes_of(
        function(tf.constant(ramps(num, rows, columns)), seeds=make_seeds(num)).numpy()
    )
    top, left, height, width = boxes.T
    assert top.min() == 0
    assert left.min() == 0
    assert (top + height).max() == rows
    assert (left + width).max() == columns
    area = height * width / (rows * columns)
    ratio = np.log2(width / height)
    # Sizes are rounded to whole pixels.
    for values, low, high in ((area, 0.095, 0.405), (ratio, -1.05, 1.05)):
        counts = np.histogram(values, bins=5, range=(low, high))[0]
        assert counts.sum() == num
        assert counts == pytest.approx([num / 5] * 5, rel=0.15)
    # Places are uniform in the room that the size leaves.
    place = top / np.maximum(rows - height, 1)
    assert place.mean() == pytest.approx(0.5, abs=0.02)
    for first, second in ((area, ratio), (place, area), (place, left / (columns - width))):
        assert correlation(first, second) < 0.06


def covered(clips, result):
    """(n, rows, columns): the pixels that have changed, in all frames and channels."""
    changed = clips != result
    assert (changed == changed[:, :1, :1]).all()
    return changed[:, 0, 0]


@data_formats
@dtypes
def test_random_erasing(data_format, dtype):
    num, rows, columns = 300, 30, 40
    clips = np.ones((num, FRAMES, CHANNELS, rows, columns), dtype)
    function = random_erasing(
        probability=0.7, scale=(0.1, 0.3), ratio=(0.5, 2), fill_value=7, data_format=data_format
    )
    result = apply(function, clips, data_format, seeds=make_seeds(num))
    assert result.dtype == dtype
    assert set(np.unique(result)) == {1, 7}
    boxes = covered(clips, result)
    chosen = boxes.any(axis=(1, 2))
    assert chosen.mean() == pytest.approx(0.7, abs=0.09)
    heights, widths = (boxes.any(axis=axis).sum(axis=1)[chosen] for axis in (2, 1))
    # They are rectangles: as many pixels as the rows and columns that they touch say.
    np.testing.assert_array_equal(heights * widths, boxes.sum(axis=(1, 2))[chosen])
    areas = heights * widths / (rows * columns)
    assert areas.min() > 0.09
    assert areas.max() < 0.31
    assert areas.mean() == pytest.approx(0.2, abs=0.015)  # which boxes are drawn has no say in it
    assert areas.std() > 0.04
    assert (widths / heights).min() < 0.7
    assert (widths / heights).max() > 1.4
    # They come up to every edge.
    assert boxes.any(axis=(0, 1)).all()
    assert boxes.any(axis=(0, 2)).all()


@data_formats
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_fill_value_for_each_channel(data_format, dtype):
    clips = noise((20, FRAMES, CHANNELS, ROWS, COLUMNS), dtype)
    fill = [300, 0.75, -4]
    function = random_erasing(
        probability=1, scale=(1, 1), ratio=(1.6, 1.6), fill_value=fill, data_format=data_format
    )
    result = apply(function, clips, data_format, seeds=make_seeds(20))
    expected = as_integers(np.array(fill), dtype)[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(result, np.broadcast_to(expected, result.shape))


def test_where_no_box_fits_nothing_is_erased():
    clips = make_clips(4)
    function = random_erasing(probability=1, scale=(1, 1), ratio=(50, 50))
    np.testing.assert_array_equal(call(function, tf.constant(clips)), clips)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: random_crop(0, 2), "height=0", id="an empty crop"),
        pytest.param(lambda: random_crop(2.5, 3), r"height=2\.5", id="half a row"),
        pytest.param(
            lambda: random_flip(probability=2), "Received: probability=2", id="too probable"
        ),
        pytest.param(
            lambda: random_flip(probability=float("nan")), "Received: probability=nan", id="nan"
        ),
        pytest.param(lambda: resize(2, -1), "width=-1", id="resize: below 0"),
        pytest.param(
            lambda: resize(2, 2, interpolation="cubic"),
            '"area", "bicubic", .* Received: interpolation=\'cubic\'',
            id="no such interpolation",
        ),
        pytest.param(
            lambda: random_resized_crop(2, 2, interpolation="x"),
            "Received: interpolation='x'",
            id="nor for crops",
        ),
        pytest.param(
            lambda: random_resized_crop(2, 2, scale=(0.5, 1.5)), r"scale=\(0\.5, 1\.5\)", id="scale"
        ),
        pytest.param(lambda: random_resized_crop(2, 2, scale=0.5), r"scale=0\.5", id="one scale"),
        pytest.param(lambda: random_resized_crop(0, 2), "height=0", id="resized to nothing"),
        pytest.param(
            lambda: random_resized_crop(2, 2, ratio=(2, 1)), "smaller one first", id="ratio"
        ),
        pytest.param(lambda: random_erasing(scale=(0, 1)), "scale.* above 0", id="no area"),
        pytest.param(lambda: random_erasing(ratio=(0, 1)), "ratio.* above 0", id="no width"),
        pytest.param(
            lambda: random_erasing(probability=-1), "Received: probability=-1", id="improbable"
        ),
        pytest.param(lambda: random_erasing(fill_value=[[1]]), r"\[\[1\]\]", id="a table to fill"),
        pytest.param(lambda: random_erasing(fill_value=np.nan), "nan", id="nothing to fill"),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(
            random_crop(ROWS + 1, 2), r"6 x 2 does not fit .* \(4, 2, 3, 5, 8\)", id="too high"
        ),
        pytest.param(random_crop(2, COLUMNS + 1), "2 x 9 does not fit", id="too wide"),
        pytest.param(
            random_erasing(fill_value=[1, 2]), r"each of the 3 channels .* 2 numbers", id="to fill"
        ),
    ],
)
def test_clips_that_do_not_go_with_the_arguments(function, message):
    with pytest.raises(ArgumentError, match=message):
        call(function, tf.constant(make_clips(4)))
