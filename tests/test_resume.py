"""Going on from a saved position: exactly the samples that were not used yet, in their order."""

import contextlib
import json
import threading
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import tf

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.errors import StateError
from h5video_data.samplers import ShuffleSampler, sample_seeds
from h5video_data.testing import sample_values, write_video_file

SHAPE = (4, 1, 4, 4)


@pytest.fixture
def path(tmp_path):
    return write_video_file(tmp_path / "a.h5", num_samples=50, sample_shape=SHAPE)


def epoch(loader):
    return [index for _, indices, _ in loader.batches() for index in indices.tolist()]


def over_json(state):
    return json.loads(json.dumps(state))


KINDS = {
    "exact": {},
    "blocks": {"shuffle": "blocks"},
    "in order": {"shuffle": False},
    "drop": {"drop_remainder": True},
    "split": {"validation_split": 0.3, "subset": "training"},
    "clip": {"clip": Clip(2)},
    "chosen": {"indices": np.arange(47)[::-1]},
    "chosen in order": {"indices": [40, 3, *range(20, 35)], "shuffle": False},
    "balanced": {"shuffle": "balanced"},
    "sampler": {"shuffle": h5v.samplers.WeightedSampler(np.ones(50), num_samples=70, seed=0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("chunks", [None, (4, 2, 1, 4, 4)], ids=["rows", "slabs"])
def test_the_rest_of_the_epoch_and_those_after_it(tmp_path, options, chunks):
    kind = {} if chunks is None else {"chunks": chunks, "compression": "gzip"}
    path = write_video_file(tmp_path / "a.h5", num_samples=50, sample_shape=SHAPE, **kind)

    def make():
        return VideoLoader(path, batch_size=8, seed=1, **options)

    reference = make()
    epochs = [[(i.tolist(), x.copy()) for _, i, (x, _) in reference.batches()] for _ in range(4)]
    num_steps = len(epochs[0])
    for step in range(num_steps + 1):
        with make() as loader:
            loader.load_state_dict(over_json(reference.state_dict(epoch=1, step=step)))
            expected = epochs[1][step:] or epochs[2]
            following = epochs[2] if epochs[1][step:] else epochs[3]
            for batches in (expected, following):
                found = list(loader.batches())
                for (_, indices, (x, _)), (wanted, clips) in zip(found, batches, strict=True):
                    assert indices.tolist() == wanted
                    np.testing.assert_array_equal(x, clips)


@pytest.mark.parametrize("map_fn", [None, lambda x, y, *, seeds: (x, y, seeds)])
@pytest.mark.parametrize("memory", [0, 30_000], ids=["alone", "in groups"])
def test_a_dataset_goes_on_too(path, map_fn, memory):
    def make():
        return VideoLoader(path, batch_size=4, seed=1, map_fn=map_fn, read_ahead_bytes=memory)

    def batches(dataset):
        return [tf.nest.map_structure(lambda t: t.numpy().tolist(), element) for element in dataset]

    reference = make()
    assert (reference._feed.memory.batches_per_bundle > 1) == (memory > 0)
    dataset = reference.dataset()
    epochs = [batches(dataset) for _ in range(4)]
    for step in (0, 1, 3, 6, 11, 12, 13):
        loader = make()
        dataset = loader.dataset()
        loader.load_state_dict(over_json(reference.state_dict(epoch=1, step=step)))
        assert len(dataset) == 13
        first = epochs[1][step:] or epochs[2]
        second = epochs[2] if epochs[1][step:] else epochs[3]
        assert batches(dataset) == first
        assert batches(dataset) == second
        assert len(dataset) == 13
        loader.load_state_dict(reference.state_dict(epoch=1, step=step))
        assert batches(dataset.repeat(2)) == first + second


def test_abandoned_after_it_went_on(path):
    loader = VideoLoader(path, batch_size=4, seed=1)
    epochs = [epoch(loader) for _ in range(4)]
    dataset = loader.dataset()
    for taken in (1, 2, 3):
        loader.load_state_dict(loader.state_dict(epoch=1, step=10))
        assert len(list(dataset.take(taken))) == taken
        loader.set_epoch(2)
        assert len(list(dataset)) == 13
    loader.load_state_dict(loader.state_dict(epoch=1, step=10))
    loader.set_epoch(1)
    assert epoch(loader) == epochs[1]
    assert epoch(loader) == epochs[2]


def leave_the_loop(dataset, at_most):
    iterator = iter(dataset)
    for _ in range(at_most):
        next(iterator)
    return [iterator]  # which lives on


def drop_the_iterator(dataset, at_most):
    leave_the_loop(dataset, at_most)
    return []


def take_some(dataset, at_most):
    assert len(list(dataset.take(at_most))) == at_most
    return []


def fail_in_the_loop(dataset, at_most):
    with contextlib.suppress(KeyError):
        for number, _ in enumerate(dataset, 1):
            if number == at_most:
                raise KeyError
    return []


def ask_once_more(dataset, _):
    iterator = iter(dataset)
    list(iterator)
    with contextlib.suppress(StopIteration):
        next(iterator)
    return [iterator]


def ask_nothing_of_another(dataset, at_most):
    return [iter(dataset), *leave_the_loop(dataset, at_most)]


STOPS = [
    leave_the_loop,
    drop_the_iterator,
    take_some,
    fail_in_the_loop,
    ask_once_more,
    ask_nothing_of_another,
]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
@pytest.mark.parametrize("used", [0, 9, 12], ids=["whole", "rest", "last batch"])
def test_an_epoch_ends_with_its_iterator_however_it_is_stopped(path, monkeypatch, stop, used):
    """The pipeline has all the time to ask for more than there is, before and after the stop."""
    from h5video_data.tfdata import pipeline
    from h5video_data.tfdata.stream import bundled_elements

    runs, ended = [], threading.Event()

    def watched(stream, *arguments, **options):
        runs.append(stream)
        yield from bundled_elements(stream, *arguments, **options)
        ended.set()

    monkeypatch.setattr(pipeline, "bundled_elements", watched)
    reference = VideoLoader(path, batch_size=4, seed=1)
    reference.set_epoch(1)
    second = epoch(reference)
    for at_most in {1, 13 - used}:
        dataset = h5v.video_dataset_from_hdf5(path, batch_size=4, seed=1)
        runs.clear()
        ended.clear()
        dataset.loader.load_state_dict(reference.state_dict(epoch=0, step=used))
        alive = stop(dataset, at_most)
        ended.wait(0.2)
        time.sleep(0.05)
        assert len(runs) == 1
        if at_most == 1:
            dataset.loader.set_epoch(1)  # says what comes next in any case
        assert epoch(dataset.loader) == second
        del alive


def test_iterators_at_once_have_the_epochs_in_the_order_of_their_first_elements(path):
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=50, seed=1, y=None)
    epochs = [ShuffleSampler(50, seed=1).epoch(number) for number in range(4)]
    frames = sample_values(np.arange(50), SHAPE)
    one, other, third = iter(dataset), iter(dataset), iter(dataset)
    for iterator, number in ((other, 0), (third, 1)):
        np.testing.assert_array_equal(next(iterator), frames[epochs[number]])
    dataset.loader.set_epoch(3)
    np.testing.assert_array_equal(next(one), frames[epochs[3]])
    for iterator in (one, other, third):
        assert next(iterator, None) is None


def test_an_iterator_that_failed_does_not_go_on_with_the_next_epoch(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=12, chunks=(1, *SHAPE), sample_shape=SHAPE, compression=1
    )
    with h5py.File(path) as file:
        chunk = file["X"].id.get_chunk_info_by_coord((5, 0, 0, 0, 0))
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=4, shuffle=False)
    iterator, found, errors = iter(dataset), [], 0
    for _ in range(12):
        try:
            found.append(next(iterator))
        except StopIteration:
            break
        except tf.errors.OpError:
            errors += 1
    assert (len(found), errors) == (1, 1)


@pytest.mark.parametrize("memory", [0, 30_000], ids=["alone", "in groups"])
def test_seeds_count_the_comings_of_a_sample_from_the_beginning_of_the_epoch(tmp_path, memory):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=50, chunks=(1, *SHAPE), sample_shape=SHAPE, compression=1
    )
    with h5py.File(path) as file:
        chunk = file["X"].id.get_chunk_info_by_coord((17, 0, 0, 0, 0))
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    weights = np.ones(50)
    weights[[3, 17]] = 20
    sampler = h5v.samplers.WeightedSampler(weights, num_samples=96, seed=0)
    order = sampler.epoch(1).tolist()
    earlier = np.array([order[:place].count(number) for place, number in enumerate(order)])
    seeds = sample_seeds(1, 1, np.array(order), earlier)
    assert len(np.unique(seeds, axis=0)) == 96

    def found(context=None, step=0):
        """Of each element, the seeds of its samples."""
        dataset = h5v.video_dataset_from_hdf5(
            path,
            y=None,
            batch_size=4,
            seed=1,
            shuffle=sampler,
            map_fn=lambda x, *, seeds: (x, seeds),
            on_error="skip",
            read_ahead_bytes=memory,
            input_context=context,
        )
        assert (dataset.loader._feed.memory.batches_per_bundle > 1) == (memory > 0)
        dataset.loader.load_state_dict(dataset.loader.state_dict(epoch=1, step=step))
        return [seeds.numpy() for _, seeds in dataset]

    whole = seeds[np.array(order) != 17]
    assert 40 < len(whole) < 90
    np.testing.assert_array_equal(np.concatenate(found()), whole)
    rest = seeds[28:][np.array(order[28:]) != 17]
    np.testing.assert_array_equal(np.concatenate(found(step=7)), rest)
    workers = [found(tf.distribute.InputContext(2, worker, 2), step=7) for worker in range(2)]
    together = {tuple(pair) for part in workers for element in part for pair in element.tolist()}
    assert together == {tuple(pair) for pair in rest.tolist()}


