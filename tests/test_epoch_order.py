"""The order of a loader's epochs: a function of the options, the seed and the epoch alone."""

import h5py
import numpy as np
import pytest
from conftest import Order

from h5video_data.epoch_order import EpochOrder
from h5video_data.errors import ArgumentError
from h5video_data.opening import open_video_set
from h5video_data.options import LoaderOptions
from h5video_data.samplers import BalancedSampler
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


def test_a_sampler_may_use_its_array_again(video_set):
    class InPlace:
        def __init__(self):
            self.positions = np.arange(NUM)

        def epoch(self, epoch):
            self.positions[:] = np.roll(np.arange(NUM), epoch)
            return self.positions

    order = order_of(video_set, shuffle=InPlace())
    first, second = (order.plan(epoch, used=0, batches_per_bundle=1).order for epoch in (1, 2))
    assert first.tolist() == np.roll(np.arange(NUM), 1).tolist()
    assert second.tolist() == np.roll(np.arange(NUM), 2).tolist()


def test_the_order_is_not_copied(video_set, monkeypatch):
    orders = []
    monkeypatch.setattr(
        "h5video_data.epoch_order.checked_positions",
        lambda *_: orders.append(np.arange(NUM)[::-1].copy()) or orders[-1],
    )
    plan = order_of(video_set).plan(0, used=3, batches_per_bundle=1)
    assert plan.order.base is orders[-1]  # there may be a hundred million samples


def test_without_the_remainder_the_end_comes_earlier(video_set):
    order = order_of(video_set, drop_remainder=True)
    assert (order.num_batches, order.static_batch_size) == (4, order.max_batch_size)
    assert not order.is_used_up(17)
    assert order.is_used_up(18)


def test_what_is_known_if_samples_may_be_left_out(video_set):
    whole = {"batch_size": 11}  # two batches of the same size
    assert order_of(video_set, **whole).static_batch_size == 11
    assert order_of(video_set, **whole, on_error="skip").static_batch_size is None
    for on_error, single in (("raise", NUM), ("skip", None)):
        assert order_of(video_set, **whole, on_error=on_error).num_elements == 2
        order = order_of(video_set, batch_size=None, on_error=on_error)
        assert (order.num_elements, order.steps_per_epoch) == (single, NUM)


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


# --------------------------------------------------------------------------- chosen samples


def test_chosen_samples_come_in_their_order_or_shuffled(video_set):
    chosen = [9, 3, 21, 4, 0, 17]
    order = order_of(video_set, indices=chosen, shuffle=False)
    assert order.sample_indices.tolist() == chosen
    assert order.plan(0, used=2, batches_per_bundle=1).order.tolist() == chosen[2:]
    shuffled = order_of(video_set, indices=chosen).plan(1, used=0, batches_per_bundle=1).order
    expected = np.array(chosen)[np.random.default_rng([3, 1]).permutation(6)]
    np.testing.assert_array_equal(shuffled, expected)
    own = order_of(video_set, indices=chosen, shuffle=Order([5, 0, 0]))
    assert own.plan(0, used=0, batches_per_bundle=1).order.tolist() == [17, 9, 9]


def test_blocks_of_chosen_samples(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=200, chunks=(4, 4, 3, 8, 8), compression="gzip"
    )
    chosen = np.random.default_rng(0).permutation(200)[:90]
    order = order_of(open_video_set(path), indices=chosen, shuffle="blocks", batch_size=7)
    order.sampler.window = 1  # chunk, so that the order shows them
    found = order.plan(0, used=0, batches_per_bundle=1).order
    assert sorted(found.tolist()) == sorted(chosen.tolist())
    changes = np.count_nonzero(np.diff(found // 4)) + 1
    assert changes == len(set((found // 4).tolist())) > 30


def test_other_chosen_samples_are_another_fingerprint(video_set):
    def fingerprint(indices):
        return order_of(video_set, indices=indices, shuffle=False).fingerprint(0)

    first = fingerprint([3, 5, 8])
    assert fingerprint((3, 5, 8)) == first
    for other in ([5, 3, 8], [3, 5, 9], [3, 5]):
        assert fingerprint(other)["split"] != first["split"]


# --------------------------------------------------------------------------- balanced


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory):
    """X, and labels in several forms, of which the first class is rare."""
    path = write_video_file(tmp_path_factory.mktemp("b") / "a.h5", num_samples=300)
    labels = (np.arange(300) % 10 > 0).astype(np.int64)
    with h5py.File(path, "r+") as file:
        file["class"], file["hot"] = labels, np.eye(2)[labels]
        file["column"] = labels[:, np.newaxis].astype("f4")
        file["score"] = labels + 0.5
    return path, labels


@pytest.mark.parametrize("y", ["class", "hot", "column"])
def test_balanced_classes_on_this_side(unbalanced, y):
    path, labels = unbalanced
    order = order_of(
        open_video_set(path, y=y),
        y=y,
        shuffle="balanced",
        validation_split=0.2,
        subset="training",
        indices=range(10, 300),
    )
    epochs = [order.plan(epoch, used=0, batches_per_bundle=1).order for epoch in range(8)]
    assert {len(found) for found in epochs} == {len(order.sample_indices)} == {232}
    found = np.concatenate(epochs)
    assert set(found.tolist()) <= set(order.sample_indices.tolist())
    assert 0.45 < labels[found].mean() < 0.55
    expected = BalancedSampler(labels[order.sample_indices], seed=3).epoch(2)
    np.testing.assert_array_equal(epochs[2], order.sample_indices[expected])
    plan = order.plan(2, used=100, batches_per_bundle=1)
    np.testing.assert_array_equal(plan.order, epochs[2][100:])
    assert plan.earlier.max() > 0


def test_a_balanced_order_of_another_seed(unbalanced):
    video_set = open_video_set(unbalanced[0], y="class")
    given, drawn = (
        order_of(video_set, y="class", shuffle="balanced", seed=seed) for seed in (3, None)
    )
    drawn.reseed(3)
    assert drawn.digest(1) == given.digest(1)


def test_measurements_cannot_be_balanced(unbalanced):
    with pytest.raises(ArgumentError, match=r'shuffle="balanced" needs.* not all of them whole'):
        order_of(open_video_set(unbalanced[0], y="score"), y="score", shuffle="balanced")


# --------------------------------------------------------------------------- seeds


def test_a_seed_is_drawn_from_numpys_global_generator(video_set):
    seeds = []
    for _ in range(2):
        np.random.seed(1)  # noqa: NPY002 - as `keras.utils.set_random_seed` does
        seeds += [order_of(video_set, seed=None).seed, order_of(video_set, seed=None).seed]
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]
    assert EpochOrder(video_set, LoaderOptions(), 5).seed == 5
    before = np.random.get_state()[2]  # noqa: NPY002
    order_of(video_set, seed=3)
    assert np.random.get_state()[2] == before  # noqa: NPY002
