"""Files whose values say where they belong: no two samples are alike, and any dtype holds them."""

import h5py
import numpy as np
import pytest

from h5video_data.testing import SAMPLE_SHAPE, labels, sample_values, write_video_file


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
