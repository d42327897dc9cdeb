"""Small values that are read once and kept."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data import set_values
from h5video_data.errors import H5VideoError
from h5video_data.set_values import read_rows
from h5video_data.storage.layout import describe

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
