"""Rows into their places in a batch: each from its part, in few tasks, bad ones one by one."""

import numpy as np
import pytest

from h5video_data.errors import FileChangedError, ReadError
from h5video_data.reading.batch import PendingBatch
from h5video_data.reading.batch_rows import rows_of_components
from h5video_data.reading.row_filler import RowComponent, RowFiller
from h5video_data.reading.threads import Task
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.video_set import Component

COUNTS = [5, 0, 7]


class FakeSource:
    """Row r of part p holds 100 * p + r; takes down what is asked for."""

    def __init__(self, part, bad=(), error=ReadError):
        self.part = part
        self.bad = set(bad)
        self.error = error
        self.asked = []

    def read(self, request, stats):
        assert request.first_frames is None
        rows = request.rows
        self.asked.append(rows.tolist())
        if self.bad & {*rows.tolist()}:
            raise self.error(f"row {min(self.bad)} of part {self.part}")
        request.out[request.out_rows] = 100 * self.part + rows
        stats.num_reads += 1


def submit(function, *arguments):
    task = Task(function, arguments)
    task.run()
    return task


def fill(indices, sources, failed=None, tasks=2):
    component = Component(
        "Y", (), SampleIndex.stacked(np.array(COUNTS)), values=np.zeros(sum(COUNTS))
    )
    (rows,) = rows_of_components([component])
    array = np.full(len(indices), -1)
    batch = PendingBatch(
        indices=np.asarray(indices, np.int64),
        stops=np.array([len(indices)]),
        arrays=[array],
        tasks=[],
        rows=[array],
        failed=failed,
    )
    filler = RowFiller([RowComponent(0, rows, sources)], tasks, submit)
    batch.tasks.extend(filler.start(batch))
    return batch, batch.wait()


def expected(indices):
    return [i if i < 5 else 200 + i - 5 for i in indices]


@pytest.mark.parametrize("tasks", [1, 2, 3, 50])
def test_each_sample_comes_from_its_row_and_part(tasks):
    sources = [FakeSource(part) for part in range(3)]
    indices = [11, 0, 4, 5, 5, 3, 10]
    batch, _ = fill(indices, sources, tasks=tasks)
    assert batch.arrays[0].tolist() == expected(indices)
    assert sources[1].asked == []
    assert len(sources[0].asked) <= tasks
    assert sum(map(len, sources[0].asked)) == 3


def test_a_part_that_is_read_in_another_way_is_left_alone():
    batch, stats = fill([0, 6], [FakeSource(0), None, None], tasks=1)
    assert batch.arrays[0].tolist() == [0, -1]
    assert stats.num_reads == 1


def test_a_bad_row_does_not_spoil_the_others():
    failed = {}
    sources = [FakeSource(0, bad=[2]), None, FakeSource(2)]
    indices = [8, 2, 1, 2, 0]
    batch, _ = fill(indices, sources, failed, tasks=1)
    assert failed == dict.fromkeys([1, 3], "row 2 of part 0")
    good = [0, 2, 4]
    assert batch.arrays[0][good].tolist() == [expected(indices)[place] for place in good]


def test_places_of_bad_samples_count_from_the_beginning_of_the_batch():
    failed = {}
    fill([0, 1, 2, 3, 4, 2], [FakeSource(0, bad=[2]), None, None], failed, tasks=3)
    assert sorted(failed) == [2, 5]


def test_without_leave_a_bad_row_is_an_error():
    with pytest.raises(ReadError, match="row 2 of part 0"):
        fill([1, 2], [FakeSource(0, bad=[2]), None, None])


def test_a_file_that_has_changed_is_an_error_in_any_case():
    with pytest.raises(FileChangedError, match="row 2"):
        fill([1, 2], [FakeSource(0, bad=[2], error=FileChangedError), None, None], {})
