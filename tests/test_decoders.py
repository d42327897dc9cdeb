"""Decoders of single filters: whole, damaged, and of odd sizes."""

from __future__ import annotations

import contextlib
import struct
import zlib

import imagecodecs
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
    ZSTD,
    decoded,
    stored_chunk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data.storage.filters import decode_chunk
from h5video_data.storage.layout import Filter


def test_shuffle_leaves_bytes_beyond_whole_items():
    # H5Zshuffle.c; such chunks come from programs that set the size of an item by hand.
    assert decoded([SHUFFLE], 0, b"aAbBcCdDxyz", 11) == b"abcdABCDxyz"


BITSHUFFLE_LZ4 = Filter(32008, "bitshuffle", (0, 3, 1, 0, 2))


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
        "cut short by 12 bytes",
    ),
    "lz4: a great block cut short": (
        [LZ4],
        struct.pack(">QII", 16, 2**32 - 1, 2**32 - 1) + b"0123",
        "cut short by 4294967291 bytes",
    ),
    "lz4: a block is missing": ([LZ4], struct.pack(">QII", 16, 8, 8) + bytes(8), "cut short by 4 "),
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
    "bitshuffle: no blocks": (
        [BITSHUFFLE_LZ4],
        struct.pack(">QI", 16, 8192),
        "cut short by 4 bytes",
    ),
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
