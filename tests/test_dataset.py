"""`video_dataset_from_hdf5`: what comes out of it, and what happens when something fails."""

from __future__ import annotations

import gc
import inspect
import os
import re
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf
from conftest import wait_until
from dataset_helpers import ALL, BATCH, GROUPS, NUM, OwnError, gather, make

import h5video_data as h5v
from h5video_data import VideoLoader, testing
from h5video_data.errors import ArgumentError
from h5video_data.reading import buffers
from h5video_data.samplers import ShuffleSampler
from h5video_data.testing import sample_values, write_video_file

STEPS = 6  # five batches of 4, and one of 2
SAMPLE = testing.SAMPLE_SHAPE


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file with videos, labels of every kind, weights, groups, and names of classes."""
    name = testing.write_video_file(tmp_path_factory.mktemp("data") / "set.h5", num_samples=NUM)
    with h5py.File(name, "r+") as file:
        file["number"] = ALL
        file["class"] = ALL % 4
        file["weight"] = (ALL / 8).astype(np.float32)
        file["group"] = GROUPS
        file["audio/mel"] = sample_values(ALL, (5, 2), np.float32)
        file["audio/pitch"] = sample_values(ALL, (3,), np.int16)
        file.attrs["class_names"] = ["walk", "run", "sit", "wave"]
    return name


def numbers(dataset):
    """The samples' numbers, of a dataset made with y="number"."""
    return gather(dataset)[1].tolist()


class Order:
    """A sampler: the positions of each epoch, or what is raised instead of them."""

    def __init__(self, *epochs):
        self.epochs = epochs

    def epoch(self, epoch):
        positions = self.epochs[min(epoch, len(self.epochs) - 1)]
        if isinstance(positions, Exception):
            raise positions
        return np.asarray(positions)


# The arguments


def parameters(function):
    found = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in found if p.name != "self"}


def test_the_function_and_the_loader_take_the_same_arguments():
    assert parameters(h5v.video_dataset_from_hdf5) == parameters(h5v.VideoLoader.__init__)


@pytest.mark.parametrize("name", parameters(h5v.video_dataset_from_hdf5))
def test_every_argument_is_described(name):
    assert re.search(rf"^ {{4,8}}{name}: \S", h5v.video_dataset_from_hdf5.__doc__, re.MULTILINE)


# Shapes and dtypes


@pytest.mark.parametrize(
    ("batch_size", "drop_remainder", "static", "sizes"),
    [
        pytest.param(4, False, None, [4] * 5 + [2], id="a last batch that is smaller"),
        pytest.param(4, True, 4, [4] * 5, id="a last batch dropped"),
        pytest.param(11, False, 11, [11, 11], id="it divides"),
        pytest.param(22, True, 22, [22], id="all in one"),
        pytest.param(50, False, 22, [22], id="larger than the set"),
        pytest.param(1, False, 1, [1] * 22, id="one by one"),
    ],
)
def test_batches_have_static_shapes_and_a_known_number(
    path, batch_size, drop_remainder, static, sizes
):
    dataset = make(path, batch_size=batch_size, drop_remainder=drop_remainder)
    assert dataset.element_spec == (
        tf.TensorSpec((static, *SAMPLE), tf.uint8),
        tf.TensorSpec((static, 4), tf.float32),
    )
    assert len(dataset) == len(sizes)
    assert tf.data.experimental.cardinality(dataset).numpy() == len(sizes)
    assert [(len(x), len(y)) for x, y in dataset] == [(size, size) for size in sizes]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("u1", tf.uint8),
        ("<u2", tf.uint16),
        ("i1", tf.int8),
        (">i4", tf.int32),
        ("<i8", tf.int64),
        ("<f2", tf.float16),
        (">f4", tf.float32),
        ("<f8", tf.float64),
        ("?", tf.bool),
        ("<c8", tf.complex64),
    ],
)
def test_elements_have_the_stored_dtype(tmp_path, stored, expected):
    path = testing.write_video_file(tmp_path / "f.h5", num_samples=6, dtype=stored)
    dataset = make(path, shuffle=False)
    assert dataset.element_spec[0].dtype == expected
    x = gather(dataset)[0]
    np.testing.assert_array_equal(x, sample_values(ALL[:6], dtype=np.dtype(stored)))
    assert x.dtype == expected.as_numpy_dtype


