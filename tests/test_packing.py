"""What `pack` makes of videos and folders that are not simple, and the files around it."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction

import av
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_types import write_long_integers
from pack_helpers import contents, files_in, numbered, numbers, reasons, write_video

import h5video_data as h5v
from h5video_data.errors import (
    ArgumentError,
    FileFormatError,
    PackingError,
    ReadError,
    VideoFileNotFoundError,
)
from h5video_data.tools.cli import main
from h5video_data.tools.pack import pack
from h5video_data.tools.packing import decoding, row_files
from h5video_data.tools.packing.clip_rules import ClipRule, regular_frames, usual_interval
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.tools.packing.videos import cut_scenes

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(rows=32, columns=48):
    """Red, green above blue, white."""
    picture = np.zeros((rows, columns, 3), np.uint8)
    top, left = slice(0, rows // 2), slice(0, columns // 2)
    bottom, right = slice(rows // 2, None), slice(columns // 2, None)
    picture[top, left], picture[top, right] = RED, GREEN
    picture[bottom, left], picture[bottom, right] = BLUE, WHITE
    return picture


def write_shown(path, pictures, *, rotation=None, aspect=None, stamps=None, hflip=False):
    """Writes pictures as they are stored, and how they are shown; stamps are milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb24"
        if aspect is not None:
            stream.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def first_picture(folder, **options):
    pack(folder, folder.parent / "out.h5", num_frames=1, overwrite=True, **options)
    data, _ = contents(folder.parent / "out.h5")
    return np.moveaxis(data["X"][0, 0].astype(int), 0, -1), data


def assert_close(found, expected, most=40):
    # Not next to the edges, where scaling mixes colours.
    rows, columns = expected.shape[:2]
    for row in (0.25, 0.75):
        for column in (0.25, 0.75):
            at = int(rows * row), int(columns * column)
            assert np.abs(found[at] - expected[at].astype(int)).max() < most, at


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (180, 2), (None, 0)])
def test_a_rotated_video_is_packed_upright(tmp_path, rotation, turns):
    stored = np.rot90(corners(), -turns)
    write_shown(tmp_path / "videos/a/v.mp4", [stored] * 2, rotation=rotation)
    found, data = first_picture(tmp_path / "videos", size=(32, 48))
    assert_close(found, corners())
    assert data["source_size"].tolist() == [[32, 48]]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_frames_are_turned_as_exif_says(tmp_path, orientation, turns):
    for number in (1, 2):
        path = tmp_path / f"videos/a/v/{number}.jpg"
        write_video(path, [np.rot90(corners(), -turns)], "mjpeg", "yuvj444p")
        data = path.read_bytes()
        entry = struct.pack("<HHII", 0x112, 3, 1, orientation)
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
        path.write_bytes(
            data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
        )
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=2, size=(32, 48))
    data, _ = contents(tmp_path / "out.h5")
    assert_close(np.moveaxis(data["X"][0, 1].astype(int), 0, -1), corners())


def test_a_mirrored_video(tmp_path):
    write_shown(tmp_path / "videos/a/v.mp4", [corners()[:, ::-1]] * 2, rotation=0, hflip=True)
    found, _ = first_picture(tmp_path / "videos", size=(32, 48))
    assert_close(found, corners())


@pytest.mark.parametrize("turns", [0, 1])
def test_pixels_that_are_not_square(tmp_path, turns):
    stored = np.rot90(corners(48, 96), -turns)[:, ::2]  # each pixel is twice as wide as high
    rotation = 90 * turns or None
    write_shown(tmp_path / "videos/a/v.mkv", [stored] * 2, rotation=rotation, aspect=2)
    found, data = first_picture(tmp_path / "videos", size=(48, 96))
    assert data["source_size"].tolist() == [[48, 96]]
    assert_close(found, corners(48, 96))
    # Square samples show the middle, half of it.
    found, _ = first_picture(tmp_path / "videos", size=(48, 48))
    assert_close(found, corners(48, 48))


