"""Measures what it takes to open many recordings: processor time, and memory.

    python -m benchmarks.opening --recordings 100000 --layouts groups chunked gzip
    python -m benchmarks.opening --recordings 10000 --layouts files

Each recording has a dataset of four small frames and one of actions. `groups`: contiguous, a group
each in one file; `chunked` and `gzip`: the same with a frame a chunk; `files`: a file each. `HDF5`
opens each dataset by h5py's low-level calls and asks for shape, type, offset and chunks, and keeps
nothing: less is not possible with it. Each figure is from a process of its own; the files are in
the page cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import h5video_data as h5v

from .video_set import temporary_folder

LAYOUTS = ("groups", "chunked", "gzip", "files")
WAYS = ("HDF5", "open", "open with index", "inspect")
FRAMES = np.zeros((4, 4, 4, 3), np.uint8)
ACTIONS = np.zeros((4, 2), np.float32)


def write(folder: Path, layout: str, num_recordings: int) -> None:
    """Writes the files of a layout."""
    options: dict[str, Any] = {} if layout in ("groups", "files") else {"chunks": (1, 4, 4, 3)}
    if layout == "gzip":
        options["compression"] = "gzip"
    step = 1 if layout == "files" else num_recordings
    for first in range(0, num_recordings, step):
        with h5py.File(folder / f"{first:08}.h5", "w") as file:
            for number in range(first, first + step):
                group = file.create_group(f"data/demo_{number}")
                group.create_dataset("obs/pixels", data=FRAMES, **options)
                group["actions"] = ACTIONS


def measure(folder: Path, way: str) -> dict[str, float]:
    """Opens the files of a folder in one way, in this process."""
    paths = sorted(folder.glob("*.h5"))
    arguments: dict[str, Any] = {"x": "data/*/obs/pixels", "y": "data/*/actions", "windows": 2}
    index = folder / "set.h5i"
    if way == "open with index" and not index.exists():
        with h5v.VideoLoader(paths, **arguments) as loader:
            loader.save_index(index)
        return {}
    _ = h5v.VideoLoader, h5v.inspect  # which are imported when they are asked for
    begin = time.process_time()
    if way == "HDF5":
        _open_by_hdf5(paths)
    elif way == "inspect":
        h5v.inspect(paths[0])
    else:
        if way == "open with index":
            arguments["index"] = index
        h5v.VideoLoader(paths, **arguments).close()
    return {
        "seconds": time.process_time() - begin,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _open_by_hdf5(paths: Sequence[Path]) -> None:
    for path in paths:
        with h5py.File(path) as file:
            group, keys = file["data"].id, list[bytes]()
            group.links.iterate(keys.append)
            for key in keys:
                for name in (b"/obs/pixels", b"/actions"):
                    found = h5py.h5o.open(group, key + name)
                    _ = found.shape, found.get_type()
                    if found.get_offset() is None:
                        found.chunk_iter(lambda _info: None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--temporary", type=Path, help="a folder for the files")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), options.measure[1])))
        return 0
    for layout in options.layouts:
        with temporary_folder(options) as folder:
            write(folder, layout, options.recordings)
            found = {}
            for way in WAYS:
                if layout == "files" and way == "inspect":
                    continue
                command = [sys.executable, "-m", __spec__.name, "--measure", str(folder), way]
                for _ in range(2 if way == "open with index" else 1):  # the first one saves it
                    run = subprocess.run(command, check=True, capture_output=True, text=True)
                found[way] = {name: round(n, 4) for name, n in json.loads(run.stdout).items()}
        print(json.dumps({layout: found}, indent=1), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
