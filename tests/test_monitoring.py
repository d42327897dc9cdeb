"""`FeedMonitor` on pipelines that are slowed down on purpose, stage by stage."""

from __future__ import annotations

import contextlib
import csv
import functools
import inspect
import math
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from decoding_helpers import before_each_chunk

import h5video_data as h5v
from h5video_data import testing
from h5video_data.callbacks import FeedMonitor, monitoring
from h5video_data.reading import byte_sources
from h5video_data.reading import hdf5_source as fallback
from h5video_data.reading.prefetcher import Prefetcher
from h5video_data.tfdata import timestamps as stamps
from h5video_data.video_set import VideoSet

SAMPLE = (4, 3, 16, 16)
NUM = 80
BATCH = 4
STEPS = 20
CLASSES = 4
KEYS = {
    "feed_steps_per_second",
    "feed_samples_per_second",
    "feed_wait",
    "feed_read",
    "feed_decode",
    "feed_map",
    "feed_hand_over",
}
STAGES = ["feed_read", "feed_decode", "feed_map", "feed_hand_over"]

both_keras = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras 3", "tf_keras"])


scale = 1


def sleep(seconds):
    """For so long, or `scale` times as long."""
    time.sleep(seconds * scale)


def at_any_load(test):
    """Tries a test again with all times 5 times as long, then, twice, 25 times as long.

    What else runs on the machine then counts for less; what the package does wrong stays wrong.
    """

    @functools.wraps(test)
    def attempts(*args, **options):
        global scale
        try:
            for times_as_long in (1, 5, 25):
                scale = times_as_long
                with contextlib.suppress(AssertionError):
                    return test(*args, **options)
            return test(*args, **options)
        finally:
            scale = 1

    return attempts


def write(folder, **options):
    return testing.write_video_file(
        folder / "set.h5", num_samples=NUM, sample_shape=SAMPLE, num_classes=CLASSES, **options
    )


@pytest.fixture
def path(tmp_path):
    return write(tmp_path)


@pytest.fixture
def gzip_path(tmp_path):
    return write(tmp_path, chunks=(1, *SAMPLE), compression="gzip")


def make(path, **options):
    return h5v.video_dataset_from_hdf5(
        path, **{"batch_size": BATCH, "seed": 0, "num_threads": 2, **options}
    )


def nap(seconds, value):
    sleep(seconds)
    return value


def sleepy(seconds, name="sleepy"):
    """A map function that takes so long."""

    def function(x, y):
        slept = tf.numpy_function(functools.partial(nap, seconds), [y], tf.float32)
        return x, tf.ensure_shape(slept, y.shape)

    function.__name__ = name
    return function


def slow_down(monkeypatch, owner, name, seconds):
    original = inspect.unwrap(getattr(owner, name))  # not of another attempt

    @functools.wraps(original)
    def slow(*args):
        sleep(seconds)
        return original(*args)

    monkeypatch.setattr(owner, name, slow)


@pytest.fixture
def _slow_disk(monkeypatch):
    monkeypatch.setattr(byte_sources, "open_queue", lambda: None)
    slow_down(monkeypatch, byte_sources.LocalFile, "_read", 0.01)


class Training:
    """Runs the hooks as Keras does, and takes the time that it waits for the batches itself."""

    def __init__(self, monitor, dataset, *, steps=None, per_execution=1, compute=0.01):
        self.monitor = monitor
        self.dataset = dataset
        self.steps = steps
        self.per_execution = per_execution
        self.compute = compute
        self.iterator = None
        self.waits = []
        """For each epoch, the fraction of its time that was spent in `next`."""

    def run(self, epochs, data_first=False, between=lambda: None):
        monitor, num_steps = self.monitor, self.steps or len(self.dataset)
        monitor.set_params({"verbose": 0, "steps": num_steps})
        monitor.on_train_begin()
        for epoch in range(epochs):
            monitor.on_epoch_begin(epoch)
            begin = time.perf_counter()
            waited = 0.0
            if self.steps is None or self.iterator is None:
                self.iterator = iter(self.dataset)
            for first in range(0, num_steps, self.per_execution):
                if not data_first:
                    monitor.on_train_batch_begin(first)
                for step in range(first, min(first + self.per_execution, num_steps)):
                    now = time.perf_counter()
                    next(self.iterator)
                    waited += time.perf_counter() - now
                    if data_first:
                        monitor.on_train_batch_begin(step)
                    sleep(self.compute)
                monitor.on_train_batch_end(first + self.per_execution - 1)
            self.waits.append(waited / (time.perf_counter() - begin))
            between()
            logs = {"loss": 1.0}
            monitor.on_epoch_end(epoch, logs)
            assert logs.keys() == {"loss"}
        return monitor.history[-1]


