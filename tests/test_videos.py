from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_helpers import (
    LOSSLESS,
    contents,
    cut,
    files_in,
    noisy,
    numbered,
    numbers,
    reasons,
    write_video,
)

from h5video_data.errors import ArgumentError, ReadError
from h5video_data.tools.pack import pack
from h5video_data.tools.packing import videos as video_files
from h5video_data.tools.packing.fitting import FrameForm, place


@pytest.fixture
def videos(tmp_path):
    """Two classes, with a video each."""
    write_video(tmp_path / "videos/b run/1.mkv", numbered(10))
    write_video(tmp_path / "videos/a walk/2.mkv", numbered(12))
    return tmp_path / "videos"


def bind(path):
    # The name of a socket may not be long.
    here = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


NO_FILES = {
    "pipe": (os.mkfifo, r"is not a file, but a pipe, a socket or a device"),
    "socket": (bind, r"is not a file, but a pipe, a socket or a device"),
    "link to a pipe": (
        lambda p: (os.mkfifo(p.with_name(".pipe")), p.symlink_to(".pipe")),
        r"is not a file, but a pipe, a socket or a device",
    ),
    "link to a device": (lambda p: p.symlink_to("/dev/zero"), r"is not a file, but a pipe"),
    "link to a folder": (
        lambda p: p.symlink_to("../a walk"),
        r"is a link to a folder, which is not followed",
    ),
    "circle": (lambda p: p.symlink_to(p.name), r"cannot be opened: Too many levels"),
}


@pytest.mark.parametrize("case", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_listed(videos, case):
    make, reason = case
    make(videos / "b run/v.mkv")
    report = pack(videos, videos.parent / "out.h5", num_frames=3)
    assert list(reasons(report)) == ["b run/v.mkv"]
    assert report.skipped[0].reason.startswith(reason)
    assert report.samples_per_class == (1, 1)


def test_a_video_that_may_not_be_read(videos, monkeypatch):
    open_path = Path.open

    def refuse(self, *arguments, **options):
        if self.name == "1.mkv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return open_path(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    report = pack(videos, videos.parent / "out.h5", num_frames=3)
    assert reasons(report) == {"b run/1.mkv": "cannot be opened: Permission denied"}


@pytest.mark.parametrize("name", ["b run", "b run/more/deep"])
def test_a_folder_that_cannot_be_read(videos, monkeypatch, name):
    (videos / "b run/more/deep").mkdir(parents=True)
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) == os.fspath(videos / name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ReadError, match=rf"{name} cannot be read: Permission denied\. Nothing was"):
        pack(videos, videos.parent / "out.h5", num_frames=3)
    assert files_in(videos.parent) == ["videos"]


def test_the_folder_itself_cannot_be_read(videos, monkeypatch):
    def refuse(self):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ReadError, match=r"videos cannot be read: Input/output error"):
        pack(videos, videos.parent / "out.h5")


def link_to(name):
    return lambda folder: (folder / "out.mkv").symlink_to(name)


OWN = {
    "video": (None, "b run/1.mkv"),
    "link to it": (link_to("b run/1.mkv"), "out.mkv"),
    "hard link": (lambda p: os.link(p / "b run/1.mkv", p / ".out.mkv"), ".out.mkv"),
    "other way": (None, "b run/../b run/1.mkv"),
    "damaged": (lambda p: cut(p / "b run/1.mkv", 0.1), "b run/1.mkv"),
    "in no class": (lambda p: write_video(p / "z.mkv", numbered(3)), "z.mkv"),
}


@pytest.mark.parametrize("case", OWN.values(), ids=OWN)
def test_no_video_is_replaced(videos, case):
    prepare, name = case
    if prepare is not None:
        prepare(videos)
    before = (videos / name).read_bytes()
    with pytest.raises(ArgumentError, match=r"`out` must not be a file that is read.*: out="):
        pack(videos, videos / name, num_frames=3, overwrite=True)
    assert (videos / name).read_bytes() == before


def test_what_was_packed_into_the_folder_is_replaced(videos):
    pack(videos, videos / "out.h5", num_frames=3)
    report = pack(videos, videos / "out.h5", num_frames=3, overwrite=True)
    assert report.num_samples == 2
    assert reasons(report) == {"out.h5": "is in no class folder"}


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


