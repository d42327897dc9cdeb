"""Errors of the operating system, limits of descriptors, and paths that are not regular files."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import (
    ArgumentError,
    NotHDF5Error,
    ReadError,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.reading import byte_sources
from h5video_data.storage import descriptors
from h5video_data.storage.descriptors import keep_open, open_descriptor, with_free_descriptors
from h5video_data.storage.file_identity import absolute_path, check_identity, identity_of
from h5video_data.storage.os_errors import read_failure, unavailable
from h5video_data.storage.paths import expand_paths
from h5video_data.testing import sample_values, write_video_file

ONE = (1, 4, 3, 8, 8)
MANY = (4, 4, 3, 8, 8)

# --------------------------------------------------------------------------- whose fault

OF_THE_BYTES = ["EIO", "EBADMSG", "EUCLEAN", "ENODATA", "EILSEQ", "EINVAL", "EOVERFLOW", "EFBIG"]
OF_THE_MACHINE = [
    *("EMFILE", "ENFILE", "ENOMEM", "EACCES", "EPERM", "ESTALE"),
    *("ETIMEDOUT", "ENOTCONN", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH"),
    *("ENETDOWN", "EAGAIN", "ENODEV", "ENXIO", "EBADF", "EREMOTEIO"),
]


@pytest.mark.parametrize("name", OF_THE_BYTES + OF_THE_MACHINE)
def test_whose_fault_an_error_of_the_system_is(name):
    number = getattr(errno, name)
    expected = ReadError if name in OF_THE_BYTES else UnavailableError
    for error in (
        OSError(number, os.strerror(number)),
        OSError(f"Can't read (file read failed: errno = {number}, error message = 'something')"),
    ):
        assert type(read_failure("a.h5: sample 3", error)) is expected
        assert "a.h5: sample 3" in str(read_failure("a.h5: sample 3", error))


def test_whose_fault_other_errors_are():
    assert type(read_failure("a.h5", ValueError("corrupt"))) is ReadError
    assert type(read_failure("a.h5", OSError("Can't read (inflate() failed)"))) is ReadError
    error = read_failure("a.h5", MemoryError("Unable to allocate 3 TiB"))
    assert type(error) is UnavailableError
    assert str(error) == "cannot read a.h5: not enough memory (Unable to allocate 3 TiB)"
    error = unavailable("cannot open a.h5", OSError(errno.EMFILE, "Too many open files"))
    assert str(error) == (
        "cannot open a.h5: too many open files. Raise the limit of open files with `ulimit -n`"
    )


FAULTS = {
    "EIO": (OSError(errno.EIO, "Input/output error"), True),
    "ESTALE": (OSError(errno.ESTALE, "Stale file handle"), False),
    "ETIMEDOUT": (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
    "memory": (MemoryError("Unable to allocate"), False),
}


@pytest.mark.parametrize("chunks", [None, ONE, MANY], ids=["contiguous", "one", "many"])
@pytest.mark.parametrize(("fault", "is_skipped"), FAULTS.values(), ids=FAULTS)
def test_only_a_fault_of_the_bytes_is_skipped(tmp_path, monkeypatch, fault, is_skipped, chunks):
    options = {} if chunks is None else {"chunks": chunks, "compression": "gzip"}
    path = write_video_file(tmp_path / "a.h5", num_samples=12, **options)
    bad, read = [], byte_sources.LocalFile._read

    def fail_once(self, target, offset):
        if not bad or offset == bad[0]:
            bad[:] = [offset]
            raise fault
        return read(self, target, offset)

    monkeypatch.setattr(byte_sources.LocalFile, "_read", fail_once)
    monkeypatch.setattr(byte_sources.ThreadQueues, "queue", None)
    loader = VideoLoader(path, shuffle=False, on_error="skip", batch_size=4, num_threads=1)
    if is_skipped:
        found = sum(len(x) for x, _ in loader)
        assert found == 12 - len(loader.skipped)
        assert 1 <= len(loader.skipped) <= 4
    else:
        with pytest.raises(UnavailableError, match=r"cannot read .*a.h5: dataset '/X', sample 0: "):
            list(loader)


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


# --------------------------------------------------------------------------- descriptors


def test_as_many_are_kept_as_there_are_descriptors_for(monkeypatch):
    limits = {"soft": 200}
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: (limits["soft"], 10**6))
    assert keep_open(open, 256).cache_info().maxsize == 50
    limits["soft"] = 4096
    assert keep_open(open, 256).cache_info().maxsize == 256
    limits["soft"] = descriptors.resource.RLIM_INFINITY
    assert keep_open(open, 256).cache_info().maxsize == 256


def test_all_that_are_kept_open_give_way():
    kept = keep_open(str, 8)
    other = keep_open(str, 8)
    calls = []

    def call():
        calls.append((kept.cache_info().currsize, other.cache_info().currsize))
        if len(calls) < 2:
            cause = OSError(errno.EMFILE, "Too many open files")
            raise unavailable("a.h5", cause) from cause
        return "opened"

    kept("a"), other("b")
    assert with_free_descriptors(call) == "opened"
    assert calls == [(1, 1), (0, 0)]
    with pytest.raises(UnavailableError, match="Permission"):
        with_free_descriptors(lambda: (_ for _ in ()).throw(UnavailableError("Permission denied")))


def test_a_file_that_was_deleted_has_no_descriptor(tmp_path):
    with pytest.raises(VideoFileNotFoundError, match=r"a\.h5 no longer exists \(deleted or moved"):
        open_descriptor(str(tmp_path / "a.h5"))


FEW = """
import glob, resource, sys
import h5video_data as h5v
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (48, most))
paths = sorted(glob.glob("*.h5"))
options = {"batch_size": 40, "on_error": "skip", "num_threads": 2}
loaders = [h5v.VideoLoader(paths, seed=i, **options) for i in range(3)]
for epoch in range(2):
    for batches in zip(*(loader.batches() for loader in loaders)):
        for _, indices, (x, _) in batches:
            assert (x == h5v.testing.sample_values(indices)).all()
