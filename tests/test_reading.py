"""Whatever h5py can read comes out of a loader equal to h5py's own answer, `file[name][i]`."""

from __future__ import annotations

import ctypes
import os
import re
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from conftest import Order
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_types import nine_bits
from reading_helpers import SHAPE, check, values

from h5video_data import testing
from h5video_data.errors import (
    FileFormatError,
    MissingFilterError,
    ReadError,
    VideoFileNotFoundError,
)
from h5video_data.loader import VideoLoader
from h5video_data.planning import access
from h5video_data.planning.access import direct_access
from h5video_data.reading import byte_sources
from h5video_data.sampling.clips import Clip
from h5video_data.storage.layout import describe

pytestmark = [
    pytest.mark.memory_limit(-1),  # everything is read, however small
    pytest.mark.usefixtures("poisoned_buffers"),
]

SAMPLE = SHAPE[1:]
ONE = (1, *SAMPLE)  # the shape of a chunk that is one sample

DIRECT = "direct"
SLABS = "chunks"
PRECISION = "precision or padding"
UNDEFINED = "undefined"


def path_taken(path, name="X"):
    """`DIRECT`, `SLABS`, or the reason why h5py reads the dataset."""
    with h5py.File(path) as file:
        found = direct_access(describe(file[name]))
    return found.reason if found.kind == "h5py" else found.kind


# --------------------------------------------------------------------------- create_dataset