# What an element is made of


def test_x_without_labels(path):
    dataset = make(path, y=None, shuffle=False)
    assert dataset.element_spec == tf.TensorSpec((None, *SAMPLE), tf.uint8)
    np.testing.assert_array_equal(gather(dataset), sample_values(ALL))


def test_class_numbers_as_labels(path):
    dataset = make(path, y="class", shuffle=False)
    assert dataset.element_spec[1] == tf.TensorSpec((None,), tf.int64)
    np.testing.assert_array_equal(gather(dataset)[1], ALL % 4)


def test_sample_weights(path):
    dataset = make(path, sample_weight="weight", shuffle=False)
    assert dataset.element_spec[2] == tf.TensorSpec((None,), tf.float32)
    np.testing.assert_array_equal(gather(dataset)[2], ALL / 8)


def test_dicts_of_inputs_and_of_labels(path):
    # Not in alphabetical order, which is the one in which TensorFlow goes through a dict.
    dataset = make(
        path,
        x={"video": "X", "audio": "audio/mel"},
        y={"what": "Y", "pitch": "audio/pitch"},
        shuffle=False,
    )
    assert dataset.element_spec == (
        {
            "video": tf.TensorSpec((None, *SAMPLE), tf.uint8),
            "audio": tf.TensorSpec((None, 5, 2), tf.float32),
        },
        {
            "what": tf.TensorSpec((None, 4), tf.float32),
            "pitch": tf.TensorSpec((None, 3), tf.int16),
        },
    )
    x, y = gather(dataset)
    np.testing.assert_array_equal(x["video"], sample_values(ALL))
    np.testing.assert_array_equal(x["audio"], sample_values(ALL, (5, 2)))
    np.testing.assert_array_equal(y["what"], testing.labels(ALL, 4))
    np.testing.assert_array_equal(y["pitch"], sample_values(ALL, (3,)))


def test_a_dict_without_labels(path):
    dataset = make(path, x={"mel": "audio/mel"}, y=None, shuffle=False)
    np.testing.assert_array_equal(gather(dataset)["mel"], sample_values(ALL, (5, 2)))


def test_one_dataset_as_input_and_as_label(path):
    # Both are the same memory: changing one must not change the other.
    dataset = make(
        path,
        x={"a": "audio/mel", "b": "audio/mel"},
        y="audio/mel",
        shuffle=False,
        map_fn=lambda x, y: ({"a": x["a"] * 2, "b": x["b"] + 1}, y),
    )
    x, y = gather(dataset)
    mel = sample_values(ALL, (5, 2))
    np.testing.assert_array_equal(x["a"], mel * 2)
    np.testing.assert_array_equal(x["b"], mel + 1)
    np.testing.assert_array_equal(y, mel)


def test_class_names_are_an_attribute_as_in_keras(path, tmp_path):
    train, val = make(path, validation_split=0.3, subset="both")
    assert train.class_names == val.class_names == ["walk", "run", "sit", "wave"]
    assert not hasattr(make(testing.write_video_file(tmp_path / "f.h5")), "class_names")


def test_several_files_are_one_set(tmp_path):
    paths = [
        testing.write_video_file(tmp_path / f"part{i}.h5", num_samples=5, first=5 * i)
        for i in range(3)
    ]
    for given in (paths, str(tmp_path / "part?.h5")):
        x, y = gather(make(given, shuffle=False))
        np.testing.assert_array_equal(x, sample_values(ALL[:15]))
        np.testing.assert_array_equal(y, testing.labels(ALL[:15], 4))
    backwards = [*range(10, 15), *range(5, 10), *range(5)]
    x, _ = gather(make(paths[::-1], shuffle=False))
    np.testing.assert_array_equal(x, sample_values(backwards))


# Order


