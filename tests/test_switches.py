"""Switches of TensorFlow that people set, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data.testing import write_video_file

SCRIPT = Path(__file__).with_name("switches_script.py")


@pytest.mark.parametrize(
    "switch",
    [
        "op determinism",
        "eager functions",
        "one thread",
        "xla",
        "what needs no process of its own",
    ],
)
def test_batches_are_right(tmp_path, switch):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), switch],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=280,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr[-3000:]


def test_graphs_of_version_1_are_an_error(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=4)
    with (
        tf.Graph().as_default(),
        pytest.raises(h5v.H5VideoError, match=r"needs TensorFlow's eager execution.*VideoLoader"),
    ):
        h5v.video_dataset_from_hdf5(path)
