"""The file that `repack` writes appears whole, or not at all; and killed calls go on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from repack_helpers import MANY, assert_same, files_in, noise, stored, write_external, write_virtual

from h5video_data.errors import (
    ArgumentError,
    H5VideoError,
    RepackingError,
)
from h5video_data.testing import sample_values, write_video_file
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking import sample_batches as samples_of
from h5video_data.tools.repacking.contiguous_file import ContiguousFile


@pytest.fixture(autouse=True)
def no_threads_left(new_threads):
    yield
    assert not new_threads()


# --------------------------------------------------------------------------- the file appears whole


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt("stop")])
@pytest.mark.parametrize("options", [{}, {"chunks": "sample"}, {"compression": "gzip"}], ids=str)
def test_nothing_is_left_behind_by_a_failure(tmp_path, monkeypatch, error, options):
    write_video_file(tmp_path / "a.h5", chunks=MANY)
    out = tmp_path / "b.h5"
    out.write_bytes(b"the old one")
    note, seen = PartialFile._note, []

    def fail_at_the_second_batch(*arguments):
        note(*arguments)
        seen.append(files_in(tmp_path))
        if len(seen) == 2:
            raise error

    monkeypatch.setattr(samples_of, "BATCH_BYTES", 4 * 768)
    monkeypatch.setattr(PartialFile, "_note", fail_at_the_second_batch)
    expected = RepackingError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"could not be written.*: Input/output error$|stop"):
        repack(tmp_path / "a.h5", out, overwrite=True, **options)
    assert seen[1][2:] == ["b.h5.partial", "b.h5.partial.journal"]
    assert files_in(tmp_path) == ["a.h5", "b.h5"]
    assert out.read_bytes() == b"the old one"
    repack(tmp_path / "a.h5", out, overwrite=True)
    assert_same(stored(out)[-1], sample_values(np.arange(20)))


@pytest.mark.parametrize("chunks", [None, "sample"])
def test_the_file_is_on_disk_and_whole_before_it_gets_its_name(tmp_path, monkeypatch, chunks):
    write_video_file(tmp_path / "a.h5")
    fsync, seen, note, done = os.fsync, [], PartialFile._note, []

    def record(descriptor):
        if done:
            number = os.fstat(descriptor).st_ino
            (whole,) = [p for p in tmp_path.glob("b.h5.partial*") if p.stat().st_ino == number]
            assert_same(stored(whole)[-1], sample_values(np.arange(20)))
            seen.append((tmp_path / "b.h5").exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(PartialFile, "_note", lambda *a: (note(*a), done.append(1)))
    repack(tmp_path / "a.h5", tmp_path / "b.h5", chunks=chunks)
    assert seen == [False]


def run_slowly(folder, *lines):
    """Starts `repack` in another process, with lines of code before the call."""
    before = "\n".join(lines)
    code = f"""
import sys, time
from h5video_data.tools import repack as repacking
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.repacking import sample_batches as samples_of
samples_of.BATCH_BYTES = 1 << 20
{before}
try:
    repacking.repack({str(folder / "a.h5")!r}, {str(folder / "b.h5")!r})
except Exception as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("change", [None, "source", "samples"])
def test_killed(tmp_path, monkeypatch, change):
    write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=(1 << 17,))
    process = run_slowly(
        tmp_path,
        "note = PartialFile._note",
        "def noted(file, line):",
        "    note(file, line)",
        "    if file.num_rows > 10: time.sleep(100)",
        "PartialFile._note = noted",
    )
    end = time.monotonic() + 60
    journal = tmp_path / "b.h5.partial.journal"
    while not journal.exists() or journal.read_text().count("\n") < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=250)
    assert files_in(tmp_path) == ["a.h5", "b.h5.partial", "b.h5.partial.journal"]
    numbers, options = np.arange(30), {}
    if change == "source":
        write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=(1 << 17,), first=7)
        numbers += 7
    if change == "samples":
        numbers, options = numbers[1:], {"indices": numbers[1:]}
    written, append = [], ContiguousFile.append

    def record(file, batch):
        written.append(file.num_rows)
        append(file, batch)

    monkeypatch.setattr(ContiguousFile, "append", record)
    repack(tmp_path / "a.h5", tmp_path / "b.h5", **options)
    assert_same(stored(tmp_path / "b.h5")[-1], sample_values(numbers, (1 << 17,)))
    assert (written[0] > 7) == (change is None)
    assert files_in(tmp_path) == ["a.h5", "b.h5"]