def test_rows_belong_together_and_come_in_the_order_drawn(path):
    x, y, weight = gather(make(path, y="number", sample_weight="weight"))
    order = ShuffleSampler(NUM, seed=3).epoch(0)
    np.testing.assert_array_equal(y, order)
    np.testing.assert_array_equal(x, sample_values(order))
    np.testing.assert_array_equal(weight, order / 8)


def test_each_epoch_has_an_order_of_its_own_that_comes_again_with_the_seed(path):
    dataset = make(path, y="number")
    epochs = [numbers(dataset) for _ in range(3)]
    again = make(path, y="number", num_threads=1, batch_size=7)
    assert [numbers(again) for _ in range(3)] == epochs
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(sorted(epoch) == ALL.tolist() for epoch in epochs)
    assert numbers(make(path, y="number", seed=4)) != epochs[0]


def test_without_a_seed_no_two_runs_are_alike(path):
    assert numbers(make(path, y="number", seed=None)) != numbers(make(path, y="number", seed=None))


@pytest.mark.parametrize("batch_size", [BATCH, None], ids=["batches", "single samples"])
def test_repeat_goes_on_with_the_next_epoch(path, batch_size):
    epochs = make(path, y="number", batch_size=batch_size).repeat(2)
    assert len(epochs) == 2 * (STEPS if batch_size else NUM)
    found = [number for _, y in epochs for number in np.ravel(y)]
    sampler = ShuffleSampler(NUM, seed=3)
    assert found == [*sampler.epoch(0), *sampler.epoch(1)]


def test_take_unbatch_and_cache(path):
    dataset = make(path, y="number")
    assert [y.numpy().tolist() for _, y in dataset.take(2)] == (
        ShuffleSampler(NUM, seed=3).epoch(0)[: 2 * BATCH].reshape(2, BATCH).tolist()
    )
    single = dataset.unbatch()
    assert single.element_spec[0] == tf.TensorSpec(SAMPLE, tf.uint8)
    assert [int(y) for _, y in single] == ShuffleSampler(NUM, seed=3).epoch(1).tolist()
    cached = dataset.cache()
    first = numbers(cached)
    assert first == ShuffleSampler(NUM, seed=3).epoch(2).tolist()
    assert numbers(cached) == first


def test_two_iterators_at_once(path):
    dataset = make(path, y="number", shuffle=False)
    for (x, first), (_, second) in tf.data.Dataset.zip((dataset, dataset)):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(x, sample_values(first))
    shuffled = make(path, y="number")
    pairs = list(tf.data.Dataset.zip((shuffled, shuffled)))
    orders = {tuple(np.concatenate([pair[side][1] for pair in pairs])) for side in (0, 1)}
    # Which of the two begins first is not said.
    assert orders == {tuple(ShuffleSampler(NUM, seed=3).epoch(epoch)) for epoch in (0, 1)}


def test_a_sampler_of_ones_own(path):
    dataset = make(path, y="number", shuffle=Order([5, 5, 21, 0, 5], [1, 2, 3, 4, 5]))
    assert len(dataset) == 2
    assert [numbers(dataset), numbers(dataset)] == [[5, 5, 21, 0, 5], [1, 2, 3, 4, 5]]


def test_a_sampler_of_the_package_that_leaves_samples_out(path):
    dataset = make(path, y="number", shuffle=ShuffleSampler(10, seed=5))
    assert len(dataset) == 3
    assert numbers(dataset) == ShuffleSampler(10, seed=5).epoch(0).tolist()


def test_slow_map_calls_do_not_change_the_order(path):
    def slow(first):
        time.sleep(0.05 * (first == 0))
        return first

    def wait_for_the_first_batch(x, y):
        return x, y + 0 * tf.numpy_function(slow, [y[0]], tf.int64)

    dataset = make(path, y="number", shuffle=False, map_fn=wait_for_the_first_batch, num_threads=4)
    assert numbers(dataset) == ALL.tolist()


# The batches belong to whoever holds them


def test_batches_that_are_held_never_change(path):
    held = list(make(path, y="number").repeat(4))
    assert len(held) == 4 * STEPS
    for x, y in held:
        np.testing.assert_array_equal(x, sample_values(y))


