"""Epochs and their order, threads, and what is left behind when a loader is gone."""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
from conftest import Order, numbers_of, open_descriptors, resident_nbytes, tf, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import Clip, testing
from h5video_data.errors import ArgumentError, ClosedError, FileChangedError, ReadError
from h5video_data.loader import LoaderStats, VideoLoader
from h5video_data.planning.access import MANY_SAMPLES
from h5video_data.reading import batch_reader, byte_sources
from h5video_data.reading import sample_sources as sources
from h5video_data.reading.batch_reader import BatchReader
from h5video_data.samplers import ShuffleSampler
from h5video_data.set_values import read_rows

pytestmark = pytest.mark.memory_limit(64)  # the small samples of these tests are read

ONE = (1, *testing.SAMPLE_SHAPE)
ROW_BYTES = 768


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5", num_samples=60)


# --------------------------------------------------------------------------- order


def test_batches_come_in_the_order_that_was_drawn(path):
    loader = VideoLoader(path, seed=3, batch_size=7)
    for epoch in range(3):
        order = ShuffleSampler(60, seed=3).epoch(epoch)
        batches = list(loader)
        assert [len(x) for x, _ in batches] == [7] * 8 + [4]
        np.testing.assert_array_equal(
            np.concatenate([x for x, _ in batches]), testing.sample_values(order)
        )
        np.testing.assert_array_equal(
            np.concatenate([y for _, y in batches]), testing.labels(order, 4)
        )


def test_order_does_not_depend_on_how_it_is_read(path):
    def epoch(**options):
        return b"".join(x.tobytes() for x, _ in VideoLoader(path, seed=1, **options))

    expected = epoch(batch_size=60)
    for options in (
        {"batch_size": 1, "num_threads": 5},
        {"batch_size": 59, "num_threads": 1, "read_ahead_bytes": 0},
        {"batch_size": 13, "read_ahead_bytes": 1 << 30},
        {"batch_size": None, "num_threads": 3},
        {"shuffle": "exact"},
    ):
        assert epoch(**options) == expected


def test_epochs_and_seeds_differ_and_repeat(sizes):
    orders = {}
    for seed in (0, 1, 2):
        loader = VideoLoader(sizes(50), seed=seed)
        for epoch in range(3):
            orders[seed, epoch] = tuple(numbers_of(loader))
    assert len(set(orders.values())) == 9
    again = VideoLoader(sizes(50), seed=1)
    assert [tuple(numbers_of(again)) for _ in range(3)] == [orders[1, e] for e in range(3)]


def test_without_a_seed_no_two_loaders_are_alike(sizes):
    first, second = VideoLoader(sizes(50)), VideoLoader(sizes(50))
    assert numbers_of(first) != numbers_of(second)
    assert numbers_of(VideoLoader(sizes(50), seed=first.seed)) == numbers_of(
        VideoLoader(sizes(50), seed=first.seed)
    )


def test_set_epoch(sizes):
    loader = VideoLoader(sizes(50), seed=0)
    orders = [numbers_of(loader) for _ in range(4)]
    loader.set_epoch(2)
    assert [numbers_of(loader), numbers_of(loader)] == orders[2:]
    loader.set_epoch(0)
    assert numbers_of(loader) == orders[0]
    for wrong in (-1, 1.5, True):
        with pytest.raises(ArgumentError, match=f"`epoch` must be .* epoch={wrong}"):
            loader.set_epoch(wrong)


def test_which_samples_a_batch_holds(sizes):
    loader = VideoLoader(sizes(10), batch_size=4, seed=0)
    for epoch in (1, 0):
        loader.set_epoch(epoch)
        for step, (_, indices, _) in enumerate(loader.batches()):
            np.testing.assert_array_equal(loader.batch_indices(epoch=epoch, step=step), indices)
    with pytest.raises(ArgumentError, match="`step` must be below 3"):
        loader.batch_indices(epoch=0, step=3)


