"""What the map functions share: which values are changed, and how values become a dtype."""

import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import make_seeds

from h5video_data.errors import ArgumentError
from h5video_data.transforms.elements import (
    FRAMES,
    as_dtype,
    as_float,
    deterministic,
    length,
    per_channel,
    per_clip,
    random,
)
from h5video_data.transforms.selection import axes_of

CLIPS = tf.zeros((2, 4, 3, 5, 6))


def add_one(clips):
    return clips + 1


def add_seeds(clips, seeds):
    return clips + tf.cast(per_clip(seeds[:, 0], clips), clips.dtype)


@pytest.mark.parametrize(
    ("element", "key", "expected"),
    [
        ((1,), None, 2),
        ((1, 5), None, (2, 5)),
        ((1, 5, 9), "y", (1, 6, 9)),
        ((1, 5), ("x", "y"), (2, 6)),
        (({"a": 1, "b": 2}, 5), "b", ({"a": 1, "b": 3}, 5)),
        (({"a": 1, "b": 2}, {"c": 3}), ("a", "c"), ({"a": 2, "b": 2}, {"c": 4})),
    ],
    ids=str,
)
def test_only_what_the_key_names_is_changed(element, key, expected):
    given = tf.nest.map_structure(tf.constant, element)
    found = deterministic(add_one, key)(*given)
    assert tf.nest.map_structure(lambda value: value.numpy(), found) == expected
    assert tf.nest.map_structure(lambda value: value.numpy(), given) == element


def test_a_random_change_is_the_same_for_all_values():
    seeds = make_seeds(2)
    x, y = random(add_seeds, ("x", "y"))(tf.zeros((2, 3)), tf.zeros((2, 1, 1)), seeds=seeds)
    np.testing.assert_array_equal(x[:, 0], y[:, 0, 0])
    np.testing.assert_array_equal(x[:, 0], tf.cast(seeds[:, 0], tf.float32))


def test_a_change_for_each_value_and_its_name():
    function = deterministic([add_one, tf.negative], ("x", "y"))
    assert function.__name__ == "add_one"
    assert [value.numpy() for value in function(tf.constant(1), tf.constant(5))] == [2, -5]


def test_clips_that_must_be_alike():
    function = deterministic(add_one, ("x", "y"), alike={"frames": FRAMES})
    function(CLIPS, tf.zeros((2, 4)))
    with pytest.raises(ArgumentError, match="frames"):
        function(CLIPS, CLIPS[:, 1:])


def test_a_length_that_is_not_known():
    assert length(CLIPS, 3) == 5

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, None, 3, 5, 6))])
    def look(clips):
        assert length(clips, 4) == 6
        with pytest.raises(ArgumentError, match="axis 1 must be known"):
            length(clips, FRAMES)

    look.get_concrete_function()


@pytest.mark.parametrize(
    ("data_format", "shape"),
    [("channels_first", (1, 1, 3, 1, 1)), ("channels_last", (1, 1, 1, 1, 3))],
)
def test_numbers_for_each_channel(data_format, shape):
    axes = axes_of(data_format)
    clips = CLIPS if data_format == "channels_first" else tf.zeros((2, 4, 5, 6, 3))
    assert per_channel("mean", np.arange(3.0), clips, axes).shape == shape
    assert per_channel("mean", np.array(7.0), clips, axes) == 7
    with pytest.raises(ArgumentError, match="`mean` must be a number, or one for each of the 3"):
        per_channel("mean", np.arange(4.0), clips, axes)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint8", [-0.6, 0.5, 1.5, 254.6, 300], [0, 0, 2, 255, 255]),
        ("int8", [-200, 126.4, 200], [-128, 126, 127]),
        ("float16", [0.5, 7], [0.5, 7]),
        ("bool", [0.4, 0.5, 1], [False, True, True]),
    ],
)
def test_integers_are_rounded_and_do_not_wrap(dtype, values, expected):
    found = as_dtype(tf.constant(values, tf.float32), tf.as_dtype(dtype))
    assert found.dtype == dtype
    assert found.numpy().tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "float32"), ("float16", "float32"), ("int32", "float64"), ("float64", "float64")],
)
def test_what_is_calculated_in_holds_all_values(dtype, expected):
    assert as_float(tf.zeros(1, dtype)).dtype == expected