def test_views_of_batches_that_are_gone_never_change(path):
    dataset = make(path, y="number").repeat(4)
    # `numpy()` makes a copy, a memoryview does not.
    held = [(np.asarray(memoryview(x))[1:, ..., ::2], y.numpy()[1:]) for x, y in dataset]
    gc.collect()
    for x, y in held:
        np.testing.assert_array_equal(x, sample_values(y)[..., ::2])


def test_arrays_kept_by_a_numpy_function_never_change(path):
    held = []

    def keep(x, y):
        held.append((x, y))
        return y

    def keep_all(x, y):
        return x, tf.ensure_shape(tf.numpy_function(keep, [x, y], tf.int64), y.shape)

    for _ in make(path, y="number", map_fn=keep_all).repeat(4):
        pass
    assert len(held) == 4 * STEPS
    for x, y in held:
        np.testing.assert_array_equal(x, sample_values(y))


# Its from_generator casts arrays to the dtype that they have, which NumPy 2 does by a copy.
@pytest.mark.skipif(
    tf.__version__.startswith("2.18.") and not np.__version__.startswith("1."),
    reason="TensorFlow 2.18 copies arrays of NumPy 2",
)
@pytest.mark.parametrize("per_group", [1, 4])
def test_tensorflow_takes_the_buffers_without_a_copy(tmp_path, monkeypatch, per_group):
    path = write_video_file(tmp_path / "a.h5", num_samples=240, sample_shape=(2, 2, 4, 4))
    lent = set()
    lend = buffers.BufferPool.lend

    def noted(pool, shape, dtype):
        array = lend(pool, shape, dtype)
        lent.add((array.ctypes.data, array.nbytes))
        return array

    monkeypatch.setattr(buffers.BufferPool, "lend", noted)
    loader = VideoLoader(path, batch_size=8, read_ahead_bytes=per_group * 6 * 8 * (64 + 16))
    assert loader._feed.memory.batches_per_bundle == per_group
    for x, _ in loader.dataset():
        begin = np.asarray(memoryview(x)).ctypes.data
        assert any(first <= begin < first + size for first, size in lent)


# Single samples


def test_single_samples(path):
    dataset = make(path, y="number", batch_size=None)
    assert dataset.element_spec == (
        tf.TensorSpec(SAMPLE, tf.uint8),
        tf.TensorSpec((), tf.int64),
    )
    assert len(dataset) == NUM
    samples = list(dataset)
    assert [int(y) for _, y in samples] == ShuffleSampler(NUM, seed=3).epoch(0).tolist()
    for x, y in samples:
        np.testing.assert_array_equal(x, sample_values(y))


def test_single_samples_of_a_dict_without_labels(path):
    dataset = make(path, x={"mel": "audio/mel"}, y=None, batch_size=None, shuffle=False)
    assert dataset.element_spec == {"mel": tf.TensorSpec((5, 2), tf.float32)}
    np.testing.assert_array_equal([sample["mel"] for sample in dataset], sample_values(ALL, (5, 2)))


def test_map_functions_see_single_samples_in_groups(path):
    dataset = make(path, y="number", batch_size=None, map_fn=lambda x, y: (x[:, 0], y))
    assert dataset.element_spec[0] == tf.TensorSpec(SAMPLE[1:], tf.uint8)
    for x, y in dataset:
        np.testing.assert_array_equal(x, sample_values(y)[0])


# Splits


@pytest.mark.parametrize(
    "split_by",
    [
        pytest.param(None, id="at random"),
        pytest.param("label", id="by label"),
        pytest.param("group", id="by a dataset of groups"),
        pytest.param([f"actor {group}" for group in GROUPS], id="by an array of groups"),
    ],
)
def test_a_split_is_the_same_however_it_is_asked_for(path, split_by):
    split = {"validation_split": 0.3, "split_by": split_by}
    expected = [side.tolist() for side in h5v.split_samples(path, 0.3, seed=3, split_by=split_by)]
    train, val = make(path, y="Y", sample_weight="number", subset="both", **split)
    pair = [gather(train)[2].tolist(), gather(val)[2].tolist()]
    assert [sorted(pair[0]), pair[1]] == expected  # validation in the order of the file
    assert pair[0] != expected[0]  # training in an order drawn
    assert gather(val)[2].tolist() == expected[1]  # in every epoch
    for subset, side in zip(("training", "validation"), expected, strict=True):
        dataset = make(path, y="Y", sample_weight="number", subset=subset, **split)
        assert sorted(gather(dataset)[2]) == side
    assert sorted(expected[0] + expected[1]) == ALL.tolist()
    if split_by == "label":
        assert set(np.bincount(np.array(expected[1]) % 4)) <= {1, 2}
    elif split_by is not None:
        assert not set(GROUPS[expected[0]]) & set(GROUPS[expected[1]])


