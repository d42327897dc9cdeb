"""What several contenders share: a generator of NumPy batches as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import Job


def from_generator(job: Job, generator: Callable[[], Iterator[Any]], *, prefetch: bool) -> Any:
    """A dataset of an epoch's batches, as users write it, with TensorFlow's own options.

    Args:
        job: What is to be fed.
        generator: Gives a new iterator over batches (x, y), of which an epoch's are taken.
        prefetch: Whether to read ahead in a thread.
    """
    import tensorflow as tf

    signature = tuple(tf.TensorSpec(shape, dtype) for shape, dtype in job.array_specs())
    dataset = tf.data.Dataset.from_generator(generator, output_signature=signature)
    dataset = dataset.take(job.steps)
    # fit counts the steps, as the user would otherwise with `steps_per_epoch`.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(job.steps))
    return dataset.prefetch(tf.data.AUTOTUNE) if prefetch else dataset
