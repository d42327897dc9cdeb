"""Repacks a file in processes that are killed at random moments, and compares the results.

python repack_killed_script.py FOLDER SEED ARGUMENTS: `FOLDER/a.h5`, by the JSON of the arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import h5py

import h5video_data as h5v
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.repacking import sample_batches

NUM_KILLS = 12


def contents(path):
    with h5py.File(path) as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: of_item(item)}))
        return found, {name: str(value) for name, value in file.attrs.items()}


def of_item(item):
    if not isinstance(item, h5py.Dataset):
        return None
    if item.dtype.hasobject:
        return [bytes(value) for value in item[()]]
    return item.dtype.str, item.shape, item.chunks, item[()].tobytes()


def lines_of_journals(out):
    return [path.read_text().count("\n") for path in out.glob("*.journal")]


def write_slowly():
    """Makes sure that there is something to go on from, however busy the machine is."""
    note = PartialFile._note

    def note_and_wait(*arguments):
        note(*arguments)
        time.sleep(0.02)

    PartialFile._note = note_and_wait


def wait_for_lines(out):
    """Waits until there is; not for long, as all may be done by now."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if sum(lines_of_journals(out)) > 1:
                return
        time.sleep(0.0005)


def main(folder, seed, arguments):
    # Small batches: there are many moments at which something is half done.
    sample_batches.BATCH_BYTES = 1 << 16
    rng = random.Random(seed)
    whole = folder / "whole"
    whole.mkdir()
    begin = time.perf_counter()
    h5v.repack(folder / "a.h5", whole / "b.h5", **arguments)
    seconds = time.perf_counter() - begin
    expected = {path.name: contents(path) for path in whole.iterdir()}
    out = folder / "out"
    out.mkdir()
    done = [0]
    for _ in range(NUM_KILLS):
        pid = os.fork()
        if not pid:
            if max(done) < 2:
                write_slowly()
            h5v.repack(folder / "a.h5", out / "b.h5", **arguments)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.7 * seconds))
        if max(done) < 2:
            wait_for_lines(out)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        for path in out.iterdir():
            if ".partial" not in path.name:
                assert contents(path) == expected[path.name], path
        journals = lines_of_journals(out)
        done.append(sum(journals))
        if status == 0 or (any(out.iterdir()) and not journals):  # it is complete
            break
    # A kill may come when all is done, and the journal is gone.
    is_done = not any(out.glob("*.journal"))
    h5v.repack(folder / "a.h5", out / "b.h5", **arguments, overwrite=is_done)
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)
    for path in out.iterdir():
        assert contents(path) == expected[path.name], path
    print(json.dumps({"most lines of journals": max(done)}))


main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
