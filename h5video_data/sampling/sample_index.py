"""Where each sample is: the only place that knows how samples lie in the rows of datasets.

A component of a set (`X`, say) is kept in *parts*, one for each file that it is spread over: in
each, it is a dataset whose first axis are rows. A sample is one row (*stacked* samples), or several
rows at fixed distances from its first one (a *window* of a recording). Either way, a `SampleIndex`
says which rows of which part; everything below it reads rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """The part and the rows of each sample of a component."""

    parts: Indices
    """(samples,), the number of the part that holds each sample."""
    first_rows: Indices
    """(samples,), the row of that part that the sample's rows are counted from."""
    num_rows: Indices
    """(parts,), how many rows of each part are in use: its first ones."""
    offsets: Indices | None = None
    """(rows,), the distance of each row of a sample from its first one. None: a sample is one row,
    and its shape is that of the row, without an axis of rows."""

    @classmethod
    def stacked(cls, num_rows: Indices) -> SampleIndex:
        """Makes the index of samples that are one row each, part after part.

        Args:
            num_rows: int64 (parts,), the rows of each part that are in use.
        """
        starts = np.cumsum(num_rows) - num_rows
        parts = np.repeat(np.arange(len(num_rows)), num_rows)
        return cls(parts, np.arange(len(parts)) - starts[parts], num_rows)

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(self.parts)

    @property
    def rows_per_sample(self) -> int:
        """How many rows a sample has."""
        return 1 if self.offsets is None else len(self.offsets)

    def rows(self, samples: Indices) -> tuple[Indices, Indices]:
        """Locates the rows of samples.

        Args:
            samples: int64 (n,), their numbers.

        Returns:
            int64 (n * rows_per_sample,), the part of each row; and its number in that part. Those
            of a sample follow each other.
        """
        parts, rows = self.parts[samples], self.first_rows[samples]
        if self.offsets is None:
            return parts, rows
        rows = (rows[:, np.newaxis] + self.offsets).ravel()
        return np.repeat(parts, len(self.offsets)), rows
