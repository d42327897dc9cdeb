"""Facts that a figure belongs to: the file, the page cache, the machine, the versions.

Needs h5py and NumPy only: it also runs in the environment of tensorflow-io.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Of a file that is given, the first samples take part: not more bytes than these.
MAX_FILE_BYTES = 4 << 30

# Positions of a file that are tested for being in the page cache.
CACHE_PROBES = 200

FILTER_NAMES = {
    1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf", 32001: "blosc", 32004: "lz4",
    32008: "bitshuffle", 32015: "zstd", 32026: "blosc2",
}  # fmt: skip

PACKAGES = (
    "h5video_data", "tensorflow", "tensorflow-cpu", "tensorflow-io", "keras", "h5py", "hdf5plugin",
    "imagecodecs", "numpy", "torch", "grain", "zea", "tensorstore", "jax", "pylance",
)  # fmt: skip


class UsageError(Exception):
    """The measurement that was asked for is not possible; the text says why."""


def num_processors() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def open_file(path: str) -> Any:
    """Opens a file for reading, with the filter plugins that are installed."""
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401 - it registers them

    return h5py.File(path, "r")


def filter_ids(dataset: Any) -> tuple[int, ...]:
    """Returns the registered numbers of a dataset's filters."""
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))


def filter_names(dataset: Any) -> str:
    """Returns the common names of a dataset's filters, joined by `+`."""
    return "+".join(FILTER_NAMES.get(number, str(number)) for number in filter_ids(dataset))


def sample_bytes(dataset: Any) -> int:
    """Returns the bytes of one sample, decoded."""
    return int(np.prod(dataset.shape[1:], initial=dataset.dtype.itemsize, dtype=np.int64))


def file_facts(path: str, batch_size: int, max_samples: int | None) -> dict[str, Any]:
    """Describes a file; raises UsageError if it cannot be measured."""
    try:
        file = open_file(path)
    except OSError as error:
        raise UsageError(f"{path}: {error}") from error
    with file:
        X, Y = (file.get(name) for name in ("X", "Y"))
        x, y = (item.shape if isinstance(item, h5py.Dataset) else () for item in (X, Y))
        if len(x) < 2 or x[:1] != y[:1]:
            raise UsageError(
                f"{path}: datasets X and Y (samples, ...) with the same number of samples are "
                f"needed. Received: {x or X}, {y or Y}"
            )
        nbytes = sample_bytes(X)
        most = max_samples or max(2 * batch_size, MAX_FILE_BYTES // nbytes)
        count = min(int(file.attrs.get("sample_count", len(X))), most)
        if count < 2 * batch_size:
            raise UsageError(
                f"{path}: an epoch must have at least two batches. Received: {count} samples, "
                f"batch size {batch_size}"
            )
        return {
            "file": path,
            "num_samples": count // batch_size * batch_size,
            "num_stored_samples": len(X),
            "sample_shape": X.shape[1:],
            "dtype": str(X.dtype),
            "sample_bytes": nbytes,
            "chunks": X.chunks,
            "filters": filter_names(X),
            "stored_share": X.id.get_storage_size() / (len(X) * nbytes),
            "has_single_samples": X.chunks is None or X.chunks[0] == 1,
            "batch_size": batch_size,
        }


def drop_cache(paths: Iterable[str | Path]) -> None:
    """Asks the operating system to drop these files from the page cache."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            # Pages that were not yet written to the disk stay.
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def warm_cache(path: str) -> None:
    """Reads a file from end to end."""
    with Path(path).open("rb", buffering=0) as file:
        buffer = bytearray(8 << 20)
        while file.readinto(buffer):
            pass


def cached_share(path: str) -> float | None:
    """Estimates the share of a file that is in the page cache; None: it cannot be told."""
    positions = np.linspace(0, max(0, Path(path).stat().st_size - 1), CACHE_PROBES).astype(int)
    fd, buffer, hits = os.open(path, os.O_RDONLY), bytearray(1), 0
    try:
        # Without it, each probe starts reading ahead, and the next ones find that.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for position in positions.tolist():
            # Fails at once where it would have to wait for the disk.
            with contextlib.suppress(BlockingIOError):
                hits += os.preadv(fd, [buffer], position, os.RWF_NOWAIT)
    except OSError:
        return None
    finally:
        os.close(fd)
    return hits / len(positions)


def versions() -> dict[str, str]:
    """Returns the versions of the packages that are installed here."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine(folder: Path) -> dict[str, Any]:
    """Describes the processors, the memory, the kernel, and the file system of a folder."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0] if models else platform.processor(),
        "processors": num_processors(),
        "memory_gib": round(memory_bytes / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": max(around, key=lambda mount: len(mount[0]))[1] if around else "unknown",
    }
