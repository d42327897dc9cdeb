"""Working memory of each thread, for the bytes between two steps of decoding."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Alignment, in bytes, of memory that TensorFlow takes without a copy: see `reading.buffers`."""


def aligned_empty(num_bytes: int) -> NDArray[np.uint8]:
    """Returns uninitialised memory, uint8 (num_bytes,), aligned to `ALIGNMENT` bytes."""
    block = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + num_bytes]


_scratch = threading.local()


def scratch(purpose: str, num_bytes: int) -> NDArray[np.uint8]:
    """Returns uninitialised working memory of the calling thread, uint8 (num_bytes,).

    The next call with the same purpose in the same thread returns the same memory. Fresh memory
    costs a page fault every 4 KiB: a seventh of the time that compressed chunks take.
    """
    block: NDArray[np.uint8] | None = _scratch.__dict__.get(purpose)
    if block is None or len(block) < num_bytes:
        block = _scratch.__dict__[purpose] = aligned_empty(num_bytes)
    return block[:num_bytes]
