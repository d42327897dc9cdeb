"""Arguments that make no sense, and are seen before anything is read."""

import h5py
import numpy as np
import pytest
from conftest import tf

from h5video_data import VideoLoader, video_dataset_from_hdf5
from h5video_data.errors import ArgumentError
from h5video_data.samplers import ShuffleSampler
from h5video_data.testing import write_video_file

CASES = {
    "map_fn: a string": ({"map_fn": "abc"}, "Received: 'a'"),
    "map_fn: a number": ({"map_fn": 5}, "Received: 5"),
    "map_fn: None among them": ({"map_fn": [len, None]}, "Received: None"),
    "shuffle: a class": ({"shuffle": ShuffleSampler}, "must be True"),
    "shuffle: a name": ({"shuffle": "sometimes"}, "Received: shuffle='sometimes'"),
    "split_by alone": ({"split_by": "label"}, "needs a `validation_split`"),
    "validation_split: a string": (
        {"validation_split": "0.3", "subset": "training", "seed": 0},
        "Received: '0.3'",
    ),
    "subset: both": ({"validation_split": 0.3, "subset": "both", "seed": 0}, "one side"),
    "x: None": ({"x": None}, "Received: x=None"),
    "x: a dict of numbers": ({"x": {"a": 3}}, "Received: {'a': 3}"),
    "weights without labels": ({"y": None, "sample_weight": "Y"}, "needs labels"),
    "x: an array": ({"x": np.zeros((20, 5))}, "Write values from elsewhere into the file"),
    "y: an array": ({"y": np.arange(20)}, r"y=None does without labels. Received: array\("),
    "y: an array in a dict": ({"y": {"a": np.arange(20)}}, "dict of names"),
    "sample_weight: an array": ({"sample_weight": np.ones(20)}, "and `sample_weight` a name"),
    "shuffle: an array": ({"shuffle": np.arange(20)}, r"must be True.* Received: shuffle=array\("),
    "on_error: an array": ({"on_error": np.array(["raise", "skip"])}, '"raise" or "skip"'),
    "subset: an array": (
        {"subset": np.array(["training", "both"]), "validation_split": 0.3, "seed": 0},
        r"`subset` must be .* Received: subset=array\(",
    ),
    "shuffle: indices": ({"shuffle": [3, 1, 2]}, "To choose samples, use `indices`. Received"),
    "num_parallel_calls: 0": ({"num_parallel_calls": 0}, "Received: num_parallel_calls=0"),
    "num_parallel_calls: AUTOTUNE": ({"num_parallel_calls": -1}, "a whole number, 1 or more"),
    "stratify_by alone": ({"stratify_by": "Y"}, "`stratify_by` needs a `validation_split`"),
    "indices: beyond the set": ({"indices": [0, 20]}, "must be from 0 to 19"),
    "indices: a mask of another set": ({"indices": [True] * 21}, "each of the 20 samples"),
    "indices twice": ({"indices": [1, 1]}, "each sample once"),
    "return_indices: indices": ({"return_indices": [1, 2]}, "`indices` chooses samples. Received"),
    "return_indices: a name": ({"return_indices": "id"}, "Received: return_indices='id'"),
    "map_fn: a dict without subset": ({"map_fn": {"training": len}}, "needs a `subset`"),
    "map_fn: a dict of other sides": (
        {"map_fn": {"train": len}, "validation_split": 0.3, "subset": "training", "seed": 0},
        '"training" and "validation". Received: \'train\'',
    ),
    "map_fn: a dict with a string": (
        {"map_fn": {"validation": "a"}, "validation_split": 0.3, "subset": "training", "seed": 0},
        "Received: 'a'",
    ),
    "balanced without labels": ({"shuffle": "balanced", "y": None}, "Received: y=None"),
    "balanced by a dict": ({"shuffle": "balanced", "y": {"a": "Y"}}, "a dict of datasets"),
    "balanced split without a seed": (
        {"shuffle": "balanced", "validation_split": 0.3, "subset": "training"},
        "needs a `seed`.* shuffle='balanced', seed=None",
    ),
    "num_threads: 0": ({"num_threads": 0}, "Received: num_threads=0"),
}


@pytest.mark.parametrize(("options", "message"), CASES.values(), ids=CASES)
def test_arguments(tmp_path, options, message):
    path = write_video_file(tmp_path / "a.h5")
    with pytest.raises(ArgumentError, match=message):
        VideoLoader(path, **options)


@pytest.mark.parametrize("path", [None, 3, b"a.h5", []], ids=str)
def test_paths(path):
    with pytest.raises(ArgumentError, match="Received: "):
        VideoLoader(path)


def test_an_open_file_is_no_path(tmp_path):
    with (
        h5py.File(write_video_file(tmp_path / "a.h5")) as file,
        pytest.raises(ArgumentError, match="a path or a list of paths"),
    ):
        VideoLoader(file)


def test_a_batch_larger_than_the_set_takes_no_more_memory(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=5)
    with VideoLoader(path, batch_size=10**12, seed=0) as loader:
        ((x, _),) = loader
    assert x.shape == (5, 4, 3, 8, 8)
    assert x.base.nbytes == 5 * np.prod(x.shape[1:])


def test_arrays_in_place_of_names_and_choices(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    for name in ("x", "y", "sample_weight", "shuffle", "subset", "on_error"):
        with pytest.raises(ArgumentError, match="Received"):
            video_dataset_from_hdf5(path, **{name: tf.ones(20)})
