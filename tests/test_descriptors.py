"""Open files: as many as there are descriptors for."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import (
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.storage import descriptors, system
from h5video_data.storage.descriptors import (
    check_openable,
    keep_open,
    open_descriptor,
    open_identities,
    with_free_descriptors,
)
from h5video_data.storage.file_identity import ObjectPath
from h5video_data.storage.os_errors import unavailable
from h5video_data.testing import write_recordings, write_video_file


def test_as_many_are_kept_as_there_are_descriptors_for(monkeypatch):
    limits = {"soft": 200}
    monkeypatch.setattr(system.resource, "getrlimit", lambda _: (limits["soft"], 10**6))
    assert keep_open(open, 256).cache_info().maxsize == 50
    limits["soft"] = 4096
    assert keep_open(open, 256).cache_info().maxsize == 256
    limits["soft"] = system.resource.RLIM_INFINITY
    assert keep_open(open, 256).cache_info().maxsize == 256


def test_all_that_are_kept_open_give_way():
    kept = keep_open(str, 8)
    other = keep_open(str, 8)
    calls = []

    def call():
        calls.append((kept.cache_info().currsize, other.cache_info().currsize))
        if len(calls) < 2:
            cause = OSError(errno.EMFILE, "Too many open files")
            raise unavailable("a.h5", cause) from cause
        return "opened"

    kept("a"), other("b")
    assert with_free_descriptors(call)() == "opened"
    assert calls == [(1, 1), (0, 0)]
    with pytest.raises(UnavailableError, match="Permission"):
        with_free_descriptors(
            lambda: (_ for _ in ()).throw(UnavailableError("Permission denied"))
        )()


def test_a_file_that_was_deleted_has_no_descriptor(tmp_path):
    with pytest.raises(VideoFileNotFoundError, match=r"a\.h5 no longer exists \(deleted or moved"):
        open_descriptor(str(tmp_path / "a.h5"))


def test_only_what_is_on_this_machine_must_be_openable(tmp_path):
    check_openable(ObjectPath("s3://bucket/a.h5"))
    with pytest.raises(VideoFileNotFoundError, match=r"a\.h5 no longer exists"):
        check_openable(str(tmp_path / "a.h5"))


def test_which_files_are_open(tmp_path, monkeypatch):
    with open(tmp_path / "a", "w") as file:
        stat = os.stat(file.fileno())
        assert (stat.st_dev, stat.st_ino) in open_identities()
    assert (stat.st_dev, stat.st_ino) not in open_identities()
    monkeypatch.setattr(descriptors, "open_descriptors", lambda: None)  # as on Windows
    assert open_identities() is None


FEW = """
import glob, resource, sys
import h5video_data as h5v
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (48, most))
paths = sorted(glob.glob("*.h5"))
options = {"batch_size": 40, "on_error": "skip", "num_threads": 2}
loaders = [h5v.VideoLoader(paths, seed=i, **options) for i in range(3)]
for epoch in range(2):
    for batches in zip(*(loader.batches() for loader in loaders)):
        for _, indices, (x, _) in batches:
            assert (x == h5v.testing.sample_values(indices)).all()
print([(loader.stats.num_samples, loader.skipped) for loader in loaders])
"""


@pytest.mark.parametrize("options", [{}, {"scaleoffset": 0}], ids=["direct", "h5py"])
def test_more_files_than_descriptors(tmp_path, options):
    for number in range(120):
        path = tmp_path / f"{number:03}.h5"
        write_video_file(path, num_samples=2, first=2 * number, **options)
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    run = [sys.executable, "-c", FEW]
    done = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.stdout == f"{[(480, {})] * 3}\n", done.stderr


FEW_OF_RECORDINGS = """
import os, re, resource
import h5py, numpy as np
import h5video_data as h5v
from h5video_data.testing import recording_values
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
windows = h5v.Windows({"image": 2}, range(3))
x = {"image": "observations/images/top", "action": "action"}
loader = h5v.VideoLoader("episode_*.hdf5", x=x, y="action", windows=windows, batch_size=60, seed=0)
found, opened = set(), 0
for _, numbers, (image, action, actions) in loader.batches():
    opened = max(opened, len(os.listdir("/proc/self/fd")))
    for i, place in enumerate(loader.describe_samples(numbers)):
        number = int(re.search(r"episode_([0-9]+)", place.path)[1])
        rows = place.row + np.arange(3)
        of_actions = recording_values(number, rows, (4,), np.float32)
        assert (image[i] == recording_values(number, rows[:2], image[i].shape[1:])).all()
        assert (actions[i] == of_actions).all() and (action[i] == of_actions[0]).all()
        found.add((number, place.row))
print(len(found), opened < 256)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists descriptors")
@pytest.mark.parametrize("options", [{}, {"chunks": (1, 8, 8, 3), "compression": "gzip"}])
def test_more_recordings_than_descriptors(tmp_path, options):
    lengths = [3 + i % 4 for i in range(400)]
    write_recordings(tmp_path, lengths, layout="files", frame_shape=(8, 8, 3), **options)
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    run = [sys.executable, "-c", FEW_OF_RECORDINGS]
    done = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.stdout == f"{sum(lengths) - 2 * 400} True\n", done.stderr


KEPT = """
import ctypes, sys
import h5video_data as h5v
loader = h5v.VideoLoader(sys.argv[1], y=None)
assert sum(len(x) for x in loader) == 6
# As TensorFlow does, which keeps what its generators have.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(loader))
"""


def test_the_process_ends_while_a_virtual_dataset_is_open(tmp_path):
    # HDF5 crashes when it is ended.
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((6, 2000), np.int32)
        layout = h5py.VirtualLayout((6, 2000), np.int32)
        layout[:] = h5py.VirtualSource(file["raw"])
        file.create_virtual_dataset("X", layout)
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    run = [sys.executable, "-c", KEPT, tmp_path / "a.h5"]
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