BOXES = {
    "same": (112, 112, (112, 112), (112, 112), (0, 112), (0, 112)),
    "wide": (240, 320, (112, 112), (112, 149), (0, 112), (18, 130)),
    "tall": (320, 240, (112, 112), (149, 112), (18, 130), (0, 112)),
    "wide to wide": (100, 400, (50, 200), (50, 200), (0, 50), (0, 200)),
    "enlarged": (10, 20, (40, 40), (40, 80), (0, 40), (20, 60)),
    "rounding leaves enough": (333, 1000, (111, 333), (111, 333), (0, 111), (0, 333)),
}


@pytest.mark.parametrize("case", BOXES.values(), ids=BOXES)
def test_crop_box(case):
    rows, columns, size, scaled, vertical, horizontal = case
    placement = place(rows, columns, FrameForm(size))
    assert placement[:2] == (scaled, (slice(*vertical), slice(*horizontal)))
    assert placement.filled == (slice(0, size[0]), slice(0, size[1]))


@given(*[st.integers(1, 2000)] * 2, st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_crop_box_is_inside_the_picture(rows, columns, size):
    scaled, box, _ = place(rows, columns, FrameForm(size))
    assert scaled[0] == size[0] or scaled[1] == size[1]
    for part, wanted, whole in zip(box, size, scaled, strict=True):
        assert part.start >= 0
        assert part.stop <= whole
        assert part.stop - part.start == wanted


CLIPS = {
    "centred": ({"num_frames": 4}, [[13, 14, 15, 16]]),
    "stride": ({"num_frames": 4, "stride": 3}, [[10, 13, 16, 19]]),
    "ends": ({"num_frames": 3, "stride": 2, "clips_per_video": 2}, [[0, 2, 4], [25, 27, 29]]),
    "overlap": (
        {"num_frames": 14, "stride": 2, "clips_per_video": 3},
        [list(range(start, start + 27, 2)) for start in (0, 1, 3)],
    ),
    "all": ({"num_frames": 1, "clips_per_video": 99}, [[n] for n in range(30)]),
    "whole": ({"num_frames": 30}, [list(range(30))]),
}


@pytest.mark.parametrize("case", CLIPS.values(), ids=CLIPS)
def test_samples_hold_the_frames_that_start_frame_says(tmp_path, case):
    arguments, expected = case
    write_video(tmp_path / "videos/a/v.mkv", numbered(30))
    pack(tmp_path / "videos", tmp_path / "out.h5", size=(8, 8), **arguments)
    data, _ = contents(tmp_path / "out.h5")
    assert numbers(data["X"]) == expected
    assert data["start_frame"].tolist() == [frames[0] for frames in expected]


FORMATS = {
    "mp4": ("v.mp4", "mpeg4", "yuv420p"),
    "avi": ("v.avi", "mjpeg", "yuvj420p"),
    "raw": ("v.avi", "rawvideo", "bgr24"),
    "mkv": ("v.mkv", *LOSSLESS),
    "gif": ("v.gif", "gif", "rgb8"),
}


@pytest.mark.parametrize("case", FORMATS.values(), ids=FORMATS)
def test_formats(tmp_path, case):
    name, codec, pix_fmt = case
    # Steps of 36 survive the 8 levels of each colour in a GIF.
    pictures = [np.full((32, 32, 3), 36 * n, np.uint8) for n in range(7)]
    write_video(tmp_path / "videos/a" / name, pictures, codec, pix_fmt)
    report = pack(tmp_path / "videos", tmp_path / "out.h5", size=(32, 32), num_frames=7)
    data, _ = contents(tmp_path / "out.h5")
    assert report.skipped == ()
    assert data["X"].shape == (1, 7, 3, 32, 32)
    assert np.rint(data["X"].mean(axis=(0, 2, 3, 4)) / 36).tolist() == list(range(7))
    assert data["frame_rate"].tolist() == [25.0]


def test_metadata_that_is_not_utf8_does_no_harm(tmp_path):
    path = write_video(tmp_path / "videos/a/v.mkv", numbered(5), metadata={"title": "TTTT"})
    path.write_bytes(path.read_bytes().replace(b"TTTT", b"\xff\xfeTT"))
    report = pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=5)
    assert report.skipped == ()


