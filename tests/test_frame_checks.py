"""Rows that are samples are not taken for frames."""

from __future__ import annotations

import logging
import re

import h5py
import numpy as np
import pytest

from h5video_data import VideoLoader, Windows
from h5video_data.errors import ArgumentError

ONE_HOT = np.eye(4, dtype=np.float32)[np.arange(12) % 4]


def write(folder, shape, y=ONE_HOT, count=None, **attributes):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file["X"] = np.zeros((12, *shape), np.uint8)
        file["X"].attrs.update(attributes)
        file["Y"] = y
        file["ep_len"] = [7, 5]
        if count is not None:
            file.attrs["sample_count"] = count
    return str(path)


@pytest.mark.parametrize(
    ("y", "count"), [(ONE_HOT, None), (ONE_HOT.astype(np.int64), 12), (np.arange(12) % 4, 12)]
)
def test_stacked_samples_with_classes(tmp_path, y, count):
    path = write(tmp_path, (6, 3, 8, 8), y, count)
    with pytest.raises(ArgumentError, match=r"rows of 'X' are samples: a row has 4 axes.*'Y'"):
        VideoLoader(path, windows=4)
    # Told otherwise.
    assert VideoLoader(path, windows=Windows(4, bounds="ep_len")).num_samples == 6
    assert VideoLoader(path, windows=Windows(4, 1)).num_samples == 9
    assert VideoLoader(path, windows=4, y=None).num_samples == 9


def test_trajectories(tmp_path):
    path = write(tmp_path, (9, 8, 8), sample_varying=True)
    with pytest.raises(ArgumentError, match="`sample_varying` says that its rows are trajectories"):
        VideoLoader(path, y=None, windows=4)


@pytest.mark.parametrize(
    ("shape", "y", "count"),
    [
        ((8, 8, 3), ONE_HOT, None),
        ((8, 8, 3), np.arange(12) % 4, 12),
        ((2, 8, 8, 3), np.arange(12) % 4, None),  # cameras
        ((2, 8, 8, 3), np.ones((12, 4), np.float32), 12),  # actions
        ((2, 8, 8, 3), np.ones((12, 1), np.int64), None),
    ],
)
def test_frames_are_frames(tmp_path, shape, y, count):
    assert VideoLoader(write(tmp_path, shape, y, count), windows=4).num_samples == 9


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 8, 3), r"each is a sample \(frames, ...\)"),
        ((8, 8, 49), r"a sample \(rows, columns, frames\).*axis=-1"),
        ((8, 8, 3), None),
        ((3, 8, 8), None),
        ((8, 9, 10), None),
    ],
)
def test_rows_that_may_be_samples_are_warned_of(tmp_path, caplog, shape, message):
    path = write(tmp_path, shape)
    with caplog.at_level(logging.WARNING):
        VideoLoader(path, y=None, windows=4)
        VideoLoader(path, y=None, windows=Windows(4, bounds="ep_len"))
    if message is None:
        assert not caplog.messages
    else:
        (found,) = caplog.messages
        assert re.search(message, found)


def test_a_dataset_a_frame_is_no_recording(tmp_path):
    path = tmp_path / "frames.h5"
    with h5py.File(path, "w") as file:
        for i in range(4):
            file[f"0/{i}"] = np.zeros((8, 10, 3), np.uint8)
            file[f"1/{i}"] = np.zeros((8, 10), np.uint8)
    with pytest.raises(ArgumentError, match=r"'/0/0' seems to be one picture.*repack --layout rec"):
        VideoLoader(path, x="0/*", y=None, windows=1)
    with pytest.raises(ArgumentError, match="seems to be one picture"):
        VideoLoader(path, x="0/0", y=None, windows=1)
