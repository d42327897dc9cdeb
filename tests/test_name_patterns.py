"""Names of datasets with `*`."""

import h5py
import pytest

from h5video_data.errors import DatasetNotFoundError
from h5video_data.storage.name_patterns import is_pattern, matching_names, natural_key


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["obs/rgb"] = [1, 2]
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        for number in (10, 2, 0):
            opened[f"data/demo_{number}/obs/rgb"] = [number]
            opened[f"data/demo_{number}/actions"] = [number]
        opened["data/demo_3/actions"] = [3]  # without pictures
        opened["data/mask"] = [1]
        opened["data/soft"] = h5py.SoftLink("/data/demo_2")
        opened["data/external"] = h5py.ExternalLink("other.h5", "/")
        opened["elsewhere/dangling"] = h5py.SoftLink("/nowhere")
        opened["elsewhere/a/x"] = [1]
        opened["elsewhere/a/dangling"] = h5py.ExternalLink("gone.h5", "/")
        opened["data/loop"] = h5py.SoftLink("/data")
        opened["what*ever"] = [5]
        opened["a.b/x"] = [1]
        opened["aXb/x"] = [1]
        yield opened


def test_matches_are_in_natural_order(file):
    assert matching_names(file, "data/demo_*/obs/rgb") == {
        ("0",): "data/demo_0/obs/rgb",
        ("2",): "data/demo_2/obs/rgb",
        ("10",): "data/demo_10/obs/rgb",
    }
    assert [*matching_names(file, "/data/demo_*/actions")] == [("0",), ("2",), ("3",), ("10",)]


def test_links_are_followed(file):
    names = matching_names(file, "data/*/obs/rgb")
    assert [*names] == [("demo_0",), ("demo_2",), ("demo_10",), ("external",), ("soft",)]
    assert file[names["soft",]][:].tolist() == [2]
    assert file[names["external",]][:].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("elsewhere/*/x", "elsewhere/dangling"),
        ("elsewhere/d*/x", "elsewhere/dangling"),
        ("*/a/dangling", "elsewhere/a/dangling"),
    ],
)
def test_a_recording_behind_a_link_that_leads_nowhere_is_not_left_out(file, pattern, name):
    with pytest.raises(DatasetNotFoundError, match=f"'{name}' .*leads nowhere"):
        matching_names(file, pattern)
    assert [*matching_names(file, "elsewhere/a*/x")] == [("",)]


def test_several_stars(file):
    assert [*matching_names(file, "dat*/demo_*/*")] == [
        ("a", "0", "actions"), ("a", "2", "actions"), ("a", "3", "actions"),
        ("a", "10", "actions"),
    ]  # fmt: skip
    assert [*matching_names(file, "data/d*_1*/obs/r*b")] == [("emo", "0", "g")]


def test_a_star_is_part_of_one_component_and_dots_are_dots(file):
    assert matching_names(file, "data/*") == {("mask",): "data/mask"}
    assert matching_names(file, "a.b/*") == {("x",): "a.b/x"}
    assert matching_names(file, "*/no") == {}


def test_a_name_may_contain_a_star(file):
    assert not is_pattern(file, "what*ever")
    assert not is_pattern(file, "data/mask")
    assert is_pattern(file, "data/*/actions")


def test_names_that_are_not_utf_8(tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as opened:
        opened[b"g\xff/x"] = [1]
        assert [*matching_names(opened, "g*/x")] == [("\udcff",)]


def test_natural_order():
    names = ["b", "a10", "a2", "a", "a2b1", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a2", "a2b1", "a10", "b"]
