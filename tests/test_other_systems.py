"""The package without the calls that macOS or Windows lacks, each in a process of its own.

The calls are hidden on Linux. The systems themselves are not tested.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from h5video_data.reading.byte_sources import SeekingFile, ThreadQueues
from h5video_data.storage import system
from h5video_data.storage.file_identity import identity_of

SCRIPT = Path(__file__).with_name("other_systems_script.py")


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=280,
        capture_output=True,
        text=True,
    )
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["right"], 0), done.stderr[-3000:]


@pytest.mark.parametrize("name", ["macOS", "old macOS", "Windows"])
def test_files_are_read_and_written(tmp_path, name):
    run(tmp_path, name)


@pytest.mark.tf
@pytest.mark.parametrize("name", ["macOS", "Windows"])
def test_the_dataset_of_tensorflow(tmp_path, name):
    run(tmp_path, name, "dataset")


@pytest.mark.parametrize(
    "read_some",
    [
        system._read_some_by_preadv,
        system._read_some_by_preadv_in_parts,
        system._read_some_by_pread,
        system._read_some_by_seeking,
    ],
)
def test_reads_at_an_offset(tmp_path, monkeypatch, read_some):
    monkeypatch.setattr(system, "_read_some", read_some)
    monkeypatch.setattr(system, "_MAX_READ_BYTES", 100)
    monkeypatch.setattr(system, "_MAX_COPIED_BYTES", 100)
    content = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    content.tofile(tmp_path / "bytes")
    with open(tmp_path / "bytes", "rb", buffering=0) as file:
        file.seek(7)
        target = np.zeros(450, np.uint8)
        assert system.read_at(file.fileno(), target.data, 30) == 450
        np.testing.assert_array_equal(target, content[30:480])
        assert system.read_at(file.fileno(), target.data, 900) == 100
        np.testing.assert_array_equal(target[:100], content[900:])
        assert file.tell() == 7


def test_two_threads_never_read_by_one_descriptor(tmp_path, monkeypatch):
    content = np.arange(100, dtype=np.uint8)
    content.tofile(tmp_path / "bytes")
    path = str(tmp_path / "bytes")
    files = [SeekingFile(ThreadQueues(), path, identity_of(path))]
    used = []

    def read_at(fd, target, offset):
        used.append(fd)
        if len(used) == 1:  # another thread comes while this one reads
            other = np.zeros(5, np.uint8)
            assert files[0]._read(other.data, 50) == 5
            np.testing.assert_array_equal(other, content[50:55])
        return system.read_at(fd, target, offset)

    monkeypatch.setattr("h5video_data.reading.byte_sources.read_at", read_at)
    target = np.zeros(5, np.uint8)
    assert files[0]._read(target.data, 20) == 5
    np.testing.assert_array_equal(target, content[20:25])
    assert len(set(used)) == 2
    files.clear()
    for fd in used:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_file_without_a_number_is_known_by_size_and_time(monkeypatch, tmp_path):
    found = os.stat(tmp_path)
    assert system.file_numbers(found) == (found.st_dev, found.st_ino)
    without = os.stat_result((found.st_mode, 0, *found[2:]))
    assert system.file_numbers(without) == (0, 0)
    monkeypatch.setattr(system, "IS_WINDOWS", True)
    assert system.file_numbers(found) == (0, found.st_ino)


def test_processors_are_counted_everywhere(monkeypatch):
    assert system.num_processors() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert system.num_processors() == 3
    monkeypatch.delattr(os, "process_cpu_count")
    assert system.num_processors() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.num_processors() == 1
