from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import VideoLoader
from h5video_data.planning.access import direct_access
from h5video_data.storage.filters import decode_chunk, undecodable
from h5video_data.storage.layout import Filter, describe

GZIP = Filter(1, "deflate", (4,))
SHUFFLE = Filter(2, "shuffle", (4,))
FLETCHER = Filter(3, "fletcher32", ())
LZF = Filter(32000, "lzf", (4, 261, 64))
JPEG_XL = Filter(32037, "jpeg-xl", ())


def stored_chunk(data, **options):
    """The filters, mask and bytes that h5py makes of an array which is one chunk."""
    with h5py.File("chunk.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("X", data=data, chunks=data.shape, **options)
        mask, stored = dataset.id.read_direct_chunk((0,) * data.ndim)
        plist = dataset.id.get_create_plist()
        filters = []
        for number in range(plist.get_nfilters()):
            code, _, params, name = plist.get_filter(number)
            filters.append(Filter(code, name.decode(), tuple(params)))
        return filters, mask, stored


def decoded(filters, mask, stored, num_bytes):
    out = np.full(num_bytes, 0xA5, np.uint8)
    decode_chunk(filters, mask, stored, out)
    return out.tobytes()


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


def test_shuffle_leaves_bytes_beyond_whole_items():
    # H5Zshuffle.c; such chunks come from programs that set the size of an item by hand.
    assert decoded([SHUFFLE], 0, b"aAbBcCdDxyz", 11) == b"abcdABCDxyz"


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


LZ4 = Filter(32004, "LZ4", ())
BLOSC = Filter(32001, "blosc", (2, 2, 1, 16))
ZSTD = Filter(32015, "zstd", ())
BITSHUFFLE_LZ4 = Filter(32008, "bitshuffle", (0, 3, 1, 0, 2))
BLOSC_CHUNK = imagecodecs.blosc_encode(bytes(range(16)))
PACKED = zlib.compress(b"0123456789abcdef")
CORRUPT = {
    "gzip: no zlib": ([GZIP], b"0123456789abcdef", "deflate: "),
    "gzip: nothing": ([GZIP], b"", "deflate: "),
    "gzip: cut short": ([GZIP], PACKED[:-6], "deflate: "),
    "gzip: wrong checksum": ([GZIP], PACKED[:-1] + b"!", "deflate: "),
    "gzip: too little": ([GZIP], zlib.compress(b"0123"), "4 bytes instead of 16"),
    "gzip: far too much": ([GZIP], zlib.compress(bytes(1 << 20)), "more than 65568 bytes"),
    "gzip: too much, wrong checksum": ([GZIP], zlib.compress(bytes(17))[:-1] + b"!", "deflate: "),
    "gzip, then too little to unshuffle": ([SHUFFLE, GZIP], zlib.compress(b"0123"), "4 .* of 16"),
    "lzf: bad reference": ([LZF], b"\xff\xff\xff\xff", "lzf: "),
    "lzf: nothing": ([LZF], b"", "lzf: |0 bytes instead of 16"),
    "lzf: too little": ([LZF], b"\x03abcd", "4 bytes instead of 16"),
    "lzf: too much": ([LZF], b"\x1f" + b"a" * 32, "lzf: "),
    "shuffle: too little": ([SHUFFLE], b"0123", "4 bytes instead of 16"),
    "fletcher32: wrong": ([FLETCHER], b"0123456789abcdef\0\0\0\0", "the checksum is wrong"),
    "fletcher32: too short": ([FLETCHER], b"012", "too short for a checksum: 3 bytes"),
    "lz4: too short": ([LZ4], struct.pack(">Q", 16), "too short for its header: 8 bytes"),
    "lz4: terabytes": ([LZ4], struct.pack(">QII", 1 << 40, 1 << 30, 4) + b"0123", "1099511627776 "),
    "lz4: a block cut short": (
        [LZ4],
        struct.pack(">QII", 16, 16, 16) + b"0123",
        "20 bytes instead of 32",
    ),
    "lz4: a great block cut short": (
        [LZ4],
        struct.pack(">QII", 16, 2**32 - 1, 2**32 - 1) + b"0123",
        "20 bytes instead of 4294967311",
    ),
    "lz4: a block is missing": ([LZ4], struct.pack(">QII", 16, 8, 8) + bytes(8), "more blocks"),
    "lz4: blocks of nothing": ([LZ4], struct.pack(">QII", 16, 0, 0), "blocks of 0 bytes"),
    "blosc: nothing": ([BLOSC], b"", "too short for its header: 0 bytes"),
    "blosc: cut short": ([BLOSC], BLOSC_CHUNK[:-1], "cut short: 31 bytes instead of 32"),
    "blosc: too much": ([BLOSC], imagecodecs.blosc_encode(bytes(17)), "17 bytes instead of 16"),
    "zstd: nothing": ([ZSTD], b"", "0 bytes instead of 16|zstd: "),
    # A frame of one block, stored raw, whose header has no size; h5py raises as well.
    "zstd: no size": ([ZSTD], b"\x28\xb5\x2f\xfd\0\x50\x81\0\0" + bytes(16), "how many bytes"),
    "zstd: too much": ([ZSTD], imagecodecs.zstd_encode(bytes(17)), "zstd: "),
    "bitshuffle: too short": ([BITSHUFFLE_LZ4], bytes(11), "too short for its header: 11 bytes"),
    "bitshuffle: terabytes": ([BITSHUFFLE_LZ4], struct.pack(">QI", 1 << 40, 8192), "1099511627776"),
    "bitshuffle: no blocks": ([BITSHUFFLE_LZ4], struct.pack(">QI", 16, 8192), "too short"),
    "bitshuffle: odd blocks": ([BITSHUFFLE_LZ4], struct.pack(">QI", 16, 12), "12 items"),
    "bitshuffle: the rest cut short": (
        [Filter(32008, "bitshuffle", (0, 3, 4, 0, 2))],
        struct.pack(">QI", 16, 8192) + b"x",
        "cut short",
    ),
    "bitshuffle: no size of an item": ([Filter(32008, "bitshuffle", (0, 3))], bytes(16), "no size"),
    "no filter: too little": ([], b"0123", "4 bytes instead of 16"),
}


@pytest.mark.parametrize(("filters", "stored", "message"), CORRUPT.values(), ids=CORRUPT)
def test_corrupt_bytes(filters, stored, message):
    with pytest.raises(ValueError, match=message):
        decoded(filters, 0, stored, 16)


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_fletcher32_sees_every_changed_byte(place):
    data = np.arange(36, dtype=np.uint8)
    filters, mask, stored = stored_chunk(data, fletcher32=True)
    changed = bytearray(stored)
    changed[place] ^= 0x10
    with pytest.raises(ValueError, match="checksum is wrong"):
        decoded(filters, mask, bytes(changed), 36)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.lists(st.sampled_from([GZIP, SHUFFLE, FLETCHER, LZF])))