def test_the_last_smaller_batch_is_kept(sizes):
    # As in the generator that this package takes the place of.
    sizes_of = [len(x) for x, _ in VideoLoader(sizes(10), batch_size=4)]
    assert sizes_of == [4, 4, 2]
    loader = VideoLoader(sizes(10), batch_size=4, drop_remainder=True)
    assert [len(x) for x, _ in loader] == [4, 4]
    assert len(loader) == loader.steps_per_epoch == 2
    assert (loader._order.static_batch_size, loader.num_samples) == (4, 10)
    assert VideoLoader(sizes(10), batch_size=4)._order.static_batch_size is None
    assert VideoLoader(sizes(10), batch_size=5)._order.static_batch_size == 5
    assert len(list(VideoLoader(sizes(10), batch_size=None, drop_remainder=True))) == 10


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 45) | st.none(),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**70),
    drop_remainder=st.booleans(),
    split=st.none() | st.floats(0.05, 0.95),
    split_by=st.sampled_from([None, "label", "group", "number", "array"]),
    num_threads=st.integers(1, 4),
    read_ahead_bytes=st.none() | st.integers(0, 5000),
)
def test_every_sample_comes_once_an_epoch(
    sizes, num_samples, batch_size, shuffle, seed, drop_remainder, split, split_by, **options
):
    if split_by == "array":
        split_by = np.arange(num_samples) // 3
    options |= {"shuffle": shuffle, "seed": seed, "batch_size": batch_size}
    sides = [{}]
    if split is not None:
        sides = [
            {"validation_split": split, "subset": subset, "split_by": split_by}
            for subset in ("training", "validation")
        ]
    try:
        loaders = [
            VideoLoader(sizes(num_samples), drop_remainder=drop_remainder, **options, **side)
            for side in sides
        ]
    except ArgumentError as error:
        expected = "would be empty|two different ids or more|leaves no batch"
        with pytest.raises(ArgumentError, match=expected):
            raise error
        return
    seen = []
    for loader in loaders:
        for _ in range(2):
            batches = list(loader)
            numbers = numbers_of(batches)
            assert len(batches) == loader.steps_per_epoch == len(loader)
            assert len(numbers) == len(set(numbers))
            assert set(numbers) <= set(loader.sample_indices.tolist())
            if batch_size is None or not drop_remainder:
                assert sorted(numbers) == loader.sample_indices.tolist()
            else:
                assert len(numbers) == len(loader.sample_indices) // batch_size * batch_size
            if not shuffle:
                assert numbers == sorted(numbers)
            for x, y in batches:
                np.testing.assert_array_equal(y, testing.labels(np.atleast_2d(x)[:, 0], 3)[
                    0 if batch_size is None else slice(None)
                ])  # fmt: skip
        seen += loader.sample_indices.tolist()
    assert sorted(seen) == list(range(num_samples))


# --------------------------------------------------------------------------- samplers


# --------------------------------------------------------------------------- splits


# --------------------------------------------------------------------------- lifetime


@pytest.mark.slow
def test_abandoned_iterators_leave_nothing_behind(tmp_path, new_threads):
    path = testing.write_video_file(
        tmp_path / "set.h5", num_samples=64, sample_shape=(64, 1024), chunks=(1, 64, 1024)
    )
    loader = VideoLoader(path, batch_size=8, num_threads=3)  # 0.5 MB a batch

    def abandon(times):
        for number in range(times):
            batches = iter(loader)
            for _ in range(number % 4):
                next(batches)

    abandon(50)
    gc.collect()
    memory, descriptors = resident_nbytes(), len(open_descriptors())
    abandon(300)
    gc.collect()
    assert len(new_threads()) <= 3
    assert len(open_descriptors()) <= descriptors
    assert resident_nbytes() - memory < 30 << 20  # 300 batches are 150 MB
    loader.close()
    assert not new_threads()
    assert len(open_descriptors()) < descriptors


@pytest.mark.slow
def test_loaders_that_are_dropped_leave_nothing_behind(path, new_threads):
    descriptors = len(open_descriptors())
    for number in range(100):
        loader = VideoLoader(path, batch_size=8, num_threads=3)
        batches = iter(loader)
        for _ in range(number % 4):
            next(batches)
        if number % 3 == 0:
            loader.close()
    del loader, batches  # without a garbage collection: there is no cycle
    wait_until(lambda: not new_threads())
    assert len(open_descriptors()) == descriptors


