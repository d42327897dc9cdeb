"""What `repack` copies beside the samples, and what it leaves alone."""

from __future__ import annotations

import os

import h5py
import hdf5plugin
import numpy as np
import pytest
from repack_helpers import GZIP, MANY, assert_same, files_in, noise, stored

import h5video_data as h5v
from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.testing import SAMPLE_SHAPE, labels, sample_values, write_video_file
from h5video_data.tools.repack import SkippedItem, repack


@pytest.fixture(autouse=True)
def no_threads_left(new_threads):
    yield
    assert not new_threads()


def write_everything(path, num_samples=20):
    """A file with all that may stand beside the samples."""
    write_video_file(path, num_samples=num_samples, chunks=MANY, **GZIP)
    with h5py.File(path, "a", libver=("v108", "latest")) as file:
        text, fixed = h5py.string_dtype(), h5py.string_dtype("utf-8", 7)
        file["X"].attrs["frame_rate"] = 25.0
        file["X"].attrs["_FillValue"] = np.uint8(3)
        file["Y"].attrs["kind"] = "one-hot"
        file.attrs["class_names"] = np.array(["a", "b", "c", "dé"], dtype=text)
        file.attrs["fixed"] = np.array([b"a", b"bc"])
        file.attrs["utf8"] = np.array("é".encode(), fixed)
        file.attrs["empty"] = h5py.Empty("f4")
        file.attrs["bool"] = True
        file.attrs["big"] = np.arange(5, dtype=">i4")
        file.attrs["pair"] = np.array((1, 2.5), np.dtype([("a", "i2"), ("b", "f8")]))
        file.attrs.create("triples", np.arange(6).reshape(2, 3), (2, 3), np.dtype((np.int64, (3,))))
        lists = np.empty(2, object)
        lists[:] = [np.arange(2, dtype="i2"), np.arange(3, dtype="i2")]
        file.attrs.create("ragged", lists, dtype=h5py.vlen_dtype(np.int16))
        file.attrs["color"] = 1
        names = file.create_dataset("meta/names", (num_samples,), text, chunks=(15,))
        names[:] = [f"clip {i} ü" for i in range(num_samples)]
        names.attrs["note"] = "of the videos"
        file["meta"].attrs["a group's"] = [1, 2]
        file["meta/deep/er/fixed"] = np.array([b"abc", b"de"])
        file["meta/scalar"] = 3.5
        file["meta/text"] = "hello"
        file.create_dataset("meta/nothing", data=h5py.Empty("i8"))
        file.create_dataset("meta/no_rows", (0, 3), "f4", maxshape=(None, 3))
        file.create_dataset("meta/packed", data=np.arange(100), chunks=(7,), **GZIP)
        file.create_dataset("meta/zstd", data=np.arange(99), chunks=(7,), **hdf5plugin.Zstd())
        file.create_dataset("meta/big", data=np.arange(4, dtype=">f8"))
        kinds = h5py.enum_dtype({"RED": 0, "BLUE": 1}, "u1")
        file.create_dataset("meta/enum", data=[0, 1, 0], dtype=kinds)
        file.create_dataset("meta/pairs", data=np.zeros(3, [("a", "i2"), ("b", "S4")]))
        ragged = file.create_dataset("meta/ragged", (num_samples,), h5py.vlen_dtype(np.int32))
        for i in range(0, num_samples, 2):
            ragged[i] = np.arange(i % 3 + 1)
        file.create_dataset("meta/unwritten", (num_samples,), text)[3] = "three"
        boxes = np.arange(num_samples * 4).reshape(num_samples, 4)
        file.create_dataset("meta/boxes", (num_samples,), np.dtype((np.int64, (4,))))[:] = boxes
        file["meta/type"] = np.dtype("i4")
        file.create_group("hollow").attrs["large"] = np.arange(30_000, dtype="i4")
        file["same"] = file["Y"]
        file["meta/up"] = file["meta"]
        file["soft"] = h5py.SoftLink("/X")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("other.h5", "/X")
        file["gone"] = h5py.ExternalLink("gone.h5", "/X")
    return path


def raw(item):
    """Shape and values of a dataset or an attribute, as they are stored."""
    if item.shape is None:
        return None, None
    if isinstance(item, h5py.Dataset):
        values = np.asarray(item[()])
    else:
        values = np.empty(item.shape, item.dtype)
        item.read(values, mtype=h5py.h5t.py_create(item.dtype))
    if values.dtype == object:
        return item.shape, [np.asarray(value).tolist() for value in values.ravel()]
    return item.shape, values.tobytes()