def test_with_another_batch_size_and_other_workers(path):
    reference = VideoLoader(path, batch_size=12, seed=1)
    state = over_json(reference.state_dict(epoch=3, step=2))
    reference.set_epoch(3)
    rest = epoch(reference)[24:]
    for batch_size in (1, 5, 8, 50):
        loader = VideoLoader(path, batch_size=batch_size, seed=1)
        loader.load_state_dict(state)
        assert epoch(loader) == rest
    parts = []
    for worker in range(2):
        context = tf.distribute.InputContext(2, worker, 2)
        loader = VideoLoader(path, batch_size=6, seed=1, input_context=context)
        loader.load_state_dict(state)
        parts.append([indices.tolist() for _, indices, _ in loader.batches()])
    assert [i for pair in zip(*parts, strict=True) for part in pair for i in part] == rest
    saved_by_two = VideoLoader(
        path, batch_size=6, seed=1, input_context=tf.distribute.InputContext(2, 1, 2)
    ).state_dict(epoch=3, step=4)
    assert saved_by_two == state


def test_steps_of_single_samples_are_samples(path):
    reference = VideoLoader(path, batch_size=None, seed=1)
    rest = epoch(VideoLoader(path, seed=1))[7:]
    state = reference.state_dict(epoch=0, step=7)
    loader = VideoLoader(path, batch_size=None, seed=1)
    loader.load_state_dict(state)
    assert epoch(loader) == rest
    loader.load_state_dict(state)
    with pytest.raises(tf.errors.OpError, match=r"StateError.*only go on at the beginning"):
        list(loader.dataset())