def train(path, *, epochs=2, compute=0.01, **options):
    """The report of the last epoch, of a dataset that repeats itself."""
    dataset = make(path, **options)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset.repeat(), steps=STEPS, compute=compute)
    report = training.run(epochs)
    check(report, training.waits[-1])
    return report


def check(report, waited, most=0.05):
    """The fraction that is reported is the one that was seen from outside, more or less."""
    # Behind the last stage, `next` takes time on its own: a millisecond.
    slack = 0.05 + 0.001 * report.steps_per_second
    assert 0.8 * waited - slack < report.wait < waited + most
    parts = [report.read, report.decode, report.map, report.hand_over]
    assert report.wait == pytest.approx(sum(parts), abs=1e-6)
    assert min(parts) > -1e-6


# Stage by stage


@pytest.mark.usefixtures("_slow_disk")
@at_any_load
def test_a_slow_disk(path):
    report = train(path, read_ahead_bytes=0)
    assert report.wait > 0.2
    assert report.read > 0.7 * report.wait
    assert report.decode == 0
    assert report.advice.startswith("the disk is the limit: waited ")
    assert "B/s read of " in report.advice


@pytest.mark.usefixtures("_slow_disk")
@at_any_load
def test_a_slow_disk_under_compressed_chunks(gzip_path):
    report = train(gzip_path, read_ahead_bytes=0)
    assert report.read > 0.6 * report.wait
    assert report.advice.startswith("the disk is the limit")


@at_any_load
def test_slow_decoding(gzip_path, monkeypatch):
    before_each_chunk(monkeypatch, lambda: sleep(0.01))
    report = train(gzip_path, read_ahead_bytes=0)
    assert report.wait > 0.2
    assert report.decode > 0.6 * report.wait
    assert report.verdict == report.advice  # its former name
    assert report.advice.startswith("decoding is the limit")
    assert "2 threads decoded" in report.advice


@at_any_load
def test_slow_decoding_before_a_map_stage_that_has_time(gzip_path, monkeypatch):
    """A batch spends longer in the map stage than in its decoding, but several do at once."""
    before_each_chunk(monkeypatch, lambda: sleep(0.018))
    # A thread for each sample of a batch; of the calls, two at once at the least.
    report = train(gzip_path, read_ahead_bytes=0, map_fn=sleepy(0.02), num_threads=4, compute=0)
    assert report.decode > 0.4 * report.wait
    assert report.advice.startswith("decoding is the limit")


@at_any_load
def test_a_slow_map_stage(path):
    report = train(path, map_fn=sleepy(0.04, "augment"), num_threads=2)
    # A batch comes every 20 ms, half of which the step takes.
    assert 0.15 < report.wait < 0.8
    assert report.map > 0.8 * report.wait
    assert report.advice.startswith("the map stage augment is the limit")
    assert report.steps_per_second < 60
    assert report.samples_per_second == pytest.approx(BATCH * report.steps_per_second)


@at_any_load
def test_the_slowest_of_several_map_stages(path):
    stages = [sleepy(0.005, "first"), sleepy(0.04, "second"), sleepy(0.01, "third")]
    report = train(path, map_fn=stages, num_threads=2)
    assert report.map > 0.7 * report.wait
    assert report.advice.startswith("a map stage (first, second, third) is the limit")


@at_any_load
def test_a_slow_hand_over(path, monkeypatch):
    slow_down(monkeypatch, VideoSet, "build", 0.1)  # once for a bundle of batches
    report = train(path)
    assert report.hand_over > 0.8 * report.wait > 0.2
    assert report.advice.startswith("the hand-over to TensorFlow is the limit")


@at_any_load
def test_a_slow_model(gzip_path):
    report = train(gzip_path, compute=0.03, map_fn=sleepy(0.005))
    assert report.wait < 0.1
    assert 10 < report.steps_per_second * scale < 34
    assert report.advice.startswith("the feed keeps up: waited ") or report.wait > 0.03


@at_any_load
def test_datasets_that_hdf5_has_to_read(tmp_path, monkeypatch):
    path = write(tmp_path, chunks=(1, *SAMPLE), scaleoffset=0)
    slow_down(monkeypatch, fallback.Hdf5Source, "read", 0.02)
    report = train(path, read_ahead_bytes=0)
    assert report.read > 0.7 * report.wait > 0.1
    assert report.advice.startswith("reading by HDF5, one read at a time, is the limit")
    assert "Dataset '/X': its filter 'scaleoffset' is decoded by HDF5" in report.advice
    assert "`h5video-data inspect`" in report.advice


