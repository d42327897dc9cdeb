"""The rows of a batch in memory: those of a component, or of several of the same dataset.

Where x and y, or two keys, are windows of one dataset, they have rows in common, in one sample or
in samples near each other. All of them are rows of one array then: the dataset is read, and its
chunks are decoded, for all at once. The component's own arrays are views of it, each of them
contiguous, and at an address that TensorFlow takes without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.sampling.sample_index import Indices, SampleIndex
from h5video_data.storage.scratch import ALIGNMENT
from h5video_data.video_set import Component


@dataclass(frozen=True, eq=False)
class BatchRows:
    """Which rows a batch has of a dataset, and where they are in memory.

    In memory, those of the first component come first, sample by sample. As they are planned, all
    rows of the first sample come first, those of its first component before the others: place i of
    the *plan* is row `places(...)[i]` of the array.
    """

    numbers: tuple[int, ...]
    """The numbers of the components in the set."""
    components: tuple[Component, ...]
    """They; all of one dataset, with windows at the same anchors."""
    index: SampleIndex
    """Where the rows of a sample are, of all components."""

    @property
    def first(self) -> Component:
        """A component: of another one, only the frames differ."""
        return self.components[0]

    @property
    def is_shared(self) -> bool:
        """Whether several components have rows here."""
        return len(self.components) > 1

    @property
    def rows_per_sample(self) -> int:
        """How many rows a sample has, of all components."""
        return sum(item.index.rows_per_sample for item in self.components)

    def starts(self, num_samples: int) -> list[int]:
        """Returns the first row of each component in an array of so many samples, and the end."""
        row_nbytes = self.first.row_nbytes
        # The least number of rows that take a multiple of ALIGNMENT bytes.
        step = ALIGNMENT // math.gcd(row_nbytes, ALIGNMENT)
        starts = [0]
        for item in self.components:
            begin = -(-starts[-1] // step) * step
            starts[-1:] = [begin, begin + num_samples * item.index.rows_per_sample]
        return starts

    def nbytes(self, num_samples: int) -> int:
        """Returns the bytes of an array of so many samples."""
        return self.starts(num_samples)[-1] * self.first.row_nbytes

    def views(self, array: NDArray[Any], num_samples: int) -> list[NDArray[Any]]:
        """Returns the arrays (samples, ...) of the components: views of (rows, ...)."""
        return [
            array[start : start + num_samples * item.index.rows_per_sample].reshape(
                num_samples, *item.sample_shape
            )
            for item, start in zip(self.components, self.starts(num_samples), strict=False)
        ]

    def places(self, begin: int, stop: int, num_samples: int) -> Indices:
        """Returns where in the array the rows of samples are, in the order of the plan.

        Args:
            begin: The first of these samples in the batch.
            stop: The end (exclusive) of the last.
            num_samples: Samples of the batch.
        """
        length = self.index.rows_per_sample
        if not self.is_shared:
            return np.arange(begin * length, stop * length)
        samples = np.arange(begin, stop)[:, np.newaxis]
        lengths = [item.index.rows_per_sample for item in self.components]
        found: Indices = np.concatenate(
            [
                start + samples * count + np.arange(count)
                for start, count in zip(self.starts(num_samples), lengths, strict=False)
            ],
            axis=1,
        )
        return found.ravel()


def rows_of_components(components: Sequence[Component]) -> list[BatchRows]:
    """Finds which components have rows of one dataset, and are read together.

    Returns:
        Each component once; one whose values are in memory, alone.
    """
    found: dict[Any, list[int]] = {}
    for number, item in enumerate(components):
        index = item.index
        key: Any = (id(item.accesses), id(index.run_parts), id(index.run_rows))
        found.setdefault(number if item.is_in_memory else key, []).append(number)
    return [
        BatchRows(tuple(numbers), tuple(items), _joined([item.index for item in items]))
        for numbers in found.values()
        for items in [[components[number] for number in numbers]]
    ]


def _joined(indices: Sequence[SampleIndex]) -> SampleIndex:
    """Returns an index of the same anchors with the rows of all."""
    if len(indices) == 1:
        return indices[0]
    anchor = np.zeros(1, np.int64)
    offsets = [anchor if index.offsets is None else index.offsets for index in indices]
    return indices[0].with_offsets(np.concatenate(offsets))
