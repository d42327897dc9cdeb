"""Datasets of other files: which of their rows are the samples of a set."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from conftest import Order

from h5video_data import Clip, VideoLoader, repack, split_samples
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileChangedError,
    FileFormatError,
    VideoFileNotFoundError,
)

NUM = 24
NUMBERS = np.arange(NUM)


def write(path, *, count=None, names=None, **data):
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name] = values
        if count is not None:
            file.attrs["sample_count"] = count
        if names is not None:
            file.attrs["class_names"] = names
    return path


def rows(first, stop):
    """Samples that hold their number."""
    return np.repeat(np.arange(first, stop)[:, np.newaxis], 20, axis=1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory has a set in one file, the same in three, and labels."""
    monkeypatch.chdir(tmp_path)
    write("x.h5", X=rows(0, NUM), Y=NUMBERS % 5)
    for i, (first, stop) in enumerate([(0, 10), (10, 16), (16, NUM)]):
        write(f"x{i}.h5", X=rows(first, stop))
    write("labels.h5", **{"y": NUMBERS * 2, "in/w": NUMBERS / 2, "group": NUMBERS // 4})
    for i, (first, stop) in enumerate([(0, 3), (3, NUM)]):
        write(f"part{i}.h5", y=np.arange(first, stop) * 2)
    return tmp_path


def check(path, order=(5, 23, 0, 9, 10, 9), **options):
    """Checks that the labels are twice the samples' numbers."""
    loader = VideoLoader(path, shuffle=Order(order), batch_size=4, **options)
    batches = [(x["x"] if isinstance(x, dict) else x, y) for x, y, *_ in loader]
    assert np.concatenate([x[:, 0] for x, _ in batches]).tolist() == list(order)
    assert np.concatenate([y for _, y in batches]).tolist() == [2 * i for i in order]


@pytest.mark.parametrize("path", ["x.h5", ["x0.h5", "x1.h5", "x2.h5"]], ids=["one", "three"])
@pytest.mark.parametrize("y", ["labels.h5:y", "part*.h5:y", "{folder}/labels.h5:y"])
@pytest.mark.parametrize(
    "limit", [None, pytest.param(-1, marks=pytest.mark.memory_limit(-1))], ids=["kept", "read"]
)
def test_labels_of_other_files(folder, path, y, limit):
    del limit
    check(path, y=y.format(folder=folder))


@pytest.mark.parametrize("name", ["y*", "inferred", "@y", "a/*/y", "[y]", "y:y"])
def test_names_that_recordings_could_have(name):
    """A dataset of that name is itself."""
    write("odd.h5", X=rows(0, NUM), **{name: NUMBERS * 2})
    check("odd.h5", y=name)
    if "*" in name or name[0] in "i@":
        with pytest.raises(ArgumentError, match="is for recordings"):
            VideoLoader("x.h5", y=name)


def test_a_dataset_that_a_glob_of_files_lacks():
    with pytest.raises(DatasetNotFoundError, match="has no dataset 'z'"):
        VideoLoader("x.h5", y="part*.h5:z")


def test_a_dict_and_weights_of_another_file():
    loader = VideoLoader(
        ["x0.h5", "x1.h5", "x2.h5"],
        y={"a": "labels.h5:y", "b": NUMBERS},
        sample_weight="labels.h5:in/w",
        shuffle=Order([20, 3]),
    )
    ((_, y, weight),) = loader
    assert (y["a"].tolist(), y["b"].tolist(), weight.tolist()) == ([40, 6], [20, 3], [10.0, 1.5])


@pytest.mark.parametrize("chunks", [None, (1, 20), (4, 20)], ids=str)
@pytest.mark.memory_limit(-1)
def test_samples_of_other_files(chunks):
    for i, (first, stop) in enumerate([(0, 5), (5, NUM)]):
        with h5py.File(f"frames{i}.h5", "w") as file:
            file.create_dataset("v", data=rows(first, stop), chunks=chunks)
    check("labels.h5", x="frames*.h5:v", y="y")
    check(["part0.h5", "part1.h5"], x="frames*.h5:v", y="y")
    check(["x0.h5", "x1.h5", "x2.h5"], x={"more": "frames*.h5:v", "x": "X"}, y="labels.h5:y")
    (x, _), *_ = VideoLoader("x.h5", x={"a": "X", "b": "frames*.h5:v"}, seed=0)
    np.testing.assert_array_equal(x["a"], x["b"])


def test_clips_of_another_file():
    frames = np.arange(NUM * 4 * 6).reshape(NUM, 4, 2, 3)
    write("frames.h5", v=frames)
    loader = VideoLoader(
        "labels.h5",
        x="frames.h5:v",
        y="y",
        clip=Clip(2, axis=0, position="center"),
        shuffle=Order([9, 2]),
    )
    ((x, y),) = loader
    np.testing.assert_array_equal(x, frames[[9, 2], 1:3])
    assert y.tolist() == [18, 4]


def test_ids_of_another_file():
    training, validation = split_samples(
        ["x0.h5", "x1.h5", "x2.h5"], 0.25, split_by="labels.h5:group", y=None
    )
    ids = NUMBERS // 4
    assert not set(ids[training]) & set(ids[validation])
    np.testing.assert_array_equal(validation, split_samples("x.h5", 0.25, split_by=ids, y=None)[1])


# --------------------------------------------------------------------------- names with a colon


def test_a_name_with_a_colon():
    write("colon.h5", **{"X": rows(0, NUM), "labels:y": NUMBERS * 2, "no.h5:y": NUMBERS * 2})
    check("colon.h5", y="labels:y")
    check("colon.h5", y="no.h5:y")
    os.rename("labels.h5", "a:b.h5")
    check("x.h5", y="a:b.h5:y")


NOT_THERE = {
    "no file": ("no.h5:y", VideoFileNotFoundError, r"No such file: 'no\.h5'.* 'no\.h5:y'"),
    "MATLAB": ("d/no.mat:y", VideoFileNotFoundError, "No such file: 'd/no.mat'"),
    "no match": ("no*.h5:y", VideoFileNotFoundError, r"no file matches the glob.*'no\*.h5:y'"),
    "no dataset": ("labels.h5:z", DatasetNotFoundError, "labels.h5 has no dataset 'z'"),
    "no name": ("labels.h5", DatasetNotFoundError, "x.h5 .* has a colon: 'labels.h5:y'"),
    "an empty name": ("labels.h5:", DatasetNotFoundError, "x.h5 .* has a colon: 'labels.h5:y'"),
    "a slash": ("labels.h5/in/w", DatasetNotFoundError, "x.h5 .* a colon: 'labels.h5:in/w'"),
    "another name": (
        "z",
        DatasetNotFoundError,
        r"'z'. It contains 'X', 'Y'\.$",
    ),
}


@pytest.mark.parametrize(("y", "error", "message"), NOT_THERE.values(), ids=NOT_THERE)
def test_what_is_not_there(y, error, message):
    with pytest.raises(error, match=message):
        VideoLoader("x.h5", y=y)


def test_nothing_is_read_from_path():
    with pytest.raises(ArgumentError, match=r"'x0.h5:X', 'labels.h5:y', each of another file, and"):
        VideoLoader("x.h5", x="x0.h5:X", y="labels.h5:y")


# --------------------------------------------------------------------------- which rows


@pytest.mark.parametrize(("length", "received"), [(23, "23 rows"), (25, "25 rows; the attribute")])
def test_other_numbers_of_rows(length, received):
    write("other.h5", y=np.arange(length))
    for path in ("x.h5", ["x0.h5", "x1.h5", "x2.h5"]):
        with pytest.raises(FileFormatError, match=f"'other.h5:y' .* 24 samples.* {received}"):
            VideoLoader(path, y="other.h5:y")


def test_files_that_are_cut_short():
    # The rows of x and of its labels lie alike.
    for i, (first, stop) in enumerate([(0, 10), (10, NUM)]):
        write(f"long{i}.h5", X=np.pad(rows(first, stop), ((0, 2), (0, 0))), count=stop - first)
        write(f"alike{i}.h5", y=np.pad(2 * np.arange(first, stop), (0, 2), constant_values=-1))
        write(
            f"count{i}.h5",
            y=np.pad(2 * np.arange(first, stop), (0, 5), constant_values=-1),
            count=stop - first,
        )
    paths = ["long0.h5", "long1.h5"]
    for y in ("labels.h5:y", "alike*.h5:y", "count*.h5:y"):
        check(paths, y=y)
    # Whether 28 rows in one file leave out those in the middle is not known.
    write("other.h5", y=np.arange(28))
    with pytest.raises(FileFormatError, match=r"'other.h5:y' .* 24 samples.* 28 rows"):
        VideoLoader(paths, y="other.h5:y")


def test_a_file_that_is_cut_short():
    write("long.h5", X=rows(0, 30), count=NUM)
    write("more.h5", y=2 * np.arange(40))
    write("exact.h5", X=rows(0, NUM), count=NUM)
    for path in ("long.h5", "exact.h5"):
        check(path, y="labels.h5:y")
        check(path, y="more.h5:y")


@pytest.mark.parametrize(("x_rows", "y_rows"), [(30, NUM), (NUM, 30), (30, 26)], ids=str)
def test_datasets_of_several_lengths_that_the_count_fits(x_rows, y_rows):
    write("set.h5", X=rows(0, x_rows), y=2 * np.arange(y_rows), count=NUM)
    check("set.h5", y="y")
    check(["set.h5"], y={"a": "y"}["a"], sample_weight="y")
    assert VideoLoader("set.h5", y="y").num_samples == NUM
    if x_rows > NUM:
        repack("set.h5", "new.h5")
        check("new.h5", y="y")
    with h5py.File("set.h5", "a") as file:
        del file.attrs["sample_count"]
    with pytest.raises(FileFormatError, match="must have the same number of samples"):
        VideoLoader("set.h5", y="y")


def test_a_count_that_does_not_fit_all():
    write("set.h5", X=rows(0, 30), y=np.arange(20), count=NUM)
    with pytest.raises(FileFormatError, match=r"\(30, 20\), '/y' .*\(20,\), and .* is 24"):
        VideoLoader("set.h5", y="y")


# --------------------------------------------------------------------------- the files themselves


def test_the_other_file_is_watched():
    write("names.h5", y=np.where(NUMBERS % 2, "a", "b").astype("S"))
    for y, name in (("labels.h5:y", "labels.h5"), ("names.h5:y", "names.h5")):
        loader = VideoLoader("x.h5", y=y, shuffle=False)
        assert len(list(loader)) == 1
        os.utime(name, ns=(1, 1))
        with pytest.raises(FileChangedError, match=f"{name} was changed"):
            list(loader)


def test_a_state_does_not_depend_on_where_the_other_file_lies():
    state = VideoLoader("x.h5", y="labels.h5:y", seed=1).state_dict(epoch=0, step=0)
    os.mkdir("else")
    os.rename("labels.h5", "else/where.h5")
    VideoLoader("x.h5", y="else/where.h5:y", seed=1).load_state_dict(state)
    # Two datasets of one name are told apart.
    write("twice.h5", X=rows(0, NUM), y=NUMBERS)
    for x in ({"a": "X", "b": "else/where.h5:y"}, {"a": "X", "b": "y"}):
        loader = VideoLoader("twice.h5", x=x, y="y", seed=1)
        assert len(loader.state_dict(epoch=0, step=0)["fingerprint"]["datasets"]) == len(
            loader._set.components
        )


def test_class_names_are_those_of_the_labels_file():
    names = ["a", "b", "c", "d", "e"]
    write("x.h5", X=rows(0, NUM), Y=NUMBERS % 5, names=names)
    write("named.h5", y=NUMBERS % 2, names=["no", "yes"])
    assert VideoLoader("x.h5")._set.class_names == tuple(names)
    assert VideoLoader("x.h5", y="named.h5:y")._set.class_names == ("no", "yes")
    assert VideoLoader("x.h5", y="labels.h5:y")._set.class_names is None
    assert VideoLoader("x.h5", y=NUMBERS % 5)._set.class_names == tuple(names)
