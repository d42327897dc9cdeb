"""A setting of the C library's `malloc`, which TensorFlow changes to the worse for codecs."""

from __future__ import annotations

from h5video_data.storage.system import c_library

# Larger than what codecs allocate (Blosc: two of its blocks), smaller than most batches.
KEPT_BLOCK_NBYTES = 1 << 20

# malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_blocks() -> None:
    """Has the C library keep freed blocks of up to `KEPT_BLOCK_NBYTES` for reuse.

    TensorFlow 2.21 (not 2.16) has it map every block of 128 KiB or more from the kernel, page by
    page, and unmap it when it is freed: `ApplyPython311MemoryPatch` calls `mallopt` whenever a
    `from_generator` starts. Blosc allocates such a block for each chunk; reading it had two thirds
    of its speed, or less. Larger blocks are still unmapped at once.

    Must be called after `from_generator` has started. The setting holds for the whole process. Does
    nothing with another C library.
    """
    mallopt = getattr(c_library(), "mallopt", None)
    if mallopt is not None:
        # Twice as much at the end of the heap, as the library itself does it.
        mallopt(_M_TRIM_THRESHOLD, 2 * KEPT_BLOCK_NBYTES)
        mallopt(_M_MMAP_THRESHOLD, KEPT_BLOCK_NBYTES)
