"""The stages of tf.data: batches handed over together, and map functions."""

from __future__ import annotations

import collections
import gc
import re
import threading
import weakref

import h5py
import numpy as np
import pytest
import tensorflow as tf
from conftest import wait_until
from dataset_helpers import ALL, BATCH, GROUPS, NUM, OwnError, gather, make

import h5video_data as h5v
from h5video_data import VideoLoader, testing
from h5video_data.errors import ArgumentError
from h5video_data.testing import sample_values, write_video_file

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


def test_map_functions_follow_each_other(path):
    def cast(x, y):
        return tf.cast(x, tf.float32), y

    def halve_and_count(x, y):
        return x / 2, y, tf.ones(tf.shape(y)[:1])

    def change_weights(x, y, weight):
        return x, y, weight * 3

    dataset = make(path, shuffle=False, map_fn=[cast, halve_and_count, change_weights])
    x, y, weight = gather(dataset)
    np.testing.assert_array_equal(x, sample_values(ALL) / 2)
    np.testing.assert_array_equal(y, testing.labels(ALL, 4))
    np.testing.assert_array_equal(weight, np.full(NUM, 3))


def test_a_map_function_of_x_alone(path):
    dataset = make(path, y=None, shuffle=False, map_fn=lambda x: tf.cast(x, tf.int32) + 1)
    np.testing.assert_array_equal(gather(dataset), sample_values(ALL, dtype=int) + 1)


def test_autograph_converts_map_functions(path):
    def double_the_batches_of_odd_numbers(x, y):
        if y[0] % 2 == 1:
            x = x * 2
        return x, y

    dataset = make(
        path, y="number", shuffle=False, batch_size=1, map_fn=double_the_batches_of_odd_numbers
    )
    x, _ = gather(dataset)
    factors = (1 + ALL % 2).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_array_equal(x, (sample_values(ALL) * factors).astype(np.uint8))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x, y, **options: (x, y, len(options)), id="any keyword"),
        pytest.param(lambda x, y, seeds=(): (x, y, len(seeds)), id="not keyword-only"),
    ],
)
def test_only_a_keyword_only_seeds_is_filled(path, function):
    _, _, given = next(iter(make(path, map_fn=function)))
    assert given == 0


