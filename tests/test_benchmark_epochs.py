"""The benchmark of short epochs, on a few small samples."""

import re

import pytest

from benchmarks import epochs


@pytest.mark.tf
@pytest.mark.slow
def test_every_figure_is_printed(capsys):
    arguments = ["--samples", "12", "--sample-shape", "2", "1", "8", "8", "--batch-size", "4"]
    more = ["--toy", "16", "--rounds", "2", "--epochs", "2", "--layouts", "contiguous", "gzip"]
    assert epochs.main([*arguments, *more]) == 0
    text = capsys.readouterr().out
    for layout in ("contiguous", "gzip"):
        assert re.search(
            rf"{layout}: first start, ms \S+, start, ms \S+, start / batch \S+, MB/s \S+, of the",
            text,
        )
    assert re.search(r"fit, s an epoch: h5video_data \S+, plain generator \S+, ratio \S+", text)


@pytest.mark.tf
def test_the_first_batch_is_part_of_the_start():
    start, others = epochs.loop(range(5))
    assert start > 0
    assert len(others) == 4
