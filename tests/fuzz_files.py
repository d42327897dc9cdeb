"""Reads, inspects and repacks files that were damaged, beside h5py.

    python tests/fuzz_files.py --cases 1000 --seed 0 [--kinds gzip,heap]

Each file is read by h5py first: where that dies, or takes too long, nothing is said of it. What is
read must be what h5py reads, or what was there before; else, an error of this package that names
the file. Prints, as JSON, how often which of these came, and the seeds of what should not be:
another value, another error, a death, a hang, much memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from hostile_files import KINDS, damaged, write, write_other
from picture_rows_helpers import decoded, row_bytes

import h5video_data as h5v
from h5video_data import H5VideoError, VideoLoader
from h5video_data.errors import UnavailableError
from h5video_data.planning import access
from h5video_data.tools.repack import repack

SECONDS = 20
MAX_VALUES = 10**6
"""A sample with more values, whose shape is damaged, is not read by h5py."""
TOO_LARGE: dict = {}
"""Stands for the samples then."""
FILL_VALUES = (0, 4, 7)
MEMORY_MIB = 200
"""So much beyond what h5py needs is much."""
BY_HDF5 = ("szip", "scaleoffset")
"""HDF5's own filters leave undefined what a damaged stream lacks: no two reads are alike."""
RIGHT = ("readable", "unreadable", "read", "error", "more than h5py finds")
RIGHT += ("other values each time that h5py reads", "too large", "not compared")
PHASES = ("h5py", "read", "shuffled", "inspect", "repack")


def look_around(file):
    """Looks at all there is, as `inspect` and `repack` do: h5py may die of it."""
    with contextlib.suppress(Exception):
        file.visititems(lambda _, item: list(item.attrs.items()) and None)


def by_h5py(path, whole):
    """Returns h5py's samples, None for one that it cannot read; or `TOO_LARGE`, or None for all."""
    name = whole.options.get("x", "X")
    with h5py.File(path) as file:
        look_around(file)
        dataset = file[name]
        num_values = dataset.size if "windows" in whole.options else math.prod(dataset.shape[1:])
        if not 0 < num_values < MAX_VALUES or dataset.dtype.itemsize > MAX_VALUES:
            return TOO_LARGE
        if dataset.chunks:
            dataset.id.chunk_iter(lambda _: None)
        is_encoded = len(dataset.shape) == 1 or whole.options.get("decode") == "image"
        rows = {}
        for row in range(min(dataset.shape[0], 100)):
            try:
                rows[row] = dataset[row]
                rows[row] = decoded(row_bytes(dataset, row)) if is_encoded else rows[row]
            except Exception:  # whatever it may be
                rows[row] = None
        return rows if "windows" not in whole.options else in_windows(rows, file, whole)


def in_windows(rows, file, whole):
    lengths = [len(rows)]
    if whole.kind == "bounds":
        if file["ep_len"].size > 1000:  # a damaged length, for which HDF5 takes minutes
            return TOO_LARGE
        lengths = [int(n) for n in file["ep_len"][:]]
        if min(lengths) < 0 or sum(lengths) != len(rows):
            return None
    anchors = [
        first + i
        for first, n in zip(np.cumsum(lengths) - lengths, lengths, strict=True)
        for i in range(n - 2)
    ]
    windows = [[rows.get(anchor + i) for i in range(3)] for anchor in anchors]
    return {
        number: None if any(row is None for row in window) else np.stack(window)
        for number, window in enumerate(windows)
    }


def options_of(whole):
    options = dict(whole.options)
    if options.get("windows") == "bounds":
        options["windows"] = h5v.Windows(3, bounds="ep_len")
    return {"seed": 0, **options}


def by_this_package(path, whole, **options):
    """Returns the samples that were read, and their labels."""
    rows, labels = {}, {}
    with VideoLoader(path, **{**options_of(whole), **options}) as loader:
        for _, indices, arrays in loader.batches():
            for i, number in enumerate(indices.tolist()):
                rows[number] = arrays[0][i].copy()
                if len(arrays) > 1:
                    labels[number] = arrays[1][i].copy()
            if len(rows) > 100:
                break
    return rows, labels