def test_a_split_by_class_numbers(path):
    _, val = make(path, y="class", validation_split=0.4, subset="both", split_by="label")
    assert np.bincount(gather(val)[1]).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"subset": "both"}, "given together", id="a subset without a split"),
        pytest.param({"validation_split": 0.3}, "given together", id="a split without a subset"),
        pytest.param(
            {"validation_split": 0.3, "subset": "test"}, "subset='test'", id="no such subset"
        ),
        pytest.param(
            {"validation_split": 30, "subset": "both"}, "between 0 and 1", id="in per cent"
        ),
        pytest.param(
            {"validation_split": 0.3, "subset": "both", "seed": None},
            "needs a `seed`",
            id="shuffled without a seed",
        ),
        pytest.param({"shuffle": "blocks of 4"}, 'must be True, "blocks"', id="no such order"),
        pytest.param({"batch_size": 0}, "1 or more", id="empty batches"),
        pytest.param(
            {"batch_size": 30, "drop_remainder": True}, "no batch at all", id="nothing left"
        ),
        pytest.param({"x": ["X"]}, "a dict of names", id="a list of names"),
    ],
)
def test_arguments_that_make_no_sense(path, options, message):
    with pytest.raises(ArgumentError, match=message):
        make(path, **options)


# Map functions


def keep_seeds(x, number, *, seeds):
    return x, number, seeds


def keep_more_seeds(x, number, before, *, seeds):
    return x, number, tf.concat([before, seeds], axis=1)


def seeds_of(dataset):
    """{sample: seeds} of the next epoch."""
    batch_is_there = len(dataset.element_spec[1].shape) == 1
    epoch = dataset if batch_is_there else dataset.batch(1)
    _, samples, seeds = gather(epoch)
    return {int(n): tuple(seed) for n, seed in zip(samples, seeds.tolist(), strict=True)}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"num_threads": 1}, id="one thread"),
        pytest.param({"num_threads": 4}, id="four threads"),
        pytest.param({"batch_size": 7}, id="other batches"),
        pytest.param({"batch_size": None}, id="single samples"),
        pytest.param({"shuffle": False}, id="the order of the file"),
        pytest.param({"shuffle": Order(ALL[::-1])}, id="an order of one's own"),
        pytest.param({"drop_remainder": True}, id="a batch dropped"),
        pytest.param({"map_fn": [keep_seeds, lambda *element: element]}, id="a stage after"),
        pytest.param({"validation_split": 0.3, "subset": "training"}, id="a part of them"),
    ],
)
def test_seeds_depend_on_the_seed_the_epoch_and_the_sample_alone(path, options):
    expected = make(path, y="number", map_fn=keep_seeds)
    dataset = make(path, y="number", **{"map_fn": keep_seeds, **options})
    for _ in range(2):
        epoch = seeds_of(dataset)
        assert epoch.items() <= seeds_of(expected).items()
        assert len(epoch) >= 15


def test_seeds_differ_between_samples_epochs_stages_and_runs(path):
    dataset = make(path, y="number", map_fn=[keep_seeds, keep_more_seeds])
    epochs = [seeds_of(dataset) for _ in range(3)] + [
        seeds_of(make(path, y="number", map_fn=[keep_seeds, keep_more_seeds], seed=4))
    ]
    found = [pair for epoch in epochs for four in epoch.values() for pair in (four[:2], four[2:])]
    assert len(set(found)) == 4 * NUM * 2


