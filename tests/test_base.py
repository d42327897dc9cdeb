"""The callback that does nothing, in both Keras, and what a feed is."""

import keras
import numpy as np
import pytest
import tf_keras

import h5video_data as h5v
from h5video_data.callbacks.base import Callback, loader_of
from h5video_data.errors import ArgumentError
from h5video_data.testing import write_video_file


@pytest.fixture
def path(tmp_path):
    return write_video_file(tmp_path / "set.h5", num_samples=6)


def test_the_loader_of_a_feed(path):
    with h5v.VideoLoader(path) as loader:
        assert loader_of(loader) is loader
    dataset = h5v.video_dataset_from_hdf5(path)
    assert loader_of(dataset) is dataset.loader


@pytest.mark.parametrize("make", [lambda dataset: dataset.repeat(), str, lambda _: None])
def test_what_is_no_feed(path, make):
    with pytest.raises(ArgumentError, match="must be a VideoLoader, or the dataset"):
        loader_of(make(h5v.video_dataset_from_hdf5(path)))


@pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras 3", "tf_keras"])
def test_all_hooks_are_there(k):
    """Keras 3 and tf_keras call hooks of different names; none of them needs a base class."""

    class Noting(Callback):
        def __init__(self):
            self.called = []

        def on_epoch_end(self, epoch, logs=None):
            self.called.append((epoch, sorted(logs), self.model is model, self.params["epochs"]))

    model = k.Sequential([k.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, noting = np.zeros((4, 1), np.float32), Noting()
    model.fit(x, x, validation_data=(x, x), epochs=2, verbose=0, callbacks=[noting])
    assert noting.called == [(n, ["loss", "val_loss"], True, 2) for n in range(2)]
    model.evaluate(x, x, verbose=0, callbacks=[noting])
    model.predict(x, verbose=0, callbacks=[noting])


def test_keras_need_not_wait_for_hooks_that_do_nothing():
    assert not Callback()._implements_train_batch_hooks()

    class Steps(Callback):
        def on_train_batch_end(self, batch, logs=None):
            """Looks at each step."""

    assert Steps()._implements_train_batch_hooks()
