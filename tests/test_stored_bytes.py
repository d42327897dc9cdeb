from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5video_data.tools.repacking import stored_bytes


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4, 5), (1, 1, 7), (2, 3, 1)])
@pytest.mark.parametrize("piece_bytes", [1, 4, 12, 40, 1 << 20])
def test_pieces_cover_an_array_once(shape, piece_bytes, monkeypatch):
    monkeypatch.setattr(stored_bytes, "PIECE_BYTES", piece_bytes)
    seen = np.zeros(shape, int)
    for piece in stored_bytes._pieces(shape, np.dtype("f4")):
        assert seen[piece].size * 4 <= max(4, piece_bytes)
        seen[piece] += 1
    assert (seen == 1).all()


def test_arrays_of_another_dtype_or_shape_are_not_the_same():
    values = np.arange(6, dtype="i4")
    assert stored_bytes.same_values(values, values.copy())
    assert not stored_bytes.same_values(values, values.view("u4"))
    assert not stored_bytes.same_values(values, values.reshape(2, 3))
    lists = np.empty(2, object)
    lists[:] = [values, "text"]
    assert stored_bytes.same_values(lists, lists.copy())
    others = lists.copy()
    others[0] = values[:5]
    assert not stored_bytes.same_values(lists, others)


def test_a_type_that_numpy_has_not_is_read_as_it_is():
    long = h5py.h5t.STD_I64LE.copy()
    long.set_size(16)
    assert stored_bytes.form_of(long).dtype == np.dtype("V16")
    lists = h5py.h5t.vlen_create(long)
    with pytest.raises(TypeError):
        stored_bytes.form_of(lists)
