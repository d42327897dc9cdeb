"""Errors of datasets that are not there, or do not fit together: which, and what to do."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from errors_helpers import edit, raises, write

import h5video_data
from h5video_data import testing
from h5video_data.errors import (
    DatasetNotFoundError,
    FileFormatError,
    UnsupportedDtypeError,
)
from h5video_data.loader import VideoLoader


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5")


# --------------------------------------------------------------------------- datasets


def test_no_such_dataset_lists_names_and_suggests_the_nearest(path):
    with edit(path) as file:
        file["clips/left"] = np.ones((20, 3))
    with raises(DatasetNotFoundError, r"no dataset 'x' ... 'X', .* Did you mean 'X'\?", KeyError):
        VideoLoader(path, x="x")
    with raises(DatasetNotFoundError, r"'clips/left' ... Did you mean 'clips/left'\?"):
        VideoLoader(path, y="clips/lfet")
    with raises(DatasetNotFoundError, "has no dataset 'weights'"):
        VideoLoader(path, sample_weight="weights")
    with raises(DatasetNotFoundError, "has no dataset 'X/Y'"):
        VideoLoader(path, x="X/Y")


def test_the_message_of_a_key_error_is_not_in_quotes(path):
    with raises(DatasetNotFoundError, "^/"):
        VideoLoader(path, x="x")


def test_no_dataset_at_all(tmp_path):
    h5py.File(tmp_path / "set.h5", "w").close()
    with raises(DatasetNotFoundError, "contains no datasets"):
        VideoLoader(tmp_path / "set.h5")


def test_linked_datasets_are_named_as_they_are_to_be_given(path, tmp_path):
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["set/clips"] = h5py.ExternalLink(path, "/X")
        file["copy"] = h5py.SoftLink("/set/clips")
    with raises(DatasetNotFoundError, "no dataset 'X' ... It contains 'copy', 'set/clips'"):
        VideoLoader(tmp_path / "links.h5")
    with raises(DatasetNotFoundError, "'set' is a group ... It contains 'set/clips'"):
        VideoLoader(tmp_path / "links.h5", x="set")


def test_many_names_are_cut_short(path):
    with edit(path) as file:
        for number in range(30):
            file[f"d{number}"] = 0
    with raises(DatasetNotFoundError, "and 12 more"):
        VideoLoader(path, x="none")


def test_a_group_or_a_type_in_place_of_a_dataset(path):
    with edit(path) as file:
        file["clips/left"] = np.ones((20, 3))
        file["type"] = np.dtype("i4")
    with raises(DatasetNotFoundError, "'clips' is a group ... It contains 'clips/left'"):
        VideoLoader(path, x="clips")
    with raises(DatasetNotFoundError, "'/' is a "):
        VideoLoader(path, x="/")
    with raises(DatasetNotFoundError, "'type' is a datatype"):
        VideoLoader(path, x="type")


def test_links_that_lead_nowhere(path):
    with edit(path) as file:
        file["soft"] = h5py.SoftLink("/gone")
        file["loop"] = h5py.SoftLink("/loop")
        file["file"] = h5py.ExternalLink("gone.h5", "/X")
        file["inside"] = h5py.ExternalLink("set.h5", "/gone")
    with raises(DatasetNotFoundError, "'soft' ... leads to '/gone', which does not exist"):
        VideoLoader(path, x="soft")
    with raises(DatasetNotFoundError, "'loop' ... leads to '/loop'"):
        VideoLoader(path, x="loop")
    with raises(DatasetNotFoundError, "'file' ... '/X' in 'gone.h5' ... cannot be opened"):
        VideoLoader(path, x="file")
    with raises(DatasetNotFoundError, "'inside' ... '/gone' in 'set.h5'"):
        VideoLoader(path, x="inside")


SHAPES = {
    "fewer labels": (np.ones((5, 6)), np.ones((4, 2)), r"'/X' of shape \(5, 6\), '/Y' .*\(4, 2\)"),
    "one dimension": (np.ones(5), np.ones((5, 2)), r"'X' must have the shape .* \(5,\)"),
    "scalar labels": (np.ones((5, 6)), np.float64(1), "'/Y' is a scalar"),
    "transposed labels": (np.ones((5, 6)), np.ones((2, 5)), "It looks transposed"),
    "empty samples": (np.ones((5, 0)), np.ones((5, 2)), "the samples of '/X' are empty"),
}


@pytest.mark.parametrize(("x", "y", "message"), SHAPES.values(), ids=SHAPES)
def test_shapes_that_do_not_fit(tmp_path, x, y, message):
    write(tmp_path / "set.h5", x, y)
    with raises(FileFormatError, f"set.h5: ... {message}", ValueError):
        VideoLoader(tmp_path / "set.h5")


def test_no_samples(tmp_path):
    write(tmp_path / "set.h5", np.ones((0, 6)))
    with raises(FileFormatError, r"no sample in .*set\.h5: the datasets have no rows", ValueError):
        VideoLoader(tmp_path / "set.h5")


COUNTS = {
    "larger": (6, "set.h5: .*sample_count ... between 0 and 5 ... Received: 6"),
    "negative": (-1, "set.h5: .*sample_count ... between 0 and 5 ... Received: -1"),
    "a fraction": (2.5, "set.h5: .*sample_count ... whole number ... 2.5"),
    "not a number": (float("nan"), "whole number ... nan"),
    "infinite": (float("inf"), "whole number ... inf"),
    "a string": ("5", "whole number ... '5'"),
    "several": ([5, 5], "whole number"),
    "a truth value": (True, "whole number"),
    "empty": (h5py.Empty("i4"), "whole number"),
    "none at all": (0, r"no sample in .*set\.h5: `sample_count` is 0"),
}


@pytest.mark.parametrize(("count", "message"), COUNTS.values(), ids=COUNTS)
def test_sample_counts_that_make_no_sense(tmp_path, count, message):
    write(tmp_path / "set.h5", np.ones((5, 6)), sample_count=count)
    with raises(FileFormatError, message, ValueError):
        VideoLoader(tmp_path / "set.h5")


@pytest.mark.parametrize("count", [3, 3.0, np.uint8(3), np.array([3])], ids=repr)
def test_sample_counts_that_are_whole_numbers(tmp_path, count):
    write(tmp_path / "set.h5", np.ones((5, 6)), sample_count=count)
    assert VideoLoader(tmp_path / "set.h5").num_samples == 3


@pytest.mark.parametrize(
    ("root", "train", "samples"),
    [
        (None, None, 20),
        (12, None, 12),
        (12, 8, 8),
        (30, None, 20),
        (30, 8, 8),
        (None, 20, 20),
        (12, 21, "'sample_count' of '/train' must be between 0 and 20 ... Received: 21"),
        (12.5, None, "set.h5: the attribute 'sample_count' must be a whole number"),
    ],
)
@pytest.mark.parametrize("name", ["train/X", "/train/deep/X"])
def test_sample_counts_of_groups(path, name, root, train, samples):
    with edit(path) as file:
        file[name] = file["X"]
        del file.attrs["sample_count"]
        for group, count in (("/", root), ("train", train)):
            if count is not None:
                file[group].attrs["sample_count"] = count
    if isinstance(samples, int):
        assert VideoLoader(path, x=name).num_samples == samples
    else:
        with raises(FileFormatError, samples):
            VideoLoader(path, x=name)


LABELS_ARE = "Labels are class numbers, one-hot vectors or strings ... y=None"
DTYPES = {
    "string x": ("X", h5py.string_dtype(), "dtype string ... Strings are read as y alone"),
    "reference x": ("X", h5py.ref_dtype, "dtype reference ... Samples are arrays of numbers"),
    "variable length x": (
        "X",
        h5py.vlen_dtype(np.int32),
        "dtype variable length ... Its rows have a length each; those of a tensor have a fixed",
    ),
    "compound x": ("X", [("a", "i4"), ("b", "f4")], "dtype compound ... Samples are arrays of num"),
    "reference y": ("Y", h5py.ref_dtype, f"dtype reference ... {LABELS_ARE}"),
    "variable length y": (
        "Y",
        h5py.vlen_dtype(np.int32),
        f"dtype variable length ... {LABELS_ARE}",
    ),
    "compound y": ("Y", [("a", "i4"), ("b", "f4")], f"dtype compound ... {LABELS_ARE}"),
}


@pytest.mark.parametrize(("name", "dtype", "message"), DTYPES.values(), ids=DTYPES)
def test_dtypes_that_are_not_numbers(path, name, dtype, message):
    with edit(path) as file:
        del file[name]
        file.create_dataset(name, (20, 3), dtype)
    with raises(UnsupportedDtypeError, f"'/{name}' has the {message}", TypeError):
        VideoLoader(path)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [2, 1, 0]], ids=str)
def test_files_of_other_classes_are_no_set(tmp_path, order):
    names = [["run", "walk"], None, ["walk", "run"]]
    paths = [testing.write_video_file(tmp_path / f"{i}.h5") for i in range(3)]
    for path, found in zip(paths, names, strict=True):
        with edit(path) as file:
            file.attrs["class_names"] = h5py.Empty("f4") if found is None else found
    paths = [paths[number] for number in order]
    with raises(FileFormatError, "`class_names` must be the same in all files ... 'run'"):
        VideoLoader(paths)
    if order[-1] == 2:
        assert VideoLoader(paths[:2])._set.class_names == ("run", "walk")
    assert h5video_data.inspect(tmp_path / "1.h5").class_names is None
