"""Errors: the tree of their classes; files that are not there, or not HDF5, or in use."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from errors_helpers import ONE, consume, edit, raises

import h5video_data
from h5video_data import errors, testing
from h5video_data.errors import (
    ArgumentError,
    FileChangedError,
    FileFormatError,
    FileInUseError,
    H5VideoError,
    NotHDF5Error,
    ReadError,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.loader import VideoLoader


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5")


# --------------------------------------------------------------------------- the public names


def test_public_names():
    assert sorted(h5video_data.__all__) == h5video_data.__all__
    assert set(h5video_data.__all__) <= set(dir(h5video_data))
    for name in set(h5video_data.__all__) - {"transforms", "callbacks", "video_dataset_from_hdf5"}:
        assert getattr(h5video_data, name) is not None  # those left out take TensorFlow


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match=r"'h5video_data' has no attribute 'nothing'"):
        _ = h5video_data.nothing


def test_the_tree_of_errors():
    tree = {
        "ArgumentError": (H5VideoError, ValueError),
        "ClosedError": (H5VideoError, RuntimeError),
        "StateError": (H5VideoError, ValueError),
        "DatasetNotFoundError": (H5VideoError, KeyError),
        "ExternalFileError": (H5VideoError,),
        "FileChangedError": (ReadError,),
        "FileFormatError": (H5VideoError, ValueError),
        "FileInUseError": (H5VideoError, OSError),
        "H5VideoError": (Exception,),
        "MissingDependencyError": (H5VideoError, ImportError),
        "MissingFilterError": (H5VideoError, OSError),
        "NotHDF5Error": (H5VideoError, OSError),
        "PackingError": (H5VideoError, ValueError, OSError),
        "ReadError": (H5VideoError, OSError),
        "RepackingError": (H5VideoError, OSError),
        "SamplerError": (H5VideoError, ValueError),
        "UnavailableError": (H5VideoError, OSError),
        "UnsupportedDtypeError": (FileFormatError, TypeError),
        "VideoFileNotFoundError": (H5VideoError, FileNotFoundError),
    }
    found = {name: getattr(errors, name).__bases__ for name in errors.__all__}
    assert found == tree  # a name that is added or removed is a change for users
    # The drawing: a line for each, with the built-in classes that it derives from besides.
    drawn = re.findall(r"── (\w+)(?: \(([^)]*)\))?  ", errors.__doc__)
    assert {name for name, _ in drawn} == tree.keys() - {"H5VideoError"}
    for name, others in drawn:
        builtin = {base.__name__ for base in tree[name] if base.__module__ == "builtins"}
        assert builtin == set(filter(None, others.split(", ")))
    for name in found:
        assert "text" in str(getattr(errors, name)("text"))


def test_import_is_light():
    code = """
import time, sys
begin = time.process_time()
import numpy
middle = time.process_time()
import h5video_data
print((time.process_time() - middle) / (middle - begin))
print({name.partition(".")[0] for name in sys.modules} & {
    "tensorflow", "keras", "h5py", "imagecodecs", "hdf5plugin", "av", "matplotlib"})
"""
    costs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250
        )
        cost, heavy = done.stdout.splitlines()
        assert heavy == "set()"
        costs.append(float(cost))
    assert min(costs) < 0.5  # of what NumPy takes, which it needs


# --------------------------------------------------------------------------- files


def test_no_such_file(tmp_path):
    with raises(VideoFileNotFoundError, "No such file ... none.h5", FileNotFoundError):
        VideoLoader(tmp_path / "none.h5")


@pytest.mark.parametrize("pattern", ["*.h5", "**/*.h5", "set[0-9].h5", "~/none*.h5"])
def test_a_glob_without_match(tmp_path, pattern):
    name = pattern if pattern[0] == "~" else str(tmp_path / pattern)
    with raises(VideoFileNotFoundError, "No file matches ... h5'", FileNotFoundError):
        VideoLoader(name)


def test_one_file_of_several_is_missing(path, tmp_path):
    with raises(VideoFileNotFoundError, "gone.h5"):
        VideoLoader([path, tmp_path / "gone.h5"])


def test_a_directory(tmp_path):
    with raises(NotHDF5Error, f"{tmp_path} is a directory ... glob ... {tmp_path}/\\*.h5", OSError):
        VideoLoader(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"\(0 bytes\)"), (b"RIFF" * 1000, r"\(4000 bytes\)")],
    ids=["empty", "another format"],
)
def test_not_hdf5(tmp_path, content, message):
    path = tmp_path / "set.h5"
    path.write_bytes(content)
    with raises(NotHDF5Error, f"{path} {message} is not an HDF5 file", OSError):
        VideoLoader(path)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_a_file_cut_short_at_any_length(tmp_path, version):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver=version) as file:
        file["X"] = np.ones((5, 50))
        file["Y"] = np.ones((5, 2))
    whole = path.read_bytes()
    for length in [*range(1, 120), *range(121, len(whole), 89), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with raises(NotHDF5Error, f"{path} ... {length} bytes"):
            VideoLoader(path)


def test_a_file_that_may_not_be_read(path, monkeypatch):
    # Tests may run as root, who may read everything.
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(h5py, "File", refuse)
    with raises(UnavailableError, f"cannot read {path}: permission denied", OSError):
        VideoLoader(path)


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_path_at_all(nothing):
    with raises(ArgumentError, "at least one file ... empty list", ValueError):
        VideoLoader(nothing)


@pytest.mark.parametrize("wrong", [None, 5, 1.5, [None], [5]], ids=str)
def test_a_path_that_is_no_path(wrong):
    with raises(ArgumentError, "`path` ... (None|5)", ValueError):
        VideoLoader(wrong)


HOLD = """
import sys, h5py
with h5py.File(sys.argv[1], "a", libver="latest") as file:
    if sys.argv[2] == "swmr":
        file.swmr_mode = True
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["plain", "swmr"])
def test_open_for_writing_in_another_process(tmp_path, mode):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["X"], file["Y"] = np.ones((5, 6)), np.ones((5, 2))
    command = [sys.executable, "-c", HOLD, path, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"open\n"
        with raises(FileInUseError, f"{path} is open for writing elsewhere ... LOCKING", OSError):
            VideoLoader(path)
        child.communicate(b"\n", timeout=250)
    assert len(consume(path)) == 1


@pytest.mark.memory_limit(-1)
def test_open_for_writing_in_this_process(path):
    # HDF5 allows that. What it has not written yet must not be read from the file.
    with edit(path) as file:
        file["X"][...] = 99
        try:
            ((x, _),) = consume(path)
        except FileChangedError:
            return
        np.testing.assert_array_equal(x, 99)


@pytest.mark.parametrize("options", [{}, {"chunks": ONE, "compression": "gzip"}], ids=str)
def test_left_open_by_its_writer_in_this_process(tmp_path, options):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for number in range(2):
            name = f"set{number}"
            file.create_dataset(f"{name}/X", data=np.full((5, 4, 3, 8, 8), number), **options)
            file[f"{name}/Y"] = np.ones((5, 2))
            time.sleep(0.02)  # the file's time of change has ticks
            loader = VideoLoader(tmp_path / "set.h5", x=f"{name}/X", y=f"{name}/Y")
            for _ in range(2):
                time.sleep(0.02)
                ((x, _),) = loader
                assert (x == number).all()


def test_open_for_reading_in_this_process(path):
    with h5py.File(path):
        assert len(consume(path)) == 1
