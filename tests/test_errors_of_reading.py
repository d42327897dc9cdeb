"""Errors while samples are read: filters, changed files, damaged chunks."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import sys
import zlib

import h5py
import numpy as np
import pytest
from conftest import open_descriptors, wait_until
from errors_helpers import MANY, ONE, consume, edit, raises

import h5video_data
from h5video_data import testing
from h5video_data.errors import (
    FileChangedError,
    FileFormatError,
    MissingFilterError,
    NotHDF5Error,
    ReadError,
    VideoFileNotFoundError,
)
from h5video_data.loader import VideoLoader
from h5video_data.planning.byte_ranges import row_planner
from h5video_data.reading.byte_sources import ByteSources
from h5video_data.reading.read_stats import ReadStats
from h5video_data.reading.sample_sources import DirectSource, RowRequest
from h5video_data.storage.layout import describe


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5")


@pytest.fixture(params=[pytest.param("read", marks=pytest.mark.memory_limit(64)), "kept"])
def video_is(request):
    """X is read batch by batch, or small enough to be kept in memory."""
    return request.param


# --------------------------------------------------------------------------- filters


def write_unknown_filter(path, name, chunks, number=60_000, mask=0):
    """Writes a dataset through a filter that nobody has, into all chunks, or past it."""
    with edit(path) as file:
        old = file[name][()]
        del file[name]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(chunks)
        properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        dataset = h5py.h5d.create(
            file.id,
            name.encode(),
            h5py.h5t.py_create(old.dtype),
            h5py.h5s.create_simple(old.shape),
            properties,
        )
        for row in range(0, len(old), chunks[0]):
            corner = (row, *[0] * (old.ndim - 1))
            dataset.write_direct_chunk(corner, old[row : row + chunks[0]].tobytes(), mask)


@pytest.mark.parametrize(("name", "chunks"), [("X", ONE), ("X", MANY), ("Y", (1, 4))], ids=str)
@pytest.mark.parametrize("has_hdf5plugin", [True, False])
def test_a_filter_that_is_not_installed(path, name, chunks, video_is, monkeypatch, has_hdf5plugin):
    del video_is
    write_unknown_filter(path, name, chunks)
    advice = "The installed hdf5plugin does not provide it. Install the HDF5 plugin"
    if not has_hdf5plugin:
        monkeypatch.setitem(sys.modules, "hdf5plugin", None)
        advice = "Try: pip install hdf5plugin"
    with raises(
        MissingFilterError, f"set.h5: dataset '/{name}' ... number 60000\\)\\. {advice}", OSError
    ):
        consume(path)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # not installed
    with raises(MissingFilterError, "number 60000 ... Try: pip install hdf5plugin"):
        consume(path)


def test_a_filter_that_is_not_installed_and_that_no_chunk_went_through(path, video_is):
    del video_is
    write_unknown_filter(path, "X", MANY, mask=1)
    ((x, _),) = consume(path, shuffle=False)
    np.testing.assert_array_equal(x, testing.sample_values(np.arange(20)))


def test_a_missing_filter_shows_when_the_set_is_opened(path):
    # In a tf.data pipeline it would be an anonymous error of the first step otherwise.
    write_unknown_filter(path, "X", ONE)
    with raises(MissingFilterError, "60000"):
        VideoLoader(path)


# --------------------------------------------------------------------------- changed files


def overwrite(path, place, data):
    """Writes bytes into a file; the time of its change moves on for sure."""
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(data)
    moved = os.stat(path).st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(moved, moved))


def replace_with(path, **options):
    new = testing.write_video_file(f"{path}.new", **options)
    os.replace(new, path)


CHANGES = {
    "written to": (
        lambda path: overwrite(path, -1 % os.path.getsize(path), b"?"),
        FileChangedError,
    ),
    "replaced by a copy": (
        lambda path: (shutil.copy2(path, f"{path}.copy"), os.replace(f"{path}.copy", path)),
        FileChangedError,
    ),
    "replaced by another": (lambda path: replace_with(path, num_samples=30), FileChangedError),
    "replaced by one without Y": (
        lambda path: (replace_with(path), overwrite_names(path)),
        FileChangedError,
    ),
    "longer": (lambda path: overwrite(path, os.path.getsize(path), b"more"), FileChangedError),
    "truncated": (lambda path: os.truncate(path, 4000), (FileChangedError, NotHDF5Error)),
    "removed": (os.remove, VideoFileNotFoundError),
}


def overwrite_names(path):
    with edit(path) as file:
        del file["Y"]


@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize(("change", "error"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_changed_before_an_epoch(tmp_path, video_is, change, error, epochs, chunks):
    del video_is
    path = testing.write_video_file(tmp_path / "set.h5", chunks=chunks)
    loader = VideoLoader(path)
    for _ in range(epochs):
        list(loader)
    change(path)
    with pytest.raises(error, match=f"{path}.*(changed|no longer|truncated)|No such file.*{path}"):
        next(iter(loader))


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
def test_a_file_that_is_written_to_in_the_middle_of_an_epoch(tmp_path, chunks):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=64, chunks=chunks)
    loader = VideoLoader(path, shuffle=False, batch_size=4, read_ahead_bytes=0)
    batches = iter(loader)
    next(batches)
    overwrite(path, os.path.getsize(path) - 9, b"?")
    with raises(
        FileChangedError, f"{path} was changed ... modification time .* to .*. Recreate the dataset"
    ):
        list(batches)


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
def test_a_file_that_is_replaced_before_it_is_its_turn(tmp_path, chunks):
    paths = [testing.write_video_file(tmp_path / f"{i}.h5", chunks=chunks) for i in range(2)]
    loader = VideoLoader(paths, shuffle=False, batch_size=4, read_ahead_bytes=0)
    batches = iter(loader)
    next(batches)
    replace_with(paths[1], first=5, chunks=chunks)
    with raises(FileChangedError, f"{paths[1]} was changed or replaced ... it is another file"):
        list(batches)


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize("change", ["truncated", "removed", "replaced"])
def test_a_file_that_goes_in_the_middle_of_an_epoch(tmp_path, change, chunks):
    # An open file outlives its name: the rest of the epoch is right, or an error.
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=64, chunks=chunks)
    loader = VideoLoader(path, shuffle=False, batch_size=4, read_ahead_bytes=0)
    batches = iter(loader)
    got = [next(batches)[0]]
    if change == "truncated":
        os.truncate(path, 3000)
        with raises(ReadError, f"{path}"):
            list(batches)
    else:
        os.remove(path) if change == "removed" else replace_with(path, first=5, num_samples=64)
        got += [x for x, _ in batches]
        np.testing.assert_array_equal(np.concatenate(got), testing.sample_values(np.arange(64)))
    with pytest.raises((ReadError, VideoFileNotFoundError), match=r"set\.h5"):
        list(loader)


# --------------------------------------------------------------------------- corrupt chunks


def chunk_place(path, name, row):
    with h5py.File(path) as file:
        dataset = file[name]
        info = dataset.id.get_chunk_info_by_coord((row, *[0] * (dataset.ndim - 1)))
        return info.byte_offset, info.size


@pytest.mark.parametrize(("place", "data"), [(0, b"tree"), (39, b"\xff")], ids=["mark", "place"])
def test_a_damaged_list_of_chunks(path, place, data):
    with edit(path) as file:
        del file["X"]
        file.create_dataset("X", data=np.ones((20, 6)), chunks=(2, 6), compression="gzip")
    with open(path, "rb") as file:
        tree = file.read().index(b"TREE\x01")  # a B-tree of chunks
    overwrite(path, tree + place, data)
    with raises(FileFormatError, "set.h5: dataset '/X' has a damaged chunk index: ..."):
        VideoLoader(path)
    report = h5video_data.inspect(path)
    assert [item.name for item in report.datasets] == ["X", "Y"]
    assert report.datasets[0].reason == "it is damaged, or of a kind that h5py cannot read"
    assert "'/X' has a damaged chunk index" in report.problems[0]


CORRUPT = {
    "gzip": ({"compression": "gzip"}, ONE),
    "fletcher32": ({"fletcher32": True}, ONE),
    "lzf fletcher32": ({"compression": "lzf", "fletcher32": True}, ONE),
    "gzip, many samples a chunk": ({"compression": "gzip"}, MANY),
    "fletcher32, many samples a chunk": ({"fletcher32": True}, MANY),
}


@pytest.mark.parametrize(("options", "chunks"), CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_chunk_is_an_error_and_the_repaired_one_is_read(
    tmp_path, video_is, new_threads, options, chunks
):
    path = testing.write_video_file(tmp_path / "set.h5", chunks=chunks, **options)
    place, size = chunk_place(path, "X", 12)
    whole = (tmp_path / "set.h5").read_bytes()
    stamp = os.stat(path).st_mtime_ns
    broken = bytearray(whole)
    broken[place + size // 2 : place + size // 2 + 4] = b"\xff\x00\xff\x00"
    overwrite(path, 0, bytes(broken))
    os.utime(path, ns=(stamp, stamp))

    loader = VideoLoader(path, batch_size=2, shuffle=False, num_threads=3)
    rows = "1[2-5]" if chunks == MANY else "12"
    if video_is == "kept":
        rows = ""
    with raises(ReadError, f"{path}: dataset '/?X' ... {rows}", OSError):
        list(loader)
    gc.collect()
    assert len(new_threads()) <= 3  # the loader's own, which is alive

    overwrite(path, 0, whole)
    os.utime(path, ns=(stamp, stamp))  # as if it had never been changed
    got = np.concatenate([x for x, _ in loader])
    np.testing.assert_array_equal(got, testing.sample_values(np.arange(20)))
    del loader, got
    gc.collect()
    wait_until(lambda: not new_threads())
    assert not open_descriptors(tmp_path)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"fletcher32": True}], ids=str)
def test_corrupt_labels_are_a_read_error_as_well(path, options):
    with edit(path) as file:
        del file["Y"]
        file.create_dataset("Y", data=testing.labels(range(20), 4), chunks=(20, 4), **options)
    place, size = chunk_place(path, "Y", 0)
    overwrite(path, place + size // 2, b"\xff\x00\xff\x00")
    with raises(ReadError, f"{path}: dataset '/?Y'", OSError):
        consume(path)


@pytest.mark.parametrize("bad", range(4, 8))
def test_the_sample_in_the_message_is_the_one_that_cannot_be_read(path, bad):
    # Samples that follow each other are read as one range; the message still names the first bad.
    with h5py.File(path) as file:
        stored = describe(file["X"])
    files = ByteSources()
    end = os.path.getsize(path)
    stored = dataclasses.replace(stored, offsets=np.array([end - bad * stored.row_nbytes - 9]))
    source = DirectSource(row_planner(stored), files)
    rows, places = np.arange(2, 9), np.arange(7)
    out = np.empty((7, *testing.SAMPLE_SHAPE), np.uint8)
    with raises(ReadError, f"sample {bad}: the file ends "):
        source.read(RowRequest(rows, places, None, out), ReadStats())


@pytest.mark.slow
@pytest.mark.memory_limit(64)
def test_an_error_leaves_nothing_behind(tmp_path, new_threads):
    path = testing.write_video_file(tmp_path / "set.h5", chunks=ONE, compression="gzip")
    with edit(path) as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), zlib.compress(b"too short"), 0)
    gc.collect()
    gc.disable()  # threads and buffers must not wait for it
    try:
        for _ in range(20):
            with raises(ReadError, "sample 7: "):
                consume(path, batch_size=2, num_threads=4)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not new_threads())
        left = new_threads()
    finally:
        gc.enable()
    assert not left
    wait_until(lambda: not new_threads())
    assert not open_descriptors(tmp_path)


@pytest.mark.memory_limit(64)
def test_an_error_carries_the_thread_s_traceback(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", chunks=ONE, compression="gzip")
    with edit(path) as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), b"rubbish", 0)
    with raises(ReadError, "sample 7: deflate") as caught:
        consume(path)
    names = [entry.name for entry in caught.traceback]
    assert "_fill" in names
    assert isinstance(caught.value.__cause__, ValueError)
