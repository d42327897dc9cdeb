"""The order of a loader's epochs: a function of the options, the seed and the epoch alone."""

import numpy as np
import pytest
from conftest import Order

from h5video_data.epoch_order import EpochOrder
from h5video_data.errors import ArgumentError
from h5video_data.opening import open_video_set
from h5video_data.options import LoaderOptions
from h5video_data.testing import write_video_file

NUM = 22


@pytest.fixture(scope="module")
def video_set(tmp_path_factory):
    return open_video_set(write_video_file(tmp_path_factory.mktemp("a") / "a.h5", num_samples=NUM))


def order_of(video_set, **options):
    return EpochOrder(video_set, LoaderOptions(**{"batch_size": 5, "seed": 3, **options}))


def test_exact_shuffling_is_numpys_permutation(video_set):
    order = order_of(video_set)
    for epoch in (0, 7):
        plan = order.plan(epoch, used=0, batches_per_bundle=1)
        expected = np.random.default_rng([3, epoch]).permutation(NUM)
        np.testing.assert_array_equal(plan.order, expected)
        assert plan.stops.tolist() == [5, 10, 15, 20, 22]


def test_what_was_used_is_left_out(video_set):
    order = order_of(video_set)
    whole = order.plan(2, used=0, batches_per_bundle=1)
    rest = order.plan(2, used=8, batches_per_bundle=1)
    np.testing.assert_array_equal(rest.order, whole.order[8:])
    assert rest.stops.tolist() == [5, 10, 14]
    assert not order.is_used_up(NUM - 1)
    assert order.is_used_up(NUM)


def test_without_the_remainder_the_end_comes_earlier(video_set):
    order = order_of(video_set, drop_remainder=True)
    assert (order.num_batches, order.is_batch_size_static) == (4, True)
    assert not order.is_used_up(17)
    assert order.is_used_up(18)


def test_one_side_of_a_split(video_set):
    sides = [
        order_of(video_set, validation_split=0.3, subset=subset).sample_indices
        for subset in ("training", "validation")
    ]
    assert sorted(np.concatenate(sides).tolist()) == list(range(NUM))
    plan = order_of(video_set, validation_split=0.3, subset="validation").plan(
        0, used=0, batches_per_bundle=1
    )
    assert sorted(plan.order.tolist()) == sides[1].tolist()


def test_earlier_uses_are_counted_from_the_beginning_of_the_epoch(video_set):
    order = order_of(video_set, shuffle=Order([4, 1, 4, 4, 1]), batch_size=2)
    assert order.samples_per_epoch == 5
    plan = order.plan(0, used=2, batches_per_bundle=1)
    assert plan.order.tolist() == [4, 4, 1]
    assert plan.earlier.tolist() == [1, 2, 1]


def test_another_seed_is_another_order_unless_one_was_given(video_set):
    given, drawn = order_of(video_set), order_of(video_set, seed=None)
    before = given.digest(0)
    given.reseed(4)
    assert (given.seed, given.digest(0)) == (3, before)
    drawn.digest(0)
    drawn.reseed(3)
    assert (drawn.seed, drawn.digest(0)) == (3, before)


def test_no_batch_is_left(video_set):
    with pytest.raises(ArgumentError, match="leaves no batch at all"):
        order_of(video_set, batch_size=NUM + 1, drop_remainder=True)
