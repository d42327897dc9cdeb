"""Stages made of operations give what the methods of a dataset give."""

import numpy as np
import pytest
import tensorflow as tf

from h5video_data.tfdata.raw_stages import flat_map, map_inline, pairs


def elements(dataset):
    return [tf.nest.map_structure(lambda value: value.numpy(), each) for each in dataset]


def test_the_same_elements_as_map():
    numbers = tf.data.Dataset.range(20)
    spec = (tf.TensorSpec((), tf.int64), tf.TensorSpec((2,), tf.float32))

    def function(number):
        return number * number, tf.fill([2], tf.cast(number, tf.float32))

    mapped, expected = map_inline(numbers, function, spec), numbers.map(function)
    assert mapped.element_spec == spec == expected.element_spec
    assert len(mapped) == 20
    for found, wanted in zip(elements(mapped), elements(expected), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, found, wanted)


def test_several_tensors_and_what_a_function_captures():
    factor = tf.constant(3, tf.int64)
    items = tf.data.Dataset.from_tensor_slices({"a": [1, 2], "b": [10, 20]})
    mapped = map_inline(
        items,
        lambda a, b: (tf.cast(a, tf.int64) * factor, b),
        {"first": tf.TensorSpec((), tf.int64), "second": tf.TensorSpec((), tf.int32)},
    )
    assert elements(mapped) == [{"first": 3, "second": 10}, {"first": 6, "second": 20}]


def test_an_error_is_that_of_the_function():
    def inverse(number):
        return tf.debugging.check_numerics(1 / (2 - number), "divided by zero")

    numbers = iter(map_inline(tf.data.Dataset.range(3), inverse, tf.TensorSpec((), tf.float64)))
    assert [float(next(numbers)) for _ in range(2)] == [0.5, 1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="divided by zero"):
        next(numbers)


def test_the_dataset_lives_as_long_as_what_was_made_of_it():
    numbers = tf.data.Dataset.range(3)
    mapped = map_inline(numbers, lambda number: number, tf.TensorSpec((), tf.int64))
    assert mapped.source is numbers
    flat = flat_map(mapped, tf.data.Dataset.range, tf.TensorSpec((), tf.int64))
    assert flat.source is mapped
    assert pairs(flat, numbers).source == (flat, numbers)


def test_the_same_elements_as_flat_map():
    items = tf.data.Dataset.from_tensor_slices(([0, 3, 1], [10, 20, 30]))
    spec = {"value": tf.TensorSpec((2,), tf.int32)}

    def function(count, value):
        values = tf.fill([count, 2], value)
        return tf.data.Dataset.from_tensor_slices({"value": values})

    flat, expected = flat_map(items, function, spec), items.flat_map(function)
    assert flat.element_spec == spec == expected.element_spec
    for _ in range(2):
        for found, wanted in zip(elements(flat), elements(expected), strict=True):
            np.testing.assert_array_equal(found["value"], wanted["value"])


def test_pairs_as_zip_makes_them_and_the_first_one_is_asked_first():
    asked = []

    def note(name):
        def function(number):
            tf.py_function(lambda: asked.append(name), [], [])
            return number

        return map_inline(tf.data.Dataset.range(3), function, tf.TensorSpec((), tf.int64))

    both = pairs(note("first"), note("second").take(2))
    assert both.element_spec == (tf.TensorSpec((), tf.int64),) * 2
    assert elements(both) == [(0, 0), (1, 1)]
    assert asked == ["first", "second"] * 2 + ["first"]
