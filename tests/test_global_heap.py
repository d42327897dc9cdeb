"""Rows of variable length, read past HDF5: as h5py reads them, or an error."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pytest
from global_heap_helpers import Reader, content, described, h5py_rows, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data.errors import FileFormatError, H5VideoError, ReadError
from h5video_data.storage import variable_rows
from h5video_data.storage.global_heap import (
    describe_variable_rows,
    read_variable_rows,
)
from h5video_data.storage.scratch import scratch

VLEN = h5py.special_dtype(vlen=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


def write(path, sizes, **options):
    """Frame by frame, as 3D-ResNets' converter does."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("video", (len(sizes),), VLEN, **options)
        for row, size in enumerate(sizes):
            dataset[row] = content(row, size)


def check(path, name="video", orders=5):
    """Compares all rows, and some in any order, with h5py."""
    expected, variable = h5py_rows(path, name), described(path, name)
    assert variable.lengths.tolist() == [len(row) for row in expected]
    rng = np.random.default_rng(0)
    wanted = [np.arange(len(expected))]
    wanted += [rng.integers(0, len(expected), n) for n in range(1, orders) if expected]
    for rows in wanted:
        found = read_variable_rows(Reader(path), rows, variable)
        assert rows_of(found) == [expected[row] for row in rows.tolist()]
        # The same memory, with a second read as well.
        found = read_variable_rows(Reader(path), rows, variable, lambda n: scratch("rows", n))
        assert rows_of(found) == [expected[row] for row in rows.tolist()]
    return variable


@pytest.mark.parametrize("size", [1, 100, 2_000, 4_064, 5_000, 20_000, 70_000])
def test_rows_of_one_dataset_take_one_call(path, size):
    write(path, [size + row for row in range(30)])
    variable = check(path)
    assert variable.are_placed.all()
    for rows in (np.array([7]), np.array([20, 3, 3, 4]), np.arange(10, 26)):
        reader = Reader(path)
        read_variable_rows(reader, rows, variable)
        assert len(reader.calls) == 1
        # Not the objects before them; headers and padding, and gaps that are not worth a read.
        assert reader.nbytes <= len(set(rows.tolist())) * (size + 30 + 48 + (8 << 10))


def test_neighbours_are_one_range(path):
    write(path, [20_000] * 40)
    reader = Reader(path)
    read_variable_rows(reader, np.arange(5, 37), described(path))
    assert [len(call) for call in reader.calls] == [1]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["video", "other", "text", "attribute"]),
        st.integers(0, 11),
        st.one_of(st.integers(0, 60), st.integers(0, 6_000), st.integers(0, 70_000)),
    ),
    max_size=40,
)
OPTIONS = [
    {},
    {"chunks": (1,)},
    {"chunks": (5,), "maxshape": (None,)},
    {"chunks": (4,), "compression": "gzip", "shuffle": True},
    {"chunks": (12,), "compression": "lzf"},
]


@settings(max_examples=150, deadline=None)
@given(
    operations=OPERATIONS,
    options=st.sampled_from(OPTIONS),
    userblock=st.sampled_from([0, 512, 4096]),
    libver=st.sampled_from(["earliest", "latest"]),
    reopens=st.booleans(),
)
def test_what_h5py_wrote(tmp_path_factory, operations, options, userblock, libver, reopens):
    path = tmp_path_factory.mktemp("heap") / "a.h5"
    kinds = {"video": VLEN, "other": h5py.vlen_dtype(np.int8), "text": h5py.string_dtype()}
    with h5py.File(path, "w", userblock_size=userblock, libver=libver) as file:
        for name, dtype in kinds.items():
            file.create_dataset(name, (12,), dtype, **options)
    file = h5py.File(path, "a", libver=libver)
    for number, (name, row, size) in enumerate(operations):
        if reopens and number % 7 == 6:
            file.close()
            file = h5py.File(path, "a", libver=libver)
        if name == "attribute":
            file["video"].attrs[f"a{row}"] = "x" * min(size, 60_000)
        elif name == "text":
            file["text"][row] = "y" * size
        else:
            if row == 11 and "maxshape" in options:
                file[name].resize((len(file[name]) + 3,))
                row = len(file[name]) - 2
            file[name][row] = content(number, size).view(np.int8 if name == "other" else "u1")
    file.close()
    for name, dtype in (("video", np.uint8), ("other", np.int8)):
        with h5py.File(path) as file:
            found = describe_variable_rows(file[name])
        if isinstance(found, str):
            # The first chunk that was written holds empty rows, zeros, as may the bytes beside it.
            assert userblock
            assert "ambiguous" in found
        else:
            assert check(path, name).dtype == dtype
    with h5py.File(path) as file:
        assert "variable length" in describe_variable_rows(file["text"])


