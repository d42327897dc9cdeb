"""The program for a GPU, rehearsed on the CPU with a stand-in for the driver."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.facts import UsageError

SHAPE = (4, 3, 16, 16)
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(gpu, "MAX_SECONDS", 0.2)


def test_without_a_gpu_a_plain_sentence(monkeypatch, capsys):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert gpu.main([]) == 2
    error = capsys.readouterr().err
    assert "no GPU was found. Keras runs on its tensorflow backend" in error
    assert "--accelerator emulated:unet3d-h100" in error
    assert "Traceback" not in error
    assert gpu.find_device(cpu=True)[:3] == ("tensorflow", "CPU", False)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(UsageError, match="Keras runs on its torch backend"):
        gpu.find_device(cpu=True)


TINY = ["--cpu", "--models", "tiny", "--layouts", "contiguous", "--samples", "24"]
TINY += ["--sample-shape", *map(str, SHAPE), "--batch-sizes", "4", "--rounds", "2"]
OURS = ["h5video_data", "h5video_data, device="]
OURS += ["h5video_data, not pinned", "h5video_data, device=, not pinned"]


def test_a_rehearsal(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert gpu.main([*TINY, "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())["results"]
    assert [row["feed"] for row in found["rows"]] == ["a batch in host memory", *OURS, "plain"]
    for row in found["rows"]:
        assert row["resident_step_seconds"][0] > 0
        assert row["step_seconds"][0] > 0
        assert 0 < row["utilisation"][0] <= 1
    assert list(found["copies"]) == ["a batch", *OURS]
    assert all(speed[0] > 0 for speed in found["copies"].values())
    text = capsys.readouterr().out
    assert "on CPU, Keras on tensorflow" in text


def test_a_model_that_does_not_fit_is_an_exit_code(capsys, monkeypatch):
    def too_large(*_):
        raise MemoryError("OOM when allocating tensor\nmore")

    monkeypatch.setattr(gpu, "make_models", too_large)
    assert gpu.main(TINY) == 1
    assert "tiny    FAILED: MemoryError: OOM when allocating tensor\n" in capsys.readouterr().out


def test_the_models_are_the_same_model():
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (2, *SHAPE), np.uint8), np.eye(2, dtype=np.float32)
    models = gpu.make_models("tiny", batch, "float32")
    fed, resident = models["fed"], models["resident"]
    expected = fed.predict(batch[0], batch_size=2, verbose=0)
    found = resident.predict(np.zeros((2, 1), np.float32), batch_size=2, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    before = [w.numpy().copy() for w in fed.trainable_weights]
    resident.fit(np.zeros((2, 1), np.float32), batch[1], batch_size=2, verbose=0)
    assert any((w.numpy() != b).any() for w, b in zip(fed.trainable_weights, before, strict=True))


def test_training_ends_when_the_time_is_up():
    x = np.zeros((100_000, 1), np.float32)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    clock = gpu.Clock()
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[clock])
    num_steps = len(clock._begins)
    assert 2 <= num_steps < 100_000
    assert clock.step_seconds > 0.2 / num_steps


def test_keras_on_jax(tmp_path):
    pytest.importorskip("jax")
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *TINY, "--json", str(out)],
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = json.loads(out.read_text())["results"]
    assert found["backend"] == "jax"
    assert [row["feed"] for row in found["rows"]] == [
        "a batch in host memory", "h5video_data", "plain",
    ]  # fmt: skip
    assert all(row["step_seconds"][0] > 0 for row in found["rows"])
    assert list(found["copies"]) == ["a batch", "h5video_data"]
