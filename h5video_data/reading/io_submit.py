"""Many positioned reads in one system call: Linux's asynchronous I/O, io_submit(2).

For files in the page cache, and for buffered reads in general, the kernel does the reads inside of
`io_submit`. What is won is that a thread gives up the interpreter's lock once for all the reads of
a task, instead of once for each: beside a busy Python thread, which is what TensorFlow's hand-over
is, every return from `preadv` has to wait for the lock.

The system calls are made through ctypes. Where they are not to be had (another system, a sandbox
that forbids them), `open_queue` gives None, and the reads are made one by one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.system import IS_LINUX

# Requests of one `io_submit`. The kernel counts them against /proc/sys/fs/aio-max-nr.
CAPACITY = 128

# io_setup, io_destroy, io_getevents, io_submit: Linux's arch/x86/entry/syscalls/syscall_64.tbl, and
# include/uapi/asm-generic/unistd.h.
_SYSTEM_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}

# Linux's include/uapi/linux/aio_abi.h, little-endian: struct iocb and struct io_event.
_REQUEST = np.dtype(
    [
        ("data", "<u8"),
        ("key", "<u4"),
        ("rw_flags", "<i4"),
        ("opcode", "<u2"),
        ("priority", "<i2"),
        ("fd", "<u4"),
        ("address", "<u8"),
        ("size", "<u8"),
        ("offset", "<i8"),
        ("reserved", "<u8"),
        ("flags", "<u4"),
        ("event_fd", "<u4"),
    ]
)
_EVENT = np.dtype([("data", "<u8"), ("request", "<u8"), ("result", "<i8"), ("result2", "<i8")])
_OPCODE_PREAD = 0


class ReadQueue:
    """A context of the kernel's asynchronous I/O. Used by one thread, not across a fork.

    The kernel takes some 30 ms to end a context, which happens when the object is collected.
    """

    def __init__(self) -> None:
        self._context = ctypes.c_ulong(0)
        self._setup, self._destroy, self._get_events, self._submit = _SYSTEM_CALLS[
            platform.machine()
        ]
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        if self._call(self._setup, ctypes.c_uint(CAPACITY), ctypes.byref(self._context)):
            raise OSError(ctypes.get_errno(), "io_setup failed")
        self._pid = os.getpid()
        self._requests = np.zeros(CAPACITY, _REQUEST)
        self._requests["opcode"] = _OPCODE_PREAD
        self._requests["data"] = np.arange(CAPACITY)
        first = self._requests.ctypes.data
        self._addresses = first + np.arange(CAPACITY, dtype=np.uint64) * _REQUEST.itemsize
        self._events = np.zeros(CAPACITY, _EVENT)

    def __del__(self) -> None:
        if self._context and self._pid == os.getpid():
            self._call(self._destroy, self._context)

    def read(
        self,
        fd: int,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        addresses: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Reads ranges of a file to places in memory.

        Args:
            fd: The file's descriptor.
            offsets: int64 (n,), first byte of each range in the file.
            sizes: int64 (n,), bytes of each range.
            addresses: int64 (n,), where each goes. The memory must stay alive, and be large enough.

        Returns:
            int64 (n,), how many bytes each read gave: fewer than asked for at the end of the file,
            beyond 2 GiB, or on an error. Read the rest in another way, which tells the error.
        """
        done = np.zeros(len(offsets), np.int64)
        for begin in range(0, len(offsets), CAPACITY):
            part = slice(begin, begin + CAPACITY)
            requests = self._requests[: len(offsets[part])]
            requests["fd"] = fd
            requests["offset"] = offsets[part]
            requests["size"] = sizes[part]
            requests["address"] = addresses[part]
            self._read_requests(len(requests), done[part])
        return np.maximum(done, 0)

    def _read_requests(self, count: int, done: NDArray[np.int64]) -> None:
        submitted = self._call(
            self._submit,
            self._context,
            ctypes.c_long(count),
            ctypes.c_void_p(self._addresses.ctypes.data),
        )
        collected = 0
        # A failed request ends the submission before it: what was not submitted counts as not read.
        while collected < submitted:
            found = self._call(
                self._get_events,
                self._context,
                ctypes.c_long(submitted - collected),
                ctypes.c_long(submitted - collected),
                ctypes.c_void_p(self._events.ctypes.data),
                None,
            )
            if found < 0:
                if ctypes.get_errno() == errno.EINTR:
                    continue
                raise OSError(ctypes.get_errno(), "io_getevents failed")
            events = self._events[:found]
            done[events["data"]] = events["result"]
            collected += found


def open_queue() -> ReadQueue | None:
    """A queue for the calling thread, or None where the kernel does not give one."""
    if not IS_LINUX or platform.machine() not in _SYSTEM_CALLS:
        return None
    try:
        return ReadQueue()
    except OSError:
        return None
