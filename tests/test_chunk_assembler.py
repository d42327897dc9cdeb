"""Chunks that hold many samples: decoded once, cached within bounds."""

import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest
from chunk_decoder_helpers import SHAPE, epoch

from h5video_data import VideoLoader
from h5video_data.errors import ReadError
from h5video_data.reading.batch import EpochPlan
from h5video_data.reading.read_stats import ReadStats
from h5video_data.storage.layout import describe
from h5video_data.testing import labels, sample_values, write_video_file

LAYOUTS = {
    "many_samples": {"chunks": (5, 6, 3, 10, 12), "compression": "gzip"},
    "many_samples_some_frames": {"chunks": (5, 2, 3, 10, 12), "compression": "gzip"},
    "uneven": {"chunks": (7, 4, 2, 3, 5), "compression": "gzip", "shuffle": True},
    "uneven_no_filter": {"chunks": (7, 4, 2, 3, 5)},
    "through_rows": {"chunks": (1, 6, 3, 10, 5), "compression": "lzf"},
    "automatic": {"chunks": True, "compression": "lzf"},
    "larger_than_the_set": {
        "chunks": (64, 8, 3, 10, 12),
        "maxshape": (None, None, 3, 10, 12),
        "compression": "gzip",
    },
}


def test_samples_that_were_dropped_before_they_were_decoded_take_no_memory(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5",
        num_samples=53,
        sample_shape=SHAPE,
        chunks=(53, *SHAPE),
        compression="gzip",
    )
    with VideoLoader(path, y=None, batch_size=4, seed=0, num_threads=1) as loader:
        reader = loader._feed._open_reader()
        held = threading.Event()
        reader._threads.submit(lambda: held.wait(20) and ReadStats())
        order = np.arange(53)
        plan = EpochPlan(0, order, np.append(np.arange(4, 53, 4), 53), batches_per_bundle=1)
        source = reader.epoch(plan)
        source.fill(1)
        cache = source._fillers[1]
        assert len(cache._cached) == 49
        for sample in range(10, 53):
            del cache._cached[sample]
        held.set()
        batch = source.take()
        batch.wait()
        np.testing.assert_array_equal(batch.arrays[0], sample_values(order[:4], SHAPE))
        assert cache._pool.num_allocated == 6
        source.cancel()


def test_each_chunk_is_decoded_once_an_epoch(tmp_path):
    chunks = (5, 2, 3, 10, 12)
    path = write_video_file(
        tmp_path / "a.h5", num_samples=50, sample_shape=SHAPE, chunks=chunks, compression="gzip"
    )
    with VideoLoader(path, batch_size=7, seed=0, read_ahead_bytes=10**6) as loader:
        for num_epochs in (1, 2, 3):
            epoch(loader)
            assert loader.stats.num_chunks == 30 * num_epochs


@pytest.mark.slow
def test_memory_is_kept_to(tmp_path):
    shape = (16, 3, 32, 32)
    path = write_video_file(
        tmp_path / "a.h5",
        num_samples=640,
        sample_shape=shape,
        chunks=(16, 16, 3, 32, 32),
        compression="lzf",
    )
    sample_bytes = int(np.prod(shape))
    budget = 160 * sample_bytes
    with VideoLoader(path, batch_size=16, seed=0, read_ahead_bytes=budget) as loader:
        order = np.random.default_rng(0).permutation(640)
        ends = np.arange(16, 641, 16)
        source = loader._feed._open_reader().epoch(EpochPlan(0, order, ends, batches_per_bundle=1))
        source.fill(1)
        while (batch := source.take()) is not None:
            batch.wait()
            assert len(source._fillers[1]._cached) * sample_bytes < budget
            source.fill(1)
        epoch_chunks = loader.stats.num_chunks
        for _, indices, (x, _) in loader.batches():
            np.testing.assert_array_equal(x, sample_values(indices, shape))
        # 40 slabs, and memory for less than a quarter of them: some five passes over the file.
        assert loader.stats.num_chunks - epoch_chunks < 7 * 40


