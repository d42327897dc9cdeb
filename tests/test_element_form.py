"""The numbers of its samples at the end of an element, in every way that elements are made."""

import h5py
import numpy as np
import pytest
from conftest import Order, tf

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.testing import labels, sample_values, write_video_file

NUM = 50
SHAPE = (4, 1, 4, 4)


@pytest.fixture
def path(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=NUM, sample_shape=SHAPE)
    with h5py.File(path, "r+") as file:
        file["w"] = np.arange(NUM, dtype="f4")
    return path


def whole(batches):
    """The values of an epoch, part by part."""
    return [
        np.concatenate([np.atleast_1d(part) for part in parts])
        for parts in zip(*batches, strict=True)
    ]


OPTIONS = {
    "plain": {},
    "a small last batch": {"batch_size": 8},
    "batches of one": {"batch_size": 1, "read_ahead_bytes": 1 << 20},
    "no read-ahead": {"read_ahead_bytes": 0},
    "in the order given": {"shuffle": False, "indices": [40, 3, 7, 20]},
    "repeats": {"shuffle": Order([3, 3, 1, 3])},
    "balanced": {"shuffle": "balanced"},
    "one side": {"validation_split": 0.3, "subset": "validation"},
    "a drop": {"drop_remainder": True, "batch_size": 7},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_they_are_those_of_the_batch(path, options):
    options = {"batch_size": 3, "seed": 2, **options}
    loader = VideoLoader(path, return_indices=True, **options)
    dataset = VideoLoader(path, return_indices=True, **options).dataset()
    plain = VideoLoader(path, **options)
    for _ in range(2):
        expected = [indices for _, indices, _ in plain.batches()]
        for source in (loader, dataset):
            elements = [tuple(map(np.asarray, element)) for element in source]
            assert [idx.tolist() for *_, idx in elements] == [item.tolist() for item in expected]
            for x, y, idx in elements:
                assert idx.dtype == np.int64
                assert source is dataset or idx.base is None  # keeps no epoch's order
                np.testing.assert_array_equal(x, sample_values(idx, SHAPE))
                np.testing.assert_array_equal(y, labels(idx, 4))


def test_single_samples(path):
    loader = VideoLoader(path, return_indices=True, batch_size=None, seed=0)
    for source in (loader, loader.dataset()):
        found = []
        for x, _, idx in source:
            np.testing.assert_array_equal(x, sample_values([idx], SHAPE)[0])
            found.append(int(idx))
        assert sorted(found) == list(range(NUM))
    assert loader.dataset().element_spec[2] == tf.TensorSpec((), tf.int64)
    assert all(np.shape(idx) == () and idx.dtype == np.int64 for *_, idx in loader)


def test_they_come_last(path):
    def first(**options):
        element = next(iter(VideoLoader(path, shuffle=False, return_indices=True, **options)))
        return element[:-1], element[-1].tolist()

    numbers = list(range(32))
    for options, parts in (
        ({"y": None}, 1),
        ({"y": "w"}, 2),
        ({"sample_weight": "w"}, 3),
        ({"x": {"a": "X", "b": "w"}, "y": None}, 1),
        ({"y": {"a": "Y", "b": "w"}}, 2),
    ):
        others, found = first(**options)
        assert (len(others), found) == (parts, numbers)
    (x,), _ = first(x={"a": "X", "b": "w"}, y=None)
    assert x.keys() == {"a", "b"}


def test_map_functions_may_move_or_drop_them(path):
    def move(x, y, idx, *, seeds):
        return {"x": x, "idx": idx, "seeds": seeds}, y

    def drop(x, y, idx):
        return x, y + tf.cast(idx, y.dtype)[:, tf.newaxis]

    options = {"shuffle": True, "seed": 0, "batch_size": 4, "return_indices": True}
    seen = set()
    for x, y in h5v.video_dataset_from_hdf5(path, map_fn=move, **options):
        np.testing.assert_array_equal(x["x"], sample_values(x["idx"].numpy(), SHAPE))
        np.testing.assert_array_equal(y, labels(x["idx"].numpy(), 4))
        assert x["seeds"].shape == (len(y), 2)
        seen |= set(x["idx"].numpy().tolist())
    assert seen == set(range(NUM))
    dataset = h5v.video_dataset_from_hdf5(path, map_fn=[drop, lambda x, y: (x, y)], **options)
    assert len(dataset.element_spec) == 2
    # In `predict`, a third part counts as weights, of which it takes none.
    mapped = h5v.video_dataset_from_hdf5(path, y=None, **options).map(
        lambda x, idx: {"x": x, "i": idx}
    )
    assert next(iter(mapped)).keys() == {"x", "i"}


@pytest.mark.parametrize("shuffle", [True, "balanced"])
def test_workers_get_those_of_their_parts(path, shuffle):
    order = VideoLoader(path, seed=1, batch_size=50, shuffle=shuffle).batch_indices(epoch=0, step=0)
    for batch_size, replicas in ((8, 4), (48, 4)):  # the second: a rest of 2 for 4 replicas
        found = []
        for worker in range(2):
            loader = VideoLoader(
                path,
                seed=1,
                shuffle=shuffle,
                batch_size=batch_size,
                return_indices=True,
                input_context=tf.distribute.InputContext(2, worker, replicas),
            )
            elements = [(x.numpy(), idx.numpy()) for x, _, idx in loader.dataset()]
            for x, idx in elements:
                np.testing.assert_array_equal(x, sample_values(idx, SHAPE))
            found.append([idx.tolist() for _, idx in elements])
        step = [*found[0][:2], *found[1][:2]]
        assert [i for part in step for i in part] == order[:batch_size].tolist()
        assert {i for part in found for idx in part for i in idx} == set(order.tolist())


@pytest.mark.parametrize("batch_size", [4, None])
def test_the_rest_of_an_epoch(path, batch_size):
    options = {"seed": 1, "batch_size": batch_size, "return_indices": True, "clip": Clip(2)}
    first, second = VideoLoader(path, **options), VideoLoader(path, **options)
    second.load_state_dict(first.state_dict(epoch=0, step=3))
    *_, expected = whole(first)
    *_, found = whole(second)
    assert found.tolist() == expected[3 * (batch_size or 1) :].tolist()
    second.load_state_dict(first.state_dict(epoch=0, step=3))
    if batch_size:
        *_, found = whole(second.dataset().as_numpy_iterator())
        assert found.tolist() == expected[12:].tolist()


def test_samples_that_are_skipped_have_no_number(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5", num_samples=20, chunks=(1, 4, 3, 8, 8), compression="gzip"
    )
    with h5py.File(path, "r+") as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), b"rubbish", 0)
    for batch_size in (1, 6):
        loader = VideoLoader(
            path, seed=0, batch_size=batch_size, on_error="skip", return_indices=True
        )
        for source in (loader, loader.dataset()):
            found = []
            for x, _, idx in source:
                np.testing.assert_array_equal(x, sample_values(np.asarray(idx)))
                found += np.asarray(idx).tolist()
            assert sorted(found) == sorted({*range(20)} - {7})
