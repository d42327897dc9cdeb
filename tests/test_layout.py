from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from layout_helpers import SHAPE, described

from h5video_data import inspect
from h5video_data.errors import (
    FileFormatError,
    UnsupportedDtypeError,
    VideoFileNotFoundError,
)
from h5video_data.storage.external import allowing_external
from h5video_data.storage.file_identity import FileIdentity
from h5video_data.storage.layout import Filter, describe


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


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


def test_filters_in_the_order_of_writing(path):
    stored = described(path, chunks=(1, 4, 3), compression=7, shuffle=True, fletcher32=True)
    assert stored.filters == (
        Filter(2, "shuffle", (2,)),
        Filter(1, "deflate", (7,)),
        Filter(3, "fletcher32", ()),
    )


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
    with h5py.File("../files/set.h5") as file, allowing_external(True):
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


@pytest.mark.parametrize("userblock", [0, 512])
def test_never_written_and_contiguous(tmp_path, userblock):
    # HDF5 reports an offset in a file with a userblock.
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=userblock) as file:
        stored = describe(file.create_dataset("X", (5, 3), "u1"))
    assert stored.obstacle == "no values were written to it yet"
