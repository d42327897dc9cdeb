"""Ends the interpreter with live iterators, many times: none may hang, abort, or complain.

    python tests/stress_exits.py RUNS [SEED]

Each run is a child that is forked after the imports, which take ten times as long as a run: it
makes datasets, leaves iterators over them at random moments, and ends in the way of a script. With
`--fresh`, each run is an interpreter of its own from the beginning.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LIMIT_SECONDS = 60
EXITS = {"end": 0, "exit": 7, "error": 1, "interrupt": 1}
# By which Python, TensorFlow or the C library complain.
WORDS = ("FATAL", "Fatal", "terminate called", "Exception ignored", "Exception in thread", "Abort")


class RunError(Exception):
    """Ends a run."""


def leave(path: str, seed: int) -> str:
    """Makes iterators and returns how to end, while they are alive."""
    import tensorflow as tf

    import h5video_data as h5v
    from h5video_data.errors import ClosedError
    from h5video_data.planning import access

    access.MEMORY_ROW_BYTES = 64  # or the samples would be kept in memory
    draw = random.Random(seed)

    def slow(x, y):
        return tf.numpy_function(lambda v: (time.sleep(0.002), v)[1], [x], x.dtype), y

    held = []
    for _ in range(draw.randint(1, 3)):
        dataset = h5v.video_dataset_from_hdf5(
            path,
            batch_size=draw.choice([1, 4, 7]),
            seed=draw.randrange(9),
            num_threads=draw.choice([1, 2, 4]),
            read_ahead_bytes=draw.choice([None, 0, 20_000]),
            map_fn=draw.choice([None, None, slow]),
            x=draw.choice(["X", "X", "slow"]),
        )
        if draw.random() < 0.3:
            dataset = dataset.repeat().prefetch(draw.randint(1, 9))
        for _ in range(draw.randint(1, 3)):
            iterator = iter(dataset)
            for _ in range(draw.randint(0, 6)):
                next(iterator, None)
            held.append(iterator)
        if draw.random() < 0.2:
            loader = getattr(dataset, "loader", None)
            held.append(loader and iter(loader))

    def read(iterator):
        # "The process is ending during iteration."
        with contextlib.suppress(tf.errors.OpError, ClosedError):
            for _ in iterator:
                pass

    for iterator in held:
        if draw.random() < 0.4 and iterator is not None:
            threading.Thread(target=read, args=(iterator,), daemon=True).start()
    if draw.random() < 0.5:
        sys.modules["held"] = held  # until the modules go
    elif draw.random() < 0.5:
        del held[0]
    globals()["_held"] = held
    time.sleep(draw.choice([0, 0, 0.001, 0.02, 0.1]))
    return draw.choice([*EXITS])


def end(way: str) -> None:
    """Ends the process in a way, or returns."""
    if way == "exit":
        sys.exit(EXITS[way])
    if way == "error":
        raise RunError
    if way == "interrupt":
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


def write(path: Path) -> None:
    """Writes samples that are read fast, and some that h5py reads."""
    import h5py
    import numpy as np

    from h5video_data import testing

    testing.write_video_file(path, num_samples=120)
    with h5py.File(path, "a") as file:
        data = np.arange(120 * 500, dtype=np.int32).reshape(120, 500)
        layout = h5py.VirtualLayout(data.shape, data.dtype)
        file["raw"] = data
        layout[:] = h5py.VirtualSource(file["raw"])
        file.create_virtual_dataset("slow", layout)


def failure(process: int, log: Path, way_file: Path) -> str | None:
    """Waits for a child, and returns what is wrong with how it ended."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGABRT)  # faulthandler shows where it is
            os.waitpid(process, 0)
            return "hangs"
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    way, text = way_file.read_text(), log.read_text(errors="replace")
    # Python gives 130 or -2 for a KeyboardInterrupt.
    expected = {130, -2} if way == "interrupt" else {EXITS.get(way, 0)}
    if code not in expected:
        return f"ends with {code}, not {expected} ({way!r})"
    return next((f"says {word!r}" for word in WORDS if word in text), None)


def child(path: Path, seed: int, log: Path, way_file: Path) -> None:
    """Does one run in this process, and ends it."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 2)
    os.dup2(fd, 1)
    import faulthandler

    faulthandler.enable()
    way = leave(str(path), seed)
    way_file.write_text(way)
    end(way)


def main() -> int | None:
    """Runs them; the exit code is 1 if one failed. In a child, returns None: it ends."""
    options = [item for item in sys.argv[1:] if item != "--fresh"]
    is_fresh = len(options) != len(sys.argv) - 1
    if options[0] == "child":
        return child(Path(options[1]), int(options[2]), Path(options[3]), Path(options[4]))
    runs, first = int(options[0]), int(options[1]) if len(options) > 1 else 0
    import tensorflow as tf  # noqa: F401

    import h5video_data.tfdata  # noqa: F401

    failures = []
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp())  # which the children must leave alone
    path, log, way_file = (folder / name for name in ("a.h5", "log", "way"))
    # In a process of its own: HDF5 and the threads of this package begin in the children.
    if not (pid := os.fork()):
        write(path)
        os._exit(0)
    os.waitpid(pid, 0)
    for seed in range(first, first + runs):
        way_file.write_text("")
        if is_fresh:
            command = [sys.executable, __file__, "child", path, str(seed), log, way_file]
            process = subprocess.Popen(command).pid
        else:
            process = os.fork()
            if not process:
                return child(path, seed, log, way_file)
        wrong = failure(process, log, way_file)
        if wrong:
            failures.append(seed)
            print(f"seed {seed}: {wrong}\n{log.read_text(errors='replace')[-6000:]}", flush=True)
    seconds = time.monotonic() - begin
    print(f"{len(failures)} of {runs} failed, in {seconds:.0f} s: {failures}", flush=True)
    shutil.rmtree(folder)
    return int(bool(failures))


if __name__ == "__main__":
    code = main()
    if code is not None:
        sys.exit(code)