def bars(rows, columns, colours, axis):
    """A picture of equal bars: side by side for axis 1, on top of each other for axis 0."""
    picture = np.zeros((rows, columns, 3), np.uint8)
    parts = np.array_split(np.arange((rows, columns)[axis]), len(colours))
    for part, colour in zip(parts, colours, strict=True):
        picture[(slice(None), part) if axis == 1 else (part,)] = colour
    return picture


def packed_picture(tmp_path, picture, size):
    write_video(tmp_path / "videos/a/v.mkv", [picture] * 2)
    pack(tmp_path / "videos", tmp_path / "out.h5", num_frames=1, size=size)
    data, _ = contents(tmp_path / "out.h5")
    return np.moveaxis(data["X"][0, 0].astype(int), 0, -1)


CROPS = {
    "sides cut": ((32, 96), 1, (16, 16), [GREEN]),
    "top and bottom cut": ((96, 32), 0, (16, 16), [GREEN]),
    "nothing cut, wide": ((32, 96), 1, (16, 48), [RED, GREEN, BLUE]),
    "nothing cut, tall": ((96, 32), 0, (48, 16), [RED, GREEN, BLUE]),
    "sides cut, enlarged": ((8, 24), 1, (64, 64), [GREEN]),
}


@pytest.mark.parametrize("case", CROPS.values(), ids=CROPS)
def test_aspect_ratio_is_kept_and_the_middle_too(tmp_path, case):
    shape, axis, size, expected = case
    picture = packed_picture(tmp_path, bars(*shape, [RED, GREEN, BLUE], axis), size)
    difference = np.abs(picture - bars(*size, expected, axis).astype(int))
    # Next to an edge scaling mixes two bars, over one pixel of the video.
    inside = np.ones(size, bool)
    for part in np.array_split(np.arange(size[axis]), len(expected)):
        width = max(1, size[0] // shape[0], size[1] // shape[1])
        edge = [*part[:width], *part[-width:]]
        inside[(slice(None), edge) if axis == 1 else (edge,)] = False
    assert difference[inside].max() <= 3


def test_shrinking_averages(tmp_path):
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    picture = packed_picture(tmp_path, np.stack([checkers] * 3, -1).astype(np.uint8), (8, 8))
    assert np.abs(picture - 127.5).max() < 5


def test_text_that_ffmpeg_would_draw_is_no_video():
    container = SimpleNamespace(format=SimpleNamespace(name="tty"))
    with pytest.raises(ReadError, match="is a text file"):
        video_files._video_stream(container)


CUT = {
    "mp4": ("v.mp4", "libx264", "yuv420p", {"movflags": "faststart"}, 40),
    "mp4, mpeg4": ("v.mp4", "mpeg4", "yuv420p", {"movflags": "faststart"}, 40),
    "avi": ("v.avi", "mpeg4", "yuv420p", {}, 40),
    "avi, mjpeg": ("v.avi", "mjpeg", "yuvj420p", {}, 40),
    "avi, raw": ("v.avi", "rawvideo", "bgr24", {}, 40),
    "mkv": ("v.mkv", *LOSSLESS, {}, 0),
}


@pytest.mark.parametrize("case", CUT.values(), ids=CUT)
def test_of_a_file_that_was_cut_off_the_whole_frames_are_used(tmp_path, case):
    name, codec, pix_fmt, options, declared = case
    path = tmp_path / "videos/a" / name
    whole = write_video(path, noisy(40), codec, pix_fmt, options=options)
    arguments = {"num_frames": 1, "clips_per_video": 99, "size": (48, 64)}
    pack(tmp_path / "videos", tmp_path / "whole.h5", **arguments)
    cut(whole, 0.6)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == declared
    report = pack(tmp_path / "videos", tmp_path / "out.h5", **arguments)
    data, attributes = contents(tmp_path / "out.h5")
    expected, _ = contents(tmp_path / "whole.h5")
    assert report.skipped == ()
    assert expected["X"].shape[0] == 40
    assert 5 < attributes["sample_count"] == data["X"].shape[0] < 35
    # Every picture is the one that the whole file has in its place: nothing is made up.
    np.testing.assert_array_equal(data["X"], expected["X"][: len(data["X"])])


def test_the_module_can_be_imported_without_pyav():
    code = (
        "import sys; sys.modules['av'] = sys.modules['tqdm'] = None; import h5video_data.tools.pack"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
