"""Batch buffers that TensorFlow takes without a copy, reused only once nobody sees them.

TensorFlow's `py_func` takes an array as it is if its data starts at a multiple of 64 bytes (Eigen's
EIGEN_MAX_ALIGN_BYTES in the released wheels); the tensor then *is* the buffer. It keeps the array
alive for as long as any tensor, slice or `numpy()` view of it lives.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import UnavailableError
from h5video_data.storage.scratch import ALIGNMENT as ALIGNMENT
from h5video_data.storage.scratch import aligned_empty
from h5video_data.storage.system import anonymous_memory

from .pinned_memory import PinnedMemory

# Blocks of this size or more come from the kernel, and go back there. The C library would keep them
# among its own, from where they may never go back: samples that were freed in another order than
# they came in left it with twice their memory. Smaller ones are too many for that.
LEAST_MAPPED_NBYTES = 128 << 10

# Blocks of this size or more are in huge pages if the kernel has them, as NumPy's arrays are.
LEAST_HUGE_NBYTES = 4 << 20


class BufferPool:
    """Lends out blocks of one size as arrays, and keeps those that come back for the next loan.

    A block belongs to the array that it was lent as, and to every view of that array. When the last
    of them is collected, the block comes back: never earlier, so nobody who holds a batch, in
    whatever form, sees it change. `lend` never waits: if no block is at hand, it allocates one.

    Blocks come back on whatever thread drops the last reference; `lend` may be called on any.

    Args:
        block_nbytes: Size of a block in bytes.
        max_kept: Blocks kept for reuse at most; more than that are freed when they come back.
        pinned: Pins blocks that are not small, for copies to a GPU; None: they are not pinned.
    """

    def __init__(
        self, block_nbytes: int, *, max_kept: int, pinned: PinnedMemory | None = None
    ) -> None:
        self.block_nbytes = block_nbytes
        self.max_kept = max_kept
        self._pinned = pinned
        self.num_allocated = 0
        # Only appended to and popped from, which the interpreter does in one step. A finalizer may
        # run at any point of any thread, in the middle of `lend` too: a lock could be a deadlock.
        self._free: list[NDArray[np.uint8]] = []

    def allocate(self) -> NDArray[np.uint8]:
        """A new block.

        Raises:
            UnavailableError: There is no memory for it.
        """
        # Pages start at a multiple of ALIGNMENT.
        is_huge = self.block_nbytes >= LEAST_HUGE_NBYTES
        try:
            if self.block_nbytes < LEAST_MAPPED_NBYTES:
                return aligned_empty(self.block_nbytes)
            pages = anonymous_memory(self.block_nbytes, is_huge=is_huge)
        except (OSError, MemoryError) as error:
            raise UnavailableError(
                f"There is no memory for another batch, {self.block_nbytes} bytes: {error}. Lower "
                "`batch_size` or `read_ahead_bytes`, or hold fewer batches."
            ) from error
        block = np.frombuffer(pages, np.uint8)
        if self._pinned is not None:
            self._pinned.pin(block, pages)
        return block

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An uninitialised C-contiguous array of at most `block_nbytes`, aligned.

        Args:
            shape: Its shape.
            dtype: Its dtype.
        """
        try:
            block = self._free.pop()
        except IndexError:
            block = self.allocate()
            self.num_allocated += 1
        # NumPy gives every view of an array that array's own base. An array over a memoryview is
        # where such a chain ends: all views of a loan keep just this one alive.
        root = np.frombuffer(block.data, np.uint8)
        weakref.finalize(root, _give_back, self._free, block, self.max_kept).atexit = False
        count = math.prod(shape) * dtype.itemsize
        return root[:count].view(dtype).reshape(shape)


def _give_back(free: list[NDArray[np.uint8]], block: NDArray[np.uint8], max_kept: int) -> None:
    if len(free) < max_kept:
        free.append(block)
