"""When steps waited, and what overlaps with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.callbacks.waiting import Windows, common, waits_of_steps


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


stretches_of_time = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))),
    max_size=12,
)


def seconds_in(stretches):
    return {second for start, stop in stretches for second in range(start, stop)}


@given(
    stretches=stretches_of_time,
    intervals=st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 30)), max_size=10),
)
def test_overlap_is_counted_second_by_second(stretches, intervals):
    windows = Windows(stretches)
    inside = seconds_in(stretches)
    begins = np.array([begin for begin, _ in intervals], float)
    ends = np.array([begin + length for begin, length in intervals], float)
    expected = sum(len(inside & set(range(begin, begin + n))) for begin, n in intervals)
    assert windows.overlap(begins, ends) == pytest.approx(expected)
    assert windows.seconds == len(inside)


@given(first=stretches_of_time, second=stretches_of_time)
def test_what_two_have_in_common(first, second):
    found = common(Windows(first), Windows(second))
    stretches = list(zip(found.begins.astype(int), found.ends.astype(int), strict=True))
    assert seconds_in(stretches) == seconds_in(first) & seconds_in(second)
    assert found.seconds == len(seconds_in(stretches))


def test_an_interval_that_ends_before_it_begins_is_empty():
    # A row that was read while it was written.
    assert Windows([(0, 10)]).overlap(np.array([5.0]), np.array([-1.0])) == 0
