"""How chunks hold many rows: chunk rows, decode units, regions."""

import h5py
import numpy as np
import pytest

from h5video_data.planning.chunk_rows import ChunkRows
from h5video_data.storage.layout import describe


def test_geometry(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        geometry = ChunkRows(
            describe(file.create_dataset("X", (10, 7, 3, 5), "u1", chunks=(4, 2, 3, 2)))
        )
    assert (geometry.num_chunk_rows, geometry.num_units, geometry.grid) == (3, 4, (1, 3))
    assert geometry.num_rows == 4
    assert geometry.row_shape == (2, 3, 2)
    assert geometry.unit_nbytes == 3 * 4 * 2 * 3 * 2
    assert geometry.frames(3) == range(6, 7)
    whole, edge = geometry.regions
    assert whole.chunks == (slice(0, 1), slice(0, 2))
    assert whole.inside == (slice(0, 3), slice(0, 2))
    assert whole.in_frame == (slice(0, 3), slice(0, 4))
    assert whole.split == (1, 3, 2, 2)
    assert edge.chunks == (slice(0, 1), slice(2, 3))
    assert edge.inside == (slice(0, 3), slice(0, 1))
    assert edge.in_frame == (slice(0, 3), slice(4, 5))
    assert edge.split == (1, 3, 1, 1)


def test_a_dataset_of_one_dimension_has_rows_of_one_frame(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (10,), "<i2", chunks=(4,), compression="gzip")
    with h5py.File(tmp_path / "a.h5") as file:
        found = ChunkRows(describe(file["X"]))
    assert (found.num_chunk_rows, found.num_units, found.num_frames) == (3, 1, 1)
    assert (found.grid, found.row_shape, found.num_rows) == ((), (1,), 4)
    assert (found.chunks_per_unit, found.chunk_nbytes, found.unit_nbytes) == (1, 8, 8)
    assert (found.frames(0), found.chunks(2, 0)) == (range(1), slice(2, 3))
    (region,) = found.regions
    out = np.zeros((1,), np.int16)
    region.copy(np.array([7], np.int16), slice(0, 1), out)
    assert out.tolist() == [7]


def test_chunks_that_are_larger_than_a_frame(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (4, 2, 3), "u1", chunks=(2, 1, 5), maxshape=(4, 2, 5))
    with h5py.File(tmp_path / "a.h5") as file:
        (region,) = ChunkRows(describe(file["X"])).regions
    assert (region.inside, region.in_frame) == ((slice(0, 3),), (slice(0, 3),))


def test_a_dataset_without_chunks_has_no_chunk_rows(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((4, 4))
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(ValueError, match="has no chunks"):
        ChunkRows(describe(file["X"]))