def test_rubbish_is_an_error_or_fills_the_chunk(stored, filters):
    out = np.full(24, 0xA5, np.uint8)
    with contextlib.suppress(ValueError):
        decode_chunk(filters, 0, stored, out[4:20])
    assert (out[:4] == 0xA5).all()  # nothing is written outside
    assert (out[20:] == 0xA5).all()


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_decodes_the_blocks_of_blosc2(data):
    rank = data.draw(st.integers(1, 5))
    shape = tuple(data.draw(st.integers(1, 70 if axis > rank - 3 else 5)) for axis in range(rank))
    dtype = data.draw(st.sampled_from(["u1", "<i2", "<f4", "<f8"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    kind = data.draw(st.sampled_from(["zeros", "same", "steps", "noise"]))
    values = {
        "zeros": np.zeros(shape),
        "same": np.full(shape, 7),
        "steps": np.arange(np.prod(shape)).reshape(shape) // 3 % 100,
        "noise": rng.integers(0, 100, shape),
    }[kind].astype(dtype)
    options = hdf5plugin.Blosc2(
        cname=data.draw(st.sampled_from(["blosclz", "lz4", "lz4hc", "zlib", "zstd"])),
        clevel=data.draw(st.integers(0, 9)),
        filters=data.draw(st.integers(0, 3)),
    )
    filters, mask, stored = stored_chunk(values, **options)
    assert decoded(filters, mask, stored, values.nbytes) == values.tobytes()


CHUNK = bytes(range(16))
MORE_ITEMS = bytes(range(0, 20, 2)) + bytes(range(1, 20, 2))  # ten of two bytes, shuffled
SHUFFLE_2 = Filter(2, "shuffle", (2,))
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


@pytest.mark.parametrize("block_nbytes", [16, 17, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("raw", [True, False])
def test_a_block_of_lz4_may_claim_more_bytes_than_the_chunk_has(block_nbytes, raw):
    block = CHUNK if raw else imagecodecs.lz4_encode(bytes(16))
    stored = struct.pack(">QII", 16, block_nbytes, len(block)) + block
    assert decoded([LZ4], 0, stored, 16) == (CHUNK if raw else bytes(16))


@pytest.mark.parametrize("item_size", [5, 16, 17, 100, 1000, 1001, 0xFFFFFFFE])
def test_shuffle_of_items_of_any_size(item_size):
    data = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    count = len(data) // item_size
    body = data[: count * item_size].reshape(count, item_size).T.ravel()
    stored = np.concatenate([body, data[count * item_size :]])
    assert decoded([Filter(2, "shuffle", (item_size,))], 0, stored, 1000) == data.tobytes()


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


CODECS = [
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


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_decodes_pipelines_in_any_order(data):
    dtype = data.draw(st.sampled_from(["u1", "<i2", "<f4", "<f8"]))
    filters = data.draw(st.lists(st.sampled_from([SHUFFLE, FLETCHER]), max_size=4))
    codec = data.draw(st.sampled_from(CODECS))
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
from h5video_data.storage.filters import decode_chunk
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
before = None
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
    before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
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
    subprocess.run([sys.executable, "-c", HOSTILE, f"[{options}]"], env=environment, check=True)


def test_a_chunk_of_blosc_cut_short_is_left_out():
    values = np.random.default_rng(0).integers(0, 255, (3, 1, 1 << 20), np.uint8)
    with h5py.File("blosc.h5", "w") as file:
        options = hdf5plugin.Blosc(cname="lz4")
        dataset = file.create_dataset("X", data=values, chunks=(1, 1, 1 << 20), **options)
        _, stored = dataset.id.read_direct_chunk((1, 0, 0))
        dataset.id.write_direct_chunk((1, 0, 0), stored[:20], 0)
    with VideoLoader("blosc.h5", y=None, batch_size=3, shuffle=False, on_error="skip") as loader:
        (batch,) = loader
        assert "cut short: 20 bytes instead of" in str(loader.skipped)
    np.testing.assert_array_equal(batch, values[[0, 2]])


@pytest.mark.parametrize("cut", [0, 5, 60, 200, -1])
def test_a_damaged_frame_of_blosc2_is_an_error(cut):
    values = np.random.default_rng(0).integers(0, 100, (6, 40, 50)).astype("<i2")
    filters, mask, stored = stored_chunk(values, **hdf5plugin.Blosc2())
    with pytest.raises(ValueError, match=r"too short|not a frame|bytes instead of"):
        decoded(filters, mask, stored[:cut], values.nbytes)
