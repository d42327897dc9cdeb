"""Records when batches and elements pass the stages of a pipeline.

The times behind the generator are recorded by TensorFlow's graph, on the CPU and without Python,
which takes a hundredth of a millisecond. Where `tf.config.experimental.enable_op_determinism` has
disabled `tf.timestamp`, Python's clock is read instead, which takes some hundredths.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .raw_stages import map_inline, pairs
from .resources import make_resource

# Times that are kept of each kind: a monitor reads them several times before they are overwritten.
NUM_KEPT = 4096


class HandOver(NamedTuple):
    """One `next` of the generator: seconds since 1970, and of waiting."""

    asked: float
    """When TensorFlow asked for batches."""
    waited: float
    """Seconds from then on until they were read."""
    given: float
    """When the generator yielded them."""


class Timestamps:
    """Records when batches and elements pass the stages of a loader's pipelines.

    Attributes:
        hand_overs: The last times that the generator was asked for batches, and gave them.
    """

    def __init__(self) -> None:
        self.hand_overs: deque[HandOver] = deque(maxlen=NUM_KEPT)
        self._arrived = _Ring(1)
        self._left = _Ring(2)
        self._now = _timestamp if _is_timestamp_allowed() else _python_time

    def arrived(self) -> NDArray[np.float64]:
        """Returns when the last hand-overs had become tensors: seconds since 1970, ascending."""
        return self._arrived.read()[:, 0]

    def left(self) -> NDArray[np.float64]:
        """Returns when the pipeline was asked for its last elements, and when it gave them.

        Returns:
            float64 (n, 2), seconds since 1970, ascending by the second column.
        """
        return self._left.read()

    def note_arrival(self) -> None:
        """Records that a hand-over has become tensors: to be called in a graph of these."""
        self._arrived.write([self._now()])

    def follow(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns a dataset of the same elements that records when each is asked for and given."""
        # In the thread that asks for a pair.
        numbers = tf.data.Dataset.range(tf.int64.max)
        asked = map_inline(numbers, self._ask, tf.TensorSpec((), tf.float64))
        return map_inline(pairs(asked, dataset), self._note, dataset.element_spec)

    def _ask(self, number: tf.Tensor) -> tf.Tensor:
        del number
        return self._now()

    def _note(self, asked: tf.Tensor, *element: tf.Tensor) -> list[tf.Tensor]:
        self._left.write([asked, self._now()])
        return list(element)


class _Ring:
    """The last `NUM_KEPT` rows of times that were written.

    Its two resources are not `tf.Variable`s: a distribution strategy would make one of these for
    each replica.
    """

    def __init__(self, num_columns: int) -> None:
        self._rows = make_resource(np.full((NUM_KEPT, num_columns), -1, np.float64))
        self._count = make_resource(np.array(0, np.int64))

    def write(self, times: list[tf.Tensor]) -> None:
        with tf.device("/CPU:0"):
            count = tf.raw_ops.ReadVariableOp(resource=self._count, dtype=tf.int64)
            one, length = tf.constant(1, tf.int64), tf.constant(NUM_KEPT, tf.int64)
            tf.raw_ops.AssignAddVariableOp(resource=self._count, value=one)
            tf.raw_ops.ResourceScatterUpdate(
                resource=self._rows,
                indices=tf.raw_ops.FloorMod(x=count, y=length),
                updates=tf.raw_ops.Pack(values=times),
            )

    def read(self) -> NDArray[np.float64]:
        """Returns the rows, ascending by their last column."""
        with tf.init_scope(), tf.device("/CPU:0"):
            rows = tf.raw_ops.ReadVariableOp(resource=self._rows, dtype=tf.float64).numpy()
        rows = rows[rows[:, -1] >= 0]
        ordered: NDArray[np.float64] = rows[np.argsort(rows[:, -1], kind="stable")]
        return ordered


def _timestamp() -> tf.Tensor:
    with tf.device("/CPU:0"):
        return tf.timestamp()


def _python_time() -> tf.Tensor:
    with tf.device("/CPU:0"):
        return tf.ensure_shape(tf.numpy_function(time.time, [], tf.float64), ())


def _is_timestamp_allowed() -> bool:
    """Whether `tf.timestamp` works: not after `enable_op_determinism`."""
    try:
        with tf.init_scope():
            _timestamp()
    except tf.errors.FailedPreconditionError:
        return False
    return True
