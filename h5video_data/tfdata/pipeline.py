"""From a loader's batches to a `tf.data.Dataset` that Keras trains on."""

from __future__ import annotations

import functools
import inspect
import re
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from h5video_data.errors import ArgumentError, H5VideoError
from h5video_data.loader import VideoLoader, function_name
from h5video_data.reading.threads import run_by_others

from .inline_map import map_inline
from .timestamps import Timestamps

# Finished batches that wait for the training step, so that it never waits for the hand-over.
PREFETCH_BATCHES = 2


def make_dataset(loader: VideoLoader) -> tf.data.Dataset:
    """A dataset of a loader's elements: from_generator, map stages, prefetch."""
    with tf.init_scope():
        if not tf.executing_eagerly():
            raise H5VideoError(
                "A dataset needs TensorFlow's eager execution, which disable_eager_execution() of "
                "tf.compat.v1, or a tf.Graph, has switched off here. Use TensorFlow without them, "
                "or iterate over a VideoLoader, which gives the batches as NumPy arrays."
            )
    if loader.device is not None:
        _check_device(loader.device)
    stamps = loader.stamps = loader.stamps or Timestamps()
    last = len(loader.map_fns) - 1
    stages = [
        _MapStage(function, number, is_last=number == last)
        for number, function in enumerate(loader.map_fns)
    ]
    with_seeds = any(stage.takes_seeds for stage in stages)
    # Seeds travel along up to the last stage, but only if one needs them: each tensor costs time.
    dataset = tf.data.Dataset.from_generator(
        run_by_others(functools.partial(loader.element_groups, with_seeds=with_seeds)),
        output_signature=(
            tf.TensorSpec((None, 2), tf.int64),
            _element_spec(loader, None, with_seeds=with_seeds),
        ),
    )
    # TensorFlow keeps the generator, and with it the loader, until the process ends. Threads, open
    # files and buffers go with the dataset; datasets and iterators made from this one hold it.
    weakref.finalize(dataset, loader.release).atexit = False
    ungroup = functools.partial(
        _ungrouped, stamps, _element_spec(loader, loader.static_batch_size, with_seeds=with_seeds)
    )
    dataset = _at_most(loader.num_elements, dataset.flat_map(ungroup))
    for stage in stages:
        try:
            dataset = dataset.map(
                stage.with_seeds if with_seeds else stage.without_seeds,
                num_parallel_calls=loader.num_threads,
                deterministic=True,
                name=stage.name,
            )
        except Exception as error:
            # TensorFlow replaces most exceptions by its own, which tells where in the user's code
            # they came from. The caller gets the original, and that one as its cause.
            if stage.error is None:
                raise
            raise stage.error from (None if stage.error is error else error)
    # What waits for a stage from here on is the training, or a stage that waits for it.
    dataset = stamps.follow(dataset.prefetch(PREFETCH_BATCHES))
    if loader.batch_size is None:
        dataset = dataset.unbatch()
        if not loader.skips_failed:
            length = tf.data.experimental.assert_cardinality(loader.steps_per_epoch)
            dataset = dataset.apply(length)
    dataset = dataset.with_options(_options(loader))
    if loader.device is not None:
        # Has to be the last stage, and does not tell its length.
        copy = tf.data.experimental.prefetch_to_device(loader.device, PREFETCH_BATCHES)
        dataset = dataset.apply(copy)
        dataset.cardinality = lambda: tf.constant(loader.steps_per_epoch, tf.int64)
    dataset.loader = loader
    if loader.video_set.class_names is not None:
        dataset.class_names = list(loader.video_set.class_names)
    return dataset


def _check_device(device: str) -> None:
    """Raises an ArgumentError if there is no such device, where TensorFlow takes the processor."""
    devices = [found.name for found in tf.config.list_logical_devices()]
    try:
        wanted = tf.DeviceSpec.from_string(device)
    except (TypeError, ValueError, AttributeError):
        wanted = None
    if wanted is None or not any(_is_device(wanted, name) for name in devices):
        raise ArgumentError(
            f"`device` must be one of {', '.join(map(repr, devices))}. Received: device={device!r}"
        )


def _is_device(wanted: tf.DeviceSpec, name: str) -> bool:
    """Whether a device agrees with what is said of the wanted one."""
    found = tf.DeviceSpec.from_string(name)
    parts = ("job", "replica", "task", "device_type", "device_index")
    pairs = [(getattr(wanted, part), getattr(found, part)) for part in parts]
    return all(one == other for one, other in pairs if None not in (one, other))


