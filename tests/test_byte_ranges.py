from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.planning.byte_ranges import RowPlanner, row_planner
from h5video_data.storage.file_identity import FileIdentity
from h5video_data.storage.layout import Filter, StoredArray, describe

GZIP = (Filter(1, "deflate", (4,)),)


def stored_array(shape, chunk_shape=None, *, filters=(), offsets=None, sizes=None, dtype="u1"):
    """A dataset as `layout.describe` would give it: chunk i starts at 1000 + i * its bytes."""
    dtype = np.dtype(dtype)
    if chunk_shape is None:
        offsets, sizes = [1000], [math.prod(shape) * dtype.itemsize]
    else:
        grid = math.prod(-(-n // c) for n, c in zip(shape, chunk_shape, strict=True))
        nbytes = math.prod(chunk_shape) * dtype.itemsize
        offsets = 1000 + nbytes * np.arange(grid) if offsets is None else offsets
        sizes = np.full(grid, nbytes) if sizes is None else sizes
    return StoredArray(
        path="set.h5",
        identity=FileIdentity(0, 0, 0, 0),
        name="/X",
        shape=shape,
        dtype=dtype,
        file_dtype=dtype,
        storage="contiguous" if chunk_shape is None else "chunked",
        chunk_shape=chunk_shape,
        filters=filters,
        fill_value=dtype.type(0),
        offsets=np.array(offsets, np.int64),
        sizes=np.array(sizes, np.int64),
        masks=np.arange(len(offsets), dtype=np.uint32) if filters else np.zeros(len(offsets), "u4"),
        obstacle=None,
    )


def planned(stored, rows, places=None):
    """The plan as rows of (offset, size, mask, start, stop)."""
    places = range(len(rows)) if places is None else places
    plan = row_planner(stored).plan(np.array(rows, np.int64), np.array(places, np.int64))
    columns = (plan.offsets, plan.sizes, plan.masks, plan.starts, plan.stops)
    assert len(plan) == len(plan.offsets)
    return list(zip(*(column.tolist() for column in columns), strict=True))


# The samples of all of these have 12 values, (4, 3).
FLAT = stored_array((10, 4, 3))
WIDE = stored_array((10, 4, 3), dtype="<i4")
WHOLE = stored_array((10, 4, 3), (1, 4, 3))
PAIRS = stored_array((10, 4, 3), (1, 2, 3))
EDGES = stored_array((10, 4, 3), (1, 3, 3))
HOLES = stored_array((3, 4, 3), (1, 4, 3), offsets=[-1, -1, 500])
APART = stored_array((3, 4, 3), (1, 4, 3), offsets=[900, 100, 112])
PACKED = stored_array(
    (3, 4, 3), (1, 2, 3), filters=GZIP, offsets=[10, 15, 20, 25, 30, 35], sizes=[5] * 6
)

PLANS = {
    "one row": (FLAT, [2], None, [(1024, 12, 0, 0, 12)]),
    "a row of wider values": (WIDE, [2], None, [(1096, 48, 0, 0, 48)]),
    "rows that follow each other are one range": (FLAT, [2, 3, 4], None, [(1024, 36, 0, 0, 36)]),
    "rows in falling order": (
        FLAT,
        [4, 3],
        None,
        [(1048, 12, 0, 0, 12), (1036, 12, 0, 12, 24)],
    ),
    "a row twice": (FLAT, [3, 3], None, [(1036, 12, 0, 0, 12), (1036, 12, 0, 12, 24)]),
    "two runs": (
        FLAT,
        [0, 1, 8, 9],
        None,
        [(1000, 24, 0, 0, 24), (1096, 24, 0, 24, 48)],
    ),
    "places apart": (FLAT, [2, 3], [0, 5], [(1024, 12, 0, 0, 12), (1036, 12, 0, 60, 72)]),
    "places that follow, not from 0": (FLAT, [2, 3], [4, 5], [(1024, 24, 0, 48, 72)]),
    "chunks that follow each other": (WHOLE, [0, 1], None, [(1000, 24, 0, 0, 24)]),
    "chunks that lie apart": (
        APART,
        [0, 1, 2],
        None,
        [(900, 12, 0, 0, 12), (100, 24, 0, 12, 36)],
    ),
    "pieces of a sample that follow each other": (PAIRS, [1], None, [(1012, 12, 0, 0, 12)]),
    "edge chunks are read to the end of the sample": (
        EDGES,
        [0, 1],
        None,
        # 9 bytes of the first chunk, 3 of the second one, whose other 6 lie in between.
        [(1000, 12, 0, 0, 12), (1018, 12, 0, 12, 24)],
    ),
    "what was never written is not merged": (
        HOLES,
        [0, 1, 2],
        None,
        [(-1, 12, 0, 0, 12), (-1, 12, 0, 12, 24), (500, 12, 0, 24, 36)],
    ),
    "filtered chunks are not merged": (
        PACKED,
        [0, 2],
        None,
        [(10, 5, 0, 0, 6), (15, 5, 1, 6, 12), (30, 5, 4, 12, 18), (35, 5, 5, 18, 24)],
    ),
}


@pytest.mark.parametrize(("stored", "rows", "places", "expected"), PLANS.values(), ids=PLANS)
def test_plans(stored, rows, places, expected):
    assert planned(stored, rows, places) == expected


def test_a_hole_just_before_the_file_s_first_byte_is_not_merged():
    # -1 + 1 byte = offset 0: numbers that follow each other by accident.
    stored = stored_array((2, 1), (1, 1), offsets=[-1, 0])
    assert planned(stored, [0, 1]) == [(-1, 1, 0, 0, 1), (0, 1, 0, 1, 2)]
    stored = stored_array((3, 1), (1, 1), offsets=[5, -1, 0])
    assert planned(stored, [1, 2]) == [(-1, 1, 0, 0, 1), (0, 1, 0, 1, 2)]
    assert planned(stored, [0, 1, 2]) == [(5, 1, 0, 0, 1), (-1, 1, 0, 1, 2), (0, 1, 0, 2, 3)]


def test_chunks_of_many_samples_that_were_never_written():
    stored = stored_array((4, 3), (2, 3), offsets=[-1, 500])
    assert planned(stored, [0, 1, 3]) == [(-1, 3, 0, 0, 3), (-1, 3, 0, 3, 6), (503, 3, 0, 6, 9)]


def test_a_chunk_at_the_file_s_first_byte():
    assert planned(stored_array((2, 3), (2, 3), offsets=[0]), [1]) == [(3, 3, 0, 0, 3)]
    assert planned(stored_array((2, 3), (1, 3), offsets=[0, 3]), [0, 1]) == [(0, 6, 0, 0, 6)]


def test_labels_of_one_dimension():
    assert planned(stored_array((9,), (1,), dtype="<i8"), [3, 5]) == [
        (1024, 8, 0, 0, 8),
        (1040, 8, 0, 8, 16),
    ]
    assert planned(stored_array((9,), dtype="<i8"), [3, 4]) == [(1024, 16, 0, 0, 16)]


# id: shape, chunk shape, and the pieces of a sample in bytes, or the reason why there are none.
PIECES = {
    "the whole sample": ((5, 4, 3), (1, 4, 3), [(0, 12)]),
    "two frames": ((5, 4, 3), (1, 2, 3), [(0, 6), (6, 12)]),
    "three of four frames": ((5, 4, 3), (1, 3, 3), [(0, 9), (9, 12)]),
    "rows": ((5, 2, 3), (1, 1, 3), [(0, 3), (3, 6)]),
    "parts of rows": ((5, 2, 3), (1, 1, 2), [(0, 2), (2, 3), (3, 5), (5, 6)]),
    "larger than the sample": ((5, 4, 3), (1, 8, 3), [(0, 12)]),
    "an axis of length 1 before": ((5, 1, 4), (1, 1, 2), [(0, 2), (2, 4)]),
    "an axis of length 1 behind": ((5, 4, 1), (1, 2, 1), [(0, 2), (2, 4)]),
    "cut rows": ((5, 4, 3), (1, 4, 2), "cut through the rows of a sample"),
    "longer rows": ((5, 4, 3), (1, 4, 9), "cut through the rows of a sample"),
    "longer rows, one a chunk": ((5, 2, 3), (1, 1, 9), [(0, 3), (3, 6)]),
    "many samples": ((5, 4, 3), (2, 4, 3), [(0, 12)]),
    "some frames of many samples": ((5, 4, 3), (2, 2, 3), [(0, 6), (6, 12)]),
}


@pytest.mark.parametrize(("shape", "chunk", "expected"), PIECES.values(), ids=PIECES)
def test_pieces_of_a_sample(shape, chunk, expected):
    planner = row_planner(stored_array(shape, chunk))
    if isinstance(expected, str):
        assert expected in planner
    else:
        assert isinstance(planner, RowPlanner)
        assert list(zip(planner.starts.tolist(), planner.stops.tolist(), strict=True)) == expected
        assert planner.chunk_nbytes == math.prod(chunk)


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    data=st.data(),
)
def test_every_byte_is_planned_once_and_comes_from_its_place(shape, data):
    chunk = data.draw(
        st.none() | st.tuples(st.just(1), *(st.integers(1, 5) for _ in shape[1:])), label="chunk"
    )
    stored = stored_array(shape, chunk)
    planner = row_planner(stored)
    if isinstance(planner, str):
        return
    # The file holds, at each place, the number of the value that belongs there.
    numbers = np.arange(math.prod(shape)).reshape(shape)
    if chunk is None:
        file = np.concatenate([np.full(1000, -1), numbers.ravel()])
    else:
        grid = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        padded = np.full([g * c for g, c in zip(grid, chunk, strict=True)], -1)
        padded[tuple(slice(n) for n in shape)] = numbers
        split = padded.reshape([n for pair in zip(grid, chunk, strict=True) for n in pair])
        axes = [*range(0, split.ndim, 2), *range(1, split.ndim, 2)]
        file = np.concatenate([np.full(1000, -1), split.transpose(axes).ravel()])
    rows = np.array(data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=6)))
    plan = planner.plan(rows, np.arange(len(rows)))
    out = np.full(len(rows) * stored.row_nbytes, -2)
    for offset, size, start, stop in zip(
        plan.offsets, plan.sizes, plan.starts, plan.stops, strict=True
    ):
        assert size == stop - start
        assert (out[start:stop] == -2).all()
        out[start:stop] = file[offset : offset + size]
    np.testing.assert_array_equal(out, numbers[rows].ravel())


def test_parts_of_one_shape_share_arrays_that_nobody_changes(tmp_path):
    planners = []
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset("X", (4, 6, 5), "u1", chunks=(1, 3, 5))[...] = number
        with h5py.File(tmp_path / f"{number}.h5") as file:
            planners.append(row_planner(describe(file["X"])))
    assert planners[0].starts is planners[1].starts
    for array in (planners[0].starts, planners[0].stops):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
