"""Errors: their class, and a message that says what failed, where, and what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import re
import shutil
import subprocess
import sys
import time
import zlib

import h5py
import numpy as np
import pytest
from conftest import open_descriptors, wait_until

import h5video_data
from h5video_data import errors, testing
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileChangedError,
    FileFormatError,
    FileInUseError,
    H5VideoError,
    MissingFilterError,
    NotHDF5Error,
    ReadError,
    SamplerError,
    UnavailableError,
    UnsupportedDtypeError,
    VideoFileNotFoundError,
)
from h5video_data.loader import VideoLoader
from h5video_data.planning.byte_ranges import row_planner
from h5video_data.reading.byte_sources import ByteSources
from h5video_data.reading.sample_sources import DirectSource, ReadStats, RowRequest
from h5video_data.samplers import WeightedSampler
from h5video_data.storage.layout import describe

ONE = (1, *testing.SAMPLE_SHAPE)
MANY = (4, *testing.SAMPLE_SHAPE)


@pytest.fixture
def path(tmp_path):
    return testing.write_video_file(tmp_path / "set.h5")


@pytest.fixture(params=[pytest.param("read", marks=pytest.mark.memory_limit(64)), "kept"])
def video_is(request):
    """X is read batch by batch, or small enough to be kept in memory."""
    return request.param


def consume(path, **options):
    return list(VideoLoader(path, **options))


def raises(error, message, builtin=None):
    """Expects an error of this class, of the built-in one, and with all parts of the message.

    The parts are regular expressions, divided by " ... ".
    """
    if builtin is not None:
        assert issubclass(error, builtin)
    assert issubclass(error, H5VideoError)
    return pytest.raises(error, match="(?s)" + message.replace(" ... ", ".*"))


def edit(path):
    return h5py.File(path, "a")


# --------------------------------------------------------------------------- the public names


def test_public_names():
    assert sorted(h5video_data.__all__) == h5video_data.__all__
    assert set(h5video_data.__all__) <= set(dir(h5video_data))
    for name in set(h5video_data.__all__) - {"transforms", "callbacks", "video_dataset_from_hdf5"}:
        assert getattr(h5video_data, name) is not None  # those left out take TensorFlow


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match=r"'h5video_data' has no attribute 'nothing'"):
        _ = h5video_data.nothing


def test_the_tree_of_errors():
    tree = {
        "ArgumentError": (H5VideoError, ValueError),
        "ClosedError": (H5VideoError, RuntimeError),
        "StateError": (H5VideoError, ValueError),
        "DatasetNotFoundError": (H5VideoError, KeyError),
        "ExternalFileError": (H5VideoError,),
        "FileChangedError": (ReadError,),
        "FileFormatError": (H5VideoError, ValueError),
        "FileInUseError": (H5VideoError, OSError),
        "H5VideoError": (Exception,),
        "MissingDependencyError": (H5VideoError, ImportError),
        "MissingFilterError": (H5VideoError, OSError),
        "NotHDF5Error": (H5VideoError, OSError),
        "PackingError": (H5VideoError, ValueError, OSError),
        "ReadError": (H5VideoError, OSError),
        "RepackingError": (H5VideoError, OSError),
        "SamplerError": (H5VideoError, ValueError),
        "UnavailableError": (H5VideoError, OSError),
        "UnsupportedDtypeError": (FileFormatError, TypeError),
        "VideoFileNotFoundError": (H5VideoError, FileNotFoundError),
    }
    found = {name: getattr(errors, name).__bases__ for name in errors.__all__}
    assert found == tree  # a name that is added or removed is a change for users
    # The drawing: a line for each, with the built-in classes that it derives from besides.
    drawn = re.findall(r"── (\w+)(?: \(([^)]*)\))?  ", errors.__doc__)
    assert {name for name, _ in drawn} == tree.keys() - {"H5VideoError"}
    for name, others in drawn:
        builtin = {base.__name__ for base in tree[name] if base.__module__ == "builtins"}
        assert builtin == set(filter(None, others.split(", ")))
    for name in found:
        assert "text" in str(getattr(errors, name)("text"))


def test_import_is_light():
    code = """
