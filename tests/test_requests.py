"""Byte ranges into requests: what is merged and divided, and that each byte gets to its place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.planning.requests import copy_ranges, plan_requests


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], []),
        ([(5, 0)], []),
        ([(0, 10), (30, 10)], [(0, 40)]),
        ([(0, 10), (31, 10)], [(0, 10), (31, 41)]),
        ([(31, 10), (0, 10), (2, 3)], [(0, 10), (31, 41)]),
        ([(0, 10), (25, 0), (40, 10)], [(0, 10), (40, 50)]),
        ([(7, 1), (50, 1)], [(7, 8), (50, 51)]),
        ([(950, 90)], [(950, 1040)]),
        ([(7, 201)], [(7, 74), (74, 141), (141, 208)]),
        ([(0, 90), (100, 90)], [(0, 95), (95, 190)]),
    ],
    ids=[
        "none",
        "empty",
        "gap",
        "beyond_gap",
        "order",
        "empty_between",
        "a_byte",
        "far",
        "divided",
        "merged_and_divided",
    ],
)
def test_requests(ranges, expected):
    offsets, sizes = np.array(ranges, np.int64).reshape(-1, 2).T
    starts, stops = plan_requests(offsets, sizes, max_gap=20, max_bytes=100)
    assert [*zip(starts.tolist(), stops.tolist(), strict=True)] == expected


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100)), max_size=20),
    st.integers(-1, 50),
    st.integers(1, 200),
)
def test_each_byte_gets_to_its_place(ranges, max_gap, max_bytes):
    content = np.random.default_rng(0).integers(0, 255, 1000, np.uint8)
    offsets, sizes = np.array(ranges, np.int64).reshape(-1, 2).T
    places = np.cumsum(sizes) - sizes
    starts, stops = plan_requests(offsets, sizes, max_gap, max_bytes)
    assert (starts[1:] >= stops[:-1]).all()
    assert ((stops - starts) <= max_bytes).all()
    found = [content[a:b].tobytes() for a, b in zip(starts, stops, strict=True)]
    target = np.zeros(sizes.sum(), np.uint8)
    copy_ranges(found, starts, offsets, sizes, places, target)
    expected = [content[a : a + n] for a, n in ranges]
    np.testing.assert_array_equal(target, np.concatenate([*expected, np.zeros(0, np.uint8)]))