KILLED = {
    "contiguous": {},
    "several datasets": {"x": ["X", "more/flow"]},
    "chunks": {"chunks": "sample"},
    "gzip, several datasets": {"x": ["X", "more/flow"], "compression": "gzip"},
    "encoded by HDF5": {"compression": "bitshuffle"},
    "jpeg": {"x": "frames", "codec": "jpeg"},
    "variable rows": {"x": "frames", "codec": "jpeg", "rows": "variable"},
    "shards": {"shards": 3},
    "compressed shards": {"shards": 3, "compression": "lzf"},
    "half as large": {"image_size": [16, 16], "channels_last": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", KILLED.values(), ids=KILLED)
def test_killed_at_random_moments(tmp_path, arguments):
    write_video_file(
        tmp_path / "a.h5", num_samples=120, sample_shape=(4, 3, 32, 32), chunks=(5, 4, 3, 32, 32)
    )
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["more/flow"] = noise((120, 4, 2, 32, 32), "f4")
        file["frames"] = noise((120, 40, 60, 3))
        file["group"] = np.arange(120)
    script = Path(__file__).with_name("repack_killed_script.py")
    command = [sys.executable, str(script), str(tmp_path), "7", json.dumps(arguments)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["most lines of journals"] > 1


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=str)
@pytest.mark.parametrize("is_changed", [False, True])
def test_shards_that_are_complete_are_not_written_again(tmp_path, monkeypatch, options, is_changed):
    path = write_video_file(tmp_path / "a.h5", num_samples=30)
    publish, seen = PartialFile._publish, []

    def stop_at_the_third(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        publish(*arguments)

    monkeypatch.setattr(PartialFile, "_publish", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        repack(path, tmp_path / "b.h5", shards=3, **options)
    shards = [tmp_path / f"b-0000{number}-of-00003.h5" for number in range(3)]
    assert [shard.exists() for shard in shards] == [True, True, False]
    before = [os.stat(shard).st_mtime_ns for shard in shards[:2]]
    if is_changed:
        write_video_file(tmp_path / "a.h5", num_samples=30, first=5)
        with pytest.raises(ArgumentError, match=r"`out` exists\..*b-00000-of-00003.h5"):
            repack(path, tmp_path / "b.h5", shards=3, **options)
    repack(path, tmp_path / "b.h5", shards=3, overwrite=is_changed, **options)
    after = [os.stat(shard).st_mtime_ns for shard in shards[:2]]
    assert (before == after) != is_changed
    found = np.concatenate([stored(shard)[-1] for shard in shards])
    assert_same(found, sample_values(np.arange(30) + 5 * is_changed))
    assert files_in(tmp_path) == ["a.h5", *[shard.name for shard in shards]]


@pytest.mark.parametrize("num_removed", range(5))
def test_killed_while_the_journals_go(tmp_path, monkeypatch, num_removed):
    path = write_video_file(tmp_path / "a.h5", num_samples=30)
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.SoftLink("/nothing")
    removed, remove = [], PartialFile.remove_journal

    def remove_some(file):
        if len(removed) == num_removed:
            raise KeyboardInterrupt
        removed.append(file)
        remove(file)

    shards = [tmp_path / f"b-{number:05}-of-00004.h5" for number in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "remove_journal", remove_some)
        with contextlib.suppress(KeyboardInterrupt):
            repack(path, tmp_path / "b.h5", shards=4, compression="gzip")
    before = [os.stat(shard).st_mtime_ns for shard in shards]
    if num_removed < 4:
        report = repack(path, tmp_path / "b.h5", shards=4, compression="gzip")
        assert list(report.shards) == shards
    with pytest.raises(ArgumentError, match=r"`out` exists\."):
        repack(path, tmp_path / "b.h5", shards=4, compression="gzip")
    assert [os.stat(shard).st_mtime_ns for shard in shards] == before
    assert files_in(tmp_path) == ["a.h5", *[shard.name for shard in shards]]


def test_a_shard_that_was_changed_is_not_taken_for_a_complete_one(tmp_path, monkeypatch):
    path = write_video_file(tmp_path / "a.h5", num_samples=30)
    shard = tmp_path / "b-00000-of-00002.h5"
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "remove_journal", lambda _: None)
        repack(path, tmp_path / "b.h5", shards=2)
    repack(path, tmp_path / "b.h5", shards=2)  # both are complete
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "remove_journal", lambda _: None)
        repack(path, tmp_path / "b.h5", shards=2, overwrite=True)
    with h5py.File(shard, "a") as file:
        file["X"][0] = 0
    with pytest.raises(ArgumentError, match=r"`out` exists\..*b-00000-of-00002.h5"):
        repack(path, tmp_path / "b.h5", shards=2)


def test_a_file_that_may_not_grow_is_removed(tmp_path):
    write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=(1 << 17,))
    process = run_slowly(
        tmp_path,
        "import resource",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))",
    )
    _, message = process.communicate(timeout=250)
    assert message == (
        f"RepackingError: {tmp_path}/b.h5 could not be written, and nothing of it was left behind: "
        f"{os.strerror(errno.EFBIG)}\n"
    )
    assert process.returncode == 1
    assert files_in(tmp_path) == ["a.h5"]