def are_labels(got, path):
    """Whether each label is the one from before, or what h5py reads, or takes for unwritten."""
    got = {number: label.view("u4") for number, label in got.items()}  # NaN is not NaN
    before = dict(enumerate(np.eye(6, 3, dtype="f4").view("u4")))
    if are_among(got, before):
        return True
    with h5py.File(path) as file:
        found = {number: file["Y"][number].view("u4") for number in got}
    return are_among(got, before, found) or is_more(got, found)


def compare(got, path, whole, expected, before):
    """Says what the samples are: those of h5py, those from before, or neither."""
    if whole.kind in BY_HDF5 or are_among(got, expected or {}, before):
        return "read"
    if expected is TOO_LARGE:
        return "not compared"
    # HDF5 may miss chunks in a damaged index that are there: it then gives the fill value.
    undamaged = bytearray(whole.content)
    content = path.read_bytes()
    for offset, size in whole.chunks:
        undamaged[offset : offset + size] = content[offset : offset + size]
    other = path.with_suffix(".streams")
    other.write_bytes(undamaged)
    found = by_h5py(other, whole)
    other.unlink()
    if are_among(got, expected or {}, before, found or {}):
        return "read"
    if expected and is_more(got, expected):
        return "more than h5py finds"
    with contextlib.suppress(Exception):
        if expected and not are_among(by_h5py(path, whole), expected):
            return "other values each time that h5py reads"
    return "other values than h5py" if expected else "values that h5py does not read"


def is_more(got, expected):
    """Whether samples are those of h5py, but for values that it takes for unwritten."""
    return all(
        (wanted := expected.get(number)) is not None
        and wanted.shape == row.shape
        and np.isin(wanted[wanted != row], FILL_VALUES).all()
        for number, row in got.items()
    )


def are_among(got, *expected):
    """Whether each of the samples is one of those that are expected for it."""
    return all(
        any(number in rows and np.array_equal(row, rows[number]) for rows in expected)
        for number, row in got.items()
    )


def repacked(path, whole, expected, before):
    """Repacks the file, and compares what h5py reads of the result."""
    new = path.with_suffix(".new")
    try:
        report = repack(path, new, x=whole.options.get("x", "X"), overwrite=True)
        got = None
        with contextlib.suppress(Exception):  # what could not be copied, the report lists
            got = by_h5py(new, whole)
    finally:
        new.unlink(missing_ok=True)
    if got is None:
        return "read"
    got = {n: row for n, row in got.items() if row is not None and n < report.num_samples}
    return compare(got, path, whole, expected, before)


class Worker:
    """Reads damaged files, one after another, in a process of its own."""

    def __init__(self, wholes, before, folder, shared):
        self.wholes, self.before, self.folder, self.shared = wholes, before, folder, shared

    def run(self, first, last, report):
        """Reads the file of each seed."""
        logging.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some plugins print
        h5py._errors.silence_errors()
        access.MEMORY_ROW_BYTES = -1
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        address_space = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_AS, (address_space + (4 << 30),) * 2)
        for seed in range(first, last):
            for kind, phase, found in self.one(seed):
                os.write(report, json.dumps([seed, phase, kind, found]).encode() + b"\n")

    def damaged(self, seed, rng=None):
        """Writes the file of a seed."""
        rng = random.Random(seed) if rng is None else rng
        whole = self.wholes[rng.choice(list(self.wholes))]
        # A file of a name that HDF5 still has open would be that one.
        path = self.folder / f"{seed}.h5"
        path.write_bytes(damaged(whole, rng))
        return path, whole

    def one(self, seed):
        """Yields what was found in each phase."""
        rng = random.Random(seed)
        path, whole = self.damaged(seed, rng)
        kind, before = whole.kind, self.before[whole.kind]
        phases = ["h5py", "read", rng.choice(PHASES[2:])]
        expected, needed = None, 0
        for phase in phases:
            self.shared[:16] = struct.pack("<qq", seed, PHASES.index(phase))
            signal.alarm(SECONDS)
            reset_peak()
            memory = peak_mib()
            try:
                if phase == "h5py":
                    expected = self.try_h5py(path, whole)
                    found = "unreadable" if expected is None else "readable"
                    found = "too large" if expected is TOO_LARGE else found
                else:
                    found = self.phase(phase, path, whole, expected, before, seed)
            except H5VideoError as error:
                found = "error" if path.stem in str(error) else f"nameless: {error!r}"
                if isinstance(error, UnavailableError):  # memory, of which there is enough
                    found = f"unavailable: {error!r}"
            except BaseException as error:
                found = f"foreign: {type(error).__name__}: {error}"
            signal.alarm(0)
            used = peak_mib() - memory
            needed = used if phase == "h5py" else needed
            yield kind, phase, found
            if used > needed + MEMORY_MIB and expected is not TOO_LARGE:
                yield kind, phase, f"much memory: {used} MiB"
        path.unlink()

    def try_h5py(self, path, whole):
        try:
            return by_h5py(path, whole)
        except Exception:  # whatever it may be
            return None

    def phase(self, phase, path, whole, expected, before, seed):
        if phase == "inspect":
            found = h5v.inspect(path)
            json.dumps(found.to_dict())
            str(found)
            return "read"
        if phase == "repack":
            return repacked(path, whole, expected, before)
        options = {"shuffle": False, "batch_size": 2, "num_threads": 1, "on_error": "skip"}
        if phase == "shuffled":
            options = {"shuffle": True, "batch_size": 4, "num_threads": 2, "seed": seed}
        got, labels = by_this_package(path, whole, **options)
        if not are_labels(labels, path):
            return "other labels than h5py"
        return compare(got, path, whole, expected, before)


