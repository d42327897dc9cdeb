"""Copies of the same samples in other formats, compressed as the file is, or not at all.

TFRecord files are read as TensorFlow's performance guide recommends; a zarr copy, a chunk a sample,
by tensorstore.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.facts import open_file, sample_bytes
from benchmarks.measure import Feed

from .base import Contender, Job, SkippedError, from_generator

# The guide asks for files of some 100 MB.
SHARD_BYTES = 128 << 20

# A shuffle of the whole set would hold it all in memory; this many samples are usual.
SHUFFLE_BUFFER = 256

# By the filters of the file; there is no shuffle filter.
COMPRESSION = {(): "", (1,): "GZIP", (2, 1): "GZIP"}

# Batches whose reading has begun while another one is in use.
READ_AHEAD = 2

# The codec that is closest to the file's filters.
CODECS: dict[tuple[int, ...], Any] = {
    (): None,
    (1,): {"id": "zlib", "level": 4},
    (2, 1): {"id": "blosc", "cname": "zlib", "clevel": 4, "shuffle": 1},
    (32015,): {"id": "zstd", "level": 3},
    (32001,): {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2},
}


@contextmanager
def open_tfrecord(job: Job) -> Iterator[Feed]:
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
        files = _write_records(job, folder, compression)
        dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=0)
        dataset = dataset.interleave(
            lambda file: tf.data.TFRecordDataset(file, compression),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
        dataset = dataset.shuffle(min(SHUFFLE_BUFFER, job.num_samples), seed=0)
        dataset = dataset.batch(job.batch_size, drop_remainder=True)
        dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(job.steps))
        yield Feed(dataset.prefetch(tf.data.AUTOTUNE), files)


def _write_records(job: Job, folder: str, compression: str) -> list[str]:
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


@contextmanager
def open_tensorstore(job: Job) -> Iterator[Feed]:
    """Writes the copy, compressed as the original is, or not at all; removes it at the end."""
    import tensorstore

    if job.filters() not in CODECS:
        raise SkippedError("zarr has no codec like this file's filters")
    (shape, dtype), _ = job.array_specs()
    metadata = {
        "shape": [job.num_samples, *shape[1:]],
        "chunks": [1, *shape[1:]],
        "dtype": dtype.str,
        "compressor": CODECS[job.filters()],
    }
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        place = {"driver": "file", "path": folder}
        spec = {"driver": "zarr", "kvstore": place, "metadata": metadata}
        store = tensorstore.open(spec, create=True).result()
        with open_file(job.path) as file:
            clips = file["X"]
            size = max(job.batch_size, clips.chunks[0] if clips.chunks else 1)
            for first in range(0, job.num_samples, size):
                rows = slice(first, min(first + size, job.num_samples))
                store[rows].write(clips[rows]).result()
        epochs, labels = itertools.count(), job.labels()

        def generate() -> Iterator[Any]:
            reading: deque[Any] = deque()
            for batch in job.batches(next(epochs)):
                reading.append((store[batch].read(), labels[batch]))
                if len(reading) > READ_AHEAD:
                    future, y = reading.popleft()
                    yield future.result(), y
            for future, y in reading:
                yield future.result(), y

        files = [str(path) for path in Path(folder).rglob("*") if path.is_file()]
        yield Feed(from_generator(job, generate, prefetch=True), files)


CONTENDERS = {
    "tfrecord": Contender(open_tfrecord, is_copy=True),
    "tensorstore": Contender(open_tensorstore, needs="tensorstore", is_copy=True),
}
