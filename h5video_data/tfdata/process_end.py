"""The end of the process, while iterators of TensorFlow's are alive."""

from __future__ import annotations

import atexit
import ctypes
import gc

import tensorflow as tf


@atexit.register
def _keep_iterators() -> None:
    """Keeps all iterators beyond the end of the interpreter.

    It would destroy them, and wait for their threads while it holds its own lock: for ever, if one
    of them is in Python, or on its way there, since Python ends such a thread in the middle of what
    TensorFlow waits for. The process ends all the same.
    """
    kinds = (tf.data.Iterator, tf.__internal__.CompositeTensor)  # the latter: those of strategies
    for item in gc.get_objects():
        if isinstance(item, kinds):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
