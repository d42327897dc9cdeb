"""Keras 3 and tf_keras train, evaluate and predict on the datasets, as they do on arrays."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tf_keras

import h5video_data as h5v
from benchmarks import plain_generator
from benchmarks.plain_generator import (
    generate_training_sequences,
    generate_validation_sequences,
    train_model,
)
from h5video_data import testing

NUM = 22
BATCH = 4
STEPS = 6
CLASSES = 4
SAMPLE = testing.SAMPLE_SHAPE

# `fit` of Keras 3 shuffles by default, and warns where it cannot: on datasets and on generators.
ignore_shuffle_warning = pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning")
both_keras = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras 3", "tf_keras"])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    name = testing.write_video_file(
        tmp_path_factory.mktemp("data") / "set.h5", num_samples=NUM, num_classes=CLASSES
    )
    with h5py.File(name, "r+") as file:
        file["weight"] = np.linspace(0, 3, NUM, dtype=np.float32)
    return name


def make(path, **options):
    return h5v.video_dataset_from_hdf5(path, **{"batch_size": BATCH, "seed": 0, **options})


def make_arrays(path):
    with h5py.File(path) as file:
        return file["X"][:], file["Y"][:], file["weight"][:]


def make_model(k, seed=0):
    """A small classifier; the seed gives the weights that it begins with."""
    # Not by `set_random_seed`: with it, tf_keras 2.18 fails on Python 3.12.
    weights = k.initializers.GlorotUniform(seed)
    model = k.Sequential(
        [
            k.Input(SAMPLE),
            k.layers.Rescaling(1 / 255),
            k.layers.Flatten(),
            k.layers.Dense(CLASSES, activation="softmax", kernel_initializer=weights),
        ]
    )
    model.compile(k.optimizers.SGD(0.1), "categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model, dataset, **options):
    """`fit`, quietly; Keras 3 warns that it cannot shuffle a dataset unless told not to try."""
    return model.fit(dataset, **{"shuffle": False, "verbose": 0, **options}).history


class Order:
    """A sampler that gives the same positions in every epoch, and notes which were asked for."""

    def __init__(self, positions):
        self.positions = np.asarray(positions)
        self.epochs = []

    def epoch(self, epoch):
        self.epochs.append(epoch)
        return self.positions


# Training


@both_keras
def test_fit_with_validation(path, k):
    train, val = make(path, validation_split=0.3, subset="both")
    history = fit(make_model(k), train, validation_data=val, epochs=4)
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ["loss", "accuracy", "val_loss", "val_accuracy"], 4
    )
    assert history["loss"][-1] < history["loss"][0]


@both_keras
@ignore_shuffle_warning
def test_fit_as_in_the_readme(path, k):
    train, val = h5v.video_dataset_from_hdf5(
        path, batch_size=32, validation_split=0.3, subset="both", seed=0
    )
    assert make_model(k).fit(train, validation_data=val, epochs=2).epoch == [0, 1]


@both_keras
def test_the_same_seed_gives_the_same_weights(path, k):
    def train(seed):
        model = make_model(k)
        dataset = make(path, seed=seed, map_fn=h5v.transforms.random_flip())
        fit(model, dataset, epochs=3)
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    first = train(seed=1)
    np.testing.assert_array_equal(train(seed=1), first)
    assert not np.array_equal(train(seed=2), first)


@both_keras
def test_each_of_kerass_epochs_is_the_next_epoch_of_the_order(path, k):
    order = Order(range(NUM))
    fit(make_model(k), make(path, shuffle=order), epochs=3)
    assert order.epochs == [0, 0, 1, 2, 3]  # first how many there are; last, one ahead


@both_keras
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"class_weight": {0: 0.0, 1: 0.5, 2: 1.0, 3: 4.0}}, id="class_weight"),
        pytest.param({"sample_weight": "weight"}, id="sample_weight"),
    ],
)
def test_fit_does_what_it_does_on_arrays(path, k, options):
    x, y, weight = make_arrays(path)
    names = {key: name for key, name in options.items() if key == "sample_weight"}
    class_weight = options.get("class_weight")
    found = fit(
        make_model(k), make(path, shuffle=False, **names), epochs=2, class_weight=class_weight
    )
    expected = make_model(k).fit(
        x,
        y,
        batch_size=BATCH,
        sample_weight=weight if names else None,
        class_weight=class_weight,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    np.testing.assert_allclose(found["loss"], expected.history["loss"], rtol=1e-5)
    if options:
        assert found["loss"] != pytest.approx(fit(make_model(k), make(path, shuffle=False))["loss"])


@both_keras
@pytest.mark.parametrize("batch_size", [BATCH, None], ids=["batches", "single samples"])
def test_steps_per_epoch_on_a_repeated_dataset(path, k, batch_size):
    order = Order(range(NUM))
    steps = []
    dataset = make(path, shuffle=order, batch_size=batch_size).repeat()

    class Steps(k.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            del logs
            steps.append(batch)

    history = fit(
        make_model(k),
        dataset if batch_size else dataset.batch(BATCH),
        steps_per_epoch=5,
        epochs=4,
        callbacks=[Steps()],
    )
    assert len(history["loss"]) == 4
    assert steps == [*range(5)] * 4
    assert set(order.epochs) >= {0, 1, 2, 3}  # 20 batches are more than three epochs


@both_keras
def test_several_inputs(path, k):
    video, weight = k.Input(SAMPLE, name="video"), k.Input((), name="weight")
    features = [k.layers.Flatten()(video), k.layers.Reshape((1,))(weight)]
    outputs = k.layers.Dense(CLASSES)(k.layers.Concatenate()(features))
    model = k.Model({"video": video, "weight": weight}, outputs)
    model.compile("sgd", "mse")
    x, y, weight = make_arrays(path)
    dataset = make(path, x={"video": "X", "weight": "weight"}, shuffle=False)
    assert model.evaluate(dataset, verbose=0) == pytest.approx(
        model.evaluate({"video": x, "weight": weight}, y, batch_size=BATCH, verbose=0), rel=1e-5
    )


@both_keras
def test_backup_and_restore(path, k, tmp_path):
    # It needs to know the number of steps, and crashed on generators that did not tell.
    class Interrupt(k.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            del logs
            if epoch == 2:
                raise KeyboardInterrupt

    dataset = make(path)
    backup = k.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(k), dataset, epochs=4, callbacks=[backup, Interrupt()])
    backup = k.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    assert len(fit(make_model(k), dataset, epochs=4, callbacks=[backup])["loss"]) == 2


def test_keras_finds_tf_keras_by_the_environment(path):
    code = (
        "import tensorflow as tf, h5video_data as h5v\n"
        f"train = h5v.video_dataset_from_hdf5({path!r}, batch_size=4)\n"
        "model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(4)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(train, epochs=2, verbose=0)\n"
        "print(tf.keras.Model.__module__.split('.')[0], len(train))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert done.stdout.split() == ["tf_keras", str(STEPS)]


# Evaluation and prediction


@both_keras
@pytest.mark.parametrize("sample_weight", [None, "weight"])
def test_evaluate(path, k, sample_weight):
    x, y, weight = make_arrays(path)
    model = make_model(k)
    found = model.evaluate(make(path, shuffle=False, sample_weight=sample_weight), verbose=0)
    expected = model.evaluate(x, y, BATCH, 0, weight if sample_weight else None)
    assert found == pytest.approx(expected, rel=1e-5)


@both_keras
@pytest.mark.parametrize("y", ["Y", None])
def test_predictions_come_in_the_order_of_the_file(path, k, y):
    model = k.Sequential([k.layers.Flatten()])
    expected = make_arrays(path)[0].reshape(NUM, -1)
    found = model.predict(make(path, y=y, shuffle=False), verbose=0)
    np.testing.assert_array_equal(found, expected)
    _, validation = h5v.split_samples(path, 0.3, seed=0)
    _, val = make(path, y=y, validation_split=0.3, subset="both")
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(val, verbose=0), expected[validation])


# The way that it replaces


@both_keras
@ignore_shuffle_warning
def test_it_trains_as_the_plain_generator_does(path, k):
    order = np.random.default_rng(5).permutation(NUM)
    training, validation = order[:15], order[15:]
    found = fit(
        make_model(k),
        make(path, shuffle=Order(training)),
        validation_data=make(path, shuffle=Order(validation)),
        epochs=3,
    )
    with h5py.File(path) as file:
        expected = make_model(k).fit(
            generate_training_sequences(BATCH, file, training),
            validation_data=generate_validation_sequences(BATCH, file, validation),
            steps_per_epoch=math.ceil(len(training) / BATCH),
            validation_steps=math.ceil(len(validation) / BATCH),
            epochs=3,
            verbose=0,
        )
    assert found.keys() == expected.history.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected.history[name], rtol=1e-4, err_msg=name)


@both_keras
@ignore_shuffle_warning
def test_it_trains_as_the_original_example_does(path, k, monkeypatch):
    default_rng = np.random.default_rng
    with monkeypatch.context() as patch:
        patch.setattr(plain_generator.np.random, "default_rng", lambda: default_rng(5))
        expected = train_model(make_model(k), path, 0.3, BATCH, epochs=2).history
    order = default_rng(5).permutation(NUM)
    found = fit(
        make_model(k),
        make(path, shuffle=Order(order[:15])),
        validation_data=make(path, shuffle=Order(order[15:])),
        epochs=2,
    )
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)