def test_what_was_read_ahead_is_not_used_after_a_state_was_loaded(path):
    loader = VideoLoader(path, batch_size=8, seed=1)
    epochs = [epoch(loader) for _ in range(2)]  # epoch 2 has begun by now
    loader.load_state_dict(loader.state_dict(epoch=2, step=3))
    other = VideoLoader(path, batch_size=8, seed=1)
    other.set_epoch(2)
    whole = epoch(other)
    assert epoch(loader) == whole[24:]
    loader.load_state_dict(loader.state_dict(epoch=0, step=0))
    assert [epoch(loader), epoch(loader)] == epochs


def test_a_seed_that_was_drawn_comes_with_the_state(path):
    one = VideoLoader(path, batch_size=8)
    other = VideoLoader(path, batch_size=8)
    assert one.seed != other.seed
    rest = epoch(one)[16:]
    epoch(other)
    other.load_state_dict(over_json(one.state_dict(epoch=0, step=2)))
    assert epoch(other) == rest
    assert epoch(other) == epoch(one)


@pytest.mark.parametrize(
    "state", [{}, None, {"version": 1}, {"version": "x"}, "abc", {"epoch": 1, "step": 2}]
)
def test_what_is_no_state(path, state):
    with pytest.raises(StateError, match="must be a dict that `state_dict` returned"):
        VideoLoader(path).load_state_dict(state)


