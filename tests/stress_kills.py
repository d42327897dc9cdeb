"""Stops training, `pack` and `repack` at random moments, by SIGINT, SIGTERM and SIGKILL.

    python tests/stress_kills.py RUNS [SEED]

Each run is a forked child. It must end within seconds; there must be no file under the final name
that is not whole; and the same call, made again, must give the file that it gives if left alone.
"""

from __future__ import annotations

import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import h5py
import imagecodecs
import numpy as np

import h5video_data as h5v
from h5video_data import testing
from h5video_data.reading import buffers  # noqa: F401 - what a first call imports
from h5video_data.tools import pack, repack  # noqa: F401

LIMIT_SECONDS = 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
SHAPE = (4, 3, 24, 24)


def write_sources(folder: Path) -> None:
    """Writes what is packed, repacked, and read."""
    testing.write_video_file(
        folder / "old.h5", num_samples=150, sample_shape=SHAPE, chunks=(8, *SHAPE), compression=1
    )
    with h5py.File(folder / "old.h5", "a") as file:
        file["beside"] = np.arange(100_000)
    testing.write_recordings(folder / "rows.h5", frame_shape=(32, 32, 3))
    for video in range(12):
        where = folder / "videos" / f"class{video % 3}" / f"video{video}"
        where.mkdir(parents=True)
        for frame in range(6):
            picture = np.full((40, 40, 3), 20 * video + frame, np.uint8)
            (where / f"{frame}.png").write_bytes(imagecodecs.png_encode(picture))


def train(folder: Path, _: Path) -> None:
    with h5v.VideoLoader(folder / "old.h5", batch_size=8, seed=0, num_threads=2) as loader:
        for _ in range(12):
            for _, indices, (x, _) in loader.batches():
                if not (x == testing.sample_values(indices, SHAPE)).all():
                    os._exit(66)


CALLS = {
    "train": train,
    "repack rows": lambda folder, out: h5v.repack(folder / "old.h5", out),
    "repack chunks": lambda folder, out: h5v.repack(folder / "old.h5", out, compression="gzip"),
    "repack pictures": lambda folder, out: h5v.repack(
        folder / "rows.h5", out, x="pixels", codec="png"
    ),
    "pack": lambda folder, out: h5v.pack(folder / "videos", out, num_frames=4, size=(32, 32)),
    "pack pictures": lambda folder, out: h5v.pack(
        folder / "videos", out, layout="recordings", codec="png", size=(32, 32), num_jobs=2
    ),
}


def content(path: Path) -> dict[str, str]:
    """Returns all values and attributes of a file."""
    found = {}
    with h5py.File(path) as file:
        found["/"] = repr(sorted((k, np.asarray(v).tolist()) for k, v in file.attrs.items()))

        def add(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = repr(np.asarray(item[()]).tolist())

        file.visititems(add)
    return found


def start(name: str, folder: Path, out: Path, log: Path) -> int:
    """Forks a child that makes a call, as a script of its own would."""
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    CALLS[name](folder, out)
    raise DoneError


class DoneError(Exception):
    """The call has ended."""


def wait(pid: int) -> int | None:
    """Returns the exit code; None if the process hangs, which it then does no more."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def problem(name: str, number: int, code: int | None, before: dict, folder: Path, out: Path) -> str:
    """Returns what is wrong after a signal, or ""."""
    if code is None:
        return "hangs"
    stopped = {signal.SIGINT: (0, 1, 130, -2), signal.SIGTERM: (0, -15), signal.SIGKILL: (0, -9)}
    if code not in stopped[number]:
        return f"ends with {code}"
    if name == "train":
        return ""
    if out.exists() and content(out) != before[name]:
        return "has a file under its final name that is not whole"
    if code == 0 and not out.exists():
        return "has ended without a file"
    left = [item.name for item in out.parent.iterdir() if item != out]
    if number == signal.SIGINT and any(item != f"{out.name}.partial" for item in left):
        return f"leaves {left} after an interrupt"
    if not out.exists():
        code = wait(start(name, folder, out, folder / "log"))
        if code != 0:
            return f"ends with {code} when it is called again: {(folder / 'log').read_text()}"
        if content(out) != before[name]:
            return "gives another file when it is called again"
        if (out.parent / f"{out.name}.partial").exists():
            return "leaves its partial file when it is called again"
    return ""


def main() -> int:
    """Runs them; the exit code is 1 if one failed."""
    runs, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    folder = Path(tempfile.mkdtemp())
    pid = os.fork()
    if not pid:
        write_sources(folder)
        os._exit(0)
    os.waitpid(pid, 0)
    before, seconds = {}, {}
    for name in CALLS:
        out = folder / "whole.h5"
        begin = time.monotonic()
        code = wait(start(name, folder, out, folder / "log"))
        if code:
            raise SystemExit(f"{name} ends with {code}: {(folder / 'log').read_text()}")
        seconds[name] = time.monotonic() - begin
        if name != "train":
            before[name] = content(out)
            out.unlink()
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    for run in range(seed, seed + runs):
        draw = random.Random(run)
        name, number = draw.choice([*CALLS]), draw.choice(SIGNALS)
        where = folder / "out"
        where.mkdir()
        pid = start(name, folder, where / "new.h5", folder / "log")
        time.sleep(draw.random() * 1.1 * seconds[name])
        os.kill(pid, number)
        code = wait(pid)
        wrong = problem(name, number, code, before, folder, where / "new.h5")
        counts["ended before" if code == 0 else "stopped"] += 1
        if wrong:
            failures.append(run)
            text = (folder / "log").read_text()[-3000:]
            print(f"run {run}, {name}, {signal.Signals(number).name}: {wrong}\n{text}", flush=True)
        shutil.rmtree(where)
    shutil.rmtree(folder)
    print(f"{len(failures)} of {runs} failed {failures}; {dict(counts)}")
    return int(bool(failures))


if __name__ == "__main__":
    try:
        code = main()
    except DoneError:
        code = 0
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    sys.exit(code)
