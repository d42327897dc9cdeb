"""Epochs and their order, threads, and what is left behind when a loader is gone."""

from __future__ import annotations

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
from conftest import numbers_of, open_descriptors, resident_nbytes, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from h5video_data import split_samples, testing
from h5video_data.errors import ArgumentError, ClosedError
from h5video_data.loader import LoaderStats, VideoLoader
from h5video_data.reading import byte_sources
from h5video_data.reading import sample_sources as sources
from h5video_data.samplers import (
    BalancedSampler,
    Sampler,
    SequentialSampler,
    ShuffleSampler,
    WeightedSampler,
)
from h5video_data.sampling.split_indices import split_indices

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
    assert (loader._static_batch_size, loader.num_samples) == (4, 10)
    assert VideoLoader(sizes(10), batch_size=4)._static_batch_size is None
    assert VideoLoader(sizes(10), batch_size=5)._static_batch_size == 5
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


class Own:
    """Follows the protocol, and gives what it likes."""

    def __init__(self, positions):
        self.positions = positions
        self.calls = []

    def epoch(self, epoch):
        self.calls.append((epoch, threading.current_thread()))
        return self.positions


@pytest.mark.parametrize(
    "positions",
    [[5, 5, 5, 0], (1,), np.array([9, 0], np.uint8), np.arange(10)[::-2], np.array([3], ">i8")],
    ids=str,
)
def test_own_samplers(sizes, positions):
    sampler = Own(positions)
    assert isinstance(sampler, Sampler)
    loader = VideoLoader(sizes(10), shuffle=sampler, batch_size=3)
    for _ in range(2):
        assert numbers_of(loader) == [int(position) for position in positions]
    assert len(loader) == -(-len(positions) // 3)
    # Once for the number of samples, then once an epoch, the last time for the one to come.
    assert [call[0] for call in sampler.calls] == [0, 0, 1, 2]
    assert {call[1] for call in sampler.calls} == {threading.current_thread()}


def test_a_sampler_counts_in_the_positions_of_its_side(sizes):
    options = {"validation_split": 0.5, "seed": 0, "subset": "validation"}
    loader = VideoLoader(sizes(10), shuffle=Own([4, 0]), **options)
    assert numbers_of(loader) == loader.sample_indices[[4, 0]].tolist()


def test_a_sampler_may_use_its_array_again(sizes):
    class InPlace(Own):
        def epoch(self, epoch):
            self.positions[:] = epoch
            return self.positions

    loader = VideoLoader(
        sizes(10), shuffle=InPlace(np.zeros(6, int)), batch_size=2, read_ahead_bytes=0
    )
    first, second = iter(loader), iter(loader)
    got = [next(first), next(second), *first]
    assert numbers_of(got) == [0, 0, 1, 1, 0, 0, 0, 0]


def test_sequential_and_shuffle():
    assert SequentialSampler(4).epoch(7).tolist() == [0, 1, 2, 3]
    counts = np.zeros((5, 5), int)
    for epoch in range(2000):
        counts[np.arange(5), ShuffleSampler(5, seed=0).epoch(epoch)] += 1
    assert (abs(counts - 400) < 100).all()  # five standard deviations are 90


def test_weighted():
    weights = [0, 1, 2, 0, 5, 0]
    sampler = WeightedSampler(weights, num_samples=80_000, seed=0)
    drawn = sampler.epoch(0)
    counts = np.bincount(drawn, minlength=6)
    np.testing.assert_allclose(counts / 10_000, weights, atol=0.06)
    assert (counts[[0, 3, 5]] == 0).all()
    np.testing.assert_array_equal(sampler.epoch(0), drawn)
    assert (sampler.epoch(1) != drawn).any()


LABELS = {
    "class numbers": lambda labels: labels,
    "one-hot": lambda labels: testing.labels(labels, 3),
    "smoothed": lambda labels: 0.7 * testing.labels(labels, 3) + 0.1,
    "in a column": lambda labels: labels[:, np.newaxis],
    "floats in a column": lambda labels: labels[:, np.newaxis].astype(float),
    "names": lambda labels: np.array(["run", "jump", "sit"])[labels],
}


@pytest.mark.parametrize("given_as", LABELS.values(), ids=LABELS)
def test_balanced(given_as):
    labels = np.repeat([0, 1, 2], [970, 20, 10])
    given_labels = given_as(labels)
    drawn = BalancedSampler(given_labels, num_samples=60_000, seed=0).epoch(0)
    np.testing.assert_allclose(np.bincount(labels[drawn]) / 20_000, 1, atol=0.03)
    assert len(BalancedSampler(given_labels, seed=0).epoch(0)) == 1000


@pytest.mark.parametrize("count", [14, 16, 20])
def test_weights_of_other_samples(tmp_path, count):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20)
    options = {"validation_split": 0.25, "subset": "training", "seed": 0}
    VideoLoader(path, shuffle=BalancedSampler(np.arange(15) % 2, seed=0), **options)
    sampler = BalancedSampler(np.arange(count) % 2, num_samples=15, seed=0)
    with pytest.raises(ArgumentError, match=rf"which has 15;.*`sample_indices`.*with {count}"):
        VideoLoader(path, shuffle=sampler, **options)


