"""Names in a file: each thing listed once, whatever its bytes."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.storage.hdf5_files import OpenedFile
from h5video_data.storage.hdf5_names import (
    FoundDataset,
    find_dataset,
    find_quickly,
    list_names,
    own_name,
)
from h5video_data.storage.layout import describe
from h5video_data.testing import write_video_file


def test_things_with_several_names_are_listed_once(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["z"] = file["X"]
        file["group/again"] = file["X"]
        file["group/in"] = file["group"]  # a group that holds itself
        file["group/root"] = file["/"]
    assert [item.name for item in h5v.inspect(path).datasets] == ["X", "Y"]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (2, 0), ()])
def test_datasets_without_rows_are_listed(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros(shape)
        file["group/Y"], file["none"] = np.zeros(shape), h5py.Empty("f4")
        assert list_names(file) == (["X", "none", "group/Y"], [], [])


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


@pytest.fixture
def linked_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["in/X"] = [5, 6]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/X"] = [[1, 2], [3, 4]]
        file["empty"] = h5py.Empty("f4")
        file["soft"], file["hard"] = h5py.SoftLink("/g"), file["g"]
        file["away"] = h5py.ExternalLink("other.h5", "/in")
        file["to_away"], file["nowhere"] = h5py.SoftLink("/away/X"), h5py.SoftLink("/none")
    with h5py.File(tmp_path / "a.h5") as file:
        yield file


NAMES = ["g/X", "/g/X", "g//X", "./g/X", "soft/X", "hard/X", "away/X", "to_away", "empty"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_that_is_found_quickly_is_the_same(linked_file, name):
    found, expected = find_quickly(linked_file, name), find_dataset(linked_file, name)
    assert (found.shape, found.dtype, found.name) == (expected.shape, expected.dtype, expected.name)
    assert own_name(found, name) == own_name(expected, name)
    assert OpenedFile.of(linked_file).holds(found) == (found.file == linked_file)
    assert isinstance(found, FoundDataset) == (name in ("g/X", "/g/X", "soft/X", "hard/X", "empty"))
    if found.shape:
        assert len(found) == 2
        assert found[1:].tolist() == expected[1:].tolist()
        assert [*map(repr, [describe(found, name).name])] == [repr(describe(expected, name).name)]


@pytest.mark.parametrize("name", ["none", "g", "nowhere", "g/none", "away/none", "", "/"])
def test_what_is_no_dataset_is_the_same_error(linked_file, name):
    with pytest.raises(h5v.errors.DatasetNotFoundError) as expected:
        find_dataset(linked_file, name)
    with pytest.raises(h5v.errors.DatasetNotFoundError) as found:
        find_quickly(linked_file, name)
    assert str(found.value) == str(expected.value)
