"""What `read_ahead_bytes` is used for where samples are small."""

import h5py
import numpy as np
import pytest

from h5video_data import VideoLoader
from h5video_data.errors import ReadError
from h5video_data.opening import open_video_set
from h5video_data.planning.access import MANY_SAMPLES
from h5video_data.reading.memory_budget import (
    CACHED_ITEM_NBYTES,
    small_samples_budget,
    split_budget,
)

NUM = MANY_SAMPLES


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "a.h5"
    features = np.random.default_rng(0).standard_normal((NUM, 10)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("columns", data=features, chunks=(1000, 1), compression="gzip")
        file.create_dataset("chunks", data=features, chunks=(1000, 1))
        file["rows"] = features
        file["big-endian"] = features.astype(">f4")
        whole = (features * 50).astype(np.int16)
        file.create_dataset("by h5py", data=whole, chunks=(1000, 10), scaleoffset=0)
        file["flags"] = features > 0
        file.create_dataset("images", (NUM, 8, 4, 2), np.uint8, chunks=(500, 4, 4, 2), fillvalue=7)
        file.create_dataset("videos", (NUM, 5000), np.uint8, chunks=(50, 100))
        file.create_dataset("few", data=features[: NUM - 1], chunks=(1000, 1))
    return path


def is_kept(path, name, read_ahead_bytes=None):
    budget = small_samples_budget(read_ahead_bytes)
    return open_video_set(path, name, None, budget_nbytes=budget).components[0].is_in_memory


# Arrays of up to one dimension that take 32 MiB at the most are kept in any case.
@pytest.mark.parametrize(
    "name", ["columns", "chunks", "rows", "big-endian", "by h5py", "flags", "images"]
)
def test_many_small_samples_are_kept_and_right(path, name, monkeypatch):
    monkeypatch.setattr("h5video_data.planning.access.MEMORY_BYTES", 0)
    assert is_kept(path, name)
    with h5py.File(path) as file:
        expected = file[name][:]
    nbytes = expected.nbytes
    assert is_kept(path, name, 2 * nbytes)
    assert not is_kept(path, name, 2 * nbytes - 2)
    for read_ahead_bytes in (None, nbytes):
        loader = VideoLoader(
            path, x=name, y=None, batch_size=999, shuffle=False, read_ahead_bytes=read_ahead_bytes
        )
        for _ in range(2):
            found = np.concatenate(list(loader))
            assert found.dtype == expected.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found, expected)
        loader.close()


@pytest.mark.parametrize("name", ["videos", "few"])
def test_what_is_not_kept(path, name, monkeypatch):
    monkeypatch.setattr("h5video_data.planning.access.MEMORY_BYTES", 0)
    assert not is_kept(path, name)


def test_what_is_kept_counts(path, monkeypatch):
    monkeypatch.setattr("h5video_data.planning.access.MEMORY_BYTES", 0)
    names, nbytes = {"a": "rows", "b": "columns"}, NUM * 40
    both = open_video_set(path, names, None, budget_nbytes=2 * nbytes)
    assert [item.is_in_memory for item in both.components] == [True, True]
    one = open_video_set(path, names, None, budget_nbytes=2 * nbytes - 1)
    assert [item.is_in_memory for item in one.components] == [True, False]
    # Of what is left, a sample that is kept takes more than its bytes.
    kept = split_budget(one, 10, NUM // 10, 4 * nbytes - 1, 1).cached_items
    assert 0 < kept < 3 * nbytes // CACHED_ITEM_NBYTES


@pytest.mark.parametrize("shuffle", [True, "blocks"])
def test_the_order_does_not_depend_on_what_is_kept(path, shuffle, monkeypatch):
    monkeypatch.setattr("h5video_data.planning.access.MEMORY_BYTES", 0)
    assert is_kept(path, "columns")
    assert not is_kept(path, "columns", 0)
    orders = [
        VideoLoader(
            path, x="columns", y=None, batch_size=NUM, shuffle=shuffle, seed=3, **options
        ).batch_indices(epoch=1, step=0)
        for options in ({}, {"read_ahead_bytes": 0}, {"on_error": "skip"})
    ]
    for order in orders[1:]:
        np.testing.assert_array_equal(order, orders[0])


@pytest.mark.parametrize("num_rows", [1, 100])
def test_a_sample_that_cannot_be_read_does_not_spoil_the_others(tmp_path, num_rows):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        features = np.arange(8.0 * NUM, dtype="f4").reshape(NUM, 2, 4)
        file.create_dataset("X", data=features, chunks=(num_rows, 2, 4), compression="gzip")
        place = file["X"].id.get_chunk_info(NUM // num_rows - 1).byte_offset
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)
    assert is_kept(path, "X")
    with VideoLoader(path, y=None, batch_size=5, shuffle=False) as loader:
        batches = iter(loader)
        np.testing.assert_array_equal(next(batches), features[:5])
        with pytest.raises(ReadError, match=f"dataset '/X', sample {NUM - num_rows}: deflate"):
            list(batches)
