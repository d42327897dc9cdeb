"""Random numbers of samples: a function of their seeds and the number of the draw alone."""

import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import make_seeds

from h5video_data.transforms.draws import random_bits, random_starts, symmetric_beta, uniform

NUM = 4000


def mixed(value):
    """The finaliser of MurmurHash3, in Python's own integers."""
    value ^= value >> 16
    value = value * 0x85EBCA6B & 0xFFFFFFFF
    value ^= value >> 13
    value = value * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


@pytest.mark.parametrize("draw", [1, 2, 22])
def test_bits_are_those_of_murmurhash(draw):
    seeds = np.array([[0, 0], [1, -1], [-(2**31), 2**31 - 1]], np.int32)
    words = seeds.view(np.uint32).tolist()
    salt = draw * 0x9E3779B9 & 0xFFFFFFFF
    expected = [mixed(mixed(first ^ salt) ^ second) for first, second in words]
    assert random_bits(tf.constant(seeds), draw).numpy().tolist() == expected


def test_each_sample_has_its_own_wherever_it_is_in_the_batch():
    seeds = make_seeds(8)
    together = uniform(seeds, 3).numpy()
    for place in range(8):
        assert uniform(seeds[place : place + 1], 3).numpy() == together[place]
    several = uniform(seeds, [2, 3, 4]).numpy()
    assert several.shape == (8, 3)
    np.testing.assert_array_equal(several[:, 1], together)


def test_uniform_numbers_fill_their_range():
    numbers = uniform(make_seeds(NUM), 1, -2.0, 6.0).numpy()
    assert -2 <= numbers.min() < -1.95
    assert 5.95 < numbers.max() < 6
    # Chance alone hardly ever reaches 2 / sqrt(num): Kolmogorov and Smirnov.
    ranks = np.arange(1, NUM + 1) / NUM
    assert np.abs(np.sort(numbers + 2) / 8 - ranks).max() < 2 / NUM**0.5


def test_draws_of_a_sample_do_not_depend_on_each_other():
    seeds = make_seeds(NUM)
    first, second = uniform(seeds, 1).numpy(), uniform(seeds, 2).numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / NUM**0.5


def test_starts_are_all_there_are():
    starts = random_starts(make_seeds(NUM), 1, tf.constant([5])).numpy()
    counts = np.bincount(starts, minlength=6)
    assert len(counts) == 6
    np.testing.assert_allclose(counts, NUM / 6, rtol=0.2)
    assert (random_starts(make_seeds(9), 1, 0).numpy() == 0).all()


def test_beta():
    seeds = make_seeds(NUM)
    # Beta(1, 1) is uniform.
    np.testing.assert_allclose(symmetric_beta(seeds, 1, 1.0), uniform(seeds, 1), atol=1e-6)
    for alpha in (0.2, 1.0, 5.0):
        numbers = symmetric_beta(seeds, 1, alpha).numpy()
        assert abs(numbers.mean() - 0.5) < 0.03
        assert numbers.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