def test_two_iterators_at_once(sizes):
    loader = VideoLoader(sizes(30), batch_size=4, seed=0)
    expected = [numbers_of(loader), numbers_of(loader)]
    loader.set_epoch(0)
    pairs = list(zip(loader, loader, strict=True))
    assert numbers_of([pair[0] for pair in pairs]) == expected[0]
    assert numbers_of([pair[1] for pair in pairs]) == expected[1]


def test_iterators_in_many_threads(sizes):
    loader = VideoLoader(sizes(40), batch_size=3, seed=0, num_threads=3)
    found = []

    def work():
        found.extend(tuple(numbers_of(loader)) for _ in range(10))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    expected = {tuple(ShuffleSampler(40, seed=0).epoch(epoch)) for epoch in range(60)}
    assert set(found) == expected


def test_after_close(path, new_threads):
    with VideoLoader(path, batch_size=5) as loader:
        x, _ = next(iter(loader))
        before = x.copy()
        assert new_threads()
    assert not new_threads()
    loader.close()
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ClosedError, match="The loader is closed"):
        next(iter(loader))


def test_close_before_the_first_epoch(path):
    loader = VideoLoader(path)
    loader.close()
    with pytest.raises(ClosedError, match="is closed"):
        list(loader)


def test_close_while_iterating(path, new_threads):
    loader = VideoLoader(path, batch_size=2, read_ahead_bytes=8 * ROW_BYTES)
    batches = iter(loader)
    next(batches)
    loader.close()
    with pytest.raises(ClosedError, match="closed during iteration"):
        list(batches)
    assert not new_threads()


@pytest.mark.slow
def test_close_from_another_thread(path, monkeypatch, new_threads):
    read = sources.DirectSource.read

    def slow(self, *arguments):
        time.sleep(0.02)
        read(self, *arguments)

    monkeypatch.setattr(sources.DirectSource, "read", slow)
    for _ in range(5):
        loader = VideoLoader(path, batch_size=1, num_threads=2)
        closer = threading.Timer(0.1, loader.close)
        closer.start()
        with pytest.raises(ClosedError, match="closed"):
            list(itertools.chain(*[loader] * 20))
        closer.join()
        assert not new_threads()


# --------------------------------------------------------------------------- forks and exits


def in_child(work):
    """Forks; the child does the work and ends with 0 if it returns True. Returns its status."""
    with contextlib.suppress(ChildProcessError):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if work() else 2
            finally:
                os._exit(status)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, 9)
        os.waitpid(child, 0)
    return "the child hangs"


FORK = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@FORK
@pytest.mark.parametrize("chunks", [None, ONE, (4, *testing.SAMPLE_SHAPE)], ids=str)
@pytest.mark.parametrize("used", ["not at all", "an epoch", "in the middle"])
def test_a_loader_in_a_forked_child(tmp_path, chunks, used):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=40, chunks=chunks)
    loader = VideoLoader(path, shuffle=False, batch_size=4)
    expected = testing.sample_values(np.arange(40))
    batches = iter(loader)
    if used == "an epoch":
        list(loader)
    elif used == "in the middle":
        next(batches)

    def right():
        return bool((np.concatenate([x for x, _ in loader]) == expected).all())

    assert [in_child(right) for _ in range(3)] == [0, 0, 0]
    assert right()  # the parent goes on as if nothing had been


@FORK
def test_an_iterator_of_the_parent_does_not_hang_in_the_child(path):
    batches = iter(VideoLoader(path, batch_size=2, num_threads=1))
    next(batches)

    def goes_on():
        with pytest.raises(Exception, match=r"fork|closed"):
            list(batches)
        return True

    assert in_child(goes_on) == 0