def test_rewritten_rows(path):
    write(path, [3_000] * 10)
    with h5py.File(path, "a") as file:
        for row in (5, 2, 5):
            file["video"][row] = content(row + 50, 1_000 + row)
    variable = check(path)
    assert not variable.are_placed.all()


def test_two_datasets_that_were_written_in_turns(path):
    with h5py.File(path, "w") as file:
        for name in ("video", "other"):
            file.create_dataset(name, (60,), VLEN)
        for row in range(60):
            for name in ("video", "other"):
                size = int(np.random.default_rng([row, len(name)]).integers(1, 25_000))
                file[name][row] = content(row, size)
    assert not check(path, "video", 20).are_placed.all()
    assert not check(path, "other", 20).are_placed.all()


def test_never_written_and_empty_rows(path):
    with h5py.File(path, "w") as file:
        for name, chunks in (("a", None), ("b", (2,)), ("c", None)):
            file.create_dataset(name, (9,), VLEN, chunks=chunks)
        file["b"][4], file["c"][0], file["c"][2] = content(1, 9), content(2, 0), content(3, 5)
    assert check(path, "a").lengths.tolist() == [0] * 9
    assert check(path, "b").lengths.tolist() == [0, 0, 0, 0, 9, 0, 0, 0, 0]
    assert check(path, "c").lengths.tolist() == [0, 0, 5, 0, 0, 0, 0, 0, 0]


def test_no_rows(path):
    write(path, [], maxshape=(None,), chunks=(3,))
    assert len(check(path)) == 0


