"""Where each sample is: the only place that knows how samples lie in the rows of datasets.

A component of a set (`X`, say) is kept in *parts*, one for each file that it is spread over: in
each, it is a dataset whose first axis are rows. A sample is one row (*stacked* samples), or several
rows at fixed distances from its anchor (a *window* of a recording). Either way, a `SampleIndex`
says which rows of which part; everything below it reads rows.

Samples are numbered in *runs*: those of a run follow each other in one part, at a fixed distance.
So an index of a hundred million windows takes memory for its recordings alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """The part and the rows of each sample of a component."""

    run_parts: Indices
    """(runs,), the number of the part that holds each run."""
    run_rows: Indices
    """(runs,), the anchor of each run's first sample: a row of that part."""
    run_stops: Indices
    """(runs,), how many samples there are up to the end of each run."""
    num_rows: Indices
    """(parts,), how many rows of each part are in use: its first ones."""
    step: int = 1
    """The distance from one anchor of a run to the next, in rows."""
    offsets: Indices | None = None
    """(rows,), the distance of each row of a sample from its anchor. None: a sample is one row, the
    anchor, and its shape is that of the row, without an axis of rows."""
    limits: tuple[Indices, Indices] | None = None
    """(runs,) each, the first row of the run's recording and the end (exclusive) of its last: of
    what is beyond, the nearest row within is read. None: no sample reaches beyond."""
    pads_zeros: bool = False
    """Whether what is beyond the recording is zero instead."""
    is_shifted: bool = True
    """Whether anchors that are drawn anew each epoch count: not for a label of the recording."""

    @classmethod
    def stacked(cls, num_rows: Indices) -> SampleIndex:
        """Makes the index of samples that are one row each, part after part.

        Args:
            num_rows: int64 (parts,), the rows of each part that are in use.
        """
        parts = np.arange(len(num_rows))
        return cls(parts, np.zeros_like(parts), np.cumsum(num_rows), num_rows)

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return int(self.run_stops[-1]) if len(self.run_stops) else 0

    @property
    def rows_per_sample(self) -> int:
        """How many rows a sample has."""
        return 1 if self.offsets is None else len(self.offsets)

    @property
    def is_every_row(self) -> bool:
        """Whether the samples are the rows in use, in order: they are stacked."""
        is_whole = (
            self.offsets is None and self.step == 1 and len(self.run_rows) == len(self.num_rows)
        )
        return bool(
            is_whole
            and self.is_shifted
            and (self.run_rows == 0).all()
            and (self.run_stops == np.cumsum(self.num_rows)).all()
            and (self.run_parts == np.arange(len(self.num_rows))).all()
        )

    def with_offsets(self, offsets: Indices | None) -> SampleIndex:
        """Returns an index of the same anchors whose samples are other rows."""
        return replace(self, offsets=offsets)

    def anchors(
        self, samples: Indices, shifts: Indices | None = None
    ) -> tuple[Indices, Indices, Indices]:
        """Locates samples.

        Args:
            samples: int64 (n,), their numbers.
            shifts: int64 (n,), how far the anchor of each is moved, in rows; None: not at all.

        Returns:
            int64 (n,) each: the run of each sample, its part, and its anchor in that part.
        """
        runs = np.searchsorted(self.run_stops, samples, side="right")
        # A run begins where the one before it ends.
        starts = np.where(runs > 0, self.run_stops[runs - 1], 0)
        rows = self.run_rows[runs] + self.step * (samples - starts)
        if shifts is not None and self.is_shifted:
            rows = rows + shifts
        return runs, self.run_parts[runs], rows

    def rows(self, samples: Indices, shifts: Indices | None = None) -> tuple[Indices, Indices]:
        """Locates the rows of samples. The arguments are those of `anchors`.

        Returns:
            int64 (n * rows_per_sample,), the part of each row; and its number in that part. Those
            of a sample follow each other.
        """
        runs, parts, anchors = self.anchors(samples, shifts)
        if self.offsets is None:
            return parts, anchors
        rows = anchors[:, np.newaxis] + self.offsets
        if self.limits is not None:
            lowest, stop = (limit[runs, np.newaxis] for limit in self.limits)
            rows = np.clip(rows, lowest, stop - 1)
        return np.repeat(parts, len(self.offsets)), rows.ravel()

    def is_beyond(self, samples: Indices, shifts: Indices | None = None) -> NDArray[np.bool_]:
        """Tells which rows of samples are beyond their recording: bool (n, rows_per_sample)."""
        runs, _, anchors = self.anchors(samples, shifts)
        offsets = np.zeros(1, np.int64) if self.offsets is None else self.offsets
        rows = anchors[:, np.newaxis] + offsets
        if self.limits is None:
            return np.zeros(rows.shape, np.bool_)
        lowest, stop = (limit[runs, np.newaxis] for limit in self.limits)
        return (rows < lowest) | (rows >= stop)
