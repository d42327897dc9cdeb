"""Batches of an epoch that are read together: which ones, and what is left without bad samples."""

import numpy as np
import pytest

from h5video_data.errors import ReadError
from h5video_data.reading.batch import EpochPlan, PendingBatch
from h5video_data.reading.read_stats import ReadStats
from h5video_data.reading.threads import Threads


@pytest.mark.parametrize(
    ("num_batches", "together", "expected"),
    [
        (1, 1, [0]),
        (5, 1, [0, 1, 2, 3, 4]),
        (6, 3, [0, 3, 5]),
        (7, 3, [0, 3, 6]),
        (8, 3, [0, 3, 6, 7]),
        (2, 10, [0, 1]),
    ],
)
def test_bundles_end_with_whole_batches(num_batches, together, expected):
    stops = 4 * np.arange(1, num_batches + 1)
    plan = EpochPlan(0, np.arange(4 * num_batches), stops, together)
    assert plan.bundles.tolist() == expected


def pending(failed, tasks=()):
    """Three batches of 4, 4 and 2 samples."""
    return PendingBatch(
        indices=np.arange(100, 110),
        stops=np.array([4, 8, 10]),
        arrays=[np.arange(10), np.arange(20).reshape(10, 2)],
        rows=[],
        tasks=[*tasks],
        failed=failed,
        earlier=np.arange(10) % 3,
    )


def test_nothing_failed():
    for failed in (None, {}):
        batch = pending(failed)
        assert batch.without_failed() is batch


@pytest.mark.parametrize(
    ("places", "stops"),
    [([1], [3, 7, 9]), ([0, 3, 9], [2, 6, 7]), ([4, 5, 6, 7], [4, 6]), (range(10), [])],
    ids=["one", "of two batches", "a whole batch", "all"],
)
def test_samples_that_failed_are_left_out(places, stops):
    batch = pending(dict.fromkeys(places, "cannot be read")).without_failed()
    left = np.setdiff1d(np.arange(10), list(places))
    assert batch.stops.tolist() == stops
    np.testing.assert_array_equal(batch.indices, 100 + left)
    np.testing.assert_array_equal(batch.arrays[0], left)
    np.testing.assert_array_equal(batch.arrays[1][:, 0], 2 * left)
    np.testing.assert_array_equal(batch.earlier, left % 3)


@pytest.fixture
def threads():
    made = Threads(2, "test_batch")
    yield made
    made.close()


def test_waiting_adds_up_what_the_tasks_cost(threads):
    tasks = [threads.submit(lambda n=n: ReadStats(read_bytes=n, num_reads=1)) for n in range(5)]
    batch = pending(None, tasks)
    stats = batch.wait()
    assert (stats.read_bytes, stats.num_reads) == (10, 5)
    assert batch.tasks == []


def test_an_error_of_a_task_comes_out_and_the_tasks_are_dropped(threads):
    def fail():
        raise ReadError("sample 7")

    batch = pending(None, [threads.submit(ReadStats), threads.submit(fail)])
    with pytest.raises(ReadError, match="sample 7"):
        batch.wait()
    assert batch.tasks == []