def dies(worker, number):
    """Whether the process dies also if h5py, which may spoil its memory, read nothing before."""
    report = os.open(os.devnull, os.O_WRONLY)
    process = os.fork()
    if process == 0:
        worker.try_h5py = lambda *_: None
        worker.run(number, number + 1, report)
        os._exit(0)
    os.close(report)
    return os.waitpid(process, 0)[1] != 0


BY_H5PY_ALONE = """
import contextlib, sys, h5py, hdf5plugin
with h5py.File(sys.argv[1]) as file:
    dataset = file[sys.argv[2]]
    for _ in range(30):
        with contextlib.suppress(Exception):
            dataset.id.chunk_iter(lambda _: None)
        for row in range(min(dataset.shape[0], 100)):
            with contextlib.suppress(Exception):
                dataset[row]
"""


def dies_by_h5py_alone(worker, number):
    """Whether an interpreter dies that does nothing but read the file with h5py."""
    path, whole = worker.damaged(number)
    name = whole.options.get("x", "X")
    found = subprocess.run(
        [sys.executable, "-c", BY_H5PY_ALONE, path, name], capture_output=True, timeout=100
    )
    path.unlink()
    return found.returncode < 0


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_mib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) >> 10


def run(cases, seed, kinds, folder):
    """Reads files in processes, a new one after each that dies; returns what was found."""
    os.chdir(folder)
    write_other(folder / "other.h5")
    wholes = {kind: write(kind, folder / "whole.h5") for kind in kinds}
    before = {}
    for kind, whole in wholes.items():
        path = folder / f"whole {kinds.index(kind)}.h5"
        path.write_bytes(whole.content)
        before[kind] = by_h5py(path, whole)
    shared = mmap.mmap(-1, 16)
    worker = Worker(wholes, before, folder, shared)
    counts, wrong = Counter(), []
    first, last = seed, seed + cases
    while first < last:
        shared[:] = struct.pack("<qq", first, 0)
        end, report = os.pipe()
        process = os.fork()
        if process == 0:
            worker.run(first, last, report)
            os._exit(0)
        os.close(report)
        with os.fdopen(end) as lines:
            for number, phase, kind, found in map(json.loads, lines):
                label = found.partition(":")[0]
                counts[f"{phase}: {label}"] += 1
                if label not in RIGHT:
                    wrong.append([number, kind, phase, found])
        status = os.waitpid(process, 0)[1]
        number, phase = struct.unpack("<qq", shared[:])
        if status == 0:
            break
        (folder / f"{number}.h5").unlink(missing_ok=True)
        counts[f"{PHASES[phase]}: died"] += 1
        if phase and dies(worker, number) and not dies_by_h5py_alone(worker, number):
            wrong.append([number, "", PHASES[phase], f"died of signal {status & 127}"])
        first = number + 1
    return {"cases": cases, "counts": dict(sorted(counts.items())), "wrong": wrong}


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS).replace(", ", "; "))
    arguments = parser.parse_args()
    kinds = [kind.replace("; ", ", ") for kind in arguments.kinds.split(",")]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.cases, arguments.seed, kinds, Path(folder))
    result["seconds"] = round(time.monotonic() - begun, 1)
    print(json.dumps(result, indent=1))
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