@at_any_load
def test_each_epoch_makes_an_iterator_anew(path, monkeypatch):
    """Its start counts, but for the first one, when Keras builds the model's graph meanwhile."""
    slow_down(monkeypatch, Prefetcher, "_next_epoch_reader", 0.3)
    dataset = make(path)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset, compute=0.005)
    training.run(epochs=2)
    first, second = monitor.history
    assert first.wait < training.waits[0] + 0.05
    check(second, training.waits[1])
    assert first.advice.startswith("the start of the training is the limit")
    assert second.advice.startswith("the start of the epoch is the limit")
    assert "dataset.repeat()" in second.advice


# What is trained on


@pytest.fixture
def slow_map():
    """A batch every 20 ms with two threads."""
    return sleepy(0.04)


@at_any_load
def test_several_steps_at_once(path, slow_map):
    dataset = make(path, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset.repeat(), steps=STEPS, per_execution=7)
    report = training.run(epochs=2)
    assert report.num_steps == STEPS
    check(report, training.waits[-1])


@at_any_load
def test_a_part_of_the_dataset(path, slow_map):
    dataset = make(path, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset.take(12))
    training.run(epochs=3)
    for report, waited in list(zip(monitor.history, training.waits, strict=True))[1:]:
        assert report.num_steps == 12
        check(report, waited)


@at_any_load
def test_the_rest_of_an_epoch(path, slow_map):
    dataset = make(path, map_fn=slow_map)
    loader = dataset.loader
    loader.load_state_dict(loader.state_dict(epoch=0, step=8))
    monitor = FeedMonitor(loader, verbose=0)
    training = Training(monitor, dataset, steps=STEPS - 8)
    report = training.run(epochs=1)
    assert report.num_steps == 12
    assert report.map > 0.6 * report.wait > 0.1
    training.iterator = None
    training.steps = STEPS
    report = training.run(epochs=1)
    assert (report.num_steps, len(monitor.history)) == (STEPS, 2)
    assert report.map > 0.6 * report.wait > 0.1


@pytest.mark.parametrize("is_same", [False, True], ids=["another dataset", "the same one"])
@at_any_load
def test_a_validation_does_not_count(path, slow_map, is_same):
    dataset = make(path, map_fn=slow_map)
    validation = dataset if is_same else make(path, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset, compute=0.03)

    def validate():
        monitor.on_test_begin()
        for _ in validation:
            pass
        monitor.on_test_end()

    report = training.run(epochs=2, between=validate)
    check(report, training.waits[-1])