def test_a_state_of_another_version(path):
    loader = VideoLoader(path, seed=0)
    state = loader.state_dict(epoch=0, step=1)
    with pytest.raises(StateError, match="of version 1"):
        loader.load_state_dict({**state, "version": 2})
    with pytest.raises(StateError, match="of 0 or more"):
        loader.load_state_dict({**state, "samples": -1})


def test_a_state_is_small(path):
    assert len(json.dumps(VideoLoader(path, seed=0).state_dict(epoch=5, step=1))) < 600


def test_what_another_iterator_read_ahead_is_not_used_after_a_state_was_loaded(path):
    state = VideoLoader(path, batch_size=4, seed=5).state_dict(epoch=1, step=0)
    loader = VideoLoader(path, batch_size=4, num_threads=2)  # with a seed of its own
    running = loader.batches()
    for _ in range(len(loader) - 1):  # the first batches of epoch 1 are being read
        next(running)
    loader.load_state_dict(state)
    list(running)
    found = np.concatenate([indices for _, indices, _ in loader.batches()])
    np.testing.assert_array_equal(found, ShuffleSampler(len(found), seed=5).epoch(1))


def test_other_chosen_samples_are_another_split(path):
    state = VideoLoader(path, seed=0, indices=[4, 5, 6]).state_dict(epoch=0, step=0)
    VideoLoader(path, indices=(4, 5, 6)).load_state_dict(state)
    for indices in ([4, 5, 7], [6, 5, 4], None):
        with pytest.raises(StateError, match=r"which samples are used \(indices, validation_split"):
            VideoLoader(path, seed=0, indices=indices).load_state_dict(state)


def test_a_balanced_order_takes_the_seed_of_the_state(path):
    first, second = (VideoLoader(path, shuffle="balanced", batch_size=8) for _ in range(2))
    expected = epoch(first)
    assert len(set(expected)) < 50
    second.load_state_dict(over_json(first.state_dict(epoch=0, step=2)))
    assert epoch(second) == expected[16:]
    assert epoch(second) == epoch(first)


@pytest.mark.parametrize("workers", [None, 2])
def test_larger_batches_of_which_none_is_left(tmp_path, workers):
    path = write_video_file(tmp_path / "a.h5", num_samples=32, sample_shape=SHAPE)

    def make(batch_size, worker=0):
        context = workers and SimpleNamespace(
            num_replicas_in_sync=2, num_input_pipelines=2, input_pipeline_id=worker
        )
        return VideoLoader(
            path, batch_size=batch_size, seed=1, drop_remainder=True, input_context=context
        )

    state = make(8).state_at(epoch=0, samples=24)
    assert (state["epoch"], state["samples"]) == (0, 24)
    for worker in range(workers or 1):
        loader, whole = make(12, worker), make(12, worker)
        whole.set_epoch(1)
        expected = [(epoch, i.tolist()) for epoch, i, _ in whole.batches()]
        loader.load_state_dict(state)
        assert [(epoch, i.tolist()) for epoch, i, _ in loader.batches()] == expected
        assert {epoch for epoch, _ in expected} == {1}
