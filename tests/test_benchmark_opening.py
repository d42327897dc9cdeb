"""The benchmark of opening runs, and what it measures is there."""

from __future__ import annotations

import json

import pytest

from benchmarks import opening


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["gzip", "files"])
def test_opening(tmp_path, capsys, layout):
    sizes = ["--recordings", "12", "--layouts", layout, "--temporary", str(tmp_path)]
    assert opening.main(sizes) == 0
    found = json.loads(capsys.readouterr().out)[layout]
    ways = opening.WAYS if layout == "gzip" else opening.WAYS[:-1]
    assert [*found] == [*ways]
    for figures in found.values():
        assert figures["seconds"] > 0
        assert figures["megabytes"] > 10