def _element_spec(loader: VideoLoader, length: int | None, *, with_seeds: bool) -> Any:
    """What an element of so many samples is, before the map stages."""
    columns = loader.video_set.components
    spec = loader.video_set.build(
        lambda number: tf.TensorSpec((length, *columns[number].sample_shape), columns[number].dtype)
    )
    return (spec, tf.TensorSpec((length, 2), tf.int32)) if with_seeds else spec


def _ungrouped(stamps: Timestamps, spec: Any, bounds: tf.Tensor, group: Any) -> tf.data.Dataset:
    """The batches of a group, one by one: slices, which TensorFlow makes without a copy."""
    stamps.note_arrival()

    def cut(bound: tf.Tensor) -> list[tf.Tensor]:
        batch = [tensor[bound[0] : bound[1]] for tensor in tf.nest.flatten(group)]
        for tensor, tensor_spec in zip(batch, tf.nest.flatten(spec), strict=True):
            tensor.set_shape(tensor_spec.shape)
        return batch

    return map_inline(tf.data.Dataset.from_tensor_slices(bounds), cut, spec)


def _at_most(count: int, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, of which TensorFlow is told that there are `count`, as Keras wants.

    An epoch that goes on from a saved position has fewer, which `assert_cardinality` would take for
    an error. A choice between two datasets counts as endless if one of them is. This one always
    falls on the first of them, and ends with it: an iterator runs the generator just once, and
    cannot begin another epoch.
    """
    spec = dataset.element_spec

    def zeros(_: tf.Tensor) -> Any:
        return tf.nest.map_structure(lambda s: tf.zeros([n or 0 for n in s.shape], s.dtype), spec)

    never_asked = tf.data.Dataset.range(1).repeat().map(zeros)
    always_first = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64)).repeat()
    both = tf.data.Dataset.choose_from_datasets([dataset, never_asked], always_first)
    return both.take(count)


def _options(loader: VideoLoader) -> tf.data.Options:
    options = tf.data.Options()
    # With the autotuner on, deleting an iterator can wait until the tuner's sleep is over, which
    # grows to the length of the epoch; all numbers of threads are explicit here.
    options.autotune.enabled = False
    # The order of the samples is decided before they are read; a stage must not change it.
    options.deterministic = True
    # A worker that knows its share reads nothing else: there is nothing left to divide. One that
    # does not know it reads everything, and TensorFlow has to throw most of it away: with OFF, all
    # workers would train on the same part of each batch.
    policies = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = (
        policies.DATA if loader.input_context is None else policies.OFF
    )
    return options


def _takes_seeds(function: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get("seeds")
    except (TypeError, ValueError):  # a callable without a signature
        return False
    return parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY


class _MapStage:
    """One map function, as tf.data traces it."""

    def __init__(self, function: Callable[..., Any], number: int, *, is_last: bool) -> None:
        self.function = function
        self.number = number
        self.is_last = is_last
        self.takes_seeds = _takes_seeds(function)
        # TensorFlow's errors name the stage by this: "passed to map_fn_1_augment transformation".
        self.name = f"map_fn_{number}_{re.sub('[^A-Za-z0-9_]', '_', function_name(function))}"
        self.error: Exception | None = None
        """What the function raised while it was traced."""

    def without_seeds(self, *element: Any) -> Any:
        """Maps an element."""
        return self._call(element, {})

    def with_seeds(self, element: Any, seeds: tf.Tensor) -> Any:
        """Maps an element, and hands the seeds on, if there is a next stage."""
        options = {}
        if self.takes_seeds:
            # Stages must not make the same random choices: each has its own number in its seeds.
            salt = tf.constant([self.number << 16, 0], tf.int32)
            options["seeds"] = tf.bitwise.bitwise_xor(seeds, salt)
        # As Dataset.map does it: only a tuple itself is made of arguments, and a list is a tuple.
        mapped = self._call(element if type(element) is tuple else (element,), options)
        mapped = tuple(mapped) if isinstance(mapped, list) else mapped
        return mapped if self.is_last else (mapped, seeds)

    def _call(self, arguments: tuple[Any, ...], options: dict[str, tf.Tensor]) -> Any:
        try:
            return self.function(*arguments, **options)
        except Exception as error:
            self.error = error
            raise
