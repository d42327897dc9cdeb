"""Attributes that cannot be read: an error where they matter, and only there."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import FileFormatError
from h5video_data.testing import write_video_file


@pytest.fixture
def damaged(tmp_path):
    """A file with a damaged attribute; its datasets are whole."""
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["sample_count"]
        file.attrs["note"] = np.int32(1)
    data = bytearray(Path(path).read_bytes())
    data[data.index(b"note\0") - 8] = 9  # the version of its encoding
    Path(path).write_bytes(data)
    return path


def test_a_damaged_attribute(damaged):
    message = r"a.h5: cannot read the attribute 'sample_count' of '/': .* are damaged"
    with pytest.raises(FileFormatError, match=message):
        VideoLoader(damaged)
    report = h5v.inspect(damaged)
    assert sorted(item.name for item in report.datasets) == ["X", "Y"]
    assert [item.path for item in report.datasets] == ["direct", "memory"]
    assert "cannot read the attribute 'sample_count'" in report.problems[0]


def test_damaged_attributes_of_a_group_matter_to_its_datasets_only(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["in/X"], file["in/Y"] = np.ones((5, 6)), np.ones((5, 2))
        file["in"].attrs["note"] = np.int32(1)
    data = bytearray(Path(path).read_bytes())
    data[data.index(b"note\0") - 8] = 9
    Path(path).write_bytes(data)
    assert VideoLoader(path).num_samples == 20
    with pytest.raises(
        FileFormatError, match="'sample_count' of '/in': the attributes of this group"
    ):
        VideoLoader(path, x="in/X", y="in/Y")