def test_fits(tmp_path):
    write_video(tmp_path / "videos/a/v.mkv", [corners(32, 64)] * 2)
    found, _ = first_picture(tmp_path / "videos", size=(64, 64), fit="letterbox")
    assert found[:16].max() == found[48:].max() == 0
    assert_close(found[16:48], corners(32, 64))
    found, _ = first_picture(tmp_path / "videos", size=(64, 64), fit="stretch")
    assert_close(found, corners(64, 64))
    write_video(tmp_path / "videos/a/v.mkv", [corners(64, 32)] * 2)
    found, _ = first_picture(tmp_path / "videos", size=(64, 64), fit="letterbox")
    assert found[:, :16].max() == found[:, 48:].max() == 0
    assert_close(found[:, 16:48], corners(64, 32))


SHORT = {
    "loop": ("loop", 1, [0, 1, 2, 0, 1, 2, 0], None),
    "loop, stride": ("loop", 2, [0, 2, 1, 0, 2, 1, 0], None),
    "pad": ("pad", 1, [0, 1, 2, 0, 0, 0, 0], 3),
    "pad, stride": ("pad", 2, [0, 2, 0, 0, 0, 0, 0], 2),
}


@pytest.mark.parametrize("case", SHORT.values(), ids=SHORT)
def test_short_videos(tmp_path, case):
    short, stride, expected, length = case
    write_video(tmp_path / "videos/a/long.mkv", numbered(20))
    write_video(tmp_path / "videos/a/short.mkv", numbered(3))
    out = tmp_path / "out.h5"
    report = pack(tmp_path / "videos", out, num_frames=7, stride=stride, short=short)
    data, _ = contents(out)
    assert report.num_samples == 2
    assert numbers(data["X"])[1] == expected
    if length is None:
        assert "length" not in data
    else:
        assert data["length"].tolist() == [7, length]
        assert data["X"][1, length:].max() == 0


def test_uniform(tmp_path):
    write_video(tmp_path / "videos/a/v.mkv", numbered(40))
    write_video(tmp_path / "videos/a/w.mkv", numbered(4))
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=4, uniform=True)
    assert numbers(contents(tmp_path / "out.h5")[0]["X"]) == [[5, 15, 25, 35], [0, 1, 2, 3]]
    with pytest.raises(ArgumentError, match=r"without `stride`.*uniform=True, stride=2"):
        pack(tmp_path / "videos", tmp_path / "b.h5", uniform=True, stride=2)


# Time stamps


def test_variable_frame_rate_goes_by_time_stamps(tmp_path):
    stamps = [0, 40, 80, 120, 280, 320, 360, 400]  # frame 3 is shown for 4 intervals
    write_shown(tmp_path / "videos/a/v.mkv", numbered(8), stamps=stamps)
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=11)
    data, _ = contents(tmp_path / "out.h5")
    assert numbers(data["X"]) == [[0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7]]
    pack(tmp_path / "videos", tmp_path / "b.h5", num_frames=2, stride=5, clips_per_video=9)
    data, _ = contents(tmp_path / "b.h5")
    assert numbers(data["X"]) == [[0, 3], [1, 3], [2, 4], [3, 5], [3, 6], [3, 7]]
    np.testing.assert_allclose(data["start_time"], [0, 0.04, 0.08, 0.12, 0.12, 0.12])


def test_videos_are_brought_to_a_frame_rate(tmp_path):
    write_video(tmp_path / "videos/a/25.mkv", numbered(26))
    write_video(tmp_path / "videos/a/5.mkv", numbered(6), rate=5)
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=11, frame_rate=10)
    expected = [[0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]]
    assert numbers(contents(tmp_path / "out.h5")[0]["X"]) == expected


@given(st.integers(1, 400), st.sampled_from([10, 23.976, 25, 29.97, 30, 59.94, 60, 120]))
def test_rounded_stamps_of_a_constant_rate_are_constant(count, rate):
    times = np.round(np.arange(count) / rate, 3)
    assert usual_interval(times) is None
    assert regular_frames(times, None)[0].tolist() == list(range(count))


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50), st.sampled_from([None, 1.0, 30.0]))
def test_regular_frames_laws(gaps, rate):
    times = np.cumsum(gaps)
    shown, seconds = regular_frames(times, rate)
    assert len(shown) == len(seconds) >= 1
    assert (np.diff(shown) >= 0).all()
    assert shown[0] >= 0
    assert shown[-1] < len(times)
    assert seconds[0] == 0


