"""How chunks hold many rows: chunk rows, decode units, regions."""

import h5py

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
