"""From a loader's batches to a `tf.data.Dataset` that Keras trains on."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from h5video_data.errors import H5VideoError
from h5video_data.reading.pinned_memory import CudaError
from h5video_data.reading.threads import run_by_others

from . import process_end as process_end  # registers what it does
from .described import DescribedDataset
from .devices import check_device, cuda_gpu
from .epoch_iterators import EpochIterators
from .map_stages import MapStage
from .raw_stages import at_most, flat_map, map_inline
from .resources import make_token
from .stream import ElementStream, bundled_elements
from .timestamps import Timestamps

# Finished batches that wait for the training step, so that it never waits for the hand-over.
PREFETCH_BATCHES = 2


def make_dataset(stream: ElementStream, timestamps: Timestamps) -> tf.data.Dataset:
    """Makes a dataset of a loader's elements: from_generator, map stages, prefetch.

    Args:
        stream: The elements.
        timestamps: Where the pipeline records its times.
    """
    with tf.init_scope():
        if not tf.executing_eagerly():
            raise H5VideoError(
                "A dataset needs TensorFlow's eager execution, which disable_eager_execution() of "
                "tf.compat.v1, or a tf.Graph, has disabled here. Use TensorFlow without them, or "
                "iterate over a VideoLoader, which gives the batches as NumPy arrays."
            )
    device, functions = stream.options.device, stream.options.map_fns
    if device is not None:
        check_device(device)
    stages = [
        MapStage(function, number, is_last=number == len(functions) - 1)
        for number, function in enumerate(functions)
    ]
    # Seeds are passed from stage to stage, but only if one needs them: each tensor costs time.
    with_seeds = any(stage.takes_seeds for stage in stages)
    dataset = _batches(stream, timestamps, with_seeds=with_seeds)
    for stage in stages:
        try:
            dataset = dataset.map(
                stage.with_seeds if with_seeds else stage.without_seeds,
                num_parallel_calls=stream.options.num_parallel_calls or stream.num_threads,
                deterministic=True,
                name=stage.name,
            )
        except Exception as error:
            # TensorFlow replaces most exceptions by its own, which tells where in the user's code
            # they came from. The caller gets the original, with that one as its cause.
            if stage.error is None:
                raise
            raise stage.error from (None if stage.error is error else error)
    # From here on, a stage is waited for only if the training waits.
    dataset = timestamps.follow(dataset.prefetch(PREFETCH_BATCHES))
    if stream.options.batch_size is None:
        dataset = dataset.unbatch()
        if stream.num_elements is not None:
            length = tf.data.experimental.assert_cardinality(stream.num_elements)
            dataset = dataset.apply(length)
    options = _options(stream)
    dataset = dataset.with_options(options)
    # A map function's results are not in the loader's buffers any more.
    if stream.options.pin_memory is None and not functions:
        gpu = cuda_gpu(device)
        if gpu is not None:
            with contextlib.suppress(CudaError):  # the driver may refuse; copies are slower then
                stream.pin_buffers(gpu)
    if device is None:
        length = stream.num_elements
        iterators = None if length is None else EpochIterators(dataset, length, options)
        return DescribedDataset(dataset, stream.describe, iterators=iterators)
    # Must be the last stage, and does not know its length.
    copy = tf.data.experimental.prefetch_to_device(device, PREFETCH_BATCHES)
    return DescribedDataset(dataset.apply(copy), stream.describe, stream.num_elements)


def _batches(stream: ElementStream, timestamps: Timestamps, *, with_seeds: bool) -> tf.data.Dataset:
    """Returns the dataset of the batches before the map stages."""
    held = [functools.partial(bundled_elements, stream, timestamps, with_seeds=with_seeds)]

    def elements() -> Iterator[Any]:
        return held[0]()

    dataset = tf.data.Dataset.from_generator(
        run_by_others(elements),
        output_signature=(
            tf.TensorSpec((None, 2), tf.int64),
            stream.element_spec(None, with_seeds=with_seeds),
        ),
    )
    # Threads, files and buffers go when Python has no dataset of it any more. TensorFlow keeps the
    # generator until the process ends; the loader behind it, with its indices and chunk tables,
    # goes with the pipeline, of which a tf.function may run epochs after that.
    weakref.finalize(dataset, stream.release).atexit = False
    token = make_token(functools.partial(_forget, stream, held))
    batch_spec = stream.element_spec(stream.static_batch_size, with_seeds=with_seeds)

    def cut(bounds: tf.Tensor, *bundle: tf.Tensor) -> tf.data.Dataset:
        return _cut_bundle(timestamps, batch_spec, bounds, bundle)

    return at_most(stream.num_batches, flat_map(dataset, cut, batch_spec), token)


def _forget(stream: ElementStream, held: list[Any]) -> None:
    held.clear()
    stream.release()


def _cut_bundle(
    timestamps: Timestamps, spec: Any, bounds: tf.Tensor, bundle: Sequence[tf.Tensor]
) -> tf.data.Dataset:
    """Returns the batches of a bundle: slices, which TensorFlow makes without a copy."""
    timestamps.note_arrival()

    def cut(bound: tf.Tensor) -> list[tf.Tensor]:
        begin, end = tf.split(bound, 2)
        batch = [
            tf.raw_ops.StridedSlice(input=tensor, begin=begin, end=end, strides=[1])
            for tensor in bundle
        ]
        for tensor, tensor_spec in zip(batch, tf.nest.flatten(spec), strict=True):
            tensor.set_shape(tensor_spec.shape)
        return batch

    return map_inline(tf.data.Dataset.from_tensor_slices(bounds), cut, spec)


def _options(stream: ElementStream) -> tf.data.Options:
    options = tf.data.Options()
    # With the autotuner on, deleting an iterator can wait until the tuner's sleep is over, which
    # grows to the length of the epoch; all numbers of threads are explicit here.
    options.autotune.enabled = False
    # The order of the samples is decided before they are read; a stage must not change it.
    options.deterministic = True
    # A worker with an `input_context` reads its own shard: there is nothing left to divide. One
    # without reads everything, and TensorFlow has to discard most of it: with OFF, all workers
    # would train on the same part of each batch.
    policies = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = (
        policies.DATA if stream.options.input_context is None else policies.OFF
    )
    return options
