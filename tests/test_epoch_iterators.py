"""Iterators over epochs: each gives the samples of its own, whatever happened before."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import open_descriptors, package_threads, resident_nbytes, wait_until

import h5video_data as h5v
from h5video_data import testing
from h5video_data.tfdata import epoch_iterators
from h5video_data.tfdata.epoch_iterators import EpochIterators

NUM, BATCH = 42, 10
STEPS = 5


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return testing.write_video_file(tmp_path_factory.mktemp("data") / "a.h5", num_samples=NUM)


@pytest.fixture
def built(monkeypatch):
    """The iterators that were built, as weak references."""
    found = []

    class Lasting(epoch_iterators._LastingIterator):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            found.append(weakref.ref(self))

    monkeypatch.setattr(epoch_iterators, "_LastingIterator", Lasting)
    return found


def make(path, **options):
    options = {"y": None, "batch_size": BATCH, "seed": 0, "return_indices": True, **options}
    return h5v.video_dataset_from_hdf5(path, **options)


def numbers(element):
    """The samples' numbers, of which each sample must have the values."""
    x, indices = element
    np.testing.assert_array_equal(x, testing.sample_values(indices.numpy()))
    return indices.numpy().tolist()


def order(number, begin=0, seed=0):
    return np.random.default_rng([seed, number]).permutation(NUM)[begin:].tolist()


def epoch(dataset):
    return [number for element in dataset for number in numbers(element)]


def test_one_iterator_of_tensorflows_gives_all_epochs(path, built):
    dataset = make(path)
    for number in range(5):
        assert epoch(dataset) == order(number)
    assert len(built) == 1
    assert [epoch(dataset.take(STEPS)) for _ in range(2)] == [order(5), order(6)]
    assert len(built) == 1  # other datasets have the pipeline itself
    assert epoch(dataset) == order(7)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_one_does_in_between(path, seed):
    rng = np.random.default_rng(seed)
    dataset = make(path, num_threads=int(rng.integers(1, 3)), read_ahead_bytes=20_000)
    loader, following, running = dataset.loader, 0, []
    begin = 0
    for _ in range(120):
        action = rng.integers(0, 16)
        if action < 3 and len(running) < 3:
            running.append([iter(dataset), None])
        elif action == 3:
            following, begin = int(rng.integers(0, 5)), 0
            loader.set_epoch(following)
        elif action == 4:
            following, begin = int(rng.integers(0, 5)), BATCH * int(rng.integers(0, STEPS))
            loader.load_state_dict(loader.state_at(epoch=following, samples=begin))
        elif action == 5 and running:
            del running[rng.integers(0, len(running))]
        elif action in (6, 7):
            found = epoch(dataset if action == 6 else dataset.take(STEPS))
            assert found == order(following, begin)
            following, begin = following + 1, 0
        elif running:
            each = running[rng.integers(0, len(running))]
            element = next(each[0], None)
            if each[1] is None:
                each[1] = order(following, begin)
                following, begin = following + 1, 0
            expected, each[1] = each[1][:BATCH], each[1][BATCH:]
            assert ([] if element is None else numbers(element)) == expected


def test_an_epoch_belongs_to_the_iterator_that_asks_first(path):
    dataset = make(path)
    first, second = iter(dataset), iter(dataset)
    assert numbers(next(second)) == order(0)[:BATCH]
    assert numbers(next(first)) == order(1)[:BATCH]
    dataset.loader.set_epoch(3)
    assert [n for element in second for n in numbers(element)] == order(0)[BATCH:]
    assert epoch(dataset) == order(3)


def test_an_iterator_that_has_ended_stays_so(path):
    dataset = make(path)
    ended = iter(dataset)
    assert len(list(ended)) == STEPS
    for _ in range(3):
        batches = iter(dataset)
        next(batches)
        assert next(ended, None) is None
        assert len(list(batches)) == STEPS - 1


def test_what_is_broken_off_goes_at_once(path, built):
    gc.collect()
    before = package_threads()
    dataset = make(path, num_threads=2)
    batches = iter(dataset)
    next(batches)
    del batches
    assert built[0]() is None
    assert epoch(dataset) == order(1)
    assert built[1]() is not None
    never_asked = iter(dataset)
    del never_asked
    assert epoch(dataset) == order(2)
    assert len(built) == 2
    del dataset
    wait_until(lambda: not package_threads() - before)
    assert built[1]() is None


def capture(iterator):
    return tf.data.Dataset.range(STEPS).map(lambda _: next(iterator))


def test_a_graph_that_captured_an_iterator_keeps_it(path):
    dataset = make(path)
    others = iter(capture(iter(dataset)))
    assert numbers(next(others)) == order(0)[:BATCH]
    assert epoch(dataset) == order(1)
    assert [n for element in others for n in numbers(element)] == order(0)[BATCH:]


