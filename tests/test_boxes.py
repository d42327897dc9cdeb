"""Random rectangles: inside of the frame, of the sizes asked for, and cut out pixel by pixel."""

import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import make_clips, make_seeds

from h5video_data.errors import ArgumentError
from h5video_data.transforms.boxes import (
    Boxes,
    check_boxes,
    for_each_box,
    inside,
    place_boxes,
    random_boxes,
)
from h5video_data.transforms.selection import axes_of

NUM = 2000


def test_boxes_of_given_sizes_are_at_every_place_that_there_is():
    height, width = tf.fill([NUM], 3), tf.fill([NUM], 6)
    boxes = place_boxes(make_seeds(NUM), 1, 5, 7, height, width)
    places = set(zip(boxes.top.numpy().tolist(), boxes.left.numpy().tolist(), strict=True))
    assert places == {(top, left) for top in range(3) for left in range(2)}


@pytest.mark.parametrize(("rows", "columns"), [(40, 60), (60, 40)])
def test_boxes_of_random_sizes(rows, columns):
    scale, ratio = (0.2, 0.6), (0.5, 2.0)
    boxes, found = random_boxes(make_seeds(NUM), rows, columns, scale, ratio)
    assert found.numpy().all()
    top, left, height, width = (values.numpy() for values in boxes)
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height <= rows).all()
    assert (left + width <= columns).all()
    share, shape = height * width / (rows * columns), width / height
    # Lengths are rounded to whole pixels.
    assert 0.18 < share.min() < 0.22
    assert 0.56 < share.max() < 0.62
    assert 0.45 < shape.min() < 0.55
    assert 1.9 < shape.max() < 2.2


def test_none_fits():
    _, found = random_boxes(make_seeds(9), 4, 400, (0.9, 1.0), (1.0, 1.0))
    assert not found.numpy().any()


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_what_is_in_a_box(data_format):
    clips = make_clips(3)
    axes = axes_of(data_format)
    if data_format == "channels_last":
        clips = clips.transpose(0, 1, 3, 4, 2)
    boxes = Boxes(*(tf.constant(v) for v in ([0, 2, 1], [5, 0, 3], [2, 2, 2], [3, 3, 3])))
    mask = inside(boxes, 5, 8, axes).numpy()
    cut = tf.function(lambda: for_each_box(tf.constant(clips), boxes, (2, 3), axes, tf.identity))()
    for number, (top, left) in enumerate([(0, 5), (2, 0), (1, 3)]):
        part = [number, ..., slice(top, top + 2), slice(left, left + 3)]
        part += [slice(None)] * (data_format == "channels_last")
        expected = np.zeros(np.broadcast_shapes(mask.shape, clips.shape), np.bool_)
        expected[tuple(part)] = True
        np.testing.assert_array_equal(np.broadcast_to(mask, clips.shape)[number], expected[number])
        np.testing.assert_array_equal(cut[number], clips[tuple(part)])


@pytest.mark.parametrize("name", ["scale", "ratio"])
def test_nothing_is_no_size(name):
    arguments = {"scale": (0.1, 0.2), "ratio": (1, 1), name: (0, 0.5)}
    with pytest.raises(ArgumentError, match=f"`{name}` must be above 0"):
        check_boxes(**arguments)
