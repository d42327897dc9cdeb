"""Files whose values say where they belong: no two samples are alike, and any dtype holds them."""

import h5py
import numpy as np
import pytest

from h5video_data.errors import ArgumentError
from h5video_data.testing import (
    FRAME_SHAPE,
    SAMPLE_SHAPE,
    labels,
    recording_values,
    sample_values,
    write_recordings,
    write_video_file,
)


def test_samples_differ_from_each_other_and_within():
    samples = sample_values(np.arange(127))
    assert samples.shape == (127, *SAMPLE_SHAPE)
    assert len({sample.tobytes() for sample in samples}) == 127
    for sample in samples:
        values = sample.ravel().astype(int)
        assert (np.diff(values) != 0).all()
    # Of whole rows, channels and frames as well: a mistake by one of them shows.
    for axis in range(1, samples.ndim):
        assert (np.diff(samples.astype(int), axis=axis) != 0).any(axis=axis).all()


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "f2", "<f8"])
def test_every_dtype_holds_the_same_values(dtype):
    numbers = np.array([0, 126, 10**6])
    values = sample_values(numbers, (3, 50), dtype)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, sample_values(numbers, (3, 50), np.int64))


def test_one_number_gives_one_sample():
    assert sample_values(5).shape == SAMPLE_SHAPE
    np.testing.assert_array_equal(sample_values(5), sample_values([4, 5])[1])


def test_labels_are_one_hot_and_go_round():
    found = labels(np.arange(7), 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.argmax(axis=1), [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(found.sum(axis=1), np.ones(7))


def test_a_file(tmp_path):
    path = write_video_file(
        tmp_path / "set.h5",
        num_samples=5,
        sample_shape=(2, 3),
        num_classes=2,
        dtype=">u2",
        first=100,
        chunks=(1, 2, 3),
        compression="gzip",
    )
    assert path == str(tmp_path / "set.h5")
    with h5py.File(path) as file:
        assert file.attrs["sample_count"] == 5
        x, y = file["X"], file["Y"]
        assert (x.dtype, x.chunks, x.compression) == (np.dtype(">u2"), (1, 2, 3), "gzip")
        np.testing.assert_array_equal(x, sample_values(np.arange(100, 105), (2, 3)))
        np.testing.assert_array_equal(y, labels(np.arange(100, 105), 2))


def test_no_two_frames_of_recordings_are_alike():
    recordings, rows = np.arange(127)[:, np.newaxis], np.arange(0, 127 * 127, 97)
    for shape in [(3,), (2, 3)]:
        frames = recording_values(recordings, rows, shape)
        assert frames.shape == (127, len(rows), *shape)
        assert frames.max() <= 126
        distinct = np.unique(frames.reshape(-1, frames[0, 0].size), axis=0)
        assert len(distinct) == 127 * len(rows)
    every_row = recording_values(3, np.arange(127 * 127), (3,))
    assert len(np.unique(every_row, axis=0)) == 127 * 127
    values = recording_values(np.arange(20), 5).reshape(20, -1).astype(int)
    assert (np.diff(values) != 0).all()  # of adjacent pixels as well


def test_frames_are_broadcast_and_any_dtype_holds_them():
    frames = recording_values([2, 7], [5, 6])
    assert frames.shape == (2, *FRAME_SHAPE)
    np.testing.assert_array_equal(frames[1], recording_values(7, 6))
    np.testing.assert_array_equal(
        recording_values(7, range(4, 8), (5,), ">f4")[2], recording_values(7, 6, (5,))
    )


LENGTHS = [4, 0, 7, 1, 2, 3, 5, 1, 2, 2, 6]
OPTIONS = {"chunks": (3, 4, 5), "compression": "gzip"}


def test_flat_recordings(tmp_path):
    path = write_recordings(
        tmp_path / "a.h5", LENGTHS, frame_shape=(4, 5), action_shape=(2,), dtype=">u2", **OPTIONS
    )
    assert path == str(tmp_path / "a.h5")
    with h5py.File(path) as file:
        assert sorted(file) == ["action", "ep_len", "ep_offset", "pixels"]
        pixels, action = file["pixels"], file["action"]
        assert (pixels.dtype, pixels.chunks, pixels.shape) == (">u2", (3, 4, 5), (33, 4, 5))
        assert (action.dtype, action.shape) == (np.float32, (33, 2))
        assert file["ep_len"][:].tolist() == LENGTHS
        for i, (offset, length) in enumerate(zip(file["ep_offset"], LENGTHS, strict=True)):
            rows, stored = np.arange(length), slice(offset, offset + length)
            np.testing.assert_array_equal(pixels[stored], recording_values(i, rows, (4, 5)))
            np.testing.assert_array_equal(action[stored], recording_values(i, rows, (2,)))


def test_recordings_in_groups(tmp_path):
    path = write_recordings(
        tmp_path / "a.h5", LENGTHS, layout="groups", frame_shape=(4, 5), **OPTIONS
    )
    with h5py.File(path) as file:
        assert list(file) == ["data"]
        assert len(file["data"]) == len(LENGTHS)
        for i, length in enumerate(LENGTHS):
            demo, rows = file[f"data/demo_{i}"], np.arange(length)
            frames, actions = demo["obs/agentview_rgb"], demo["actions"]
            assert demo.attrs["num_samples"] == length
            assert frames.chunks == ((min(length, 3), 4, 5) if length else None)
            np.testing.assert_array_equal(frames, recording_values(i, rows, (4, 5)))
            np.testing.assert_array_equal(actions, recording_values(i, rows, (4,), np.float32))


def test_a_file_for_each_recording(tmp_path):
    paths = write_recordings(tmp_path / "new", LENGTHS, layout="files", dtype="f4")
    assert paths == [str(tmp_path / f"new/episode_{i}.hdf5") for i in range(len(LENGTHS))]
    for i, path in enumerate(paths):
        rows = np.arange(LENGTHS[i])
        with h5py.File(path) as file:
            assert file.attrs["sim"]
            frames = file["observations/images/top"]
            assert (frames.dtype, frames.shape) == ("f4", (LENGTHS[i], *FRAME_SHAPE))
            np.testing.assert_array_equal(frames, recording_values(i, rows))
            for name in ("action", "observations/qpos"):
                assert file[name].dtype == np.float32
                np.testing.assert_array_equal(file[name], recording_values(i, rows, (4,)))


def test_a_layout_that_there_is_not(tmp_path):
    with pytest.raises(ArgumentError, match=r"`layout` must be .* Received: layout='file'"):
        write_recordings(tmp_path / "a.h5", layout="file")
