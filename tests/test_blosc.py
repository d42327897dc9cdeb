"""Blosc and Blosc2: chunks of blocks, whole and damaged."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest
from filters_helpers import decoded, stored_chunk
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import VideoLoader

pytestmark = pytest.mark.usefixtures("own_folder")


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