import time, sys
begin = time.process_time()
import numpy
middle = time.process_time()
import h5video_data
print((time.process_time() - middle) / (middle - begin))
print({name.partition(".")[0] for name in sys.modules} & {
    "tensorflow", "keras", "h5py", "imagecodecs", "hdf5plugin", "av", "matplotlib"})
"""
    costs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250
        )
        cost, heavy = done.stdout.splitlines()
        assert heavy == "set()"
        costs.append(float(cost))
    assert min(costs) < 0.5  # of what NumPy takes, which it needs


# --------------------------------------------------------------------------- files


def test_no_such_file(tmp_path):
    with raises(VideoFileNotFoundError, "No such file ... none.h5", FileNotFoundError):
        VideoLoader(tmp_path / "none.h5")


@pytest.mark.parametrize("pattern", ["*.h5", "**/*.h5", "set[0-9].h5", "~/none*.h5"])
def test_a_glob_without_match(tmp_path, pattern):
    name = pattern if pattern[0] == "~" else str(tmp_path / pattern)
    with raises(VideoFileNotFoundError, "No file matches ... h5'", FileNotFoundError):
        VideoLoader(name)


def test_one_file_of_several_is_missing(path, tmp_path):
    with raises(VideoFileNotFoundError, "gone.h5"):
        VideoLoader([path, tmp_path / "gone.h5"])


def test_a_directory(tmp_path):
    with raises(NotHDF5Error, f"{tmp_path} is a directory ... glob ... {tmp_path}/\\*.h5", OSError):
        VideoLoader(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"\(0 bytes\)"), (b"RIFF" * 1000, r"\(4000 bytes\)")],
    ids=["empty", "another format"],
)
def test_not_hdf5(tmp_path, content, message):
    path = tmp_path / "set.h5"
    path.write_bytes(content)
    with raises(NotHDF5Error, f"{path} {message} is not an HDF5 file", OSError):
        VideoLoader(path)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_a_file_cut_short_at_any_length(tmp_path, version):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver=version) as file:
        file["X"] = np.ones((5, 50))
        file["Y"] = np.ones((5, 2))
    whole = path.read_bytes()
    for length in [*range(1, 120), *range(121, len(whole), 89), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with raises(NotHDF5Error, f"{path} ... {length} bytes"):
            VideoLoader(path)


def test_a_file_that_may_not_be_read(path, monkeypatch):
    # Tests may run as root, who may read everything.
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(h5py, "File", refuse)
    with raises(UnavailableError, f"cannot read {path}: permission denied", OSError):
        VideoLoader(path)


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_path_at_all(nothing):
    with raises(ArgumentError, "at least one file ... empty list", ValueError):
        VideoLoader(nothing)


@pytest.mark.parametrize("wrong", [None, 5, 1.5, [None], [5]], ids=str)
def test_a_path_that_is_no_path(wrong):
    with raises(ArgumentError, "`path` ... (None|5)", ValueError):
        VideoLoader(wrong)


HOLD = """
import sys, h5py
with h5py.File(sys.argv[1], "a", libver="latest") as file:
    if sys.argv[2] == "swmr":
        file.swmr_mode = True
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["plain", "swmr"])
def test_open_for_writing_in_another_process(tmp_path, mode):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["X"], file["Y"] = np.ones((5, 6)), np.ones((5, 2))
    command = [sys.executable, "-c", HOLD, path, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"open\n"
        with raises(FileInUseError, f"{path} is open for writing elsewhere ... LOCKING", OSError):
            VideoLoader(path)
        child.communicate(b"\n", timeout=250)
    assert len(consume(path)) == 1


@pytest.mark.memory_limit(-1)
def test_open_for_writing_in_this_process(path):
    # HDF5 allows that. What it has not written yet must not be read from the file.
    with edit(path) as file:
        file["X"][...] = 99
        try:
            ((x, _),) = consume(path)
        except FileChangedError:
            return
        np.testing.assert_array_equal(x, 99)


@pytest.mark.parametrize("options", [{}, {"chunks": ONE, "compression": "gzip"}], ids=str)
def test_left_open_by_its_writer_in_this_process(tmp_path, options):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for number in range(2):
            name = f"set{number}"
            file.create_dataset(f"{name}/X", data=np.full((5, 4, 3, 8, 8), number), **options)
            file[f"{name}/Y"] = np.ones((5, 2))
            time.sleep(0.02)  # the file's time of change has ticks
            loader = VideoLoader(tmp_path / "set.h5", x=f"{name}/X", y=f"{name}/Y")
            for _ in range(2):
                time.sleep(0.02)
                ((x, _),) = loader
                assert (x == number).all()


def test_open_for_reading_in_this_process(path):
    with h5py.File(path):
        assert len(consume(path)) == 1


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


def write(path, x, y=None, **attributes):
    with h5py.File(path, "w") as file:
        file["X"] = x
        file["Y"] = np.ones((len(x), 2)) if y is None else y
        file.attrs.update(attributes)


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


# --------------------------------------------------------------------------- filters


def write_unknown_filter(path, name, chunks, number=60_000, mask=0):
    """Writes a dataset through a filter that nobody has, into all chunks, or past it."""
    with edit(path) as file:
        old = file[name][()]
        del file[name]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(chunks)
        properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        dataset = h5py.h5d.create(
            file.id,
            name.encode(),
            h5py.h5t.py_create(old.dtype),
            h5py.h5s.create_simple(old.shape),
            properties,
        )
        for row in range(0, len(old), chunks[0]):
            corner = (row, *[0] * (old.ndim - 1))
            dataset.write_direct_chunk(corner, old[row : row + chunks[0]].tobytes(), mask)


@pytest.mark.parametrize(("name", "chunks"), [("X", ONE), ("X", MANY), ("Y", (1, 4))], ids=str)
@pytest.mark.parametrize("has_hdf5plugin", [True, False])
def test_a_filter_that_is_not_installed(path, name, chunks, video_is, monkeypatch, has_hdf5plugin):
    del video_is
    write_unknown_filter(path, name, chunks)
    advice = "The installed hdf5plugin does not provide it. Install the HDF5 plugin"
    if not has_hdf5plugin:
        monkeypatch.setitem(sys.modules, "hdf5plugin", None)
        advice = "Try: pip install hdf5plugin"
    with raises(
        MissingFilterError, f"set.h5: dataset '/{name}' ... number 60000\\)\\. {advice}", OSError
    ):
        consume(path)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # not installed
    with raises(MissingFilterError, "number 60000 ... Try: pip install hdf5plugin"):
        consume(path)


def test_a_filter_that_is_not_installed_and_that_no_chunk_went_through(path, video_is):
    del video_is
    write_unknown_filter(path, "X", MANY, mask=1)
    ((x, _),) = consume(path, shuffle=False)
    np.testing.assert_array_equal(x, testing.sample_values(np.arange(20)))


def test_a_missing_filter_shows_when_the_set_is_opened(path):
    # In a tf.data pipeline it would be an anonymous error of the first step otherwise.
    write_unknown_filter(path, "X", ONE)
    with raises(MissingFilterError, "60000"):
        VideoLoader(path)


# --------------------------------------------------------------------------- changed files


def overwrite(path, place, data):
    """Writes bytes into a file; the time of its change moves on for sure."""
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(data)
    moved = os.stat(path).st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(moved, moved))


