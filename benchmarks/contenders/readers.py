"""Other readers of HDF5: zea's chunk reader, a batch at a time, and tensorflow-io's raw op.

zea hands reads below a MiB, contiguous datasets and filters that it does not know to h5py.
tensorflow-io's datasets abort at the rank of video. Its last release, 0.37.1, works with TensorFlow
2.16 and 2.17 only; `benchmarks/tfio` makes an environment for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.facts import open_file
from benchmarks.measure import Feed

from .base import Contender, Job, SkippedError, from_reader

# More at once gain nothing: one lock covers reading and decompressing.
PARALLEL_CALLS = 8

# gzip, shuffle, fletcher32, scale-offset: what the HDF5 inside of it can undo.
FILTERS = frozenset({1, 2, 3, 6})


@contextmanager
def open_zea(job: Job) -> Iterator[Feed]:
    """Opens the file, and its bytes a second time for the chunk reader."""
    from zea.data import chunk_reader

    with open_file(job.path) as file, closing(chunk_reader.fetcher_for(file)) as fetcher:
        yield Feed(from_reader(job, lambda batch: chunk_reader.read(file["X"], batch, fetcher)))


@contextmanager
def open_tfio(job: Job) -> Iterator[Feed]:
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
    dataset = dataset.shuffle(job.num_samples, seed=0)
    dataset = dataset.map(read, num_parallel_calls=PARALLEL_CALLS)
    dataset = dataset.batch(job.batch_size, drop_remainder=True)
    yield Feed(dataset.prefetch(tf.data.AUTOTUNE))


CONTENDERS = {
    "zea": Contender(open_zea, needs="zea"),
    "tfio": Contender(open_tfio, needs="tensorflow_io", has_environment=True),
}
