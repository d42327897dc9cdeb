"""The plan of what is decoded when: every batch whole, memory kept to, few decodes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.planning.cache_plan import plan_decodes


def slabs(num_samples, per_slab):
    starts = np.arange(0, num_samples, per_slab)
    return starts, np.minimum(starts + per_slab, num_samples)


def played(order, batch_size, starts, stops, capacity):
    """Plays a plan as a reader would; gives the batches and the number of decodes."""
    kept, batches, num_decodes = set(), [], 0
    ends = np.append(np.arange(batch_size, len(order), batch_size), len(order))
    for step in plan_decodes(order, ends, starts, stops, capacity):
        batch = {}
        for sample, place in zip(step.copied.tolist(), step.out_rows.tolist(), strict=True):
            assert sample in kept
            assert place not in batch
            batch[place] = sample
        for decode in step.decodes:
            num_decodes += 1
            inside = range(starts[decode.chunk_row], stops[decode.chunk_row])
            for sample, place in zip(decode.wanted.tolist(), decode.out_rows.tolist(), strict=True):
                assert sample in inside
                assert place not in batch
                batch[place] = sample
            for sample in decode.cached.tolist():
                assert sample in inside
                assert sample not in kept
                kept.add(sample)
        assert step.evicted.dtype == np.int64
        kept.difference_update(step.evicted.tolist())
        assert len(kept) <= capacity
        batches.append(batch)
    assert not kept  # what is not used again
    return batches, num_decodes


@given(
    order=st.lists(st.integers(0, 40), min_size=1, max_size=80),
    batch_size=st.integers(1, 12),
    per_slab=st.integers(1, 12),
    capacity=st.integers(0, 50),
)
def test_every_batch_is_whole(order, batch_size, per_slab, capacity):
    order = np.array(order)
    batches, _ = played(order, batch_size, *slabs(41, per_slab), capacity)
    found = [batch[place] for batch in batches for place in range(len(batch))]
    assert found == order.tolist()


@given(seed=st.integers(0, 99), per_slab=st.integers(1, 20), batch_size=st.integers(1, 40))
def test_each_slab_once_if_all_samples_can_be_kept(seed, per_slab, batch_size):
    order = np.random.default_rng(seed).permutation(60)
    starts, stops = slabs(60, per_slab)
    assert played(order, batch_size, starts, stops, 60)[1] == len(starts)


def test_samples_outside_of_slabs_are_left_out():
    # Three files: the middle one is read otherwise.
    starts, stops = np.array([0, 4, 20, 24]), np.array([4, 8, 24, 27])
    order = np.random.default_rng(0).permutation(27)
    batches, num_decodes = played(order, 5, starts, stops, 27)
    for number, batch in enumerate(batches):
        expected = order[5 * number : 5 * number + 5]
        assert batch == {p: s for p, s in enumerate(expected) if s < 8 or s >= 20}
    assert num_decodes == 4


def belady(order, batch_size, per_slab, capacity):
    """Decodes if whole slabs are kept, in the best possible way."""
    order = order // per_slab
    batches = [set(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
    kept, num_decodes = set(), 0
    for number, batch in enumerate(batches):
        num_decodes += len(batch - kept)

        def next_use(slab, number=number):
            later = range(number + 1, len(batches))
            return next((i for i in later if slab in batches[i]), len(batches))

        kept = set(sorted(kept | batch, key=next_use)[: capacity // per_slab])
    return num_decodes


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25, 0.1])
def test_fewer_decodes_than_the_best_that_keeps_whole_slabs(share):
    order = np.random.default_rng(0).permutation(2000)
    capacity = int(share * len(order))
    found = played(order, 32, *slabs(2000, 16), capacity)[1]
    assert found <= belady(order, 32, 16, capacity)
    # With memory for a half of the set, two passes over it are enough, and a little more.
    assert found <= 1.15 * 125 * np.ceil(1 / share)


def test_what_is_needed_next_is_kept():
    order = np.tile(np.arange(8), 2)
    assert played(order, 1, *slabs(8, 8), 3)[1] == 4  # 1 to 3 stay, then 5 to 7; and again


def test_without_memory_each_batch_decodes_its_slabs():
    order = np.random.default_rng(0).permutation(200)
    batches, num_decodes = played(order, 10, *slabs(200, 8), 0)
    assert num_decodes == sum(len({s // 8 for s in batch.values()}) for batch in batches)


def test_samples_that_repeat_are_kept_for_their_next_use():
    order = np.array([0, 5, 0, 5, 0, 5])
    assert played(order, 2, *slabs(8, 4), 8)[1] == 2
    assert played(order, 2, *slabs(8, 4), 1)[1] == 4  # one of the two is kept
    assert played(np.array([0, 0, 1, 0, 0]), 1, *slabs(2, 2), 1)[1] == 2
    order = np.random.default_rng(0).integers(60, size=400)
    assert played(order, 10, *slabs(60, 6), 60)[1] == 10
