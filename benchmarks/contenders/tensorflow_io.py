"""tensorflow-io's HDF5 reader, by its raw op: its datasets abort at the rank of video.

0.37.1 is its last release, and works with TensorFlow 2.16 and 2.17 only. `benchmarks/tfio` makes an
environment for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.files import open_file
from benchmarks.measure import Feed

from . import Job

# More at once gain nothing: one lock covers reading and decompressing.
PARALLEL_CALLS = 8

# gzip, shuffle, fletcher32, scale-offset: what the HDF5 inside of it can undo.
FILTERS = frozenset({1, 2, 3, 6})


def why_not(job: Job) -> str | None:
    """It has no filter plugins, and no care for byte order."""
    with open_file(job.path) as file:
        dtype = file["X"].dtype
    if not FILTERS.issuperset(job.filters()):
        return "tensorflow-io cannot undo this file's filters"
    if not dtype.isnative or (dtype.itemsize < 4 and dtype.kind == "f"):
        return f"tensorflow-io reads {dtype.str} wrongly or not at all"
    return None


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """A call of the op a sample; the labels are kept in memory."""
    import tensorflow as tf
    from tensorflow_io.python.ops import core_ops

    (shape, dtype), _ = job.array_specs()
    with open_file(job.path) as file:
        stored_shape = file["X"].shape

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
        return tf.reshape(clip, shape[1:]), tf.gather(labels, index)

    dataset = tf.data.Dataset.range(job.num_samples)
    dataset = dataset.shuffle(job.num_samples, seed=job.seed)
    dataset = dataset.map(read, num_parallel_calls=PARALLEL_CALLS)
    dataset = dataset.batch(job.batch_size, drop_remainder=True)
    yield Feed(dataset.prefetch(tf.data.AUTOTUNE))
