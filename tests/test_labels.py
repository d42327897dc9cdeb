"""`one_hot`: class numbers as losses and mixing want them."""

import h5py
import numpy as np
import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.transforms import mixup, one_hot

CLASSES = [3, 0, 2, 2]
X = tf.zeros((4, 2))


@pytest.mark.parametrize("shape", [(4,), (4, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "uint64", "float32"])
def test_class_numbers(dtype, shape):
    x, y, w = one_hot(5)(X, tf.constant(np.reshape(CLASSES, shape), dtype), tf.ones(4))
    assert y.dtype == tf.float32
    np.testing.assert_array_equal(y, np.eye(5)[CLASSES])
    assert x is X
    assert w.shape == (4,)


def test_names():
    y = {"action": tf.constant(CLASSES), "boxes": tf.zeros((4, 4))}
    _, found = one_hot(4, key="action")(X, y)
    np.testing.assert_array_equal(found["action"], np.eye(4)[CLASSES])
    assert found["boxes"] is y["boxes"]
    _, both = one_hot(4, key=("a", "b"))(X, {"a": y["action"], "b": y["action"] // 2})
    np.testing.assert_array_equal(both["b"], np.eye(4)[np.array(CLASSES) // 2])
    with pytest.raises(ArgumentError, match=r"must be one of \['action', 'boxes', 'x'\].*key='y'"):
        one_hot(4)(X, y)
    assert one_hot(4).__name__ == "one_hot"


@pytest.mark.parametrize(
    "wrong",
    [[0, 4, 1, 9], [0, -1, 2, 3], [0.0, 1.5, 2, 3], [0, np.nan, 1, 2], [np.inf, 0, 1, 2]],
    ids=str,
)
@pytest.mark.parametrize("is_graph", [False, True])
def test_numbers_that_are_no_classes(wrong, is_graph):
    function = tf.function(one_hot(4), autograph=False) if is_graph else one_hot(4)
    bad = next(value for value in wrong if value not in (0, 1, 2, 3))
    message = rf"(?s)Class numbers must be whole, from 0 to 3\. Received:.*{bad:g}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        function(X, tf.constant(wrong))


@pytest.mark.parametrize("shape", [(4, 5), (4, 2, 1), (), (4, 1, 1)], ids=str)
def test_shapes_that_are_no_class_numbers(shape):
    with pytest.raises(
        ArgumentError, match=r"of shape \(batch,\) or \(batch, 1\).*one-hot already"
    ):
        one_hot(5)(X, tf.zeros(shape))


@pytest.mark.parametrize("number", [0, 2.5, None, True], ids=str)
def test_numbers_of_classes_that_are_none(number):
    with pytest.raises(ArgumentError, match="`num_classes` must be a whole number, 1 or more"):
        one_hot(number)


def test_from_a_file_into_mixup(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.random.default_rng(0).random((12, 2, 1, 4, 4), np.float32)
        file["Y"] = np.arange(12) % 4
    dataset = h5v.video_dataset_from_hdf5(
        tmp_path / "a.h5", batch_size=6, seed=0, map_fn=[one_hot(4), mixup(1.0)]
    )
    assert dataset.element_spec[1] == tf.TensorSpec((6, 4), tf.float32)
    total = sum(y.numpy().sum(axis=0) for _, y in dataset)
    np.testing.assert_allclose(total.sum(), 12, rtol=1e-6)
