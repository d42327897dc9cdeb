"""The training of one model from several feeds, on a few small samples."""

import re

import numpy as np
import pytest
from conftest import tf

from benchmarks import training
from benchmarks.contenders import Job
from benchmarks.video_set import make_set

pytestmark = pytest.mark.tf
SHAPE = (4, 1, 8, 8)


@pytest.mark.slow
def test_a_row_for_each_feed(capsys):
    arguments = ["--samples", "96", "--sample-shape", *map(str, SHAPE), "--epochs", "1"]
    assert training.main([*arguments, "--rounds", "1"]) == 0
    text = capsys.readouterr().out
    for name in ("in memory", "h5video_data", "tfrecord", "plain", "pydataset"):
        assert re.search(rf"  {name} +\d+\.\d\d ± *\S+ +\d+% +\d\.\d\d\d", text), name


def test_the_same_batches_train_the_same_model(tmp_path):
    job = Job.of_file(make_set(tmp_path, "contiguous", 64, SHAPE), str(tmp_path), 32)
    clips = np.random.default_rng(0).integers(0, 256, (32, *SHAPE), np.uint8)
    num_classes = job.array_specs()[1][0][1]
    labels = np.eye(num_classes, dtype=np.float32)[np.arange(32) % num_classes]
    batches = tf.data.Dataset.from_tensors((clips, labels))
    losses = {training.train(job, batches.repeat(5), 2).loss for _ in range(2)}
    assert len(losses) == 1
    assert training.train(job, batches.repeat(20), 2).loss < losses.pop()
