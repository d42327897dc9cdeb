"""What splits and samplers of windows go by: values of recordings, of rows, of windows."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from h5video_data import VideoLoader, Windows, split_samples
from h5video_data.errors import ArgumentError, FileChangedError
from h5video_data.opening import open_video_set
from h5video_data.splits import split_set

LENGTHS = np.array([6, 9, 5, 7, 8, 4])
SPLIT = {"validation_split": 0.4, "seed": 0}
# Two rows of the last recording are too few.
RECORDINGS = np.repeat(range(6), LENGTHS - 2)


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        total = LENGTHS.sum()
        file["frames"] = np.arange(total, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), "u1")
        file["length"] = LENGTHS
        file["group"] = np.array([3, 3, 5, 5, 7, 7])
        file["group_of_row"] = np.repeat([3, 3, 5, 5, 7, 7], LENGTHS)
        file["row"] = np.arange(total)
        file["action"] = np.zeros((total, 2, 2))
    return str(tmp_path / "a.h5")


def sides(path, **arguments):
    arguments = {
        "x": "frames", "y": None, "windows": Windows(3, bounds="length"), **SPLIT, **arguments,
    }  # fmt: skip
    found = [
        VideoLoader(path, subset=subset, **arguments).sample_indices
        for subset in ("training", "validation")
    ]
    assert sorted(np.concatenate(found)) == [*range(len(RECORDINGS))]
    return [set(RECORDINGS[side].tolist()) for side in found]


GROUPS = [
    {"split_by": "group"},
    {"split_by": "group_of_row"},
    {"split_by": np.array([3, 3, 5, 5, 7, 7])},
    {"split_by": np.repeat([3, 3, 5, 5, 7, 7], LENGTHS - 2)},
    # Also of what is windowed itself.
    {"split_by": "group_of_row",
     "x": {"a": "frames", "g": "group_of_row"},
     "windows": Windows({"a": 3, "g": 3}, bounds="length")},
]  # fmt: skip


@pytest.mark.parametrize("arguments", GROUPS, ids=["recordings", "rows", "array", "samples", "x"])
def test_groups_stay_whole(path, arguments):
    training, validation = sides(path, **arguments)
    assert not training & validation
    groups = [{number // 2 for number in side} for side in (training, validation)]
    assert not groups[0] & groups[1]
    assert len(groups[0] | groups[1]) == 3


@pytest.mark.parametrize("split_by", [None, "recording"])
def test_recordings_stay_whole_by_themselves(path, split_by):
    training, validation = sides(path, split_by=split_by)
    assert not training & validation
    assert len(validation) in (2, 3)


def test_recordings_of_chosen_windows_stay_whole(path):
    chosen = np.arange(0, len(RECORDINGS), 2)
    opened = open_video_set(path, "frames", None, windows=Windows(3, bounds="length"))
    training, validation = split_set(opened, 0.4, 0, indices=chosen)
    assert sorted([*training, *validation]) == chosen.tolist()
    assert len(validation) > 0
    assert not {*RECORDINGS[training]} & {*RECORDINGS[validation]}


def test_stratified_recordings(path):
    for classes in ("group", "group_of_row", np.array([3, 3, 5, 5, 7, 7])):
        training, validation = sides(path, stratify_by=classes, validation_split=0.5)
        assert {number // 2 for number in training} == {number // 2 for number in validation}


@pytest.mark.parametrize("split_by", ["row", np.arange(len(RECORDINGS)) // 7])
def test_ids_that_divide_a_recording(path, split_by):
    with pytest.raises(ArgumentError, match="has several ids in a recording, whose windows may"):
        sides(path, split_by=split_by)


def test_what_is_no_value_of_windows(path):
    with pytest.raises(ArgumentError, match="one value a row, or one a recording"):
        sides(path, split_by="action")
    with pytest.raises(ArgumentError, match=r"27 samples .* each of the 6 recordings"):
        sides(path, split_by=np.arange(7))
    with pytest.raises(ArgumentError, match="6 values: as many as there are samples, and as there"):
        sides(path, split_by=np.arange(6), windows=Windows(7, bounds="length"))


def test_values_of_rows_that_windows_are_drawn_from(path):
    windows = Windows(3, bounds="length", per_recording=2)
    arguments = {"x": "frames", "windows": windows, "shuffle": "balanced", "seed": 0}
    loader = VideoLoader(path, y="group_of_row", **arguments)
    assert loader.num_samples == 12
    with pytest.raises(ArgumentError, match="'row' has several values in a recording, and windows"):
        VideoLoader(path, y="row", **arguments)
    with pytest.raises(ArgumentError, match="has several values in a recording, and windows"):
        VideoLoader(path, y=np.arange(LENGTHS.sum()), **arguments)


def test_windows_that_are_drawn_are_described_by_epoch(path):
    windows = Windows(range(-1, 2), bounds="length", per_recording=3)
    loader = VideoLoader(path, x="frames", y=None, windows=windows, seed=4)
    found = []
    for epoch in range(3):
        for _, numbers, (x,) in loader.batches():
            rows = [place.row for place in loader.describe_samples(numbers, epoch=epoch)]
            assert rows == x[:, 0, 0, 0].tolist()
            found.append(rows)
    assert len(np.unique(found)) > 18
    lowest = [place.row for place in loader.describe_samples(range(18))]
    assert lowest == np.repeat(np.cumsum(LENGTHS) - LENGTHS, 3).tolist()
    with pytest.raises(ArgumentError, match="`epoch` must be a whole number, 0 or more"):
        loader.describe_samples([0], epoch=-1)


def test_a_file_that_changes(path):
    windows = Windows(3, bounds="length")
    found = open_video_set(path, "frames", None, windows=windows)
    with VideoLoader(path, x="frames", y="group", windows=windows) as loader:
        with h5py.File(path, "a") as file:
            file["group"][...] = 9
            file["more"] = [1]
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed or replaced after opening"):
            next(iter(loader))
    with pytest.raises(FileChangedError, match=r"a\.h5 was changed or replaced after opening"):
        split_set(found, 0.4, 0, split_by="group")


def test_windows_as_a_number_of_frames(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i in range(4):
            file[f"e{i}/frames"] = np.zeros((6, 8, 8), np.uint8)
    sides = [
        split_samples(path, 0.5, seed=0, x="*/frames", y=None, windows=windows)
        for windows in (3, Windows(3))
    ]
    for one, other in zip(*sides, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(side) for side in sides[0]] == [8, 8]


def test_many_windows_take_memory_for_their_numbers_alone(tmp_path):
    path, count = tmp_path / "a.h5", 1_000_000
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", (count, 2, 2), "u1", fillvalue=1)
        file["length"] = np.full(100, count // 100)
    options = {"x": "frames", "y": None, "windows": Windows(1, bounds="length")}
    options |= {"read_ahead_bytes": 1 << 20}
    # With an array of int64 for all windows, 8 bytes each, a side of a split and a mask.
    for arguments, per_window in (
        ({"seed": 0}, 3 * 8),
        ({"seed": 0, "shuffle": False}, 3 * 8),
        ({**SPLIT, "subset": "training"}, 4 * 8),
    ):
        tracemalloc.start()
        try:
            loader = VideoLoader(path, **options, **arguments)
            state = loader.state_dict(epoch=0, step=3)
            next(iter(loader))
            loader.load_state_dict(state)
            next(iter(loader))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < per_window * count + (12 << 20)


def by_label(path, name, **windows):
    bounds = ("lengths", "length")
    return VideoLoader(
        path, x="frames", y=name, windows=Windows(1, bounds=bounds, **windows), split_by="label",
        subset="training", **SPLIT,
    )  # fmt: skip


def test_a_split_by_the_label_of_each_recording(path):
    with h5py.File(path, "a") as file:
        file["label"] = np.repeat([0, 1, 0, 1, 0, 1], LENGTHS)
    found = by_label(path, "label").sample_indices
    recordings = np.repeat(range(6), LENGTHS)[found]
    assert len(np.unique(recordings)) == 4  # of 6 at 0.4, and all of each
    assert len(found) == LENGTHS[np.unique(recordings)].sum()
    assert {number % 2 for number in recordings.tolist()} == {0, 1}


def test_labels_that_a_split_by_label_cannot_go_by(path):
    with h5py.File(path, "a") as file:
        file["changing"] = np.arange(LENGTHS.sum()) % 2
    with pytest.raises(ArgumentError, match="must have the same label"):
        by_label(path, "changing")
    with pytest.raises(ArgumentError, match=r"label for each window.*Received: y='changing'"):
        by_label(path, "changing", y=1)
