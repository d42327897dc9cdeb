"""Which GPU a dataset is for, with devices that are made up."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from cuda_driver import Driver

import h5video_data as h5v
from h5video_data.reading import pinned_memory, prefetcher
from h5video_data.reading.pinned_memory import PinnedMemory
from h5video_data.testing import write_video_file
from h5video_data.tfdata.devices import cuda_gpu


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "set.h5"
    return write_video_file(path, num_samples=12, sample_shape=(4, 3, 64, 64))


@pytest.fixture
def gpus(monkeypatch):
    """Has TensorFlow say that it sees CUDA's GPUs 1 and 3."""
    found = [SimpleNamespace(name=f"/physical_device:GPU:{number}") for number in (1, 3)]
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: found)
    return found


@pytest.fixture
def driver(monkeypatch):
    """The driver that loaders find, and the GPUs whose contexts they ask it for."""
    found = Driver()
    found.gpus = []
    found.actions["cuDeviceGet"] = lambda _, number: found.gpus.append(number)
    monkeypatch.setattr(
        prefetcher, "PinnedMemory", functools.partial(PinnedMemory, functions=found)
    )
    return found


@pytest.mark.parametrize(
    ("device", "number"),
    [
        (None, 1),
        ("/GPU:0", 1),
        ("GPU:1", 3),
        ("/job:localhost/replica:0/task:0/device:GPU:1", 3),
        ("/GPU:7", 3),  # the second half of the last one
        ("/CPU:0", None),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_the_number_of_a_gpu(device, number):
    assert cuda_gpu(device) == number


def test_no_gpu(gpus, monkeypatch):
    gpus.clear()
    assert cuda_gpu(None) is None
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    gpus.append(SimpleNamespace(name="/physical_device:GPU:0"))  # of another make
    assert cuda_gpu(None) is None


def pinned_epochs(path, driver, **options):
    """Whether each batch of an epoch is in pinned memory."""
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=4, **options)
    return [driver.holds(np.asarray(memoryview(x)).ctypes.data) for x, _ in dataset]


@pytest.mark.usefixtures("gpus")
def test_batches_for_a_gpu_are_pinned(path, driver):
    assert pinned_epochs(path, driver) == [True] * 3
    assert driver.gpus == [1]


@pytest.mark.parametrize(
    "options", [{"pin_memory": False}, {"map_fn": lambda x, y: (x, y)}, {"device": "/CPU:0"}]
)
@pytest.mark.usefixtures("gpus")
def test_batches_that_no_gpu_copies_are_not_pinned(path, driver, options):
    assert pinned_epochs(path, driver, **options) == [False] * 3
    assert driver.calls == []


def test_without_a_gpu_the_driver_is_not_looked_for(path, driver):
    assert pinned_epochs(path, driver) == [False] * 3
    assert driver.calls == []


@pytest.mark.usefixtures("gpus")
def test_a_gpu_without_a_driver(path, driver, monkeypatch):
    """An AMD one, say."""
    monkeypatch.setattr(prefetcher, "PinnedMemory", PinnedMemory)
    monkeypatch.setattr(pinned_memory, "LIBRARY", "libno-such-driver.so.1")
    assert pinned_epochs(path, driver) == [False] * 3
