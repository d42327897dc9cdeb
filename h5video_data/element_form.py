"""`ElementForm`: what an element of a loader is made of, and in which form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .options import LoaderOptions
from .summary import ArraySpec
from .video_set import VideoSet

# An element: x, or (x, y) or (x, y, sample_weight), each an array or a dict of arrays, and with
# `return_indices` the samples' numbers. (The tuple's items and the dict's keys are Any, so that
# `for x, y in loader` needs no cast.)
Element: TypeAlias = NDArray[Any] | dict[Any, NDArray[Any]] | tuple[Any, ...]


class ElementForm:
    """Makes elements of a set's values.

    Args:
        video_set: The set.
        options: The loader's arguments.

    Attributes:
        sample_specs: Shape and dtype of one sample of each value: of each component and, if
            elements have it, of its number.
        names: Names of the items of an element.
    """

    def __init__(self, video_set: VideoSet, options: LoaderOptions) -> None:
        self._set = video_set
        self._is_batch = options.batch_size is not None
        self._has_indices = has_indices = options.return_indices
        specs = [ArraySpec(item.sample_shape, item.dtype) for item in video_set.components]
        number = ArraySpec((), np.dtype(np.int64))
        self.sample_specs = (*specs, *[number] * has_indices)
        items = ("x", "y", "sample_weight")[: len(video_set.element)]
        self.names = (*items, *["indices"] * has_indices)

    def values(
        self, arrays: Sequence[NDArray[Any]], indices: NDArray[np.int64]
    ) -> Sequence[NDArray[Any]]:
        """Returns a batch's values: an array for each component and, if wanted, the numbers."""
        # A copy: a view would keep the order of the whole epoch in memory.
        return [*arrays, indices.copy()] if self._has_indices else arrays

    def elements(
        self, arrays: Sequence[NDArray[Any]], indices: NDArray[np.int64]
    ) -> Iterator[Element]:
        """Yields the elements of a batch: the batch itself, or its samples.

        Args:
            arrays: An array for each component.
            indices: int64 (batch,), the samples' numbers.
        """
        values = self.values(arrays, indices)
        if self._is_batch:
            yield self.build(values)
            return
        for row in range(len(indices)):
            yield self.build([value[row] for value in values])

    def build(self, values: Sequence[Any]) -> Any:
        """Returns the element that is made of one value for each of `sample_specs`."""
        element = self._set.build(values.__getitem__)
        if not self._has_indices:
            return element
        items = element if len(self._set.element) > 1 else (element,)
        return (*items, values[-1])
