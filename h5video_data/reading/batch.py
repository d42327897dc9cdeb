"""The plan of an epoch, and a batch that is being filled: what the stages of reading share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .read_stats import ReadStats
from .threads import Task

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The samples of an epoch, in the order of their use, and how they are cut into batches."""

    number: int
    order: Indices
    """(samples,), their numbers."""
    stops: Indices
    """The end (exclusive) of each batch in `order`."""
    batches_per_bundle: int
    """The number of batches that are read together, but for the first."""
    first_frames: Indices | None = None
    """The first frame of each sample's clip, if clips are read."""
    earlier: Indices | None = None
    """The number of earlier uses of each sample in the epoch, if some come several times."""
    shifts: Indices | None = None
    """How far the anchor of each sample's window is moved, in rows, if that is drawn."""

    @property
    def bundles(self) -> Indices:
        """The number of the last batch of each bundle: the first is one batch, to be there soon."""
        count, size = len(self.stops), self.batches_per_bundle
        return np.append(np.arange(0, count - 1, size), count - 1)

    def cut_into_samples(self) -> EpochPlan:
        """Returns the same order in batches of one sample."""
        return replace(self, stops=np.arange(1, len(self.order) + 1))

    def batch(self, number: int) -> EpochPlan:
        """Returns the plan of one of its batches alone."""
        begin = int(self.stops[number - 1]) if number else 0
        samples = slice(begin, int(self.stops[number]))
        return EpochPlan(
            self.number,
            self.order[samples],
            self.stops[number : number + 1] - begin,
            1,
            None if self.first_frames is None else self.first_frames[samples],
            None if self.earlier is None else self.earlier[samples],
            None if self.shifts is None else self.shifts[samples],
        )


@dataclass(frozen=True, eq=False)
class PendingBatch:
    """Batches of an epoch that are being read together: a bundle, in one array a component."""

    indices: Indices
    """(samples,), the numbers of its samples."""
    stops: Indices
    """The end (exclusive) of each batch among them."""
    arrays: list[NDArray[Any]]
    """One for each component; not to be looked at before `wait` returns."""
    tasks: list[Task[ReadStats]]
    rows: list[NDArray[Any]]
    """The memory of the arrays, (rows, ...), one for each `BatchRows`."""
    failed: dict[int, str] | None
    """By place among the samples, why one cannot be read; None: that is an error. Whole after
    `wait`."""
    first_frames: Indices | None = None
    """The first frame of each sample's clip, if clips are read."""
    earlier: Indices | None = None
    """The number of earlier uses of each sample in the epoch, if some come several times."""
    shifts: Indices | None = None
    """How far the anchor of each sample's window is moved, in rows, if that is drawn."""
    blanks: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    """By the number of a component, the frames (samples, rows) that are zero, whatever is read."""

    def without_failed(self) -> PendingBatch:
        """Leaves out the samples that cannot be read, and batches without any other."""
        if not self.failed:
            return self
        is_good = np.ones(len(self.indices), np.bool_)
        is_good[list(self.failed)] = False
        stops: Indices = np.cumsum(is_good, dtype=np.int64)[self.stops - 1]
        return PendingBatch(
            indices=self.indices[is_good],
            stops=stops[np.diff(stops, prepend=0) > 0],
            arrays=[array[is_good] for array in self.arrays],
            tasks=[],
            rows=[],
            failed=None,
            earlier=None if self.earlier is None else self.earlier[is_good],
        )

    def split(self) -> Iterator[tuple[Indices, list[NDArray[Any]]]]:
        """Yields the samples' numbers and the arrays of each batch."""
        for begin, stop in itertools.pairwise([0, *self.stops.tolist()]):
            yield self.indices[begin:stop], [array[begin:stop] for array in self.arrays]

    def wait(self) -> ReadStats:
        """Waits until all samples are there.

        Returns:
            What filling it cost.

        Raises:
            H5VideoError: What went wrong in a thread, with its traceback.
        """
        stats = ReadStats()
        task = None
        try:
            for task in self.tasks:
                stats.add(task.result())
        finally:
            # A task holds its error, whose traceback holds this frame: a cycle that would keep the
            # threads and buffers until the garbage collector comes.
            task = None
            self.tasks.clear()
        for number, is_blank in self.blanks.items():
            self.arrays[number][is_blank] = 0
        return stats

    def cancel(self) -> None:
        """Cancels what has not begun; what has begun ends in buffers that nobody sees."""
        for task in self.tasks:
            task.cancel()


class Filler(Protocol):
    """Fills the bundles of an epoch, one after the other, with a part of their values.

    Every way of reading is one of these. They are driven by one thread at a time.
    """

    def start(self, batch: PendingBatch) -> list[Task[ReadStats]]:
        """Submits the tasks that fill the next bundle.

        Args:
            batch: The bundle; tasks fill its arrays, and its `failed` if it has one.

        Returns:
            The tasks to wait for.
        """
        ...
