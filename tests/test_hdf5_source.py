"""Samples that only HDF5 can read: each once, in the order of the file, in few reads."""

import h5py
import numpy as np
import pytest
from conftest import Order

from h5video_data import Clip, VideoLoader
from h5video_data.reading import hdf5_source
from h5video_data.storage import values
from h5video_data.testing import sample_values, write_video_file

pytestmark = pytest.mark.memory_limit(-1)  # everything is read, however small

NUM = 30
SHAPE = (8, 2, 3, 4)


@pytest.fixture
def path(tmp_path):
    # scaleoffset is decoded by HDF5 alone.
    return write_video_file(
        tmp_path / "set.h5", num_samples=NUM, sample_shape=SHAPE, chunks=(1, *SHAPE), scaleoffset=0
    )


@pytest.fixture
def selections(monkeypatch):
    """Takes down what is read of the dataset, in order."""
    found = []

    def note(name):
        read = getattr(values.Values, name)

        def noting(self, selections, *arguments):
            found.extend(selections)
            return read(self, selections, *arguments)

        monkeypatch.setattr(values.Values, name, noting)

    note("read_each")
    note("read_together")
    return found


def read(path, positions, **options):
    """The samples of one batch, which is the whole epoch."""
    with VideoLoader(
        path, y=None, shuffle=Order(positions), batch_size=len(positions), num_threads=1, **options
    ) as loader:
        (x,) = list(loader)
        return x, loader.stats


def test_rows_that_follow_each_other_are_one_read(path, selections):
    x, stats = read(path, np.arange(NUM))
    np.testing.assert_array_equal(x, sample_values(np.arange(NUM), SHAPE))
    assert [selection[0] for selection in selections] == [slice(0, NUM)]
    assert stats.num_reads == 1


def test_any_order_is_read_in_that_of_the_file(path, selections):
    positions = np.array([7, 3, 29, 4, 0])
    x, _ = read(path, positions)
    np.testing.assert_array_equal(x, sample_values(positions, SHAPE))
    starts = [selection[0].start for selection in selections]
    assert starts == sorted(positions.tolist())


def test_a_sample_that_comes_again_is_read_once(path, selections):
    positions = np.array([5, 9, 5, 5, 9])
    x, stats = read(path, positions)
    np.testing.assert_array_equal(x, sample_values(positions, SHAPE))
    assert len(selections) == 2
    assert stats.read_bytes == 2 * x[0].nbytes


def test_of_clips_only_their_frames_are_read(path, selections):
    clip = Clip(3, stride=2, position="center")
    x, _ = read(path, np.array([4, 5, 4]), clip=clip)
    expected = sample_values(np.array([4, 5, 4]), SHAPE)[:, 1:6:2]
    np.testing.assert_array_equal(x, expected)
    assert selections == [(slice(row, row + 1), slice(1, 6, 2)) for row in (4, 5)]


def test_what_was_never_written_is_zero_if_the_file_says_nothing(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("X", (4, 6), "u1", chunks=(1, 6), scaleoffset=0, fill_time="never")
        file["X"][1] = 7
    x, _ = read(tmp_path / "set.h5", np.arange(4))
    np.testing.assert_array_equal(x, [[0] * 6, [7] * 6, [0] * 6, [0] * 6])


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [((1, 4), 1 << 20), ((1, 2 << 20), 2 << 20), ((8, 1 << 20), 4 << 20)],
    ids=["small", "one sample", "many samples"],
)
def test_the_cache_holds_the_chunks_of_one_sample_within_bounds(
    tmp_path, monkeypatch, chunk, expected
):
    monkeypatch.setattr(hdf5_source, "MAX_CACHE_BYTES", 4 << 20)
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", chunk, "u1", chunks=chunk, scaleoffset=0)[...] = 1
    found = []
    connect = hdf5_source.connect

    def noting(path, **options):
        found.append(options["rdcc_nbytes"])
        return connect(path, **options)

    monkeypatch.setattr(hdf5_source, "connect", noting)
    read(path, np.arange(1))
    assert found == [expected]