def replace_with(path, **options):
    new = testing.write_video_file(f"{path}.new", **options)
    os.replace(new, path)


CHANGES = {
    "written to": (
        lambda path: overwrite(path, -1 % os.path.getsize(path), b"?"),
        FileChangedError,
    ),
    "replaced by a copy": (
        lambda path: (shutil.copy2(path, f"{path}.copy"), os.replace(f"{path}.copy", path)),
        FileChangedError,
    ),
    "replaced by another": (lambda path: replace_with(path, num_samples=30), FileChangedError),
    "replaced by one without Y": (
        lambda path: (replace_with(path), overwrite_names(path)),
        FileChangedError,
    ),
    "longer": (lambda path: overwrite(path, os.path.getsize(path), b"more"), FileChangedError),
    "truncated": (lambda path: os.truncate(path, 4000), (FileChangedError, NotHDF5Error)),
    "removed": (os.remove, VideoFileNotFoundError),
}


def overwrite_names(path):
    with edit(path) as file:
        del file["Y"]


@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize(("change", "error"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_changed_before_an_epoch(tmp_path, video_is, change, error, epochs, chunks):
    del video_is
    path = testing.write_video_file(tmp_path / "set.h5", chunks=chunks)
    loader = VideoLoader(path)
    for _ in range(epochs):
        list(loader)
    change(path)
    with pytest.raises(error, match=f"{path}.*(changed|no longer|truncated)|No such file.*{path}"):
        next(iter(loader))


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
def test_a_file_that_is_written_to_in_the_middle_of_an_epoch(tmp_path, chunks):
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=64, chunks=chunks)
    loader = VideoLoader(path, shuffle=False, batch_size=4, read_ahead_bytes=0)
    batches = iter(loader)
    next(batches)
    overwrite(path, os.path.getsize(path) - 9, b"?")
    with raises(
        FileChangedError, f"{path} was changed ... modification time .* to .*. Recreate the dataset"
    ):
        list(batches)


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
def test_a_file_that_is_replaced_before_it_is_its_turn(tmp_path, chunks):
    paths = [testing.write_video_file(tmp_path / f"{i}.h5", chunks=chunks) for i in range(2)]
    loader = VideoLoader(paths, shuffle=False, batch_size=4, read_ahead_bytes=0)
    batches = iter(loader)
    next(batches)
    replace_with(paths[1], first=5, chunks=chunks)
    with raises(FileChangedError, f"{paths[1]} was changed or replaced ... it is another file"):
        list(batches)


@pytest.mark.memory_limit(-1)
@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize("change", ["truncated", "removed", "replaced"])
def test_a_file_that_goes_in_the_middle_of_an_epoch(tmp_path, change, chunks):
    # An open file outlives its name: the rest of the epoch is right, or an error.
    path = testing.write_video_file(tmp_path / "set.h5", num_samples=64, chunks=chunks)
    loader = VideoLoader(path, shuffle=False, batch_size=4, read_ahead_bytes=0)
    batches = iter(loader)
    got = [next(batches)[0]]
    if change == "truncated":
        os.truncate(path, 3000)
        with raises(ReadError, f"{path}"):
            list(batches)
    else:
        os.remove(path) if change == "removed" else replace_with(path, first=5, num_samples=64)
        got += [x for x, _ in batches]
        np.testing.assert_array_equal(np.concatenate(got), testing.sample_values(np.arange(64)))
    with pytest.raises((ReadError, VideoFileNotFoundError), match=r"set\.h5"):
        list(loader)


# --------------------------------------------------------------------------- corrupt chunks


def chunk_place(path, name, row):
    with h5py.File(path) as file:
        dataset = file[name]
        info = dataset.id.get_chunk_info_by_coord((row, *[0] * (dataset.ndim - 1)))
        return info.byte_offset, info.size


@pytest.mark.parametrize(("place", "data"), [(0, b"tree"), (39, b"\xff")], ids=["mark", "place"])
def test_a_damaged_list_of_chunks(path, place, data):
    with edit(path) as file:
        del file["X"]
        file.create_dataset("X", data=np.ones((20, 6)), chunks=(2, 6), compression="gzip")
    with open(path, "rb") as file:
        tree = file.read().index(b"TREE\x01")  # a B-tree of chunks
    overwrite(path, tree + place, data)
    with raises(FileFormatError, "set.h5: dataset '/X' has a damaged chunk index: ..."):
        VideoLoader(path)
    report = h5video_data.inspect(path)
    assert [item.name for item in report.datasets] == ["X", "Y"]
    assert report.datasets[0].reason == "it is damaged, or of a kind that h5py cannot read"
    assert "'/X' has a damaged chunk index" in report.problems[0]


CORRUPT = {
    "gzip": ({"compression": "gzip"}, ONE),
    "fletcher32": ({"fletcher32": True}, ONE),
    "lzf fletcher32": ({"compression": "lzf", "fletcher32": True}, ONE),
    "gzip, many samples a chunk": ({"compression": "gzip"}, MANY),
    "fletcher32, many samples a chunk": ({"fletcher32": True}, MANY),
}


@pytest.mark.parametrize(("options", "chunks"), CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_chunk_is_an_error_and_the_repaired_one_is_read(
    tmp_path, video_is, new_threads, options, chunks
):
    path = testing.write_video_file(tmp_path / "set.h5", chunks=chunks, **options)
    place, size = chunk_place(path, "X", 12)
    whole = (tmp_path / "set.h5").read_bytes()
    stamp = os.stat(path).st_mtime_ns
    broken = bytearray(whole)
    broken[place + size // 2 : place + size // 2 + 4] = b"\xff\x00\xff\x00"
    overwrite(path, 0, bytes(broken))
    os.utime(path, ns=(stamp, stamp))

    loader = VideoLoader(path, batch_size=2, shuffle=False, num_threads=3)
    rows = "1[2-5]" if chunks == MANY else "12"
    if video_is == "kept":
        rows = ""
    with raises(ReadError, f"{path}: dataset '/?X' ... {rows}", OSError):
        list(loader)
    gc.collect()
    assert len(new_threads()) <= 3  # the loader's own, which is alive

    overwrite(path, 0, whole)
    os.utime(path, ns=(stamp, stamp))  # as if it had never been changed
    got = np.concatenate([x for x, _ in loader])
    np.testing.assert_array_equal(got, testing.sample_values(np.arange(20)))
    del loader, got
    gc.collect()
    wait_until(lambda: not new_threads())
    assert not open_descriptors(tmp_path)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"fletcher32": True}], ids=str)
