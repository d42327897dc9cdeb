"""Variables that no strategy copies, unlike `tf.Variable`s, and that graphs take as arguments."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

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
