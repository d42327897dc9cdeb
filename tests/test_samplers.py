"""The order by blocks; the other samplers are tested with the loader."""

import threading
import zlib

import numpy as np
import pytest
from conftest import Order, numbers_of
from hypothesis import given
from hypothesis import strategies as st
from loader_helpers import Own

from h5video_data import testing
from h5video_data.errors import ArgumentError, SamplerError
from h5video_data.loader import VideoLoader
from h5video_data.samplers import (
    BalancedSampler,
    BlockShuffleSampler,
    Sampler,
    SequentialSampler,
    ShuffleSampler,
    WeightedSampler,
    checked_positions,
)


@given(
    blocks=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    window=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_every_sample_once_and_only_blocks_of_a_window_mix(blocks, window, seed):
    sampler = BlockShuffleSampler(blocks, window=window, seed=seed)
    order = sampler.epoch(3)
    assert sorted(order) == list(range(len(blocks)))
    np.testing.assert_array_equal(order, sampler.epoch(3))
    # Cut where a block has come to its end for the first time: no block stands on both sides of a
    # window's end, and no window has more blocks than it may.
    seen = np.array(blocks)[order].tolist()
    open_blocks: set[int] = set()
    in_window: set[int] = set()
    for place, block in enumerate(seen):
        open_blocks.add(block)
        in_window.add(block)
        if block not in seen[place + 1 :]:
            open_blocks.remove(block)
        if not open_blocks:
            in_window.clear()
        assert len(in_window) <= max(window, 1) or not open_blocks


def test_another_order_each_epoch_of_blocks_and_of_samples():
    sampler = BlockShuffleSampler(np.arange(800) // 8, window=5, seed=0)
    first, second = sampler.epoch(0), sampler.epoch(1)
    assert (first != second).mean() > 0.9
    windows = [
        {tuple(sorted(set(o[i : i + 40] // 8))) for i in range(0, 800, 40)} for o in (first, second)
    ]
    assert not windows[0] & windows[1]


def test_a_batch_mixes_the_blocks_of_its_window():
    # 100 blocks of 16, batches of 32 from windows of 8 blocks, which could have 3 bits at the most.
    sampler = BlockShuffleSampler(np.arange(1600) // 16, window=8, seed=0)
    order = sampler.epoch(0) // 16
    entropies = []
    for begin in range(0, 1600, 32):
        fraction = np.bincount(order[begin : begin + 32], minlength=100) / 32
        entropies.append(-(fraction[fraction > 0] * np.log2(fraction[fraction > 0])).sum())
    assert np.mean(entropies) == pytest.approx(2.84, abs=0.05)


def test_a_window_of_all_blocks_is_a_uniform_permutation():
    places = np.zeros((6, 6))
    for seed in range(3000):
        order = BlockShuffleSampler([0, 0, 1, 1, 2, 2], window=3, seed=seed).epoch(0)
        places[np.arange(6), order] += 1
    np.testing.assert_allclose(places / 3000, 1 / 6, atol=0.03)


@pytest.mark.parametrize(
    ("blocks", "window", "message"),
    [([], 1, "at least one sample"), ([0], 0, "window")],
    ids=["empty", "none"],
)
def test_arguments(blocks, window, message):
    with pytest.raises(ArgumentError, match=message):
        BlockShuffleSampler(blocks, window=window, seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    {
        "strings of 2 dimensions": (np.array([["a", "b"]] * 4), "one class a sample"),
        "None beside numbers": ([None, 1] * 4, "all numbers or all strings"),
        "lists of different lengths": ([[1], [1, 2]], "must be arrays"),
    }.values(),
)
def test_labels_that_are_no_classes(labels, message):
    with pytest.raises(ArgumentError, match=message):
        BalancedSampler(labels, seed=0)


pytestmark = pytest.mark.memory_limit(64)  # the small samples of these tests are read


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5", num_samples=60)


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


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([[1], [1, 2]], r"of shape \(samples,\)\. Received: object of shape \(2,\)"),
        ([0.5], r"must return whole numbers .* Received: float64 of shape \(1,\)"),
        ([[1, 2]], r"must return whole numbers .* Received: int64 of shape \(1, 2\)"),
        (
            [0, 1, 2],
            r"^Own\.epoch\(4\) must return 2 .* as for the first epoch\. Received: 3",
        ),
        ([0, 6], "positions from 0 to 5. Received: from 0 to 6"),
        ([-1, 2], "positions from 0 to 5. Received: from -1 to 2"),
    ],
    ids=str,
)
def test_what_are_no_positions(positions, message):
    with pytest.raises(SamplerError, match=message):
        checked_positions(Own(positions), 4, 6, 2)


def test_there_is_a_position_at_least():
    with pytest.raises(SamplerError, match=r"must return at least one position\. Received: 0"):
        checked_positions(Own(np.zeros(0, int)), 4, 6)


def test_positions_are_not_copied():
    positions = np.array([5, 0, 5])
    assert checked_positions(Order(positions), 4, 6) is positions


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


@pytest.mark.parametrize("make", [SequentialSampler, lambda n: ShuffleSampler(n, seed=0)])
def test_one_sample_and_none(make):
    assert make(1).epoch(3).tolist() == [0]
    with pytest.raises(ArgumentError, match="num_samples"):
        make(0)


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


def test_masked_weights_and_labels():
    values = np.ma.array([1, 2, 1], mask=[False, True, False])
    with pytest.raises(ArgumentError, match="`weights` must have no masked values"):
        WeightedSampler(values, seed=0)
    with pytest.raises(ArgumentError, match="must have no masked values"):
        BalancedSampler(values, seed=0)


@pytest.mark.parametrize(
    ("sampler", "first", "checksum"),
    [
        (ShuffleSampler(1000, seed=3), [983, 19, 269, 795, 441], 2784402286),
        (
            BlockShuffleSampler(np.arange(1000) // 7, window=4, seed=3),
            [371, 818, 558, 503, 555],
            1808159897,
        ),
        (
            WeightedSampler(np.arange(1000) % 5, num_samples=700, seed=3),
            [27, 744, 814, 127, 1],
            3606369492,
        ),
        (BalancedSampler(np.arange(1000) ** 2 % 7, seed=3), [25, 742, 812, 126, 0], 710589778),
    ],
    ids=["shuffle", "blocks", "weighted", "balanced"],
)
def test_orders_stay_what_they_are(sampler, first, checksum):
    # A saved position is one in this order, also for a later version.
    order = sampler.epoch(2).astype("<i8")
    assert (order[:5].tolist(), zlib.crc32(order)) == (first, checksum)


@pytest.mark.parametrize(
    "weights",
    [[1, np.nan], [1, np.inf], [[1, 2], [3, 4]], 3.0, [1, -1, 2], [0, 0], []],
    ids=["nan", "inf", "two axes", "scalar", "negative", "zero", "none"],
)
def test_what_are_no_weights(weights):
    with pytest.raises(ArgumentError, match=r"`weights` must .*Received: "):
        WeightedSampler(weights, seed=0)


def test_small_weights_and_few_samples():
    assert WeightedSampler([0.1, 0.2], num_samples=1, seed=0).epoch(0).shape == (1,)
    with pytest.raises(ArgumentError, match="num_samples"):
        WeightedSampler([0.1, 0.2], num_samples=0, seed=0)


def test_weights_of_32_bits_are_summed_in_64():
    weights = np.random.default_rng(0).random(100_000, np.float32)
    found, exact = (WeightedSampler(w, seed=0).epoch(0) for w in (weights, weights.astype(float)))
    np.testing.assert_array_equal(found, exact)


def test_a_draw_at_the_bounds_is_no_sample_of_weight_0(monkeypatch):
    class Bounds:
        def random(self, count):
            return np.array([0.0, 0.5, np.nextafter(1, 0)])[:count]

    monkeypatch.setattr(np.random, "default_rng", lambda _: Bounds())
    assert WeightedSampler([0, 1, 0, 1, 0], num_samples=3, seed=0).epoch(0).tolist() == [1, 3, 3]


def test_the_largest_value_of_each_row_is_its_class():
    probabilities = [[0.9, 0.1], [0.2, 0.3], [0.8, 0.2], [0.6, 0.4]]
    drawn = BalancedSampler(probabilities, num_samples=6000, seed=0).epoch(0)
    np.testing.assert_allclose(np.bincount(drawn) / 6000, [1 / 6, 1 / 2, 1 / 6, 1 / 6], atol=0.03)