def test_corrupt_labels_are_a_read_error_as_well(path, options):
    with edit(path) as file:
        del file["Y"]
        file.create_dataset("Y", data=testing.labels(range(20), 4), chunks=(20, 4), **options)
    place, size = chunk_place(path, "Y", 0)
    overwrite(path, place + size // 2, b"\xff\x00\xff\x00")
    with raises(ReadError, f"{path}: dataset '/?Y'", OSError):
        consume(path)


@pytest.mark.parametrize("bad", range(4, 8))
def test_the_sample_in_the_message_is_the_one_that_cannot_be_read(path, bad):
    # Samples that follow each other are read as one range; the message still names the first bad.
    with h5py.File(path) as file:
        stored = describe(file["X"])
    files = ByteSources()
    end = os.path.getsize(path)
    stored = dataclasses.replace(stored, offsets=np.array([end - bad * stored.row_nbytes - 9]))
    source = DirectSource(row_planner(stored), files)
    rows, places = np.arange(2, 9), np.arange(7)
    out = np.empty((7, *testing.SAMPLE_SHAPE), np.uint8)
    with raises(ReadError, f"sample {bad}: the file ends "):
        source.read(RowRequest(rows, places, None, out), ReadStats())


@pytest.mark.slow
@pytest.mark.memory_limit(64)
def test_an_error_leaves_nothing_behind(tmp_path, new_threads):
    path = testing.write_video_file(tmp_path / "set.h5", chunks=ONE, compression="gzip")
    with edit(path) as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), zlib.compress(b"too short"), 0)
    gc.collect()
    gc.disable()  # threads and buffers must not wait for it
    try:
        for _ in range(20):
            with raises(ReadError, "sample 7: "):
                consume(path, batch_size=2, num_threads=4)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not new_threads())
        left = new_threads()
    finally:
        gc.enable()
    assert not left
    wait_until(lambda: not new_threads())
    assert not open_descriptors(tmp_path)


@pytest.mark.memory_limit(64)
def test_an_error_carries_the_thread_s_traceback(tmp_path):
    path = testing.write_video_file(tmp_path / "set.h5", chunks=ONE, compression="gzip")
    with edit(path) as file:
        file["X"].id.write_direct_chunk((7, 0, 0, 0, 0), b"rubbish", 0)
    with raises(ReadError, "sample 7: deflate") as caught:
        consume(path)
    names = [entry.name for entry in caught.traceback]
    assert "_fill" in names
    assert isinstance(caught.value.__cause__, ValueError)


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
