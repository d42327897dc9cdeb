"""How each dataset is read: one decision, with its reason, for every way in which it is stored."""

import dataclasses

import h5py
import numpy as np
import pytest
from picture_rows_helpers import as_padded, as_strings, as_variable, jpeg

from h5video_data.planning import access
from h5video_data.planning.access import decide_access, direct_access
from h5video_data.storage.layout import describe
from h5video_data.storage.picture_rows import Decoding, describe_pictures

SHAPE = (12, 4, 3, 5)
ONE = (1, *SHAPE[1:])


def stored(folder, shape=SHAPE, dtype="u1", name="a.h5", **options):
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("X", shape, dtype, **options)[...] = 1
    with h5py.File(folder / name) as file:
        return describe(file["X"])


@pytest.mark.parametrize(
    ("options", "kind", "reason"),
    [
        ({}, "direct", "it is contiguous"),
        ({"chunks": ONE}, "direct", "its chunks are parts of a row"),
        ({"chunks": ONE, "compression": "gzip"}, "direct", "its chunks are parts of a row"),
        ({"chunks": (1, 2, 3, 5)}, "direct", "its chunks are parts of a row"),
        ({"chunks": (4, *SHAPE[1:])}, "direct", "its chunks are parts of a row"),
        ({"chunks": (4, *SHAPE[1:]), "compression": "gzip"}, "chunks", "hold 4"),
        ({"chunks": (1, 4, 3, 2)}, "chunks", "cut through"),
        ({"chunks": ONE, "scaleoffset": 0}, "h5py", "'scaleoffset' is decoded by HDF5"),
    ],
    ids=["contiguous", "one", "gzip", "frames", "many", "many gzip", "columns", "scaleoffset"],
)
def test_without_memory(tmp_path, options, kind, reason):
    part = stored(tmp_path, **options)
    found = direct_access(part)
    assert found.kind == kind
    assert reason in found.reason
    assert (found.ranges is not None) == (kind == "direct")
    assert (found.chunk_rows is not None) == (kind == "chunks")
    assert found.stored is part


def test_what_stands_in_the_way(tmp_path):
    part = dataclasses.replace(stored(tmp_path), obstacle="it is external")
    found = direct_access(part)
    assert (found.kind, found.stored, found.reason) == ("h5py", part, "it is external")


def test_small_labels_are_kept(tmp_path):
    (found,) = decide_access([stored(tmp_path, (12, 10), "f4")], 12, (10,))
    assert found.kind == "memory"
    assert "small" in found.reason
    assert found.without_memory is None  # they take nothing of the memory budget


@pytest.mark.parametrize(
    ("shape", "sample_shape"),
    [((12, 1 + (4 << 10)), (1 + (4 << 10),)), ((12, 5, 6), (5, 6))],
    ids=["large", "of two dimensions"],
)
def test_what_is_no_label_is_read(tmp_path, shape, sample_shape):
    (found,) = decide_access([stored(tmp_path, shape)], 12, sample_shape)
    assert found.kind == "direct"


def test_labels_that_are_many_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(access, "MEMORY_BYTES", 100)
    for num_samples, kind in ((100, "memory"), (101, "direct")):
        (found,) = decide_access([stored(tmp_path, (num_samples, 1))], num_samples, (1,))
        assert found.kind == kind


MANY = {"num_samples": access.MANY_SAMPLES, "budget_nbytes": 10**6}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "memory"),
        ({"num_samples": access.MANY_SAMPLES - 1}, "chunks"),
        ({"budget_nbytes": access.MANY_SAMPLES * 30 - 1}, "chunks"),
        ({"is_whole": False}, "chunks"),
    ],
    ids=["kept", "few", "no budget", "clips"],
)
def test_many_small_samples_are_kept_if_there_is_memory(tmp_path, change, kind):
    part = stored(tmp_path, (access.MANY_SAMPLES, 5, 6), chunks=(1000, 5, 6), compression="lzf")
    options = {**MANY, **change}
    (found,) = decide_access([part], options.pop("num_samples"), (5, 6), **options)
    assert found.kind == kind
    if kind == "memory":
        # It takes a part of the budget; without that, it is read so.
        assert found.without_memory.kind == "chunks"


def test_small_samples_as_many_as_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(access, "MANY_SAMPLES", 12)
    monkeypatch.setattr(access, "MEMORY_ROW_BYTES", 30)
    part = stored(tmp_path, (12, 5, 6))
    (found,) = decide_access([part], 12, (5, 6), budget_nbytes=12 * 30)
    assert (found.kind, found.stored) == ("memory", part)
    assert found.reason == "it has many small samples: read once and kept"
    assert found.without_memory.kind == "direct"


def test_all_parts_are_kept_or_none(tmp_path):
    small = stored(tmp_path, (3, 10), name="a.h5")
    large = stored(tmp_path, (3, 10), "f8", name="b.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "MEMORY_ROW_BYTES", 79)
        found = decide_access([small, large], 6, (10,))
    assert [item.kind for item in found] == ["direct", "direct"]
    assert [item.kind for item in decide_access([small, large], 6, (10,))] == ["memory"] * 2


def test_a_type_that_h5py_has_to_convert(tmp_path):
    (found,) = decide_access([stored(tmp_path, (12, 5000), np.dtype("bool"))], 12, (5000,))
    assert found.kind == ("h5py" if found.stored.obstacle else "direct")
    assert found.reason == (found.stored.obstacle or "it is contiguous")


@pytest.mark.parametrize(
    ("write", "options", "encoded", "reason"),
    [
        (as_strings, {}, "direct", "its rows are pictures (JPEG)"),
        (as_padded, {"chunks": (1,)}, "direct", "its rows are pictures (JPEG)"),
        (
            as_padded, {"chunks": (3,), "compression": "gzip"}, "chunks",
            "its rows are pictures (JPEG); its chunks hold 3 samples each",
        ),
        (as_variable, {}, None, "its rows are pictures (JPEG)"),
    ],
    ids=["strings", "a row a chunk", "three rows a chunk", "variable"],
)  # fmt: skip
def test_pictures(tmp_path, write, options, encoded, reason):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, "video", [jpeg(number) for number in range(6)], **options)
    with h5py.File(tmp_path / "a.h5") as file:
        pictures = describe_pictures(file["video"], Decoding("image"))
    found = direct_access(pictures)
    assert (found.kind, found.reason, found.stored) == ("pictures", reason, pictures)
    assert (found.encoded and found.encoded.kind) == encoded
    assert found.has_positioned_reads == (encoded != "h5py")
    assert (
        decide_access([pictures], 20_000, (24, 32, 3), budget_nbytes=1 << 40)[0].kind == "pictures"
    )


@pytest.mark.parametrize("write", [as_strings, as_variable])
def test_pictures_whose_bytes_h5py_reads(tmp_path, write):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, "video", [jpeg(number) for number in range(6)])
    with h5py.File(tmp_path / "a.h5") as file:
        found = describe_pictures(file["video"], Decoding())
    if found.fixed is None:
        found = dataclasses.replace(found, variable=None, heap_obstacle="it is external")
    else:
        fixed = dataclasses.replace(found.fixed, obstacle="it is external")
        found = dataclasses.replace(found, fixed=fixed)
    decided = direct_access(found)
    assert decided.kind == "pictures"
    assert decided.reason == (
        "its rows are pictures (JPEG), whose bytes are read by h5py: it is external"
    )
    assert (decided.encoded and decided.encoded.kind) == (found.fixed and "h5py")
    assert not decided.has_positioned_reads