def test_a_clip_rule_is_pure():
    rule = ClipRule(3, stride=2, clips_per_video=2)
    clips = rule.choose(np.arange(10) / 25)
    assert [clip.frames.tolist() for clip in clips] == [[0, 2, 4], [5, 7, 9]]


# Folders and tables


def test_folders_of_frames(tmp_path):
    for number, picture in enumerate(numbered(11), 1):
        path = tmp_path / f"videos/a/v/{number}.png"  # 10 comes behind 9
        write_video(path, [picture], "png", "rgb24")
    write_video(tmp_path / "videos/a/w.mkv", numbered(5))
    (tmp_path / "videos/a/v/notes.txt").write_text("hello")
    report = pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=5, clips_per_video=2)
    data, _ = contents(tmp_path / "out.h5")
    assert data["source"].tolist() == [b"a/v", b"a/v", b"a/w.mkv"]
    assert numbers(data["X"]) == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10], [0, 1, 2, 3, 4]]
    assert np.isnan(data["frame_rate"][0])
    assert list(reasons(report)) == ["a/v/notes.txt"]
    # With one frame a sample, each picture is one.
    report = pack(tmp_path / "videos", tmp_path / "b.h5", num_frames=1)
    assert report.num_videos == 12
    (tmp_path / "videos/a/v/4.png").write_bytes(b"")
    report = pack(tmp_path / "videos", tmp_path / "c.h5", num_frames=5)
    assert reasons(report)["a/v"].startswith("has a frame that cannot be read: 4.png is not a")


def test_a_part_of_a_folder_of_frames_needs_a_frame_rate(tmp_path):
    for number, picture in enumerate(numbered(6)):
        write_video(tmp_path / f"v/{number}.png", [picture], "png", "rgb24")
    table = tmp_path / "list.csv"
    table.write_text("path,start,end\nv,0.2,0.5\n")
    message = "has no time stamps, which start, end .*; for a folder of frames, give `frame_rate`"
    with pytest.raises(PackingError, match=message):
        pack(table, tmp_path / "out.h5", num_frames=3)
    pack(table, tmp_path / "out.h5", num_frames=3, frame_rate=10.0)
    assert numbers(contents(tmp_path / "out.h5")[0]["X"]) == [[2, 3, 4]]


def test_scenes_that_are_cut_from_a_video(tmp_path):
    write_video(tmp_path / "v.mkv", numbered(11, rows=36, columns=64))
    assert cut_scenes(tmp_path / "v.mkv", tmp_path / "scenes/v", 4) == 2
    assert files_in(tmp_path / "scenes/v") == ["scene_00.mkv", "scene_01.mkv"]
    report = pack(tmp_path / "scenes", tmp_path / "out.h5", num_frames=4, size=(144, 256))
    assert report.skipped == ()
    data, _ = contents(tmp_path / "out.h5")
    assert numbers(data["X"]) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert data["frame_rate"].tolist() == [25, 25]


def test_videos_without_classes(tmp_path):
    write_video(tmp_path / "videos/b/c/v.mkv", numbered(5))
    write_video(tmp_path / "videos/a.mkv", numbered(4))
    report = pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=3, labels=None)
    data, attributes = contents(tmp_path / "out.h5")
    assert "Y" not in data
    assert "class_names" not in attributes
    assert data["source"].tolist() == [b"a.mkv", b"b/c/v.mkv"]
    assert (report.class_names, report.num_samples) == ((), 2)


def test_class_numbers(tmp_path):
    write_video(tmp_path / "videos/b/v.mkv", numbered(5))
    write_video(tmp_path / "videos/a/v.mkv", numbered(5))
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=3, labels="numbers")
    data, attributes = contents(tmp_path / "out.h5")
    assert (data["Y"].dtype, data["Y"].tolist()) == (np.int64, [0, 1])
    assert attributes["class_names"] == ["a", "b"]


@pytest.fixture
def listed(tmp_path):
    write_video(tmp_path / "here/v.mkv", numbered(30))
    write_video(tmp_path / "here/w.mkv", numbered(10))
    return tmp_path / "list.csv"