@pytest.mark.parametrize(
    "labels",
    [np.array(3), np.zeros((4, 2, 2)), [[1, 1, 0], [0, 1, 0]], np.zeros((5, 3)), np.zeros((5, 0))],
    ids=["scalar", "three axes", "several classes a sample", "no class", "no classes"],
)
def test_balanced_needs_one_class_a_sample(labels):
    with pytest.raises(ArgumentError, match=r"one class a sample.*Received: \w+ labels of shape"):
        BalancedSampler(labels, seed=0)


# --------------------------------------------------------------------------- splits


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(2, 60),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**40) | st.none(),
    by=st.sampled_from([None, "label", "group", "number", "array"]),
)
def test_split_samples(sizes, num_samples, fraction, seed, by):
    split_by = [str(i // 4) for i in range(num_samples)] if by == "array" else by
    options = {"seed": seed, "split_by": split_by}
    try:
        training, validation = split_samples(sizes(num_samples), fraction, **options)
    except ArgumentError as error:
        with pytest.raises(ArgumentError, match=r"would be empty|two different ids or more"):
            raise error
        assert by == "array" or int(fraction * num_samples) == 0
        return
    assert sorted([*training, *validation]) == list(range(num_samples))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    again = split_samples(sizes(num_samples), fraction, **options)
    np.testing.assert_array_equal(again[1], validation)
    if by in (None, "label"):
        assert len(validation) == int(fraction * num_samples)
    if by == "label":
        for label in range(3):
            share = (validation % 3 == label).sum()
            assert abs(share - fraction * (np.arange(num_samples) % 3 == label).sum()) < 1
    if by in ("group", "number"):
        assert not set(training % 7) & set(validation % 7)
    if by == "array":
        assert not set(training // 4) & set(validation // 4)


def test_seeds_give_other_splits(sizes):
    splits = {tuple(split_samples(sizes(50), 0.3, seed=seed)[1]) for seed in range(20)}
    assert len(splits) == 20


def test_a_split_is_the_same_for_every_order(sizes):
    options = {"validation_split": 0.3, "seed": 4, "subset": "validation"}
    expected = split_samples(sizes(50), 0.3, seed=4)[1]
    for shuffle in (True, False):
        loader = VideoLoader(sizes(50), shuffle=shuffle, **options)
        np.testing.assert_array_equal(loader.sample_indices, expected)


def test_the_remainder_goes_to_the_class_that_lost_most_in_rounding(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["X"] = np.zeros((9, 3))
        file["Y"] = [0] * 2 + [1] * 7  # a quarter: 0.5 and 1.75
    _, validation = split_samples(tmp_path / "set.h5", 0.25, seed=3, split_by="label")
    assert len(validation) == 2
    assert (validation >= 2).all()


def test_groups_over_several_files(sizes):
    paths = [sizes(10), sizes(20)]
    training, validation = split_samples(paths, 0.4, seed=1, split_by="group")
    groups = np.concatenate([np.arange(10), np.arange(20)]) % 7
    assert not set(groups[training]) & set(groups[validation])
    assert len(training) + len(validation) == 30


def test_class_numbers_in_a_column_are_stratified(tmp_path):
    # (samples, 1) is how many tools write class numbers.
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["X"] = np.zeros((40, 3))
        file["Y"] = np.repeat([1, 2], 20)[:, np.newaxis]
        file["double"] = np.repeat([1.0, 2.0], 20)[:, np.newaxis]
        file["subject"] = np.arange(40)[:, np.newaxis] // 4
    for y in ("Y", "double"):
        _, validation = split_samples(tmp_path / "set.h5", 0.5, seed=3, split_by="label", y=y)
        assert (validation < 20).sum() == 10
    # So are the ids of groups.
    training, validation = split_samples(tmp_path / "set.h5", 0.3, seed=3, split_by="subject")
    assert len(validation) == 12
    assert not set(training // 4) & set(validation // 4)


def test_groups_of_what_is_no_group(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=20)
    with h5py.File(path, "r+") as file:
        file["class"] = np.arange(20) % 4
        file["subject"] = np.arange(20) // 4

    def split(split_by, **names):
        return split_samples(path, 0.3, seed=0, split_by=split_by, **names)

    for y, split_by in (("class", "class"), ("class", "/class"), ("/class", "class"), ("Y", "Y")):
        with pytest.raises(ArgumentError, match=r"each class.*Use split_by=\"label\".*Received"):
            split(split_by, y=y)
    for x in ("X", {"a": "X"}):
        with pytest.raises(ArgumentError, match=r"group ids, of shape \(samples,\)\. Received"):
            split("X", x=x)
    # Classes may be kept apart on purpose; one of several outputs may say what belongs together.
    training, validation = split(np.arange(20) % 4, y="class")
    assert not set(training % 4) & set(validation % 4)
    training, validation = split("subject", y={"class": "class", "subject": "subject"})
    assert not set(training // 4) & set(validation // 4)
    with pytest.raises(ArgumentError, match=r"float64 labels .* not all of them whole"):
        split_indices(4, 0.5, labels=np.array([0, 1, np.inf, np.nan]))


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


@pytest.mark.slow
def test_an_abandoned_iterator_reads_no_further(path, monkeypatch):
    reads = []
    read = sources.DirectSource.read

    def slow(self, *arguments):
        reads.append(time.sleep(0.05))
        read(self, *arguments)

    monkeypatch.setattr(sources.DirectSource, "read", slow)
    monkeypatch.setattr("h5video_data.reading.memory_budget.MAX_BUNDLE_BATCHES", 1)
    loader = VideoLoader(path, y=None, batch_size=1, num_threads=2, read_ahead_bytes=1 << 20)
    batches = iter(loader)
    next(batches)
    batches.close()
    num_reads = len(reads)
    time.sleep(0.5)
    assert len(reads) <= num_reads + 2  # of 60: one of each thread


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


def ahead_of(loader):
    """The epoch and the batches that are read ahead of the next `iter()`."""
    return loader._feed._ahead and (loader._feed._ahead.plan.number, len(loader._feed._ahead))


def test_the_next_epoch_is_read_at_the_end_of_this_one(sizes):
    loader = VideoLoader(sizes(40), batch_size=4, seed=0)
    assert ahead_of(loader) is None
    numbers_of(loader)
    assert ahead_of(loader) == (1, min(loader._feed.memory.bundles_in_flight, 10))
    begun = loader._feed._ahead
    second = numbers_of(loader)
    assert loader._feed._ahead is not begun
    assert second == numbers_of_epoch(sizes(40), 1)


def numbers_of_epoch(path, epoch):
    with VideoLoader(path, batch_size=4, seed=0) as loader:
        loader.set_epoch(epoch)
        return numbers_of(loader)


def test_another_epoch_than_the_one_read_ahead(sizes):
    loader = VideoLoader(sizes(20), batch_size=4, seed=0)
    numbers_of(loader)
    loader.set_epoch(7)
    assert numbers_of(loader) == numbers_of_epoch(sizes(20), 7)
    assert ahead_of(loader)[0] == 8


def test_an_iterator_that_is_broken_off_reads_nothing_ahead(sizes):
    loader = VideoLoader(sizes(20), batch_size=4, seed=0)
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    batches.close()
    assert ahead_of(loader) is None
    assert numbers_of(loader) == numbers_of_epoch(sizes(20), 1)


def test_an_error_of_a_sampler_waits_for_its_epoch(sizes):
    class FailsLater(Own):
        def epoch(self, epoch):
            if epoch:
                raise LookupError("no more orders")
            return self.positions

    loader = VideoLoader(sizes(20), shuffle=FailsLater(np.arange(20)), batch_size=4)
    assert numbers_of(loader) == list(range(20))
    with pytest.raises(LookupError, match="no more orders"):
        numbers_of(loader)


def test_released_in_the_middle_of_an_epoch(sizes):
    loader = VideoLoader(sizes(20), batch_size=4, seed=0)
    batches = iter(loader)
    next(batches)
    loader._release()
    assert len(list(batches)) == 4
    assert ahead_of(loader) is None
    del batches
    assert numbers_of(loader) == numbers_of_epoch(sizes(20), 1)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loader_is_not_copied(path, copied):
    with (
        VideoLoader(path) as loader,
        pytest.raises(TypeError, match="threads and open files"),
    ):
        copied(loader)
