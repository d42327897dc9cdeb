"""Errors of arguments and samplers that make no sense."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from errors_helpers import edit, raises

import h5video_data
from h5video_data import testing
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    SamplerError,
)
from h5video_data.loader import VideoLoader
from h5video_data.samplers import WeightedSampler


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5")


# --------------------------------------------------------------------------- arguments

WHOLE = "must be a whole number, {} or more ... {}"
SPLIT = {"validation_split": 0.5, "subset": "training", "seed": 0}
ARGUMENTS = {
    "batch_size 0": ({"batch_size": 0}, "`batch_size` " + WHOLE.format(1, "batch_size=0")),
    "batch_size -1": ({"batch_size": -1}, "`batch_size` " + WHOLE.format(1, "batch_size=-1")),
    "batch_size True": ({"batch_size": True}, "`batch_size` " + WHOLE.format(1, "=True")),
    "batch_size 1.5": ({"batch_size": 1.5}, "`batch_size` " + WHOLE.format(1, "=1.5")),
    "batch_size '8'": ({"batch_size": "8"}, "`batch_size` " + WHOLE.format(1, "='8'")),
    "seed -1": ({"seed": -1}, "`seed` " + WHOLE.format(0, "seed=-1")),
    "seed 0.5": ({"seed": 0.5}, "`seed` " + WHOLE.format(0, "seed=0.5")),
    "num_threads 0": ({"num_threads": 0}, "`num_threads` " + WHOLE.format(1, "=0")),
    "read_ahead_bytes -1": ({"read_ahead_bytes": -1}, "`read_ahead_bytes` " + WHOLE.format(0, "")),
    "shuffle 'blocks'": ({"shuffle": "all"}, "`shuffle` must be True ... shuffle='all'"),
    "shuffle None": ({"shuffle": None}, "`shuffle` must be True ... shuffle=None"),
    "split without subset": (
        {"validation_split": 0.5, "seed": 0},
        "given together ... subset=None",
    ),
    "subset without split": ({"subset": "training", "seed": 0}, "given together ... split=None"),
    "bad subset": ({**SPLIT, "subset": "train"}, "`subset` must be ... 'train'"),
    "subset both": ({**SPLIT, "subset": "both"}, "one side of a split ... both"),
    "no seed": ({**SPLIT, "seed": None}, "needs a `seed` ... seed=None"),
    "nothing for training": ({**SPLIT, "split_by": np.zeros(20)}, "two different ids or more"),
    "nothing for validation": ({**SPLIT, "validation_split": 0.01}, "validation side .* empty"),
    "too few ids": ({**SPLIT, "split_by": [1, 2, 3]}, r"ids for each of the 20 .*\(3,\)"),
    "ids of two dimensions": ({**SPLIT, "split_by": np.ones((20, 2))}, r"ids .*\(20, 2\)"),
    "ids that have no order": (
        {**SPLIT, "split_by": [1, None] * 10},
        "ids must be all",
    ),
    "ragged ids": ({**SPLIT, "split_by": [[1], [1, 2]] * 10}, "ids must be arrays"),
    "no labels to split by": ({**SPLIT, "split_by": "label", "y": None}, "label ... y=None"),
    "a dict of labels": ({**SPLIT, "split_by": "label", "y": {"a": "Y"}}, "label ... a dict"),
    "videos as labels": (
        {**SPLIT, "split_by": "label", "y": "X"},
        "labels of shape ... (4, 3, 8, 8)",
    ),
    "no batch": ({"batch_size": 21, "drop_remainder": True}, "no batch at all ... batch_size=21"),
    "weight without labels": ({"y": None, "sample_weight": "Y"}, "needs labels"),
    "x None": ({"x": None}, "`x` ... "),
    "x empty": ({"x": ""}, "`x` and `y` ... ''"),
    "x an empty dict": ({"x": {}}, "`x` and `y` ... {}"),
    "x a list": ({"x": ["X"]}, r"`x` and `y` ... \['X'\]"),
    "x a dict of numbers": ({"x": {"a": 5}}, "`x` and `y` ... 5"),
}


@pytest.mark.parametrize(("options", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_make_no_sense(path, options, message):
    with raises(ArgumentError, message, ValueError):
        VideoLoader(path, **options)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, True, float("nan")])
@pytest.mark.parametrize("call", ["loader", "split_samples"])
def test_validation_splits_that_make_no_sense(path, call, fraction):
    with raises(ArgumentError, f"`validation_split` must be between 0 and 1 ... {fraction}"):
        if call == "loader":
            VideoLoader(path, validation_split=fraction, subset="training", seed=0)
        else:
            h5video_data.split_samples(path, fraction)


def test_files_that_are_one_sample_each(tmp_path):
    path = tmp_path / "one.h5"
    with h5py.File(path, "w") as file:
        file["priors"] = np.zeros((9, 8, 8, 1))
        file["forecasts"] = np.zeros((4, 8, 8, 1))
    with raises(
        FileFormatError, r"\(9, 8, 8, 1\) ... \(4, 8, 8, 1\) ... If each file is one sample"
    ):
        VideoLoader(path, x="priors", y="forecasts")


def test_a_dataset_of_groups_that_is_too_short(path):
    with edit(path) as file:
        file["ids"] = np.zeros(19)
    with raises(FileFormatError, r"'ids' must hold a value for each of the 20 .*\(19,\)"):
        VideoLoader(path, **SPLIT, split_by="ids")
    with raises(DatasetNotFoundError, "has no dataset 'id' ... Did you mean 'ids'"):
        VideoLoader(path, **SPLIT, split_by="id")


# --------------------------------------------------------------------------- samplers


class Given:
    """A sampler that returns (or raises) one thing after another, the last one for ever."""

    def __init__(self, *results):
        self.results = results

    def epoch(self, epoch):
        result = self.results[min(epoch, len(self.results) - 1)]
        if isinstance(result, Exception):
            raise result
        return result


SAMPLERS = {
    "floats": ([0.0, 1.0], "whole numbers ... float64"),
    "two dimensions": ([[0, 1]], r"whole numbers ... \(1, 2\)"),
    "ragged": ([[0], [1, 2]], "whole numbers"),
    "truth values": ([True, False], "whole numbers ... bool"),
    "nothing": (np.zeros(0, int), "at least one position ... Received: 0"),
    "None": (None, "whole numbers ... object"),
    "a scalar": (3, r"whole numbers ... \(\)"),
    "too large": ([0, 20], "from 0 to 19 ... to 20"),
    "negative": ([0, -1], "from 0 to 19 ... from -1"),
    "huge": (np.array([2**63], np.uint64), "from 0 to 19 ... 9223372036854775808"),
}


@pytest.mark.parametrize(("result", "message"), SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("epoch", [0, 1])
def test_samplers_that_break_their_promise(path, new_threads, result, message, epoch):
    if epoch and np.size(np.asarray(result, object)) != 2:
        message += "|must return 2 positions"
    with raises(SamplerError, rf"Given.epoch\({epoch}\) .*({message})", ValueError):
        loader = VideoLoader(path, shuffle=Given(*[[0, 1]] * epoch, result))
        assert [len(x) for x, _ in loader] == [2]
        list(loader)
    assert epoch or not new_threads()


def test_a_sampler_of_another_length_in_its_second_epoch(path):
    loader = VideoLoader(path, shuffle=Given([1, 2, 3], [1, 2]))
    list(loader)
    with raises(SamplerError, r"Given.epoch\(1\) must return 3 positions, .* Received: 2"):
        list(loader)


def test_what_a_sampler_raises_is_passed_on(path):
    loader = VideoLoader(path, shuffle=Given([1], RuntimeError("mine"), [1]))
    list(loader)
    with pytest.raises(RuntimeError, match="mine"):
        list(loader)
    assert len(list(loader)) == 1


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [[1, 2]], [float("nan")]], ids=str)
def test_weights_that_make_no_sense(weights):
    with raises(ArgumentError, "`weights`"):
        WeightedSampler(weights, seed=0)
