"""The table of chunks: what HDF5 lists is right, or found out."""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from layout_helpers import SHAPE, change_numbers, described

from h5video_data import VideoLoader
from h5video_data.errors import (
    FileFormatError,
    ReadError,
)
from h5video_data.storage import chunk_table
from h5video_data.storage.hdf5_files import OpenedFile
from h5video_data.storage.layout import describe


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


@pytest.mark.parametrize("userblock", [0, 512])
def test_the_chunk_table_leads_to_the_bytes(path, userblock):
    with h5py.File(path, "w", userblock_size=userblock) as file:
        dataset = file.create_dataset("X", SHAPE, "<u2", chunks=(1, 3, 3), compression="gzip")
        for row in (4, 0, 2):
            dataset[row] = np.random.default_rng(row).integers(0, 9, SHAPE[1:])
        raw = {i: dataset.id.read_direct_chunk((i // 2, i % 2 * 3, 0))[1] for i in (0, 4, 5, 9)}
    with h5py.File(path) as file:
        stored = describe(file["X"])
    assert stored.storage == "chunked"
    assert stored.chunk_shape == (1, 3, 3)
    assert (stored.offsets < 0).tolist() == [i // 2 in (1, 3) for i in range(10)]
    assert stored.sizes[2:4].tolist() == [0, 0]
    content = path.read_bytes()
    for i, chunk in raw.items():
        offset, size = stored.offsets[i], stored.sizes[i]
        assert content[offset : offset + size] == chunk


def test_masks(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("X", SHAPE, "u1", chunks=(1, 4, 3), compression="gzip")
        dataset.id.write_direct_chunk((3, 0, 0), bytes(12), 1)
    with h5py.File(path) as file:
        assert describe(file["X"]).masks.tolist() == [0, 0, 0, 1, 0]


WHOLE = np.arange(1, 61).reshape(5, 12).tolist()
# Address, and what the samples are, of which the last one has it: in chunks, and contiguous. What
# has no address at all (-1) has no values, to HDF5, which adds the userblock to the others.
IN_SUPERBLOCK = {
    (0, 0): (WHOLE[:4], "damaged"),
    (0, 512): (WHOLE[:4], []),
    (8, 0): (WHOLE[:4], []),
    (8, 512): (WHOLE[:4], []),
    (-1, 0): ("some chunks have no address", [[0] * 12] * 5),
    (-1, 512): (WHOLE[:4], [[0] * 12] * 5),
    (-100, 0): (WHOLE[:4], "damaged: HDF5 cannot open it"),
    (-100, 512): (WHOLE[:4], "damaged: HDF5 cannot open it"),
}


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [(1, 4, 3), None], ids=["chunks", "contiguous"])
@pytest.mark.parametrize(("where", "expected"), IN_SUPERBLOCK.items(), ids=map(str, IN_SUPERBLOCK))
def test_values_do_not_lie_in_the_superblock(path, chunks, where, expected):
    address, userblock = where
    expected = expected[chunks is None]
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("X", data=np.arange(1, 61, dtype="u1").reshape(SHAPE), chunks=chunks)
        stored = describe(file["X"])
    content = path.read_bytes()
    offset = int(stored.offsets[-1]) - userblock
    size = struct.pack("<Q", 60) if chunks is None else b""
    place = content.rindex(struct.pack("<Q", offset) + size, userblock, userblock + offset)
    damaged = struct.pack("<Q", address % 2**64)
    path.write_bytes(content[:place] + damaged + content[place + 8 :])
    options = {"y": None, "shuffle": False, "on_error": "skip"}
    if isinstance(expected, str):
        with pytest.raises(FileFormatError, match=expected):
            VideoLoader(path, **options)
        return
    with VideoLoader(path, **options) as loader:
        rows = [row for _, _, (x,) in loader.batches() for row in x.reshape(-1, 12).tolist()]
    assert rows == expected


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_index_of_a_single_chunk_is_not_one_of_several(path, compression):
    # HDF5 returns the values of that chunk for each of them; what it lists has it once.
    values = (np.arange(3 * 1003) % 251).astype("u1").reshape(1003, 3)
    options = {"chunks": values.shape, "compression": compression}
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("X", data=values, **options)
    change_numbers(path, [(1003, 0), (1003, 1)], 2006)
    with h5py.File(path) as file:
        assert (file["X"][1003:] == file["X"][:1003]).all()
        with pytest.raises(ValueError, match="its shape has 2 chunks, and its index is that of o"):
            chunk_table.check_index(file["X"])
    message = r"set.h5: dataset '/X' has a damaged chunk index: its shape has 2 chunks, and its"
    with pytest.raises(FileFormatError, match=message):
        VideoLoader(path, y=None)


@pytest.mark.parametrize("counted_in", [True, False])
def test_offsets_may_or_may_not_count_the_userblock_in(path, counted_in):
    # Releases of HDF5 differ in that.
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset("X", data=np.arange(60).reshape(SHAPE), chunks=(1, 4, 3))
        file.flush()
        stored = describe(dataset)
        offsets = stored.offsets - (0 if counted_in else 512)
        chunking, opened = chunk_table.Chunking(dataset), OpenedFile.of(file)
        correction = chunk_table._userblock_correction(chunking, opened, offsets, stored.sizes)
    assert correction == (0 if counted_in else 512)


DAMAGED_TABLES = {
    # What an entry of the B-tree of chunks becomes, and the error; the other entries stay.
    "a chunk twice": ({"place": 2}, "some chunks are listed twice or out of order"),
    "out of order": ({"place": 6}, "some chunks are listed twice or out of order"),
    "beyond the last": ({"row": 7, "place": 8}, "some chunks are outside the dataset"),
    "off the grid": ({"inside": 1}, ".*bad coordinate offset"),
    "over another": ({"offset": lambda o: o + 1}, "some chunks overlap in the file"),
    "longer than it is": ({"size": lambda s: s + 8}, "some chunks overlap in the file"),
}


def damage_table(path, row=4, place=None, inside=0, size=int, offset=int):
    """Changes an entry of the B-tree of chunks of a dataset `X` (HDF5 file format, III.A.1)."""
    with h5py.File(path) as file:
        dataset = file["X"]
        rank = len(dataset.shape)
        info = dataset.id.get_chunk_info_by_coord((row, *[0] * (rank - 1)))
    entry = struct.Struct(f"<II{rank + 1}QQ")
    old = entry.pack(info.size, 0, row, *[0] * rank, info.byte_offset)
    new = entry.pack(
        size(info.size),
        0,
        row if place is None else place,
        inside,
        *[0] * (rank - 1),
        offset(info.byte_offset),
    )
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


class ListedID:
    """An `h5py.h5d.DatasetID` whose chunks are listed in another way; None: it cannot list them."""

    def __init__(self, dataset, list_chunks):
        self._id = dataset.id
        if list_chunks is not None:
            self.chunk_iter = list_chunks

    def __getattr__(self, name):
        if name == "chunk_iter":
            raise AttributeError(name)
        return getattr(self._id, name)


def listed(dataset, list_chunks):
    """Stands for an `h5py.Dataset` with a `ListedID`."""
    return SimpleNamespace(shape=dataset.shape, id=ListedID(dataset, list_chunks))


def listed_twice(dataset):
    def list_chunks(callback):
        dataset.id.chunk_iter(callback)
        dataset.id.chunk_iter(callback)

    return listed(dataset, list_chunks)


def listed_elsewhere(dataset, *places):
    """Of which chunks are listed at other places than they have."""

    def list_chunks(callback):
        def moved(info):
            callback(info._replace(chunk_offset=next(left)))

        left = iter(places)
        dataset.id.chunk_iter(moved)

    return listed(dataset, list_chunks)


@pytest.mark.parametrize(
    ("places", "message"),
    [([(0, 0), (0, 3)], "not on the chunk grid"), ([(0, 0), (1, 2)], "outside the dataset")],
    ids=["grid", "outside"],
)
def test_places_that_no_chunk_of_an_extensible_array_has(path, places, message):
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset("X", (2, 4), "u1", chunks=(1, 2), maxshape=(2, None))
        dataset[:, :2] = 1
    with h5py.File(path) as file:
        chunking = chunk_table.Chunking(listed_elsewhere(file["X"], *places))
        with pytest.raises(ValueError, match=f"some chunks are {message}"):
            chunk_table.read_chunk_table(chunking, OpenedFile.of(file))


def test_an_h5py_that_cannot_list_chunks_is_left_to_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.arange(32).reshape(8, 4), chunks=(1, 4))
        chunking = chunk_table.Chunking(listed(file["X"], None))
        with pytest.raises(chunk_table.UnreadableTableError, match="this h5py cannot list chunks"):
            chunk_table.read_chunk_table(chunking, OpenedFile.of(file))


@pytest.mark.parametrize("at_once", [1, 3, 8, 9, 16])
def test_a_whole_table_that_is_listed_again(path, monkeypatch, at_once):
    monkeypatch.setattr(chunk_table, "_CHUNKS_AT_ONCE", at_once)
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.arange(32).reshape(8, 4), chunks=(1, 4))
    with h5py.File(path) as file:
        chunking, opened = chunk_table.Chunking(file["X"]), OpenedFile.of(file)
        assert len(set(chunk_table.read_chunk_table(chunking, opened)[0])) == 8
        twice = chunk_table.Chunking(listed_twice(file["X"]))
        with pytest.raises(ValueError, match=r"listed twice|outside the dataset"):
            chunk_table.read_chunk_table(twice, opened)


@pytest.mark.parametrize(("damage", "message"), DAMAGED_TABLES.values(), ids=DAMAGED_TABLES)
def test_a_chunk_table_that_cannot_be_true(path, damage, message):
    with h5py.File(path, "w") as file:
        data = np.random.default_rng(0).integers(0, 256, (8, 4, 6), np.uint8)
        file.create_dataset("X", data=data, chunks=(1, 4, 6), compression="gzip")
    damage_table(path, **damage)
    with (
        h5py.File(path) as file,
        pytest.raises(FileFormatError, match=f"'/X' has a damaged chunk index: {message}"),
    ):
        describe(file["X"])


def test_a_damaged_chunk_table_of_more_chunks_than_are_collected_at_once(path):
    # The first chunk of the second part is listed again at the end of the first one.
    with h5py.File(path, "w") as file:
        data = np.zeros((70_000, 1), np.uint8)
        file.create_dataset("X", data=data, chunks=(1, 1))
    damage_table(path, row=65_535, place=65_536)
    with h5py.File(path) as file, pytest.raises(FileFormatError, match="twice or out of order"):
        describe(file["X"])


DAMAGED_CHUNKS = {
    "of size zero": {"size": lambda _: 0},
    "longer than the file": {"size": lambda _: 2**31},
    "behind the file": {"offset": lambda _: 2**40},
    "far behind the file": {"offset": lambda _: 2**63 - 1},
    "across the end of the file": {"row": 7, "offset": lambda offset: offset + 20},
}


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [(1, 4, 6), (1, 4, 3), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("damage", DAMAGED_CHUNKS.values(), ids=DAMAGED_CHUNKS)
def test_a_chunk_that_cannot_be_read_is_an_error_of_its_samples(path, damage, compression, chunks):
    data = np.random.default_rng(0).integers(0, 256, (8, 4, 6), np.uint8)
    with h5py.File(path, "w") as file:
        options = {"chunks": chunks, "compression": compression}
        dataset = file.create_dataset("X", data.shape, "u1", **options)
        for begin in range(0, 8, chunks[0]):
            # The file's last chunk is the one that `damage_table` finds, the first of a row.
            for column in range(0, 6, chunks[2])[::-1]:
                part = np.s_[begin : begin + chunks[0], :, column : column + chunks[2]]
                dataset[part] = data[part]
            file.flush()
    row = damage.get("row", 4) // chunks[0] * chunks[0]
    damage_table(path, **{**damage, "row": row})
    bad = set(range(row, row + chunks[0]))
    for size in (1, 8):
        with VideoLoader(path, y=None, batch_size=size, shuffle=False) as loader:
            message = r"'/X', sample [4-7]: (where it lies in the file|the file ends 20 bytes)"
            with pytest.raises(ReadError, match=message):
                list(loader)
        options = {"batch_size": size, "shuffle": False, "on_error": "skip"}
        with VideoLoader(path, y=None, **options) as loader:
            got = np.concatenate(list(loader))
            assert loader.skipped.keys() == bad
        np.testing.assert_array_equal(got, np.delete(data, sorted(bad), axis=0))


def test_huge_grids_are_left_to_hdf5(path, monkeypatch):
    monkeypatch.setattr(chunk_table, "MAX_CHUNKS", 4)
    assert described(path, chunks=(1, 4, 3)).obstacle == "it has more than 4 chunks"
    assert described(path, chunks=(2, 4, 3)).obstacle is None


UNKNOWN_INDEXES = {
    "no such function": lambda patch: patch.setattr(chunk_table.h5py.h5d, "__file__", "/gone.so"),
    "another place": lambda patch: patch.setattr(
        chunk_table, "_lists_slots_as_places", _raise_unreadable
    ),
}


def _raise_unreadable():
    raise chunk_table.UnreadableTableError("HDF5 does not report where its chunks are")


@pytest.mark.parametrize("prepare", UNKNOWN_INDEXES.values(), ids=UNKNOWN_INDEXES)
def test_chunks_whose_places_are_not_certain_are_left_to_hdf5(path, monkeypatch, prepare):
    with h5py.File(path, "w", libver="latest") as file:
        options = {"chunks": (1, 2, 3), "dtype": "u1"}
        file.create_dataset("X", SHAPE, maxshape=(5, None, 3), **options)[:3, :2] = 7
        file.create_dataset("first", SHAPE, maxshape=(None, 4, 3), **options)[:3, :2] = 7
        expected = file["X"][()]
    prepare(monkeypatch)
    with h5py.File(path) as file:
        assert describe(file["first"]).obstacle is None
        assert re.search("does not report (how|where) its chunks are", describe(file["X"]).obstacle)
    with VideoLoader(path, y=None, shuffle=False) as loader:
        np.testing.assert_array_equal(np.concatenate(list(loader)), expected)


@pytest.mark.slow
def test_more_chunks_than_are_collected_at_once(path):
    num = 70_000
    stored = described(path, data=np.arange(num, dtype="<u4").reshape(num, 1), chunks=(1, 1))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    found = content[stored.offsets[:, np.newaxis] + np.arange(4)].view("<u4").ravel()
    np.testing.assert_array_equal(found, np.arange(num))
