"""Iterators over epochs that start in a few milliseconds.

For each `iter()`, TensorFlow builds the whole pipeline anew, and optimises the graphs of its
functions: some 50 ms. So one iterator of TensorFlow's gives epoch after epoch:

    endless numbers, taken while an epoch may begin -> flat_map: the pipeline     "all epochs"
    endless numbers -> map: get_next() of all epochs, n times for each that is allowed

`flat_map` builds the pipeline for each epoch, but within one iterator, for which the graphs are
optimised already. The pipeline begins when its first element is asked for, and ends with the epoch,
as it does by itself: nothing is read over the end, no map function runs for another epoch, and
`set_epoch` and `load_state_dict` between epochs have their effect. After n elements, the function
of the last stage asks an iterator that has ended, which ends its own, until the next is allowed.

The rule. `iter(dataset)` uses such an iterator when TensorFlow executes eagerly, so in a Python
loop and in `fit`, if the number of elements is known. It is used again when nothing of Python has
it any more, and either all elements of its epoch were given or none was asked for. So an iterator
beside another one, and the first one after an epoch that was broken off, failed, or was shorter
(resumed, or with skipped batches) builds a pipeline, as does the first one in the child of a fork.
Datasets made from this one (`map`, `take`, `repeat`, ...), functions of TensorFlow that iterate
over it, strategies, datasets with a `device`, whose last stage copies, and all datasets where
TensorFlow lacks a name that is used here, take the pipeline itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from h5video_data.storage.system import at_fork

from .resources import make_resource

_log = logging.getLogger(__name__)

# Iterators that are kept for later epochs. Keras needs two: at the end of an epoch, and again at
# the beginning of the next one, it makes an iterator while it still has the one before.
NUM_KEPT = 4


class EpochIterators:
    """The iterators over a pipeline, one for each epoch.

    Args:
        pipeline: A dataset, of which each iterator is an epoch.
        num_elements: Elements of a whole epoch.
        options: Options of the iterators.
    """

    def __init__(
        self, pipeline: tf.data.Dataset, num_elements: int, options: tf.data.Options
    ) -> None:
        self._pipeline = pipeline
        self._num_elements = num_elements
        self._options = options
        # Without a lock: a finalizer, which may run at any point, adds to it.
        self._free: deque[_LastingIterator] = deque(maxlen=NUM_KEPT)
        self._is_possible = True

    def new(self) -> tf.data.Iterator | None:
        """Returns an iterator over the next epoch. TensorFlow must execute eagerly.

        None: this version of TensorFlow lacks something that they are made of.
        """
        if not self._is_possible:
            return None
        try:
            return self._new()
        except (AttributeError, TypeError) as error:
            self._is_possible = False
            _log.info("Epochs start slowly: TensorFlow %s: %s", tf.__version__, error)
            return None

    def _new(self) -> tf.data.Iterator:
        with tf.device("/CPU:0"):
            lasting = self._take_free() or _LastingIterator(self._stages)
            lasting.allow_epoch()
            resource = tf.identity(lasting.resource)
        # Whatever uses the iterator has this tensor, if not the object that is returned.
        end = weakref.finalize(resource, _keep, lasting, self._free)
        end.atexit = False
        spec = tf.data.IteratorSpec(self._pipeline.element_spec)
        iterator = tf.nest.pack_sequence_as(spec, [resource], expand_composites=True)
        iterator._dataset = self._pipeline  # as TensorFlow's own have it
        return iterator

    def _take_free(self) -> _LastingIterator | None:
        while self._free:
            with contextlib.suppress(IndexError):  # another thread was faster
                lasting = self._free.pop()
                if lasting.process == os.getpid():
                    return lasting
        return None

    @functools.cached_property
    def _stages(self) -> _Stages:
        return _Stages(self._pipeline, self._num_elements, self._options)


def _keep(lasting: _LastingIterator, free: deque[_LastingIterator]) -> None:
    """Keeps an iterator that nobody uses any more, if it can give another epoch."""
    if lasting.is_reusable():
        free.append(lasting)


class _LastingIterator:
    """An iterator over epoch after epoch, each of which begins and ends as it is allowed.

    Attributes:
        resource: The iterator, as TensorFlow knows it.
        process: The number of the process that built it; no other one can use it.
    """

    def __init__(self, stages: _Stages) -> None:
        self.process = os.getpid()
        self._stages = stages
        # TensorFlow 2.16 loses some memory with each constant.
        self._zero = tf.constant(0, tf.int64)
        self._to_limit = tf.constant(1 + stages.num_elements, tf.int64)
        self._begun = make_resource(np.array(0, np.int64))
        self._given = make_resource(np.array(0, np.int64))
        # A number for each element that is asked for: those below the limit are given.
        self._tickets = _resource_of(stages.numbers)
        self._limit = make_resource(np.array(0, np.int64))
        all_epochs = _resource_of(stages.all_epochs(self._begun))
        ended = _resource_of(stages.numbers.take(0))
        self.resource = _resource_of(
            stages.limited(self._tickets, self._limit, all_epochs, ended, self._given)
        )
        _all.add(self)

    def is_reusable(self) -> bool:
        """Whether all elements of the epoch were given, or none was asked for."""
        with tf.init_scope(), tf.device("/CPU:0"):
            if self.process != os.getpid() or not tf.executing_eagerly():  # in a `tf.Graph`
                return False
            begun, given = (
                int(tf.raw_ops.ReadVariableOp(resource=resource, dtype=tf.int64))
                for resource in (self._begun, self._given)
            )
        return not begun or given == self._stages.num_elements

    def allow_epoch(self) -> None:
        """Allows another epoch to begin."""
        for resource in (self._begun, self._given):
            tf.raw_ops.AssignVariableOp(resource=resource, value=self._zero)
        limit = _next_number(self._tickets) + self._to_limit
        tf.raw_ops.AssignVariableOp(resource=self._limit, value=limit)


_all: weakref.WeakSet[_LastingIterator] = weakref.WeakSet()


def _keep_for_ever() -> None:
    """Keeps the iterators of the parent in the child of a fork, even beyond the interpreter's end.

    To delete them would take threads of theirs, which do not cross a fork.
    """
    for lasting in _all:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(lasting))


at_fork(after_in_child=_keep_for_ever)


def _resource_of(dataset: tf.data.Dataset) -> tf.Tensor:
    return iter(dataset)._iterator_resource


class _Stages:
    """The stages around a pipeline. Their functions are traced once for all iterators.

    They capture nothing: graphs are parts of reference cycles, and what they hold would live until
    these are collected.
    """

    def __init__(
        self, pipeline: tf.data.Dataset, num_elements: int, options: tf.data.Options
    ) -> None:
        self.num_elements = num_elements
        self._pipeline = pipeline  # lives as long as iterators over it, as with other stages
        self._options = options
        self.numbers = tf.data.Dataset.range(tf.int64.max).with_options(options)
        self._types = {
            "output_types": pipeline._flat_types,
            "output_shapes": pipeline._flat_shapes,
        }
        number, resource = tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.resource)
        self._may_begin = _graph(_may_begin, number, resource)
        self._begin = _graph(lambda _, dataset: dataset, number, tf.TensorSpec((), tf.variant))
        self._give = _graph(self._next_element, number, *[resource] * 5)

    def all_epochs(self, begun: tf.Tensor) -> tf.data.Dataset:
        """Returns a dataset of the elements of all epochs; one begins while `begun` is 0."""
        numbers = tf.raw_ops.TakeWhileDataset(
            input_dataset=tf.data.experimental.to_variant(self.numbers),
            other_arguments=[begun],
            predicate=self._may_begin,
            output_types=[tf.int64],
            output_shapes=[()],
        )
        return self._dataset(
            tf.raw_ops.FlatMapDataset(
                input_dataset=numbers,
                other_arguments=[tf.data.experimental.to_variant(self._pipeline)],
                f=self._begin,
                **self._types,
            )
        )

    def limited(self, *resources: tf.Tensor) -> tf.data.Dataset:
        """Returns a dataset that ends whenever the limit is reached.

        Args:
            resources: All arguments of `_next_element` but the first.
        """
        return self._dataset(
            tf.raw_ops.MapDataset(
                input_dataset=tf.data.experimental.to_variant(self.numbers),
                other_arguments=resources,
                f=self._give,
                use_inter_op_parallelism=False,
                # Otherwise, an OutOfRangeError of the function would not be the end.
                preserve_cardinality=False,
                **self._types,
            )
        )

    def _dataset(self, variant: tf.Tensor) -> tf.data.Dataset:
        spec = self._pipeline.element_spec
        return tf.data.experimental.from_variant(variant, spec).with_options(self._options)

    def _next_element(
        self,
        number: tf.Tensor,
        tickets: tf.Tensor,
        limit: tf.Tensor,
        all_epochs: tf.Tensor,
        ended: tf.Tensor,
        given: tf.Tensor,
    ) -> list[tf.Tensor]:
        """Returns the next element, and counts it; raises an OutOfRangeError after the last.

        Args:
            number: Not used.
            tickets: Iterator over numbers; each call takes one, also those of several threads.
            limit: Variable, int64, the first number that is not given an element.
            all_epochs: Iterator over the elements.
            ended: Iterator that has no elements.
            given: Variable, int64, to which each element that is given adds 1.
        """
        del number
        is_given = _next_number(tickets) < tf.raw_ops.ReadVariableOp(resource=limit, dtype=tf.int64)
        iterator = tf.raw_ops.Select(condition=is_given, x=all_epochs, y=ended)
        element: list[tf.Tensor] = tf.raw_ops.IteratorGetNext(iterator=iterator, **self._types)
        with tf.control_dependencies(element):
            tf.raw_ops.AssignAddVariableOp(resource=given, value=tf.constant(1, tf.int64))
        return element


def _next_number(numbers: tf.Tensor) -> tf.Tensor:
    (number,) = tf.raw_ops.IteratorGetNext(
        iterator=numbers, output_types=[tf.int64], output_shapes=[()]
    )
    return number


def _may_begin(number: tf.Tensor, begun: tf.Tensor) -> tf.Tensor:
    """Returns whether an epoch may begin, and notes that it has."""
    del number
    is_first = tf.equal(tf.raw_ops.ReadVariableOp(resource=begun, dtype=tf.int64), 0)
    with tf.control_dependencies([is_first]):
        tf.raw_ops.AssignVariableOp(resource=begun, value=tf.constant(1, tf.int64))
    return is_first


def _graph(function: Callable[..., Any], *specs: tf.TensorSpec) -> Any:
    """Traces a function of tensors, to be run on the CPU."""

    def run(*arguments: tf.Tensor) -> Any:
        # XLA's clusters need an executor with several threads; see `raw_stages`.
        with tf.device("/CPU:0"), tf.xla.experimental.jit_scope(compile_ops=False):
            return function(*arguments)

    return tf.function(run, autograph=False).get_concrete_function(*specs)
