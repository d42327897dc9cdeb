"""What differs between Linux, macOS and Windows. No other module asks which system it runs on.

Nothing is tried at each call: what a read does is decided at import. Where a system lacks
something that only saves time (`io_submit`, `posix_fadvise`, huge pages), it is left out.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

IS_LINUX = sys.platform == "linux"
IS_WINDOWS = sys.platform == "win32"

HAS_POSITIONED_READS = hasattr(os, "preadv") or hasattr(os, "pread")
"""Whether threads can read by one descriptor at once. If not, it has one position for all."""

# macOS refuses to read more than 2 GiB at once, and Windows cannot.
_MAX_READ_BYTES = 1 << 30
# What is read into a copy is read in parts, so that the copy is small.
_MAX_COPIED_BYTES = 8 << 20


def num_processors() -> int:
    """Returns the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    # From Python 3.13 on.
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def memory_nbytes() -> int:
    """Returns the bytes of the machine's memory; `sys.maxsize` if they are not known."""
    if hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            nbytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            return nbytes if nbytes > 0 else sys.maxsize
    elif hasattr(ctypes, "windll"):
        # MEMORYSTATUSEX: dwLength and dwMemoryLoad, of 4 bytes each, then ullTotalPhys.
        status = (ctypes.c_uint64 * 8)(64)
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return int(status[1])
    return sys.maxsize


def max_open_files() -> int | None:
    """Returns how many descriptors the process may have; None: no limit, or none that is known."""
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def disk_nbytes() -> int | None:
    """Returns the bytes that this process has had read from disks so far; None: not known."""
    if not IS_LINUX:  # others count operations
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512  # getrusage(2)


OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
"""Flags of `os.open` for reading. On Windows, a text file would end at a byte 26."""


def _read_some_by_preadv(fd: int, target: memoryview, offset: int) -> int:
    return os.preadv(fd, [target], offset)


def _read_some_by_preadv_in_parts(fd: int, target: memoryview, offset: int) -> int:
    return os.preadv(fd, [target[:_MAX_READ_BYTES]], offset)


def _read_some_by_pread(fd: int, target: memoryview, offset: int) -> int:
    data = os.pread(fd, min(len(target), _MAX_COPIED_BYTES), offset)
    target[: len(data)] = data
    return len(data)


def _read_some_by_seeking(fd: int, target: memoryview, offset: int) -> int:
    before = os.lseek(fd, 0, os.SEEK_CUR)  # HDF5 relies on the position of its descriptors
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, min(len(target), _MAX_COPIED_BYTES))
    finally:
        os.lseek(fd, before, os.SEEK_SET)
    target[: len(data)] = data
    return len(data)


_read_some: Callable[[int, memoryview, int], int]
if hasattr(os, "preadv"):
    _read_some = _read_some_by_preadv if IS_LINUX else _read_some_by_preadv_in_parts
elif hasattr(os, "pread"):  # macOS before 11
    _read_some = _read_some_by_pread
else:
    _read_some = _read_some_by_seeking


def read_at(fd: int, target: memoryview, offset: int) -> int:
    """Fills `target`, bytes, from `offset` of a file on; returns how many bytes the file has.

    Without `HAS_POSITIONED_READS`, by one thread at a time for each descriptor.
    """
    done = _read_some(fd, target, offset)
    while done < len(target):
        # A read may be cut short: by a signal, or at 2 GiB, the most that Linux reads at once.
        count = _read_some(fd, target[done:], offset + done)
        if not count:
            break
        done += count
    return done


def write_at(fd: int, data: memoryview, offset: int) -> int:
    """Writes bytes to an offset of a file; returns how many. By one thread at a time."""
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data[:_MAX_READ_BYTES])


def fetch_soon(fd: int, offset: int, size: int) -> None:
    """Tells the system that a range of a file will be read, where it takes such advice."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_WILLNEED)


def anonymous_memory(nbytes: int, *, is_huge: bool) -> mmap.mmap:
    """Returns new pages of memory; huge ones if that is asked for, and the system has them."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, nbytes)
    pages = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if is_huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel may have none
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def at_fork(**functions: Callable[[], Any]) -> None:
    """Calls `os.register_at_fork`, where processes fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**functions)


def c_library() -> Any:
    """Returns the functions that the process has from the C library; None if it does not say."""
    return None if IS_WINDOWS else ctypes.CDLL(None)


def file_numbers(found: os.stat_result) -> tuple[int, int]:
    """Returns device and inode of a file, as far as they tell it from others; zeros: they don't.

    On Windows, some file systems number no files, and the device need not be the same for a path
    and for a descriptor.
    """
    return (0 if IS_WINDOWS or not found.st_ino else found.st_dev), found.st_ino


def open_descriptors() -> list[int] | None:
    """Lists the descriptors that the process has open; None where the system does not list them.

    Raises:
        OSError: They cannot be listed now.
    """
    folder = "/dev/fd" if sys.platform == "darwin" else "/proc/self/fd"
    try:
        return [int(name) for name in os.listdir(folder)]
    except FileNotFoundError:
        return None


def shell_words(words: Sequence[str]) -> str:
    """Returns words as they are typed into the system's shell."""
    return subprocess.list2cmdline(words) if IS_WINDOWS else shlex.join(words)


def lock_file(fd: int) -> bool:
    """Locks an open file until it is closed; False if another process, or this one, has done so."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
