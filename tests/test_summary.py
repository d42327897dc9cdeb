"""`repr` says in one line what a loader or a dataset holds."""

import numpy as np
import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.summary import counted, summary
from h5video_data.testing import write_video_file


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "10 samples, batch_size=4, x: uint8 (None, 4, 3, 8, 8), y: float32 (None, 4)"),
        (
            {"x": {"a": "X", "b": "X"}, "y": None, "drop_remainder": True},
            "10 samples, batch_size=4, x: {a: uint8 (4, 4, 3, 8, 8), b: uint8 (4, 4, 3, 8, 8)}",
        ),
        (
            {"y": None, "batch_size": None, "clip": Clip(2)},
            "10 samples, batch_size=None, x: uint8 (2, 3, 8, 8)",
        ),
        (
            {"validation_split": 0.2, "subset": "training"},
            "8 of 10 samples, batch_size=4, x: uint8 (4, 4, 3, 8, 8), y: float32 (4, 4)",
        ),
        (
            {"y": None, "indices": [3], "batch_size": 1, "return_indices": True},
            "1 of 10 samples, batch_size=1, x: uint8 (1, 4, 3, 8, 8), indices: int64 (1,)",
        ),
        (
            {"x": "Y", "return_indices": True, "batch_size": None},
            "10 samples, batch_size=None, x: float32 (4,), y: float32 (4,), indices: int64 ()",
        ),
    ],
    ids=["plain", "dict", "single samples", "one side", "x and numbers", "x, y and number"],
)
def test_repr(tmp_path, options, expected):
    path = write_video_file(tmp_path / "a.h5", num_samples=10)
    loader = VideoLoader(path, **{"batch_size": 4, "seed": 0, **options})
    assert repr(loader) == f"<VideoLoader: 1 file, {expected}>"
    assert repr(loader.dataset()) == f"<VideoDataset: 1 file, {expected}>"


def test_a_dataset_says_what_its_map_functions_make(tmp_path):
    paths = [write_video_file(tmp_path / f"{name}.h5", num_samples=6) for name in "ab"]
    start = "<VideoDataset: 2 files, 12 samples, batch_size=3, "

    def of(map_fn):
        return repr(h5v.video_dataset_from_hdf5(paths, batch_size=3, map_fn=map_fn))

    assert of(lambda x, _: {"video": x}) == start + "x: {video: uint8 (3, 4, 3, 8, 8)}>"
    assert of(lambda x, y: (x, y, y, y[:, 0])) == (
        start + "0: uint8 (3, 4, 3, 8, 8), 1: float32 (3, 4), 2: float32 (3, 4), 3: float32 (3,)>"
    )
    # What becomes of it is another dataset.
    dataset = h5v.video_dataset_from_hdf5(paths, batch_size=3)
    assert "VideoDataset: 2 files" not in repr(dataset.map(lambda x, _: x))
    assert isinstance(dataset, tf.data.Dataset)


def test_str_and_a_notebook_tell_how_it_is_read_and_the_classes(tmp_path):
    path = write_video_file(tmp_path / "<a>.h5", num_samples=10, num_classes=2)
    loader = VideoLoader(path, seed=0, validation_split=0.2, subset="training")
    for each in (loader, loader.dataset()):
        lines = str(each).splitlines()
        assert lines[0] == repr(each)
        assert lines[1] == "  X: read by direct (it is contiguous)"
        counts = [int(text.split()[1]) for text in lines[3].removeprefix("  classes: ").split(", ")]
        assert sum(counts) == 8
        assert "<th" in each._repr_html_()
        assert "8 of 10 samples" in each._repr_html_()


def test_one_of_a_thing_has_no_plural():
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [counted(number, "class", "classes") for number in (1, 3)] == ["1 class", "3 classes"]


def test_what_is_no_array_is_shown_as_it_is():
    counts = {"num_files": 1, "num_samples": 2, "num_stored": 2, "batch_size": 3}
    text = summary({"a": "a ragged tensor"}, names=["x"], **counts)
    assert text == "1 file, 2 samples, batch_size=3, x: {a: a ragged tensor}"


def test_arrays_are_read_by_nothing(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=3)
    lines = str(VideoLoader(path, y=np.arange(3))).splitlines()
    assert lines[1:] == ["  X: read by direct (it is contiguous)", "  classes: 0 1, 1 1, 2 1"]
