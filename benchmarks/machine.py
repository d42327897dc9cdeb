"""The machine that a figure was measured on, and the versions of what was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "h5video_data",
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-io",
    "keras",
    "h5py",
    "hdf5plugin",
    "imagecodecs",
    "numpy",
    "torch",
    "grain",
    "zea",
    "tensorstore",
    "jax",
)


def machine(folder: Path) -> dict[str, Any]:
    """Processors, memory, kernel, the file system of a folder, and GPUs that `nvidia-smi` lists."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": _file_system(folder),
        "gpus": _gpus(),
    }


def versions() -> dict[str, str]:
    """The versions of what is installed here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load_average() -> float:
    """How many processes wanted to run in the last minute: a busy machine measures nothing."""
    return os.getloadavg()[0]


def _line(path: str, key: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def _file_system(folder: Path) -> str:
    """The type of the mount that a folder is on."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, point, this_kind, *_ = line.split()
        inside = Path(point) in (folder.resolve(), *folder.resolve().parents)
        if inside and len(point) > len(best):
            best, kind = point, this_kind
    return kind


def _gpus() -> list[str]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.strip().splitlines()
