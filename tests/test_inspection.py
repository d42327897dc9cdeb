import json

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.testing import write_video_file

CASES = {
    "contiguous": ({}, "direct", 1.0, ""),
    "one_sample_chunks": ({"chunks": (1, 4, 3, 8, 8), "compression": "gzip"}, "direct", 1.0, ""),
    "many_sample_chunks": ({"chunks": (10, 4, 3, 8, 8)}, "direct", 1.0, ""),
    "many_compressed": (
        {"chunks": (10, 4, 3, 8, 8), "compression": "gzip"},
        "chunks",
        10.0,
        "read_ahead_bytes=15360 or more decodes each chunk once",
    ),
    "cut_rows": ({"chunks": (1, 4, 3, 8, 5), "compression": "lzf"}, "chunks", 10 / 8, ""),
    "edge": ({"chunks": (1, 3, 3, 8, 8), "compression": "gzip"}, "direct", 6 / 4, ""),
    "big_chunks": (
        {"chunks": (1, 8, 3, 8, 8), "maxshape": (None,) * 5, "compression": "gzip"},
        "direct",
        2.0,
        "store it anew: h5video-data repack {file} {fast} (it then takes 15.0 KiB",
    ),
    "scale_offset": (
        {"chunks": (1, 4, 3, 8, 8), "scaleoffset": 8},
        "h5py",
        1.0,
        "store it anew to have it read directly: h5video-data repack {file} {fast} (",
    ),
    "big_endian": ({"dtype": ">u2"}, "direct", 1.0, ""),
    "external": (
        {"external": [("raw.bin", 0, h5py.h5f.UNLIMITED)]},
        "h5py",
        1.0,
        "store it anew to have it read directly: h5video-data repack {file} {fast}",
    ),
    "floats": ({"dtype": "float32"}, "direct", 1.0, "uint8 takes a 4th"),
}


@pytest.mark.parametrize(("options", "path", "amplification", "advice"), CASES.values(), ids=CASES)
def test_each_layout(tmp_path, monkeypatch, options, path, amplification, advice):
    monkeypatch.chdir(tmp_path)  # external files are looked for from there
    file = write_video_file(tmp_path / "a.h5", **options)
    whole = h5v.inspect(file)
    assert whole.call is None
    report = whole.datasets[0]
    assert (report.name, report.path) == ("X", path)
    assert report.read_amplification == pytest.approx(amplification)
    assert bool(report.reason) == (path != "direct")
    advice = advice.format(file=file, fast=tmp_path / "a_fast.h5")
    assert advice in " ".join(report.advice)
    assert bool(report.advice) == bool(advice)


def test_report_of_a_whole_file(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(file, "a") as opened:
        opened.attrs["class_names"] = ["a", "b", "c", "d"]
        opened["group/names"] = np.array([b"x", b"y"], dtype=object)
        opened["scalar"] = 3
        opened["elsewhere"] = h5py.SoftLink("/X")
        opened["nowhere"] = h5py.SoftLink("/Z")
    report = h5v.inspect(file)
    assert report.sample_count == 20
    assert report.call is None
    assert report.class_names == ("a", "b", "c", "d")
    assert {item.name: item.path for item in report.datasets} == {
        "X": "direct",
        "Y": "memory",
        "group/names": "memory",
        "scalar": "none",
        "elsewhere": "direct",
    }
    assert report.nbytes == (tmp_path / "a.h5").stat().st_size
    assert report.problems == ("the link 'nowhere' leads to '/Z', which does not exist",)
    text = str(report)
    assert "X: (20, 4, 3, 8, 8) uint8, 15.0 KiB" in text
    assert "classes (a, b, c, d)" in text
    assert "read by   memory: strings, which `y` reads as class numbers" in text
    assert json.loads(json.dumps(report.to_dict()))["datasets"][0]["shape"] == [20, 4, 3, 8, 8]


def test_problems_are_told_not_raised(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(file, "a") as opened:
        opened.attrs["sample_count"] = 21
    assert "must be between 0 and 20" in h5v.inspect(file).problems[0]
    with h5py.File(tmp_path / "b.h5", "w"):
        pass
    assert h5v.inspect(tmp_path / "b.h5").problems == ("it holds no dataset",)


def test_links_have_the_names_that_are_to_be_given(tmp_path):
    write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(tmp_path / "links.h5", "w") as opened:
        opened["set/clips"] = h5py.ExternalLink("a.h5", "/X")
        opened["set/again"] = h5py.SoftLink("/set")
        opened["all"] = h5py.ExternalLink("a.h5", "/")
        opened["here"] = h5py.SoftLink("/")
        opened["gone"] = h5py.ExternalLink("gone.h5", "/X")
        opened["loop"] = h5py.SoftLink("/loop")
    report = h5v.inspect(tmp_path / "links.h5")
    names = [item.name for item in report.datasets]
    assert sorted(names) == ["all/X", "all/Y", "set/clips"]
    for name in names:
        assert h5v.VideoLoader(tmp_path / "links.h5", x=name, y=None).num_samples == 20
    gone = "the link 'gone' leads to '/X' in 'gone.h5', which does not exist or cannot be opened"
    assert set(report.problems) == {gone, "the link 'loop' leads to '/loop', which does not exist"}


def test_dtypes_that_are_not_supported(tmp_path):
    three_bytes = h5py.h5t.STD_U32LE.copy()
    three_bytes.set_precision(24)
    three_bytes.set_size(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"X", three_bytes, h5py.h5s.create_simple((5, 4)))
        file["Y"] = np.zeros(5, np.longdouble)
        file["date"] = np.zeros(5, h5py.opaque_dtype(np.dtype("M8[s]")))
        file["names"] = ["a", "b"]
    report = h5v.inspect(tmp_path / "a.h5")
    assert {item.name: (item.dtype, item.reason) for item in report.datasets} == {
        "X": ("unknown", "its dtype is not supported"),
        "Y": (np.dtype(np.longdouble).name, "its dtype is not supported"),
        "date": ("datetime64[s]", "its values are not numbers"),
        "names": ("string", "strings, which `y` reads as class numbers"),
    }
    assert report.datasets[0].nbytes == 5 * 4 * 3
    assert "X: (5, 4) unknown, 60 bytes" in str(report)