def test_opaque(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("video", (3,), h5py.vlen_dtype(np.dtype("V1")))
        for row in range(3):
            dataset[row] = content(row, 10 * row + 1).view("V1")
    assert check(path).dtype == np.dtype("V1")


def test_memory(path):
    write(path, [10] * 100)
    assert described(path).nbytes == 29 * 100


OBSTACLES = {
    "two axes": (lambda file: file.create_dataset("X", (2, 3), VLEN), "it has 2 axes"),
    "scalar": (lambda file: file.create_dataset("X", (), VLEN), "it has 0 axes"),
    "uint16": (
        lambda file: file.create_dataset("X", (2,), h5py.vlen_dtype(np.uint16)),
        "its elements have 2 bytes",
    ),
    "bool": (
        lambda file: file.create_dataset("X", (2,), h5py.vlen_dtype(np.bool_)),
        "its elements are not bytes",
    ),
    "strings": (
        lambda file: file.create_dataset("X", (2,), h5py.string_dtype()),
        "its rows do not have a variable length",
    ),
    "numbers": (
        lambda file: file.create_dataset("X", (2,), "u1"),
        "its rows do not have a variable length",
    ),
}


@pytest.mark.parametrize(("create", "message"), OBSTACLES.values(), ids=OBSTACLES)
def test_obstacles(path, create, message):
    with h5py.File(path, "w") as file:
        found = describe_variable_rows(create(file))
    assert isinstance(found, str)
    assert message in found


def test_compact(path):
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((2,))
        h5py.h5d.create(file.id, b"X", h5py.h5t.py_create(VLEN, logical=True), space, plist)
        assert "compact" in describe_variable_rows(file["X"])


def test_a_virtual_dataset(path):
    write(path, [10] * 4)
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((4,), VLEN)
        layout[:] = h5py.VirtualSource(file["video"])
        file.create_virtual_dataset("X", layout)
    with h5py.File(path) as file:
        assert "virtual" in describe_variable_rows(file["X"])


def test_addresses_of_four_bytes(path):
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(4, 4)
    with h5py.File(h5py.h5f.create(bytes(path), fcpl=plist)) as file:
        file.create_dataset("X", (2,), VLEN)
        assert "another size than 8 bytes" in describe_variable_rows(file["X"])


def test_a_filter_that_is_not_decoded_here(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("X", (8,), VLEN, chunks=(8,), scaleoffset=None)
        assert not isinstance(describe_variable_rows(dataset), str)
        hdf5plugin = pytest.importorskip("hdf5plugin")
        dataset = file.create_dataset("Y", (8,), VLEN, chunks=(8,), **hdf5plugin.BZip2())
        dataset[0] = content(0, 9)
        assert "pass the filter" in describe_variable_rows(dataset)


DAMAGES = {
    "signature": (0, b"GCOX", "no heap collection of version 1"),
    "version": (4, b"\x02", "no heap collection of version 1"),
    "index": (16, b"\x09", "has no object 1"),
    "size": (24, b"\x01", r"has 2000\d bytes|instead of 20000|reaches|damaged"),
}


@pytest.mark.parametrize(("place", "data", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_heap(path, place, data, message):
    write(path, [20_000] * 8)
    variable = described(path)
    address = int(variable.addresses[4])
    assert int(variable.indices[4]) == 1
    with open(path, "r+b") as file:
        file.seek(address + place)
        file.write(data)
    where = rf"set.h5: dataset '/video', row 4: damaged: .*({message})"
    with pytest.raises(ReadError, match=where):
        read_variable_rows(Reader(path), np.array([0, 4]), variable)
    expected = [content(row, 20_000).tobytes() for row in (0, 1, 2, 7)]
    found = read_variable_rows(Reader(path), np.array([0, 1, 2, 7]), variable)
    assert rows_of(found) == expected


def damage_descriptor(path, row, **fields):
    """Changes fields of a descriptor of a contiguous dataset."""
    with h5py.File(path) as file:
        offset = file["video"].id.get_offset() + 16 * row
    with open(path, "r+b") as file:
        file.seek(offset)
        names = ("length", "address", "index")
        old = dict(zip(names, struct.unpack("<IQI", file.read(16)), strict=True))
        file.seek(offset)
        file.write(struct.pack("<IQI", *(old | fields).values()))


@pytest.mark.parametrize(
    "fields",
    [
        {"length": 19_999},
        {"length": 2**32 - 1},
        {"address": 2**64 - 1},
        {"address": 2**62},
        {"address": 100},
        {"index": 0},
        {"index": 3},
        {"index": 65_537},
        {"index": 2**32 - 1},
    ],
    ids=str,
)
def test_damaged_descriptor(path, fields):
    write(path, [20_000] * 8)
    damage_descriptor(path, 4, **fields)
    variable = described(path)
    with pytest.raises(ReadError, match="'/video', row 4: damaged: "):
        read_variable_rows(Reader(path), np.array([1, 4]), variable)
    others = np.array([0, 1, 2, 3, 5, 6, 7])
    found = read_variable_rows(Reader(path), others, variable)
    assert rows_of(found) == [content(row, 20_000).tobytes() for row in others.tolist()]


def test_a_null_row_is_empty_whatever_its_length(path):
    write(path, [100] * 4)
    damage_descriptor(path, 2, address=0)
    check(path)


def test_no_memory_for_a_length_that_is_not_true(path):
    write(path, [20_000] * 8)
    with open(path, "r+b") as file:
        file.truncate(6 << 30)  # a sparse file
    for row in (2, 7):  # followed by a collection, and by none
        damage_descriptor(path, row, length=2**32 - 1)
    variable = described(path)
    for row in (2, 7):
        reader = Reader(path)
        with pytest.raises(ReadError, match=f"row {row}: damaged"):
            read_variable_rows(reader, np.array([row]), variable)
        assert reader.nbytes < 1 << 16


def test_a_read_that_fails_names_its_row(path):
    write(path, [20_000] * 8)
    variable = described(path)
    with open(path, "r+b") as file:
        file.truncate(int(variable.addresses[6]) + 1_000)
    with pytest.raises(ReadError, match="'/video', row 6: the file ends too early"):
        read_variable_rows(Reader(path), np.array([0, 6]), variable)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_files(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("heap") / "a.h5"
    sizes = data.draw(st.lists(st.integers(0, 3_000), min_size=4, max_size=8))
    options = data.draw(st.sampled_from([{}, {"chunks": (3,), "compression": "gzip"}]))
    write(path, sizes, **options)
    expected = h5py_rows(path)
    content = bytearray(path.read_bytes())
    heaps = [i for i in range(len(content)) if content[i : i + 4] == b"GCOL"]
    base = data.draw(st.sampled_from([0, *heaps]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = min(base + data.draw(st.integers(0, 60)), len(content) - 1)
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    before = described(path) if data.draw(st.booleans()) else None
    path.write_bytes(content)
    try:
        with h5py.File(path) as file:
            variable = before or describe_variable_rows(file["video"])
    except (H5VideoError, OSError, KeyError, RuntimeError, ValueError):
        return
    if isinstance(variable, str):
        return
    for row in range(len(variable)):
        try:
            found = rows_of(read_variable_rows(Reader(path), np.array([row]), variable))
        except ReadError:
            continue
        # Bytes of a row may have been changed: nothing in the file tells.
        assert len(found[0]) == len(expected[row])


def test_a_damaged_chunk_of_descriptors_is_left_to_h5py(path):
    write(path, [100] * 8, chunks=(4,), compression="gzip")
    with h5py.File(path) as file:
        info = file["video"].id.get_chunk_info(1)
    with open(path, "r+b") as file:
        file.seek(info.byte_offset)
        file.write(b"\xff" * 8)
    with h5py.File(path) as file:
        assert "descriptors cannot be read: deflate" in describe_variable_rows(file["video"])


def test_a_chunk_index_that_cannot_be_true(path):
    write(path, [100] * 8, chunks=(4,))
    with h5py.File(path) as file:
        info = file["video"].id.get_chunk_info(1)
    old = struct.pack("<IIQQQ", info.size, 0, 4, 0, info.byte_offset)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, struct.pack("<IIQQQ", info.size, 0, 8, 0, info.byte_offset)))
    with h5py.File(path) as file, pytest.raises(FileFormatError, match="damaged chunk index"):
        describe_variable_rows(file["video"])


def test_descriptors_that_the_file_no_longer_has_are_left_to_h5py(path):
    write(path, [100] * 8, chunks=(4,))
    with h5py.File(path) as file:
        info = file["video"].id.get_chunk_info(1)
    old = struct.pack("<IIQQQ", info.size, 0, 4, 0, info.byte_offset)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, struct.pack("<IIQQQ", info.size, 0, 4, 0, 1 << 40)))
    with h5py.File(path) as file:
        found = describe_variable_rows(file["video"])
    assert found == "its row descriptors cannot be read: 64 bytes of those of row 4 are missing"


def test_a_heap_that_is_elsewhere_than_behind_the_userblock_is_left_to_h5py(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("video", (4,), VLEN)[0] = content(0, 100)
    address = int(described(path).addresses[0])
    with open(path, "r+b") as file:
        file.seek(address)
        file.write(b"GCOX")
    with h5py.File(path) as file:
        found = describe_variable_rows(file["video"])
    assert found == "its heap is not where its userblock says"


def test_very_many_rows_are_left_to_h5py(path, monkeypatch):
    write(path, [10] * 4)
    monkeypatch.setattr(variable_rows, "_MAX_ROWS", 3)
    with h5py.File(path) as file:
        assert describe_variable_rows(file["video"]) == "it has more than 3 rows"
