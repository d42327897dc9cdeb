"""Small values that are read once and kept."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data import Clip, Windows, set_values
from h5video_data.errors import FileFormatError, H5VideoError
from h5video_data.opening import open_video_set
from h5video_data.set_values import (
    component_values,
    read_clip_lengths,
    read_rows,
    read_values,
    rows_in_use,
)
from h5video_data.storage.layout import describe
from h5video_data.testing import write_video_file

VALUES = np.arange(24).reshape(8, 3)


def written(folder, **datasets):
    with h5py.File(folder / "a.h5", "w") as file:
        for name, (values, options) in datasets.items():
            file.create_dataset(name, data=values, **options)
        file.create_dataset("unwritten", (8, 3), "i4", fillvalue=7)
    with h5py.File(folder / "a.h5") as file:
        return [describe(file[name]) for name in [*datasets, "unwritten"]]


def test_values_as_h5py_reads_them(tmp_path):
    datasets = {
        "plain": (VALUES, {}),
        "turned": (VALUES, {"dtype": ">f4"}),
        "half": (VALUES, {"dtype": "f2"}),
        "bool": (VALUES % 2 == 0, {}),
        "chunked": (VALUES, {"chunks": (2, 3), "compression": "gzip"}),
    }
    parts = written(tmp_path, **datasets)
    found = read_rows(parts, [5] * len(parts))
    with h5py.File(tmp_path / "a.h5") as file:
        for part, values in zip(parts, found, strict=True):
            assert values.dtype == part.dtype
            np.testing.assert_array_equal(values, file[part.name][:5])
    assert [values.shape for values in read_rows(parts[:1], [0])] == [(0, 3)]


def test_values_that_lie_as_they_are_cost_no_call_of_h5py(tmp_path, monkeypatch):
    def not_needed(*_):
        raise AssertionError("read by h5py")

    parts = written(tmp_path, plain=(VALUES, {}), turned=(VALUES, {"dtype": ">i2"}))[:2]
    monkeypatch.setattr(set_values, "Values", not_needed)
    for values in read_rows(parts, [8, 8]):
        np.testing.assert_array_equal(values, VALUES)


def test_values_beyond_the_end_of_a_file_are_an_error(tmp_path):
    (part, *_) = written(tmp_path, plain=(VALUES, {}))
    with open(tmp_path / "a.h5", "r+b") as file:
        file.truncate(int(part.offsets[0]) + 4)
    with pytest.raises(H5VideoError):
        read_rows([part], [8])


def test_values_of_windows_are_those_of_their_rows(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((9, 4, 4), np.uint8)
        file["ends"] = [4, 9]
        file["label"] = np.arange(9)
    windows = Windows(3, hop=2, bounds=("ends", "ends"))
    opened = open_video_set(path, "frames", "label", windows=windows)
    assert component_values(opened.components[1]).tolist() == [0, 4, 6]
    assert read_values(opened, "label").tolist() == [0, 4, 6]


@pytest.mark.parametrize(
    ("lengths", "counts", "stored", "expected"),
    [
        ([2, 3], [4, 1], [9, 9], [2, 3]),
        ([9], [4], [5], [4]),
        ([9, 8], [4, 5], [9, 8], [4, 5]),
        ([9, 8], [4, 5], [9, 9], None),
        ([9, 3], [4, 5], [9, 3], None),
        ([3, 3, 3, 9], [4, 5], [9, 9], None),
    ],
)
def test_rows_in_use_of_other_files(lengths, counts, stored, expected):
    if expected is not None:
        assert rows_in_use("a:Y", lengths, counts, stored, is_count_given=True) == expected
        return
    received = rf"Received: {' . '.join(map(str, lengths))} rows; the attribute `sample_count`"
    with pytest.raises(FileFormatError, match=f"each of the 9 samples. {received}"):
        rows_in_use("a:Y", lengths, counts, stored, is_count_given=True)


def test_lengths_of_clips_in_another_file_or_of_a_wrong_shape(tmp_path):
    path, other = write_video_file(tmp_path / "a.h5", num_samples=6), tmp_path / "b.h5"
    with h5py.File(path, "a") as file, h5py.File(other, "w") as beside:
        beside["n"] = [[4], [3], [4], [2], [4], [3]]
        file["n"] = np.full((6, 2), 4)
    clip = Clip(2, lengths=f"{other}:n")
    lengths = read_clip_lengths(open_video_set(path, "X", None, clip=clip), clip)
    assert lengths.values.tolist() == [4, 3, 4, 2, 4, 3]
    with pytest.raises(FileFormatError, match=r"shape \(samples,\), .*Received: shape \(6, 2\)"):
        open_video_set(path, "X", None, clip=Clip(2, lengths="n"))
