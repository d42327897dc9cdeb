"""What to decode when, if a chunk holds many samples. Pure data: no files, no threads.

A *slab* is a run of samples that are stored in the same chunks, and so decoded together. When one
is decoded for a batch, its other samples may be kept for later batches. The order of an epoch is
known, and with it every future use of every sample: a sample is let go of when it has been used,
or, where memory is short, if its next use lies farthest in the future.

Samples are kept, not chunks, because a chunk would keep its used samples as well: on a random order
of 2,000 samples, 16 to a chunk, with memory for a quarter of them, each chunk is decoded 2.8 times
an epoch; with whole chunks kept by Belady's rule it would be 6.8 times.
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
    """A slab to decode, and what becomes of its samples."""

    slab: int
    wanted: Indices
    """Samples that the batch needs, repeats included."""
    places: Indices
    """Where in the batch each of them goes."""
    kept: Indices
    """Samples to keep for later batches."""


@dataclass(frozen=True, eq=False)
class CachePlan:
    """How one batch is put together, of the samples that are in slabs."""

    decodes: tuple[ChunkRowDecode, ...]
    copied: Indices
    """Samples that an earlier batch kept."""
    places: Indices
    """Where in the batch each of them goes."""
    dropped: Indices
    """Kept samples to let go of when the batch is whole."""


def plan_decodes(
    order: Indices, ends: Indices, starts: Indices, stops: Indices, capacity: int
) -> Iterator[CachePlan]:
    """Plans an epoch, batch by batch, as it is asked for.

    Args:
        order: int64 (n,), the numbers of the samples in the order of their use; repeats allowed.
        ends: int64 (batches,), the end (exclusive) of each batch in `order`, ascending.
        starts: int64 (slabs,), first sample of each slab, ascending.
        stops: int64 (slabs,), end (exclusive) of each slab. Samples in no slab are left out.
        capacity: How many samples may be kept from one batch to the next.

    Yields:
        A step for each batch.
    """
    num_samples = int(max(order.max(), stops.max(initial=0))) + 1
    following = _following(order)
    # The position in `order` of the next use of each sample.
    upcoming = np.full(num_samples, _NEVER)
    upcoming[order[::-1]] = np.arange(len(order))[::-1]
    is_kept = np.zeros(num_samples, np.bool_)
    num_kept = 0
    # (-next use, sample): the kept sample that is used last comes first. An entry whose sample was
    # dropped or used since is passed over.
    farthest: list[tuple[int, int]] = []
    for begin, end in itertools.pairwise([0, *ends.tolist()]):
        samples = order[begin:end]
        slabs = np.searchsorted(starts, samples, side="right") - 1
        in_slab = (slabs >= 0) & (samples < stops[slabs])
        is_copied = in_slab & is_kept[samples]
        is_missing = in_slab & ~is_copied
        upcoming[samples] = following[begin:end]

        # Candidates to be kept: what was kept already, what is used now, and its neighbours.
        decoded = np.unique(slabs[is_missing])
        before = np.unique(samples[is_copied])
        new = [np.zeros(0, np.int64)]
        new += [np.arange(starts[slab], stops[slab]) for slab in decoded]
        candidates = np.concatenate(new)
        candidates = candidates[~is_kept[candidates] & (upcoming[candidates] != _NEVER)]
        if len(candidates) > capacity:
            # No more of them can stay: the rest need not pass through Python one by one.
            nearest = np.argsort(upcoming[candidates])[:capacity]
            candidates = np.sort(candidates[nearest])
        used_up = before[upcoming[before] == _NEVER]
        is_kept[used_up] = False
        is_kept[candidates] = True
        num_kept += len(candidates) - len(used_up)
        for sample in [*candidates.tolist(), *before.tolist()]:
            if is_kept[sample]:
                heapq.heappush(farthest, (-int(upcoming[sample]), sample))
        evicted = []
        while num_kept > capacity:
            use, sample = heapq.heappop(farthest)
            if is_kept[sample] and upcoming[sample] == -use:
                is_kept[sample] = False
                num_kept -= 1
                evicted.append(sample)
        kept = candidates[is_kept[candidates]]
        dropped = np.setdiff1d(np.array(evicted, np.int64), candidates)

        yield CachePlan(
            decodes=tuple(
                ChunkRowDecode(
                    slab=slab,
                    wanted=samples[is_missing & (slabs == slab)],
                    places=np.flatnonzero(is_missing & (slabs == slab)),
                    kept=kept[(kept >= starts[slab]) & (kept < stops[slab])],
                )
                for slab in decoded.tolist()
            ),
            copied=samples[is_copied],
            places=np.flatnonzero(is_copied),
            dropped=np.concatenate([used_up, dropped]),
        )


def _following(order: Indices) -> Indices:
    """For each position, the next position of the same sample, or `_NEVER`."""
    by_sample = np.argsort(order, kind="stable")
    following = np.full(len(order), _NEVER)
    again = order[by_sample[1:]] == order[by_sample[:-1]]
    following[by_sample[:-1][again]] = by_sample[1:][again]
    return following
