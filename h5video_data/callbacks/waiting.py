"""When a training waited for its elements, and what went on meanwhile: pure functions of times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = NDArray[np.float64]


def waits_of_steps(begin: float, end: float, left: Sequence[float]) -> list[tuple[float, float]]:
    """When some steps waited that ran one after the other, each as long as the others.

        begin      left[0]        left[1]        end
        |---waited--|--step--|     |              |
                             |-waited-|---step----|

    Args:
        begin: When the first one asked for its element.
        end: When the last one was done.
        left: When the element of each left the feed, ascending.

    Returns:
        (from, to) of each time that they waited.
    """
    steps = len(left)
    # Whichever element was the last to be waited for, the steps since then fill the rest.
    starts = [(begin, steps), *((time, steps - place) for place, time in enumerate(left))]
    length = max(0.0, min((end - max(begin, time)) / count for time, count in starts))
    waits = []
    now = begin
    for time in left:
        if time > now:
            waits.append((now, min(time, end)))
        now = max(now, time) + length
    return [(start, stop) for start, stop in waits if start < stop]


class Windows:
    """Stretches of time.

    Args:
        stretches: (from, to) of each; those that overlap count as one.
    """

    def __init__(self, stretches: Sequence[tuple[float, float]] | Times) -> None:
        begins, ends = np.array(stretches, np.float64).reshape(-1, 2).T
        order = np.argsort(begins, kind="stable")
        begins, ends = begins[order], np.maximum.accumulate(ends[order])
        is_first = np.append(True, begins[1:] > ends[:-1])[: len(begins)]
        is_last = np.append(is_first[1:], True)[: len(begins)]
        self.begins, self.ends = begins[is_first], ends[is_last]
        self.seconds = float((self.ends - self.begins).sum())

    def overlap(self, begins: Times, ends: Times) -> float:
        """Seconds that some intervals have in common with them, summed over the intervals."""
        if not len(self.begins):
            return 0.0
        edges = np.stack([self.begins, self.ends], axis=1).ravel()
        # How much of them is over at each edge.
        over = np.cumsum(np.diff(edges, prepend=edges[0]) * (np.arange(len(edges)) % 2))
        is_real = begins < ends
        over_at = [np.interp(times[is_real], edges, over) for times in (begins, ends)]
        return float((over_at[1] - over_at[0]).sum())


def common(first: Windows, second: Windows) -> Windows:
    """What two have in common."""
    found = []
    i = j = 0
    while i < len(first.begins) and j < len(second.begins):
        begin = max(first.begins[i], second.begins[j])
        end = min(first.ends[i], second.ends[j])
        if begin < end:
            found.append((begin, end))
        if first.ends[i] < second.ends[j]:
            i += 1
        else:
            j += 1
    return Windows(found)
