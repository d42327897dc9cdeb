from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data.errors import RepackingError
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking.copy_others import OtherItems


def write(path, number=0):
    with h5py.File(path, "w") as file:
        for t in range(4):
            file[f"images/image{t}"] = np.full((4, 5, 3), number + t, np.uint8)
        file["pose/left"] = np.arange(4.0) + number
        file["pose"].attrs["unit"] = "m"
        file["pose/again"] = file["pose/left"]
        file["alias"] = h5py.SoftLink("/pose/left")
        file["pose/near"] = h5py.SoftLink("left")
        file["first"] = h5py.SoftLink("/images/image0")
        file["other"] = h5py.ExternalLink("elsewhere.h5", "/values")
        file["length"] = h5py.SoftLink("/pose/left")
    return path


@pytest.fixture
def elsewhere(tmp_path):
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["values"] = [7, 8]


@pytest.mark.usefixtures("elsewhere")
def test_links_beside_frames(tmp_path):
    path = write(tmp_path / "a.h5")
    (tmp_path / "new").mkdir()
    out = tmp_path / "new/b.h5"
    report = repack(path, out, x="images/image*", layout="recordings")
    with h5py.File(out) as file:
        assert file["X"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
        assert file["pose/again"] == file["pose/left"]  # one object with two names
        assert file["pose"].attrs["unit"] == "m"
        for name, where in {"alias": "/pose/left", "pose/near": "left"}.items():
            assert file.get(name, getlink=True).path == where
            assert file[name][:].tolist() == [0, 1, 2, 3]
        assert file["other"][:].tolist() == [7, 8]
        assert file["length"][:].tolist() == [4]
        assert "first" not in file
    assert {item.name: item.reason for item in report.skipped} == {
        f"link 'first' of {path}": "leads to something that is not in the new file",
        f"link 'length' of {path}": "has a name that another dataset has in the new file",
    }


@pytest.mark.usefixtures("elsewhere")
def test_links_of_several_files(tmp_path):
    paths = [write(tmp_path / f"{number}.h5", 10 * number) for number in range(2)]
    repack(paths, tmp_path / "b.h5", x="images/image*", layout="recordings")
    with h5py.File(tmp_path / "b.h5") as file:
        for number in range(2):
            for name in ("alias", "pose/near", "pose/again", "length"):
                assert file[f"{number}.h5/{name}"][0] == 10 * number
            assert file[f"{number}.h5/other"][:].tolist() == [7, 8]


def test_what_has_a_name_that_is_taken_and_types(tmp_path):
    path, out = write(tmp_path / "a.h5"), tmp_path / "b.h5"
    with h5py.File(path, "a") as file:
        file["source"] = h5py.ExternalLink("elsewhere.h5", "/values")
        file["kinds/small"] = np.dtype("i2")
        file["kinds/small"].attrs["unit"] = "m"
    report = repack(path, out, x="images/image*", layout="recordings")
    taken = "has a name that another dataset has in the new file"
    assert f"link to '/values' of {path}" in {i.name for i in report.skipped if i.reason == taken}
    with h5py.File(out) as file:
        assert file["source"].asstr()[:].tolist() == ["a.h5:"]
        assert file["kinds/small"].dtype == np.int16
        assert file["kinds/small"].attrs["unit"] == "m"


def test_what_reads_otherwise_is_no_copy(tmp_path, monkeypatch):
    path, out = write(tmp_path / "a.h5"), tmp_path / "b.h5"
    original = OtherItems.check

    def check(self, complete):
        with h5py.File(complete, "a") as file:
            file["pose/left"][2] = 9
        original(self, complete)

    monkeypatch.setattr(OtherItems, "check", check)
    with pytest.raises(RepackingError, match=r"a.h5: 'pose/\w+': HDF5 reads something else in the"):
        repack(path, out, x="images/image*", layout="recordings")
    assert not out.exists()