def contents(path):
    """What a file holds, by name: types, values, layouts, attributes, links; but not `X`."""
    found = {}

    def attributes(item):
        ids = {name: item.attrs.get_id(name) for name in item.attrs}
        return {name: (raw(found), found.get_type().encode()) for name, found in ids.items()}

    def visit(group):
        found[group.name] = attributes(group)
        for name in group:
            link = group.get(name, getlink=True)
            path = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)):
                found[path] = type(link), link.path, getattr(link, "filename", None)
                continue
            item = group[name]
            if path == "/meta/up":
                assert item == group.file["meta"]
            elif isinstance(item, h5py.Group):
                visit(item)
            elif isinstance(item, h5py.Datatype):
                found[path] = item.id.encode()
            else:
                layout = (item.chunks, item.compression) if path != "/X" else None
                found[path] = raw(item), item.id.get_type().encode(), layout, attributes(item)

    with h5py.File(path) as file:
        visit(file)
        assert not file.get("same") or file["same"] == file["Y"]
    return found


def test_everything_else_is_copied_as_it_is(tmp_path):
    path = write_everything(tmp_path / "a.h5")
    write_video_file(tmp_path / "other.h5", num_samples=3)
    report = repack(path, tmp_path / "b.h5")
    assert report.skipped == ()
    expected = contents(path)
    found = contents(tmp_path / "b.h5")
    assert list(found) == list(expected)
    for name in expected:
        assert found[name] == expected[name], name
    assert len(expected) > 25
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["soft"] == file["X"]
        assert file["outside"].shape == (3, *SAMPLE_SHAPE)
    assert h5v.inspect(tmp_path / "b.h5").class_names == ("a", "b", "c", "dé")


