"""What tells a file from another, and files and folders that cannot be looked at."""

import dataclasses
import errno
import os
import re
import time

import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import ArgumentError, UnavailableError
from h5video_data.storage.file_identity import (
    FileIdentity,
    absolute_path,
    check_identity,
    identity_of,
)
from h5video_data.testing import write_video_file


@pytest.mark.parametrize("look", [check_identity, identity_of], ids=lambda look: look.__name__)
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ELOOP])
def test_a_file_that_cannot_be_looked_at_is_named(tmp_path, monkeypatch, look, number):
    path = write_video_file(tmp_path / "a.h5")
    arguments = (path, identity_of(path)) if look is check_identity else (path,)

    def fail(_):
        raise OSError(number, os.strerror(number))  # as `fstat` does, without a name

    monkeypatch.setattr(os, "stat", fail)
    message = f"(?i)cannot access {path}: {os.strerror(number)}"
    with pytest.raises(UnavailableError, match=message):
        look(*arguments)


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(
        UnavailableError, match=r"cannot find the working directory of a.h5: no such"
    ):
        absolute_path("a.h5")
    with pytest.raises(h5v.H5VideoError, match=r"a\.h5"):
        VideoLoader("a.h5")
    with pytest.raises(h5v.H5VideoError, match=r"a\.h5"):
        h5v.inspect("a.h5")


def test_a_pipe_in_the_place_of_a_file_that_was_opened(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    loader = VideoLoader(path)
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(h5v.errors.FileChangedError, match=r"a.h5 was changed or replaced"):
        list(loader)


@pytest.mark.parametrize("wrong", [None, 3, b"a.h5", ["a.h5"]], ids=str)
def test_inspect_of_what_is_no_path(wrong):
    with pytest.raises(ArgumentError, match=r"`path` must be a path. Received: "):
        h5v.inspect(wrong)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


@pytest.mark.parametrize("change", ["size", "mtime", "inode"])
def test_identity(path, tmp_path, change):
    path.write_bytes(b"12345678")
    before = FileIdentity.of(os.stat(path))
    assert before == FileIdentity.of(os.stat(path))
    stat = os.stat(path)
    if change == "inode":
        (tmp_path / "new").write_bytes(b"12345678")
        os.replace(tmp_path / "new", path)
    elif change == "size":
        path.write_bytes(b"1234567")
    moved = stat.st_mtime_ns + (change == "mtime")
    os.utime(path, ns=(stat.st_atime_ns, moved))
    assert before != FileIdentity.of(os.stat(path))


CHANGES = {
    "size": ({"num_bytes": 7}, "size from 100 to 7 bytes"),
    "time": (
        {"modified_ns": 86_401_000_000_500},
        "modification time from 1970-01-01 00:00:01.000000000 to 1970-01-02 00:00:01.000000500",
    ),
    "size and time": (
        {"num_bytes": 7, "modified_ns": 1_000_000_001},
        "size from 100 to 7 bytes, modification time from .* to 1970-01-01 00:00:01.000000001",
    ),
    "inode": ({"inode": 3, "num_bytes": 7}, "it is another file"),
    "device": ({"device": 3}, "it is another file"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_tells_a_file_from_another(monkeypatch, change, message):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    before = FileIdentity(device=1, inode=2, num_bytes=100, modified_ns=1_000_000_000)
    assert re.fullmatch(message, before.changes(dataclasses.replace(before, **change)))
    monkeypatch.undo()
    time.tzset()
