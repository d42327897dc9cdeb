from __future__ import annotations

import contextlib
import subprocess
import sys
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data.filters import decode_chunk, undecodable
from h5video_data.layout import Filter

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
    code = "import sys, h5video_data.filters; print('imagecodecs._deflate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


PACKED = zlib.compress(b"0123456789abcdef")
CORRUPT = {
    "gzip: no zlib": ([GZIP], b"0123456789abcdef", "deflate: "),
    "gzip: nothing": ([GZIP], b"", "deflate: "),
    "gzip: cut short": ([GZIP], PACKED[:-6], "deflate: "),
    "gzip: wrong checksum": ([GZIP], PACKED[:-1] + b"!", "deflate: "),
    "gzip: too little": ([GZIP], zlib.compress(b"0123"), "4 bytes instead of 16"),
    "gzip: too much": ([GZIP], zlib.compress(b"0" * 17), "deflate: "),
    "gzip, then too little to unshuffle": ([SHUFFLE, GZIP], zlib.compress(b"0123"), "4 .* of 16"),
    "lzf: bad reference": ([LZF], b"\xff\xff\xff\xff", "lzf: "),
    "lzf: nothing": ([LZF], b"", "lzf: |0 bytes instead of 16"),
    "lzf: too little": ([LZF], b"\x03abcd", "4 bytes instead of 16"),
    "lzf: too much": ([LZF], b"\x1f" + b"a" * 32, "lzf: "),
    "shuffle: too little": ([SHUFFLE], b"0123", "4 instead of 16"),
    "shuffle: too much": ([SHUFFLE], b"0" * 20, "20 instead of 16"),
    "fletcher32: wrong": ([FLETCHER], b"0123456789abcdef\0\0\0\0", "fletcher32 checksum is wrong"),
    "fletcher32: too short": ([FLETCHER], b"012", "too short for a checksum: 3 bytes"),
    "no filter: too little": ([], b"0123", "4 bytes instead of 16"),
    "no filter: too much": ([], b"0" * 17, "17 bytes instead of 16"),
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


@pytest.mark.parametrize("cut", [0, 5, 60, 200, -1])
def test_a_damaged_frame_of_blosc2_is_an_error(cut):
    values = np.random.default_rng(0).integers(0, 100, (6, 40, 50)).astype("<i2")
    filters, mask, stored = stored_chunk(values, **hdf5plugin.Blosc2())
    with contextlib.suppress(ValueError):
        result = decoded(filters, mask, stored[:cut], values.nbytes)
        assert result == values.tobytes()  # only the end of the frame is missing
