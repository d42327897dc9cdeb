"""The benchmark of remote files runs, and what it measures is there."""

from __future__ import annotations

import json

import pytest

from benchmarks import remote

pytest.importorskip("aiohttp")


@pytest.mark.slow
def test_remote(tmp_path, capsys):
    sizes = [
        "--samples",
        "40",
        "--chunks",
        "300",
        "--rounds",
        "1",
        "--counted",
        "64",
        "--at-once",
        "2",
        "8",
        "--latency",
        "0.001",
    ]
    assert remote.main([*sizes, "--temporary", str(tmp_path)]) == 0
    text, decoder, found, end = capsys.readouterr().out, json.JSONDecoder(), {}, 0
    while text[end:].strip():
        item, end = decoder.raw_decode(text, end)
        found.update(item)
        end += 1
    assert found["throughput"]["ratio"] > 0
    assert list(found["at_once"]) == ["2", "8"]
    for name in ("tiny", "small"):
        assert found["first_batch"][f"{name}, with index"]["requests to open"] == 1
        assert found["first_batch"][f"{name}, first"]["requests to open"] > 1
    whole = found["requests"]["contiguous, in order"]
    assert whole["bytes requested for each stored"] == pytest.approx(1, abs=0.5)
    assert set(found["cache"]) == {
        f"{place}, epoch {number}" for place in ("remote", "local") for number in range(3)
    }
