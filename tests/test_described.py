"""A dataset with a `repr` and a length of its own is otherwise the other one."""

import numpy as np
import tensorflow as tf

from h5video_data.tfdata.described import DescribedDataset


def described(num_elements=None):
    dataset = tf.data.Dataset.range(6).filter(lambda i: i % 2 == 0)
    options = tf.data.Options()
    options.deterministic = True
    dataset = dataset.with_options(options)
    return DescribedDataset(dataset, lambda spec: f"even {spec.dtype.name}", num_elements)


def test_elements_spec_and_options_are_those_of_the_other():
    dataset = described()
    assert [*dataset.as_numpy_iterator()] == [0, 2, 4]
    assert dataset.element_spec == tf.TensorSpec((), tf.int64)
    assert dataset.options().deterministic is True
    assert isinstance(dataset, tf.data.Dataset)


def test_repr():
    assert repr(described()) == "even int64"
    assert "even" not in repr(described().map(lambda i: i))


def test_cardinality_is_known_if_it_was_said():
    assert described().cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert described(3).cardinality() == 3
    assert len(described(3)) == 3


def test_later_stages_see_its_elements():
    batches = [*described().batch(2).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(batches), [0, 2, 4])