# id: the path that it takes, and the arguments of `create_dataset`.
STORED = {
    "contiguous": (DIRECT, {}),
    "one sample a chunk": (DIRECT, {"chunks": ONE}),
    "gzip": (DIRECT, {"chunks": ONE, "compression": "gzip"}),
    "gzip 9": (DIRECT, {"chunks": ONE, "compression": 9}),
    "shuffle": (DIRECT, {"chunks": ONE, "shuffle": True}),
    "shuffle gzip": (DIRECT, {"chunks": ONE, "compression": "gzip", "shuffle": True}),
    "lzf": (DIRECT, {"chunks": ONE, "compression": "lzf"}),
    "shuffle lzf": (DIRECT, {"chunks": ONE, "compression": "lzf", "shuffle": True}),
    "fletcher32": (DIRECT, {"chunks": ONE, "fletcher32": True}),
    "fletcher32 of an odd number of bytes": (
        DIRECT,
        {"chunks": (1, 1, 3, 5), "fletcher32": True, "dtype": "u1"},
    ),
    "shuffle gzip fletcher32": (
        DIRECT,
        {"chunks": ONE, "compression": "gzip", "shuffle": True, "fletcher32": True},
    ),
    "shuffle lzf fletcher32": (
        DIRECT,
        {"chunks": ONE, "compression": "lzf", "shuffle": True, "fletcher32": True},
    ),
    "shuffle gzip int64": (
        DIRECT,
        {"chunks": ONE, "compression": "gzip", "shuffle": True, "dtype": "<i8"},
    ),
    "shuffle lzf complex128": (
        DIRECT,
        {"chunks": ONE, "compression": "lzf", "shuffle": True, "dtype": "<c16"},
    ),
    "two frames a chunk": (DIRECT, {"chunks": (1, 2, 3, 5), "compression": "gzip"}),
    "one frame a chunk": (DIRECT, {"chunks": (1, 1, 3, 5)}),
    "one channel a chunk": (DIRECT, {"chunks": (1, 1, 1, 5), "compression": "lzf"}),
    "two channels a chunk": (DIRECT, {"chunks": (1, 1, 2, 5)}),
    "one value a chunk": (DIRECT, {"chunks": (1, 1, 1, 1)}),
    "edge: three frames a chunk": (DIRECT, {"chunks": (1, 3, 3, 5)}),
    "edge: three frames a chunk, shuffle gzip": (
        DIRECT,
        {"chunks": (1, 3, 3, 5), "compression": "gzip", "shuffle": True},
    ),
    "edge: two values a chunk": (DIRECT, {"chunks": (1, 1, 1, 2), "compression": "gzip"}),
    "edge: a chunk beyond the sample": (
        DIRECT,
        {"chunks": (1, 9, 3, 5), "maxshape": (None, 9, 3, 5), "compression": "gzip"},
    ),
    "edge: an unfiltered chunk beyond the sample": (
        DIRECT,
        {"chunks": (1, 9, 3, 5), "maxshape": (None, 9, 3, 5)},
    ),
    "edge: a chunk beyond the rows": (
        SLABS,
        {"chunks": (1, 4, 3, 9), "maxshape": (None, 4, 3, 9), "compression": "gzip"},
    ),
    "chunks that cut rows": (SLABS, {"chunks": (1, 4, 3, 2)}),
    "chunks that cut frames and channels": (SLABS, {"chunks": (1, 2, 2, 5)}),
    "two samples a chunk": (DIRECT, {"chunks": (2, *SAMPLE)}),
    "all samples in a chunk, gzip": (SLABS, {"chunks": SHAPE, "compression": "gzip"}),
    "chunk beyond the samples": (
        DIRECT,
        {"chunks": (50, *SAMPLE), "maxshape": (None, *SAMPLE)},
    ),
    "automatic chunks": (SLABS, {"chunks": True, "compression": "gzip"}),
    "automatic chunks, resizable": (DIRECT, {"chunks": True, "maxshape": (None,) * 4}),
    "scaleoffset": ("scaleoffset", {"chunks": ONE, "scaleoffset": 8}),
    "szip": ("szip", {"chunks": ONE, "compression": "szip"}),
    "blosc": (DIRECT, {"chunks": ONE, **hdf5plugin.Blosc()}),
    "blosc, zstd inside": (DIRECT, {"chunks": ONE, **hdf5plugin.Blosc(cname="zstd", shuffle=2)}),
    "blosc2": (DIRECT, {"chunks": ONE, **hdf5plugin.Blosc2(cname="zstd")}),
    "blosc2, bitshuffle inside": (DIRECT, {"chunks": ONE, **hdf5plugin.Blosc2(filters=2)}),
    "blosc2, many samples a chunk": (SLABS, {"chunks": (3, *SAMPLE), **hdf5plugin.Blosc2()}),
    "zstd": (DIRECT, {"chunks": ONE, **hdf5plugin.Zstd()}),
    "lz4": (DIRECT, {"chunks": ONE, **hdf5plugin.LZ4()}),
    "lz4, small blocks": (DIRECT, {"chunks": ONE, **hdf5plugin.LZ4(nbytes=16)}),
    "bitshuffle": (DIRECT, {"chunks": ONE, **hdf5plugin.Bitshuffle()}),
    "bitshuffle, small blocks": (DIRECT, {"chunks": ONE, **hdf5plugin.Bitshuffle(nelems=16)}),
    "bitshuffle, zstd inside": (DIRECT, {"chunks": ONE, **hdf5plugin.Bitshuffle(cname="zstd")}),
    "bitshuffle alone": (DIRECT, {"chunks": ONE, **hdf5plugin.Bitshuffle(cname="none")}),
    "blosc, many samples a chunk": (SLABS, {"chunks": (3, *SAMPLE), **hdf5plugin.Blosc()}),
}


@pytest.mark.parametrize(("expected_path", "options"), STORED.values(), ids=STORED)
def test_stored_layouts(tmp_path, expected_path, options):
    path = tmp_path / "set.h5"
    dtype = options.get("dtype", "<u2")
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=values(dtype=dtype), **{"dtype": dtype, **options})
    assert_path(path, expected_path)
    check(path)


def assert_path(path, expected):
    """Holds if the dataset takes this path; `expected` is `DIRECT` or a part of the reason."""
    assert re.search(expected, path_taken(path))


NATIVE = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
DTYPES = NATIVE + [">" + name for name in NATIVE[2:] if name != "u1"]


@pytest.mark.parametrize("chunks", [None, ONE, (2, *SAMPLE)], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(tmp_path, dtype, chunks):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=values(dtype=dtype), dtype=dtype, chunks=chunks)
    assert_path(path, DIRECT)
    check(path)


