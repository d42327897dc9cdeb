"""tensorflow-io's HDF5 reader, by its raw op: its datasets abort at the rank of video.

0.37.1 is its last release, and works with TensorFlow 2.16 and 2.17 only. `benchmarks/tfio` makes an
environment for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.facts import open_file
from benchmarks.measure import Feed

from .base import Contender, Job, SkippedError

# More at once gain nothing: one lock covers reading and decompressing.
PARALLEL_CALLS = 8

# gzip, shuffle, fletcher32, scale-offset: what the HDF5 inside of it can undo.
FILTERS = frozenset({1, 2, 3, 6})


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """A call of the op a sample; the labels are kept in memory."""
    import tensorflow as tf
    from tensorflow_io.python.ops import core_ops

    with open_file(job.path) as file:
        stored_shape, dtype = file["X"].shape, file["X"].dtype
    if not FILTERS.issuperset(job.filters()):
        raise SkippedError("tensorflow-io cannot undo this file's filters")
    if not dtype.isnative or (dtype.itemsize < 4 and dtype.kind == "f"):
        raise SkippedError(f"tensorflow-io reads {dtype.str} wrongly or not at all")
    labels = tf.constant(job.labels())

    def read(index: Any) -> tuple[Any, Any]:
        clip = core_ops.io_hdf5_readable_read(
            input=job.path,
            shared=job.path,
            component="/X",
            shape=tf.constant(stored_shape, tf.int64),
            start=tf.reshape(index, [1]),
            # The op takes the number of dimensions from the rank of this tensor.
            stop=tf.reshape(index + 1, [1] * len(stored_shape)),
            dtype=tf.as_dtype(dtype),
            container="",
        )
        return tf.reshape(clip, stored_shape[1:]), tf.gather(labels, index)

    dataset = tf.data.Dataset.range(job.num_samples)
    dataset = dataset.shuffle(job.num_samples, seed=job.seed)
    dataset = dataset.map(read, num_parallel_calls=PARALLEL_CALLS)
    dataset = dataset.batch(job.batch_size, drop_remainder=True)
    yield Feed(dataset.prefetch(tf.data.AUTOTUNE))


TEXT = "its raw op, 8 parallel calls, TensorFlow 2.16"
CONTENDERS = {"tfio": Contender(open_feed, TEXT, "tensorflow_io", has_environment=True)}
