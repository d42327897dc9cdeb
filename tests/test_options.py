"""The arguments are written down once, and every place that shows them agrees."""

import inspect
import pydoc
import re
from dataclasses import fields
from typing import ForwardRef

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.opening import open_video_set
from h5video_data.options import LoaderArguments, LoaderOptions
from h5video_data.testing import write_video_file

OPTIONS = {field.name: field for field in fields(LoaderOptions)}
BOTH = [h5v.VideoLoader, h5v.video_dataset_from_hdf5]


@pytest.fixture
def path(tmp_path):
    return write_video_file(tmp_path / "a.h5", num_samples=10)


@pytest.mark.parametrize("function", BOTH, ids=lambda function: function.__name__)
def test_the_signature_has_all_arguments_with_their_defaults(function):
    path, *others = inspect.signature(function).parameters.values()
    assert (path.name, path.default) == ("path", inspect.Parameter.empty)
    assert {item.name: item.default for item in others} == {
        name: field.default for name, field in OPTIONS.items()
    }
    assert {item.kind for item in others} == {inspect.Parameter.KEYWORD_ONLY}
    # From Python 3.13 on, an argument a line, behind a bar in those of classes.
    shown = re.sub(r"[\s|]+", " ", pydoc.render_doc(function, renderer=pydoc.plaintext))
    assert "batch_size: 'int None' = 32, drop_remainder: 'bool' = False" in shown


def test_type_checkers_see_the_same_arguments():
    def text(annotation):
        return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation

    assert {name: text(item) for name, item in LoaderArguments.__annotations__.items()} == {
        name: field.type for name, field in OPTIONS.items() if name != "subset"
    }


def test_the_docstring_has_each_argument_once():
    arguments = inspect.getdoc(h5v.video_dataset_from_hdf5).split("Args:")[1].split("Returns:")[0]
    assert re.findall(r"^    (\w+): ", arguments, re.M) == ["path", *OPTIONS]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda path: h5v.video_dataset_from_hdf5(path, batchsize=3),
            r"video_dataset_from_hdf5() got an unexpected keyword argument 'batchsize'",
        ),
        (
            lambda path: h5v.VideoLoader(path, batchsize=3),
            r"VideoLoader.__init__() got an unexpected keyword argument 'batchsize'",
        ),
        (
            lambda path: h5v.video_dataset_from_hdf5(path, "X"),
            r"video_dataset_from_hdf5() takes 1 positional argument but 2 were given",
        ),
        (
            lambda path: h5v.VideoLoader(x=path),
            r"VideoLoader.__init__() missing 1 required positional argument: 'path'",
        ),
    ],
    ids=["keyword of the function", "keyword of the class", "position", "no path"],
)
def test_a_wrong_call_is_a_type_error_as_pythons_own(path, call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call(path)


@pytest.mark.parametrize("function", BOTH, ids=lambda function: function.__name__)
def test_an_open_set_is_no_path(path, function):
    """Or its `x`, `y` and `clip` would be ignored."""
    with pytest.raises(ArgumentError, match=r"`path` must be a path.*Received: path=VideoSet\("):
        function(open_video_set(path))


def test_functions_of_an_iterator_are_on_both_sides(path):
    sides = h5v.video_dataset_from_hdf5(
        path,
        map_fn=iter([lambda x, y: (x, -y)]),
        validation_split=0.5,
        subset="both",
        seed=0,
    )
    for side in sides:
        assert all(y.numpy().min() == -1 for _, y in side)


@pytest.mark.parametrize("shuffle", ["exact", True])
def test_exact_is_another_word_for_true(path, shuffle):
    loader = h5v.VideoLoader(path, shuffle=shuffle, seed=3)
    expected = np.random.default_rng([3, 0]).permutation(10)
    np.testing.assert_array_equal(loader.batch_indices(epoch=0, step=0), expected)


# --------------------------------------------------------------------------- map functions by side


def negated(x, y):
    return x, -y


def doubled(x, y):
    return x, 2 * y


@pytest.mark.parametrize(
    ("map_fn", "training", "validation"),
    [
        ({"training": negated}, -1, 1),
        ({"validation": doubled}, 1, 2),
        ({"training": [negated, doubled], "validation": doubled}, -2, 2),
        ({"training": iter([negated]), "validation": None}, -1, 1),
        ({}, 1, 1),
        (doubled, 2, 2),
    ],
    ids=["training", "validation", "both", "an iterator and None", "none", "no dict"],
)
def test_functions_by_side(path, map_fn, training, validation):
    options = {"validation_split": 0.5, "seed": 0}

    def largest(dataset):
        (found,) = {float(y[abs(y).argmax()]) for _, labels in dataset for y in labels.numpy()}
        return found

    sides = h5v.video_dataset_from_hdf5(path, subset="both", map_fn=map_fn, **options)
    assert [largest(side) for side in sides] == [training, validation]


def test_functions_of_one_side_alone():
    map_fn = {"training": [negated, doubled], "validation": doubled}
    options = {"validation_split": 0.5, "seed": 0, "map_fn": map_fn}
    for side, functions in (("training", (negated, doubled)), ("validation", (doubled,))):
        assert LoaderOptions(subset=side, **options).map_fns == functions
    assert LoaderOptions(subset="validation", **{**options, "map_fn": {}}).map_fns == ()


def test_one_seed_is_drawn_for_both_sides(path):
    def sides():
        np.random.seed(4)  # noqa: NPY002
        found = h5v.video_dataset_from_hdf5(
            path, shuffle=False, validation_split=0.5, subset="both"
        )
        return [side.loader.seed for side in found], np.random.random()  # noqa: NPY002

    seeds, following = sides()
    assert seeds[0] == seeds[1]
    assert sides() == (seeds, following)
    np.random.seed(4)  # noqa: NPY002
    assert h5v.VideoLoader(path).seed == seeds[0]
    assert np.random.random() == following  # noqa: NPY002


@pytest.mark.tf
def test_keras_seeds_the_order(path):
    import keras

    orders = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        loader = h5v.video_dataset_from_hdf5(path).loader
        orders.append(loader.batch_indices(epoch=0, step=0).tolist())
    assert orders[0] == orders[1] != orders[2]


def test_a_balanced_side_beside_a_plain_one(tmp_path):
    path = write_video_file(tmp_path / "b.h5", num_samples=200)
    labels = (np.arange(200) % 10 > 0).astype(np.int64)
    with h5py.File(path, "r+") as file:
        file["class"] = labels
    train, val = h5v.video_dataset_from_hdf5(
        path, y="class", shuffle="balanced", validation_split=0.25, subset="both", seed=0
    )
    assert isinstance(train.loader._order.sampler, h5v.samplers.BalancedSampler)
    epochs = [np.concatenate([y for _, y in train]) for _ in range(6)]
    assert {len(found) for found in epochs} == {150}
    assert 0.42 < np.concatenate(epochs).mean() < 0.58
    found = np.concatenate([y for _, y in val])
    np.testing.assert_array_equal(found, labels[val.loader.sample_indices])
