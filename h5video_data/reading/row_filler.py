"""Fills batches row by row: what is in memory, in byte ranges of a file, or read by h5py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, ReadError
from h5video_data.sampling.sample_index import SampleIndex

from .batch import Indices, PendingBatch
from .sample_sources import ReadStats, RowRequest, Source
from .threads import Task


@dataclass(frozen=True, eq=False)
class RowComponent:
    """A component, as far as it is read row by row."""

    number: int
    """Its number in the set."""
    index: SampleIndex
    sources: Sequence[Source | None]
    """For each part, what reads it; None: it is read in another way."""
    is_read_in_turns: bool = False
    """Whether tasks cannot read it at the same time: all of its parts are read by h5py."""


class RowFiller:
    """Fills a bundle by a few tasks, each of which reads some samples of all components.

    See `batch.Filler`.

    Args:
        components: What to read.
        tasks_per_bundle: How many tasks the samples of a bundle are cut into.
        submit: Gives a task to the threads: a function that returns its ReadStats, and arguments.
    """

    def __init__(
        self,
        components: Sequence[RowComponent],
        tasks_per_bundle: int,
        submit: Callable[..., Task[ReadStats]],
    ) -> None:
        # Many rows at once cost h5py less than a few each time.
        self._in_turns = _by_index(item for item in components if item.is_read_in_turns)
        self._others = _by_index(item for item in components if not item.is_read_in_turns)
        self._tasks_per_bundle = tasks_per_bundle
        self._submit = submit

    def start(self, batch: PendingBatch) -> list[Task[ReadStats]]:
        """Submits the tasks that fill the next bundle."""
        tasks = self._cut(batch, self._in_turns, 1) if self._in_turns else []
        if self._others:
            tasks += self._cut(batch, self._others, min(self._tasks_per_bundle, len(batch.indices)))
        return tasks

    def _cut(
        self, batch: PendingBatch, components: Sequence[Sequence[RowComponent]], num_tasks: int
    ) -> list[Task[ReadStats]]:
        count, firsts, shifts = len(batch.indices), batch.first_frames, batch.shifts
        bounds = [count * i // num_tasks for i in range(num_tasks + 1)]
        return [
            self._submit(
                _fill,
                components,
                batch.indices[begin:stop],
                None if firsts is None else firsts[begin:stop],
                None if shifts is None else shifts[begin:stop],
                [array[begin:stop] for array in batch.arrays],
                batch.failed,
                begin,
            )
            for begin, stop in itertools.pairwise(bounds)
        ]


def _by_index(components: Iterable[RowComponent]) -> list[list[RowComponent]]:
    """Groups components by their index: those of one are read together, and located once."""
    found: dict[int, list[RowComponent]] = {}
    for item in components:
        if any(item.sources):
            found.setdefault(id(item.index), []).append(item)
    return list(found.values())


def _fill(
    components: Sequence[Sequence[RowComponent]],
    indices: Indices,
    first_frames: Indices | None,
    shifts: Indices | None,
    outs: Sequence[NDArray[Any]],
    failed: dict[int, str] | None,
    begin: int,
) -> ReadStats:
    """A task: reads some samples of a bundle.

    They are those from place `begin` on; `failed` takes those that cannot be read, by their places.
    """
    stats = ReadStats()
    for alike in components:
        index = alike[0].index
        length = index.rows_per_sample
        firsts = first_frames
        if firsts is not None and length > 1:
            firsts = np.repeat(firsts, length)
        parts, rows = index.rows(indices, shifts)
        for part, out_rows in _by_part(parts, len(index.num_rows)):
            firsts_of_part = None if firsts is None else firsts[out_rows]
            for item in alike:
                source = item.sources[part]
                if source is None:
                    continue
                out = outs[item.number]
                if index.offsets is not None:
                    out = out.reshape(-1, *out.shape[2:])
                request = RowRequest(rows[out_rows], out_rows, firsts_of_part, out)
                try:
                    source.read(request, stats)
                except ReadError as error:
                    if failed is None or isinstance(error, FileChangedError):
                        raise
                    bad = _read_singly(source, request, stats)
                    failed.update({begin + row // length: reason for row, reason in bad.items()})
    return stats


def _read_singly(source: Source, request: RowRequest, stats: ReadStats) -> dict[int, str]:
    """Reads rows one by one; returns the rows of `out` that cannot be read, and why."""
    found = {}
    for i, out_row in enumerate(request.out_rows.tolist()):
        try:
            source.read(request.single(i), stats)
        except FileChangedError:
            raise
        except ReadError as reason:
            found[out_row] = str(reason)
    return found


def _by_part(parts: Indices, num_parts: int) -> Iterator[tuple[int, Indices]]:
    """Sorts rows by their part: the part's number, and the places of its rows."""
    if num_parts == 1:
        yield 0, np.arange(len(parts))
        return
    for part in np.unique(parts).tolist():
        yield part, np.flatnonzero(parts == part)
