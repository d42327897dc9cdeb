"""`repack` of damaged files and of oversized shapes: copies the rest, or raises a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from h5py import h5d, h5g, h5p, h5s, h5t
from layout_helpers import change_numbers

from h5video_data.errors import FileFormatError, ReadError
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import transfer


def write(path, **options):
    """Writes X and other objects; returns the addresses of their headers."""
    with h5py.File(path, "w", **options) as file:
        file["X"] = np.arange(12, dtype="u1").reshape(4, 3)
        file["Y"] = np.arange(4)
        file["g/inside"] = 3
        file["type"] = np.dtype("i4")
        packed = {"chunks": (1, 1000), "compression": "gzip"}
        file.create_dataset("packed", data=np.arange(4000).reshape(4, 1000), **packed)
        return {name: h5g.get_objinfo(file[name].id).objno[0] for name in file}


def spoil(path, place, data):
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(data)


def names_of(report):
    return [item.name for item in report.skipped]


def check_x(path):
    with h5py.File(path) as file:
        assert file["X"][()].ravel().tolist() == list(range(12))
        return sorted(file)


@pytest.mark.parametrize("name", ["X", "Y", "g", "type", "packed"])
def test_damaged_attributes(tmp_path, name):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file[name].attrs["note"] = np.int32(1)
    data = (tmp_path / "a.h5").read_bytes()
    spoil(tmp_path / "a.h5", data.index(b"note\0") - 8, b"\x09")  # an unknown version of message
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    assert names_of(report) == [f"some or all attributes of '/{name}'"]
    assert "cannot be listed: " in report.skipped[0].reason
    assert check_x(tmp_path / "b.h5") == ["X", "Y", "g", "packed", "type"]


@pytest.mark.parametrize("name", ["Y", "g", "type", "packed"])
def test_damaged_objects(tmp_path, name):
    headers = write(tmp_path / "a.h5")
    spoil(tmp_path / "a.h5", headers[name], b"\x4d")  # an unknown version of header
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    assert names_of(report) == [f"link '/{name}'"]
    assert "cannot be opened: " in report.skipped[0].reason
    assert check_x(tmp_path / "b.h5") == sorted({"X", "Y", "g", "packed", "type"} - {name})


def test_a_damaged_list_of_names(tmp_path):
    write(tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    trees = [i for i in range(len(data)) if data[i : i + 6] == b"TREE\0\0"]  # of groups
    spoil(tmp_path / "a.h5", trees[1], b"nope")
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    assert names_of(report) == ["something in '/g'"]
    assert check_x(tmp_path / "b.h5") == ["X", "Y", "g", "packed", "type"]


def test_damaged_chunks_are_copied_as_they_are(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        place = file["packed"].id.get_chunk_info(2).byte_offset
    spoil(tmp_path / "a.h5", place + 10, bytes(30))
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file:
        assert (
            file["packed"][[0, 1, 3]].tolist()
            == np.delete(np.arange(4000).reshape(4, 1000), 2, axis=0).tolist()
        )
        with pytest.raises(OSError, match=r"filter returned failure|inflate"):
            file["packed"][2]
    # Rows that have to be read are another thing.
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["sample_count"] = 3
    with pytest.raises(ReadError, match=r"a.h5: dataset '/packed', samples 0 to 2: "):
        repack(tmp_path / "a.h5", tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()


def test_a_chunk_beyond_the_end_of_the_file(tmp_path):  # in H5Ocopy, it ends the process
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        size = file["packed"].id.get_chunk_info(2).size
    data = (tmp_path / "a.h5").read_bytes()
    (key,) = [i for i in range(len(data) - 16) if data[i : i + 16] == key_of(size, 2)]
    spoil(tmp_path / "a.h5", key, (1 << 28).to_bytes(4, "little"))
    code = f"""
from h5video_data import repack
print(repack({os.fspath(tmp_path / "a.h5")!r}, {os.fspath(tmp_path / "b.h5")!r}).skipped[0].name)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert (ran.stdout, ran.returncode) == ("dataset '/packed'\n", 0), ran.stderr
    assert check_x(tmp_path / "b.h5") == ["X", "Y", "g", "type"]


def key_of(size, row):
    """The beginning of a chunk's key (format specification, III.A.1): size, mask, first offset."""
    return size.to_bytes(4, "little") + bytes(4) + row.to_bytes(8, "little")


