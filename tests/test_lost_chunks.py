"""Chunks that HDF5 does not read, and gives what happens to be in memory for: each is an error."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pytest
from picture_rows_helpers import FORMS, jpeg

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import FileFormatError, H5VideoError, ReadError
from h5video_data.storage.chunk_table import check_chunk_table
from h5video_data.storage.layout import describe
from h5video_data.tools.repack import repack

LOST = "some of its chunks have a wrong size"


def change_size(path, name, number, nbytes):
    """Changes the stored size of a chunk in a B-tree (specification, III.A.1)."""
    with h5py.File(path) as file:
        chunks = []
        file[name].id.chunk_iter(chunks.append)
    chunk = chunks[number]
    rest = (*chunk.chunk_offset, 0, chunk.byte_offset)
    key = struct.pack(f"<II{len(rest)}Q", chunk.size, chunk.filter_mask, *rest)
    content = path.read_bytes()
    assert content.count(key) == 1
    path.write_bytes(content.replace(key, struct.pack("<I", nbytes) + key[4:]))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    numbers = np.arange(6)
    with h5py.File(path, "w") as file:
        file["X"] = np.arange(6 * 24, dtype="u2").reshape(6, 4, 6)
        file.create_dataset("Y", data=np.eye(6, 3, dtype="f4"), chunks=(2, 3))
        file.create_dataset("group", data=numbers // 2, chunks=(2,))
        file.create_dataset("ep_len", data=[1, 1, 1, 3], chunks=(2,))
        file.create_dataset("name", data=np.array([b"a", b"b", b"c"] * 2), chunks=(2,))
        file.create_dataset("text", data=["a", "b", "c"] * 2, chunks=(2,))
        # Its edge chunks, or its dtype, are left to HDF5.
        scaled = np.arange(6 * 24, dtype="i4").reshape(6, 4, 6)
        file.create_dataset("scaled", data=scaled, chunks=(1, 4, 6), scaleoffset=0)
        layout = h5py.VirtualLayout((6, 3), "f4")
        layout[:] = h5py.VirtualSource(file["Y"])
        file.create_virtual_dataset("virtual", layout)
        file.attrs["sample_count"] = 6
    return path


WAYS = {
    "labels": ("Y", {"y": "Y"}),
    "labels, skipping": ("Y", {"y": "Y", "on_error": "skip"}),
    "labels of fixed length": ("name", {"y": "name"}),
    "texts": ("text", {"y": "text"}),
    "ids of a split": ("group", {"split_by": "group", "subset": "training", "seed": 0}),
    "bounds": ("ep_len", {"windows": h5v.Windows(1, bounds="ep_len"), "y": None}),
    "a source of a virtual dataset": ("Y", {"y": "virtual"}),
}


@pytest.mark.parametrize("nbytes", [0, 3, 4096])
@pytest.mark.parametrize(("name", "options"), WAYS.values(), ids=WAYS)
def test_small_values(path, name, options, nbytes):
    options = {"validation_split": 0.34, **options} if "subset" in options else options
    with VideoLoader(path, batch_size=2, **options) as loader:
        assert len(list(loader.batches())) > 1
    change_size(path, name, 1, nbytes)
    with (
        pytest.raises(H5VideoError, match=r"damage") as error,
        VideoLoader(path, batch_size=2, **options) as loader,
    ):
        list(loader.batches())
    assert f"dataset '/{name}'" in str(error.value)
    assert str(path) in str(error.value)


def test_samples_that_hdf5_reads(path):
    change_size(path, "scaled", 2, 0)
    options = {"x": "scaled", "y": None, "batch_size": 1, "shuffle": False}
    with VideoLoader(path, **options, on_error="skip") as loader:
        found = [int(indices[0]) for _, indices, _ in loader.batches()]
    assert found == [0, 1, 3, 4, 5]
    with (
        VideoLoader(path, **options) as loader,
        pytest.raises(ReadError, match=r"sample 2: "),
    ):
        list(loader.batches())


def test_several_rows_a_chunk_that_hdf5_reads(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.arange(6 * 24, dtype="i4").reshape(6, 4, 6)
        file.create_dataset("X", data=values, chunks=(4, 2, 6), scaleoffset=0)
    with h5py.File(path) as file:
        assert describe(file["X"]).lost_rows is None
    change_size(path, "X", 2, 0)
    with h5py.File(path) as file:
        num_rows, is_lost = describe(file["X"]).lost_rows
    assert num_rows == 4
    assert is_lost.tolist() == [False, True]
    with VideoLoader(path, y=None, batch_size=1, shuffle=False, on_error="skip") as loader:
        found = {int(i): arrays[0][0] for _, (i,), arrays in loader.batches()}
    assert [*found] == [0, 1, 2, 3]
    assert all((found[number] == values[number]).all() for number in found)


def test_repack_does_not_copy_them(path, tmp_path):
    change_size(path, "group", 0, 0)
    report = repack(path, tmp_path / "b.h5")
    assert [item.name for item in report.skipped if LOST in item.reason] == ["dataset '/group'"]
    with h5py.File(tmp_path / "b.h5") as file:
        assert "group" not in file
        assert "Y" in file


@pytest.mark.skipif(not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP), reason="no szip")
@pytest.mark.parametrize(
    ("old", "new"),
    [((8, 8, 24), new) for new in ((2**32 - 1, 8, 24), (8, 99, 24), (8, 8, 2**31))],
    ids=str,
)
def test_parameters_of_szip_by_which_its_library_writes_beyond_its_memory(tmp_path, old, new):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "X", data=np.zeros((3, 4, 6), "u1"), chunks=(1, 4, 6), compression="szip"
        )
    with VideoLoader(path, y=None) as loader:
        list(loader.batches())
    content = path.read_bytes()
    assert content.count(struct.pack("<3I", *old)) == 1
    path.write_bytes(content.replace(struct.pack("<3I", *old), struct.pack("<3I", *new)))
    with pytest.raises(FileFormatError, match="the parameters of its filter szip"):
        VideoLoader(path, y=None)


def test_elements_of_variable_length_are_not_lost(tmp_path):
    path = tmp_path / "a.h5"
    record = np.dtype([("name", h5py.string_dtype()), ("number", "i4")])
    values = {
        "texts": (np.array(["a", "bc", "d"], "O"), h5py.string_dtype()),
        "sequences": ([np.arange(n, dtype="u1") for n in range(3)], h5py.vlen_dtype("u1")),
        "records": (np.array([("a", 1), ("b", 2), ("c", 3)], record), record),
    }
    for options in ({}, {"compression": "gzip"}):
        with h5py.File(path, "w") as file:
            file["X"] = np.zeros((3, 4, 6), "u1")
            for name, (items, dtype) in values.items():
                dataset = file.create_dataset(name, (3,), dtype, chunks=(1,), **options)
                for number, item in enumerate(items):
                    dataset[number] = item
        with h5py.File(path) as file:
            for name in values:
                check_chunk_table(file[name])
        assert not repack(path, tmp_path / "b.h5", overwrite=True).skipped
        change_size(path, "texts", 1, 0)
        with h5py.File(path) as file, pytest.raises(FileFormatError, match=LOST):
            check_chunk_table(file["texts"])


@pytest.mark.parametrize("nbytes", [0, 16])
@pytest.mark.parametrize("form", ["variable", "strings", "variable opaque", "padded"])
def test_pictures(tmp_path, form, nbytes):
    path = tmp_path / "a.h5"
    rows = [jpeg(number, (12, 16)) for number in range(9)]
    with h5py.File(path, "w") as file:
        FORMS[form](file, "X", rows, chunks=(3,))
    options = {"y": None, "batch_size": 1, "shuffle": False, "decode": "image"}
    with VideoLoader(path, **options) as loader:
        expected = {int(i): arrays[0][0].copy() for _, (i,), arrays in loader.batches()}
    change_size(path, "X", 1, nbytes)
    with VideoLoader(path, **options, on_error="skip") as loader:
        found = {int(i): arrays[0][0].copy() for _, (i,), arrays in loader.batches()}
    assert [*found] == [0, 1, 2, 6, 7, 8]
    assert all((found[number] == expected[number]).all() for number in found)
    with VideoLoader(path, **options) as loader, pytest.raises(ReadError, match=r"sample 3: "):
        list(loader.batches())