EXIT = """
import os, sys, threading, time
import numpy as np
from h5video_data.planning import access
from h5video_data.reading import memory_budget as memory
from h5video_data.reading import sample_sources as sources
from h5video_data.reading import threads as tasks
from h5video_data.loader import VideoLoader
access.MEMORY_ROW_BYTES = 64
memory.MAX_BUNDLE_BATCHES = 1
tasks.EXIT_SECONDS = 1000  # a thread that does not end is a hang
read = sources.DirectSource.read
def slow(self, *arguments):
    time.sleep(float(sys.argv[2]))
    read(self, *arguments)
    os.write(1, b"read\\n")
sources.DirectSource.read = slow
loader = VideoLoader(sys.argv[1], batch_size=2, num_threads=2, read_ahead_bytes=64_000)
batches = iter(loader)
held = [next(batches), next(batches)]
end = sys.argv[3]
if end == "exception":
    raise SystemExit(0)
if end == "thread":
    threading.Thread(target=lambda: [None for _ in loader], daemon=True).start()
    time.sleep(0.05)
if end == "cycle":
    class Cycle: pass
    cycle = Cycle()
    cycle.me, cycle.batches, cycle.loader = cycle, batches, loader
    del batches, loader
print("end", flush=True)
"""


def output_until_exit(path, seconds_a_read, end):
    done = subprocess.run(
        [sys.executable, "-c", EXIT, path, str(seconds_a_read), end],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("end", ["end", "exception", "thread", "cycle"])
def test_the_interpreter_ends_in_the_middle_of_an_epoch(path, end):
    output_until_exit(path, 0, end)


def test_the_interpreter_does_not_wait_for_what_was_read_ahead(path):
    # 20 batches are read ahead, by two threads, 1 s each: only what has begun is waited for.
    at_the_end = output_until_exit(path, 1, "end").partition("end\n")[2]
    assert at_the_end.count("read") < 10


# --------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("options", "batch_size"),
    [({}, 7), ({}, None), ({"chunks": ONE, "compression": "gzip"}, 7), ({"chunks": ONE}, 60)],
    ids=str,
)
def test_stats_add_up(tmp_path, options, batch_size):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=60, **options)
    with h5py.File(path) as file:
        stored_bytes = file["X"].id.get_storage_size()
    loader = VideoLoader(path, batch_size=batch_size, seed=0)
    assert loader.stats == LoaderStats()
    before = loader.stats
    list(loader)
    stats = loader.stats
    assert before == LoaderStats()
    assert stats.num_samples == 60
    assert stats.read_bytes == stored_bytes
    assert stats.delivered_bytes == 60 * (ROW_BYTES + 16)
    assert stats.read_seconds > 0
    assert stats.wait_seconds > 0
    assert (stats.decode_seconds > 0) == ("compression" in options)
    list(loader)
    assert loader.stats.read_bytes == 2 * stored_bytes
    assert loader.stats.num_batches == 2 * stats.num_batches
    assert batch_size is None or stats.num_batches == -(-60 // batch_size)


# --------------------------------------------------------------------------- many files


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, (2, *testing.SAMPLE_SHAPE)], ids=["direct", "h5py"])
def test_more_files_than_are_kept_open(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr("h5video_data.reading.hdf5_source.MAX_OPEN_FILES", 8)
    num_files = byte_sources.MAX_OPEN_FILES + 44 if chunks is None else 40
    paths = [
        testing.write_video_file(
            tmp_path / f"{number:03}.h5", num_samples=2, first=2 * number, chunks=chunks
        )
        for number in range(num_files)
    ]
    before = len(open_descriptors())
    loader = VideoLoader(paths, seed=0, batch_size=50, num_threads=12)
    most = 0
    for epoch in range(3):
        order = ShuffleSampler(2 * num_files, seed=0).epoch(epoch)
        for step, (x, _) in enumerate(loader):
            np.testing.assert_array_equal(
                x, testing.sample_values(order[step * 50 : step * 50 + 50])
            )
            most = max(most, len(open_descriptors()) - before)
    assert most <= byte_sources.MAX_OPEN_FILES + 12
    loader.close()
    assert len(open_descriptors()) == before


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loader_is_not_copied(path, copied):
    with (
        VideoLoader(path) as loader,
        pytest.raises(TypeError, match="threads and open files"),
    ):
        copied(loader)


# --------------------------------------------------------------------------- a look at a batch


LOOKED_AT = {
    "plain": {},
    "in order": {"shuffle": False},
    "repeats": {"shuffle": Order([7, 7, 3, 7, 7]), "clip": Clip(2)},
    "clips": {"clip": Clip(2)},
    "blocks": {"shuffle": "blocks"},
    "numbers": {"return_indices": True, "y": None},
    "single": {"batch_size": None, "return_indices": True, "clip": Clip(2)},
    "dropped": {"drop_remainder": True},
    "dict": {"x": {"a": "X", "b": "Y"}},
    "chosen": {"indices": [30, 4, 5, 6, 50], "shuffle": False},
    "no memory": {"read_ahead_bytes": 0},
}
CHUNKS = {
    "contiguous": {},
    "one": {"chunks": (1, 4, 3, 8, 8), "compression": "gzip"},
    "many": {"chunks": (7, 2, 3, 8, 8), "compression": "gzip"},
}


def assert_alike(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, (tuple, list)):
        for pair in zip(found, expected, strict=True):
            assert_alike(*pair)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key])
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", LOOKED_AT.values(), ids=LOOKED_AT)
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_a_look_at_an_element(tmp_path, options, chunks, new_threads):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=60, **chunks)
    options = {"batch_size": 8, "seed": 1, "num_threads": 2, **options}
    loader = VideoLoader(path, **options)
    for _ in range(2):
        before = loader.stats
        found = [loader[number] for number in range(0, len(loader), 3)]
        last = loader[-1], loader[np.int64(len(loader) - 1)], loader[-len(loader)]
        assert loader.stats == before
        epoch = list(loader)
        for element, expected in zip(found, epoch[::3], strict=True):
            assert_alike(element, expected)
        for element, expected in zip(last, (epoch[-1], epoch[-1], epoch[0]), strict=True):
            assert_alike(element, expected)
    loader.close()
    assert not new_threads()
    with pytest.raises(ClosedError):
        loader[0]