def test_a_table(listed):
    listed.write_text(
        "path,label,start,end,group,split\n"
        "here/v.mkv,run,0.4,0.8,p1,train\n"
        "here/w.mkv,walk,,,p2,validation\n"
        "here/none.mkv,walk,,,p2,validation\n"
        "here/v.mkv,walk,0.0,0.4,p1,train\n"
        "here/v.mkv,walk,5,6,p1,train\n"
    )
    report = pack(listed, listed.parent / "out.h5", num_frames=10)
    data, attributes = contents(listed.parent / "out.h5")
    assert numbers(data["X"]) == [list(range(10)), list(range(10, 20)), list(range(10))]
    assert data["Y"].argmax(axis=1).tolist() == [1, 0, 1]
    assert attributes["class_names"] == ["run", "walk"]
    assert data["group"].tolist() == [b"p1", b"p1", b"p2"]
    assert data["split"].tolist() == [b"train", b"train", b"validation"]
    assert data["start_frame"].tolist() == [0, 10, 0]
    assert reasons(report) == {"here/none.mkv": "cannot be opened: No such file or directory"}


TABLES = {
    "no path": ("file,label\na,b\n", r"the columns must be path and any of .*: file, label"),
    "no seconds": ("path,start\nhere/v.mkv,x\n", r"row 1: start must be seconds.*start='x'"),
    "backwards": ("path,start,end\nhere/v.mkv,2,1\n", r"row 1: start must be before end"),
    "ragged": ("path,label\nhere/v.mkv\n", r"row 1: expected 2 values"),
    "no name": ("path,label\n,a\n", r"list.csv, row 1: the path is empty"),
    "large": ("path,label\nhere/v.mkv,1000000\n", r"classes from 0 on\. Received: 1000000"),
    "half": ("path,label\nhere/v.mkv,a\nhere/w.mkv,\n", r"or none may\. Without: row 2"),
}


@pytest.mark.parametrize("case", TABLES.values(), ids=TABLES)
def test_wrong_tables(listed, case):
    text, message = case
    listed.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        pack(listed, listed.parent / "out.h5")


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(VideoFileNotFoundError, match=r"There is no table .*none\.csv"):
        pack(tmp_path / "none.csv", tmp_path / "out.h5")


@pytest.mark.parametrize("options", [{"num_frames": 2}, {"layout": "recordings"}], ids=str)
def test_parts_beyond_the_end_of_a_video(listed, options):
    listed.write_text("path,start,end\nhere/w.mkv,5,6\nhere/v.mkv,0,0.4\n")
    report = pack(listed, listed.parent / "out.h5", **options)
    assert reasons(report) == {"here/w.mkv": "has no clip between start and end: it has 10 frames"}


@pytest.mark.parametrize("frame_rate", [0, -1.0, float("inf"), float("nan"), "25"])
def test_what_is_no_frame_rate(tmp_path, frame_rate):
    with pytest.raises(ArgumentError, match=r"more than 0\. Received: frame_rate="):
        pack(tmp_path, tmp_path / "out.h5", frame_rate=frame_rate)


def test_a_table_with_class_numbers(listed):
    listed.write_text("path,label\nhere/v.mkv,2\nhere/w.mkv,0\n")
    report = pack(listed, listed.parent / "out.h5", num_frames=5, labels="numbers")
    assert contents(listed.parent / "out.h5")[0]["Y"].tolist() == [2, 0]
    assert report.samples_per_class == (1, 0, 1)


def test_recordings(tmp_path):
    write_video(tmp_path / "videos/a/v.mkv", numbered(10))
    write_video(tmp_path / "videos/b/w.mkv", numbered(7))
    out = tmp_path / "out.h5"
    report = pack(tmp_path / "videos", out, layout="recordings", size=(8, 8), stride=2)
    data, attributes = contents(out)
    assert numbers(data["X"][np.newaxis]) == [[0, 2, 4, 6, 8, 0, 2, 4, 6]]
    assert data["length"].tolist() == [5, 4]
    np.testing.assert_allclose(data["frame_time"][:5], np.arange(5) * 2 / 25, atol=1e-3)
    assert "sample_count" not in attributes
    assert report.num_samples == 2
    windows = h5v.Windows(3, bounds="length")
    with h5v.VideoLoader(out, windows=windows, shuffle=False, batch_size=9) as loader:
        x, y = next(iter(loader))
    assert numbers(x) == [[0, 2, 4], [2, 4, 6], [4, 6, 8], [0, 2, 4], [2, 4, 6]]
    assert y.argmax(axis=1).tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(ArgumentError, match=r"without `uniform`.*layout='recordings'"):
        pack(tmp_path / "videos", out, layout="recordings", short="pad", overwrite=True)


