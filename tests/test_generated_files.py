"""Generated files of any layout come out equal to what h5py reads; a long run is a command."""

from __future__ import annotations

import pytest
from generated_files import run

from h5video_data.planning import access


@pytest.mark.parametrize("seed", [0, 5000])
def test_generated_files(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(access, "MEMORY_ROW_BYTES", access.MEMORY_ROW_BYTES)  # `run` sets it
    found = run(60, seed, tmp_path)
    assert found["wrong"] == []
    assert found["counts"]["samples"] > 300
    assert sum(found["unmade"].values()) < 6