def test_a_look_leaves_nothing_behind(path, new_threads):
    loader = VideoLoader(path, seed=0)
    x, _ = loader[1]
    assert not new_threads()
    assert not open_descriptors(os.path.dirname(path))
    assert loader.stats.num_reads == 0
    loader.close()  # the array is the caller's
    np.testing.assert_array_equal(x, testing.sample_values(loader.batch_indices(epoch=0, step=1)))


def test_a_look_reads_one_batch_alone(path, monkeypatch):
    read = []

    def spy(self, plan, *args):
        read.append(plan.order.tolist())
        return start(self, plan, *args)

    start = BatchReader.start
    monkeypatch.setattr(BatchReader, "start", spy)
    loader = VideoLoader(path, seed=0, batch_size=4, num_threads=2)
    loader[3]
    assert read == [loader.batch_indices(epoch=0, step=3).tolist()]
    single = VideoLoader(path, seed=0, batch_size=None)
    single[13]
    assert read[1:] == [[single.batch_indices(epoch=0, step=0)[13]]]


@pytest.mark.memory_limit(4096)
def test_a_look_reads_no_whole_dataset_but_labels(tmp_path, monkeypatch):
    numbers = np.arange(MANY_SAMPLES)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["X"] = np.broadcast_to(numbers[:, np.newaxis, np.newaxis], (MANY_SAMPLES, 2, 3))
        file["Y"] = numbers
    loader = VideoLoader(tmp_path / "set.h5", seed=0)
    assert loader._set.components[0].is_in_memory
    read = []

    def spy(parts, counts):
        read.extend(part.name for part in parts)
        return read_rows(parts, counts)

    monkeypatch.setattr(batch_reader, "read_rows", spy)
    x, y = loader[5]
    assert read == ["/Y"]
    expected = loader.batch_indices(epoch=0, step=5)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(x[:, 1, 2], expected)