def test_map_functions_run_for_their_own_epoch_and_no_other(path, built):
    calls = []

    def augment(x, indices, *, seeds):
        tf.py_function(lambda: calls.append(1), [], [])
        return x, indices, seeds

    dataset = make(path, map_fn=augment, num_parallel_calls=4)
    reference = make(path, map_fn=augment)
    for number in range(3):
        calls.clear()
        seeds = [seeds.numpy() for _, _, seeds in dataset]
        assert len(calls) == STEPS
        expected = [seeds.numpy() for _, _, seeds in reference.take(STEPS)]
        np.testing.assert_array_equal(np.concatenate(seeds), np.concatenate(expected))
        dataset.loader.set_epoch(7 * number)
        reference.loader.set_epoch(7 * number)
    assert len(built) == 1


def test_the_epoch_after_an_error_is_right(path, built):
    fails = [True]

    def check(x, indices):
        def call(values):
            if fails[0] and 7 in values:
                raise ValueError("seven")
            return values

        return x, tf.ensure_shape(tf.numpy_function(call, [indices], tf.int64), indices.shape)

    dataset = make(path, map_fn=check)
    for number in range(2):
        found, errors = [], []
        batches = iter(dataset)
        for _ in range(STEPS):
            try:
                found += numbers(next(batches))
            except tf.errors.OpError as error:
                errors.append(str(error))
        assert next(batches, None) is None
        assert ["seven" in error for error in errors] == [True]
        steps = [order(number)[begin : begin + BATCH] for begin in range(0, NUM, BATCH)]
        assert found == [n for step in steps if 7 not in step for n in step]
        del batches
    fails.clear()
    fails.append(False)
    assert epoch(dataset) == order(2)
    assert built[0]() is None
    assert built[-1]() is not None


def test_the_epoch_after_a_read_that_failed(path, monkeypatch):
    dataset = make(path)
    assert epoch(dataset) == order(0)
    dataset.loader._feed.forget_ahead()
    plan = dataset.loader._order.plan

    def fails(*_, **__):
        raise OSError("no plan today")

    monkeypatch.setattr(dataset.loader._order, "plan", fails)
    for _ in range(2):
        with pytest.raises(tf.errors.OpError, match="no plan today"):
            epoch(dataset)
    monkeypatch.setattr(dataset.loader._order, "plan", plan)
    assert epoch(dataset) == order(3)


@pytest.mark.parametrize("batch_size", [BATCH, None])
def test_shorter_epochs_end_where_they_should(path, batch_size):
    dataset = make(path, batch_size=batch_size, y="Y" if batch_size is None else None)
    if batch_size is None:
        for number in range(3):
            found = [int(indices) for _, _, indices in dataset]
            assert found == order(number)
        return
    for begin in (10, 40, 20):
        dataset.loader.load_state_dict(dataset.loader.state_at(epoch=2, samples=begin))
        assert epoch(dataset) == order(2, begin)
        assert epoch(dataset) == order(3)


@pytest.mark.memory_limit(64)
def test_epochs_that_lack_a_whole_batch(tmp_path):
    path = testing.write_video_file(
        tmp_path / "a.h5", num_samples=NUM, chunks=(1, *testing.SAMPLE_SHAPE), compression="gzip"
    )
    with h5py.File(path) as file:
        chunks = [file["X"].id.get_chunk_info(number) for number in range(10, 20)]
    with open(path, "r+b") as file:
        for chunk in chunks:
            file.seek(chunk.byte_offset)
            file.write(bytes(chunk.size))
    dataset = make(path, shuffle=False, on_error="skip")
    for _ in range(3):
        assert epoch(dataset) == [*range(10), *range(20, NUM)]


def test_tensorflow_iterates_over_the_pipeline_itself(path, monkeypatch):
    def refuse(_):
        raise AssertionError("not here")

    monkeypatch.setattr(EpochIterators, "new", refuse)
    dataset = make(path)

    @tf.function
    def count():
        total = tf.constant(0)
        for x, _ in dataset:
            total += tf.shape(x)[0]
        return total

    @tf.function
    def first():
        return next(iter(dataset))[1]

    assert int(count()) == NUM
    assert first().numpy().tolist() == order(1)[:BATCH]
    repeated = epoch(dataset.repeat(2))
    assert repeated == order(2) + order(3)
    zipped = tf.data.Dataset.zip(dataset, dataset)
    assert sorted(n for one, _ in zipped for n in numbers(one)) == list(range(NUM))
    flat = tf.data.Dataset.range(2).flat_map(lambda _: dataset)
    assert sorted(epoch(flat)) == sorted([*range(NUM)] * 2)
    strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
    found = [n for each in strategy.experimental_distribute_dataset(dataset) for n in numbers(each)]
    assert sorted(found) == list(range(NUM))
    assert sorted(epoch(make(path, device="/CPU:0"))) == list(range(NUM))


