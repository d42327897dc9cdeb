"""Samples that cannot be read: left out and reported, or an error."""

import os

import h5py
import numpy as np
import pytest
from conftest import tf

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.errors import ArgumentError, FileChangedError, ReadError
from h5video_data.testing import sample_values, write_video_file

SHAPE = (4, 2, 6, 5)

LAYOUTS = {
    "sample": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "frames": {"chunks": (1, 2, 2, 6, 5), "compression": "lzf"},
    "many samples": {"chunks": (3, 4, 2, 6, 5), "compression": "gzip"},
    "many samples, some frames": {"chunks": (3, 2, 2, 6, 5), "compression": "gzip"},
    "by HDF5": {"chunks": (1, *SHAPE), "compression": "gzip", "scaleoffset": 0},
}


def damage(path, *corners):
    """Makes the chunks at these corners unreadable."""
    with h5py.File(path) as file:
        found = [file["X"].id.get_chunk_info_by_coord(corner) for corner in corners]
    with open(path, "r+b") as file:
        for chunk in found:
            file.seek(chunk.byte_offset)
            file.write(b"\xff" * chunk.size)


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def path(request, tmp_path):
    """A file of 29 samples of which some are unreadable, and which those are."""
    path = write_video_file(tmp_path / "a.h5", num_samples=29, sample_shape=SHAPE, **request.param)
    deep = request.param["chunks"][0]
    depth = request.param["chunks"][1]
    damage(path, (9, 0, 0, 0, 0), (21, 4 - depth, 0, 0, 0))
    bad = {*range(9, 9 + deep), *range(21, 21 + deep)}
    return path, bad


@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("batch_size", [1, 4, 29])
def test_the_others_come_and_are_right(path, batch_size, memory, caplog):
    path, bad = path
    with VideoLoader(
        path, batch_size=batch_size, seed=0, on_error="skip", read_ahead_bytes=memory
    ) as loader:
        for _ in range(2):
            found = []
            for _, indices, (x, y) in loader.batches():
                assert len(indices) == len(x) == len(y) > 0
                np.testing.assert_array_equal(x, sample_values(indices, SHAPE))
                found += indices.tolist()
            assert sorted(found) == sorted(set(range(29)) - bad)
        assert loader.skipped.keys() == bad
        assert all("a.h5" in reason for reason in loader.skipped.values())
    messages = [record.getMessage() for record in caplog.records]
    assert sorted(messages) == sorted(
        f"Sample {sample} is skipped: {reason}" for sample, reason in loader.skipped.items()
    )


def test_without_it_there_is_an_error(path):
    path, _ = path
    with VideoLoader(path, batch_size=4, seed=0) as loader, pytest.raises(ReadError):
        list(loader.batches())


def test_as_a_dataset(path):
    path, bad = path
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=1, seed=0, on_error="skip")
    assert dataset.element_spec[0] == tf.TensorSpec((None, *SHAPE), tf.uint8)
    for _ in range(3):
        # Elements of which nothing is left are left out, and the next epoch is whole again.
        assert sum(len(x) for x, _ in dataset) == 29 - len(bad)
    assert dataset.loader.skipped.keys() == bad


def test_as_a_dataset_of_single_samples(path):
    path, bad = path
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=None, seed=0, on_error="skip")
    for _ in range(2):
        assert sum(1 for _ in dataset) == 29 - len(bad)


def test_the_state_of_a_set_with_a_damaged_sample(tmp_path):
    options = {"chunks": (1, *SHAPE), "compression": "gzip"}
    path = write_video_file(tmp_path / "a.h5", num_samples=10, sample_shape=SHAPE, **options)
    damage(path, (9, 0, 0, 0, 0))
    with VideoLoader(path, batch_size=4, on_error="skip", seed=0) as loader:
        state = loader.state_dict(epoch=0, step=1)
        loader.load_state_dict(state)
        used = loader.batch_indices(epoch=0, step=0)
        assert sum(len(x) for x, _ in loader) == 10 - 4 - (9 not in used)


def test_repeated_samples_and_clips(path):
    path, bad = path
    sampler = h5v.samplers.WeightedSampler(np.ones(29), num_samples=90, seed=0)
    with VideoLoader(
        path, batch_size=7, seed=0, shuffle=sampler, on_error="skip", clip=Clip(4)
    ) as loader:
        found = [i for _, indices, _ in loader.batches() for i in indices.tolist()]
    assert found == [i for i in sampler.epoch(0).tolist() if i not in bad]


def test_a_changed_file_is_an_error_all_the_same(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=20, sample_shape=SHAPE)
    loader = VideoLoader(path, batch_size=2, seed=0, on_error="skip", read_ahead_bytes=0)
    batches = loader.batches()
    next(batches)
    with open(path, "ab") as file:
        file.write(b"x")
    with pytest.raises(FileChangedError):
        list(batches)


@pytest.mark.parametrize("options", [{}, *LAYOUTS.values()], ids=["contiguous", *LAYOUTS])
@pytest.mark.parametrize("kept", [0.2, 0.9])
def test_a_file_that_is_cut_short_is_an_error_all_the_same(tmp_path, options, kept):
    path = write_video_file(tmp_path / "a.h5", num_samples=200, sample_shape=SHAPE, **options)
    with VideoLoader(
        path, batch_size=20, seed=0, on_error="skip", read_ahead_bytes=0, num_threads=1
    ) as loader:
        batches = loader.batches()
        next(batches)
        os.truncate(path, int(kept * os.path.getsize(path)))
        with pytest.raises(FileChangedError):
            list(batches)


@pytest.mark.parametrize("memory", [0, 2000, 10**6])
def test_a_sample_whose_clip_is_readable_is_not_skipped(tmp_path, memory):
    shape = (12, 2, 6, 5)
    path = write_video_file(
        tmp_path / "a.h5",
        num_samples=29,
        sample_shape=shape,
        chunks=(8, 3, 2, 6, 5),
        compression="gzip",
    )
    damage(path, (8, 3, 0, 0, 0))
    options = {"batch_size": 4, "seed": 0, "clip": Clip(2)}
    with VideoLoader(path, on_error="skip", read_ahead_bytes=memory, **options) as loader:
        found = {}
        for _, indices, (x, _) in loader.batches():
            found.update(zip(indices.tolist(), x, strict=True))
    firsts = Clip(2).first_frames(12, 0, 0, np.arange(29)).tolist()
    bad = {i for i in range(8, 16) if firsts[i] in (2, 3, 4, 5)}
    assert 0 < len(bad) < 8
    assert set(range(29)) - found.keys() == loader.skipped.keys() == bad
    for i, x in found.items():
        np.testing.assert_array_equal(x, sample_values([i], shape)[0, firsts[i] : firsts[i] + 2])


def test_what_is_no_way(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with pytest.raises(ArgumentError, match='`on_error` must be "raise" or "skip"'):
        h5v.video_dataset_from_hdf5(path, on_error="ignore")
