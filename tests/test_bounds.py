"""Starts, lengths, ends and ids of recordings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.errors import FileFormatError
from h5video_data.sampling.bounds import read_bounds

LENGTHS = [3, 5, 2, 7]
EDGES = [0, 3, 8, 10, 17]
FORMS = {
    "starts": EDGES[:-1],
    "lengths": LENGTHS,
    "ends": EDGES[1:],
    "ids": np.repeat([4, 9, 2, 0], LENGTHS),
}


def read(values, num_rows=17, kind=None):
    return read_bounds(np.asarray(values), num_rows, "a.h5: 'ep'", kind).tolist()


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("dtype", ["i8", "u4", "f4", "f8"])
def test_each_form_is_told_from_its_values(kind, dtype):
    values = np.asarray(FORMS[kind]).astype(dtype)
    assert read(values) == read(values, kind=kind) == EDGES
    assert read(values[:, np.newaxis]) == EDGES


def test_starts_may_end_with_the_number_of_rows():
    assert read(EDGES) == EDGES


def test_ids_may_be_strings():
    assert read(np.repeat([b"run", b"walk", b"a", b"sit"], LENGTHS)) == EDGES
    assert read(np.repeat(np.array(["run", "walk", "a", "sit"], object), LENGTHS)) == EDGES


def test_recordings_without_rows():
    assert read([3, 0, 5], 8) == [0, 3, 3, 8]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_generated_recordings(lengths, data):
    num_rows = sum(lengths)
    edges = np.append(0, np.cumsum(lengths))
    forms = {
        "starts": edges[:-1],
        "lengths": np.array(lengths),
        "ends": edges[1:],
        "ids": np.repeat(np.random.default_rng(0).permutation(len(lengths)), lengths),
    }
    kind = data.draw(st.sampled_from(list(forms)))
    assert read(forms[kind], num_rows, kind) == edges.tolist()
    try:
        found, reason = read(forms[kind], num_rows), ""
    except FileFormatError as error:
        found, reason = None, str(error)
    assert found == edges.tolist() or "Say which" in reason  # two readings that differ


def test_two_readings_that_differ_are_an_error():
    values = [0, 3, 5]  # starts, or lengths, of 8 rows
    with pytest.raises(FileFormatError, match=r"may be starts or lengths .*bounds=\(.starts."):
        read(values, 8)
    assert read(values, 8, "starts") == [0, 3, 5, 8]
    assert read(values, 8, "lengths") == [0, 0, 3, 8]


def test_starts_of_recordings_of_one_row_may_be_ids():
    with pytest.raises(FileFormatError, match="may be starts or ids"):
        read([0, 1, 3], 3)


def test_long_recordings():
    assert read([0, 200], 5000) == [0, 200, 5000]
    assert read([0, 1 << 40], 1 << 52) == [0, 1 << 40, 1 << 52]


def test_a_sum_of_lengths_beyond_64_bits():
    with pytest.raises(FileFormatError, match="as lengths: their sum is 18446744073709551616"):
        read([1 << 52] * 4096 + [5], 5)


def test_two_readings_that_agree_are_none():
    assert read([8], 8) == [0, 8]  # one length, one end
    assert read(np.arange(8), 8) == list(range(9))  # starts, or ids


@pytest.mark.parametrize(
    ("values", "reasons"),
    [
        ([0, 9, 4], ["as starts: they do not ascend", "as lengths: their sum is 13"]),
        ([0, 9, 4], ["as ends: they do not ascend from 1", "as ids: there are 3"]),
        ([2, 5], ["as starts: the first one is 2, not 0", "as ends: the last one is 5"]),
        ([0, 30], ["as starts: the last one is 30", "as ends: they do not ascend from 1"]),
        ([20, -3], ["as lengths: some are negative"]),
        ([0.5, 3.0], ["as starts: they are not whole numbers"]),
        ([np.nan, 17.0], ["as lengths: they are not whole numbers"]),
        ([1e300, 17.0], ["as lengths: they are not whole numbers"]),
        ([1, 1, 2, 2, 1] + [3] * 12, ["as ids: 1 comes again after other ids"]),
        ([np.nan] * 17, ["as ids: some are NaN"]),
    ],
)  # fmt: skip
def test_bounds_that_do_not_fit(values, reasons):
    with pytest.raises(FileFormatError, match=r"^a.h5: 'ep': .* 17 rows .*Received: ") as caught:
        read(values)
    for reason in reasons:
        assert reason in str(caught.value)


def test_rows_that_are_no_ids():
    compound = np.zeros(17, [("a", "i4"), ("b", "f4")])
    vlen = np.empty(17, object)
    vlen[:] = [np.arange(3)] * 17
    for values, reason in ((compound, "as ids: they are of dtype"), (vlen, "cannot be compared")):
        with pytest.raises(FileFormatError, match=reason):
            read(values)


@pytest.mark.parametrize("kind", ["starts", "lengths", "ends", "ids"])
def test_values_of_another_kind_than_said(kind):
    other = {"starts": "ends", "lengths": "starts", "ends": "ids", "ids": "lengths"}[kind]
    with pytest.raises(FileFormatError, match=f"as {kind}: ") as caught:
        read(FORMS[other], kind=kind)
    assert f"as {other}" not in str(caught.value)


@pytest.mark.parametrize("values", [[], [[1, 2], [3, 4]], 5])
def test_shapes_that_are_no_bounds(values):
    with pytest.raises(FileFormatError, match=r"must have the shape \(recordings,\)"):
        read(values)


@pytest.mark.parametrize(
    ("values", "num_rows", "kind", "edges"),
    [
        ([0, 4, 4, 7], 9, None, [0, 4, 4, 7, 9]),
        ([0, 0, 4], 9, "starts", [0, 0, 4, 9]),
        ([4, 4, 9], 9, None, [0, 4, 4, 9]),
        ([0, 4, 9, 9], 9, "ends", [0, 0, 4, 9, 9]),
        ([0, 0, 1], 3, None, [0, 2, 3]),  # ids, as ever
        ([1, 1, 3], 3, None, [0, 2, 3]),
        ([0, 0, 3], 3, "lengths", [0, 0, 0, 3]),
    ],
)
def test_starts_and_ends_of_recordings_without_rows(values, num_rows, kind, edges):
    assert read(values, num_rows, kind) == edges


def test_a_last_start_that_comes_twice_may_be_the_end():
    message = "as starts: some come twice, and the last one, 9, may be the end or an empty"
    with pytest.raises(FileFormatError, match=message):
        read([0, 4, 9, 9], 9, "starts")


@pytest.mark.parametrize(
    ("values", "num_rows", "kind"),
    [
        ([0, 0, 9], 5, "starts"),
        ([-1, -1, 5], 5, "ends"),
        ([-1, 0, 0, 5], 5, "ends"),
        ([0, 0, 4], 5, "ends"),
    ],
)
def test_recordings_without_rows_are_within_the_rows(values, num_rows, kind):
    with pytest.raises(FileFormatError, match=f"as {kind}: "):
        read(values, num_rows, kind)


def test_the_end_may_not_come_after_a_start_that_comes_twice():
    with pytest.raises(FileFormatError, match="may be the end or an empty recording"):
        read([0, 0, 5], 5, "starts")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([2, 5, 9, 4], r"int64 \(4,\): 2, 5, 9, 4"),
        ([2, 5, 9, 4, 3], r"int64 \(5,\): 2, 5, 9, 4, ..."),
    ],
)
def test_a_message_shows_the_first_values(values, shown):
    with pytest.raises(FileFormatError, match=f"Received: {shown}$"):
        read(values)
