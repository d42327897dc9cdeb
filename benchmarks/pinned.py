"""Host memory that the GPU copies from by itself: registered with the NVIDIA driver, "pinned".

A copy from other memory goes through a pinned buffer of the driver's, with a processor's help.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from h5video_data import VideoLoader
from h5video_data.reading import batch_reader as reader
from h5video_data.reading.buffers import BufferPool
from h5video_data.storage.scratch import aligned_empty

LIBRARY = "libcuda.so.1"

# cuda.h: the memory counts as pinned in all contexts of the process.
CU_MEMHOSTREGISTER_PORTABLE = 1

# Bytes of a copy whose speed is the limit, and how many copies are made.
COPY_BYTES = 64 << 20
NUM_COPIES = 16


class CudaError(RuntimeError):
    """A call of the driver failed."""


class Functions(Protocol):
    """The driver's functions, by name."""

    def __getattr__(self, name: str) -> Any:
        """A function that returns a CUresult: 0, or what went wrong."""


class Cuda:
    """The first GPU's context, which TensorFlow and JAX use as well.

    Args:
        functions: The driver's library.

    Raises:
        CudaError: There is no GPU.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def pinned_empty(self, num_bytes: int) -> NDArray[np.uint8]:
        """Bytes, uint8 (num_bytes,), in pages of their own, pinned until they are collected."""
        pages = mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        array = np.frombuffer(pages, np.uint8)
        address = ctypes.c_void_p(array.ctypes.data)
        with self._current():
            self._call(
                "cuMemHostRegister_v2",
                address,
                ctypes.c_size_t(num_bytes),
                ctypes.c_uint(CU_MEMHOSTREGISTER_PORTABLE),
            )
        # Has the pages as an argument: NumPy 2.5 lets go of them before it is called.
        weakref.finalize(array, self._unregister, address, pages).atexit = False
        return array

    def copy_speed(self, host: NDArray[np.uint8]) -> float:
        """Bytes per second of copies from an array to the device."""
        there = ctypes.c_uint64()
        size = ctypes.c_size_t(host.nbytes)
        address = ctypes.c_void_p(host.ctypes.data)
        with self._current():
            self._call("cuMemAlloc_v2", ctypes.byref(there), size)
            try:
                self._call("cuMemcpyHtoD_v2", there, address, size)
                begin = time.perf_counter()
                for _ in range(NUM_COPIES):
                    self._call("cuMemcpyHtoD_v2", there, address, size)
                self._call("cuCtxSynchronize")
                seconds = time.perf_counter() - begin
            finally:
                self._call("cuMemFree_v2", there)
        return NUM_COPIES * host.nbytes / seconds

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

        try:
            yield receive
        finally:
            with self._current():
                self._call("cuMemFree_v2", there)

    def limits(self, num_bytes: int = COPY_BYTES) -> dict[str, float]:
        """Bytes per second of copies to the device from `pageable` and from `pinned` memory."""
        pageable, pinned = aligned_empty(num_bytes), self.pinned_empty(num_bytes)
        # Or it would be read from the one page of zeros.
        pageable[:] = pinned[:] = 1
        return {"pageable": self.copy_speed(pageable), "pinned": self.copy_speed(pinned)}

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


def find_cuda() -> Cuda:
    """The first GPU.

    Raises:
        CudaError: There is no NVIDIA driver, or no GPU.
    """
    try:
        library: Any = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaError(f"no NVIDIA driver: {error}") from error
    return Cuda(library)


def pin_buffers(loader: VideoLoader, cuda: Cuda) -> None:
    """Has a loader that has read nothing yet read into pinned memory, from now on.

    Reads its first batch.
    """

    class PinnedPool(BufferPool):
        """Blocks that are pinned, and stay so: that takes as long as to fill them."""

        def __init__(self, block_nbytes: int, *, max_kept: int) -> None:
            del max_kept
            super().__init__(block_nbytes, max_kept=sys.maxsize)

        def allocate(self) -> NDArray[np.uint8]:
            """Such a block."""
            return cuda.pinned_empty(self.block_nbytes)

    # The reader, which lives as long as the loader, makes its pools when the first epoch begins.
    with mock.patch.object(reader, "BufferPool", PinnedPool):
        next(iter(loader))
