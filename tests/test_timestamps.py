"""When elements are asked for and given is noted, and the dataset stays what it was."""

import time

import numpy as np
import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data.testing import write_video_file
from h5video_data.tfdata.timestamps import NUM_KEPT, Timestamps


def test_waiting_and_working_alternate():
    def nap(number):
        time.sleep(0.02)
        return number

    slow = tf.data.Dataset.range(6).map(lambda n: tf.numpy_function(nap, [n], tf.int64))
    stamps = Timestamps()
    options = tf.data.Options()
    options.autotune.enabled = False  # it would add a prefetch of its own
    begin = time.time()
    for _ in stamps.follow(slow).with_options(options):
        time.sleep(0.01)
    rows = stamps.left()
    assert rows.shape == (6, 2)
    assert begin <= rows[0, 0]
    assert rows[-1, 1] <= time.time()
    edges = np.diff(rows.ravel())
    assert edges[::2].min() >= 0.02  # from asking to giving
    assert edges[1::2].min() >= 0.01  # from giving to asking again


def test_the_last_ones_are_known_in_order():
    stamps = Timestamps()
    dataset = stamps.follow(tf.data.Dataset.range(NUM_KEPT + 50))
    assert list(dataset.as_numpy_iterator()) == [*range(NUM_KEPT + 50)]
    rows = stamps.left()
    assert rows.shape == (NUM_KEPT, 2)
    assert (np.diff(rows[:, 1]) >= 0).all()
    assert len(Timestamps().left()) == 0


@pytest.mark.parametrize("batch_size", [4, None])
def test_the_dataset_is_the_same(tmp_path, batch_size):
    path = write_video_file(tmp_path / "a.h5", num_samples=22)
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=batch_size, seed=0)
    assert dataset.cardinality() == (22 if batch_size is None else 6) == len(list(dataset))
    assert len(dataset.loader._timestamps.left()) in (1, 6)
    assert len(dataset.loader._timestamps.arrived()) in (1, 6)
    nested = tf.data.Dataset.range(2).flat_map(lambda _: dataset)
    assert len(list(nested)) == 2 * len(dataset)


def test_datasets_of_one_loader_share_them(tmp_path):
    loader = h5v.VideoLoader(write_video_file(tmp_path / "a.h5", num_samples=22), batch_size=4)
    assert loader._timestamps is None
    first, second = loader.dataset(), loader.dataset()
    list(first)
    list(second)
    assert len(loader._timestamps.left()) == 12


def test_under_a_distribution_strategy(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=22)
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        dataset = h5v.video_dataset_from_hdf5(path, batch_size=4)
        assert len(list(dataset)) == 6
    assert len(dataset.loader._timestamps.left()) == 6


def test_a_dataset_made_inside_of_a_graph(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=22)

    def make(_=None):
        dataset = h5v.video_dataset_from_hdf5(path, y=None, batch_size=4)
        loaders.append(dataset.loader)
        return dataset

    loaders = []
    assert sum(1 for _ in tf.data.Dataset.range(2).flat_map(make)) == 12
    assert len(loaders[-1]._timestamps.left()) == 12

    @tf.function(autograph=False)
    def count():
        return make().reduce(0, lambda total, x: total + tf.shape(x)[0])

    assert count() == 22