def test_several_files_read_in_different_ways(tmp_path):
    options = [{}, LAYOUTS["many_samples"], LAYOUTS["through_rows"], {"chunks": (1, *SHAPE)}]
    paths = [
        write_video_file(
            tmp_path / f"{i}.h5", num_samples=13, first=13 * i, sample_shape=SHAPE, **o
        )
        for i, o in enumerate(options)
    ]
    with h5py.File(paths[1], "a") as file:
        file.attrs["sample_count"] = 11  # fewer than its slabs hold
    present = np.delete(np.arange(52), [24, 25])
    with VideoLoader(paths, batch_size=8, seed=0) as loader:
        for _ in range(2):
            for _, indices, (x, y) in loader.batches():
                np.testing.assert_array_equal(x, sample_values(present[indices], SHAPE))
                np.testing.assert_array_equal(y, labels(present[indices], 4))


def test_a_corrupt_chunk_is_an_error_wherever_its_samples_are_used(tmp_path):
    options = {"chunks": (5, *SHAPE), "compression": "gzip", "fletcher32": True}
    path = write_video_file(tmp_path / "a.h5", num_samples=20, sample_shape=SHAPE, **options)
    with h5py.File(path) as file:
        stored = describe(file["X"])
    with open(path, "r+b") as file:
        file.seek(int(stored.offsets[2]) + 3)
        file.write(b"\xff\xff\xff")
    with VideoLoader(path, batch_size=5, seed=0) as loader:
        with pytest.raises(ReadError, match=r"dataset '/X', sample 1\d: fletcher32: the checksum"):
            epoch(loader)
        with pytest.raises(ReadError, match="fletcher32"):
            epoch(loader)


@pytest.mark.slow
def test_abandoned_epochs_leave_nothing_behind(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=53, sample_shape=SHAPE, **LAYOUTS["uneven"]
    )
    with VideoLoader(path, batch_size=4, seed=0, num_threads=4) as loader:
        for _ in range(50):
            batches = loader.batches()
            next(batches)
            batches.close()
        assert len(epoch(loader)) == 53


BLOCKS = {"chunks": (16, 2, 3, 10, 12), "compression": "gzip"}


def test_shuffled_by_blocks_each_chunk_is_decoded_once_in_little_memory(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=333, sample_shape=SHAPE, **BLOCKS)
    loader = VideoLoader(path, batch_size=10, shuffle="blocks", seed=0, read_ahead_bytes=0)
    loader._order.sampler.window = 4  # chunks this small would all be in one window
    loader._feed.memory = replace(loader._feed.memory, cached_items=4 * 16)
    with loader:
        orders = [epoch(loader) for _ in range(3)]
        assert loader.stats.num_chunks == 3 * 21 * 3
    assert [sorted(order) for order in orders] == [list(range(333))] * 3
    assert orders[0] != orders[1]


def test_memory_for_a_window_of_blocks_is_kept_in_any_case(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=333, sample_shape=SHAPE, **BLOCKS)
    with VideoLoader(path, batch_size=10, shuffle="blocks", seed=0, read_ahead_bytes=0) as loader:
        epoch(loader)
        assert loader.stats.num_chunks == 21 * 3


def test_blocks_of_a_side_of_a_split_and_of_several_files(tmp_path):
    paths = [
        write_video_file(
            tmp_path / f"{i}.h5", num_samples=40, first=40 * i, sample_shape=SHAPE, **BLOCKS
        )
        for i in range(3)
    ]
    with VideoLoader(
        paths, batch_size=10, shuffle="blocks", seed=0, validation_split=0.3, subset="training"
    ) as loader:
        assert sorted(epoch(loader)) == loader.sample_indices.tolist()
        blocks, nbytes = loader._set.chunk_rows()
    assert blocks.tolist() == [3 * (i // 40) + i % 40 // 16 for i in range(120)]
    assert nbytes == 16 * np.prod(SHAPE)
