"""Epochs that are read ahead: the right ones, and no further than asked."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import numbers_of
from loader_helpers import Own

from h5video_data import testing
from h5video_data.loader import VideoLoader
from h5video_data.reading import sample_sources as sources

pytestmark = pytest.mark.memory_limit(64)  # the small samples of these tests are read


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5", num_samples=60)


@pytest.mark.slow
def test_an_abandoned_iterator_reads_no_further(path, monkeypatch):
    reads = []
    read = sources.DirectSource.read

    def slow(self, *arguments):
        reads.append(time.sleep(0.05))
        read(self, *arguments)

    monkeypatch.setattr(sources.DirectSource, "read", slow)
    monkeypatch.setattr("h5video_data.reading.memory_budget.MAX_BUNDLE_BATCHES", 1)
    loader = VideoLoader(path, y=None, batch_size=1, num_threads=2, read_ahead_bytes=1 << 20)
    batches = iter(loader)
    next(batches)
    batches.close()
    num_reads = len(reads)
    time.sleep(0.5)
    assert len(reads) <= num_reads + 2  # of 60: one of each thread


def ahead_of(loader):
    """The epoch and the batches that are read ahead of the next `iter()`."""
    return loader._feed._ahead and (loader._feed._ahead.plan.number, len(loader._feed._ahead))


def test_the_next_epoch_is_read_at_the_end_of_this_one(sizes):
    loader = VideoLoader(sizes(40), batch_size=4, seed=0)
    assert ahead_of(loader) is None
    numbers_of(loader)
    assert ahead_of(loader) == (1, min(loader._feed.memory.bundles_in_flight, 10))
    begun = loader._feed._ahead
    second = numbers_of(loader)
    assert loader._feed._ahead is not begun
    assert second == numbers_of_epoch(sizes(40), 1)


def numbers_of_epoch(path, epoch):
    with VideoLoader(path, batch_size=4, seed=0) as loader:
        loader.set_epoch(epoch)
        return numbers_of(loader)


def test_another_epoch_than_the_one_read_ahead(sizes):
    loader = VideoLoader(sizes(20), batch_size=4, seed=0)
    numbers_of(loader)
    loader.set_epoch(7)
    assert numbers_of(loader) == numbers_of_epoch(sizes(20), 7)
    assert ahead_of(loader)[0] == 8


def test_an_iterator_that_is_broken_off_reads_nothing_ahead(sizes):
    loader = VideoLoader(sizes(20), batch_size=4, seed=0)
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    batches.close()
    assert ahead_of(loader) is None
    assert numbers_of(loader) == numbers_of_epoch(sizes(20), 1)


def test_an_error_of_a_sampler_waits_for_its_epoch(sizes):
    class FailsLater(Own):
        def epoch(self, epoch):
            if epoch:
                raise LookupError("no more orders")
            return self.positions

    loader = VideoLoader(sizes(20), shuffle=FailsLater(np.arange(20)), batch_size=4)
    assert numbers_of(loader) == list(range(20))
    with pytest.raises(LookupError, match="no more orders"):
        numbers_of(loader)


def test_released_in_the_middle_of_an_epoch(sizes):
    loader = VideoLoader(sizes(20), batch_size=4, seed=0)
    batches = iter(loader)
    next(batches)
    loader._feed.release()
    assert len(list(batches)) == 4
    assert ahead_of(loader) is None
    del batches
    assert numbers_of(loader) == numbers_of_epoch(sizes(20), 1)
