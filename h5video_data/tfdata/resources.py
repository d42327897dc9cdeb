"""Variables that no strategy copies, and graphs take as arguments; tensors that tell their end."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from h5video_data.storage.scratch import ALIGNMENT, aligned_empty

# The name that makes TensorFlow delete a resource with the last reference to it.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


def make_resource(value: NDArray[Any]) -> tf.Tensor:
    """Returns a variable in the host's memory, even if it is made inside a graph.

    It is deleted with the last reference to it.
    """
    with tf.init_scope(), tf.device("/CPU:0"):
        resource = tf.raw_ops.VarHandleOp(
            dtype=value.dtype, shape=value.shape, shared_name=_ANONYMOUS
        )
        tf.raw_ops.AssignVariableOp(resource=resource, value=value)
    return resource


class _Token(np.ndarray):
    """An array that TensorFlow takes as it is: it would take the copy that it asks for."""

    def copy(self, order: Any = "C") -> NDArray[Any]:
        del order
        return self


def make_token(freed: Callable[[], object]) -> tf.Tensor:
    """Returns a small tensor, int64 zeros, whose memory is an array of Python.

    Args:
        freed: Called when nothing has the tensor any more, TensorFlow's datasets and graphs among
            them; by any thread that runs Python. Never, if TensorFlow copies the array, as it does
            for a graph that the tensor is made in.
    """
    array = aligned_empty(ALIGNMENT)
    array[:] = 0
    owner = weakref.ref(array.base)  # TensorFlow holds a view of it, if it takes it as it is
    with tf.device("/CPU:0"):
        token = tf.constant(array.view(np.int64).view(_Token))
    del array
    memory = owner()
    if memory is not None:
        weakref.finalize(memory, freed).atexit = False
    return token
