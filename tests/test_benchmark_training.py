"""What needs a GPU, rehearsed on the CPU; and the environment of tensorflow-io."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from cuda_driver import Driver

from benchmarks import __main__ as command
from benchmarks import device, pinned, report, training
from benchmarks.device import Device, copies, delivery, find_device
from benchmarks.measure import Feed
from benchmarks.models import make_models
from benchmarks.pace import Clock
from benchmarks.settings import Settings, UsageError
from benchmarks.tfio import setup
from benchmarks.video_set import make_set

SHAPE = (4, 3, 16, 16)
ROOT = Path(__file__).parent.parent
CPU = Device("tensorflow", "CPU", is_gpu=False)


@pytest.fixture(autouse=True)
def no_driver(monkeypatch):
    """The tests are of a machine without a GPU."""
    monkeypatch.setattr(pinned, "LIBRARY", "libno-such-driver.so.1")


@pytest.fixture
def path(tmp_path):
    return make_set(tmp_path, "contiguous", 24, SHAPE)


def no_gpu(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])


def test_without_a_gpu_a_plain_sentence(monkeypatch, capsys):
    no_gpu(monkeypatch)
    with pytest.raises(UsageError, match="its tensorflow backend, which sees processors only"):
        find_device()
    assert command.main(["--accelerator", "gpu", "--samples", "64"]) == 2
    error = capsys.readouterr().err
    assert "set KERAS_BACKEND=jax" in error
    assert "--accelerator emulated:unet3d-h100" in error
    assert "Traceback" not in error


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(UsageError, match="Keras runs on its torch backend"):
        find_device()


def test_a_cpu_does_for_a_rehearsal(monkeypatch):
    no_gpu(monkeypatch)
    assert find_device(cpu=True) == CPU
    assert CPU.mixed_precision == "float32"
    assert Device("jax", "H100", is_gpu=True).mixed_precision == "mixed_float16"


def test_copies_to_the_device():
    batch = np.zeros((4, *SHAPE), np.uint8)
    found = copies(CPU, batch, rounds=3)
    assert all(found[way][0] > 0 for way in ("stored", "cast_on_device", "cast_on_host"))
    assert found["bytes_per_second"] == batch.nbytes / found["stored"][0]


def test_the_models_are_the_same_model():
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (2, *SHAPE), np.uint8), np.eye(2, dtype=np.float32)
    fed, prepared, resident = make_models("tiny", batch, "float32")
    expected = fed.predict(batch[0], batch_size=2, verbose=0)
    on_the_host, _ = training._prepare(*batch)
    found = prepared.predict(on_the_host, batch_size=2, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = resident.predict(np.zeros((2, 1), np.float32), batch_size=2, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    before = [w.numpy().copy() for w in fed.trainable_weights]
    resident.fit(np.zeros((2, 1), np.float32), batch[1], batch_size=2, verbose=0)
    assert any((w.numpy() != b).any() for w, b in zip(fed.trainable_weights, before, strict=True))


def train(path, folder, **options):
    settings = Settings(**{
        "contenders": ("h5video_data", "plain", "zea", "tfrecord"), "rounds": 1,
        "train_models": ("tiny",), "train_batch_sizes": (4, 16), **options,
    })  # fmt: skip
    lines = []
    found = training.measure_training(path, 24, settings, folder, CPU, lines.append)
    return found, lines


def test_step_times_fed_and_not(path, tmp_path):
    found, lines = train(path, tmp_path)
    assert "training: skipped: 24 samples make no two batches of 16" in lines
    assert [row["feed"] for row in found["rows"]] == [
        training.HOST,
        "h5video_data",
        "plain",
        "tfrecord",
        "h5video_data, device=",
        "h5video_data, prepared on the host",
    ]
    assert any("pinned: skipped: no NVIDIA driver" in line for line in lines)
    for row in found["rows"]:
        assert row["resident_step_seconds"][0] > 0
        assert row["step_seconds"][0] > 0
        assert 0 < row["utilisation"][0] <= 1
    (copy,) = found["copies"]
    assert copy["num_bytes"] == 4 * np.prod(SHAPE)
    assert copy["delivered_bytes_per_second"]["h5video_data"][0] > 0
    json.dumps(found)
    text = "\n".join(report._training_lines(found))
    assert "training on CPU, Keras on tensorflow, float32" in text
    assert ("device=: not in this release" in text) == (not device.takes_device())


def test_pinned_buffers(path, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "find_cuda", lambda: pinned.Cuda(Driver()))
    found, _ = train(path, tmp_path, contenders=("h5video_data",), train_batch_sizes=(4,))
    assert "h5video_data, pinned" in [row["feed"] for row in found["rows"]]
    assert found["copies"][0]["delivered_bytes_per_second"]["h5video_data, pinned"][0] > 0
    text = "\n".join(report._training_lines(found))
    assert "to the device, by the driver alone: from pageable memory " in text
    assert "h5video_data, pinned: " in text


def test_memory_that_cannot_be_pinned(path, tmp_path, monkeypatch):
    driver = Driver()
    cuda = pinned.Cuda(driver)
    monkeypatch.setattr(cuda, "limits", lambda: {"pageable": 1.0, "pinned": 2.0})
    driver.failing = ["cuMemHostRegister_v2"]
    monkeypatch.setattr(training, "find_cuda", lambda: cuda)
    found, lines = train(path, tmp_path, contenders=("h5video_data",), train_batch_sizes=(4,))
    assert "h5video_data, pinned" not in [row["feed"] for row in found["rows"]]
    assert any("cuMemHostRegister_v2: CUDA error 999" in line for line in lines)


def test_the_argument_device_is_used_where_there_is_one(path, tmp_path, monkeypatch):
    import h5video_data

    asked = []

    class WithDevice(h5video_data.VideoLoader):
        def __init__(self, path, *, device=None, **options):
            asked.append(device)
            super().__init__(path, **options)

    monkeypatch.setattr(h5video_data, "VideoLoader", WithDevice)
    found, _ = train(path, tmp_path, contenders=("h5video_data",), train_batch_sizes=(4,))
    assert asked == [None, "/CPU:0", None]
    assert found["has_device_argument"]
    assert [row["feed"] for row in found["rows"]] == [
        training.HOST,
        "h5video_data",
        "h5video_data, device=",
        "h5video_data, prepared on the host",
    ]
    assert set(found["copies"][0]["delivered_bytes_per_second"]) == {
        "h5video_data",
        "h5video_data, device=",
    }


def test_a_model_that_does_not_fit_is_a_row(path, tmp_path, monkeypatch):
    def too_large(*_):
        raise MemoryError("OOM when allocating tensor\nmore")

    monkeypatch.setattr(training, "make_models", too_large)
    found, lines = train(path, tmp_path, contenders=("plain",), train_batch_sizes=(4,))
    assert found["rows"] == [
        {
            "model": "tiny",
            "batch_size": 4,
            "feed": None,
            "failed": "MemoryError: OOM when allocating tensor",
        }
    ]
    assert "FAILED" in lines[-1]
    assert "FAILED: MemoryError" in "\n".join(report._training_lines(found))


def test_an_error_before_any_model_is_a_row(path, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError

    monkeypatch.setattr(training, "copies", fails)
    found, _ = train(path, tmp_path, contenders=("plain",), train_batch_sizes=(4, 8))
    assert [(row["model"], row["batch_size"], row["failed"]) for row in found["rows"]] == [
        ("all", 4, "RuntimeError: "),
        ("all", 8, "RuntimeError: "),
    ]


def test_training_ends_when_the_time_is_up():
    x = np.zeros((100_000, 1), np.float32)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    clock = Clock(0.2)
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[clock])
    assert 2 <= len(clock.ends) < 100_000
    seconds = max(clock.ends) - min(clock.ends)
    assert seconds > 0.2
    assert clock.step_seconds == seconds / (len(clock.ends) - 1)


def test_video_is_needed(tmp_path):
    path = make_set(tmp_path, "contiguous", 8, SHAPE)
    import h5py

    with h5py.File(path, "a") as file:
        del file["Y"]
        file["Y"] = np.zeros(8)
    with pytest.raises(UsageError, match="one-hot"):
        train(path, tmp_path)


def test_delivery_counts_what_arrives():
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensors((tf.zeros((4, 8), tf.uint8), tf.zeros(4))).repeat(3)
    assert delivery(CPU, Feed(batches), is_there=False) > 0
    assert delivery(CPU, Feed(batches), is_there=True) > 0


REHEARSAL = """
import sys
from pathlib import Path
sys.path.append("tests")
from benchmarks import pinned, training
from benchmarks.device import find_device
from benchmarks.settings import Settings
from benchmarks.training import measure_training
from cuda_driver import Driver
device = find_device(cpu=True)
assert device.backend == "jax", device
settings = Settings(contenders=("h5video_data", "plain"), rounds=1, train_models=("tiny",),
                    train_batch_sizes=(4,))
