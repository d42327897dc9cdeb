"""Workers: each one's part of every global batch, and nothing twice or left out."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tf
from hypothesis import given
from hypothesis import strategies as st

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import ArgumentError
from h5video_data.samplers import ShuffleSampler
from h5video_data.sampling.sharding import ReplicaShard, replica_shard
from h5video_data.testing import sample_values, write_video_file

SHAPE = (2, 1, 4, 8)


@pytest.fixture
def path(tmp_path):
    return write_video_file(tmp_path / "a.h5", num_samples=103, sample_shape=SHAPE)


def contexts(num_workers, num_replicas):
    return [
        tf.distribute.InputContext(num_workers, worker, num_replicas)
        for worker in range(num_workers)
    ]


@given(
    num_samples=st.integers(1, 200),
    per_replica=st.integers(1, 9),
    workers=st.integers(1, 4),
    per_worker=st.integers(1, 3),
    drop=st.booleans(),
)
def test_the_workers_parts_make_up_every_global_batch(
    num_samples, per_replica, workers, per_worker, drop
):
    replicas = workers * per_worker
    batch_size = per_replica * replicas
    cuts = []
    for worker in range(workers):
        share = ReplicaShard(replicas, per_worker * worker, per_worker)
        positions, ends = share.cut(num_samples, batch_size, drop_remainder=drop)
        cuts.append((np.arange(num_samples)[positions], ends))
    whole, rest = divmod(num_samples, batch_size)
    steps = whole + (rest > 0 and not drop)
    for positions, ends in cuts:
        assert len(ends) == steps * per_worker
        assert (ends[-1] if len(ends) else 0) == len(positions)
    for step in range(steps):
        parts = []
        for positions, ends in cuts:
            elements = np.split(positions, ends)[step * per_worker : (step + 1) * per_worker]
            parts += [element.tolist() for element in elements]
        batch = list(range(num_samples))[step * batch_size : (step + 1) * batch_size]
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        if len(batch) >= replicas:
            assert list(itertools.chain(*parts)) == batch  # each once, in order
        else:
            assert set(itertools.chain(*parts)) == set(batch)


def test_nobody_reads_what_it_does_not_use(path):
    order = ShuffleSampler(103, seed=4).epoch(0)
    loaders = [
        VideoLoader(path, y=None, batch_size=24, seed=4, input_context=context)
        for context in contexts(3, 6)
    ]
    seen = [list(loader.batches()) for loader in loaders]
    assert [len(batches) for batches in seen] == [loader.steps_per_epoch for loader in loaders]
    assert {loader.steps_per_epoch for loader in loaders} == {10}  # 5 steps, 2 replicas each
    for step in range(5):
        found = []
        for batches in seen:
            for _, indices, (x,) in batches[2 * step : 2 * step + 2]:
                np.testing.assert_array_equal(x, sample_values(indices, SHAPE))
                found += indices.tolist()
        assert found == order[24 * step : 24 * step + 24].tolist()
    assert sum(loader.stats.read_bytes for loader in loaders) == 103 * 64


def test_elements_are_parts_of_one_replica(path):
    datasets = [
        h5v.video_dataset_from_hdf5(
            path, batch_size=20, seed=0, input_context=context, drop_remainder=True
        )
        for context in contexts(2, 4)
    ]
    for dataset in datasets:
        assert dataset.element_spec[0].shape == (5, *SHAPE)
        assert len(dataset) == 10
        assert len(list(dataset)) == 10


def test_the_map_functions_see_the_same_seeds_for_any_number_of_workers(path):
    def all_seeds(num_workers):
        found = {}
        for context in contexts(num_workers, 4):
            loader = VideoLoader(
                path,
                batch_size=8,
                seed=0,
                input_context=context,
                map_fn=lambda x, y, *, seeds: (x, y, seeds),
            )
            twin = VideoLoader(path, batch_size=8, seed=0, input_context=context)
            for (_, _, seeds), (_, indices, _) in zip(
                loader.dataset(), twin.batches(), strict=True
            ):
                for number, seed in zip(indices.tolist(), seeds.numpy().tolist(), strict=True):
                    assert found.setdefault(number, seed) == seed
        return found

    one = all_seeds(1)
    assert len(one) == 103
    assert all_seeds(2) == all_seeds(4) == one


@pytest.mark.parametrize(
    ("context", "batch_size", "message"),
    [
        ((1, 0, 3), 32, "multiple of the number of replicas"),
        ((2, 0, 3), 33, "same number of replicas on each worker"),
        ((1, 0, 1), None, "batch_size=None"),
        ("worker 0", 32, r"must be a tf.distribute.InputContext\. Received: 'worker 0'"),
    ],
)
def test_what_cannot_be_shared_out(path, context, batch_size, message):
    if isinstance(context, tuple):
        context = tf.distribute.InputContext(*context)
    with pytest.raises(ArgumentError, match=message):
        VideoLoader(path, batch_size=batch_size, input_context=context)


def test_without_a_context_there_is_one_worker():
    assert (
        replica_shard(None, 32)
        == replica_shard(tf.distribute.InputContext(1, 0, 1), 32)
        == ReplicaShard()
    )


@pytest.mark.parametrize(
    ("shard", "drop", "positions", "ends"),
    [
        (ReplicaShard(), False, [*range(14)], [6, 12, 14]),
        (ReplicaShard(), True, [*range(12)], [6, 12]),
        (ReplicaShard(3, 0, 1), False, [0, 1, 6, 7, 12], [2, 4, 5]),
        (ReplicaShard(3, 1, 1), False, [2, 3, 8, 9, 13], [2, 4, 5]),
        (ReplicaShard(3, 2, 1), False, [4, 5, 10, 11, 12], [2, 4, 5]),  # 12 comes twice
        (ReplicaShard(3, 1, 2), False, [2, 3, 4, 5, 8, 9, 10, 11, 13, 12], [2, 4, 6, 8, 9, 10]),
        (ReplicaShard(3, 2, 1), True, [4, 5, 10, 11], [2, 4]),
    ],
    ids=str,
)
def test_parts_of_14_samples_in_batches_of_6(shard, drop, positions, ends):
    found, found_ends = shard.cut(14, 6, drop_remainder=drop)
    assert np.arange(14)[found].tolist() == positions
    assert (found_ends.tolist(), found_ends.dtype) == (ends, np.int64)


def test_an_epoch_shorter_than_a_batch():
    assert ReplicaShard().cut(4, 6, drop_remainder=True)[0] == slice(0, 0)
    assert ReplicaShard().cut(4, 6, drop_remainder=False)[0] == slice(0, 4)
    positions, ends = ReplicaShard(2, 1, 1).cut(5, 6, drop_remainder=False)
    assert (positions.tolist(), ends.tolist()) == ([3, 4], [2])


def context_of(workers, worker, replicas):
    return SimpleNamespace(
        num_input_pipelines=workers, input_pipeline_id=worker, num_replicas_in_sync=replicas
    )


def test_the_replicas_of_a_worker():
    shard = replica_shard(context_of(2, 1, 6), 12)
    assert shard == ReplicaShard(num_replicas=6, first=3, count=3)
    assert shard.cut(24, 12, drop_remainder=False)[0].tolist() == [*range(6, 12), *range(18, 24)]
    assert shard.is_one_of_several
    assert not replica_shard(context_of(1, 0, 6), 12).is_one_of_several


@pytest.mark.parametrize(
    ("context", "batch_size", "message"),
    [
        (context_of(1, 0, 3), 32, r"multiple of the .*Received: batch_size=32 for 3 replicas"),
        (context_of(2, 0, 3), 33, "same number of replicas .*Received: 3 replicas on 2 workers"),
        (context_of(1, 0, 1), None, "batch_size=None"),
        ("worker 0", 32, r"must be a tf.distribute.InputContext\. Received: 'worker 0'"),
    ],
)
def test_contexts_that_share_nothing_out(context, batch_size, message):
    with pytest.raises(ArgumentError, match=message):
        replica_shard(context, batch_size)
