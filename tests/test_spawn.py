"""A loader in a process that was spawned, not forked: as macOS and Windows start processes."""

import itertools
import multiprocessing

import numpy as np
import pytest

from h5video_data import VideoLoader
from h5video_data.testing import sample_values, write_video_file


def sums_of_batches(path, queue):
    with VideoLoader(path, y=None, shuffle=False, batch_size=4) as loader:
        queue.put([x.sum(axis=(1, 2, 3, 4), dtype=np.int64).tolist() for x in loader])


@pytest.mark.slow
def test_reads_beside_a_loader_of_the_parent(tmp_path):
    path = str(write_video_file(tmp_path / "a.h5", num_samples=10))
    context = multiprocessing.get_context("spawn")
    with VideoLoader(path, y=None, shuffle=False, batch_size=4) as loader:
        next(iter(loader))
        queue = context.Queue()
        process = context.Process(target=sums_of_batches, args=(path, queue))
        process.start()
        found = queue.get(timeout=120)
        process.join(120)
        assert process.exitcode == 0
    expected = sample_values(np.arange(10)).sum(axis=(1, 2, 3, 4), dtype=np.int64)
    assert [*map(len, found)] == [4, 4, 2]
    assert [*itertools.chain(*found)] == expected.tolist()
