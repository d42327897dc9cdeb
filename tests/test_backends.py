"""Keras 3 on JAX and on PyTorch takes the same dataset, and goes on where it was."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from h5video_data.testing import write_video_file

SCRIPT = """
import json, sys
import keras
import numpy as np
import h5video_data as h5v

path, folder = sys.argv[1:]


class Interrupt(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        if self.steps == 8:
            raise KeyboardInterrupt


def train(name, *others, epochs=3):
    data = h5v.video_dataset_from_hdf5(path, batch_size=8, seed=3)
    val = h5v.video_dataset_from_hdf5(path, batch_size=8, shuffle=False)
    model = keras.Sequential([
        keras.Input((2, 1, 4, 4)), keras.layers.Rescaling(1 / 127), keras.layers.Flatten(),
        keras.layers.Dense(4, activation="softmax", kernel_initializer="zeros"),
    ])
    model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy")
    callbacks = [
        keras.callbacks.BackupAndRestore(f"{folder}/{name}", save_freq=2),
        h5v.callbacks.FeedCheckpoint(data, f"{folder}/{name}.json"),
        *others,
    ]
    model.fit(data, validation_data=val, epochs=epochs, shuffle=False, verbose=0,
              callbacks=callbacks)
    assert model.predict(val, verbose=0).shape == (46, 4)
    return [np.asarray(weights).tolist() for weights in model.get_weights()]


whole = train("whole")
try:
    train("parts", Interrupt())
except KeyboardInterrupt:
    pass
else:
    raise AssertionError
parts = train("parts")
print(json.dumps([keras.backend.backend(), whole, parts]))
"""


def run(backend, path, folder):
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path, str(folder)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name, whole, parts = json.loads(done.stdout.splitlines()[-1])
    assert name == backend
    return whole, parts


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_video_file(folder / "a.h5", num_samples=46, sample_shape=(2, 1, 4, 4))


@pytest.fixture(scope="module")
def expected(path, tmp_path_factory):
    return run("tensorflow", path, tmp_path_factory.mktemp("tensorflow") / "a")[0]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_trains_as_tensorflow_does_and_goes_on(backend, path, tmp_path, expected):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    whole, parts = run(backend, path, tmp_path / "a")
    for weights, of_tensorflow, of_parts in zip(whole, expected, parts, strict=True):
        np.testing.assert_allclose(weights, of_tensorflow, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(weights, of_parts)
