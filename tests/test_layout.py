from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import struct
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from h5video_data import VideoLoader, inspect
from h5video_data.errors import (
    FileFormatError,
    ReadError,
    UnsupportedDtypeError,
    VideoFileNotFoundError,
)
from h5video_data.storage import chunk_table
from h5video_data.storage.file_identity import FileIdentity
from h5video_data.storage.layout import Filter, describe

SHAPE = (5, 4, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


def described(path, name="X", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, **{"data": np.arange(60, dtype="<u2").reshape(SHAPE), **options})
    with h5py.File(path) as file:
        return describe(file[name])


def test_contiguous(path):
    stored = described(path, "a/X")
    assert stored.path == str(path)
    assert stored.name == "/a/X"
    assert stored.identity == FileIdentity.of(os.stat(path))
    assert (stored.shape, stored.dtype) == (SHAPE, np.uint16)
    assert (stored.storage, stored.chunk_shape, stored.filters) == ("contiguous", None, ())
    assert (stored.nbytes, stored.row_nbytes) == (120, 24)
    assert stored.obstacle is None
    assert (stored.sizes.tolist(), stored.masks.tolist()) == ([120], [0])
    assert path.read_bytes()[stored.offsets[0] :][:120] == np.arange(60, dtype="<u2").tobytes()


@pytest.mark.parametrize("userblock", [0, 512])
def test_the_chunk_table_leads_to_the_bytes(path, userblock):
    with h5py.File(path, "w", userblock_size=userblock) as file:
        dataset = file.create_dataset("X", SHAPE, "<u2", chunks=(1, 3, 3), compression="gzip")
        for row in (4, 0, 2):
            dataset[row] = np.random.default_rng(row).integers(0, 9, SHAPE[1:])
        raw = {i: dataset.id.read_direct_chunk((i // 2, i % 2 * 3, 0))[1] for i in (0, 4, 5, 9)}
    with h5py.File(path) as file:
        stored = describe(file["X"])
    assert stored.storage == "chunked"
    assert stored.chunk_shape == (1, 3, 3)
    assert (stored.offsets < 0).tolist() == [i // 2 in (1, 3) for i in range(10)]
    assert stored.sizes[2:4].tolist() == [0, 0]
    content = path.read_bytes()
    for i, chunk in raw.items():
        offset, size = stored.offsets[i], stored.sizes[i]
        assert content[offset : offset + size] == chunk


def test_filters_in_the_order_of_writing(path):
    stored = described(path, chunks=(1, 4, 3), compression=7, shuffle=True, fletcher32=True)
    assert stored.filters == (
        Filter(2, "shuffle", (2,)),
        Filter(1, "deflate", (7,)),
        Filter(3, "fletcher32", ()),
    )


def test_masks(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("X", SHAPE, "u1", chunks=(1, 4, 3), compression="gzip")
        dataset.id.write_direct_chunk((3, 0, 0), bytes(12), 1)
    with h5py.File(path) as file:
        assert describe(file["X"]).masks.tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("counted_in", [True, False])
def test_offsets_may_or_may_not_count_the_userblock_in(path, counted_in):
    # Releases of HDF5 differ in that.
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset("X", data=np.arange(60).reshape(SHAPE), chunks=(1, 4, 3))
        file.flush()
        stored = describe(dataset)
        offsets = stored.offsets - (0 if counted_in else 512)
        correction = chunk_table._userblock_correction(dataset, offsets, stored.sizes)
    assert correction == (0 if counted_in else 512)


DAMAGED_TABLES = {
    # What an entry of the B-tree of chunks becomes, and the error; the other entries stay.
    "a chunk twice": ({"place": 2}, "some chunks are listed twice or out of order"),
    "out of order": ({"place": 6}, "some chunks are listed twice or out of order"),
    "beyond the last": ({"row": 7, "place": 8}, "some chunks are outside the dataset"),
    "off the grid": ({"inside": 1}, ".*bad coordinate offset"),
    "over another": ({"offset": lambda o: o + 1}, "some chunks overlap in the file"),
    "longer than it is": ({"size": lambda s: s + 8}, "some chunks overlap in the file"),
}


def damage_table(path, row=4, place=None, inside=0, size=int, offset=int):
    """Changes an entry of the B-tree of chunks of a dataset `X` (HDF5 file format, III.A.1)."""
    with h5py.File(path) as file:
        dataset = file["X"]
        rank = len(dataset.shape)
        info = dataset.id.get_chunk_info_by_coord((row, *[0] * (rank - 1)))
    entry = struct.Struct(f"<II{rank + 1}QQ")
    old = entry.pack(info.size, 0, row, *[0] * rank, info.byte_offset)
    new = entry.pack(
        size(info.size),
        0,
        row if place is None else place,
        inside,
        *[0] * (rank - 1),
        offset(info.byte_offset),
    )
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(("damage", "message"), DAMAGED_TABLES.values(), ids=DAMAGED_TABLES)
def test_a_chunk_table_that_cannot_be_true(path, damage, message):
    with h5py.File(path, "w") as file:
        data = np.random.default_rng(0).integers(0, 256, (8, 4, 6), np.uint8)
        file.create_dataset("X", data=data, chunks=(1, 4, 6), compression="gzip")
    damage_table(path, **damage)
    with (
        h5py.File(path) as file,
        pytest.raises(FileFormatError, match=f"'/X' has a damaged chunk index: {message}"),
    ):
        describe(file["X"])


def test_a_damaged_chunk_table_of_more_chunks_than_are_collected_at_once(path):
    # The first chunk of the second part is listed again at the end of the first one.
    with h5py.File(path, "w") as file:
        data = np.zeros((70_000, 1), np.uint8)
        file.create_dataset("X", data=data, chunks=(1, 1))
    damage_table(path, row=65_535, place=65_536)
    with h5py.File(path) as file, pytest.raises(FileFormatError, match="twice or out of order"):
        describe(file["X"])


DAMAGED_CHUNKS = {
    "of size zero": {"size": lambda _: 0},
    "longer than the file": {"size": lambda _: 2**31},
    "behind the file": {"offset": lambda _: 2**40},
    "far behind the file": {"offset": lambda _: 2**63 - 1},
    "across the end of the file": {"row": 7, "offset": lambda offset: offset + 20},
}


@pytest.mark.parametrize("chunks", [(1, 4, 6), (1, 4, 3), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("damage", DAMAGED_CHUNKS.values(), ids=DAMAGED_CHUNKS)
def test_a_chunk_that_cannot_be_read_is_an_error_of_its_samples(path, damage, compression, chunks):
    data = np.random.default_rng(0).integers(0, 256, (8, 4, 6), np.uint8)
    with h5py.File(path, "w") as file:
        options = {"chunks": chunks, "compression": compression}
        dataset = file.create_dataset("X", data.shape, "u1", **options)
        for begin in range(0, 8, chunks[0]):
            # The file's last chunk is the one that `damage_table` finds, the first of a row.
            for column in range(0, 6, chunks[2])[::-1]:
                part = np.s_[begin : begin + chunks[0], :, column : column + chunks[2]]
                dataset[part] = data[part]
            file.flush()
    row = damage.get("row", 4) // chunks[0] * chunks[0]
    damage_table(path, **{**damage, "row": row})
    bad = set(range(row, row + chunks[0]))
    for size in (1, 8):
        with VideoLoader(path, y=None, batch_size=size, shuffle=False) as loader:
            message = r"'/X', sample [4-7]: (where it lies in the file|the file ends 20 bytes)"
            with pytest.raises(ReadError, match=message):
                list(loader)
        options = {"batch_size": size, "shuffle": False, "on_error": "skip"}
        with VideoLoader(path, y=None, **options) as loader:
            got = np.concatenate(list(loader))
            assert loader.skipped.keys() == bad
        np.testing.assert_array_equal(got, np.delete(data, sorted(bad), axis=0))


DTYPES = {
    "uint8": ("u1", "uint8"),
    "big-endian": (">i4", "int32"),
    "bool": ("?", "bool"),
    "complex": (">c16", "complex128"),
    "half": ("<f2", "float16"),
    "enumeration": (h5py.enum_dtype({"a": 1}, basetype="i2"), "int16"),
}


@pytest.mark.parametrize(("stored", "expected"), DTYPES.values(), ids=DTYPES)
def test_dtypes_are_plain_and_native(path, stored, expected):
    found = described(path, data=None, shape=SHAPE, dtype=stored, chunks=(1, 4, 3))
    assert found.dtype == np.dtype(expected)
    assert found.dtype.isnative
    assert found.dtype.metadata is None
    assert found.file_dtype.newbyteorder("=") == found.dtype
    assert type(found.fill_value) is np.dtype(expected).type


UNSUPPORTED = {
    "string": (h5py.string_dtype(), "string"),
    "fixed string": (h5py.string_dtype(length=5), "string"),
    "bytes": ("S3", "string"),
    "reference": (h5py.ref_dtype, "reference"),
    "region reference": (h5py.regionref_dtype, "reference"),
    "vlen": (h5py.vlen_dtype(np.int32), "variable length"),
    "compound": ([("a", "i4"), ("b", "f4")], r"compound \('a', 'b'\)"),
    "array of strings": (np.dtype(("S3", (2,))), "string"),
    "opaque": ("V7", "V7"),
    "long double": (np.longdouble, "float128|longdouble"),
    "time": (h5py.h5t.UNIX_D32LE, "time"),
}


@pytest.mark.parametrize(("dtype", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_dtypes(path, dtype, message):
    with h5py.File(path, "w") as file:
        if isinstance(dtype, h5py.h5t.TypeID):
            h5py.h5d.create(file.id, b"X", dtype, h5py.h5s.create_simple(SHAPE))
        else:
            file.create_dataset("X", SHAPE, dtype)
        with pytest.raises(
            UnsupportedDtypeError, match=f"(?i)'/X' has (the|a) dtype .*{message}.*int8"
        ):
            describe(file["X"])


def test_a_dtype_that_h5py_has_no_name_for(path):
    with open("/proc/self/maps") as maps:
        library = ctypes.CDLL(next(line.split()[-1] for line in maps if "/libhdf5-" in line))
    create = library.H5Dcreate2
    create.restype = ctypes.c_int64
    create.argtypes = [ctypes.c_int64, ctypes.c_char_p, *[ctypes.c_int64] * 5]
    vax = ctypes.c_int64.in_dll(library, "H5T_VAX_F64_g").value
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(SHAPE)
        library.H5Dclose(ctypes.c_int64(create(file.id.id, b"X", vax, space.id, 0, 0, 0)))
        with pytest.raises(
            UnsupportedDtypeError, match="'/X' has a dtype that h5py does not support: "
        ):
            describe(file["X"])
    (report,) = inspect(path).datasets
    assert (report.dtype, report.reason) == ("unknown", "its dtype is not supported")


@pytest.mark.parametrize(
    ("data", "message"),
    [(7, "'/X' is a scalar"), (h5py.Empty("f4"), "'/X' is empty")],
)
def test_datasets_without_samples(path, data, message):
    with pytest.raises(FileFormatError, match=message):
        described(path, data=data)


def test_a_contiguous_dataset_of_fewer_bytes_than_its_shape_takes(path):
    # HDF5 opens it; what is behind it in the file are not its values.
    described(path)
    content = path.read_bytes()
    with h5py.File(path) as file:
        offset = file["X"].id.get_offset()
    layout_message = struct.pack("<BBQQ", 3, 1, offset, 120)  # HDF5 file format, IV.A.2.i
    assert content.count(layout_message) == 1
    path.write_bytes(content.replace(layout_message, struct.pack("<BBQQ", 3, 1, offset, 100)))
    with (
        h5py.File(path) as file,
        pytest.raises(
            FileFormatError, match=r"'/X' is damaged: .* takes 120 bytes, but 100 are stored"
        ),
    ):
        describe(file["X"])


def test_an_array_type_is_further_dimensions(path):
    stored = described(
        path, data=None, shape=(5, 4), dtype=np.dtype((">i2", (3, 2))), chunks=(1, 3)
    )
    assert (stored.shape, stored.chunk_shape) == ((5, 4, 3, 2), (1, 3, 3, 2))
    assert (stored.dtype, stored.file_dtype) == (np.dtype("=i2"), np.dtype(">i2"))
    assert len(stored.offsets) == 10


def test_no_rows(path):
    stored = described(path, data=np.zeros((0, 4, 3)), chunks=(1, 4, 3), maxshape=(None, 4, 3))
    assert (len(stored.offsets), stored.nbytes) == (0, 0)


def test_nothing_written_yet(path):
    stored = described(path, data=None, shape=SHAPE, dtype="u1", fillvalue=3)
    assert stored.obstacle == "no values were written to it yet"


def test_huge_grids_are_left_to_hdf5(path, monkeypatch):
    monkeypatch.setattr(chunk_table, "MAX_CHUNKS", 4)
    assert described(path, chunks=(1, 4, 3)).obstacle == "it has more than 4 chunks"
    assert described(path, chunks=(2, 4, 3)).obstacle is None


UNKNOWN_INDEXES = {
    "no such function": lambda patch: patch.setattr(chunk_table.h5py.h5d, "__file__", "/gone.so"),
    "another place": lambda patch: patch.setattr(
        chunk_table, "_lists_slots_as_places", _raise_unreadable
    ),
}


def _raise_unreadable():
    raise chunk_table.UnreadableTableError("HDF5 does not report where its chunks are")


@pytest.mark.parametrize("prepare", UNKNOWN_INDEXES.values(), ids=UNKNOWN_INDEXES)
def test_chunks_whose_places_are_not_certain_are_left_to_hdf5(path, monkeypatch, prepare):
    with h5py.File(path, "w", libver="latest") as file:
        options = {"chunks": (1, 2, 3), "dtype": "u1"}
        file.create_dataset("X", SHAPE, maxshape=(5, None, 3), **options)[:3, :2] = 7
        file.create_dataset("first", SHAPE, maxshape=(None, 4, 3), **options)[:3, :2] = 7
        expected = file["X"][()]
    prepare(monkeypatch)
    with h5py.File(path) as file:
        assert describe(file["first"]).obstacle is None
        assert re.search("does not report (how|where) its chunks are", describe(file["X"]).obstacle)
    with VideoLoader(path, y=None, shuffle=False) as loader:
        np.testing.assert_array_equal(np.concatenate(list(loader)), expected)


def test_more_chunks_than_are_collected_at_once(path):
    num = 70_000
    stored = described(path, data=np.arange(num, dtype="<u4").reshape(num, 1), chunks=(1, 1))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    found = content[stored.offsets[:, np.newaxis] + np.arange(4)].view("<u4").ravel()
    np.testing.assert_array_equal(found, np.arange(num))


def test_the_file_behind_an_external_link(path, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["a/Z"] = np.zeros(SHAPE)
    with h5py.File(path, "w") as file:
        file["X"] = h5py.ExternalLink("other.h5", "a/Z")
    with h5py.File(path) as file:
        stored = describe(file["X"])
    assert (stored.path, stored.name) == (str(other), "/a/Z")
    assert stored.identity == FileIdentity.of(os.stat(other))


SOURCES = {
    "next to the file": ("part.h5", "files/part.h5", True),
    "in a folder below": ("parts/part.h5", "files/parts/part.h5", True),
    "next to what a link leads to": ("part.h5", "real/part.h5", True),
    "in the working folder": ("part.h5", "working/part.h5", True),
    "by a prefix": ("part.h5", "prefix/part.h5", True),
    "by a prefix below the file": ("part.h5", "files/prefix/part.h5", True),
    "absolute": ("{}/elsewhere/part.h5", "elsewhere/part.h5", True),
    "absolute, and moved": ("{}/gone/part.h5", "files/part.h5", True),
    "a percent sign": ("100%%.h5", "files/100%.h5", True),
    "in the same file": (".", "real/set.h5", True),
    "elsewhere": ("part.h5", "elsewhere/part.h5", False),
    "not in its folder": ("parts/part.h5", "files/part.h5", False),
    "absolute, and elsewhere": ("{}/gone/part.h5", "elsewhere/part.h5", False),
}


@pytest.mark.parametrize(("name", "place", "is_found"), SOURCES.values(), ids=SOURCES)
def test_sources_of_virtual_datasets(tmp_path, monkeypatch, name, place, is_found):
    for folder in ("files/parts", "files/prefix", "real", "working", "prefix", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    name = name.format(tmp_path)
    sources = h5py.VirtualLayout((5, 4), "u1")
    sources[...] = h5py.VirtualSource(name, "Z", (5, 4))
    with h5py.File(tmp_path / "real/set.h5", "w") as file:
        file.create_virtual_dataset("X", sources)
    (tmp_path / "files/set.h5").symlink_to(tmp_path / "real/set.h5")
    with h5py.File(tmp_path / place, "a") as file:
        file["Z"] = np.ones((5, 4), "u1")
    monkeypatch.chdir(tmp_path / "working")
    prefix = "${ORIGIN}/prefix" if place == "files/prefix/part.h5" else f"gone:{tmp_path}/prefix"
    # HDF5 looks at it when it starts.
    code = "import h5py; print(h5py.File('../files/set.h5')['X'][0, 0])"
    run = [sys.executable, "-c", code]
    env = {**os.environ, "HDF5_VDS_PREFIX": prefix}
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=True, timeout=250)
    assert done.stdout == f"{is_found:d}\n"  # the same place that HDF5 finds
    monkeypatch.setenv("HDF5_VDS_PREFIX", prefix)
    with h5py.File("../files/set.h5") as file:
        if is_found:
            assert describe(file["X"]).storage == "virtual"
        else:
            with pytest.raises(
                VideoFileNotFoundError, match=f"set.h5: .*'/X' maps to .*'{name}', which"
            ):
                describe(file["X"])


def test_sources_that_a_pattern_names(path):
    unlimited = h5py.h5s.UNLIMITED
    blocks = h5py.h5s.create_simple((5, 4), (unlimited, 4))
    blocks.select_hyperslab((0, 0), (unlimited, 1), (5, 4), (5, 4))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(blocks, b"part%b.h5", b"Z", h5py.h5s.create_simple((5, 4)))
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((5, 4), (unlimited, 4))
        h5py.h5d.create(file.id, b"X", h5py.h5t.STD_U8LE, space, properties)
        assert describe(file["X"]).storage == "virtual"


@pytest.mark.parametrize("change", ["size", "mtime", "inode"])
def test_identity(path, tmp_path, change):
    path.write_bytes(b"12345678")
    before = FileIdentity.of(os.stat(path))
    assert before == FileIdentity.of(os.stat(path))
    stat = os.stat(path)
    if change == "inode":
        (tmp_path / "new").write_bytes(b"12345678")
        os.replace(tmp_path / "new", path)
    elif change == "size":
        path.write_bytes(b"1234567")
    moved = stat.st_mtime_ns + (change == "mtime")
    os.utime(path, ns=(stat.st_atime_ns, moved))
    assert before != FileIdentity.of(os.stat(path))


CHANGES = {
    "size": ({"num_bytes": 7}, "size from 100 to 7 bytes"),
    "time": (
        {"modified_ns": 86_401_000_000_500},
        "modification time from 1970-01-01 00:00:01.000000000 to 1970-01-02 00:00:01.000000500",
    ),
    "size and time": (
        {"num_bytes": 7, "modified_ns": 1_000_000_001},
        "size from 100 to 7 bytes, modification time from .* to 1970-01-01 00:00:01.000000001",
    ),
    "inode": ({"inode": 3, "num_bytes": 7}, "it is another file"),
    "device": ({"device": 3}, "it is another file"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_tells_a_file_from_another(monkeypatch, change, message):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    before = FileIdentity(device=1, inode=2, num_bytes=100, modified_ns=1_000_000_000)
    assert re.fullmatch(message, before.changes(dataclasses.replace(before, **change)))
    monkeypatch.undo()
    time.tzset()
