"""Samples whose bytes go straight into their place in the batch."""

from __future__ import annotations

import os
import struct

import h5py
import hdf5plugin
import numpy as np
import pytest
from imagecodecs import lz4_encode
from reading_helpers import check

from h5video_data.errors import ReadError
from h5video_data.loader import VideoLoader
from h5video_data.reading import byte_sources
from h5video_data.storage.file_identity import FileIdentity

pytestmark = [
    pytest.mark.memory_limit(-1),  # everything is read, however small
    pytest.mark.usefixtures("poisoned_buffers"),
]


def test_an_lz4_chunk_of_several_blocks_that_is_as_long_as_if_it_were_not_compressed(
    tmp_path, monkeypatch
):
    half = 420
    rng = np.random.default_rng(0)
    first = rng.bytes(half)
    for zeros in range(4, 80):
        second = rng.bytes(100) + bytes(zeros) + rng.bytes(half - 100 - zeros)
        packed = lz4_encode(second, header=False)
        if len(packed) == half - 4:
            break
    sizes = [(2 * half).to_bytes(8, "big"), half.to_bytes(4, "big")]
    blocks = [half.to_bytes(4, "big"), first, len(packed).to_bytes(4, "big"), packed]
    chunk = b"".join(sizes + blocks)
    assert len(chunk) == 2 * half + 16
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        options = {"dtype": "u1", "chunks": (1, 6, 2, 5, 14), **hdf5plugin.LZ4()}
        dataset = file.create_dataset("X", shape=(4, 6, 2, 5, 14), **options)
        for i in range(4):
            dataset.id.write_direct_chunk((i, 0, 0, 0, 0), chunk)
        # Beside chunks that are as long because they were not compressed.
        for i in (1, 2):
            dataset[i] = rng.integers(0, 256, dataset.shape[1:], np.uint8)
        assert dataset[0].tobytes() == first + second
        assert {dataset.id.get_chunk_info(i).size for i in range(4)} == {len(chunk)}
    check(path)
    monkeypatch.setattr(byte_sources, "open_queue", lambda: None)
    check(path)


def test_an_lz4_chunk_that_does_not_compress(tmp_path, monkeypatch):
    path = tmp_path / "set.h5"
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 2, 5, 14), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=noise, chunks=(1, 6, 2, 5, 14), **hdf5plugin.LZ4(nbytes=0))
    check(path)
    check(path, batch_size=1)
    monkeypatch.setattr(byte_sources, "open_queue", lambda: None)
    check(path)


def test_an_lz4_chunk_that_does_not_compress_and_is_cut_short(tmp_path, monkeypatch):
    path = tmp_path / "set.h5"
    noise = np.random.default_rng(0).integers(0, 256, (8, 840), np.uint8)
    with h5py.File(path, "w") as file:
        options = {"dtype": "u1", "chunks": (1, 840), **hdf5plugin.LZ4(nbytes=0)}
        last = file.create_dataset("X", data=noise, **options).id.get_chunk_info(7)
    assert last.size == 856
    with VideoLoader(path, y=None, shuffle=False, batch_size=8) as loader:
        identity = FileIdentity.of(os.stat(path))
        monkeypatch.setattr(FileIdentity, "of", lambda _: identity)
        os.truncate(path, last.byte_offset + 855)
        with pytest.raises(ReadError, match="sample 7: the file ends 1 bytes too early"):
            list(loader)


@pytest.mark.parametrize("sizes", [(839, 840, 840), (840, 839, 840), (840, 840, 839)])
def test_an_lz4_chunk_whose_sizes_are_wrong(tmp_path, sizes):
    path = tmp_path / "set.h5"
    chunk = struct.pack(">QII", *sizes) + np.random.default_rng(0).bytes(840)
    with h5py.File(path, "w") as file:
        options = {"dtype": "u1", "chunks": (1, 840), **hdf5plugin.LZ4(nbytes=0)}
        file.create_dataset("X", (1, 840), **options).id.write_direct_chunk((0, 0), chunk)
    with pytest.raises(ReadError, match="sample 0"), VideoLoader(path, y=None) as loader:
        list(loader)
