"""Several files opened as one set: which rows of which file are its samples."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from conftest import Order
from reading_helpers import SHAPE, check, values

from h5video_data import testing
from h5video_data.errors import FileFormatError
from h5video_data.loader import VideoLoader

pytestmark = [
    pytest.mark.memory_limit(-1),  # everything is read, however small
    pytest.mark.usefixtures("poisoned_buffers"),
]


SAMPLE = SHAPE[1:]


ONE = (1, *SAMPLE)  # the shape of a chunk that is one sample


def test_files_of_different_layouts_are_one_set(tmp_path):
    kinds = [
        {"chunks": ONE},
        {"dtype": ">u2"},
        {"chunks": (2, *SAMPLE), "compression": "gzip"},
        {},
        {"chunks": ONE, "shuffle": True, "compression": "lzf"},
    ]
    paths = [tmp_path / f"{number}.h5" for number in range(len(kinds))]
    for number, (path, options) in enumerate(zip(paths, kinds, strict=True)):
        with h5py.File(path, "w") as file:
            file.create_dataset("X", data=values(seed=number), **{"dtype": "<u2", **options})
    total = 7 * len(paths)
    check(paths, order=np.random.default_rng(0).integers(0, total, 3 * total), batch_size=20)


@pytest.mark.parametrize("counts", [(0, 3, 0, 0, 2, 0), (7, 0), (0, 1), (5, 7, 1)], ids=str)
def test_sample_count_cuts_files_short(tmp_path, counts):
    paths = [tmp_path / f"{number}.h5" for number in range(len(counts))]
    for number, (path, count) in enumerate(zip(paths, counts, strict=True)):
        with h5py.File(path, "w") as file:
            file["X"] = values(seed=number)
            file.attrs["sample_count"] = count
    check(paths)


def test_a_file_without_rows_adds_nothing_to_a_set(tmp_path):
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "X", data=values()[: 0 if number == 1 else 7], maxshape=(None, *SAMPLE)
            )
    check(paths)


def test_files_must_be_alike(tmp_path):
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path, dtype in zip(paths, ("u1", "u2"), strict=True):
        testing.write_video_file(path, dtype=dtype)
    with pytest.raises(FileFormatError, match=r"'X' must be alike.*uint8.*uint16"):
        VideoLoader(paths)


def test_dicts_weights_and_the_same_dataset_twice(tmp_path):
    path = tmp_path / "set.h5"
    data = {"X": values(), "flow/x": values(dtype="f4"), "Y": np.arange(7), "w": np.ones(7, "f4")}
    with h5py.File(path, "w") as file:
        for name, array in data.items():
            file[name] = array
    loader = VideoLoader(
        path,
        x={"rgb": "X", "flow": "flow/x", "again": "X"},
        y={"class": "Y", "same": "Y"},
        sample_weight="w",
        shuffle=Order([5, 1, 1]),
    )
    ((x, y, weight),) = list(loader)
    assert list(x) == ["rgb", "flow", "again"]
    rows = [5, 1, 1]
    np.testing.assert_array_equal(x["rgb"], data["X"][rows])
    np.testing.assert_array_equal(x["again"], data["X"][rows])
    np.testing.assert_array_equal(x["flow"], data["flow/x"][rows])
    np.testing.assert_array_equal(y["class"], rows)
    np.testing.assert_array_equal(y["same"], rows)
    np.testing.assert_array_equal(weight, data["w"][rows])


def test_the_same_file_twice(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=5)
    check([path, path], order=[9, 4, 0, 5])


@pytest.mark.memory_limit(4096)
def test_a_relative_path_means_what_it_meant_when_it_was_given(tmp_path, monkeypatch):
    testing.write_video_file(tmp_path / "set.h5", num_samples=5)
    monkeypatch.chdir(tmp_path)
    loader = VideoLoader("set.h5", shuffle=False)
    monkeypatch.chdir("/")
    ((x, _),) = list(loader)
    np.testing.assert_array_equal(x, testing.sample_values(np.arange(5)))