print([(loader.stats.num_samples, loader.skipped) for loader in loaders])
"""


@pytest.mark.parametrize("options", [{}, {"scaleoffset": 0}], ids=["direct", "h5py"])
def test_more_files_than_descriptors(tmp_path, options):
    for number in range(120):
        path = tmp_path / f"{number:03}.h5"
        write_video_file(path, num_samples=2, first=2 * number, **options)
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    run = [sys.executable, "-c", FEW]
    done = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.stdout == f"{[(480, {})] * 3}\n", done.stderr


# --------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("call", "pattern"),
    [(VideoLoader, "a.h5"), (VideoLoader, "*.h5"), (h5v.inspect, "a.h5")],
    ids=["loader", "glob", "inspect"],
)
def test_a_pipe_is_not_waited_for(tmp_path, call, pattern):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(
        NotHDF5Error, match=r"a.h5 is not a regular file, but a pipe, a socket or a device"
    ):
        call(tmp_path / pattern)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_file(path):
    for call in (VideoLoader, h5v.inspect):
        with pytest.raises(NotHDF5Error, match=f"{path} is not a regular file"):
            call(path)


def test_a_pipe_in_the_place_of_a_file_that_was_opened(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    loader = VideoLoader(path)
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(h5v.errors.FileChangedError, match=r"a.h5 was changed or replaced"):
        list(loader)


@pytest.mark.parametrize("call", [VideoLoader, h5v.inspect], ids=["loader", "inspect"])
@pytest.mark.parametrize("path", ["a\0b.h5", "a\ud800.h5", "a.h5/b.h5"], ids=ascii)
def test_a_path_that_no_file_can_have(tmp_path, monkeypatch, call, path):
    monkeypatch.chdir(tmp_path)
    write_video_file("a.h5")
    with pytest.raises(VideoFileNotFoundError, match="No such file"):
        call(path)


@pytest.mark.parametrize("wrong", [None, 3, b"a.h5", ["a.h5"]], ids=str)
def test_inspect_of_what_is_no_path(wrong):
    with pytest.raises(ArgumentError, match=r"`path` must be a path. Received: "):
        h5v.inspect(wrong)


def test_a_file_with_the_name_of_a_glob(tmp_path):
    for name in ("a[1].h5", "a1.h5"):
        write_video_file(tmp_path / name)
    assert expand_paths(tmp_path / "a[1].h5") == (str(tmp_path / "a[1].h5"),)
    assert h5v.inspect(tmp_path / "a[1].h5").problems == ()
    (tmp_path / "b[1]").mkdir()
    write_video_file(tmp_path / "b[1]/a.h5")
    with pytest.raises(NotHDF5Error, match="is a directory") as caught:
        VideoLoader(tmp_path / "b[1]")
    pattern = str(caught.value).split("use a glob: ")[1].strip("'")
    assert VideoLoader(pattern).num_samples == 20


def test_a_name_that_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.h5")
    write_video_file(path)
    ((x, _),) = VideoLoader(path, shuffle=False)
    np.testing.assert_array_equal(x, sample_values(np.arange(20)))
    assert h5v.inspect(path).path == path


GLOBS = {
    "in the folder": ("closed/*.h5", "closed"),
    "below": ("*/a.h5", "closed"),
    "further below": ("*/*/a.h5", "closed"),
    "anywhere": ("**/a.h5", "closed"),
    "of another folder": ("open/*.h5", None),
    "of this one": ("*.h5", None),
}


@pytest.mark.parametrize(("pattern", "closed"), GLOBS.values(), ids=GLOBS)
def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch, pattern, closed):
    for name in ("a.h5", "open/a.h5", "open/in/a.h5", "closed/a.h5", "lost+found/a.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video_file(tmp_path / name)
    # Tests may run as root, who may read any directory.
    shut = [str(tmp_path / name) for name in ("closed", "lost+found")]

    def refusing(name):
        call = getattr(os, name)

        def refuse(path=".", *arguments, **options):
            place = "" if isinstance(path, int) else os.fspath(path).rstrip("/")
            is_inside = any(place.startswith(f"{folder}/") for folder in shut)
            if is_inside or (place in shut and name in ("scandir", "listdir")):
                raise PermissionError(errno.EACCES, "Permission denied", place)
            return call(path, *arguments, **options)

        return refuse

    for name in ("scandir", "listdir", "stat", "lstat"):
        monkeypatch.setattr(os, name, refusing(name))
    if closed is None:
        assert expand_paths(tmp_path / pattern)
    else:
        with pytest.raises(
            UnavailableError, match=f"cannot read directory .*{closed}.*: permission denied"
        ):
            expand_paths(tmp_path / pattern)


def test_names_of_datasets_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in (b"temp_\xb0C", b"gr\xfcn/X"):
            group, _, last = name.rpartition(b"/")
            parent = file.create_group(group) if group else file
            space = h5py.h5s.create_simple((4, 3))
            dataset = h5py.h5d.create(parent.id, last, h5py.h5t.NATIVE_UINT8, space)
            h5py.Dataset(dataset)[...] = 7
    names = [item.name for item in h5v.inspect(path).datasets]
    assert sorted(names) == ["gr\udcfcn/X", "temp_\udcb0C"]
    for name in names:
        ((x),) = VideoLoader(path, x=name, y=None)
        assert (x == 7).all()
    with pytest.raises(h5v.errors.DatasetNotFoundError, match="temp_"):
        VideoLoader(path, x="temp_C", y=None)
    for option in ([], ["--json"]):
        run = [sys.executable, "-m", "h5video_data", "inspect", *option, os.fspath(path)]
        env = {
            **os.environ,
            "PYTHONPATH": str(Path(h5v.__file__).parents[1]),
            "PYTHONIOENCODING": "utf-8",
        }
        done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        assert "temp_\\udcb0C" in done.stdout
