from __future__ import annotations

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
