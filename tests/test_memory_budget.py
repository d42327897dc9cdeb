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
    DEFAULT_READ_AHEAD_BYTES,
    MemoryBudget,
    default_read_ahead_bytes,
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


@pytest.mark.parametrize("chunk", [1, 500])
def test_a_sample_that_cannot_be_read_does_not_spoil_the_others(tmp_path, chunk):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        features = np.arange(8.0 * NUM, dtype="f4").reshape(NUM, 2, 4)
        file.create_dataset("X", data=features, chunks=(chunk, 2, 4), compression="gzip")
        place = file["X"].id.get_chunk_info(NUM // chunk - 1).byte_offset
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)
    assert is_kept(path, "X")
    with VideoLoader(path, y=None, batch_size=5, shuffle=False) as loader:
        batches = iter(loader)
        np.testing.assert_array_equal(next(batches), features[:5])
        with pytest.raises(ReadError, match=r"dataset '/X', sample \d+: deflate"):
            list(batches)


def test_the_order_of_blocks_does_not_depend_on_memory(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.zeros((NUM, 2, 4), np.uint8)
        file.create_dataset("X", data=values, chunks=(500, 2, 4), compression="lzf")
    orders = []
    for read_ahead_bytes in (None, 0):
        options = {"shuffle": "blocks", "seed": 0, "read_ahead_bytes": read_ahead_bytes}
        with VideoLoader(path, y=None, **options) as loader:
            orders.append(loader.batch_indices(epoch=0, step=0).tolist())
    assert is_kept(path, "X")
    assert not is_kept(path, "X", 0)
    assert orders[0] == orders[1]


@pytest.mark.parametrize("num_threads", [1, 2, 5, 16, 64])
@pytest.mark.parametrize("in_flight", [1, 2, 3, 13])
def test_all_threads_have_work_while_a_bundle_is_handed_over(in_flight, num_threads):
    budget = MemoryBudget(4, in_flight, 3, 0)
    num_tasks = budget.tasks_per_bundle(num_threads)
    others = max(1, in_flight - 1)
    assert others * num_tasks >= num_threads > others * (num_tasks - 1)


def test_many_threads_have_more_memory():
    batch_nbytes = 20 << 20
    found = [default_read_ahead_bytes(batch_nbytes, n) for n in (1, 8, 16)]
    assert found == [DEFAULT_READ_AHEAD_BYTES, DEFAULT_READ_AHEAD_BYTES, 1 << 30]
    assert default_read_ahead_bytes(100, 16) == 19200  # 192 batches are enough


@pytest.mark.parametrize(
    ("compression", "batches", "num_tasks"), [(None, 4, 1), ("gzip", 2, 5), ("lzf", 2, 5)]
)
def test_decoded_samples_come_in_smaller_bundles_and_more_tasks(
    tmp_path, compression, batches, num_tasks
):
    """Batches are of 18 MiB: 80 MiB of them together, or 40 MiB in tasks of 8."""
    chunks = (1, 3, 512, 384) if compression else None
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (1024, 3, 512, 384), "u1", chunks=chunks, compression=compression)
    with VideoLoader(tmp_path / "a.h5", y=None, batch_size=32, num_threads=2) as loader:
        budget = loader._feed.memory
    assert budget.batches_per_bundle == batches
    assert budget.tasks_per_bundle(2) == num_tasks
