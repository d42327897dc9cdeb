"""Names in a file: each thing listed once, whatever its bytes."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.testing import write_video_file


def test_things_with_several_names_are_listed_once(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["z"] = file["X"]
        file["group/again"] = file["X"]
        file["group/in"] = file["group"]  # a group that holds itself
        file["group/root"] = file["/"]
    assert [item.name for item in h5v.inspect(path).datasets] == ["X", "Y"]


def test_names_of_datasets_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in (b"temp_\xb0C", b"gr\xfcn/X"):
            group, _, last = name.rpartition(b"/")
            parent = file.create_group(group) if group else file
            space = h5py.h5s.create_simple((4, 3))
            dataset = h5py.h5d.create(parent.id, last, h5py.h5t.NATIVE_UINT8, space)
            h5py.Dataset(dataset)[...] = 7
    names = [item.name for item in h5v.inspect(path).datasets]
    assert sorted(names) == ["gr\udcfcn/X", "temp_\udcb0C"]
    for name in names:
        ((x),) = VideoLoader(path, x=name, y=None)
        assert (x == 7).all()
    with pytest.raises(h5v.errors.DatasetNotFoundError, match="temp_"):
        VideoLoader(path, x="temp_C", y=None)
    for option in ([], ["--json"]):
        run = [sys.executable, "-m", "h5video_data", "inspect", *option, os.fspath(path)]
        env = {
            **os.environ,
            "PYTHONPATH": str(Path(h5v.__file__).parents[1]),
            "PYTHONIOENCODING": "utf-8",
        }
        done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        assert "temp_\\udcb0C" in done.stdout


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"
