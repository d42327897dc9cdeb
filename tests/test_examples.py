"""The examples with recordings train, on the small files that they write and on files of ours.

Those for several devices and machines are tested in test_distribution.
"""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import keras
import pytest

from h5video_data.testing import write_recordings

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example with arguments, as the command line does; returns what it prints."""

    def run_example(name, *arguments):
        keras.utils.set_random_seed(0)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_example


@pytest.mark.slow
def test_next_frames(run):
    out = run("next_frames.py", "--length", 6, "--epochs", 2)
    predicted, repeated = map(float, re.search(r"error (\S+); .*, (\S+)$", out.strip()).groups())
    assert predicted < repeated


@pytest.mark.slow
def test_next_frames_of_a_file(run, tmp_path):
    path = write_recordings(tmp_path / "a.h5", [9, 8, 12])
    options = ["--data", path, "--bounds", "ep_len", "--epochs", 1, "--length", 3]
    assert "mean error" in run("next_frames.py", *options)


@pytest.mark.slow
def test_behaviour_cloning(run, tmp_path):
    lengths = [14, 9, 22, 17, 11]
    write_recordings(tmp_path, lengths, layout="files", frame_shape=(32, 32, 3))
    out = run("behaviour_cloning.py", "--data", tmp_path, "--epochs", 1)
    count = re.search(r"trained on (\d+) observations of 5 episodes", out)[1]
    assert sum(lengths) - int(count) in lengths  # one of them is for validation
    assert "val_loss" in out
    assert "of 6 episodes" in run("behaviour_cloning.py", "--epochs", 1)


@pytest.mark.slow
def test_world_model(run):
    out = run("world_model.py", "--epochs", 1)
    assert "left out: 12 rows from row 211 of /pixels" in out
    assert "val_loss" in out


@pytest.mark.slow
def test_video_classification(run):
    out = run("video_classification.py")
    right, count = map(int, re.search(r"(\d+)% of (\d+) videos", out).groups())
    assert count == 9
    assert right > 60
