"""`ElementForm`: what an element of a loader is made of, and in which form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .options import LoaderOptions
from .summary import ArraySpec, summary
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
        self._batch_size = options.batch_size
        self._has_indices = has_indices = options.return_indices
        specs = [ArraySpec(item.sample_shape, item.dtype) for item in video_set.components]
        number = ArraySpec((), np.dtype(np.int64))
        self.sample_specs = (*specs, *[number] * has_indices)
        items = ("x", "y", "sample_weight")[: len(video_set.element)]
        self.names = (*items, *["indices"] * has_indices)

    @property
    def class_names(self) -> list[str] | dict[Any, list[str]] | None:
        """The names of the classes of y: see `VideoLoader`."""
        y = self._set.element[1] if len(self._set.element) > 1 else None
        if isinstance(y, dict):
            named = {key: self._set.components[number].class_names for key, number in y.items()}
            if any(named.values()):
                return {key: list(names) for key, names in named.items() if names is not None}
        return None if self._set.class_names is None else list(self._set.class_names)

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
        if self._batch_size is not None:
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

    def element_spec(self, batch_size: int | None) -> Any:
        """Returns an element whose values are an `ArraySpec` each.

        Args:
            batch_size: Samples of every batch; None: they differ.
        """
        size = () if self._batch_size is None else (batch_size,)
        return self.build(
            [ArraySpec((*size, *spec.shape), spec.dtype) for spec in self.sample_specs]
        )

    def summary(self, spec: Any, num_samples: int) -> str:
        """Returns in one line what elements of a spec, of so many samples, hold."""
        return summary(
            spec,
            num_files=len(self._set.paths),
            num_samples=num_samples,
            num_stored=self._set.num_samples,
            batch_size=self._batch_size,
            names=self.names,
        )
