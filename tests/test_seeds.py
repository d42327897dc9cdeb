"""Seeds of samples: pure functions of (seed, epoch, sample, earlier uses)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.sampling.seeds import earlier_uses, sample_seeds


def test_seeds_depend_on_seed_epoch_and_sample_alone():
    indices = np.arange(1000)
    seeds = sample_seeds(5, 2, indices)
    assert (seeds.shape, seeds.dtype) == ((1000, 2), np.int32)
    assert len(np.unique(seeds, axis=0)) == 1000
    np.testing.assert_array_equal(sample_seeds(5, 2, indices[::-7]), seeds[::-7])
    for other in (sample_seeds(5, 3, indices), sample_seeds(6, 2, indices)):
        assert not (other == seeds).all(axis=1).any()


def test_the_first_coming_has_the_seeds_that_it_always_had():
    first = sample_seeds(7, 3, np.arange(4))
    assert first.tolist() == [
        [-597256184, 701845630],
        [-234205972, -636700086],
        [261423416, -1556060974],
        [254565843, -428945400],
    ]
    again = sample_seeds(7, 3, np.arange(4), np.array([0, 0, 1, 0]))
    assert (again == first).all(axis=1).tolist() == [True, True, False, True]
    assert again[2].tolist() == [-1731761086, 1523596458]
    comings = sample_seeds(7, 3, np.repeat(np.arange(300), 300), np.tile(np.arange(300), 300))
    assert len(np.unique(comings, axis=0)) == 300 * 300


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30))
def test_earlier_uses(order):
    found = earlier_uses(np.array(order))
    if len(set(order)) == len(order):
        assert found is None
    else:
        assert found.dtype == np.int64
        assert found.tolist() == [order[:i].count(number) for i, number in enumerate(order)]
