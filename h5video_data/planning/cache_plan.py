"""Plans when to decode chunks that hold many rows, and what to cache. No files, no threads.

The rows of a *chunk row* are stored in the same chunks, and so decoded together. When one is
decoded for a batch, its other rows may be cached for later batches. The order of an epoch is known,
and with it every future use of every row: a row is evicted when it has been used for the last time,
or, where memory is short, if its next use lies farthest in the future.

The cache holds *items*: rows, or clips of them. It holds items, not chunks, because a chunk would
keep its used rows as well: on a random order of 2,000 rows, 16 to a chunk, with memory for a
quarter of them, each chunk is decoded 2.8 times an epoch; with whole chunks cached by Belady's rule
it would be 6.8 times.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class ChunkRowDecode:
    """A chunk row to decode, and where its items go."""

    chunk_row: int
    wanted: Indices
    """Items that the batch needs, repeats included."""
    out_rows: Indices
    """Where in the batch each of them goes."""
    cached: Indices
    """Items to cache for later batches."""


@dataclass(frozen=True, eq=False)
class CachePlan:
    """The decodes and copies that put one batch together, of the items that are in chunk rows."""

    decodes: tuple[ChunkRowDecode, ...]
    copied: Indices
    """Items that an earlier batch cached."""
    out_rows: Indices
    """Where in the batch each of them goes."""
    evicted: Indices
    """Cached items to evict when the batch is whole."""


def plan_decodes(
    order: Indices, batch_stops: Indices, starts: Indices, stops: Indices, capacity: int
) -> Iterator[CachePlan]:
    """Plans an epoch, batch by batch, as it is asked for.

    Args:
        order: int64 (n,), the numbers of the items in the order of their use; repeats allowed.
        batch_stops: int64 (batches,), the end (exclusive) of each batch in `order`, ascending.
        starts: int64 (chunk rows,), first item of each chunk row, ascending.
        stops: int64 (chunk rows,), end (exclusive) of each. Items in no chunk row are left out.
        capacity: How many items may be cached from one batch to the next.

    Yields:
        A plan for each batch.
    """
    num_items = int(max(order.max(), stops.max(initial=0))) + 1
    following = _following(order)
    # The position in `order` of the next use of each item.
    upcoming = np.full(num_items, _NEVER)
    upcoming[order[::-1]] = np.arange(len(order))[::-1]
    is_cached = np.zeros(num_items, np.bool_)
    num_cached = 0
    # (-next use, item): the cached item that is used last comes first. An entry whose item was
    # evicted or used since is passed over.
    farthest: list[tuple[int, int]] = []
    for begin, stop in itertools.pairwise([0, *batch_stops.tolist()]):
        items = order[begin:stop]
        chunk_rows = np.searchsorted(starts, items, side="right") - 1
        in_chunk_row = (chunk_rows >= 0) & (items < stops[chunk_rows])
        is_copied = in_chunk_row & is_cached[items]
        is_missing = in_chunk_row & ~is_copied
        upcoming[items] = following[begin:stop]

        # Candidates for the cache: what is in it already, what is used now, and its neighbours.
        decoded = np.unique(chunk_rows[is_missing])
        before = np.unique(items[is_copied])
        new = [np.zeros(0, np.int64)]
        new += [np.arange(starts[chunk_row], stops[chunk_row]) for chunk_row in decoded]
        candidates = np.concatenate(new)
        candidates = candidates[~is_cached[candidates] & (upcoming[candidates] != _NEVER)]
        if len(candidates) > capacity:
            # No more of them can stay: the rest need not pass through Python one by one.
            nearest = np.argsort(upcoming[candidates])[:capacity]
            candidates = np.sort(candidates[nearest])
        used_up = before[upcoming[before] == _NEVER]
        is_cached[used_up] = False
        is_cached[candidates] = True
        num_cached += len(candidates) - len(used_up)
        for item in [*candidates.tolist(), *before.tolist()]:
            if is_cached[item]:
                heapq.heappush(farthest, (-int(upcoming[item]), item))
        evicted = []
        while num_cached > capacity:
            use, item = heapq.heappop(farthest)
            if is_cached[item] and upcoming[item] == -use:
                is_cached[item] = False
                num_cached -= 1
                evicted.append(item)
        cached = candidates[is_cached[candidates]]
        # A candidate that was not taken has nothing to evict.
        evicted_before = np.setdiff1d(np.array(evicted, np.int64), candidates)

        yield CachePlan(
            decodes=tuple(
                ChunkRowDecode(
                    chunk_row=chunk_row,
                    wanted=items[is_missing & (chunk_rows == chunk_row)],
                    out_rows=np.flatnonzero(is_missing & (chunk_rows == chunk_row)),
                    cached=cached[(cached >= starts[chunk_row]) & (cached < stops[chunk_row])],
                )
                for chunk_row in decoded.tolist()
            ),
            copied=items[is_copied],
            out_rows=np.flatnonzero(is_copied),
            evicted=np.concatenate([used_up, evicted_before]),
        )


def _following(order: Indices) -> Indices:
    """Finds for each position the next position of the same item, or `_NEVER`."""
    by_item = np.argsort(order, kind="stable")
    following = np.full(len(order), _NEVER)
    again = order[by_item[1:]] == order[by_item[:-1]]
    following[by_item[:-1][again]] = by_item[1:][again]
    return following
