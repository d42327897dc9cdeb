"""Splits of sample numbers: what counts as a label, and the same split from the same values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.errors import ArgumentError
from h5video_data.sampling.split_indices import class_numbers, split_indices


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    fraction=st.floats(0.05, 0.95),
    seed=st.none() | st.integers(0, 5),
)
def test_labels_may_be_written_in_any_way(labels, fraction, seed):
    numbers = np.array(labels)
    if not int(fraction * len(labels)) > 0:
        return
    expected = split_indices(len(labels), fraction, seed=seed, labels=numbers)
    one_hot = 3.5 * np.eye(5)[numbers]
    for same in (numbers.astype("f4"), numbers[:, np.newaxis], one_hot, one_hot.astype(">i2")):
        for found, wanted in zip(
            split_indices(len(labels), fraction, seed=seed, labels=same), expected, strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_a_seed_that_is_none_is_zero():
    for found, wanted in zip(split_indices(50, 0.3), split_indices(50, 0.3, seed=0), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_sides_are_ascending_numbers():
    training, validation = split_indices(100, 0.25, seed=1)
    assert (training.dtype, validation.dtype) == (np.int64, np.int64)
    assert len(validation) == 25
    assert sorted([*training, *validation]) == list(range(100))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 0.5, 1]), "not all of them whole"),
        (np.array([0, np.nan, 1]), "not all of them whole"),
        (np.array(["a", "b", "c"]), "class numbers"),
        (np.eye(3)[[0, 1, 1]] * [1, 0, 1], "without exactly one non-zero value"),
        (np.ones((3, 2)), "without exactly one non-zero value"),
        (np.arange(4), "each of the 3 samples"),
        (np.eye(4), "each of the 3 samples"),
    ],
    ids=["halves", "nan", "strings", "none of a row", "all of a row", "too many", "too many rows"],
)
def test_what_is_no_class(labels, message):
    with pytest.raises(ArgumentError, match=message):
        class_numbers(labels, 3)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, "0.3", None, float("nan")])
def test_what_is_no_fraction(fraction):
    with pytest.raises(ArgumentError, match="`validation_split` must be"):
        split_indices(10, fraction)
