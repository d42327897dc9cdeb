"""Datasets of strings, and pictures in rows of bytes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data import VideoLoader, inspect
from h5video_data.errors import FileFormatError, ReadError, UnsupportedDtypeError

JPEG, PNG = b"\xff\xd8\xff\xe0 pixels", b"\x89PNG\r\n\x1a\n pixels"
NUM = 6


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((NUM, 5, 4))
        file["Y"] = np.arange(NUM)
    return tmp_path / "a.h5"


def put(path, name, picture, kind):
    with h5py.File(path, "a") as file:
        if kind == "variable length":
            rows = file.create_dataset(name, (NUM,), h5py.vlen_dtype(np.uint8))
            for i in range(NUM):
                rows[i] = np.frombuffer(picture + b"." * i, np.uint8)
        elif kind == "opaque":
            file[name] = np.array([np.void(picture.ljust(40))] * NUM)
        elif kind == "strings":
            file[name] = np.array([picture.ljust(40)] * NUM)
        else:
            file.create_dataset(name, (NUM,), h5py.string_dtype())[:] = [picture] * NUM


@pytest.mark.parametrize(("picture", "name"), [(JPEG, "JPEG"), (PNG, "PNG")], ids=["JPEG", "PNG"])
@pytest.mark.parametrize("kind", ["variable length", "opaque", "strings", "variable strings"])
def test_pictures(path, picture, name, kind):
    put(path, "pictures", picture, kind)
    hint = rf"pictures \({name}\)\. These are decoded in datasets of the shape \(rows,\)"
    given = {} if kind == "variable strings" else {"decode": None}
    with pytest.raises(UnsupportedDtypeError, match=rf"a.h5: dataset '/pictures' .* {hint}"):
        VideoLoader(path, x="pictures", y="Y", **given)
    # Strings are taken for labels, but these are none.
    with pytest.raises(FileFormatError, match=rf"a.h5: dataset '/pictures' .* {hint}"):
        VideoLoader(path, y="pictures", **given)
    if not given:
        return
    message = rf"a.h5: dataset '/pictures': no row .* is a whole picture.* {name}: cut short"
    for options in ({"x": "pictures"}, {"y": "pictures"}):
        with pytest.raises(FileFormatError, match=message):
            VideoLoader(path, **options)
    assert "pictures" in [item.name for item in inspect(path).datasets]


def test_rows_of_several_lengths_that_are_no_pictures(path):
    put(path, "rows", b"RIFF", "variable length")
    message = r"have a length each; those of a tensor have a fixed shape"
    with pytest.raises(UnsupportedDtypeError, match=message):
        VideoLoader(path, x="rows", y="Y")


def test_strings_are_y_alone(path):
    with h5py.File(path, "a") as file:
        file["s"] = np.array([b"a", b"b"] * 3)
    message = "'/s' has the dtype string. .* Strings are read as y alone"
    for options in ({"x": {"a": "X", "b": "s"}}, {"sample_weight": "s"}, {"x": "s", "y": "s"}):
        with pytest.raises(UnsupportedDtypeError, match=message):
            VideoLoader(path, **{"y": "Y", **options})


def test_strings_in_one_file_and_numbers_in_another(path, tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["X"] = np.zeros((NUM, 5, 4))
        file["Y"] = np.array([b"a", b"b"] * 3)
    with pytest.raises(FileFormatError, match=r"'Y' must be alike in all files.* int64 .* strings"):
        VideoLoader([path, tmp_path / "b.h5"])


def test_strings_behind_links(path, tmp_path):
    with h5py.File(path, "a") as file:
        file["in/s"] = np.array([b"b", b"a"] * 3)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["X"] = h5py.ExternalLink("a.h5", "X")
        file["label"] = h5py.ExternalLink("a.h5", "in/s")
        layout = h5py.VirtualLayout((NUM,), "S1")
        layout[:] = h5py.VirtualSource("a.h5", "in/s", (NUM,))
        file.create_virtual_dataset("virtual", layout)
    for name in ("label", "virtual"):
        ((_, y),) = VideoLoader(tmp_path / "links.h5", y=name, shuffle=False)
        assert y.tolist() == [1, 0] * 3


def test_strings_that_are_damaged(path):
    with h5py.File(path, "a") as file:
        names = np.array([b"b", b"a"] * 3)
        file.create_dataset("s", data=names, chunks=(3,), compression="gzip", fletcher32=True)
        offset = file["s"].id.get_chunk_info(1).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 4)
    with pytest.raises(ReadError, match=r"a.h5: dataset '/s', samples 0 to 5"):
        VideoLoader(path, y="s")


def test_strings_that_are_not_utf8(path):
    with h5py.File(path, "a") as file:
        file["s"] = np.array([b"b\xff", "ä".encode()] * 3)
    loader = VideoLoader(path, y="s", seed=0)
    assert loader._set.class_names == ("b\udcff", "ä")
    loader.load_state_dict(loader.state_dict(epoch=0, step=0))


def test_strings_whose_index_is_damaged(path):
    # HDF5 finds no chunk at 0, and gives empty strings: another class.
    with h5py.File(path, "a") as file:
        file.create_dataset("s", data=np.array([b"b", b"a"] * 3), chunks=(4,))
    content = path.read_bytes()
    corner = content.rindex(b"TREE\1") + 24 + 8
    path.write_bytes(content[:corner] + b"\0\0\2" + content[corner + 3 :])
    for name in ("y", "split_by"):
        options = {"y": "s"} if name == "y" else {"split_by": "s", "y": None, "seed": 0}
        options |= {"validation_split": 0.5, "subset": "training"} if name == "split_by" else {}
        with pytest.raises(FileFormatError, match=r"a.h5: dataset '/s' has a damaged chunk index"):
            VideoLoader(path, **options)