def test_a_filter_that_is_not_installed(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((1, 3))
        plist.set_filter(32002, h5py.h5z.FLAG_OPTIONAL)
        space = h5s.create_simple((4, 3))
        dataset = h5d.create(file.id, b"unknown", h5t.NATIVE_UINT8, space, plist)
        for row in range(4):
            dataset.write_direct_chunk((row, 0), bytes([row, 1, 2, 3]), 0)
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["unknown"].id.read_direct_chunk((2, 0)) == (0, bytes([2, 1, 2, 3]))


def test_more_values_than_are_stored(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["d"] = np.full((4, 3), 7, "u1")
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for name, length in (("few", 6), ("many", 20 << 30)):
            layout = h5py.VirtualLayout((length, 3), "u1")
            layout[:4] = h5py.VirtualSource("d.h5", "d", (4, 3))
            file.create_virtual_dataset(name, layout, fillvalue=9)
        file.create_dataset("unwritten", (10**15,), "u1")
        file.create_dataset("sparse", (10**14,), "f8", chunks=(100,), fillvalue=2)[5:10] = 3
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    assert names_of(report) == ["dataset '/many'"]
    assert report.skipped[0].reason.startswith("has 60.0 GiB of values, most of which are not st")
    assert (tmp_path / "b.h5").stat().st_size < 1 << 20
    with h5py.File(tmp_path / "b.h5") as file:
        assert not file["few"].is_virtual
        assert file["few"][:].tolist() == [[7] * 3] * 4 + [[9] * 3] * 2
        assert (file["unwritten"].shape, file["sparse"].shape) == ((10**15,), (10**14,))
        assert file["sparse"][3:12].tolist() == [2, 2, 3, 3, 3, 3, 3, 2, 2]


def test_names_that_are_not_utf8(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        h5d.create(file.id, b"temp_\xb0C", h5t.NATIVE_UINT8, h5s.create_simple((2, 3)))
        group = h5py.Group(h5g.create(file.id, b"gr\xb0"))
        group["é"] = 1
        h5py.h5a.create(file.id, b"\xb0", h5t.NATIVE_UINT8, h5s.create(h5s.SCALAR))
        file.id.links.create_soft(b"soft\xb0", b"/temp_\xb0C")
        file.id.links.create_external(b"out\xb0", b"none\xb0.h5", b"/\xb0")
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file:
        links = file.id.links
        assert {b"temp_\xb0C", b"gr\xb0", b"soft\xb0", b"out\xb0"} < set(file.id)
        assert links.get_val(b"soft\xb0") == b"/temp_\xb0C"
        assert links.get_val(b"out\xb0") == (b"none\xb0.h5", b"/\xb0")
        assert list(h5py.Group(h5py.h5o.open(file.id, b"gr\xb0"))) == ["é"]
        assert h5py.h5a.exists(file.id, b"\xb0")


def test_groups_in_groups_and_orders(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", track_order=True) as file:
        file["X"] = np.arange(12, dtype="u1").reshape(4, 3)
        group = file.create_group("g", track_order=True)
        for name in "zbya" + "hcdefkl":  # more than fit into a header
            group[name] = group.attrs[name] = 1
        below = file
        for _ in range(300):
            below = below.create_group("d")
        below["top"] = file["/"]
    report = repack(tmp_path / "a.h5", tmp_path / "b.h5")
    assert names_of(report) == ["the order in which '/' was filled"]
    with h5py.File(tmp_path / "b.h5") as file:
        assert "".join(file["g"]) == "".join(file["g"].attrs) == "zbyahcdefkl"
        assert file["/".join(["d"] * 300) + "/top"] == file["/"]


FUZZ = """
import json, os, random, resource, sys
import h5py, numpy as np
from h5video_data import H5VideoError, repack

path, seeds = sys.argv[1], range(*map(int, sys.argv[2:]))
whole = open(path, "rb").read()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
found = []
for seed in seeds:
    rng = random.Random(seed)
    data = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 8])):
        # Behind the superblock and the list of names, which HDF5 does not survive.
        data[rng.randrange(len(data) // 8, len(data))] = rng.choice([0, 255, rng.randrange(256)])
    with open(path, "wb") as file:
        file.write(data)
    try:
        report = repack(path, path + ".new", overwrite=True)
    except H5VideoError:
        continue
    except Exception as error:
        found.append(f"{seed}: {type(error).__name__}: {error}")
        continue
    try:
        with h5py.File(path) as file:
            expected = file["X"][()]
    except Exception:
        continue
    with h5py.File(path + ".new") as file:
        if file["X"][()].tobytes() != expected[: report.num_samples].tobytes():
            found.append(f"{seed}: other values")
print(json.dumps(found))
"""


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}], ids=["old", "new"])
def test_any_bytes(tmp_path, options):
    write(tmp_path / "a.h5", **options)
    command = [sys.executable, "-c", FUZZ, os.fspath(tmp_path / "a.h5"), "0", "40"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []


def test_a_largest_shape_whose_index_does_not_fit(tmp_path):
    # HDF5 looks for chunks beyond the index, or makes one of so many in the new file: it dies.
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["X"] = np.arange(12, dtype="u1").reshape(4, 3)
        options = {"chunks": (2, 3), "maxshape": (1_000_003, 3)}
        file.create_dataset("Y", data=np.ones((4, 3), "f4"), **options)
        file.create_dataset("other", data=np.ones((7, 3), "f4"), **options)
        file.create_dataset("whole", data=np.ones((7, 3), "f4"), **options)
        file.create_dataset("unwritten", (7, 3), "f4", chunks=(2, 3), maxshape=(10**14, 3))
    change_numbers(tmp_path / "a.h5", [(1_000_003, 0), (1_000_003, 1)], 10**15)
    code = """
from h5video_data import errors, repack, VideoLoader
print(*(item.name for item in repack("a.h5", "b.h5").skipped))
try:
    VideoLoader("a.h5")
except errors.FileFormatError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    skipped, message = ran.stdout.splitlines()
    assert skipped == "dataset '/Y' dataset '/other'"
    assert "500000000000000 chunks, or their index, do not fit into its file" in message
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["whole"][:].tolist() == np.ones((7, 3)).tolist()
        assert (file["whole"].maxshape, file["unwritten"].maxshape) == ((1_000_003, 3), (10**14, 3))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_largest_shape_without_a_limit_whose_index_has_one(tmp_path, axis):
    # H5Ocopy dies of it; behind the first axis, each read does, for it looks beyond the index.
    longest = [4, 6]
    longest[axis] = 1_000_003
    values = np.arange(24, dtype="f4").reshape(4, 6)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["X"] = np.arange(12, dtype="u1").reshape(4, 3)
        file.create_dataset("other", data=values, chunks=(2, 3), maxshape=tuple(longest))
    change_numbers(tmp_path / "a.h5", [(1_000_003, 0)], 2**64 - 1)
    code = """
from h5video_data import errors, repack, VideoLoader
print(*repack("a.h5", "b.h5").skipped)
try:
    VideoLoader("a.h5", x="other", y=None)
except errors.FileFormatError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    skipped, *messages = ran.stdout.splitlines()
    reason = "its maximal shape has no limit, and its index has one"
    with h5py.File(tmp_path / "b.h5") as file:
        if axis == 0:
            assert (skipped, messages) == ("", [])
            assert file["other"][:].tolist() == values.tolist()
        else:
            assert f"name=\"dataset '/other'\", reason='is damaged: {reason}'" in skipped
            assert f"has a damaged chunk index: {reason}" in messages[0]
            assert "other" not in file


def test_chunks_of_a_wrong_size(tmp_path):  # H5Ocopy reads them into memory for a chunk
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.arange(12, dtype="u1").reshape(4, 3)
        file.create_dataset("other", data=np.ones((30, 6), "f4"), chunks=(1, 6))
    data = bytearray((tmp_path / "a.h5").read_bytes())
    place = data.index(key_of(24, 2))
    data[place : place + 4] = (250).to_bytes(4, "little")
    (tmp_path / "a.h5").write_bytes(data)
    with h5py.File(tmp_path / "a.h5") as file, h5py.File(tmp_path / "b.h5", "w") as new:
        assert not transfer.copy_by_hdf5(file["other"], new.id, b"other", None)
    (skipped,) = repack(tmp_path / "a.h5", tmp_path / "b.h5", overwrite=True).skipped
    assert skipped.name == "dataset '/other'"
    assert "is damaged: some of its chunks have a wrong size" in skipped.reason


def hide_first_chunk(path):
    """Moves the first chunk of the last dataset beyond its shape: HDF5 then gives zeros for it."""
    data = path.read_bytes()
    corner = data.rindex(b"TREE\1") + 24 + 8
    path.write_bytes(data[:corner] + b"\0\0\2" + data[corner + 3 :])


def test_a_damaged_index_of_rows_that_are_joined(tmp_path):
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path in paths:
        with h5py.File(path, "w") as file:
            file["X"] = np.arange(12, dtype="u1").reshape(4, 3)
            file.create_dataset("weight", data=np.arange(1, 5), chunks=(2,))
    repack(paths, tmp_path / "c.h5")
    hide_first_chunk(paths[1])
    with pytest.raises(FileFormatError, match=r"b.h5: dataset '/weight' has a damaged chunk index"):
        repack(paths, tmp_path / "d.h5")
    assert not (tmp_path / "d.h5").exists()


def test_a_damaged_index_of_a_frame(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(3):
            frame = np.full((4, 6), number + 1, "u1")
            file.create_dataset(f"image{number}", data=frame, chunks=(2, 6))
    repack(tmp_path / "a.h5", tmp_path / "b.h5", x="image*", layout="recordings")
    hide_first_chunk(tmp_path / "a.h5")
    with pytest.raises(FileFormatError, match=r"a.h5: dataset '/image2' has a damaged chunk index"):
        repack(tmp_path / "a.h5", tmp_path / "c.h5", x="image*", layout="recordings")
    assert not (tmp_path / "c.h5").exists()
