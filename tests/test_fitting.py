"""What to do about datasets that do not fit together: axes in reverse, files of MATLAB."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data import VideoLoader
from h5video_data.errors import FileFormatError
from h5video_data.opening.fitting import transposed_hint
from h5video_data.storage.strings import StoredStrings

Y_ALONE = "It looks transposed: the samples come first"
BOTH = "They look transposed: the last axes agree"
HINTS = {
    "y alone": ((8, 6, 16, 16, 3), (1, 8), Y_ALONE),
    "one-hot y alone": ((8, 6, 16, 16, 3), (4, 8), Y_ALONE),
    "both": ((6, 16, 16, 3, 8), (1, 8), BOTH),
    "both, one-hot": ((6, 16, 16, 3, 8), (4, 8), BOTH),
    "x alone": ((6, 16, 16, 3, 8), (8,), BOTH),
    "fewer labels": ((100, 16, 112, 112, 3), (90,), None),
    "fewer labels of as many classes as channels": ((100, 16, 112, 112, 3), (90, 3), None),
    "fewer masks": ((100, 16, 112, 112, 3), (90, 16, 112, 112, 3), None),
}


@pytest.mark.parametrize(("x", "y", "hint"), HINTS.values(), ids=HINTS)
def test_hints(tmp_path, x, y, hint):
    x, y = (
        StoredStrings(str(tmp_path / "a.h5"), None, name, s) for name, s in (("X", x), ("Y", y))
    )
    found = transposed_hint(x, y)
    assert found.strip().startswith(hint or "")
    assert ("np.transpose(old[name])" in found) == bool(found) == bool(hint)
    assert "MATLAB" not in found
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["Y"] = 0
        file["Y"].attrs["MATLAB_class"] = np.bytes_("double")
    found = transposed_hint(x, y)
    assert ("MATLAB writes the axes in reverse" in found) == bool(found)
    assert bool(found) == (bool(hint) or x.shape[-1] == y.shape[-1])


@pytest.mark.parametrize("mark", [None, "attribute", "userblock"])
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["one file", "two files"])
def test_files_of_matlab(tmp_path, mark, is_elsewhere):
    block = 512 if mark == "userblock" else 0
    names = {"X": "x.mat", "Y": "y.mat" if is_elsewhere else "x.mat"}
    for name in sorted(set(names.values())):
        with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
            if names["X"] == name:
                file["X"] = np.zeros((6, 16, 16, 3, 8), np.uint8)
            if names["Y"] == name:
                file["Y"] = np.arange(8.0)[None]
            if mark == "attribute":
                for dataset in file.values():
                    dataset.attrs["MATLAB_class"] = np.bytes_("uint8")
        if block:
            with open(tmp_path / name, "r+b") as raw:
                raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    y = f"{tmp_path}/y.mat:Y" if is_elsewhere else "Y"
    with pytest.raises(FileFormatError, match=BOTH) as caught:
        VideoLoader(tmp_path / "x.mat", y=y)
    assert ("MATLAB writes the axes in reverse." in str(caught.value)) == (mark is not None)
    # Written anew as the message says, in either way.
    if not is_elsewhere:
        with h5py.File(tmp_path / "x.mat") as old, h5py.File(tmp_path / "new.h5", "w") as new:
            new["Y"] = np.transpose(old["Y"])
            new.create_dataset("X", old["X"].shape[::-1], old["X"].dtype)
            for i in range(0, 8, 3):
                new["X"][i : i + 3] = np.transpose(old["X"][..., i : i + 3])
        ((x, labels),) = VideoLoader(tmp_path / "new.h5", shuffle=False)
        assert x.shape == (8, 3, 16, 16, 6)
        assert labels.tolist() == [[number] for number in range(8)]
