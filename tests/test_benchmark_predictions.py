"""The benchmark of what a probe predicts, on a few small samples."""

import re

import pytest

from benchmarks import predictions


@pytest.mark.tf
@pytest.mark.slow
def test_a_row_for_each_layout(capsys):
    arguments = ["--samples", "64", "--sample-shape", "2", "1", "8", "8", "--rounds", "1"]
    more = ["--seconds", "0.1", "--layouts", "contiguous", "many"]
    assert predictions.main([*arguments, *more]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["contiguous", "many"]
    assert all(re.fullmatch(r"\S+ +[\d,]+ ± [\d,]+ +[\d,]+ ± [\d,]+ +[\d.]+", row) for row in rows)
