"""Many chunks decoded in one call by the compiled helper, and the same without it."""

from __future__ import annotations

import ctypes
import zlib

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from filters_helpers import BLOSC, GZIP, LZ4, LZF, SHUFFLE, ZSTD, decoded, stored_chunk

import h5video_data as h5v
from h5video_data.errors import ReadError
from h5video_data.reading import stored_chunks
from h5video_data.storage import chunk_runs, codecs
from h5video_data.storage.chunk_runs import HAS_HELPER, RunCodec, can_decode, decode_run
from h5video_data.storage.filters import run_codec

needs_helper = pytest.mark.skipif(not HAS_HELPER, reason="the helper was not compiled")

CODECS = {
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "zstd": dict(hdf5plugin.Zstd()),
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4 in small blocks": dict(hdf5plugin.LZ4(nbytes=1000)),
    "blosc": dict(hdf5plugin.Blosc()),
    "blosc, zstd": dict(hdf5plugin.Blosc(cname="zstd", shuffle=2)),
}
# Bytes that compress, that hardly do, and a chunk of one byte.
CHUNKS = {
    "smooth": lambda rng: (np.arange(50_000) // 100 + rng.integers(9)).astype(np.uint8),
    "half noise": lambda rng: rng.integers(0, 16, 50_000).astype(np.uint8),
    "one byte": lambda rng: rng.integers(0, 9, 1).astype(np.uint8),
}


def encoded_run(options, values):
    """The filters, and arguments of `decode_run`: the chunks lie apart, and go to places apart."""
    found = [stored_chunk(value, **options) for value in values]
    (filters, *_), sizes = found[0], np.array([len(stored) for _, _, stored in found])
    starts = np.cumsum(sizes + 3) - sizes
    data = np.full(starts[-1] + sizes[-1] + 3, 0xEE, np.uint8)
    for start, (_, mask, stored) in zip(starts, found, strict=True):
        assert not mask
        data[start : start + len(stored)] = np.frombuffer(stored, np.uint8)
    nbytes = values[0].nbytes
    # The last one goes to the first place.
    places = (nbytes + 5) * np.arange(len(values))[::-1].copy()
    return filters, data, starts, sizes, places, nbytes


def expected(values, places, target_nbytes):
    target = np.full(target_nbytes, 0xA5, np.uint8)
    for place, value in zip(places, values, strict=True):
        target[place : place + value.nbytes] = value
    return target


@needs_helper
@pytest.mark.parametrize("make", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_a_run_is_what_hdf5_wrote(options, make):
    rng = np.random.default_rng(0)
    values = [make(rng) for _ in range(5)]
    if min(stored_chunk(value, **options)[1] for value in values):
        pytest.skip("HDF5 stores so little without the filter")
    filters, data, starts, sizes, places, nbytes = encoded_run(options, values)
    target = np.full(5 * (nbytes + 5), 0xA5, np.uint8)
    codec = run_codec(filters)
    assert decode_run(codec, data, starts, sizes, target, places, nbytes) == 5
    np.testing.assert_array_equal(target, expected(values, places, len(target)))


DAMAGE = {
    "nothing": lambda chunk: chunk[:0],
    "cut short": lambda chunk: chunk[: len(chunk) // 2],
    "its head": lambda chunk: chunk[:5],
    "zeros": np.zeros_like,
}


@needs_helper
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_a_run_ends_before_a_damaged_chunk(options, damage):
    rng = np.random.default_rng(1)
    values = [CHUNKS["smooth"](rng) for _ in range(4)]
    filters, data, starts, sizes, places, nbytes = encoded_run(options, values)
    bad = damage(data[starts[2] : starts[2] + sizes[2]])
    data[starts[2] : starts[2] + len(bad)] = bad
    sizes[2] = len(bad)
    target = np.zeros(4 * (nbytes + 5), np.uint8)
    codec = run_codec(filters)
    assert decode_run(codec, data, starts, sizes, target, places, nbytes) == 2
    for number in (0, 1):
        found = target[places[number] : places[number] + nbytes]
        np.testing.assert_array_equal(found, values[number])
    assert not target[places[3] : places[3] + nbytes].any()


@needs_helper
@pytest.mark.parametrize("nbytes", [49_999, 50_001])
@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_a_chunk_of_another_size_is_not_decoded(options, nbytes):
    values = [CHUNKS["half noise"](np.random.default_rng(2))]
    filters, data, starts, sizes, places, _ = encoded_run(options, values)
    target = np.zeros(60_000, np.uint8)
    assert decode_run(run_codec(filters), data, starts, sizes, target, places, nbytes) == 0
    assert not target[nbytes:].any()


@needs_helper
def test_a_frame_that_does_not_say_its_size_is_not_decoded():
    # As HDF5's own filter refuses it. The bits of the fifth byte say so.
    data = np.frombuffer(bytes.fromhex("28b52ffd 00 58 090000 78"), np.uint8)
    assert imagecodecs.zstd_decode(data, out=1) == b"x"
    zero = np.zeros(1, np.int64)
    size = np.array([len(data)])
    assert decode_run(run_codec([ZSTD]), data, zero, size, np.zeros(9, np.uint8), zero, 1) == 0


@needs_helper
def test_lz4_whose_header_states_another_size_is_not_decoded():
    values = [CHUNKS["smooth"](np.random.default_rng(6))]
    filters, data, starts, sizes, places, nbytes = encoded_run(CODECS["lz4"], values)
    target = np.zeros(nbytes, np.uint8)
    assert decode_run(run_codec(filters), data, starts, sizes, target, places, nbytes) == 1
    data[starts[0] + 7] ^= 1
    assert decode_run(run_codec(filters), data, starts, sizes, target, places, nbytes) == 0


@needs_helper
@pytest.mark.parametrize(
    ("start", "size", "place", "nbytes"),
    [
        *[(-1, 4, 0, 8), (0, -4, 0, 8), (6, 3, 0, 8), (0, 9, 0, 8), (0, 4, -1, 8), (0, 4, 1, 8)],
        *[(2**62, 2**62, 0, 8), (0, 4, 2**63 - 8, 8), (0, 4, 0, 2**63), (0, 4, 0, 0)],
    ],
)
def test_chunks_outside_of_their_arrays_are_refused(start, size, place, nbytes):
    arguments = [np.array([item]) for item in (start, size, place)]
    data, target = np.zeros(8, np.uint8), np.zeros(8, np.uint8)
    with pytest.raises(ValueError, match="outside of their arrays"):
        decode_run(run_codec([GZIP]), data, *arguments[:2], target, arguments[2], nbytes)


@needs_helper
def test_a_target_that_cannot_be_written_is_refused():
    target = np.zeros(8, np.uint8)
    target.flags.writeable = False
    zero = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="outside of their arrays"):
        decode_run(run_codec([GZIP]), np.zeros(8, np.uint8), zero, zero, target, zero, 8)


@needs_helper
@pytest.mark.parametrize(("size", "num_calls"), [(0, 0), (1, 1)])
def test_lzf_which_reads_a_byte_of_nothing_is_not_asked(monkeypatch, size, num_calls):
    calls = []
    unsigned, pointer = ctypes.c_uint, ctypes.c_void_p
    record = ctypes.CFUNCTYPE(unsigned, pointer, unsigned, pointer, unsigned)(
        lambda *arguments: calls.append(arguments) or 0
    )
    address = ctypes.cast(record, pointer).value
    monkeypatch.setattr(chunk_runs, "_functions", lambda _: (address, 0, 0))
    zero = np.zeros(1, np.int64)
    codec = codecs.CODECS[LZF.id].run
    sizes, target = np.array([size]), np.zeros(8, np.uint8)
    assert decode_run(codec, np.zeros(8, np.uint8), zero, sizes, target, zero, 8) == 0
    assert len(calls) == num_calls


def test_only_single_codecs_decode_in_runs():
    for codec in (GZIP, LZF, LZ4, BLOSC, ZSTD):
        assert (run_codec([codec]) is not None) == HAS_HELPER
        assert run_codec([SHUFFLE, codec]) is None
    assert run_codec([SHUFFLE]) is None
    assert run_codec([]) is None


@pytest.mark.parametrize("where", ["module", "decode", "begin", "end"])
def test_functions_that_are_not_there(where):
    deflate = run_codec([GZIP]) or RunCodec("deflate", "_deflate", "libdeflate_zlib_decompress")
    assert not can_decode(deflate._replace(**{where: "none_such"}))


@needs_helper
def test_a_name_that_the_helper_does_not_have():
    zero = np.zeros(1, np.int64)
    codec = run_codec([GZIP])._replace(name="none such")
    with pytest.raises(ValueError, match="no such codec: none such"):
        decode_run(codec, np.zeros(8, np.uint8), zero, zero, np.zeros(8, np.uint8), zero, 8)


# --------------------------------------------------------------------------- through the reader


def read_all(path):
    with h5v.VideoLoader(path, y=None, batch_size=7, shuffle=False, num_threads=2) as loader:
        return np.concatenate([arrays[0].copy() for _, _, arrays in loader.batches()])


@pytest.mark.parametrize("has_helper", [True, False])
@pytest.mark.parametrize("chunks", [(1, 8, 8), (1, 4, 8), (5, 8, 8)])
@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_values_are_the_same_with_and_without_the_helper(
    tmp_path, monkeypatch, options, chunks, has_helper
):
    monkeypatch.setattr(chunk_runs, "HAS_HELPER", HAS_HELPER and has_helper)
    values = np.random.default_rng(3).integers(0, 9, (30, 8, 8), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=values, chunks=chunks, **options)
    np.testing.assert_array_equal(read_all(tmp_path / "a.h5"), values)


def write_streams(path, streams, values):
    with h5py.File(path, "w") as file:
        X = file.create_dataset(
            "X", values.shape, "u1", chunks=(1, *values.shape[1:]), **CODECS["gzip"]
        )
        for number, stream in enumerate(streams):
            X.id.write_direct_chunk((number, 0, 0), stream)


@pytest.mark.parametrize("odd", [(2,), (0, 5), range(12)])
def test_streams_of_more_bytes_than_a_chunk_are_read_as_hdf5_does(tmp_path, monkeypatch, odd):
    values = np.random.default_rng(4).integers(0, 9, (12, 8, 8), np.uint8)
    streams = [
        zlib.compress(value.tobytes() + (b"more" if number in odd else b""))
        for number, value in enumerate(values)
    ]
    write_streams(tmp_path / "a.h5", streams, values)
    calls, decode = [], stored_chunks.decode_run
    monkeypatch.setattr(stored_chunks, "decode_run", lambda *args: calls.append(1) or decode(*args))
    np.testing.assert_array_equal(read_all(tmp_path / "a.h5"), values)
    assert len(calls) < 12


def test_a_damaged_chunk_in_a_run_is_named(tmp_path):
    values = np.random.default_rng(5).integers(0, 9, (12, 8, 8), np.uint8)
    streams = [zlib.compress(value.tobytes()) for value in values]
    streams[8] = streams[8][:-3]
    write_streams(tmp_path / "a.h5", streams, values)
    with pytest.raises(ReadError, match="sample 8: deflate: "):
        read_all(tmp_path / "a.h5")


def test_decoding_one_by_one_gives_the_same_error():
    with pytest.raises(ValueError, match="deflate: "):
        decoded([GZIP], 0, b"none", 16)


def test_a_chunk_without_its_filter_is_no_stream_even_if_it_looks_like_one(tmp_path):
    raw = zlib.compress(bytes(320)).ljust(320, b"\0")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        X = file.create_dataset("X", (5, 8, 8), "u1", chunks=(5, 8, 8), compression="gzip")
        X.id.write_direct_chunk((0, 0, 0), raw, filter_mask=1)
    np.testing.assert_array_equal(read_all(tmp_path / "a.h5").ravel(), np.frombuffer(raw, np.uint8))
