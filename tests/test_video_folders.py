from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from test_pack import cut, files_in, numbered, reasons, write_video

from h5video_data.errors import ArgumentError, ReadError
from h5video_data.tools.pack import pack


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
    with pytest.raises(ArgumentError, match=r"`out` must not be one of the files .*Received: out="):
        pack(videos, videos / name, num_frames=3, overwrite=True)
    assert (videos / name).read_bytes() == before


def test_what_was_packed_into_the_folder_is_replaced(videos):
    pack(videos, videos / "out.h5", num_frames=3)
    report = pack(videos, videos / "out.h5", num_frames=3, overwrite=True)
    assert report.num_samples == 2
    assert reasons(report) == {"out.h5": "is in no class folder"}
