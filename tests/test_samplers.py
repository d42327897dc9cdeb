"""The order by blocks; the other samplers are tested with the loader."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.errors import ArgumentError
from h5video_data.samplers import BalancedSampler, BlockShuffleSampler


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