@pytest.mark.parametrize(
    "error",
    [
        ValueError("frames are too few"),
        KeyError("no such label"),
        TypeError("not a tensor"),
        StopIteration("enough"),
        OwnError(7, "lucky"),
        ArgumentError("from a transform"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_map_function_raises_while_it_is_traced_comes_out_as_it_is(path, error):
    def fail(x, y):
        if x.shape[1] == SAMPLE[0]:  # so that AutoGraph has something to convert
            raise error
        return x, y

    with pytest.raises(type(error), match=re.escape(str(error))) as caught:
        make(path, map_fn=[lambda x, y: (x, y), fail])
    assert caught.value is error
    trace = "".join(str(entry) for entry in caught.traceback)
    assert "fail" in trace


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(lambda x: x, "1 positional argument but 2", id="labels not expected"),
        pytest.param(lambda x, y: (x["video"], y), "valid indices", id="a dict expected"),
        pytest.param(h5v.transforms.channels_last, "0 positional arguments", id="not called"),
    ],
)
def test_a_map_function_of_another_element(path, function, message):
    with pytest.raises(TypeError, match=message):
        make(path, map_fn=function)


def explode(first):
    raise OwnError(9, f"in the batch of {first}")


def explode_while_running(x, y):
    return x, tf.numpy_function(explode, [y[0]], tf.int64)


@pytest.mark.parametrize("batch_size", [BATCH, None], ids=["batches", "single samples"])
def test_what_a_map_function_raises_while_it_runs_reaches_the_caller(path, batch_size):
    dataset = make(
        path, y="number", shuffle=False, map_fn=explode_while_running, batch_size=batch_size
    )
    with pytest.raises(tf.errors.OpError, match="OwnError: 9: in the batch of 0") as caught:
        list(dataset)
    assert "in explode" in str(caught.value)  # the traceback
    with pytest.raises(tf.errors.OpError, match="OwnError: 9: in the batch of 0"):
        list(dataset)


def test_a_map_function_that_changes_the_number_of_samples(path):
    dataset = make(path, batch_size=None, map_fn=lambda x, y: (x[::2], y[::2]))
    with pytest.raises(tf.errors.OpError, match="expected to contain 22 elements"):
        list(dataset)


def test_options(path):
    options = make(path).options()
    assert options.autotune.enabled is False  # else deleting an iterator may take an epoch's time
    assert options.deterministic is True


@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("num_samples", [240, 247, 241])
def test_batches_that_are_handed_over_together(tmp_path, num_samples, drop_remainder):
    """Groups of 4 batches over epochs of 30 or 31, the last group and batch not whole."""
    path = write_video_file(tmp_path / "a.h5", num_samples=num_samples, sample_shape=(2, 2, 4, 4))
    memory = 4 * 6 * 8 * (64 + 16)
    loader = VideoLoader(
        path, batch_size=8, seed=0, drop_remainder=drop_remainder, read_ahead_bytes=memory
    )
    assert loader._feed.memory.batches_per_bundle == 4
    dataset = loader.dataset()
    num_batches = num_samples // 8 if drop_remainder else -(-num_samples // 8)
    assert len(dataset) == num_batches
    twin = VideoLoader(path, batch_size=8, seed=0, drop_remainder=drop_remainder)
    for _ in range(2):
        batches = list(dataset)
        assert len(batches) == num_batches
        for (x, y), (_, indices, arrays) in zip(batches, twin.batches(), strict=True):
            np.testing.assert_array_equal(x, sample_values(indices, (2, 2, 4, 4)))
            np.testing.assert_array_equal(x, arrays[0])
            np.testing.assert_array_equal(y, arrays[1])
    assert loader.stats.num_batches == 2 * num_batches


def test_seeds_go_with_their_batches_in_a_group(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=247, sample_shape=(2, 2, 4, 4))
    one, many = (
        VideoLoader(
            path,
            batch_size=8,
            seed=0,
            map_fn=lambda x, y, *, seeds: (x, y, seeds),
            read_ahead_bytes=memory,
        )
        for memory in (0, 4 * 6 * 8 * (64 + 16))
    )
    assert (one._feed.memory.batches_per_bundle, many._feed.memory.batches_per_bundle) == (1, 4)
    for left, right in zip(one.dataset(), many.dataset(), strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batches_that_start_anywhere_are_not_grouped(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=247, sample_shape=(2, 2, 5, 3))
    assert VideoLoader(path, batch_size=8)._feed.memory.batches_per_bundle == 1
    assert VideoLoader(path, batch_size=16)._feed.memory.batches_per_bundle > 1


def test_an_error_inside_of_a_map_function_names_it(tmp_path):
    path = write_video_file(tmp_path / "a.h5")

    def in_tensorflow(x, y):
        tf.debugging.assert_negative(y)
        return x, y

    def in_python(x, y):
        def fails(_):
            raise ValueError("no such clip")

        return tf.numpy_function(fails, [x], tf.uint8), y

    for number, function in enumerate((in_tensorflow, in_python)):
        map_fn = [lambda x, y: (x, y)] * number + [function]
        dataset = make(path, batch_size=4, map_fn=map_fn)
        # Older releases do not name the stage.
        is_named = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21)
        name = f"map_fn_{number}_{function.__name__}" if is_named else None
        with pytest.raises(tf.errors.OpError, match=name):
            list(dataset)


Pair = collections.namedtuple("Pair", "x y")


def with_seeds(x, y, *, seeds):
    return x, y + tf.cast(seeds[:, :1], y.dtype) * 0


@pytest.mark.parametrize("first", [lambda x, y: (x, y), with_seeds], ids=["plain", "with seeds"])
@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        pytest.param(lambda x, y: [x, y], lambda x, y: (x, y), id="a list"),
        pytest.param(Pair, lambda pair: (pair.x, pair.y), id="a named tuple"),
        pytest.param(lambda x, y: {"x": x, "y": y}, lambda d: (d["x"], d["y"]), id="a dict"),
        pytest.param(lambda x, y: ({"x": x}, y), lambda d, y: (d["x"], y), id="a dict and y"),
        pytest.param(lambda x, y: ((x, y),), lambda pair: pair, id="a tuple in a tuple"),
        pytest.param(
            lambda x, y: (x, tf.RaggedTensor.from_tensor(y)),
            lambda x, y: (x, y.to_tensor()),
            id="a ragged tensor",
        ),
    ],
)
def test_what_a_map_function_may_return(path, first, is_last, pack, unpack):
    """As in `Dataset.map`: a list is a tuple, and nothing else than a tuple is unpacked."""
    plain = h5v.video_dataset_from_hdf5(path, shuffle=False).map(pack)
    functions = [first, pack, *[unpack] * (not is_last)]
    dataset = h5v.video_dataset_from_hdf5(path, shuffle=False, map_fn=functions)
    if not is_last:
        plain = plain.map(unpack)
    assert dataset.element_spec == plain.element_spec
    for found, expected in zip(dataset, plain, strict=True):
        tf.nest.map_structure(
            np.testing.assert_array_equal,
            *(tf.nest.flatten(element, expand_composites=True) for element in (found, expected)),
        )


