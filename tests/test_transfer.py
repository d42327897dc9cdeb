"""Values from one file to another, block by block, and compared."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from h5py import h5t
from layout_helpers import change_numbers
from stored_types_helpers import NUM_SAMPLES, write_typed

from h5video_data.errors import RepackingError
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import stored_bytes, transfer
from h5video_data.tools.repacking.copy_rest import Copier


def test_each_value_is_compared(tmp_path, monkeypatch):
    write_typed(tmp_path / "a.h5", h5t.STD_I32LE, b"\1\2\3\4")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["names"] = ["a", "b", "c", "d"]
        file["one"] = 1.5
    copy = Copier.check

    def spoil(name, change):
        def check(self, path):
            with h5py.File(path, "a") as file:
                change(file[name])
            copy(self, path)

        monkeypatch.setattr(Copier, "check", check)

    def rename(item):
        item.attrs["note"] = np.arange(NUM_SAMPLES, dtype="i8")

    def replaced(item, value):
        file, name = item.file, item.name
        del file[name]
        file[name] = value

    def set_type(item):
        replaced(item, np.float32(1.5))

    def set_shape(item):
        replaced(item, [1.5])

    def set_last(value):
        return lambda item: item.__setitem__(-1, value)

    monkeypatch.setattr(stored_bytes, "PIECE_BYTES", 8)
    monkeypatch.setattr(stored_bytes, "PIECE_OBJECTS", 1)
    cases = [
        ("plain", set_last(5), "dataset '/plain'"),
        ("packed", set_last(5), "dataset '/packed'"),
        ("names", set_last("e"), "dataset '/names'"),
        ("one", lambda item: item.__setitem__((), 1.25), "dataset '/one'"),
        ("X", rename, "attribute 'note' of '/X'"),
        ("X", lambda item: item.attrs.modify("note", [0] * NUM_SAMPLES), "attribute 'note' of"),
        ("one", set_type, "dataset '/one'"),
        ("one", set_shape, "dataset '/one'"),
        ("/", lambda item: item.attrs.__delitem__("note"), "cannot be compared with the new"),
        ("/", lambda item: item.__delitem__("names"), "cannot be compared with the new"),
    ]
    for name, change, message in cases:
        spoil(name, change)
        with pytest.raises(RepackingError, match=message):
            repack(tmp_path / "a.h5", tmp_path / "b.h5")
        assert not (tmp_path / "b.h5").exists()
    monkeypatch.undo()
    repack(tmp_path / "a.h5", tmp_path / "b.h5")


@pytest.mark.parametrize("is_recoded", [False, True])
def test_chunks(tmp_path, monkeypatch, is_recoded):
    expected = np.zeros((NUM_SAMPLES, 8, 3), "u1")
    expected[:, :2] = np.arange(1, 25).reshape(NUM_SAMPLES, 2, 3)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["X"] = np.zeros((NUM_SAMPLES, 2), "u1")
        # The list of these chunks is wrong in HDF5 1.14.
        options = {"maxshape": (NUM_SAMPLES, None, 3), "chunks": (1, 1, 3)}
        grown = file.create_dataset("grown", (NUM_SAMPLES, 8, 3), "u1", **options)
        grown[:, :2] = expected[:, :2]
        file.create_dataset("packed", data=expected, chunks=(3, 3, 3), compression="gzip")
    if is_recoded:  # the same values in other bytes
        monkeypatch.setattr(transfer, "same_chunks", lambda *_: False)
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["grown"], expected)
        np.testing.assert_array_equal(file["packed"], expected)


def test_an_index_that_cannot_grow_where_the_shape_could(tmp_path):
    path = tmp_path / "a.h5"
    values = np.arange(11 * 6, dtype=np.uint8).reshape(11, 6)
    with h5py.File(path, "w", libver="latest") as file:
        file["X"] = np.zeros((NUM_SAMPLES, 2), "u1")
        options = {"maxshape": (13, 6), "chunks": (4, 6), "compression": "gzip"}
        file.create_dataset("packed", data=values, **options)
    change_numbers(path, [(13, 0)], (1 << 64) - 1)
    with h5py.File(path) as file:
        assert file["packed"].maxshape == (None, 6)
        assert transfer._has_damaged_chunks(file["packed"])
    assert repack(path, tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["packed"], values)


def test_lists_in_chunks_are_copied(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((NUM_SAMPLES, 2), "u1")
        options = {"chunks": (2,), "compression": "gzip"}
        lists = file.create_dataset("lists", (5,), h5py.vlen_dtype(np.int32), **options)
        for i in range(5):
            lists[i] = np.arange(i)
    assert repack(tmp_path / "a.h5", tmp_path / "b.h5").skipped == ()
    with h5py.File(tmp_path / "b.h5") as file:
        assert [item.tolist() for item in file["lists"]] == [[*range(i)] for i in range(5)]


def test_rows_of_several_files_are_compared(tmp_path, monkeypatch):
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["X"] = np.zeros((NUM_SAMPLES, 2, 4, 4, 3), "u1")
            file["Y"] = np.arange(NUM_SAMPLES) + 10 * number
    check = Copier.check

    def spoiled(self, path):
        with h5py.File(path, "a") as file:
            file["Y"][NUM_SAMPLES + 1] = 5
        check(self, path)

    monkeypatch.setattr(Copier, "check", spoiled)
    with pytest.raises(RepackingError, match="dataset '/Y': HDF5 reads something else"):
        repack(tmp_path / "?.h5", tmp_path / "new.h5")
    assert not (tmp_path / "new.h5").exists()
