"""Chunks of many samples, or through samples: what is decoded, how often, in how much memory."""

import h5py
import numpy as np
import pytest
from chunk_decoder_helpers import SHAPE, epoch

from h5video_data import Clip, VideoLoader, inspect
from h5video_data.reading import chunk_decoder as slabs
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


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0, 30_000, 10**6], ids=["none", "short", "ample"])
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_every_sample_once_and_right(tmp_path, options, memory):
    path = write_video_file(tmp_path / "a.h5", num_samples=53, sample_shape=SHAPE, **options)
    assert inspect(path).datasets[0].path == "chunks"
    for batch_size in (1, 7, 60):
        with VideoLoader(
            path, batch_size=batch_size, seed=1, read_ahead_bytes=memory, num_threads=3
        ) as loader:
            orders = [epoch(loader) for _ in range(2)]
        assert [sorted(order) for order in orders] == [list(range(53))] * 2
        assert orders[0] != orders[1]


@pytest.mark.parametrize("memory", [0, 30_000, 10**6], ids=["none", "short", "ample"])
def test_samples_of_unfiltered_chunks_are_read_by_themselves_if_few_are_wanted(
    tmp_path, monkeypatch, memory
):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=53, sample_shape=SHAPE, chunks=(7, 4, 2, 3, 5)
    )
    chunk_nbytes, chunks_of_a_slab = 7 * 4 * 2 * 3 * 5, 2 * 2 * 4 * 3
    for bytes_per_read, batch_size in ((0, 1), (0, 7), (10**6, 7)):
        monkeypatch.setattr(slabs, "BYTES_PER_READ", bytes_per_read)
        with VideoLoader(path, batch_size=batch_size, seed=1, read_ahead_bytes=memory) as loader:
            for _ in range(2):
                assert sorted(epoch(loader)) == list(range(53))
            read = loader.stats.read_bytes / (chunk_nbytes / 7 * chunks_of_a_slab)
            num_reads = loader.stats.num_reads
        if bytes_per_read == memory == 0:
            assert num_reads == 2 * 53 * chunks_of_a_slab
        if memory == 0:
            # By itself a sample is read even if reads are dear: several of a slab, as whole chunks.
            assert read > 4 * 53 if bytes_per_read else read == 2 * 53
        if memory == 10**6:
            assert 2 * 53 <= read <= 2 * 8 * 7


def test_a_few_samples_of_unfiltered_chunks_of_which_some_were_never_written(tmp_path, monkeypatch):
    monkeypatch.setattr(slabs, "BYTES_PER_READ", 0)
    values = sample_values(np.arange(20), SHAPE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        X = file.create_dataset("X", (20, *SHAPE), "u1", chunks=(5, 2, 3, 4, 5), fillvalue=9)
        X[0:5, :2, :, :4] = values[0:5, :2, :, :4]
        X[10:15] = values[10:15]
        expected = X[()]
        file["Y"] = labels(np.arange(20), 4)
    assert (expected == 9).sum() > 10 * np.prod(SHAPE)
    options = {"batch_size": 3, "shuffle": False, "read_ahead_bytes": 0}
    with VideoLoader(tmp_path / "a.h5", **options) as loader:
        np.testing.assert_array_equal(np.concatenate([x for x, _ in loader]), expected)
    clip = Clip(3, stride=2, position="start")
    with VideoLoader(tmp_path / "a.h5", clip=clip, **options) as loader:
        found = np.concatenate([x for x, _ in loader])
    np.testing.assert_array_equal(found, expected[:, 0:6:2])


def test_unwritten_chunks_and_filter_masks(tmp_path):
    values = sample_values(np.arange(20), SHAPE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        X = file.create_dataset(
            "X", (20, *SHAPE), "u1", chunks=(5, *SHAPE), compression="gzip", fillvalue=9
        )
        X[0:5] = values[0:5]
        X.id.write_direct_chunk((5, 0, 0, 0, 0), values[5:10].tobytes(), filter_mask=1)
        file["Y"] = labels(np.arange(20), 4)
    expected = values.copy()
    expected[10:] = 9
    with VideoLoader(tmp_path / "a.h5", batch_size=6, shuffle=False) as loader:
        found = np.concatenate([x for x, _ in loader])
    np.testing.assert_array_equal(found, expected)


def test_a_dataset_of_one_dimension(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = sample_values(np.arange(40), SHAPE)
        file.create_dataset("wide", data=np.arange(40 * 2000.0).reshape(40, 2000), chunks=(8, 300))
    with VideoLoader(tmp_path / "a.h5", y="wide", batch_size=7, seed=0) as loader:
        for _, indices, (_, wide) in loader.batches():
            np.testing.assert_array_equal(wide[:, 5], indices * 2000.0 + 5)
