"""Runs the contenders on one layout after the other.

A report is plain data, as it goes into the JSON file: `machine`, `versions`, `settings`, and for
each layout its facts, its limit, the rows of the table, and every single run.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .device import find_device
from .limits import memory_copy
from .machine import load_average, machine, versions
from .measure import drop_cache
from .processes import Opener
from .rounds import measure_layout
from .settings import NUM_SAMPLES, Say, Settings, UsageError
from .training import measure_training
from .video_set import LAYOUTS, make_set


def run(
    settings: Settings,
    folder: Path,
    say: Say,
    save: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures.

    Args:
        settings: What, and how.
        folder: Where sets, copies and logs go.
        say: Is told what happens, line by line.
        save: Is given the report after each layout.

    Returns:
        The report.

    Raises:
        UsageError: It cannot be measured.
    """
    _check_space(settings, folder)
    device = find_device() if settings.accelerator == "gpu" else None
    report: dict[str, Any] = {
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": machine(folder),
        "versions": versions(),
        "settings": asdict(settings),
        "load_average_before": load_average(),
        "memory_copy": memory_copy(num_threads=settings.num_threads),
        "layouts": [],
    }
    with contextlib.ExitStack() as stack:
        opener = Opener(settings, folder, stack)
        for layout in [Path(settings.file).name] if settings.file else settings.layouts:
            reason = None if settings.file else LAYOUTS[layout].why_not()
            if reason:
                say(f"{layout}: skipped: {reason}")
                report["layouts"].append({"layout": layout, "skipped": reason})
                continue
            path = settings.file or _make(layout, settings, folder, say)
            measured = measure_layout(layout, path, settings, folder, opener, say)
            if device is not None:
                measured["training"] = measure_training(
                    path, measured["num_samples"], settings, folder, device, say
                )
            report["layouts"].append(measured)
            save(report)
            if not settings.file and not settings.folder:
                Path(path).unlink()
    report["load_average_after"] = load_average()
    return report


def has_failures(report: dict[str, Any]) -> bool:
    """Whether a contender failed."""
    return any(row["failed"] for layout in report["layouts"] for row in layout.get("rows", []))


def _make(layout: str, settings: Settings, folder: Path, say: Say) -> str:
    say(f"{layout}: making the set")
    num_samples = settings.num_samples or NUM_SAMPLES
    path = make_set(folder, layout, num_samples, settings.sample_shape)
    # Otherwise the system might write it to the disk in somebody's turn.
    drop_cache([path])
    return path


def _check_space(settings: Settings, folder: Path) -> None:
    if settings.file:
        return
    itemsize = 4 if "float32" in settings.layouts else 1
    row_bytes = math.prod(settings.sample_shape) * itemsize
    # The set and two copies, or all sets if they are kept.
    needed = (settings.num_samples or NUM_SAMPLES) * row_bytes * 3
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"{folder}: the set and its copies need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Choose another --folder or fewer --samples."
        )
