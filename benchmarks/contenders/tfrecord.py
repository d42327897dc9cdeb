"""TFRecord files made from the same samples, read as TensorFlow's performance guide recommends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.files import open_file
from benchmarks.measure import Feed

from . import Job

# The guide asks for files of some 100 MB.
SHARD_BYTES = 128 << 20

# A shuffle of the whole set would hold it all in memory; this many samples are usual.
SHUFFLE_BUFFER = 256

# By the filters of the file; there is no shuffle filter.
COMPRESSION = {(): "", (1,): "GZIP", (2, 1): "GZIP"}


def why_not(job: Job) -> str | None:
    """The copy is compressed as the original is, or not at all."""
    if tuple(job.filters()) not in COMPRESSION:
        return "TFRecord knows no compression but gzip's"
    return None


@contextmanager
def open_feed(job: Job) -> Iterator[Feed]:
    """Writes the records, and removes them at the end."""
    compression = COMPRESSION[tuple(job.filters())]
    folder = job.folder / f"{Path(job.path).stem}_tfrecord"
    try:
        files = write_records(job, folder, compression)
        yield Feed(_dataset(job, files, compression), files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_records(job: Job, folder: Path, compression: str) -> list[str]:
    """Writes the samples that take part to several files."""
    import tensorflow as tf

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (shape, dtype), _ = job.array_specs()
    row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    per_shard = max(1, SHARD_BYTES // row_bytes)
    files = []
    with open_file(job.path) as file:
        X, Y = file["X"], file["Y"]
        for first in range(0, job.num_samples, per_shard):
            name = str(folder / f"{first:08}.tfrecord")
            files.append(name)
            rows = slice(first, min(first + per_shard, job.num_samples))
            clips, labels = X[rows], Y[rows]
            with tf.io.TFRecordWriter(name, compression) as writer:
                for clip, label in zip(clips, labels, strict=True):
                    features = {"x": _bytes(tf, clip), "y": _bytes(tf, label)}
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())
    return files


def _bytes(tf: Any, array: Any) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))


def _dataset(job: Job, files: list[str], compression: str) -> Any:
    import tensorflow as tf

    specs = job.array_specs()

    def parse(records: Any) -> tuple[Any, ...]:
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("x", "y")}
        parsed = tf.io.parse_example(records, features)
        return tuple(
            tf.reshape(tf.io.decode_raw(parsed[name], dtype), shape)
            for name, (shape, dtype) in zip(("x", "y"), specs, strict=True)
        )

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
    return dataset.prefetch(tf.data.AUTOTUNE)
