"""Times that a training waited for its elements, as intervals. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = NDArray[np.float64]


def waits_of_steps(begin: float, end: float, given: Sequence[float]) -> list[tuple[float, float]]:
    """Finds when consecutive steps of equal duration waited for their elements.

        begin      given[0]       given[1]       end
        |---waited--|--step--|     |              |
                             |-waited-|---step----|

    The first step asks for its element at `begin`, and the last one ends at `end`. The feed gives
    each step its element at a time in `given`, ascending. Returns (begin, end) of each wait.
    """
    steps = len(given)
    # After the last element that was waited for, steps follow each other without a wait.
    starts = [(begin, steps), *((time, steps - place) for place, time in enumerate(given))]
    duration = max(0.0, min((end - max(begin, time)) / count for time, count in starts))
    waits = []
    now = begin
    for time in given:
        if time > now:
            waits.append((now, min(time, end)))
        now = max(now, time) + duration
    return [(start, stop) for start, stop in waits if start < stop]


class Intervals:
    """A union of time intervals (begin, end), as disjoint intervals in ascending order."""

    def __init__(self, intervals: Sequence[tuple[float, float]] | Times) -> None:
        begins, ends = np.array(intervals, np.float64).reshape(-1, 2).T
        order = np.argsort(begins, kind="stable")
        begins, ends = begins[order], np.maximum.accumulate(ends[order])
        is_first = np.append(True, begins[1:] > ends[:-1])[: len(begins)]
        is_last = np.append(is_first[1:], True)[: len(begins)]
        self.begins, self.ends = begins[is_first], ends[is_last]
        self.seconds = float((self.ends - self.begins).sum())

    def overlap(self, begins: Times, ends: Times) -> float:
        """Returns the seconds that other intervals overlap with these, summed over the others."""
        if not len(self.begins):
            return 0.0
        edges = np.stack([self.begins, self.ends], axis=1).ravel()
        # Seconds of these intervals before each edge.
        before = np.cumsum(np.diff(edges, prepend=edges[0]) * (np.arange(len(edges)) % 2))
        is_valid = begins < ends
        before_begin, before_end = (
            np.interp(times[is_valid], edges, before) for times in (begins, ends)
        )
        return float((before_end - before_begin).sum())

    def intersection(self, other: Intervals) -> Intervals:
        """Returns the times that are in both unions."""
        found = []
        i = j = 0
        while i < len(self.begins) and j < len(other.begins):
            begin = max(self.begins[i], other.begins[j])
            end = min(self.ends[i], other.ends[j])
            if begin < end:
                found.append((begin, end))
            if self.ends[i] < other.ends[j]:
                i += 1
            else:
                j += 1
        return Intervals(found)
