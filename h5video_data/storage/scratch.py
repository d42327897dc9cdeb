"""Memory of a thread for what it works on."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Of memory that TensorFlow takes without a copy, in bytes: see `reading.buffers`."""


def aligned_empty(num_bytes: int) -> NDArray[np.uint8]:
    """Uninitialised bytes, uint8 (num_bytes,), that start at a multiple of `ALIGNMENT`."""
    block = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + num_bytes]


_scratch = threading.local()


def scratch(purpose: str, num_bytes: int) -> NDArray[np.uint8]:
    """Uninitialised bytes, uint8 (num_bytes,), of the calling thread, for what it works on.

    The same memory is given out the next time that the thread asks for the same purpose: fresh
    memory costs a page fault every 4 KiB, which for compressed chunks is a seventh of all the time.
    """
    block: NDArray[np.uint8] | None = _scratch.__dict__.get(purpose)
    if block is None or len(block) < num_bytes:
        block = _scratch.__dict__[purpose] = aligned_empty(num_bytes)
    return block[:num_bytes]
