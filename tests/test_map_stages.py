"""Map functions as stages: which of them get seeds, and what they hand on."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from h5video_data.tfdata.map_stages import MapStage

SEEDS = tf.constant([[1, 2], [3, 4]], tf.int32)


def augment(x, y, *, seeds):
    return x + tf.cast(seeds[:, 0], x.dtype), y


def test_only_a_keyword_only_parameter_takes_seeds():
    assert MapStage(augment, 0, is_last=True).takes_seeds
    assert MapStage(functools.partial(augment), 0, is_last=True).takes_seeds
    assert not MapStage(lambda x, seeds=None: (x, seeds), 0, is_last=True).takes_seeds
    assert not MapStage(lambda x: x, 0, is_last=True).takes_seeds
    assert not MapStage(max, 0, is_last=True).takes_seeds  # a callable without a signature


@pytest.mark.parametrize("is_last", [True, False])
def test_seeds_go_on_to_the_next_stage(is_last):
    stage = MapStage(augment, 0, is_last=is_last)
    mapped = stage.with_seeds((tf.zeros(2), tf.ones(2)), SEEDS)
    element, seeds = (mapped, SEEDS) if is_last else mapped
    np.testing.assert_array_equal(element[0], [1, 3])
    np.testing.assert_array_equal(element[1], [1, 1])
    np.testing.assert_array_equal(seeds, SEEDS)


def test_stages_have_seeds_of_their_own():
    found = []

    def note(x, *, seeds):
        found.append(seeds.numpy())
        return x

    for number in range(3):
        MapStage(note, number, is_last=True).with_seeds(tf.zeros(2), SEEDS)
    np.testing.assert_array_equal(found[0], SEEDS)
    firsts = [seeds[:, 0].tolist() for seeds in found]
    assert len({*map(tuple, firsts)}) == 3
    assert all((seeds[:, 1] == [2, 4]).all() for seeds in found)


def test_a_list_is_a_tuple():
    stage = MapStage(lambda x, y: [y, x], 0, is_last=True)
    assert stage.with_seeds((1, 2), SEEDS) == (2, 1)


def test_the_name_says_which_function_it_is():
    assert MapStage(functools.partial(augment), 2, is_last=True).name == "map_fn_2_augment"
    assert MapStage(lambda x: x, 0, is_last=True).name == "map_fn_0__lambda_"


def test_what_the_function_raised_is_kept():
    def fails(x):
        raise KeyError(x)

    stage = MapStage(fails, 0, is_last=True)
    with pytest.raises(KeyError):
        stage.without_seeds(1)
    assert isinstance(stage.error, KeyError)
