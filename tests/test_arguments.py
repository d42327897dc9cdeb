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
    "x: a dict of numbers": ({"x": {"a": 3}}, r"dict of names .* Received: x\['a'\]=3"),
    "weights without labels": ({"y": None, "sample_weight": "Y"}, "needs labels"),
    "x: an array": ({"x": np.zeros((20, 5))}, "only `y` and `sample_weight` may be arrays"),
    "x: a list": ({"x": ["X", "Y"]}, r'such as x=\{"rgb": "X", .* Received: x=\[\'X\', \'Y\'\]'),
    "y: an array that is too short": (
        {"y": np.arange(19)},
        r"array of y must .* each of the 20 samples .* shape \(19,\)",
    ),
    "y: an array in a dict that is too long": (
        {"y": {"a": np.ones((21, 2))}},
        r"array of y\['a'\] must .* each of the 20 samples .* shape \(21, 2\)",
    ),
    "y: a number": ({"y": 5}, r"y=None does without labels. Received: y=5, of shape \(\)"),
    "y: a list of names": (
        {"y": ["Y", "Y"]},
        r'as names or as labels: pass y=\{"a": "A", .* np.array\(labels\) .* Received: y=\[',
    ),
    "y: rows of several lengths": ({"y": [[1], [1, 2]] * 10}, "NumPy cannot make an array of y"),
    "y: samples of no values": ({"y": np.ones((20, 0))}, r"of shape \(20, 0\)"),
    "y: a missing string": ({"y": np.array(["a", None] * 10)}, "none may be .* None for sample 1"),
    "y: a missing string of several": (
        {"y": np.array([["a", "b"], ["c", float("nan")]] * 10, object)},
        "none may be missing. Received: nan for sample 1",
    ),
    "y: masked values": ({"y": np.ma.masked_equal(np.arange(20), 3)}, "no masked values"),
    "y: dates": ({"y": np.zeros(20, "M8[s]")}, "numbers or strings. Received: .* datetime64"),
    "y: a dict in a dict": ({"y": {"a": {"b": "Y"}}}, r"Received: y\['a'\]=\{'b': 'Y'\}"),
    "sample_weight: strings": ({"sample_weight": np.array(["a"] * 20)}, "must hold numbers. Rec"),
    "sample_weight: too short": ({"sample_weight": [1.0, 2.0]}, "each of the 20 .* 2 values"),
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
    for name in ("x", "shuffle", "subset", "on_error"):
        with pytest.raises(ArgumentError, match="Received"):
            video_dataset_from_hdf5(path, **{name: tf.ones(20)})
