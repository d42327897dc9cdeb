"""Splits of sample numbers: what counts as a label, and the same split from the same values."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.errors import ArgumentError
from h5video_data.sampling.split_indices import (
    chosen_samples,
    class_numbers,
    split_indices,
    split_runs,
    strata,
)


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


@pytest.mark.parametrize(
    "indices",
    [
        [7, 2, 5],
        (7, 2, 5),
        np.array([7, 2, 5], np.uint8),
        np.array([7, 2, 5], ">i4"),
    ],
    ids=["list", "tuple", "bytes", "big-endian"],
)
def test_chosen_samples_keep_their_order(indices):
    found = chosen_samples(indices, 8)
    assert (found.tolist(), found.dtype) == ([7, 2, 5], np.int64)


def test_a_choice_may_be_all_a_range_or_a_mask():
    assert chosen_samples(None, 3).tolist() == [0, 1, 2]
    assert chosen_samples(range(5, 0, -2), 6).tolist() == [5, 3, 1]
    assert chosen_samples([False, True, True], 3).tolist() == [1, 2]
    given = np.array([2, 1])
    chosen_samples(given, 3)[0] = 0
    assert given.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "at least one sample. Received: an empty array"),
        ([False] * 4, "a mask without any True"),
        ([True] * 3, r"for each of the 4 samples. Received: bool values of shape \(3,\)"),
        ([0, 2, 2], "each sample once. .* Received: 2 2 times"),
        ([0, 1, 1, 0], "a mask must be of dtype bool"),
        ([0, 2, 2, 1], r"each sample once\. \(A sampler"),
        ([1, 1], r"each sample once\. \(A sampler"),
        ([-1, 2], "from 0 to 3.*do not count from the end. Received: from -1 to 2"),
        ([0, 4], "from 0 to 3, the numbers of the samples. Received: from 0 to 4"),
        ([0.0, 1.0], r"integers \(n,\).* Received: float64 values of shape \(2,\)"),
        (["a"], "Received: <U1 values"),
        ([[0], [1]], r"Received: int64 values of shape \(2, 1\)"),
        (np.where([True, False, True, True]), r"`np.flatnonzero`.* of shape \(1, 3\)"),
        ([[0], [1, 2]], "must be one array"),
        (3, r"of shape \(\)"),
        ({1, 2}, "Received: object values"),
        ([None], "Received: object values"),
        (np.ma.array([0, 1], mask=[True, False]), "no masked values. Received: masked_array"),
    ],
    ids=str,
)
def test_what_is_no_choice(indices, message):
    with pytest.raises(ArgumentError, match=message):
        chosen_samples(indices, 4)


@pytest.mark.parametrize(
    "values",
    [
        [5, -1, 5, 7],
        [1.0, 0.0, 1.0, 9.0],
        ["b", "a", "b", "c"],
        np.array([b"b", b"a", b"b", b"c"], object),
        [[1], [0], [1], [2]],
        [[0, 2, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]],
    ],
    ids=["numbers", "floats", "strings", "bytes", "a column", "one-hot"],
)
def test_classes_may_be_any_values(values):
    assert strata(values).tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1, 1], "not all of them whole numbers"),
        ([np.nan, 1, 1], "not all of them whole numbers"),
        (
            [[1, 1], [1, 0]],
            r"values of shape \(2, 2\), some rows without exactly one non-zero value",
        ),
        ([[np.nan, 1], [1, 0]], "some rows without exactly one non-zero value"),
        (np.zeros((3, 2, 2)), r"shape \(3, 2, 2\), which name no classes"),
        ([1j, 1j], "which name no classes"),
        (["a", "b", "c"], "3 different values for 3 samples"),
        (["a", "b"], "2 different values for 2 samples"),
        (np.array(["a", 1, "a"], object), "all numbers or all strings"),
        (np.ma.array([1, 1, 2], mask=[False, True, False]), "no masked values"),
    ],
    ids=[
        "halves",
        "nan",
        "several",
        "nan in a row",
        "frames",
        "complex",
        "ids",
        "two ids",
        "mixed",
        "masked",
    ],
)
def test_what_names_no_classes(values, message):
    with pytest.raises(ArgumentError, match=message):
        strata(values)


@given(
    runs=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=2, max_size=30).filter(
        lambda runs: len({number for number, _ in runs}) > 1
    ),
    fraction=st.floats(0.01, 0.99),
    seed=st.none() | st.integers(0, 99),
)
def test_a_split_of_runs_is_that_of_all_their_samples(runs, fraction, seed):
    ids, lengths = np.array(runs).T
    of_samples = np.repeat(ids, lengths)
    expected = split_indices(len(of_samples), fraction, seed=seed, ids=of_samples)
    found = split_runs(ids, lengths, fraction, seed=seed)
    for side, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(side, wanted)
        assert side.dtype == np.int64


def test_one_sample_is_one_class():
    assert strata([3]).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "first", "checksum"),
    [
        ({}, [0, 4, 11, 12, 14], 2793868599),
        ({"labels": np.arange(1000) ** 2 % 31}, [0, 4, 12, 14, 15], 2299592262),
        ({"ids": np.arange(1000) ** 2 % 53}, [0, 3, 9, 10, 14], 2415948127),
    ],
    ids=["samples", "labels", "ids"],
)
def test_splits_stay_what_they_are(arguments, first, checksum):
    # Or samples of training would be samples of validation, with a later version.
    _, validation = split_indices(1000, 0.23, seed=5, **arguments)
    found = validation[:5].tolist(), zlib.crc32(validation.astype("<i8"))
    assert found == (first, checksum)


@pytest.mark.parametrize("ids", [3, [1, 2, 3], [[1, 2], [2, 1], [3, 1], [4, 4]]])
def test_there_is_an_id_for_each_sample(ids):
    with pytest.raises(ArgumentError, match="There must be ids for each of the 4 samples"):
        split_indices(4, 0.5, ids=np.array(ids))


@pytest.mark.parametrize("labels", [[1, 2, 3], [[1, 0], [0, 1]]])
def test_there_is_a_label_for_each_sample(labels):
    with pytest.raises(ArgumentError, match="There must be labels for each of the 4 samples"):
        split_indices(4, 0.5, labels=np.array(labels))


def test_a_split_of_runs_of_one_id():
    with pytest.raises(ArgumentError, match=r"ids or more\. Received: 1 in 7 samples"):
        split_runs(np.array([4, 4]), np.array([3, 4]), 0.5)
