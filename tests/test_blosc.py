"""Blosc and Blosc2: chunks of blocks, whole and damaged."""

from __future__ import annotations

import struct

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from filters_helpers import decoded, stored_chunk
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import VideoLoader
from h5video_data.storage.layout import Filter

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


BLOSC2 = Filter(32026, "blosc2", (1, 0, 2, 192))
VALUES = np.arange(96, dtype="<i2") % 7
WHOLE = imagecodecs.blosc2_encode(VALUES, typesize=2)


def frame_of(chunk, *, offset=bytes(8), nbytes=VALUES.nbytes, shapes=None):
    """A frame of one chunk, as in README_CFRAME_FORMAT.rst of c-blosc2, without a trailer."""
    extra = b""
    if shapes is not None:
        numbers = b"".join(
            struct.pack(">x" + len(shape) * f"x{kind}", *shape)
            for shape, kind in zip(shapes, "qii", strict=True)
        )
        extra = b"\xa4b2nd\xd2" + struct.pack(">I5x2xB", 87 + 10, len(shapes[0])) + numbers
    index = imagecodecs.blosc2_encode(offset, typesize=8)
    header = 87 + len(extra)
    total = header + len(chunk) + len(index)
    fields = (b"b2frame\0", header, total, nbytes, len(chunk), 2)
    return struct.pack(">2x8sxIxQ6xQxQxi35x", *fields) + extra + chunk + index


def changed(chunk, place, *numbers):
    return chunk[:place] + bytes(numbers) + chunk[place + len(numbers) :]


@pytest.mark.parametrize("shapes", [None, ([8, 12], [8, 12], [8, 12])])
def test_a_frame_around_a_chunk_of_the_first_blosc(shapes):
    chunk = imagecodecs.blosc_encode(VALUES.tobytes(), typesize=2)
    found = decoded([BLOSC2], 0, frame_of(chunk, shapes=shapes), VALUES.nbytes)
    assert found == VALUES.tobytes()


@pytest.mark.parametrize("shapes", [None, ([8, 12], [8, 12], [8, 12])])
def test_frames_of_blosc2_without_a_trailer(shapes):
    found = decoded([BLOSC2], 0, frame_of(WHOLE, shapes=shapes), VALUES.nbytes)
    assert found == VALUES.tobytes()


def test_a_frame_of_zeros_has_no_chunk():
    frame = frame_of(b"", offset=bytes(7) + b"\x81")
    assert decoded([BLOSC2], 0, frame, VALUES.nbytes) == bytes(VALUES.nbytes)


@pytest.mark.parametrize(
    ("frame", "message"),
    {
        "another format": (b"b3frame\0".join(frame_of(WHOLE).split(b"b2frame\0")), "not a frame"),
        "another size": (frame_of(WHOLE, nbytes=190), "190 bytes instead of 192"),
        "longer than the frame": (frame_of(WHOLE) + b"\0", r"\d+ bytes instead of \d+"),
        "no values": (frame_of(b"", offset=bytes(7) + b"\x82"), "that is not all zeros"),
        "elsewhere": (frame_of(WHOLE, offset=b"\x09" + bytes(7)), "does not come first"),
        "cut short": (frame_of(WHOLE[:-1]), "cut short"),
        "no header": (
            frame_of(changed(WHOLE[:16], 12, 16, 0, 0, 0)), "too short for its header: 16"
        ),
        "order of filters": (frame_of(changed(WHOLE, 16, 1, 3, 0)), "order that cannot be undone"),
        "uninitialized": (frame_of(changed(WHOLE, 31, 4 << 4)), "special chunk without values"),
        "chunks": (
            frame_of(WHOLE, shapes=([8, 12], [4, 24], [4, 12])), r"\[8, 12\] in chunks of .*\[4, 24"
        ),
        "blocks of nothing": (
            frame_of(WHOLE, shapes=([8, 12], [8, 12], [0, 12])), r"blocks of shape \[0, 12\]"
        ),
        "large blocks": (
            frame_of(WHOLE, shapes=([8, 12], [8, 12], [9, 12])), r"blocks of shape \[9, 12\]"
        ),
        "no axes": (frame_of(WHOLE, shapes=([], [], [])), r"an array of shape \[\] instead of"),
        "another shape": (
            frame_of(WHOLE, shapes=([8, 13], [8, 13], [8, 13])), "208 bytes instead of 192"
        ),
    }.values(),
)  # fmt: skip
def test_frames_of_blosc2_that_say_something_else(frame, message):
    with pytest.raises(ValueError, match=message):
        decoded([BLOSC2], 0, frame, VALUES.nbytes)


def test_a_frame_of_another_shape_than_the_filter_says():
    filters = [Filter(32026, "blosc2", (1, 0, 2, 192, 5, 1, 0, 2, 12, 8))]
    with pytest.raises(ValueError, match=r"shape \[8, 12\] instead of \[12, 8\]"):
        decoded(filters, 0, frame_of(WHOLE, shapes=([8, 12], [8, 12], [8, 12])), VALUES.nbytes)