def test_seeds_have_a_static_shape(path):
    dataset = make(path, map_fn=keep_seeds, batch_size=11)
    assert dataset.element_spec[2] == tf.TensorSpec((11, 2), tf.int32)


# Errors


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param(OwnError(9, "no order"), "OwnError: 9: no order", id="an exception"),
        pytest.param(StopIteration("early"), "StopIteration: early", id="the end too early"),
        pytest.param(ALL[:5], r"SamplerError: Order.epoch\(1\) must return 22", id="too few"),
        pytest.param(ALL + 1, "SamplerError: .*Received: from 1 to 22", id="out of bounds"),
        pytest.param(ALL / 2, "SamplerError: .*Received: float64", id="not whole"),
    ],
)
def test_what_a_sampler_does_wrong_reaches_the_caller(path, broken, message):
    dataset = make(path, y="number", shuffle=Order(ALL, broken, ALL[::-1]))
    assert numbers(dataset) == ALL.tolist()
    with pytest.raises(tf.errors.OpError, match=message) as caught:
        list(dataset)
    assert "samplers.py" in str(caught.value)  # the traceback
    assert numbers(dataset) == ALL.tolist()[::-1]  # and the dataset is as good as before


def test_what_a_sampler_does_wrong_at_once_is_told_at_once(path):
    with pytest.raises(OwnError, match="no order"):
        make(path, shuffle=Order(OwnError(9, "no order")))


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_labels_in_memory_are_not_decoded(tmp_path, compression):
    path = testing.write_video_file(tmp_path / "f.h5", num_samples=NUM, compression=compression)
    with h5py.File(path, "r+") as file:
        labels = file["Y"][()]
        del file["Y"]
        file.create_dataset("Y", data=labels, compression="gzip")
    with h5v.VideoLoader(path) as loader:
        decoded = [item.is_decoded for item in loader._set.components]
    assert decoded == [compression is not None, False]


def test_what_a_reader_finds_reaches_the_caller(tmp_path):
    path = testing.write_video_file(tmp_path / "f.h5", num_samples=NUM)
    dataset = make(path)
    list(dataset)
    os.utime(path, (1, 1))
    with pytest.raises(tf.errors.OpError, match=rf"FileChangedError: .*{re.escape(path)}"):
        list(dataset)


def test_a_closed_loader_says_so(path):
    with h5v.VideoLoader(path, batch_size=BATCH) as loader:
        dataset = loader.dataset()
        assert len(list(dataset)) == STEPS
    with pytest.raises(tf.errors.OpError, match="ClosedError: The loader is closed"):
        list(dataset)


# The end


def test_an_iterator_ends_promptly_in_the_middle_of_an_epoch(path):
    seconds = []
    for _ in range(3):
        iterator = iter(make(path, batch_size=1))
        next(iterator)
        begin = time.perf_counter()
        del iterator
        gc.collect()
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 1


def test_threads_end_with_the_dataset(path, new_threads):
    dataset = make(path)
    list(dataset)
    iterator = iter(dataset.map(lambda x, y: (x, y)))
    next(iterator)
    assert new_threads()
    del dataset
    assert len(list(iterator)) == STEPS - 1
    del iterator
    wait_until(lambda: gc.collect() >= 0 and not new_threads())


# --------------------------------------------------------------------------- devices

HOST = "/job:localhost/replica:0/task:0/device:"


@pytest.mark.parametrize("prefix", ["/device:", HOST])
def test_devices_that_are_there(path, monkeypatch, prefix):
    devices = [tf.config.LogicalDevice(prefix + name, name[:3]) for name in ("CPU:0", "GPU:1")]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)
    for device in ("/gpu:1", "GPU:1", "gpu", "/device:GPU:1", f"{HOST}GPU:1", "CPU:0", "/cpu:0"):
        assert len(list(make(path, device=device))) == len(make(path))
    for device in ("/GPU:0", "/CPU:1", "TPU:0", "cuda:0", "nowhere", 3):
        message = f"`device` must be one of '{prefix}CPU:0', '{prefix}GPU:1'. Received: .*{device}"
        with pytest.raises(ArgumentError, match=message):
            make(path, device=device)
