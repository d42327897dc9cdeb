from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that HDF5 reads with here
import numpy as np
import pytest
from filters_helpers import (
    BLOSC,
    BLOSC_CHUNK,
    CHUNK,
    FLETCHER,
    GZIP,
    LZ4,
    LZF,
    SHUFFLE,
    SHUFFLE_2,
    ZSTD,
    decoded,
    stored_chunk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import VideoLoader
from h5video_data.planning.access import direct_access
from h5video_data.storage.chunk_runs import HAS_HELPER
from h5video_data.storage.filters import undecodable
from h5video_data.storage.layout import Filter, describe

pytestmark = pytest.mark.usefixtures("own_folder")

JPEG_XL = Filter(32037, "jpeg-xl", ())


PIPELINES = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "shuffle gzip": {"shuffle": True, "compression": 9},
    "shuffle lzf": {"shuffle": True, "compression": "lzf"},
    "shuffle fletcher32": {"shuffle": True, "fletcher32": True},
    "gzip fletcher32": {"compression": "gzip", "fletcher32": True},
    "all with gzip": {"shuffle": True, "compression": "gzip", "fletcher32": True},
    "all with lzf": {"shuffle": True, "compression": "lzf", "fletcher32": True},
}


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4", "<f8", "<c16"])
@pytest.mark.parametrize("options", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("can_be_compressed", [True, False])
def test_decodes_what_hdf5_writes(options, dtype, can_be_compressed):
    raw = np.random.default_rng(0).integers(0, 256, 7 * 480, np.uint8)
    if can_be_compressed:
        raw = np.repeat(raw[::48], 48)
    data = raw.view(dtype)
    filters, mask, stored = stored_chunk(data, **options)
    assert len(filters) == len(options)
    if options.get("compression") == "lzf":
        assert bool(mask) != can_be_compressed  # HDF5 leaves out lzf where it does not help
    assert decoded(filters, mask, stored, data.nbytes) == data.tobytes()


@settings(deadline=None)
@given(
    raw=st.binary(min_size=1, max_size=300),
    item_size=st.sampled_from([1, 2, 4, 8]),
    options=st.sampled_from(list(PIPELINES.values())),
)
def test_decodes_every_length(raw, item_size, options):
    data = np.frombuffer(raw * item_size, f"u{item_size}")
    assert decoded(*stored_chunk(data, **options), data.nbytes) == data.tobytes()


def test_a_mask_switches_filters_off_by_their_number():
    chunk = bytes(range(16))
    packed = zlib.compress(chunk)
    assert decoded([SHUFFLE, GZIP], 0b11, chunk, 16) == chunk
    assert decoded([SHUFFLE, GZIP], 0b01, packed, 16) == chunk
    assert decoded([GZIP, SHUFFLE], 0b10, packed, 16) == chunk


def test_other_filters_are_not_decoded_here():
    assert undecodable([SHUFFLE, JPEG_XL, FLETCHER]) == [JPEG_XL]
    assert undecodable([SHUFFLE, GZIP, FLETCHER]) == []
    assert undecodable([SHUFFLE, LZF, FLETCHER]) == []


def test_codecs_are_there_before_the_threads_are():
    # imagecodecs imports each when it is first asked for: not safe while another thread forks.
    code = "import sys, h5video_data.storage.filters; print('imagecodecs._deflate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


MORE_ITEMS = bytes(range(0, 20, 2)) + bytes(range(1, 20, 2))  # ten of two bytes, shuffled
MORE = {
    "gzip": ([GZIP], zlib.compress(CHUNK + b"more"), 0),
    "gzip, bytes behind the stream": ([GZIP], zlib.compress(CHUNK) + b"more", 0),
    "shuffle gzip": ([SHUFFLE_2, GZIP], zlib.compress(MORE_ITEMS), 0),
    "shuffle": ([SHUFFLE_2], MORE_ITEMS, 0),
    "none applied": ([GZIP], CHUNK + b"more", 1),
    "blosc, bytes behind it": ([BLOSC], BLOSC_CHUNK + b"more", 0),
    "lz4, bytes behind it": ([LZ4], struct.pack(">QII", 16, 16, 16) + CHUNK + b"more", 0),
}


@pytest.mark.parametrize(("filters", "stored", "mask"), MORE.values(), ids=MORE)
def test_of_more_bytes_the_first_ones_are_used_as_by_hdf5(filters, stored, mask):
    assert decoded(filters, mask, stored, 16) == CHUNK
    assert read_by_hdf5(filters, mask, stored, "u2") == CHUNK


def read_by_hdf5(filters, mask, stored, dtype):
    """What h5py makes of the bytes of a chunk of 16 bytes."""
    with written_by_hdf5(filters, np.zeros(16, np.uint8).view(dtype)) as dataset:
        dataset.id.write_direct_chunk((0,), stored, mask)
    with h5py.File("pipeline.h5") as file:
        return file["X"][:].tobytes()


@contextlib.contextmanager
def written_by_hdf5(filters, values):
    """A dataset of one chunk with these filters, in this order."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(values.shape)
    for item in filters:
        plist.set_filter(item.id, h5py.h5z.FLAG_OPTIONAL, item.params)
    with h5py.File("pipeline.h5", "w") as file:
        space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
        dataset = h5py.Dataset(h5py.h5d.create(file.id, b"X", kind, space, plist))
        dataset[:] = values
        yield dataset


ODD = {
    "shuffle of nothing": Filter(2, "shuffle", (0,)),
    "shuffle without a size": Filter(2, "shuffle", ()),
    "shuffle with two sizes": Filter(2, "shuffle", (2, 2)),
    "gzip without a level": Filter(1, "deflate", ()),
    "gzip at level 10": Filter(1, "deflate", (10,)),
    "bitshuffle of complex128": Filter(32008, "bitshuffle", (0, 3, 16, 0, 2)),
    "bitshuffle in odd blocks": Filter(32008, "bitshuffle", (0, 3, 4, 12, 0)),
    "bitshuffle with another codec": Filter(32008, "bitshuffle", (0, 3, 4, 0, 7)),
    "blosc2 without parameters": Filter(32026, "blosc2", (1, 0, 1)),
    "blosc2 without a shape": Filter(32026, "blosc2", (1, 0, 1, 16, 5, 1, 1, 3, 2, 2)),
}


@pytest.mark.parametrize("item", ODD.values(), ids=ODD)
def test_odd_parameters_are_left_to_hdf5(item):
    assert undecodable([item, FLETCHER]) == [item]


ORDERS = {
    "netCDF's": ([FLETCHER, SHUFFLE, GZIP], []),
    "checksums of checksums": ([FLETCHER, FLETCHER, GZIP, FLETCHER, FLETCHER], []),
    "shuffled after compressing": ([GZIP, SHUFFLE], []),
    "shuffled twice": ([SHUFFLE, LZF, SHUFFLE, FLETCHER], []),
    "compressed twice": ([LZF, SHUFFLE, GZIP], [GZIP]),
}


@pytest.mark.parametrize(("filters", "expected"), ORDERS.values(), ids=ORDERS)
def test_one_filter_may_change_the_size_in_an_unknown_way(filters, expected):
    assert undecodable(filters) == expected


COMPRESSORS = [
    None,
    GZIP,
    LZF,
    ZSTD,
    LZ4,
    Filter(32004, "LZ4", (64,)),
    Filter(32001, "blosc", (0, 0, 0, 0, 5, 1, 1)),
    Filter(32026, "blosc2", (0, 0, 0, 0, 5, 1, 5)),
    Filter(32008, "bitshuffle", (0, 0)),
    Filter(32008, "bitshuffle", (0, 2)),
]


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.data())
def test_decodes_pipelines_in_any_order(data):
    dtype = data.draw(st.sampled_from(["u1", "<i2", "<f4", "<f8"]))
    filters = data.draw(st.lists(st.sampled_from([SHUFFLE, FLETCHER]), max_size=4))
    codec = data.draw(st.sampled_from(COMPRESSORS))
    if codec is not None:
        filters.insert(data.draw(st.integers(0, len(filters))), codec)
    count = data.draw(st.sampled_from([1, 7, 64, 500, 3000]))
    step = data.draw(st.sampled_from([1, 16, 10_000]))
    values = (
        np.random.default_rng(0).integers(0, 200, count)[np.arange(count) // step].astype(dtype)
    )
    if not filters:
        return
    with written_by_hdf5(filters, values):
        pass
    with h5py.File("pipeline.h5") as file:
        assert file["X"][:].tobytes() == values.tobytes()
        mask, stored = file["X"].id.read_direct_chunk((0,))
        found = describe(file["X"]).filters
        if undecodable(found):  # HDF5 left out what could not be done, and has other parameters
            return
    assert decoded(found, mask, stored, values.nbytes) == values.tobytes()
    # The same bytes in a pipeline with more filters, which the mask switches off.
    off = data.draw(st.lists(st.booleans(), min_size=len(found) + 1, max_size=len(found) + 1))
    more, more_mask = [], 0
    for number, item in enumerate([*found, None]):
        if off[number]:
            more_mask |= 1 << len(more)
            more.append(FLETCHER)
        if item is not None:
            more_mask |= (mask >> number & 1) << len(more)
            more.append(item)
    assert decoded(more, more_mask, stored, values.nbytes) == values.tobytes()


def test_the_order_of_netcdf_is_read_fast():
    values = np.random.default_rng(0).integers(0, 50, (6, 4, 8, 8)).astype("<i2")
    with written_by_hdf5([FLETCHER, SHUFFLE, GZIP], values):
        pass
    with h5py.File("pipeline.h5") as file:
        # One chunk that holds all six.
        assert direct_access(describe(file["X"])).kind == "chunks"
    with VideoLoader("pipeline.h5", y=None, batch_size=6, shuffle=False) as loader:
        (batch,) = loader
    np.testing.assert_array_equal(batch, values)


HOSTILE = """
import ctypes, itertools, mmap, resource, signal, sys
import hdf5plugin, numpy as np
from h5video_data.storage.chunk_runs import decode_run
from h5video_data.storage.filters import decode_chunk, run_codec
from test_filters import stored_chunk

PAGE = mmap.PAGESIZE
NUMBERS = [0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**40]


def walled(num_bytes):
    # Memory that ends where the process may not read on.
    whole = -(-num_bytes // PAGE) * PAGE
    block = np.frombuffer(mmap.mmap(-1, whole + PAGE), np.uint8)
    libc = ctypes.CDLL(None)
    assert libc.mprotect(ctypes.c_void_p(block.ctypes.data + whole), PAGE, 0) == 0
    return lambda n: block[whole - n : whole]


def damaged(rng, stored):
    data = bytearray(stored)
    kind, place = rng.integers(6), int(rng.integers(min(len(data), 200)))
    if kind == 0:
        return data[: rng.integers(len(data) + 1)]
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data + rng.bytes(rng.integers(1, 60))
    if kind == 3:
        for place in rng.integers(0, len(data), 3):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 4:
        data[place] ^= 1 << rng.integers(8)
    else:
        width = int(rng.choice([1, 2, 4, 8]))
        number = NUMBERS[rng.integers(len(NUMBERS))] % 256**width
        data[place : place + width] = number.to_bytes(width, ["big", "little"][rng.integers(2)])
    return data


resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
inputs, outputs = walled(1 << 18), walled(1 << 17)
arrays = (
    np.arange(12000).reshape(6, 40, 50).astype("<i2") // 7 % 50,
    np.zeros((3, 41, 7), "<f4"),
    np.random.default_rng(0).integers(0, 256, (11, 100), np.uint8),
)
before, num_runs = None, 0
for options, values in itertools.product(eval(sys.argv[1]), arrays):
    filters, mask, stored = stored_chunk(values, **options)
    for seed in range(200):
        data = bytes(damaged(np.random.default_rng(seed), stored))
        place, results = inputs(len(data)), []
        place[:] = np.frombuffer(data, np.uint8)
        signal.alarm(20)
        for filling in (0x5A, 0xA5):
            out = outputs(values.nbytes)
            out[:] = filling
            try:
                decode_chunk(filters, mask, place, out)
                results.append(out.tobytes())
            except ValueError:
                results.append(None)
        # Nothing is left as it was before.
        assert results[0] == results[1], (options, seed)
        codec = run_codec(filters)
        if codec is not None:  # the same chunk twice in a run
            twice, many = np.zeros(2, np.int64), outputs(2 * values.nbytes)
            many[:] = 0x5A
            places = np.array([0, values.nbytes])
            sizes = twice + len(place)
            found = decode_run(codec, place, twice, sizes, many, places, values.nbytes)
            assert found in (0, 2)
            assert not found or many.tobytes() == 2 * results[0], (options, seed)
            num_runs += bool(found)
    before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
print(num_runs)
"""

HOSTILE_OPTIONS = {
    "gzip and lzf": """
        dict(compression='gzip'),
        dict(compression='lzf'),
        dict(shuffle=True, compression='gzip', fletcher32=True),
    """,
    "blocks": """
        hdf5plugin.Zstd(),
        hdf5plugin.LZ4(),
        hdf5plugin.LZ4(nbytes=512),
        hdf5plugin.Bitshuffle(cname='none'),
        hdf5plugin.Bitshuffle(cname='lz4'),
        hdf5plugin.Bitshuffle(cname='zstd', nelems=64),
    """,
    "blosc": """
        hdf5plugin.Blosc(cname='blosclz'),
        hdf5plugin.Blosc(cname='lz4', shuffle=0),
        hdf5plugin.Blosc(cname='zstd', shuffle=2),
        hdf5plugin.Blosc(cname='snappy'),
    """,
    "blosc2": """
        hdf5plugin.Blosc2(cname='blosclz'),
        hdf5plugin.Blosc2(cname='lz4', filters=3),
        hdf5plugin.Blosc2(cname='zlib', filters=2),
        hdf5plugin.Blosc2(cname='zstd', filters=0),
    """,
}


@pytest.mark.parametrize("options", HOSTILE_OPTIONS.values(), ids=HOSTILE_OPTIONS)
def test_damaged_chunks_are_an_error_or_filled(options):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    }
    command = [sys.executable, "-c", HOSTILE, f"[{options}]"]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    assert (int(found.stdout) > 0) == (HAS_HELPER and "Blosc2" not in options)
