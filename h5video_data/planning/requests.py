"""Byte ranges into requests to a server: a request costs about as long as a megabyte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def plan_requests(offsets: Ints, sizes: Ints, max_gap: int, max_bytes: int) -> tuple[Ints, Ints]:
    """Merges ranges that are near each other, and divides what is large.

    Args:
        offsets: int64 (n,), first byte of each range.
        sizes: int64 (n,), bytes of each.
        max_gap: Bytes between two ranges that are read along with them.
        max_bytes: Bytes of a request, at most.

    Returns:
        int64 (m,), the first byte of each request, ascending, and the end of each; they do not
        overlap, and cover the ranges.
    """
    is_used = sizes > 0
    offsets, sizes = offsets[is_used], sizes[is_used]
    if not len(offsets):
        return offsets, offsets
    order = np.argsort(offsets, kind="stable")
    begins = offsets[order]
    ends = np.maximum.accumulate(begins + sizes[order])
    is_first = np.append(True, begins[1:] > ends[:-1] + max_gap)
    first = np.flatnonzero(is_first)
    starts, stops = begins[first], ends[np.append(first[1:], len(ends)) - 1]
    counts = -(-(stops - starts) // max_bytes)
    # Of equal sizes, so that none is left behind for a few bytes.
    piece = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start, length = np.repeat(starts, counts), np.repeat(stops - starts, counts)
    count = np.repeat(counts, counts)
    return start + piece * length // count, start + (piece + 1) * length // count


def copy_ranges(
    found: list[bytes],
    requests: Ints,
    offsets: Ints,
    sizes: Ints,
    starts: Ints,
    target: NDArray[np.uint8],
) -> None:
    """Copies ranges to their places out of what was read for `plan_requests`.

    Args:
        found: What was read by each request.
        requests: int64 (m,), the first byte of each.
        offsets: int64 (n,), first byte of each range.
        sizes: int64 (n,), bytes of each.
        starts: int64 (n,), first byte of each in `target`.
        target: uint8, contiguous.
    """
    numbers = np.searchsorted(requests, offsets, "right") - 1
    begins = requests.tolist()
    out = target.data
    for number, offset, size, place in zip(
        numbers.tolist(), offsets.tolist(), sizes.tolist(), starts.tolist(), strict=True
    ):
        done = 0
        while done < size:
            skip = offset + done - begins[number]
            some = memoryview(found[number])[skip : skip + size - done]
            out[place + done : place + done + len(some)] = some
            done += len(some)
            number += 1
