"""Samples read once, in a given order: all of them, and no threads left whatever happens."""

import itertools

import h5py
import numpy as np
import pytest

from h5video_data.errors import ReadError
from h5video_data.opening import open_video_set
from h5video_data.reading.one_pass import read_once
from h5video_data.testing import labels, sample_values, write_video_file

LAYOUTS = {
    "contiguous": {},
    "one": {"chunks": (1, 4, 3, 8, 8), "compression": "gzip"},
    "many": {"chunks": (5, 4, 3, 8, 8), "compression": "gzip"},
}


@pytest.fixture(params=LAYOUTS)
def opened(request, tmp_path):
    options = LAYOUTS[request.param]
    paths = [
        write_video_file(tmp_path / f"{first}.h5", num_samples=12, first=first, **options)
        for first in (0, 12)
    ]
    return open_video_set(paths, "X", "Y")


@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize("memory", [0, None], ids=["none", "default"])
def test_in_the_order_given(opened, batch_size, memory, new_threads):
    order = np.array([23, 3, 3, 0, 12, 11, 7])
    batches = list(
        read_once(opened, order, batch_size=batch_size, read_ahead_bytes=memory, num_threads=2)
    )
    assert [len(indices) for indices, _ in batches] == {1: [1] * 7, 5: [5, 2], 100: [7]}[batch_size]
    np.testing.assert_array_equal(np.concatenate([indices for indices, _ in batches]), order)
    for indices, (x, y) in batches:
        np.testing.assert_array_equal(x, sample_values(indices))
        np.testing.assert_array_equal(y, labels(indices, 4))
    assert not new_threads()


def test_threads_end_with_an_iteration_that_is_broken_off(opened, new_threads):
    batches = read_once(opened, np.arange(24), batch_size=2, num_threads=2)
    for _ in itertools.islice(batches, 3):
        assert new_threads()
    batches.close()
    assert not new_threads()


def test_threads_end_with_an_error(tmp_path, new_threads):
    path = write_video_file(tmp_path / "a.h5", chunks=(1, 4, 3, 8, 8), compression="gzip")
    with h5py.File(path, "a") as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), b"rubbish", 0)
    found = []
    with pytest.raises(ReadError, match="sample 7"):
        found.extend(
            indices[0]
            for indices, _ in read_once(
                open_video_set(path), np.arange(20), batch_size=1, read_ahead_bytes=0
            )
        )
    assert found == list(range(7))
    assert not new_threads()