@at_any_load
def test_two_trainings_with_one_monitor(path, slow_map):
    dataset = make(path, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    waits = []
    for _ in range(2):
        # The first one is broken off in the middle of an iteration.
        training = Training(monitor, dataset.repeat(), steps=15)
        training.run(epochs=2)
        waits += training.waits
    assert [report.epoch for report in monitor.history] == [0, 1, 0, 1]
    check(monitor.history[1], waits[1])
    check(monitor.history[3], waits[3])


@at_any_load
def test_data_before_the_step_as_with_other_backends(path, slow_map):
    dataset = make(path, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset.repeat(), steps=STEPS)
    report = training.run(epochs=2, data_first=True)
    check(report, training.waits[-1])


@pytest.mark.parametrize("taken_ahead", [0, 1], ids=["", "takes the next batch first"])
@pytest.mark.parametrize("compute", [0.005, 0.04], ids=["a fast device", "a slow device"])
@at_any_load
def test_steps_that_end_in_other_threads_while_later_ones_begin(
    path, slow_map, compute, taken_ahead
):
    dataset = make(path, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    assert monitor.async_safe
    ahead = threading.Semaphore(4)
    late = random.Random(0)

    def end(step):
        time.sleep(late.uniform(0, 0.003))  # notified in another order
        monitor.on_train_batch_end(step)

    def step_on_the_device(step):
        sleep(compute)
        ahead.release()
        return notices.submit(end, step)

    monitor.set_params({"verbose": 0, "steps": STEPS})
    monitor.on_train_begin()
    for epoch in range(2):
        monitor.on_epoch_begin(epoch)
        batches = iter(dataset)
        for _ in range(taken_ahead):
            next(batches)
        with ThreadPoolExecutor(4) as notices, ThreadPoolExecutor(1) as device:
            for step in range(STEPS):
                ahead.acquire()
                monitor.on_train_batch_begin(step)
                next(batches, None)
                device.submit(step_on_the_device, step)
        monitor.on_epoch_end(epoch, {})
    report = monitor.history[-1]
    assert report.num_steps == STEPS
    # A batch comes every 20 ms.
    assert report.wait > 0.5 if compute < 0.02 else report.wait < 0.3
    assert min(report.read, report.map, report.hand_over) > -1e-6


ON_JAX = """
import sys, time
import keras
import tensorflow as tf
import h5video_data as h5v

def slow(x, y):
    slept = tf.numpy_function(lambda y: (time.sleep(0.04), y)[1], [y], tf.float32)
    return x, tf.ensure_shape(slept, y.shape)

for map_fn, is_slow in ((None, False), (slow, True)):
    train = h5v.video_dataset_from_hdf5(sys.argv[1], batch_size=4, seed=0, map_fn=map_fn,
                                        num_threads=2)
    spec = train.element_spec
    size = 2000 if not is_slow else 4
    model = keras.Sequential([keras.Input(spec[0].shape[1:]), keras.layers.Flatten(),
        *(keras.layers.Dense(size) for _ in range(3)), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    monitor = h5v.callbacks.FeedMonitor(train, verbose=0)
    model.fit(train, epochs=3, verbose=0, shuffle=False, callbacks=[monitor])
    report = monitor.history[-1]
    assert report.num_steps == 20, report
    assert report.wait > 0.6 if is_slow else report.wait < 0.4, report
"""


@at_any_load
def test_keras_on_jax(path):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("nap_of_a_batch", [0.02, 0.044])
@at_any_load
def test_a_prefetch_of_the_user(path, nap_of_a_batch):
    """It always wants more: that the feed is behind does not mean that the training waits."""
    dataset = make(path, map_fn=sleepy(nap_of_a_batch))
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset.prefetch(4).repeat(), steps=STEPS, compute=0.02)
    report = training.run(epochs=3)
    # What the prefetch had in hand when an epoch began is not seen.
    check(report, training.waits[-1], most=0.15)


@at_any_load
def test_replicas_of_a_worker(path, slow_map):
    """A step takes one element for each; it has to wait for the last of them."""
    context = tf.distribute.InputContext(num_replicas_in_sync=2)
    dataset = make(path, map_fn=slow_map, batch_size=8, input_context=context)
    monitor = FeedMonitor(dataset, verbose=0)
    pairs = dataset.batch(2, drop_remainder=True).repeat()
    training = Training(monitor, pairs, steps=14)
    report = training.run(epochs=2)
    check(report, training.waits[-1])
    assert report.samples_per_second == pytest.approx(8 * report.steps_per_second, rel=0.05)


@at_any_load
def test_single_samples_that_are_batched_later(path, slow_map):
    dataset = make(path, batch_size=None, map_fn=slow_map)
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset.batch(BATCH).repeat(), steps=STEPS, compute=0.001)
    report = training.run(epochs=2)
    check(report, training.waits[-1])


def test_a_cache(path):
    dataset = make(path)
    monitor = FeedMonitor(dataset, verbose=0)
    Training(monitor, dataset.cache(), compute=0).run(epochs=2)
    assert [report.samples_per_second > 0 for report in monitor.history] == [True, False]
    assert "the batches came from elsewhere" in monitor.history[1].advice


@at_any_load
def test_more_elements_than_are_kept(path, monkeypatch):
    monkeypatch.setattr(stamps, "NUM_KEPT", 64)
    monkeypatch.setattr(monitoring, "_EVALUATE_EVERY", 10)
    dataset = make(path, batch_size=1, map_fn=sleepy(0.004))
    monitor = FeedMonitor(dataset, verbose=0)
    training = Training(monitor, dataset, compute=0.001)
    report = training.run(epochs=2)
    assert report.samples_per_second == pytest.approx(report.steps_per_second)
    check(report, training.waits[-1])


def test_steps_outside_of_an_epoch_do_not_count(path):
    monitor = FeedMonitor(make(path), verbose=0)
    for _ in range(2):
        monitor.on_test_begin()  # of `evaluate`
        monitor.on_train_batch_begin(0)
        monitor.on_train_batch_end(0)
        assert monitor._meter is None
        monitor.on_train_begin()
    monitor.on_epoch_begin(0)
    monitor.on_epoch_end(0)
    assert monitor.history == []


