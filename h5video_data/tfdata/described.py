"""A dataset whose `repr` says what it holds, and whose iterators start fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from h5video_data.summary import Described

from .epoch_iterators import EpochIterators


class DescribedDataset(Described, tf.data.Dataset):  # type: ignore[misc]
    """The elements of another dataset, with a `repr` and a length of its own.

    It adds no stage: both share one variant tensor. TensorFlow requires `_inputs` of every subclass
    of `tf.data.Dataset`.

    Args:
        dataset: The other dataset.
        describe: Gives the `repr` for the spec of an element.
        num_elements: Its length, where the last stage of `dataset` does not tell; None: it does.
        iterators: Gives the iterators, where TensorFlow executes eagerly; None: TensorFlow does.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        describe: Callable[[Any], str],
        num_elements: int | None = None,
        iterators: EpochIterators | None = None,
    ) -> None:
        self._input_dataset = dataset
        self._describe = describe
        self._num_elements = num_elements
        self._iterators = iterators
        super().__init__(tf.data.experimental.to_variant(dataset))

    def _inputs(self) -> list[tf.data.Dataset]:
        return [self._input_dataset]

    @property
    def element_spec(self) -> Any:
        """The spec of an element, as the other dataset has it."""
        return self._input_dataset.element_spec

    def __iter__(self) -> tf.data.Iterator:
        """Returns an iterator over the next epoch."""
        if self._iterators is not None and tf.executing_eagerly():
            iterator = self._iterators.new()
            if iterator is not None:
                return iterator
        return super().__iter__()

    def cardinality(self) -> tf.Tensor:
        """Returns the number of elements, int64."""
        if self._num_elements is None:
            return super().cardinality()
        return tf.constant(self._num_elements, tf.int64)

    def __repr__(self) -> str:
        return self._describe(self.element_spec)

    def _details(self) -> list[tuple[str, str]]:
        loader = getattr(self, "loader", None)
        return [] if loader is None else loader._details()