found = measure_training(sys.argv[1], 24, settings, Path(sys.argv[2]), device, print)
assert [row["feed"] for row in found["rows"]] == [
    "a batch in host memory", "h5video_data", "plain", "h5video_data, prepared on the host"], found
assert all(row["step_seconds"][0] > 0 for row in found["rows"]), found
training.find_cuda = lambda: pinned.Cuda(Driver())
found = measure_training(sys.argv[1], 24, settings, Path(sys.argv[2]), device, print)
# Keras copies each batch before JAX does: pinned memory is seen by the driver's own copies only.
assert "h5video_data, pinned" not in [row["feed"] for row in found["rows"]], found
assert list(found["copies"][0]["delivered_bytes_per_second"]) == [
    "h5video_data", "h5video_data, by the driver", "h5video_data, pinned, by the driver"], found
"""

# Keras on JAX does not wait for a step's end, and must not for its time.
PACE = """
import threading, time
import keras, numpy as np
from benchmarks.pace import STEPS_AHEAD, Pace

class Watch(Pace):
    def __init__(self):
        super().__init__()
        self.threads, self.ahead, self.begun = set(), [], 0

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 30:
            self.wait()
            assert len(self.ends) == self.begun == 30
        super().on_train_batch_begin(batch, logs)
        self.begun += 1
        self.ahead.append(self.begun - len(self.ends))

    def on_train_batch_end(self, batch, logs=None):
        self.threads.add(threading.get_ident())
        if batch == 20:
            time.sleep(0.3)
        super().on_train_batch_end(batch, logs)

