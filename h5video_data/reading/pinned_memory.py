"""Pinned memory: pages that a GPU copies from by itself, while the processors do something else.

A copy from other memory goes through a small pinned buffer of the driver's, at a processor's pace:
on an H200, batches came to the device at a fifth of the rate that they come from pinned memory, and
the training step waited for them (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

LIBRARY = "libcuda.so.1"

# cuda.h: the memory counts as pinned in all contexts of the process.
CU_MEMHOSTREGISTER_PORTABLE = 1


class CudaError(RuntimeError):
    """There is no NVIDIA driver or no such GPU, or a call of the driver failed."""


class PinnedMemory:
    """Pins blocks of memory through the NVIDIA driver, for all GPUs of the process.

    It uses the context of one GPU, the one that TensorFlow, JAX and PyTorch use on that GPU too.

    Args:
        gpu: Number of that GPU among those that CUDA shows to this process.
        functions: The driver's library, functions that return a CUresult; None: it is looked for.

    Raises:
        CudaError: There is no driver or no such GPU.
    """

    def __init__(self, gpu: int = 0, functions: Any = None) -> None:
        try:
            self._functions = functions or ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CudaError(f"no NVIDIA driver: {error}") from error
        self._pid = os.getpid()
        self._is_refused = False
        self._context, device = ctypes.c_void_p(), ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), gpu)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def pin(self, block: NDArray[np.uint8], pages: mmap.mmap) -> None:
        """Pins a block until it is collected.

        A system may limit pinned memory. What the driver refuses is logged once, and this block and
        later ones are not pinned: copies from them are slower, and right.

        Args:
            block: uint8 (bytes,), over all of `pages`.
            pages: Its memory, which is kept until it is not pinned any more.
        """
        # The driver does not cross a fork.
        if self._is_refused or os.getpid() != self._pid:
            return
        address, size = ctypes.c_void_p(block.ctypes.data), ctypes.c_size_t(block.nbytes)
        flags = ctypes.c_uint(CU_MEMHOSTREGISTER_PORTABLE)
        try:
            with self._current_context():
                self._call("cuMemHostRegister_v2", address, size, flags)
        except CudaError as error:
            self._is_refused = True
            _log.warning("Buffers are not pinned: copies to the GPU are slower. %s", error)
            return
        # Has the pages as an argument: NumPy 2.5 releases them before it is called.
        weakref.finalize(block, self._unpin, address, pages).atexit = False

    def _unpin(self, address: ctypes.c_void_p, pages: mmap.mmap) -> None:
        if os.getpid() == self._pid:
            with self._current_context():
                self._call("cuMemHostUnregister", address)
        del pages  # not before

    @contextmanager
    def _current_context(self) -> Iterator[None]:
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
