from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5video_data.errors import PackingError, RepackingError
from h5video_data.tools import atomic_file as writing
from h5video_data.tools.packing.partial_files import PartialFile

VALUES = np.random.default_rng(0).integers(0, 256, (40, 3, 64, 64), np.uint8)


def write_by(function, out, error_type=RepackingError):
    """Writes a file by a function of the `h5py.File` and the `Output` behind it."""
    file = PartialFile(out, signature=None, overwrite=True, error_type=error_type)
    with file.opened():
        file.finish_by(function)
    return out


def write(out, checked=True):
    """Writes a file with all that `pack` and `repack` write: chunks, rows, attributes, strings."""

    def write_all(file, output):
        file.attrs["class_names"] = np.array(["name"] * 3000, h5py.string_dtype())
        X = file.create_dataset("X", VALUES.shape, "u1")
        packed = file.create_dataset("Z", VALUES.shape, "u1", chunks=(1, 3, 64, 64), compression=4)
        source = file.create_dataset("source", (len(VALUES),), h5py.string_dtype())
        for row in range(0, len(VALUES), 10):
            place = slice(row, row + 10)
            X.write_direct(VALUES, place, place)
            packed[place] = VALUES[place]
            source[place] = f"video {row}"
            if checked:
                output.check()

    return write_by(write_all, out)


def assert_complete(path):
    with h5py.File(path) as file:
        assert sorted(file) == ["X", "Z", "source"]
        np.testing.assert_array_equal(file["X"], VALUES)
        np.testing.assert_array_equal(file["Z"], VALUES)
        assert file["source"].asstr()[39] == "video 30"
        assert len(file.attrs["class_names"]) == 3000


def fail_from(number, name, error, monkeypatch):
    """Has a function of `os` fail at a call, counted from 0, and at all later ones."""
    function, calls = getattr(os, name), []

    def counted(*arguments):
        calls.append(arguments)
        if number is not None and len(calls) > number:
            raise error
        return function(*arguments)

    monkeypatch.setattr(writing.os, name, counted)
    return calls


def test_the_file_is_what_hdf5_would_write(tmp_path):
    assert_complete(write(tmp_path / "a.h5"))
    assert os.listdir(tmp_path) == ["a.h5"]
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_write_may_be_cut_short(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(writing.os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1000], at))
    assert_complete(write(tmp_path / "a.h5"))


# In a process of its own: an error inside HDF5 can end it.
EACH = """
import errno, os, sys
from pathlib import Path
import pytest
from h5video_data.errors import RepackingError
from test_atomic_file import assert_complete, fail_from, write

(out, number, checked), name = sys.argv[1:4], sys.argv[4]
error = KeyboardInterrupt() if number == "interrupt" else OSError(int(number), "")
with pytest.MonkeyPatch.context() as patch:
    calls = fail_from(None, name, None, patch)
    write(Path(out))
assert calls
assert_complete(out)
os.unlink(out)
for number in range(len(calls)):
    with pytest.MonkeyPatch.context() as patch:
        fail_from(number, name, error, patch)
        try:
            write(Path(out), checked == "checked")
        except RepackingError as found:
            reason = os.strerror(error.errno)
            assert str(found).endswith(f"nothing of it was left behind: {reason}"), found
        except KeyboardInterrupt:
            assert isinstance(error, KeyboardInterrupt)
        else:
            raise AssertionError(f"no error at call {number}")
    assert not os.listdir(os.path.dirname(out)), number
print(len(calls))
"""


def run_each(folder, *arguments, least=1):
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]}\n"
    done = subprocess.run(
        [sys.executable, "-c", code + EACH, str(folder / "a.h5"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least


@pytest.mark.parametrize("checked", ["checked", "not checked"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, "interrupt"])
def test_an_error_at_any_write_is_reported_and_leaves_nothing(tmp_path, error, checked):
    run_each(tmp_path, error, checked, "pwrite", least=60)


@pytest.mark.parametrize("name", ["ftruncate", "fsync", "open", "replace"])
def test_any_other_call_may_fail(tmp_path, name):
    run_each(tmp_path, errno.EIO, "checked", name)


def test_what_is_not_the_disk_s_fault_is_not_reported_as_such(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_by(lambda *_: 1 // 0, tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []


def test_after_an_error_nothing_more_is_written(tmp_path, monkeypatch):
    calls, rows = [], []

    def write_rows(file, output):
        X = file.create_dataset("X", VALUES.shape, "u1")
        calls.extend([fail_from(1, "pwrite", OSError(errno.ENOSPC, ""), monkeypatch)])
        for row in range(40):
            X[row] = VALUES[row]
            rows.append(row)
            output.check()

    with pytest.raises(PackingError, match="No space left on device") as caught:
        write_by(write_rows, tmp_path / "a.h5", PackingError)
    assert rows == [0, 1]
    assert len(calls[0]) == 2
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(tmp_path) == []


def test_hdf5_may_read_what_could_not_be_written(tmp_path, monkeypatch):
    def write_and_read(file, _):
        fail_from(0, "pwrite", OSError(errno.ENOSPC, ""), monkeypatch)
        file["X"] = np.ones(1_000_000, np.uint8)
        assert not file["X"][500_000:].any()

    with pytest.raises(RepackingError, match=r"left behind: No space left on device$"):
        write_by(write_and_read, tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []
