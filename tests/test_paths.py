"""Paths that are no files, and names that only look like patterns."""

import collections
import errno
import os

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import (
    ArgumentError,
    NotHDF5Error,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.storage.paths import expand_paths
from h5video_data.testing import sample_values, write_video_file


@pytest.mark.parametrize(
    ("call", "pattern"),
    [(VideoLoader, "a.h5"), (VideoLoader, "*.h5"), (h5v.inspect, "a.h5")],
    ids=["loader", "glob", "inspect"],
)
def test_a_pipe_is_not_waited_for(tmp_path, call, pattern):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(
        NotHDF5Error, match=r"a.h5 is not a regular file, but a pipe, a socket or a device"
    ):
        call(tmp_path / pattern)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_file(path):
    for call in (VideoLoader, h5v.inspect):
        with pytest.raises(NotHDF5Error, match=f"{path} is not a regular file"):
            call(path)


@pytest.mark.parametrize("call", [VideoLoader, h5v.inspect], ids=["loader", "inspect"])
@pytest.mark.parametrize("path", ["a\0b.h5", "a\ud800.h5", "a.h5/b.h5"], ids=ascii)
def test_a_path_that_no_file_can_have(tmp_path, monkeypatch, call, path):
    monkeypatch.chdir(tmp_path)
    write_video_file("a.h5")
    with pytest.raises(VideoFileNotFoundError, match="No such file"):
        call(path)


def test_a_file_with_the_name_of_a_glob(tmp_path):
    for name in ("a[1].h5", "a1.h5"):
        write_video_file(tmp_path / name)
    assert expand_paths(tmp_path / "a[1].h5") == (str(tmp_path / "a[1].h5"),)
    assert h5v.inspect(tmp_path / "a[1].h5").problems == ()
    (tmp_path / "b[1]").mkdir()
    write_video_file(tmp_path / "b[1]/a.h5")
    with pytest.raises(NotHDF5Error, match="is a directory") as caught:
        VideoLoader(tmp_path / "b[1]")
    pattern = str(caught.value).split("use a glob: ")[1].strip("'")
    assert VideoLoader(pattern).num_samples == 20


def test_a_name_that_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.h5")
    write_video_file(path)
    ((x, _),) = VideoLoader(path, shuffle=False)
    np.testing.assert_array_equal(x, sample_values(np.arange(20)))
    assert h5v.inspect(path).path == path


GLOBS = {
    "in the folder": ("closed/*.h5", "closed"),
    "below": ("*/a.h5", "closed"),
    "further below": ("*/*/a.h5", "closed"),
    "anywhere": ("**/a.h5", "closed"),
    "of another folder": ("open/*.h5", None),
    "of this one": ("*.h5", None),
}


@pytest.mark.parametrize(("pattern", "closed"), GLOBS.values(), ids=GLOBS)
def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch, pattern, closed):
    for name in ("a.h5", "open/a.h5", "open/in/a.h5", "closed/a.h5", "lost+found/a.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video_file(tmp_path / name)
    # Tests may run as root, who may read any directory.
    shut = [str(tmp_path / name) for name in ("closed", "lost+found")]

    def refusing(name):
        call = getattr(os, name)

        def refuse(path=".", *arguments, **options):
            place = "" if isinstance(path, int) else os.fspath(path).rstrip("/")
            is_inside = any(place.startswith(f"{folder}/") for folder in shut)
            if is_inside or (place in shut and name in ("scandir", "listdir")):
                raise PermissionError(errno.EACCES, "Permission denied", place)
            return call(path, *arguments, **options)

        return refuse

    for name in ("scandir", "listdir", "stat", "lstat"):
        monkeypatch.setattr(os, name, refusing(name))
    if closed is None:
        assert expand_paths(tmp_path / pattern)
    else:
        with pytest.raises(
            UnavailableError, match=f"cannot read directory .*{closed}.*: permission denied"
        ):
            expand_paths(tmp_path / pattern)


ITERABLES = {
    "list": lambda names: names,
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda names: np.array(names, object),
    "keys": lambda names: dict.fromkeys(names).keys(),
    "deque": collections.deque,
}


@pytest.mark.parametrize("make", ITERABLES.values(), ids=ITERABLES)
def test_paths_in_the_order_given(tmp_path, make):
    names = [str(tmp_path / name) for name in ("c.h5", "a.h5", "b.h5")]
    assert expand_paths(make(names)) == tuple(names)
    assert expand_paths(make(list(reversed(names)))) == tuple(reversed(names))


UNORDERED = {
    "set": set,
    "frozenset": frozenset,
    "iterator": iter,
    "generator": lambda names: (name for name in names),
    "map": lambda names: map(str, names),
}


@pytest.mark.parametrize("make", UNORDERED.values(), ids=UNORDERED)
def test_paths_that_have_no_order_are_sorted(tmp_path, make):
    names = [str(tmp_path / name) for name in ("c.h5", "a.h5", "b.h5")]
    assert expand_paths(make(names)) == tuple(sorted(names))


def test_files_that_pathlib_finds(tmp_path):
    for number in (2, 0, 1):
        write_video_file(tmp_path / f"{number}.h5", num_samples=3, first=3 * number)
    loader = VideoLoader(tmp_path.glob("*.h5"), shuffle=False)
    ((x, _),) = loader
    np.testing.assert_array_equal(x, sample_values(np.arange(9)))
    with pytest.raises(ArgumentError, match=r"at least one file. Received: none in path=<"):
        VideoLoader(tmp_path.glob("*.hdf5"))


def test_arrays_need_paths_whose_order_is_known(tmp_path):
    for number in (0, 1):
        write_video_file(tmp_path / f"{number}.h5", num_samples=3, first=3 * number)
    with h5py.File(tmp_path / "labels.hdf", "w") as file:
        file["y"] = np.arange(6)
    for y in (np.arange(6), f"{tmp_path}/labels.hdf:y"):
        with pytest.raises(ArgumentError, match=r"2 paths are sorted.* pass a list"):
            VideoLoader(tmp_path.glob("*.h5"), y=y)
        ((_, found),) = VideoLoader(sorted(tmp_path.glob("*.h5")), y=y, shuffle=False)
        assert found.tolist() == list(range(6))
    ((_, found),) = VideoLoader(tmp_path.glob("1.h5"), y=np.arange(3), shuffle=False)
    assert found.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "what", ["h5py file", "text file", "dict", "bytes", "array of bytes", "2-D"]
)
def test_iterables_that_are_no_paths(tmp_path, what):
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(path) as hdf5, open(tmp_path / "a.txt", "w+") as text:
        paths = {
            "h5py file": hdf5,
            "text file": text,
            "dict": {str(path): 1},
            "bytes": os.fsencode(path),
            "array of bytes": np.array([os.fsencode(path)]),
            "2-D": np.array([[str(path)]]),
        }
        with pytest.raises(ArgumentError, match="`path` must be a path or a list of paths"):
            VideoLoader(paths[what])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"
