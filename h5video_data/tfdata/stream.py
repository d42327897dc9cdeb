"""`ElementStream`: all that this folder knows of a loader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from h5video_data.options import LoaderOptions
from h5video_data.reading.prefetcher import Bundle
from h5video_data.summary import ArraySpec

from .malloc import keep_freed_blocks
from .timestamps import HandOver, Timestamps


@dataclass(frozen=True, eq=False)
class ElementStream:
    """The elements of a loader's epochs, and what a pipeline has to know of them."""

    options: LoaderOptions
    """The loader's arguments."""
    num_threads: int
    """Calls of a map stage at once, unless `num_parallel_calls` was given."""
    sample_specs: tuple[ArraySpec, ...]
    """Shape and dtype of one sample of each component, before the map stages; and of its number,
    with `return_indices`."""
    to_element: Callable[[Sequence[Any]], Any]
    """Makes an element, in the form that Keras takes, of one value for each of these."""
    is_decoded: bool
    """Whether samples go through filters each time that they are read."""
    num_batches: int
    """Batches of a whole epoch."""
    static_batch_size: int | None
    """Samples of every batch; None if they differ."""
    num_elements: int | None
    """Elements of a whole epoch's dataset, batches or single samples; None: unknown."""
    next_epoch: Callable[[], Iterator[Bundle]]
    """Begins the next epoch and yields its batches, some at a time."""
    seeds_of: Callable[[Bundle], NDArray[np.int32]]
    """Gives the seeds (samples, 2) of a bundle's samples, for random map functions."""
    describe: Callable[[Any], str]
    """Gives one line about the set and its elements, of which it takes the spec."""
    pin_buffers: Callable[[int], None]
    """Has batches lie in pinned memory of the GPU of that number; CudaError: it cannot."""
    release: Callable[[], None]
    """Releases threads, files and buffers when no dataset of the stream is left."""

    def element_spec(self, batch_size: int | None, *, with_seeds: bool) -> Any:
        """Returns the spec of a batch before the map stages.

        Args:
            batch_size: Its samples; None: not known.
            with_seeds: Whether it is a pair of the element and the seeds of its samples.
        """
        spec = self.to_element(
            [tf.TensorSpec((batch_size, *item.shape), item.dtype) for item in self.sample_specs]
        )
        return (spec, tf.TensorSpec((batch_size, 2), tf.int32)) if with_seeds else spec


def bundled_elements(
    stream: ElementStream, timestamps: Timestamps, *, with_seeds: bool
) -> Iterator[Any]:
    """Yields the batches of the next epoch, some at a time, as `from_generator` takes them.

    Args:
        stream: The loader's elements.
        timestamps: Where to note when they are handed over.
        with_seeds: Whether each is a pair of the element and its samples' seeds, int32
            (samples, 2).

    Yields:
        (bounds, element): int64 (batches, 2), where each batch begins and ends (exclusive); and the
        element that all of them would be as one batch.
    """
    if stream.is_decoded:
        keep_freed_blocks()
    asked = time.time()
    for bundle in stream.next_epoch():
        batch = bundle.batch
        bounds = np.stack([np.append(0, batch.stops[:-1]), batch.stops], axis=1)
        values = batch.arrays
        if stream.options.return_indices:
            # A copy: the memory of a tensor is TensorFlow's, which may write to it.
            values = [*values, batch.indices.copy()]
        element = stream.to_element(values)
        if with_seeds:
            element = element, stream.seeds_of(bundle)
        timestamps.hand_overs.append(HandOver(asked, bundle.waited, time.time()))
        yield bounds, element
        # The buffers are reused when no reference to them is left, this frame's included.
        del bundle, batch, values, element
        asked = time.time()