def test_a_look_is_at_the_epoch_that_comes_next(path):
    loader = VideoLoader(path, seed=0, batch_size=4)
    iterator = iter(loader)
    next(iterator)
    following = VideoLoader(path, seed=0, batch_size=4)
    following.set_epoch(1)
    expected = list(following)
    assert_alike(loader[2], expected[2])  # while an iterator runs
    assert len(list(iterator)) == 14
    assert_alike(loader[2], expected[2])  # whose next epoch is being read ahead
    assert_alike(list(loader), expected)
    loader.set_epoch(1)
    assert_alike(loader[-15], expected[0])
    loader.load_state_dict(loader.state_dict(epoch=1, step=5))
    assert_alike(loader[0], expected[5])
    assert_alike(loader[-1], expected[14])
    with pytest.raises(IndexError, match=r"next has 10 elements. Received: loader\[10\]"):
        loader[10]
    assert_alike(list(loader), expected[5:])


def test_looks_from_several_threads_while_an_epoch_runs(path):
    loader = VideoLoader(path, seed=0, batch_size=4, num_threads=2)
    following = VideoLoader(path, seed=0, batch_size=4)
    following.set_epoch(1)
    expected = list(following)
    running = iter(loader)
    next(running)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(loader.__getitem__, [*range(15)] * 2))
        rest = list(running)
    assert len(rest) == 14
    assert_alike(found, expected * 2)


def test_what_is_no_element(path):
    loader = VideoLoader(path, seed=0, batch_size=7)
    for number in (9, -10, 10**9):
        with pytest.raises(IndexError, match=rf"has 9 elements. Received: loader\[{number}\]"):
            loader[number]
    for key in (slice(2), 1.0, "X", None, (1, 2), True, [1]):
        with pytest.raises(TypeError, match="takes one number: for several elements, iterate"):
            loader[key]


def test_a_look_with_samples_that_cannot_be_read(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20, **CHUNKS["one"])
    with h5py.File(path, "r+") as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), b"rubbish", 0)
    options = {"shuffle": False, "batch_size": 5, "return_indices": True}
    with pytest.raises(ReadError, match="sample 7"):
        VideoLoader(path, **options)[1]
    loader = VideoLoader(path, on_error="skip", **options)
    *_, indices = loader[1]
    assert indices.tolist() == [5, 6, 8, 9]
    assert loader.skipped.keys() == {7}
    assert_alike(loader[1], list(loader)[1])
    single = VideoLoader(path, on_error="skip", **{**options, "batch_size": None})
    with pytest.raises(ReadError, match=r"No sample of the batch can be read. Sample 7: .*set.h5"):
        single[7]
    with h5py.File(path, "r+") as file:
        file["extra"] = 1
    with pytest.raises(FileChangedError):
        loader[0]


@pytest.mark.tf
def test_tensorflow_takes_no_loader_for_a_sequence(path):
    import keras

    loader = VideoLoader(path, y=None, batch_size=4)
    for function in (tf.convert_to_tensor, tf.data.Dataset.from_tensor_slices):
        with pytest.raises(TypeError, match=r"no tensor: `loader.dataset\(\)` is its"):
            function(loader)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for call in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match="Unrecognized data type"):
            call(loader)
    assert tf.nest.flatten([loader]) == [loader]
    assert loader.stats.num_batches == 0


def test_a_loader_is_no_array(path):
    loader = VideoLoader(path, y=None, batch_size=4)
    with pytest.raises(TypeError, match=r"no array: `loader\[i\]` reads one element"):
        np.asarray(loader)
    assert loader.stats.num_batches == 0


def test_the_numbers_of_samples_cannot_be_changed(path):
    loader = VideoLoader(path, y=None, batch_size=4)
    with pytest.raises(ValueError, match="read-only"):
        loader.sample_indices[0] = 3


def test_class_names_of_each_key(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros((4, 2), np.uint8)
        file["Y"] = np.arange(4)
        file["verb"] = ["run", "sit", "run", "sit"]
        file["noun"] = ["cat", "dog", "fox", "ape"]
    path = tmp_path / "a.h5"
    y = {"v": "verb", "n": "noun", "c": "Y"}
    assert VideoLoader(path, y=y).class_names == {
        "v": ["run", "sit"],
        "n": ["ape", "cat", "dog", "fox"],
    }
    assert VideoLoader(path, y="verb").class_names == ["run", "sit"]
    assert VideoLoader(path, y={"c": "Y"}).class_names is None
    assert VideoLoader(path, y=None).class_names is None
