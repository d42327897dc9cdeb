"""Fills batches row by row: what is in memory, in byte ranges of a file, or read by h5py."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, ReadError

from .batch import Indices, PendingBatch
from .batch_rows import BatchRows
from .read_stats import ReadStats
from .sample_sources import RowRequest, Source, announce_all
from .threads import Task


@dataclass(frozen=True, eq=False)
class RowComponent:
    """The rows of a dataset, as far as they are read row by row."""

    number: int
    """The number of their array in the batch."""
    rows: BatchRows
    sources: Sequence[Source | None]
    """For each part, what reads it; None: it is read in another way."""
    is_read_in_turns: bool = False
    """Whether tasks cannot read it at the same time: all of its parts are read by h5py."""

    @functools.cached_property
    def is_read_once(self) -> bool:
        """Whether a row that several samples, or x and y, have is read once and copied.

        The windows of one task may overlap. A copy is less than decoding, but no less than reading.
        """
        first = self.rows.first
        if first.is_in_memory or first.clip is not None or self.rows.rows_per_sample == 1:
            return False
        return self.rows.is_shared or first.is_decoded


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
        count = len(batch.indices)
        bounds = [count * i // num_tasks for i in range(num_tasks + 1)]
        return [
            self._submit(
                _fill,
                components,
                _Samples(begin, stop, count),
                batch.indices[begin:stop],
                None if batch.first_frames is None else batch.first_frames[begin:stop],
                None if batch.shifts is None else batch.shifts[begin:stop],
                batch.rows,
                batch.failed,
            )
            for begin, stop in itertools.pairwise(bounds)
        ]


class _Samples(NamedTuple):
    """The samples of a task, by their places in the bundle."""

    begin: int
    stop: int
    num_samples: int
    """Samples of the bundle."""


def _by_index(components: Iterable[RowComponent]) -> list[list[RowComponent]]:
    """Groups components by their index: those of one are read together, and located once."""
    found: dict[int, list[RowComponent]] = {}
    for item in components:
        if any(item.sources):
            found.setdefault(id(item.rows.index), []).append(item)
    return list(found.values())


def _fill(
    components: Sequence[Sequence[RowComponent]],
    samples: _Samples,
    indices: Indices,
    first_frames: Indices | None,
    shifts: Indices | None,
    outs: Sequence[NDArray[Any]],
    failed: dict[int, str] | None,
) -> ReadStats:
    """A task: reads some samples of a bundle.

    `failed` takes those that cannot be read, by their places in the bundle.
    """
    stats = ReadStats()
    for alike in components:
        index = alike[0].rows.index
        length = index.rows_per_sample
        firsts = first_frames
        if firsts is not None and length > 1:
            firsts = np.repeat(firsts, length)
        parts, rows = index.rows(indices, shifts)
        places = alike[0].rows.places(*samples)
        reads: list[_Read] = []
        for part, planned in _by_part(parts, len(index.num_rows)):
            firsts_of_part = None if firsts is None else firsts[planned]
            for item in alike:
                source = item.sources[part]
                if source is None:
                    continue
                if item.rows.is_shared:
                    planned = planned[np.argsort(places[planned])]
                out = outs[item.number]
                request = RowRequest(rows[planned], places[planned], firsts_of_part, out)
                reads.append(_Read(source, request, planned, item.is_read_once))
        if len(reads) > 1:
            announce_all((read.source, read.request) for read in reads if not read.is_once)
        for source, request, planned, is_once in reads:
            try:
                _read(source, request, stats, is_once=is_once)
            except ReadError as error:
                if failed is None or isinstance(error, FileChangedError):
                    raise
                for i, reason in _read_singly(source, request, stats).items():
                    failed[samples.begin + int(planned[i]) // length] = reason
    return stats


class _Read(NamedTuple):
    """What a task reads of one dataset of one file."""

    source: Source
    request: RowRequest
    planned: Indices
    """Which rows of the task these are."""
    is_once: bool


def _read(source: Source, request: RowRequest, stats: ReadStats, *, is_once: bool) -> None:
    """Reads rows; if `is_once`, each row once, which is copied to its other places."""
    if not is_once:
        source.read(request, stats)
        return
    rows, out_rows, out = request.rows, request.out_rows, request.out
    _, firsts, numbers = np.unique(rows, return_index=True, return_inverse=True)
    if len(firsts) == len(rows):
        source.read(request, stats)
        return
    is_first = np.zeros(len(rows), np.bool_)
    is_first[firsts] = True
    source.read(RowRequest(rows[is_first], out_rows[is_first], None, out), stats)
    targets = out_rows[~is_first]
    origins = out_rows[firsts[numbers]][~is_first]
    # Rows that follow each other in both places are copied at once.
    begins = np.flatnonzero(
        (np.diff(targets, prepend=-2) != 1) | (np.diff(origins, prepend=-2) != 1)
    )
    for begin, stop in itertools.pairwise([*begins.tolist(), len(targets)]):
        target, origin, count = int(targets[begin]), int(origins[begin]), stop - begin
        out[target : target + count] = out[origin : origin + count]


def _read_singly(source: Source, request: RowRequest, stats: ReadStats) -> dict[int, str]:
    """Reads rows one by one; returns which of them cannot be read, and why."""
    found = {}
    for i in range(len(request.rows)):
        try:
            source.read(request.single(i), stats)
        except FileChangedError:
            raise
        except ReadError as reason:
            found[i] = str(reason)
    return found


def _by_part(parts: Indices, num_parts: int) -> Iterator[tuple[int, Indices]]:
    """Sorts rows by their part: the part's number, and the places of its rows."""
    if num_parts == 1:
        yield 0, np.arange(len(parts))
        return
    for part in np.unique(parts).tolist():
        yield part, np.flatnonzero(parts == part)
