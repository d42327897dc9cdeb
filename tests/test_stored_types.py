"""`repack` keeps each value with the type that it is stored with, whatever program wrote it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5f, h5p, h5s, h5t
from stored_types_helpers import NUM_SAMPLES, write_typed

from h5video_data.tools.repack import repack


def null_terminated(size):
    """The type of C, MATLAB, netCDF and PyTables: NumPy's strings are padded with nulls instead."""
    kind = h5t.C_S1.copy()
    kind.set_size(size)
    return kind


def opaque():
    kind = h5t.create(h5t.OPAQUE, 5)
    kind.set_tag(b"a tag")
    return kind


def compound():
    kind = h5t.create(h5t.COMPOUND, 16)
    kind.insert(b"name", 0, null_terminated(5))
    kind.insert(b"number", 6, h5t.STD_I32BE)  # with room between
    return kind


def odd_float():
    kind = h5t.IEEE_F64LE.copy()
    kind.set_fields(51, 40, 11, 0, 40)
    return kind


# The type, and the bytes of one value as they are stored.
TYPES = {
    "null-terminated": (null_terminated(5), b"abcde"),
    "behind the null": (null_terminated(5), b"ab\0de"),
    "space-padded": (h5t.FORTRAN_S1.copy(), b"x"),
    "opaque": (opaque(), b"\0\1\2\3\4"),
    "compound": (compound(), b"GROUP\0" + struct.pack(">i", 7) + bytes(6)),
    "array": (h5t.array_create(null_terminated(3), (2,)), b"abcdef"),
    "bit field": (h5t.STD_B16BE, b"\1\2"),
    "odd float": (odd_float(), struct.pack("<d", 1.0)),
}


def as_stored(item):
    """The bytes of an attribute or a dataset, without any conversion."""
    kind = item.get_type()
    values = np.zeros(item.shape, np.dtype((np.void, kind.get_size())))
    if isinstance(item, h5a.AttrID):
        item.read(values, mtype=kind)
    else:
        item.read(h5s.ALL, h5s.ALL, values, kind)
    return kind, values.tobytes()


