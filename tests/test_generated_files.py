"""Generated files of any layout come out equal to what h5py reads; a long run is a command."""

from __future__ import annotations

import pytest
from generated_files import run


@pytest.mark.parametrize("seed", [0, 5000])
def test_generated_files(tmp_path, memory_limit, seed):  # noqa: ARG001 - restores what `run` sets
    found = run(60, seed, tmp_path)
    assert found["wrong"] == []
    assert found["counts"]["samples"] > 300
    assert sum(found["unmade"].values()) < 6
