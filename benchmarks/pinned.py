"""Host memory that the GPU copies from by itself: registered with the NVIDIA driver, "pinned".

A copy from other memory goes through a pinned buffer of the driver's, with a processor's help.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from h5video_data import VideoLoader
from h5video_data.reading import batch_reader
from h5video_data.reading.buffers import BufferPool

LIBRARY = "libcuda.so.1"

# cuda.h: the memory counts as pinned in all contexts of the process.
CU_MEMHOSTREGISTER_PORTABLE = 1


class CudaError(RuntimeError):
    """There is no NVIDIA driver or no GPU, or a call of the driver failed."""


class Cuda:
    """The first GPU's context, which TensorFlow and JAX use as well.

    Args:
        functions: The driver's library, functions that return a CUresult; None: it is looked for.
    """

    def __init__(self, functions: Any = None) -> None:
        try:
            self._functions = functions or ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CudaError(f"no NVIDIA driver: {error}") from error
        self._context, device = ctypes.c_void_p(), ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def pinned_empty(self, num_bytes: int) -> NDArray[np.uint8]:
        """Returns uint8 (num_bytes,) in pages of its own, pinned until it is collected."""
        pages = mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        array = np.frombuffer(pages, np.uint8)
        address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(num_bytes)
        flags = ctypes.c_uint(CU_MEMHOSTREGISTER_PORTABLE)
        with self._current():
            self._call("cuMemHostRegister_v2", address, size, flags)
        # Has the pages as an argument: NumPy 2.5 releases them before it is called.
        weakref.finalize(array, self._unregister, address, pages).atexit = False
        return array

    @contextlib.contextmanager
    def receiver(self, num_bytes: int) -> Iterator[Callable[[NDArray[Any]], None]]:
        """A function that copies an array of up to so many bytes to the device, and waits."""
        there = ctypes.c_uint64()
        with self._current():
            self._call("cuMemAlloc_v2", ctypes.byref(there), ctypes.c_size_t(num_bytes))

        def receive(host: NDArray[Any]) -> None:
            address, size = ctypes.c_void_p(host.ctypes.data), ctypes.c_size_t(host.nbytes)
            with self._current():
                self._call("cuMemcpyHtoD_v2", there, address, size)
                self._call("cuCtxSynchronize")

        try:
            yield receive
        finally:
            with self._current():
                self._call("cuMemFree_v2", there)

    def _unregister(self, address: ctypes.c_void_p, pages: mmap.mmap) -> None:
        with self._current():
            self._call("cuMemHostUnregister", address)
        del pages  # not before

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Makes the context that of the calling thread."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        result = getattr(self._functions, name)(*arguments)
        if result:
            raise CudaError(f"{name}: CUDA error {result}")


def pin_buffers(loader: VideoLoader, cuda: Cuda) -> None:
    """Makes a loader that has read nothing yet read into pinned memory; reads its first batch."""

    class PinnedPool(BufferPool):
        """Blocks that are pinned, and all kept: pinning one takes as long as filling it."""

        def __init__(self, block_nbytes: int, *, max_kept: int) -> None:
            del max_kept
            super().__init__(block_nbytes, max_kept=sys.maxsize)

        def allocate(self) -> NDArray[np.uint8]:
            return cuda.pinned_empty(self.block_nbytes)

    # The reader, which lives as long as the loader, makes its pools when the first epoch begins.
    with mock.patch.object(batch_reader, "BufferPool", PinnedPool):
        next(iter(loader))