# Parallel, and after a kill


@pytest.mark.parametrize("layout", ["clips", "recordings"])
def test_the_number_of_jobs_changes_nothing(tmp_path, monkeypatch, layout):
    monkeypatch.setattr(decoding, "BUFFERED_BYTES", 1000)  # less than one clip
    monkeypatch.setattr(decoding, "PIECE_BYTES", 500)
    for number in range(12):
        write_video(tmp_path / f"videos/a/{number}.mkv", numbered(3 + number * 2))
    for jobs in (1, 5):
        path = tmp_path / f"{jobs}.h5"
        pack(tmp_path / "videos", path, num_frames=4, size=(8, 8), layout=layout, num_jobs=jobs)
    (one, _), (five, _) = contents(tmp_path / "1.h5"), contents(tmp_path / "5.h5")
    for name, values in one.items():
        np.testing.assert_array_equal(values, five[name])


KILLED = """
import os, signal, sys
from h5video_data.tools import pack as packing
read = packing.read_source
def read_source(source, *arguments):
    if source.name == "a/5.mkv":
        import time; time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)
    yield from read(source, *arguments)
packing.read_source = read_source
packing.pack(sys.argv[1], sys.argv[2], num_frames=4, num_jobs=1, compression=eval(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_it_goes_on_after_a_kill(tmp_path, monkeypatch, compression):
    for number in range(9):
        write_video(tmp_path / f"videos/a/{number}.mkv", numbered(5 + number))
    (tmp_path / "videos/a/3.mkv").write_bytes(b"")
    folder, out = str(tmp_path / "videos"), str(tmp_path / "out.h5")
    command = [sys.executable, "-c", KILLED, folder, out, repr(compression)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert files_in(tmp_path) == ["out.h5.partial", "out.h5.partial.journal", "videos"]
    read = []
    read_source = decoding.read_source

    def record(source, *arguments):
        read.append(source.name)
        return read_source(source, *arguments)

    monkeypatch.setattr("h5video_data.tools.pack.read_source", record)
    report = pack(folder, out, num_frames=4, compression=compression)
    assert sorted(read) == [f"a/{n}.mkv" for n in (5, 6, 7, 8)]
    assert list(reasons(report)) == ["a/3.mkv"]
    assert files_in(tmp_path) == ["out.h5", "videos"]
    pack(folder, tmp_path / "whole.h5", num_frames=4, compression=compression)
    found, expected = contents(out), contents(tmp_path / "whole.h5")
    assert found[1] == expected[1]
    for name, values in expected[0].items():
        np.testing.assert_array_equal(found[0][name], values)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["arguments", "video", "bytes", "end"])
def test_it_does_not_go_on_with_what_has_changed(tmp_path, change):
    for number in range(7):
        write_video(tmp_path / f"videos/a/{number}.mkv", numbered(5 + number))
    folder, out = str(tmp_path / "videos"), str(tmp_path / "out.h5")
    subprocess.run([sys.executable, "-c", KILLED, folder, out, "None"], check=False)
    stride = 2 if change == "arguments" else 1
    if change == "video":
        write_video(tmp_path / "videos/a/0.mkv", numbered(20))
        os.utime(tmp_path / "videos/a/0.mkv", (time.time() + 9,) * 2)
    if change == "bytes":
        data = bytearray((tmp_path / "out.h5.partial").read_bytes())
        data[-100_000] ^= 255
        (tmp_path / "out.h5.partial").write_bytes(data)
    if change == "end":
        os.truncate(tmp_path / "out.h5.partial", 5000)
    pack(folder, out, num_frames=4, stride=stride)
    pack(folder, tmp_path / "whole.h5", num_frames=4, stride=stride)
    found, expected = contents(out)[0], contents(tmp_path / "whole.h5")[0]
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def write_rows(rows, before_the_end=lambda: None):
    with rows.opened():
        rows.append(np.arange(8, dtype=np.uint8).reshape(2, 4))
        rows.commit({})
        before_the_end()
        rows.finish("X", lambda _: None)


def test_rows_that_are_not_where_they_were_written(tmp_path, monkeypatch):
    packed = RowFile(tmp_path / "a.h5", (4,), compression="gzip")
    with pytest.raises(OSError, match=r"a\.h5\.partial ends early"):
        write_rows(packed, lambda: os.truncate(tmp_path / "a.h5.partial", 1))
    with pytest.raises(TypeError, match="rows are not encoded"):
        packed.encoded_dtype()
    monkeypatch.setattr(row_files, "_first_address", lambda *_: 8192)
    with pytest.raises(PackingError, match=r"has put the rows at .*, and they begin at 8192\. N"):
        write_rows(RowFile(tmp_path / "b.h5", (4,)))
    assert files_in(tmp_path) == []


def test_two_processes_do_not_write_one_file(tmp_path):
    def samples():
        yield np.zeros((2, 4))
        with pytest.raises(ArgumentError, match=r"Another process is writing `path`\. .*path="):
            h5v.write_videos(tmp_path / "a.h5", np.ones((3, 2, 4)))
        yield np.zeros((2, 4))

    assert h5v.write_videos(tmp_path / "a.h5", samples()) == 2
    assert contents(tmp_path / "a.h5")[0]["X"].shape == (2, 2, 4)
    assert files_in(tmp_path) == ["a.h5"]


# read_video and write_videos


@pytest.mark.parametrize(
    "options",
    [
        {"num_frames": 4, "stride": 2, "clips_per_video": 2},
        {"num_frames": 40, "short": "loop", "fit": "letterbox", "size": (20, 30)},
        {"num_frames": 5, "uniform": True, "fit": "stretch", "size": (9, 8)},
        {"num_frames": 5, "frame_rate": 10.0},
        {"layout": "recordings", "stride": 3},
    ],
)
def test_a_video_is_read_like_those_of_a_file(tmp_path, options):
    path = write_video(tmp_path / "videos/a/v.mkv", numbered(25, 16, 32))
    pack(tmp_path / "videos", tmp_path / "out.h5", **options)
    found = h5v.read_video(path, like=tmp_path / "out.h5")
    expected = contents(tmp_path / "out.h5")[0]["X"]
    np.testing.assert_array_equal(found, expected[np.newaxis] if expected.ndim == 4 else expected)


def test_a_video_is_read_like_channels_last(tmp_path):
    path = write_video(tmp_path / "v.mkv", numbered(9))
    h5v.write_videos(tmp_path / "a.h5", np.zeros((2, 4, 8, 10, 3), np.uint8))
    found = h5v.read_video(path, like=tmp_path / "a.h5", clips_per_video=2)
    assert found.shape == (2, 4, 8, 10, 3)
    assert numbers(np.moveaxis(found, -1, 2)) == [[0, 1, 2, 3], [5, 6, 7, 8]]
    write_video(tmp_path / "short.mkv", numbered(3))
    with pytest.raises(ReadError, match=r"short\.mkv is too short: it has 3 frames"):
        h5v.read_video(tmp_path / "short.mkv", like=tmp_path / "a.h5")
    h5v.write_videos(tmp_path / "f.h5", np.zeros((2, 4, 3, 8, 8), np.float32))
    with pytest.raises(FileFormatError, match=r"must be uint8.*float32"):
        h5v.read_video(path, like=tmp_path / "f.h5")


def test_what_cannot_be_read_like_a_file(tmp_path):
    like = tmp_path / "a.h5"
    h5v.write_videos(like, np.zeros((2, 4, 8, 10, 3), np.uint8))
    with h5py.File(like, "a") as file:
        file["depth"] = np.zeros((2, 4, 5, 8, 8), np.uint8)
        write_long_integers(file, "long", (2, 4, 3, 8, 8))
    folder = tmp_path / "folder"
    folder.mkdir()
    for error, path, options, message in (
        (VideoFileNotFoundError, tmp_path / "no.mkv", {}, "There is no video .*no.mkv"),
        (ReadError, folder, {}, "is a folder without numbered pictures"),
        (ArgumentError, folder, {"speed": 3}, "has no option `speed`. It has: num_frames"),
        (FileFormatError, folder, {"x": "depth"}, r"'depth' must be .*Received: shape \(2, 4, 5"),
        (FileFormatError, folder, {"x": "long"}, "'/long' has a dtype that h5py does not support"),
    ):
        with pytest.raises(error, match=message):
            h5v.read_video(path, like=like, **options)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("dtype", ["u1", "f4", ">u2", "f2"])
def test_write_videos(tmp_path, compression, dtype):
    x = np.random.default_rng(0).integers(0, 200, (7, 3, 3, 8, 8)).astype(dtype)
    y = np.eye(7, dtype=np.float32)
    count = h5v.write_videos(tmp_path / "a.h5", iter(x), iter(y), compression=compression)
    data, attributes = contents(tmp_path / "a.h5")
    assert count == attributes["sample_count"] == 7
    assert data["X"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(data["X"], x)
    np.testing.assert_array_equal(data["Y"], y)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["X"].chunks == (None if compression is None else (1, 3, 3, 8, 8))
    with h5v.VideoLoader(tmp_path / "a.h5", shuffle=False, batch_size=7) as loader:
        np.testing.assert_array_equal(next(iter(loader))[0], x)


def test_write_videos_with_names_of_classes(tmp_path):
    h5v.write_videos(tmp_path / "a.h5", np.zeros((3, 2, 4, 4, 3), np.uint8), ["run", "eat", "run"])
    data, attributes = contents(tmp_path / "a.h5")
    assert data["Y"].tolist() == [1, 0, 1]
    assert attributes["class_names"] == ["eat", "run"]


WRONG = {
    "none": ([], None, r"a sample or more"),
    "shapes": ([np.zeros((2, 3)), np.zeros((2, 4))], None, r"Sample 1 must be like .*\(2, 4\)"),
    "dtypes": ([np.zeros(2), np.zeros(2, np.uint8)], None, r"Sample 1 .* uint8"),
    "labels": (np.zeros((2, 3)), [1], r"for each sample\. Received: 2 samples, 1 label"),
    "texts": (["a", "b"], None, r"arrays of numbers"),
    "complex": (np.zeros((2, 3)), [1j, 2], r"`labels` must be numbers.*: dtype complex128"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_write_videos_errors(tmp_path, case):
    arrays, labels, message = case
    with pytest.raises(ArgumentError, match=message):
        h5v.write_videos(tmp_path / "a.h5", arrays, labels)
    assert files_in(tmp_path) == []


def test_write_videos_streams(tmp_path):
    alive = []

    def samples():
        for number in range(5):
            alive.append((tmp_path / "a.h5.partial").stat().st_size if number > 1 else 0)
            yield np.full((100, 1000), number)

    h5v.write_videos(tmp_path / "a.h5", samples())
    assert alive[-1] >= 3 * 800_000


# The command line


def test_pack_on_the_command_line(tmp_path, capsys):
    write_video(tmp_path / "videos/a/v.mkv", numbered(9))
    (tmp_path / "videos/a/bad.mkv").write_bytes(b"")
    out = str(tmp_path / "out.h5")
    command = ["pack", str(tmp_path / "videos"), out, "--frames", "20", "--size", "8"]
    command += ["--short", "pad", "--fit", "letterbox", "--jobs", "1", "--labels", "numbers"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_samples"] == 1
    assert printed["skipped"].keys() == {"a/bad.mkv"}
    assert contents(out)[0]["length"].tolist() == [9]
    assert main([*command, "--quiet", "--overwrite"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*command, "--uniform", "--stride", "2", "--overwrite"]) == 1
    assert re.search(r"--uniform spreads .* --stride 2", capsys.readouterr().err)


def test_exit_codes_are_in_the_help(capsys):
    for command in ([], ["pack"], ["repack"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert "exit codes: 0 done; 1 an error" in capsys.readouterr().out.replace("\n", " ")
