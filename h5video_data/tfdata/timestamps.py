"""Notes in TensorFlow's graph when groups arrive, and when elements are asked for and given.

It happens on the host's processor without Python, and costs a hundredth of a millisecond. Where
`tf.config.experimental.enable_op_determinism` forbids to ask for the time, Python is asked, which
costs some hundredths each time.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .inline_map import map_inline

# Rows of a ring: a monitor looks several times before they are overwritten.
NUM_KEPT = 4096

# What TensorFlow calls a resource that lives as long as what refers to it.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


class Timestamps:
    """When groups of elements came from the generator, and when elements left the pipeline."""

    def __init__(self) -> None:
        self._arrived = _Ring(1)
        self._left = _Ring(2)
        self._now = _timestamp if _is_timestamp_allowed() else _time_of_python

    def arrived(self) -> NDArray[np.float64]:
        """When the last groups had been made tensors, in seconds since 1970, ascending."""
        return self._arrived.read()[:, 0]

    def left(self) -> NDArray[np.float64]:
        """(n, 2), when each of the last elements was asked for, and when it was given.

        In seconds since 1970, in the order of the latter.
        """
        return self._left.read()

    def note_arrival(self) -> None:
        """Notes that a group has arrived: to be called in a graph that has it as its input."""
        self._arrived.write([self._now()])

    def follow(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same dataset, which now tells when its elements are asked for and given."""
        # Each element is asked of the first dataset, then of the second one, by whoever wants it.
        numbers = tf.data.Dataset.range(tf.int64.max)
        asked = map_inline(numbers, self._ask, tf.TensorSpec((), tf.float64))
        both = tf.data.Dataset.zip((asked, dataset))
        return map_inline(both, self._note, dataset.element_spec)

    def _ask(self, number: tf.Tensor) -> tf.Tensor:
        del number
        return self._now()

    def _note(self, asked: tf.Tensor, *element: tf.Tensor) -> list[tf.Tensor]:
        self._left.write([asked, self._now()])
        return list(element)


class _Ring:
    """The last rows of times that were written.

    Its two resources are no `tf.Variable`s, of which a distribution strategy would make one for
    each replica.
    """

    def __init__(self, num_columns: int) -> None:
        self._rows = _resource(np.full((NUM_KEPT, num_columns), -1, np.float64))
        self._count = _resource(np.array(0, np.int64))

    def write(self, times: list[tf.Tensor]) -> None:
        with tf.device("/CPU:0"):
            count = tf.raw_ops.ReadVariableOp(resource=self._count, dtype=tf.int64)
            one = tf.constant(1, tf.int64)
            tf.raw_ops.AssignAddVariableOp(resource=self._count, value=one)
            tf.raw_ops.ResourceScatterUpdate(
                resource=self._rows, indices=count % NUM_KEPT, updates=tf.stack(times)
            )

    def read(self) -> NDArray[np.float64]:
        """Those that were written, in the order of their last column."""
        with tf.init_scope(), tf.device("/CPU:0"):
            rows = tf.raw_ops.ReadVariableOp(resource=self._rows, dtype=tf.float64).numpy()
        rows = rows[rows[:, -1] >= 0]
        ordered: NDArray[np.float64] = rows[np.argsort(rows[:, -1], kind="stable")]
        return ordered


def _timestamp() -> tf.Tensor:
    with tf.device("/CPU:0"):
        return tf.timestamp()


def _time_of_python() -> tf.Tensor:
    with tf.device("/CPU:0"):
        return tf.ensure_shape(tf.numpy_function(time.time, [], tf.float64), ())


def _is_timestamp_allowed() -> bool:
    """Whether TensorFlow tells the time: not once `enable_op_determinism` was called."""
    try:
        with tf.init_scope():
            _timestamp()
    except tf.errors.FailedPreconditionError:
        return False
    return True


def _resource(value: NDArray[Any]) -> tf.Tensor:
    """A variable in the host's memory, wherever the dataset is made: in a graph as well."""
    with tf.init_scope(), tf.device("/CPU:0"):
        resource = tf.raw_ops.VarHandleOp(
            dtype=value.dtype, shape=value.shape, shared_name=_ANONYMOUS
        )
        tf.raw_ops.AssignVariableOp(resource=resource, value=value)
    return resource