def test_a_full_disk(tmp_path, monkeypatch):
    path = write_video_file(tmp_path / "a.h5", num_samples=20)
    free = shutil.disk_usage(tmp_path)._replace(free=20 * 768 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(RepackingError, match=r"b.h5 will have 15.0 KiB or more, .* 15.0 KiB free"):
        repack(path, tmp_path / "b.h5")
    assert files_in(tmp_path) == ["a.h5"]
    repack(path, tmp_path / "b.h5", compression="gzip")  # nobody knows how much that will be
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=20 * 768))
    repack(path, tmp_path / "c.h5")

    def fail(*_):
        raise OSError(errno.ENOSPC, "HDF5 says a lot")

    monkeypatch.setattr(ContiguousFile, "append", fail)
    with pytest.raises(RepackingError, match=r"nothing of it was left behind: No space left on"):
        repack(path, tmp_path / "d.h5")
    assert files_in(tmp_path) == ["a.h5", "b.h5", "c.h5"]
    assert issubclass(RepackingError, H5VideoError)
    assert issubclass(RepackingError, OSError)


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    write_video_file(tmp_path / "a.h5")
    out = tmp_path / "b.h5"
    out.write_bytes(b"the old one")
    with pytest.raises(ArgumentError, match=r"`out` exists\. Use overwrite=True .*: out='.*b.h5'$"):
        repack(tmp_path / "a.h5", out)
    assert out.read_bytes() == b"the old one"
    repack(tmp_path / "a.h5", out, overwrite=True)
    assert stored(out)[0] == "contiguous"


def test_a_file_that_is_read_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "virtual").mkdir()
    (tmp_path / "raw").mkdir()
    virtual, external = write_virtual(tmp_path / "virtual"), write_external(tmp_path / "raw")
    path = Path(write_video_file(tmp_path / "a.h5"))
    (tmp_path / "soft.h5").symlink_to("a.h5")
    (tmp_path / "hard.h5").hardlink_to(path)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["X"] = h5py.ExternalLink("a.h5", "/X")
    monkeypatch.chdir(tmp_path)
    cases = [
        (path, path),
        (path, "a.h5"),
        (path, "soft.h5"),
        (path, "hard.h5"),
        ("soft.h5", "a.h5"),
        ("?.h5", "a.h5"),
        ("linked.h5", "a.h5"),
        ("linked.h5", "linked.h5"),
        (virtual, tmp_path / "virtual/parts/1.h5"),
        (external, tmp_path / "raw/X.raw"),
    ]
    for source, out in cases:
        before = Path(out).read_bytes()
        with pytest.raises(ArgumentError, match=r"`out` must not be a file that is read, and is /"):
            repack(source, out, overwrite=True)
        assert Path(out).read_bytes() == before
    other = Path(write_video_file(tmp_path / "other.h5"))
    (tmp_path / "link.h5").symlink_to("other.h5")
    repack(path, "link.h5", overwrite=True)  # the link is replaced, not where it leads
    assert other.stat().st_mtime_ns < (tmp_path / "link.h5").stat().st_mtime_ns
    assert not (tmp_path / "link.h5").is_symlink()