x = np.zeros((40, 1), np.float32)
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
watch = Watch()
model.fit(x, x, batch_size=1, verbose=0, callbacks=[watch])
assert threading.get_ident() not in watch.threads
assert len(watch.ends) == 40
assert 1 < max(watch.ahead) <= STEPS_AHEAD, watch.ahead
"""


@pytest.mark.parametrize("script", [REHEARSAL, PACE], ids=["training", "pace"])
def test_keras_on_jax(path, tmp_path, script):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script, path, str(tmp_path)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_tfio_needs_a_python_that_it_has_wheels_for(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(setup, "PYTHONS", ("9.99",))
    assert setup.find_python() is None
    assert setup.main([str(tmp_path / "env")]) == setup.NO_PYTHON
    assert "no Python of 9.99, which tensorflow-io has wheels for" in capsys.readouterr().out
    assert not (tmp_path / "env").exists()


def test_half_an_environment_is_removed(capsys, tmp_path):
    folder = tmp_path / "env"
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nmkdir -p "$4" && touch "$4/pyvenv.cfg"')
    python.chmod(0o755)
    assert setup.main([str(folder), "--python", str(python)]) == 1
    text = capsys.readouterr().out
    assert f"+ {python} -m venv --clear {folder}" in text
    assert "that failed" in text
    assert not folder.exists()


def test_a_folder_of_somebody_elses_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    assert setup.main([str(tmp_path), "--python", sys.executable]) == 1
    assert "is no virtual environment" in capsys.readouterr().out
    assert (tmp_path / "thesis.tex").read_text() == "all of it"
