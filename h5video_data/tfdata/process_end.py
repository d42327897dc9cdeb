"""The end of the process, while iterators of TensorFlow's are alive."""

from __future__ import annotations

import atexit
import ctypes
import gc
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@atexit.register
def _keep_iterators() -> None:
    """Keeps all iterators beyond the end of the interpreter.

    It would destroy them, and wait for their threads while it holds its own lock: for ever, if one
    of them is in Python, or on its way there, since Python ends such a thread in the middle of what
    TensorFlow waits for. The process ends all the same.
    """
    kinds = [kind for kind in _derived(tf.__internal__.CompositeTensor) if "Iterator" in str(kind)]
    # Not `gc.get_objects`: it holds what other threads are about to make, of which they may count
    # the references.
    for item in gc.get_referrers(*kinds):
        if type(item) in kinds:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _derived(base: Any) -> Iterator[type]:
    """Yields all classes that are derived from one."""
    for kind in base.__subclasses__():
        yield kind
        yield from _derived(kind)