def test_an_epoch_without_steps(path):
    monitor = FeedMonitor(make(path))
    monitor.on_epoch_begin(0)
    logs = {}
    monitor.on_epoch_end(0, logs)
    assert not monitor.history
    assert not logs


# In Keras


def make_model(k):
    model = k.Sequential([k.layers.Flatten(), k.layers.Dense(CLASSES)])
    model.compile(k.optimizers.SGD(0.0), "mse")
    return model


@both_keras
@at_any_load
def test_in_fit(path, tmp_path, k, slow_map, capsys):
    capsys.readouterr()  # of another attempt
    train = make(path, map_fn=slow_map)
    val = make(path, batch_size=30, map_fn=sleepy(0.1))
    monitor = FeedMonitor(train, logs=True)
    history = make_model(k).fit(
        train,
        validation_data=val,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[monitor, k.callbacks.CSVLogger(str(tmp_path / "log.csv"))],
    )
    assert history.history.keys() == KEYS | {"loss", "val_loss"}
    report = monitor.history[1]
    assert report.num_steps == STEPS
    # A batch comes every 20 ms, the steps take far less.
    assert report.seconds > 0.018 * STEPS
    assert 0.15 < report.wait <= 1
    assert report.map > 0.6 * report.wait
    assert report.steps_per_second == pytest.approx(STEPS / report.seconds)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Epoch {n + 1}: {monitor.history[n].advice}" for n in range(2)]
    assert lines[1].startswith("Epoch 2: the map stage sleepy is the limit: waited ")
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["feed_wait"]) for row in rows] == [r.wait for r in monitor.history]


@both_keras
@at_any_load
def test_in_fit_with_a_slow_model_and_a_dataset_that_repeats(path, k, capsys):
    class Slow(k.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            del batch, logs
            sleep(0.03)

    train = make(path)
    monitor = FeedMonitor(train, verbose=0)
    make_model(k).fit(
        train.repeat(),
        steps_per_epoch=15,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[Slow(), monitor],
    )
    assert all(report.wait < 0.1 for report in monitor.history[1:])
    assert all(report.num_steps == 15 for report in monitor.history)
    assert capsys.readouterr().out == ""


@both_keras
@at_any_load
def test_steps_per_execution(path, k, slow_map):
    train = make(path, map_fn=slow_map)
    monitor = FeedMonitor(train, verbose=0)
    model = make_model(k)
    model.compile("sgd", "mse", steps_per_execution=8)
    model.fit(train, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
    assert [report.num_steps for report in monitor.history] == [STEPS, STEPS]
    assert 0.15 < monitor.history[1].wait <= 1


@at_any_load
def test_under_a_distribution_strategy(path, slow_map):
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        train = make(path, map_fn=slow_map)
        model = make_model(keras)
    monitor = FeedMonitor(train, verbose=0)
    model.fit(train, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
    assert 0.15 < monitor.history[1].wait <= 1


def test_progress_bar_and_advice_do_not_share_a_line(path, capsys):
    train = make(path)
    make_model(keras).fit(train, shuffle=False, verbose=1, callbacks=[FeedMonitor(train)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("Epoch 1: the ") for line in lines) == 1
    assert not any("feed_" in line for line in lines)  # Keras's own line is Keras's


# Its cost


def test_its_hooks_take_less_than_a_hundredth_of_a_step_of_ten_milliseconds(path):
    dataset = make(path)
    monitor = FeedMonitor(dataset, verbose=0)
    monitor.set_params({"steps": 10**9})
    best = math.inf
    for _ in range(5):
        monitor.on_train_begin()
        monitor.on_epoch_begin(0)
        iterator = iter(dataset.repeat())
        costs = []
        for step in range(60):
            begin = time.thread_time()
            monitor.on_train_batch_begin(step)
            middle = time.thread_time()
            next(iterator)
            end = time.thread_time()
            monitor.on_train_batch_end(step)
            costs.append(time.thread_time() - end + middle - begin)
        best = min(best, float(np.median(costs)))
    assert best < 1e-4


def test_stamps_take_less_than_a_hundredth_of_a_step_of_ten_milliseconds():
    def seconds(dataset):
        best = math.inf
        for _ in range(7):
            begin = time.process_time()
            for _ in dataset.skip(499):
                pass
            best = min(best, time.process_time() - begin)
        return best / 500

    numbers = tf.data.Dataset.range(500)
    assert seconds(stamps.Timestamps().follow(numbers)) - seconds(numbers) < 1e-4