@pytest.mark.parametrize("fill", [0, 5], ids=["default", "fill value"])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}], ids=str)
@pytest.mark.parametrize("chunks", [None, (1, 3), (1, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["u1", ">f4"])
def test_array_types(tmp_path, dtype, chunks, options, fill):
    # PyTables stores so what it calls an atom with a shape.
    path = tmp_path / "set.h5"
    data = values((7, 3, 4, 5), dtype)
    array_type = h5py.h5t.array_create(h5py.h5t.py_create(np.dtype(dtype)), (4, 5))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        properties.set_chunk(chunks)
        for name in [name for name in ("shuffle", "deflate") if options]:
            getattr(properties, f"set_{name}")(*((4,) if name == "deflate" else ()))
    if fill:
        filler = np.full((4, 5), fill, dtype)  # h5py sets that of single numbers only
        arguments = (ctypes.c_int64(properties.id), ctypes.c_int64(array_type.id))
        value = filler.ctypes.data_as(ctypes.c_void_p)
        assert hdf5_library().H5Pset_fill_value(*arguments, value) >= 0
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((7, 3), (h5py.h5s.UNLIMITED if chunks else 7, 3))
        dataset = h5py.Dataset(h5py.h5d.create(file.id, b"X", array_type, space, properties))
        dataset[:5] = data[:5]
        got = dataset[...]
    np.testing.assert_array_equal(got[:5], data[:5])
    assert (got[-1] == fill).all()
    if fill and chunks:
        assert_path(path, "fill value of its type")
    else:
        assert_path(path, SLABS if chunks == (2, 3) and options else DIRECT)
    check(path)
    with VideoLoader(path, y=None, clip=Clip(2, position="start"), shuffle=False) as loader:
        np.testing.assert_array_equal(np.concatenate(list(loader)), got[:, :2])


@pytest.mark.memory_limit(4096)
def test_an_array_type_of_small_samples_in_memory(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file["X"] = values()
        file.create_dataset("Y", (7,), np.dtype((">f4", (4,))))[...] = values((7, 4), "f4")
    with VideoLoader(path, shuffle=False, batch_size=7) as loader:
        ((_, y),) = list(loader)
    np.testing.assert_array_equal(y, values((7, 4), "f4"))
    assert y.dtype == np.dtype("=f4")


@pytest.mark.parametrize("chunks", [None, ONE, (2, *SAMPLE)], ids=str)
def test_an_undefined_fill_value(tmp_path, chunks):
    # HDF5 then leaves the memory as it is, and h5py reads into zeros.
    def undefined(properties):
        library = hdf5_library()
        assert (
            library.H5Pset_fill_value(ctypes.c_int64(properties.id), ctypes.c_int64(-1), None) >= 0
        )

    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        dataset = low_level(file, values(), chunks=chunks, prepare=undefined)
        with pytest.raises(RuntimeError):
            _ = dataset.fillvalue
    assert_path(path, DIRECT)
    check(path)
    with h5py.File(path, "w") as file:
        dataset = low_level(file, chunks=chunks, prepare=undefined)
        dataset[3] = 7
    check(path)
    with h5py.File(path, "w") as file:
        low_level(file, chunks=chunks, prepare=undefined)
    with (
        VideoLoader(path, y=None) as loader,
        pytest.raises(ReadError, match=r"'/X', samples? .*no data can be read"),
    ):
        list(loader)


def test_negative_zero_and_not_a_number_keep_their_bytes(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file["X"] = np.array([[-0.0, 0.0, np.nan, -np.nan, np.inf, -np.inf, 5e-324]] * 3)
    check(path)


@pytest.mark.parametrize("index", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("chunks", "maxshape", "num_samples"),
    [
        (ONE, None, 1),  # a single chunk
        (ONE, None, 7),  # a fixed array
        (ONE, None, 1100),  # a fixed array of several pages
        (ONE, (None, *SAMPLE), 7),  # an extensible array
        (ONE, (None, *SAMPLE), 1100),
        ((1, 2, 3, 5), (None, None, 3, 5), 7),  # a B-tree of version 2
        ((1, 2, 3, 5), (None, None, 3, 5), 300),
    ],
)
def test_chunk_indexes(tmp_path, index, options, chunks, maxshape, num_samples):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver=index) as file:
        data = values((num_samples, *SAMPLE))
        file.create_dataset("X", data=data, chunks=chunks, maxshape=maxshape, **options)
    assert_path(path, DIRECT)
    check(path, order=np.random.default_rng(0).permutation(num_samples), batch_size=64)


# --------------------------------------------------------------------------- hand-made files


def low_level(file, data=None, *, chunks=ONE, dtype="<u2", shape=SHAPE, prepare=None):
    """Makes `X` by h5py's low-level API; `prepare` sets properties of its creation list."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        properties.set_chunk(chunks)
    if prepare:
        prepare(properties)
    stored = dtype if isinstance(dtype, h5py.h5t.TypeID) else h5py.h5t.py_create(np.dtype(dtype))
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, b"X", stored, space, properties))
    if data is None:
        return dataset
    if stored.get_class() == h5py.h5t.BITFIELD:  # HDF5 converts nothing into one
        data = np.ascontiguousarray(data, dataset.dtype)
        dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, data, mtype=stored)
    else:
        dataset[...] = data
    return dataset


def integers(precision, *, offset=0, of=h5py.h5t.STD_U16LE):
    """A 16-bit integer type of which only some bits count."""
    made = of.copy()
    made.set_precision(precision)
    made.set_offset(offset)
    return made


def enumeration(dtype):
    return h5py.h5t.py_create(h5py.enum_dtype({"no": 0, "yes": 1}, basetype=dtype))


def never(properties):
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)


def early(properties):
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)


def hdf5_library():
    """The HDF5 library that h5py runs on, for what h5py has no function for."""
    with open("/proc/self/maps") as maps:
        return ctypes.CDLL(next(line.split()[-1] for line in maps if "/libhdf5-" in line))


def unfiltered_edges(properties):
    # H5Pset_chunk_opts(H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS)
    assert hdf5_library().H5Pset_chunk_opts(ctypes.c_int64(properties.id), ctypes.c_uint(2)) >= 0


def plain(*names, then=None):
    """Sets filters in this order."""

    def prepare(properties):
        for name in names:
            getattr(properties, f"set_{name}")(*((4,) if name == "deflate" else ()))
        if then:
            then(properties)

    return prepare


SMALL = values() % 2
LOW_LEVEL = {
    "compact": ("compact", {"chunks": None, "prepare": lambda p: p.set_layout(h5py.h5d.COMPACT)}),
    "12 bits": (PRECISION, {"dtype": integers(12)}),
    "12 bits, shifted, contiguous": (PRECISION, {"dtype": integers(12, offset=3), "chunks": None}),
    "12 bits, shifted, big-endian": (
        PRECISION,
        {"dtype": integers(12, offset=3, of=h5py.h5t.STD_U16BE)},
    ),
    "nbit": (
        PRECISION,
        {"dtype": integers(12), "prepare": lambda p: p.set_filter(h5py.h5z.FILTER_NBIT)},
    ),
    "enumeration": (DIRECT, {"dtype": enumeration("u1")}),
    "enumeration, many samples a chunk": (
        DIRECT,
        {"dtype": enumeration("<i2"), "chunks": (3, *SAMPLE)},
    ),
    "enumeration, big-endian": (DIRECT, {"dtype": enumeration(">i2")}),
    "bit field": (DIRECT, {"dtype": h5py.h5t.STD_B8LE}),
    "bit field, big-endian": (DIRECT, {"dtype": h5py.h5t.STD_B32BE}),
    "bit field, big-endian, many samples a chunk": (
        SLABS,
        {"dtype": h5py.h5t.STD_B16BE, "chunks": (3, *SAMPLE), "prepare": plain("deflate")},
    ),
    "bit field, big-endian, compact": (
        "compact",
        {
            "dtype": h5py.h5t.STD_B32BE,
            "chunks": None,
            "prepare": lambda p: p.set_layout(h5py.h5d.COMPACT),
        },
    ),
    "early allocation (implicit index)": (DIRECT, {"prepare": early}),
    "fletcher32 before deflate": ("", {"prepare": plain("fletcher32", "deflate")}),
    "deflate before shuffle": ("", {"prepare": plain("deflate", "shuffle")}),
    "shuffle fletcher32 deflate": ("", {"prepare": plain("shuffle", "fletcher32", "deflate")}),
    "deflate twice": ("", {"prepare": plain("deflate", "deflate")}),
    "shuffle twice": ("", {"prepare": plain("shuffle", "shuffle")}),
    "edges without filters: shuffle": (
        "",
        {"chunks": (1, 3, 3, 5), "prepare": plain("shuffle", then=unfiltered_edges)},
    ),
    "edges without filters: deflate": (
        "",
        {"chunks": (1, 3, 3, 5), "prepare": plain("deflate", then=unfiltered_edges)},
    ),
    "edges without filters: fletcher32": (
        "",
        {"chunks": (1, 3, 3, 5), "prepare": plain("fletcher32", then=unfiltered_edges)},
    ),
    "edges without filters, but no edge": (
        DIRECT,
        {"prepare": plain("shuffle", "deflate", then=unfiltered_edges)},
    ),
}


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize(("expected_path", "options"), LOW_LEVEL.values(), ids=LOW_LEVEL)
def test_low_level_layouts(tmp_path, version, expected_path, options):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver=version) as file:
        low_level(file, SMALL if "dtype" in options else values(), **options)
    if expected_path:
        assert_path(path, expected_path)
    check(path)


FILLED = {
    "default": ("<u2", None),
    "uint16": ("<u2", 513),
    "float16": ("<f2", 1.5),
    "float64": ("<f8", np.nan),
    "bool": ("?", True),
    "complex": ("<c8", 1 + 2j),
    "big-endian": (">i4", 7),
    "enumeration": (h5py.enum_dtype({"no": 0, "yes": 1}, basetype="u1"), 1),
}


@pytest.mark.parametrize("compression", [None, "gzip"], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunks", [ONE, (1, 3, 3, 5), (2, *SAMPLE), None], ids=str)
@pytest.mark.parametrize(("dtype", "fill"), FILLED.values(), ids=FILLED)
def test_what_was_never_written_is_the_fill_value(tmp_path, dtype, fill, chunks, compression):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        compression = compression if chunks else None
        dataset = file.create_dataset(
            "X", SHAPE, dtype, chunks=chunks, fillvalue=fill, compression=compression
        )
        dataset[2, 1:3] = np.ones((2, 3, 5), dataset.dtype)
        if chunks:
            dataset[5] = (values(SAMPLE) % 2).astype(dataset.dtype)
    if chunks and chunks[0] == 1:
        assert_path(path, DIRECT)
    check(path)


@pytest.mark.parametrize("chunks", [ONE, (2, *SAMPLE), None], ids=["one", "many", "contiguous"])
@pytest.mark.parametrize("written", [0, 3], ids=["nothing", "one sample"])
def test_without_fill_time_the_unwritten_is_not_rubbish(tmp_path, chunks, written):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        dataset = low_level(file, chunks=chunks, prepare=never)
        if written:
            dataset[written] = 7
    if chunks == ONE:
        assert_path(path, UNDEFINED)
    check(path)


@pytest.mark.parametrize("mask", range(8))
def test_a_chunk_s_mask_switches_its_filters_off(tmp_path, mask):
    # Filters 0, 1, 2 are shuffle, deflate, fletcher32. A chunk is written as it would be with the
    # filters that its mask leaves.
    data = values()
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "X", data=data, chunks=ONE, shuffle=True, compression=4, fletcher32=True
        )
        chunk = data[3].tobytes()
        if not mask & 1:
            chunk = data[3].reshape(-1).view("u1").reshape(-1, 2).T.tobytes()
        if not mask & 2:
            chunk = zlib.compress(chunk)
        if not mask & 4:
            chunk += fletcher32(chunk).to_bytes(4, "little")
        dataset.id.write_direct_chunk((3, 0, 0, 0), chunk, mask)
    assert_path(path, DIRECT)
    check(path)


def fletcher32(data):
    """HDF5's checksum, H5checksum.c: sums of big-endian 16-bit words, modulo 65,535."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(int).tolist()
    first = second = 0
    for word in words:
        first += word
        second += first
    fold = [
        0xFFFF if value and value % 0xFFFF == 0 else value % 0xFFFF for value in (first, second)
    ]
    return fold[1] << 16 | fold[0]


def test_the_checksums_of_old_files(tmp_path):
    # HDF5 before 1.6.3 swapped the bytes of each half (H5Zfletcher32.c); it still reads them.
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("X", data=values(), chunks=ONE, fletcher32=True)
        for row in (0, 3):
            mask, chunk = dataset.id.read_direct_chunk((row, 0, 0, 0))
            swapped = np.frombuffer(chunk[-4:], "<u2").byteswap().tobytes()
            assert swapped != chunk[-4:]
            dataset.id.write_direct_chunk((row, 0, 0, 0), chunk[:-4] + swapped, mask)
    check(path)


@pytest.mark.parametrize("userblock", [512, 4096])
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": ONE}, {"chunks": ONE, "compression": "gzip"}, {"chunks": (2, *SAMPLE)}],
    ids=["contiguous", "chunked", "gzip", "many"],
)
def test_userblock(tmp_path, userblock, options):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("X", data=values(), **options)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(userblock) + path.read_bytes()[userblock:])
    assert_path(path, DIRECT)
    check(path)


def test_userblock_with_chunks_that_are_all_alike(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("X", data=np.zeros(SHAPE, "u1"), chunks=(1, 1, 1, 5))
    check(path)


def test_external_storage(tmp_path):
    path = tmp_path / "set.h5"
    raw = tmp_path / "raw.bin"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=values(), external=[(str(raw), 100, h5py.h5f.UNLIMITED)])
    assert raw.stat().st_size > 100
    assert_path(path, "external files")
    check(path)


def test_virtual_dataset(tmp_path):
    path = tmp_path / "set.h5"
    layout = h5py.VirtualLayout((9, *SAMPLE), "<u2")
    for number in (0, 1):
        part = tmp_path / f"part{number}.h5"
        with h5py.File(part, "w") as file:
            file.create_dataset("X", data=values(seed=number)[:4], chunks=ONE)
        layout[number * 4 : number * 4 + 4] = h5py.VirtualSource(part, "X", (4, *SAMPLE))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("X", layout, fillvalue=9)  # nobody has the last sample
    assert_path(path, "virtual")
    check(path)
    (tmp_path / "part1.h5").unlink()  # HDF5 would give the fill value
    with pytest.raises(VideoFileNotFoundError, match=r"set\.h5: .*'/X' .*part1\.h5', which does"):
        check(path)


def write_links(path):
    """A file where one dataset has many names."""
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file.create_dataset("inner/Z", data=values(seed=1), chunks=ONE)
    with h5py.File(path, "w", track_order=True) as file:
        file.create_dataset("a/b/X", data=values(), chunks=ONE, compression="gzip")
        file["hard"] = file["a/b/X"]
        file["soft"] = h5py.SoftLink("/a/b/X")
        file["softer"] = h5py.SoftLink("/soft")
        file["group"] = h5py.SoftLink("a")
        file["external"] = h5py.ExternalLink("other.h5", "/inner/Z")
        file["file"] = h5py.ExternalLink("other.h5", "/")
        file["soft to external"] = h5py.SoftLink("external")
        file["many"] = h5py.ExternalLink("other.h5", "many")
        file["odd"] = h5py.ExternalLink("other.h5", "/inner/odd")
        file["soft to odd"] = h5py.SoftLink("odd")
    with h5py.File(other, "a") as file:
        file.create_dataset("many", data=values(seed=2), chunks=(2, *SAMPLE))
        file.create_dataset("inner/odd", data=values(seed=3) % 512, dtype=nine_bits(file))


NAMES = "a/b/X,/a/b/X,hard,soft,softer,group/b/X,external,file/inner/Z,soft to external,many"
READ_OTHERWISE = "many,odd,soft to odd"


@pytest.mark.parametrize("name", [*NAMES.split(","), *READ_OTHERWISE.split(",")[1:]])
def test_links_and_groups(tmp_path, name):
    path = tmp_path / "set.h5"
    write_links(path)
    assert path_taken(path, name) == DIRECT or name in READ_OTHERWISE
    check(path, name)


def test_filters_that_no_chunk_went_through_need_not_be_there(tmp_path):
    path = tmp_path / "set.h5"
    data = values()
    unknown = 32766
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(ONE)
        properties.set_deflate(4)
        properties.set_filter(unknown, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(SHAPE)
        dataset = h5py.h5d.create(file.id, b"X", h5py.h5t.STD_U16LE, space, properties)
        for row in range(6):  # the last one is never written
            mask = 0b10 | row % 2
            chunk = data[row].tobytes()
            dataset.write_direct_chunk(
                (row, 0, 0, 0), chunk if mask & 1 else zlib.compress(chunk), mask
            )
    assert_path(path, DIRECT)
    check(path)
    with h5py.File(path, "a") as file:
        file["X"].id.write_direct_chunk((6, 0, 0, 0), bytes(120), 0b01)
    with pytest.raises(MissingFilterError, match=r"filter .*number 32766"):
        VideoLoader(path, y=None)


def test_committed_type(tmp_path):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file["type"] = np.dtype("<u2")
        file.create_dataset("X", data=values(), dtype=file["type"], chunks=ONE)
    assert_path(path, DIRECT)
    check(path)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunks", [ONE, (1, 3, 3, 5), (2, *SAMPLE)], ids=["one", "edge", "many"])
@pytest.mark.parametrize(
    "shape", [(4, 4, 3, 5), (9, 4, 3, 5), (7, 3, 3, 5), (7, 6, 3, 5), (1, 1, 3, 5)], ids=str
)
def test_resized(tmp_path, shape, chunks, options):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        data = values()
        dataset = file.create_dataset(
            "X", data=data, chunks=chunks, maxshape=(None, None, 3, 5), fillvalue=6, **options
        )
        dataset.resize(shape)
    check(path)
    with h5py.File(path, "a") as file:
        file["X"].resize(SHAPE)  # what was cut off is the fill value now
    check(path)


GROWN = {
    "second axis": ((4, 8, 3), (4, None, 3), (1, 1, 3)),
    "second axis, several samples a chunk": ((6, 6, 4), (6, None, 4), (2, 2, 4)),
    "third axis": ((4, 4, 6), (4, 4, None), (1, 4, 2)),
    "a largest shape beyond that of now": ((4, 5, 7, 3), (9, 6, None, 5), (2, 2, 3, 2)),
    "first axis": ((7, 5), (None, 5), (2, 2)),
    "two axes": ((5, 7, 3), (5, None, None), (2, 3, 2)),
    "a single chunk before it": ((3, 9), (3, None), (3, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("version", ["earliest", "v108", "v110", "latest"])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize(("shape", "maxshape", "chunks"), GROWN.values(), ids=GROWN)
def test_partly_written_along_an_axis_that_can_grow(
    tmp_path, shape, maxshape, chunks, compression, version, userblock
):
    # HDF5 itself lists chunks of extensible arrays at wrong places.
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver=version, userblock_size=userblock) as file:
        dataset = file.create_dataset(
            "X",
            shape,
            "<u2",
            maxshape=maxshape,
            chunks=chunks,
            compression=compression,
            fillvalue=9,
        )
        axis = maxshape.index(None)
        some = tuple(slice(1, 3) if i == axis else slice(None) for i in range(len(shape)))
        dataset[some] = np.arange(100, 100 + dataset[some].size).reshape(dataset[some].shape)
        dataset[(-1,) * len(shape)] = 7
    assert_path(path, f"{DIRECT}|{SLABS}")
    check(path)


TOO_LARGE = {
    "samples": ((10**15, 4), (10**6, 4), "There are 1000000000000000 samples in .*set.h5"),
    "contiguous samples": ((10**15, 4), None, "There are 1000000000000000 samples in .*set.h5"),
    "more samples than bytes can be counted": ((2**62, 1), (1, 1), "There are 4611686018427387904"),
    "a sample": ((4, 10**15), (1, 10**9), "set.h5: a sample of 'X' takes 1000000000000000 bytes"),
}


@pytest.mark.parametrize(("shape", "chunks", "message"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_shapes_beyond_memory_are_an_error(tmp_path, shape, chunks, message):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", shape, "u1", chunks=chunks)
    with pytest.raises(FileFormatError, match=message):
        VideoLoader(path, y=None)
    with h5py.File(path, "a") as file:
        file.attrs["sample_count"] = 3
    if shape[0] > 4:  # few of them are in use
        check(path)


# --------------------------------------------------------------------------- sets


@pytest.mark.parametrize(
    "limit",
    [pytest.param(n, marks=pytest.mark.memory_limit(n)) for n in (-1, 4096)],
    ids=["read", "kept"],
)
@pytest.mark.parametrize("chunks", [None, (1,), (4,)], ids=str)
@pytest.mark.parametrize("dtype", ["<i8", ">f4"])
def test_one_dimension(tmp_path, limit, chunks, dtype):
    assert limit == access.MEMORY_ROW_BYTES
    path = tmp_path / "set.h5"
    labels = values((7,), dtype)
    with h5py.File(path, "w") as file:
        file["X"] = values()
        file.create_dataset("Y", data=labels, chunks=chunks)
    for size in (3, None):
        loader = VideoLoader(path, shuffle=Order([6, 2, 2, 0]), batch_size=size)
        got = np.concatenate([np.atleast_1d(y) for _, y in loader])
        np.testing.assert_array_equal(got, labels[[6, 2, 2, 0]])
        assert got.dtype == np.dtype(dtype).newbyteorder("=")


# --------------------------------------------------------------------------- laws


@st.composite
def layouts(draw):
    """Arguments of `create_dataset`: shape, dtype, chunks and filters."""
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple))
    options = {
        "dtype": draw(st.sampled_from(["u1", "<u2", ">i4", "<f4", ">f8", "?", "<c8", ">c8"]))
    }
    if draw(st.booleans()):
        first = draw(st.sampled_from([1, 1, 1, 2]))
        options["chunks"] = (first, *(draw(st.integers(1, 6)) for _ in shape[1:]))
        # HDF5 has another index for no, one and several axes that can grow.
        grows = st.tuples(*(st.booleans() for _ in shape))
        options["maxshape"] = tuple(
            None if can_grow else max(length, chunk)
            for can_grow, length, chunk in zip(draw(grows), shape, options["chunks"], strict=True)
        )
        options["shuffle"] = draw(st.booleans())
        options["fletcher32"] = draw(st.booleans())
        options["compression"] = draw(st.sampled_from([None, "gzip", "lzf"]))
    return shape, options


@pytest.mark.slow
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    layout=layouts(),
    unwritten=st.booleans(),
    version=st.sampled_from(["earliest", "latest"]),
    userblock=st.sampled_from([0, 512]),
    batch_size=st.integers(1, 8) | st.none(),
    num_threads=st.integers(1, 3),
    read_ahead=st.sampled_from([0, 300, None]),
    data=st.data(),
)
def test_every_layout_reads_as_h5py_reads_it(
    tmp_path_factory,
    layout,
    unwritten,
    version,
    userblock,
    batch_size,
    num_threads,
    read_ahead,
    data,
):
    shape, options = layout
    path = tmp_path_factory.mktemp("set") / "set.h5"
    with h5py.File(path, "w", libver=version, userblock_size=userblock) as file:
        fill = np.ones((), options["dtype"])
        dataset = file.create_dataset("X", shape, fillvalue=fill, **options)
        made = values(shape, options["dtype"])
        written = [i for i in range(shape[0]) if not (unwritten and i % 2)]
        for i in written:
            dataset[i] = made[i]
    order = data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=12))
    check(
        path,
        order=order,
        batch_size=batch_size,
        num_threads=num_threads,
        read_ahead_bytes=read_ahead,
    )


def test_ranges_are_announced_to_the_kernel_if_the_disk_is_read(tmp_path, monkeypatch):
    announced = []

    def announce(_fd, offset, size, _advice):
        announced.append((offset, size))

    monkeypatch.setattr(os, "posix_fadvise", announce)
    shape = (4, 3, 128, 128)
    for name, options in (
        ("rows", {}),
        ("chunks", {"chunks": (1, *shape), "compression": "lzf"}),
        ("slabs", {"chunks": (2, 2, 3, 64, 64), "compression": "lzf"}),
    ):
        path = testing.write_video_file(
            tmp_path / f"{name}.h5", num_samples=16, sample_shape=shape, **options
        )
        with VideoLoader(path, y=None, batch_size=8, seed=0, num_threads=1) as loader:
            monkeypatch.setattr(byte_sources, "JUDGED_BYTES", 1)
            monkeypatch.setattr(byte_sources, "SLOW_BYTES_PER_SECOND", 0)
            for _ in loader.batches():
                pass
            assert not announced
            # Everything is slow now: from the second task on, what is read is announced.
            monkeypatch.setattr(byte_sources, "SLOW_BYTES_PER_SECOND", 1e15)
            before = loader.stats.read_bytes
            for _ in range(2):
                for _ in loader.batches():
                    pass
        with h5py.File(path) as file:
            stored = describe(file["X"])
        spans = {(int(o), int(o + s)) for o, s in zip(stored.offsets, stored.sizes, strict=True)}
        assert announced
        for offset, size in announced:
            assert any(begin <= offset and offset + size <= end for begin, end in spans)
        assert 0 < sum(size for _, size in announced) <= 3 * before
        announced.clear()