# --------------------------------------------------------------------------- calls at once


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_threads": 2}, 2),
        ({"num_threads": 1, "num_parallel_calls": 2}, 2),
        ({"num_threads": 2, "num_parallel_calls": 1}, 1),
    ],
    ids=["as threads", "more calls", "fewer calls"],
)
def test_parallel_calls_of_a_map_stage(path, options, expected):
    barrier = threading.Barrier(expected)
    running, most = [], []

    def wait(first):
        running.append(first)
        barrier.wait(20)  # for as many calls
        most.append(len(running))
        barrier.wait(20)
        running.remove(first)
        return first

    def meet(x, number):
        return x, number + 0 * tf.numpy_function(wait, [number[0]], tf.int64)

    dataset = make(path, y="number", map_fn=meet, shuffle=False, **options)
    _, found = gather(dataset)
    assert found.tolist() == ALL.tolist()
    assert len(most) == 6
    assert max(most) == expected


@pytest.mark.parametrize("more", [False, True], ids=["the dataset", "one made of it"])
def test_a_function_goes_on_with_a_dataset_that_python_has_deleted(tmp_path, more, new_threads):
    """As it does with tf.data's own: its graph has captured what the dataset is made of."""
    path = write_video_file(tmp_path / "a.h5", num_samples=20)
    datasets = [h5v.video_dataset_from_hdf5(path, batch_size=6, seed=0, return_indices=True)]
    loader = weakref.ref(datasets[0].loader)
    if more:
        datasets[0] = datasets[0].map(lambda *element: element).take(2)

    @tf.function(autograph=False)
    def numbers():
        return datasets[0].reduce(
            tf.zeros([0], tf.int64), lambda found, element: tf.concat([found, element[-1]], 0)
        )

    for epoch in range(4):
        order = np.random.default_rng([0, epoch]).permutation(20)[: 12 if more else 20]
        assert numbers().numpy().tolist() == order.tolist()
        if epoch == 1:
            datasets.clear()
            gc.collect()
            assert loader() is not None
    del numbers

    def is_gone():
        gc.collect()
        tf.zeros(())  # TensorFlow gives arrays back when it has the interpreter's lock
        return loader() is None and not new_threads()

    wait_until(is_gone)