@pytest.mark.parametrize("case", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("num_files", [1, 2])
@pytest.mark.parametrize("count", [NUM_SAMPLES, 3])
def test_types(tmp_path, case, num_files, count):
    kind, value = case
    paths = [write_typed(tmp_path / f"{n}.h5", kind, value) for n in range(num_files)]
    for path in paths:
        with h5py.File(path, "a") as file:
            file.attrs["sample_count"] = count
    report = repack(paths, tmp_path / "out.h5")
    assert report.skipped == ()
    with h5py.File(tmp_path / "out.h5") as file:
        for name in ("plain", "packed"):
            found, values = as_stored(file[name].id)
            assert found.equal(kind)
            assert values == value * count * num_files
            found, values = as_stored(h5a.open(file[name].id, b"note"))
            assert found.equal(kind)
            assert values == value
        for place in (file, file["X"]):
            assert as_stored(h5a.open(place.id, b"note"))[1] == value * NUM_SAMPLES


def write_lists(path):
    """Variable length of all kinds, some of it of null-terminated strings."""
    letters = h5t.vlen_create(null_terminated(1))  # MATLAB's MATLAB_fields
    mixed = h5t.create(h5t.COMPOUND, 21)
    mixed.insert(b"name", 0, null_terminated(5))
    mixed.insert(b"text", 5, h5t.py_create(h5py.string_dtype(), logical=True))
    mixed.insert(b"number", 13, h5t.STD_I64BE)
    with h5py.File(path, "w") as file:
        file["X"] = np.arange(NUM_SAMPLES, dtype="u1")
        file["names"] = ["a", "", "ccc", "é"]
        lists = file.create_dataset("lists", (NUM_SAMPLES,), h5py.vlen_dtype(">i2"))
        lists[1] = np.array([1, 2, 3], ">i2")
        file.create_dataset("native", (NUM_SAMPLES,), h5py.vlen_dtype("f4"))[2] = [0.5, 2]
        # As NumPy has it, but for room for the null: h5py cannot write the full length.
        dataset = h5py.Dataset(h5d.create(file.id, b"mixed", mixed, h5s.create_simple((4,))))
        values = np.zeros(4, dataset.dtype)
        values["name"], values["text"], values["number"] = b"abcd", ["p", "qq", "", "s"], 7
        dataset[...] = values
        text = np.frombuffer(b"xab", "S1").copy()
        pointer = np.array([2, text.ctypes.data + 1], np.uintp).view("V16")
        attribute = h5a.create(file.id, b"fields", letters, h5s.create_simple((1,)))
        attribute.write(pointer, mtype=letters)
        dataset = h5d.create(file.id, b"fields", letters, h5s.create_simple((4,)))
        dataset.write(h5s.ALL, h5s.ALL, np.repeat(pointer, 4), letters)
        file.attrs["texts"] = ["b", "cd"]
    return path


@pytest.mark.parametrize("count", [NUM_SAMPLES, 3])
def test_variable_length(tmp_path, count):
    with h5py.File(write_lists(tmp_path / "a.h5"), "a") as file:
        file.attrs["sample_count"] = count
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file, h5py.File(tmp_path / "a.h5") as old:
        assert [b"".join(item) for item in file["fields"][:]] == [b"ab"] * count
        assert b"".join(file.attrs["fields"][0]) == b"ab"
        assert list(file.attrs["texts"]) == ["b", "cd"]
        assert file["names"].asstr()[:].tolist() == ["a", "", "ccc", "é"][:count]
        expected = [item.tolist() for item in old["lists"][:count]]
        assert [item.tolist() for item in file["lists"][:]] == expected
        assert [len(item) for item in expected] == [0, 3, 0, 0][:count]
        assert file["native"][2].tolist() == [0.5, 2]
        assert file["mixed"][:].tolist() == old["mixed"][:count].tolist()
        for name in ("fields", "names", "lists", "mixed"):
            assert file[name].id.get_type().equal(old[name].id.get_type())


@pytest.mark.parametrize("chunks", [None, (2,)], ids=str)
@pytest.mark.parametrize("count", [NUM_SAMPLES, 3])
def test_strings_with_a_fill_value(tmp_path, chunks, count):  # as netCDF-4 has them
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((NUM_SAMPLES, 2), "u1")
        options = {"dtype": h5py.string_dtype(), "fillvalue": "-", "chunks": chunks}
        file.create_dataset("names", (NUM_SAMPLES,), **options)[:3] = ["a", "b", "c"]
        file.attrs["sample_count"] = count
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5", "a") as file:
        assert file["names"].asstr()[:].tolist() == ["a", "b", "c", "-"][:count]
        assert file["names"].fillvalue == b"-"
        assert file["names"].chunks == chunks


def write_small(path):
    """A file whose addresses have 4 bytes."""
    properties = h5p.create(h5p.FILE_CREATE)
    properties.set_sizes(4, 4)
    created = h5f.create(os.fsencode(path), h5f.ACC_TRUNC, properties)
    with h5py.File(created) as file:
        file["X"] = np.arange(12, dtype="u1").reshape(NUM_SAMPLES, 3)
        file["Y"] = np.eye(4)
        file["g/names"] = ["a", "b", "ccc", ""]
        packed = {"chunks": (7,), "compression": "gzip", "fillvalue": 3}
        file.create_dataset("g/packed", data=np.arange(99), **packed)
        file["scalar"], file["nothing"], file["type"] = 3, h5py.Empty("f4"), np.dtype("i4")
        file.attrs["names"] = ["x", "yz"]
        file["g"].attrs["empty"] = h5py.Empty("f4")
        file["same"] = file["Y"]
    return path


def test_addresses_of_four_bytes(tmp_path):
    write_small(tmp_path / "a.h5")
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    # In another process: HDF5 may die of a wrong copy when it closes it.
    code = f"""
import h5py, numpy as np
with h5py.File({os.fspath(tmp_path / "b.h5")!r}) as file:
    assert file["X"][()].ravel().tolist() == list(range(12))
    assert (file["Y"][()] == np.eye(4)).all() and file["same"] == file["Y"]
    assert file["g/names"].asstr()[:].tolist() == ["a", "b", "ccc", ""]
    packed = file["g/packed"]
    assert packed[:].tolist() == list(range(99)) and packed.compression == "gzip"
    assert (packed.chunks, packed.fillvalue) == ((7,), 3)
    assert file["scalar"][()] == 3 and file["nothing"].shape is None
    assert file["type"].dtype == "i4" and list(file.attrs["names"]) == ["x", "yz"]
    assert file["g"].attrs["empty"] == h5py.Empty("f4")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_lacks_its_filter_and_has_to_be_read_is_skipped(tmp_path):
    write_small(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_chunk((4,))
        properties.set_filter(32766, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((4,))
        dataset = h5py.h5d.create(file.id, b"odd", h5py.h5t.STD_U8LE, space, properties)
        dataset.write_direct_chunk((0,), b"abcd", 0)
    (skipped,) = repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped
    assert "odd" in str(skipped)
    assert "32766" in str(skipped)