def test_both_sides_of_a_split_in_fit(path, built):
    train, val = h5v.video_dataset_from_hdf5(
        path, batch_size=4, seed=0, validation_split=0.3, subset="both"
    )
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4, "softmax")])
    model.compile("sgd", "categorical_crossentropy")
    model.build((None, *testing.SAMPLE_SHAPE))
    model.fit(train, validation_data=val, epochs=2, verbose=0, shuffle=False)
    count = len(built)
    history = model.fit(train, validation_data=val, epochs=6, verbose=0, shuffle=False)
    assert len(history.history["val_loss"]) == 6
    assert len(built) <= count + 2
    assert int(model.optimizer.iterations) == 8 * len(train)


def test_hundreds_of_epochs_leave_nothing(path):
    dataset = make(path, num_threads=2)

    def iterate(times):
        for number in range(times):
            if number % 5 == 4:
                next(iter(dataset))
            else:
                assert sum(1 for _ in itertools.islice(dataset, None)) == STEPS

    iterate(100)
    gc.collect()
    memory, files, running = resident_nbytes(), open_descriptors(), package_threads()
    iterate(300)
    gc.collect()
    wait_until(lambda: len(package_threads()) <= len(running))
    assert len(open_descriptors()) <= len(files) + 1
    assert resident_nbytes() - memory < 30 << 20


def test_the_position_of_an_iterator_is_not_saved(path, tmp_path):
    batches = iter(make(path))
    next(batches)
    with pytest.raises(Exception, match=r"(?i)stateful|unimplemented|not support|serializ"):
        tf.train.Checkpoint(iterator=batches).save(str(tmp_path / "a"))


def test_threads_that_share_an_iterator_or_a_dataset(path):
    dataset = make(path, num_threads=2)

    def together(function):
        with ThreadPoolExecutor(4) as threads:
            return [each.result(60) for each in [threads.submit(function) for _ in range(4)]]

    found = together(lambda: [epoch(dataset) for _ in range(4)])
    assert sorted(itertools.chain(*found)) == sorted(order(number) for number in range(16))
    for _ in range(5):
        batches = iter(dataset)
        found = together(lambda: [n for element in batches for n in numbers(element)])  # noqa: B023
        assert sorted(itertools.chain(*found)) == list(range(NUM))


def test_an_iterator_that_goes_while_a_graph_is_built(path, monkeypatch):
    errors = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    dataset = make(path)
    held = []
    for number, context in enumerate([tf.Graph().as_default, tf.init_scope]):
        held.append(iter(dataset))
        assert len([next(held[0]) for _ in range(STEPS)]) == STEPS
        with context():
            held.clear()
        assert epoch(dataset) == order(2 * number + 1)
    tf.function(held.clear)()
    assert not errors


def test_a_tensorflow_without_the_private_names(path, monkeypatch, built, caplog):
    def no_such_name(_):
        raise AttributeError("no attribute '_iterator_resource'")

    monkeypatch.setattr(epoch_iterators, "_resource_of", no_such_name)
    dataset = make(path)
    with caplog.at_level("INFO"):
        for number in range(3):
            assert epoch(dataset) == order(number)
    assert not built
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no attribute '_iterator_resource'" in caplog.text


def test_thousands_of_epochs_leave_no_memory(path):
    dataset = make(path)
    assert epoch(dataset) == order(0)
    (lasting,) = dataset._iterators._free

    def allow(times):
        for _ in range(times):
            lasting.allow_epoch()
        gc.collect()
        return resident_nbytes()

    before = allow(500)
    assert allow(4000) - before < 2 << 20
    assert epoch(dataset) == order(1)


_FORK = """
import os, sys
import numpy as np
import h5video_data as h5v

dataset = h5v.video_dataset_from_hdf5(
    sys.argv[1], y=None, batch_size=10, seed=0, return_indices=True)


def epoch():
    return [number for _, indices in dataset for number in indices.numpy()]


def order(number):
    return np.random.default_rng([0, number]).permutation(42).tolist()


assert epoch() == order(0)
running = iter(dataset)
next(running)
child = os.fork()
for number in (2, 3):
    assert epoch() == order(number)
if not child:
    del dataset, running
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_epochs_after_a_fork(path):
    command = [sys.executable, "-W", "ignore", "-c", _FORK, str(path)]
    subprocess.run(command, check=True, timeout=120)