def test_unused_samples_are_left_out_with_their_rows(tmp_path):
    path = write_everything(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["sample_count"] = np.uint8(13)
    write_video_file(tmp_path / "other.h5", num_samples=3)
    report = repack(path, tmp_path / "b.h5")
    assert (report.num_samples, report.skipped) == (13, ())
    assert_same(stored(tmp_path / "b.h5")[-1], sample_values(np.arange(13)))
    with h5py.File(path) as old, h5py.File(tmp_path / "b.h5") as new:
        assert new.attrs["sample_count"] == 13
        for name in ("Y", "meta/names", "meta/ragged", "meta/unwritten", "meta/boxes"):
            assert len(new[name]) == 13
            assert new[name].id.get_type() == old[name].id.get_type()
            assert dict(new[name].attrs) == dict(old[name].attrs)
            for i in range(13):
                np.testing.assert_array_equal(new[name][i], old[name][i])
        assert new["meta/names"].chunks == (15,)  # longer than the dataset
        assert new["same"] == new["Y"]
        assert new["meta/packed"].shape == (100,)


def test_what_leads_elsewhere_is_told(tmp_path):
    write_video_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["time"] = np.arange(20)
        file["time"].make_scale("time")
        file["X"].dims[0].attach_scale(file["time"])
        file.create_dataset("refs", (1,), h5py.ref_dtype)[0] = file["X"].ref
        file.create_dataset("nested/regions", (1,), h5py.regionref_dtype)
        file.attrs["ref"] = file["Y"].ref
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    reason = "holds references, which lead into their own file"
    assert set(report.skipped) == {
        SkippedItem("attribute 'ref' of '/'", reason),
        SkippedItem("attribute 'DIMENSION_LIST' of '/X'", reason),
        SkippedItem("attribute 'REFERENCE_LIST' of '/time'", reason),
        SkippedItem("dataset '/refs'", reason),
        SkippedItem("dataset '/nested/regions'", reason),
    }
    with h5py.File(tmp_path / "b.h5") as file:
        assert list(file) == ["X", "Y", "nested", "time"]
        assert list(file["time"].attrs) == ["CLASS", "NAME"]


def test_links_to_other_files(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    write_video_file(tmp_path / "in/x.h5", chunks=MANY)
    write_video_file(tmp_path / "in/y.h5", num_samples=3, first=40)
    with h5py.File(tmp_path / "in/a.h5", "w") as file:
        file["X"] = h5py.ExternalLink("x.h5", "/X")
        file["Y"] = h5py.ExternalLink("x.h5", "/Y")
        file["few"] = h5py.ExternalLink("y.h5", "/X")
        file["whole"] = h5py.ExternalLink(os.fspath(tmp_path / "in/y.h5"), "/")
        file["gone"] = h5py.ExternalLink("gone.h5", "/X")
    repack(tmp_path / "in/a.h5", tmp_path / "out/b.h5")
    assert_same(stored(tmp_path / "out/b.h5")[-1], sample_values(np.arange(20)))
    with h5py.File(tmp_path / "out/b.h5") as file:
        links = {name: file.get(name, getlink=True) for name in file}
        assert isinstance(links.pop("X"), h5py.HardLink)
        assert {name: (link.filename, link.path) for name, link in links.items()} == {
            "Y": ("../in/x.h5", "/Y"),
            "few": ("../in/y.h5", "/X"),
            "whole": (os.fspath(tmp_path / "in/y.h5"), "/"),
            "gone": ("gone.h5", "/X"),
        }
        assert_same(file["few"][()], sample_values(np.arange(40, 43)))

    with pytest.raises(ArgumentError, match=r"'whole/X' .* of .*y.h5: repack that file\. Received"):
        repack(tmp_path / "in/a.h5", tmp_path / "out/c.h5", x="whole/X")

    # With fewer samples, the labels cannot stay a link.
    with h5py.File(tmp_path / "in/a.h5", "a") as file:
        file.attrs["sample_count"] = 7
    repack(tmp_path / "in/a.h5", tmp_path / "out/b.h5", overwrite=True)
    with h5py.File(tmp_path / "out/b.h5") as file:
        assert isinstance(file.get("Y", getlink=True), h5py.HardLink)
        assert_same(file["Y"][()], labels(np.arange(7), 4))
        assert len(file["X"]) == 7

    assert files_in(tmp_path / "out") == ["b.h5"]


def test_names_of_x(tmp_path):
    write_video_file(tmp_path / "a.h5", chunks=MANY, **GZIP)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        flow = noise((20, 4, 2, 8, 8), "i2")
        file.create_dataset("more/flow", data=flow, chunks=True, **GZIP)
        file["soft"] = h5py.SoftLink("/more")
        file["again"] = file["X"]
    for x in (["X", "more/flow"], ("/X", "soft/flow", "X"), ["again", "more/flow"]):
        report = repack(tmp_path / "a.h5", tmp_path / "b.h5", x=x, overwrite=True)
        assert report.names == tuple(x)
        for name, expected in {"X": sample_values(np.arange(20)), "more/flow": flow}.items():
            storage, _, _, found = stored(tmp_path / "b.h5", name)
            assert storage == "contiguous"
            assert_same(found, expected)
        with h5py.File(tmp_path / "b.h5") as file:
            assert file["again"] == file["X"]
            assert file["soft/flow"] == file["more/flow"]
    repack(tmp_path / "a.h5", tmp_path / "b.h5", x="more/flow", overwrite=True)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["X"].chunks == MANY  # as it was
        assert_same(file["X"][()], sample_values(np.arange(20)))


@pytest.mark.parametrize("num_files", [1, 2])
def test_other_groups_keep_all_of_their_samples(tmp_path, num_files):
    for number in range(num_files):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["train/X"] = np.arange(5)[:, np.newaxis]
            file["test/X"] = np.arange(30)[:, np.newaxis]
    repack(tmp_path / "?.h5", tmp_path / "new.h5", x="train/X")
    for name, count in (("train/X", 5 * num_files), ("test/X", 30)):
        with h5v.VideoLoader(tmp_path / "new.h5", x=name, y=None, shuffle=False) as loader:
            assert loader.num_samples == count
    with h5py.File(tmp_path / "new.h5") as file:
        assert "sample_count" not in file.attrs


def test_a_count_of_other_groups_does_not_cut_what_was_joined(tmp_path):
    for number in range(3):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["train/X"] = np.arange(5)[:, np.newaxis]
            file["test/X"] = np.arange(30)[:, np.newaxis]
            file.attrs["sample_count"] = 12
    repack(tmp_path / "?.h5", tmp_path / "new.h5", x="train/X")
    for name, count in (("train/X", 15), ("test/X", 12)):
        with h5v.VideoLoader(tmp_path / "new.h5", x=name, y=None, shuffle=False) as loader:
            assert loader.num_samples == count


def test_a_link_of_a_kind_of_its_own(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((3, 2, 4, 4), np.uint8)
        created = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
        created.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
        h5py.h5g.create(file.id, b"group", gcpl=created)
        file["group/odd"] = h5py.SoftLink("/nowhere")
    content = (tmp_path / "a.h5").read_bytes()
    # A message of a link: version 1, flags, the kind, its creation order, the name.
    soft = b"\x01\x0c\x01" + bytes(8) + b"\x03odd"
    assert content.count(soft) == 1
    (tmp_path / "a.h5").write_bytes(content.replace(soft, soft[:2] + b"\xbb" + soft[3:]))
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    reason = "is of a kind that only its writer knows"
    assert report.skipped == (SkippedItem("link '/group/odd'", reason),)
    with h5py.File(tmp_path / "b.h5") as file:
        assert list(file["group"]) == []


def test_a_virtual_dataset_over_a_source_that_is_too_small(tmp_path):
    write_video_file(tmp_path / "a.h5", num_samples=3)
    layout = h5py.VirtualLayout((5,), "i4")
    layout[:] = h5py.VirtualSource("b.h5", "values", (5,))
    with h5py.File(tmp_path / "a.h5", "a") as file, h5py.File(tmp_path / "b.h5", "w") as source:
        file.create_virtual_dataset("extra", layout)
        source["values"] = [1, 2]
    with pytest.raises(FileFormatError, match=r"'/extra' maps to .*small.*shape \(2,\)"):
        repack(tmp_path / "a.h5", tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
