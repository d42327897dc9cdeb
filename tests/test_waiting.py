"""Waits of steps, and arithmetic of intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.callbacks.waiting import Intervals, waits_of_steps


@pytest.mark.parametrize(
    ("begin", "end", "left", "expected"),
    [
        pytest.param(10, 15, [12], [(10, 12)], id="a step that waits"),
        pytest.param(10, 15, [9], [], id="its element was there"),
        pytest.param(10, 15, [10], [], id="just then"),
        pytest.param(10, 15, [16], [(10, 15)], id="not longer than the step"),
        pytest.param(10, 16, [1, 2, 3], [], id="three steps that need not wait"),
        pytest.param(0, 9, [0, 5, 5], [(2, 5)], id="the second of three waits"),
        pytest.param(0, 9, [1, 4, 7], [(0, 1), (3, 4), (6, 7)], id="all of them wait"),
        pytest.param(0, 9, [1, 2, 8], [(0, 1), (3, 8)], id="the last one waits longest"),
        pytest.param(0, 9, [3, 4, 5], [(0, 3)], id="the first one alone"),
    ],
)
def test_when_steps_waited(begin, end, left, expected):
    np.testing.assert_allclose(waits_of_steps(begin, end, left), expected)


@given(
    length=st.floats(0.01, 1),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=20),
    begin=st.floats(0, 3),
)
def test_steps_of_one_length_are_found_again(length, gaps, begin):
    left = np.cumsum(gaps).tolist()
    now, expected = begin, 0.0
    for time in left:
        expected += max(0.0, time - now)
        now = max(now, time) + length
    waits = waits_of_steps(begin, now, left)
    assert sum(stop - start for start, stop in waits) == pytest.approx(expected, abs=1e-6)


interval_lists = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))),
    max_size=12,
)


def seconds_in(times):
    return {second for start, stop in times for second in range(start, stop)}


@given(
    times=interval_lists,
    intervals=st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 30)), max_size=10),
)
def test_overlap_is_counted_second_by_second(times, intervals):
    union = Intervals(times)
    inside = seconds_in(times)
    begins = np.array([begin for begin, _ in intervals], float)
    ends = np.array([begin + length for begin, length in intervals], float)
    expected = sum(len(inside & set(range(begin, begin + n))) for begin, n in intervals)
    assert union.overlap(begins, ends) == pytest.approx(expected)
    assert union.seconds == len(inside)


@given(first=interval_lists, second=interval_lists)
def test_what_two_have_in_common(first, second):
    found = Intervals(first).intersection(Intervals(second))
    times = list(zip(found.begins.astype(int), found.ends.astype(int), strict=True))
    assert seconds_in(times) == seconds_in(first) & seconds_in(second)
    assert found.seconds == len(seconds_in(times))


def test_an_interval_that_ends_before_it_begins_is_empty():
    # Time stamps that were read while they were written may be like this.
    assert Intervals([(0, 10)]).overlap(np.array([5.0]), np.array([-1.0])) == 0
