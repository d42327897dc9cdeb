"""TFRecord files made from the same samples, read as TensorFlow's performance guide recommends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.facts import open_file, sample_bytes
from benchmarks.measure import Feed

from .base import Contender, Job, SkippedError

# The guide asks for files of some 100 MB.
SHARD_BYTES = 128 << 20

# A shuffle of the whole set would hold it all in memory; this many samples are usual.
SHUFFLE_BUFFER = 256

# By the filters of the file; there is no shuffle filter.
COMPRESSION = {(): "", (1,): "GZIP", (2, 1): "GZIP"}


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Writes the records, compressed as the original is, or not at all; removes them at the end."""
    import tensorflow as tf

    if job.filters() not in COMPRESSION:
        raise SkippedError("TFRecord files have no compression but gzip")
    compression, specs = COMPRESSION[job.filters()], job.array_specs()

    def parse(records: Any) -> tuple[Any, ...]:
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("x", "y")}
        parsed = tf.io.parse_example(records, features)
        return tuple(
            tf.reshape(tf.io.decode_raw(parsed[name], dtype), shape)
            for name, (shape, dtype) in zip(("x", "y"), specs, strict=True)
        )

    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        files = _write(job, folder, compression)
        dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=job.seed)
        dataset = dataset.interleave(
            lambda file: tf.data.TFRecordDataset(file, compression),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
        dataset = dataset.shuffle(min(SHUFFLE_BUFFER, job.num_samples), seed=job.seed)
        dataset = dataset.batch(job.batch_size, drop_remainder=True)
        dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(job.steps))
        yield Feed(dataset.prefetch(tf.data.AUTOTUNE), files)


def _write(job: Job, folder: str, compression: str) -> list[str]:
    """Writes the samples that take part to several files."""
    import tensorflow as tf

    def feature(array: Any) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))

    files = []
    with open_file(job.path) as file:
        X, Y = file["X"], file["Y"]
        per_shard = max(1, SHARD_BYTES // sample_bytes(X))
        for first in range(0, job.num_samples, per_shard):
            files.append(f"{folder}/{first:08}.tfrecord")
            rows = slice(first, min(first + per_shard, job.num_samples))
            with tf.io.TFRecordWriter(files[-1], compression) as writer:
                for clip, label in zip(X[rows], Y[rows], strict=True):
                    features = tf.train.Features(feature={"x": feature(clip), "y": feature(label)})
                    writer.write(tf.train.Example(features=features).SerializeToString())
    return files


CONTENDERS = {
    "tfrecord": Contender(open_feed, "shuffle(256), interleave and map AUTOTUNE", is_copy=True)
}
