"""The cache of blocks on the disk: values, limit, several processes, kills and damages."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from remote_server import RangeServer

import h5video_data as h5v
from h5video_data.errors import ArgumentError, FileChangedError, UnavailableError
from h5video_data.reading import cached_source
from h5video_data.reading.range_errors import RangeError
from h5video_data.storage.file_identity import FileIdentity, ObjectIdentity
from h5video_data.storage.paths import expand_paths
from h5video_data.storage.remote import disk_cache
from h5video_data.storage.remote.disk_cache import BLOCK_BYTES, DiskCache

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

COUNT = 64
X = np.random.default_rng(0).integers(0, 255, (COUNT, 4, 64, 64, 3), np.uint8)
SECRET = "hunter2-do-not-show"
BLOCK = bytes(range(256)) * (BLOCK_BYTES // 256)


def content(shift=0):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        values = X + np.uint8(shift)
        file["X"] = values
        file.create_dataset("gzip", data=values, chunks=(1, *X.shape[1:]), compression="gzip")
        file.create_dataset("rows", data=values, chunks=(8, 4, 32, 64, 3), compression="lzf")
        file["Y"] = np.arange(COUNT)
    return buffer.getvalue()


CONTENT = content()


@pytest.fixture
def server(send_with):
    send_with(first_pause_seconds=0.01)
    found = RangeServer()
    found.put("/a.h5", CONTENT)
    yield found
    found.close()


def key(cache, name="http://a/b.h5", version='ETag "1"'):
    return cache.key_of(name, ObjectIdentity(-1, 0, 10 * BLOCK_BYTES, 0, version, ""))


def epochs(server, folder, count=2, **options):
    def epoch(loader):
        return {
            number: (values.copy(), label)
            for _, numbers, (x, y) in loader.batches()
            for number, values, label in zip(numbers.tolist(), x, y, strict=True)
        }

    options = {"seed": 1, "batch_size": 8, "cache_dir": folder, **options}
    with h5v.VideoLoader(f"{server.url}/a.h5", **options) as loader:
        return [epoch(loader) for _ in range(count)]


def check(found, shift=0):
    for samples in found:
        assert sorted(samples) == list(range(COUNT))
        for number, (values, label) in samples.items():
            np.testing.assert_array_equal(values, X[number] + np.uint8(shift))
            assert label == number


def num_bytes_in(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gets(server):
    return [span for method, _, span, _ in server.requests if method == "GET"]


# --------------------------------------------------------------------------- through a loader


@pytest.mark.parametrize("x", ["X", "gzip", "rows"])
def test_the_second_epoch_and_the_second_run_read_from_the_disk(server, tmp_path, x):
    check(epochs(server, tmp_path, 1, x=x))
    server.requests.clear()
    check(epochs(server, tmp_path, 2, x=x))
    assert not gets(server)
    server.fail = lambda _, method, *__: 503 if method == "GET" else None
    check(epochs(server, tmp_path, 1, x=x))


def test_a_store_without_strong_etags_is_not_asked_for_what_is_there(server, tmp_path):
    server.say_version = lambda _, version: f"W/{version}"
    check(epochs(server, tmp_path, 1))
    server.requests.clear()
    check(epochs(server, tmp_path, 3))
    assert not gets(server)
    # At opening, before it and after it, and as the reader and each epoch begin.
    assert len(server.requests) <= 12
    options = {"batch_size": 1, "num_threads": 1, "read_ahead_bytes": 0}
    with h5v.VideoLoader(f"{server.url}/a.h5", cache_dir=tmp_path / "b", **options) as loader:
        batches = loader.batches()
        next(batches)
        server.put("/a.h5", content(9))
        with pytest.raises(FileChangedError):
            list(batches)


def test_each_byte_is_requested_once(server, tmp_path):
    check(epochs(server, tmp_path, 3, num_threads=1))
    assert sum(1 for _ in gets(server)) <= len(CONTENT) // BLOCK_BYTES + 10
    spans = sorted(tuple(map(int, span[6:].split("-"))) for span in gets(server))
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(spans))


def test_it_is_of_one_version(server, tmp_path):
    check(epochs(server, tmp_path, 1))
    server.put("/a.h5", content(5))
    check(epochs(server, tmp_path, 1), 5)


def test_an_object_that_changes_is_an_error_also_if_all_of_it_is_there(server, tmp_path):
    check(epochs(server, tmp_path, 1))
    with h5v.VideoLoader(f"{server.url}/a.h5", cache_dir=tmp_path, seed=1) as loader:
        next(loader.batches())
        server.put("/a.h5", content(5))
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed"):
            next(loader.batches())


def test_an_object_of_which_no_version_is_known_is_not_kept(server, tmp_path):
    server.versions["/a.h5"] = None
    check(epochs(server, tmp_path, 1))
    assert not num_bytes_in(tmp_path)


@pytest.mark.parametrize("x", ["X", "gzip"])
def test_one_smaller_than_the_set(server, tmp_path, x):
    limit = len(CONTENT) // 4
    check(epochs(server, tmp_path, 3, x=x, cache_bytes=limit))
    assert limit / 2 < num_bytes_in(tmp_path) <= limit


def test_a_damaged_block_is_requested_again(server, tmp_path):
    check(epochs(server, tmp_path, 1))
    damaged = [path for path in tmp_path.rglob("*") if path.is_file()]
    for number, path in enumerate(damaged):
        raw = path.read_bytes()
        path.write_bytes([b"", raw[:-7], raw[:99] + b"?" + raw[100:], raw + b"?"][number % 4])
    check(epochs(server, tmp_path, 2))


def test_blocks_that_vanish_are_requested_again(server, tmp_path):
    with h5v.VideoLoader(f"{server.url}/a.h5", cache_dir=tmp_path, seed=1) as loader:
        for _ in range(3):
            for number, (_, numbers, (x, _)) in enumerate(loader.batches()):
                np.testing.assert_array_equal(x, X[numbers])
                if number == 0:
                    for path in tmp_path.rglob("*"):
                        if path.is_file():
                            path.unlink(missing_ok=True)


@pytest.mark.parametrize("most", [16, 3])
def test_read_ahead_holds(server, tmp_path, monkeypatch, most):
    # Blocks that are held, of all threads together.
    monkeypatch.setattr(cached_source, "BLOCKS_AHEAD", most)
    held = []
    old = cached_source.CachedObject._request

    def request(self, ahead, needed):
        old(self, ahead, needed)
        held.append(len(ahead.runs))

    cached_source.CachedObject._request = request
    try:
        check(epochs(server, tmp_path, 1, batch_size=64, num_threads=1))
    finally:
        cached_source.CachedObject._request = old
    assert 1 < max(held) <= most


def test_a_file_system_that_reads_one_range_at_a_time(tmp_path):
    system = fsspec.filesystem("memory")
    system.pipe_file("/cached/a.h5", CONTENT)
    try:
        with h5v.VideoLoader("memory://cached/a.h5", cache_dir=tmp_path, seed=1) as loader:
            for _ in range(2):
                for _, numbers, (x, _) in loader.batches():
                    np.testing.assert_array_equal(x, X[numbers])
            (path,) = loader._set.paths
        assert num_bytes_in(tmp_path) > X.nbytes
        source = cached_object(path, DiskCache(tmp_path / "new"))
        source.announce(np.array([0]), np.array([5]))
        (run,) = source._of_thread.ahead.runs.values()
        assert run.future is None
        assert source.identity() == path.identity()
        assert source._of_thread.ahead is None
    finally:
        system.rm("/cached", recursive=True)


def cached_object(path, cache):
    identity = path.identity()
    return cached_source.CachedObject(path, identity, cache, cache.key_of(path, identity))


def test_what_was_announced_and_not_read_is_given_up(server, tmp_path):
    (path,) = expand_paths(f"{server.url}/a.h5")
    source = cached_object(path, DiskCache(tmp_path))
    server.fail = lambda *_: "hang"
    source.announce(np.array([0, 3 * BLOCK_BYTES]), np.array([5, 5]))
    futures = [run.future for run in source._of_thread.ahead.runs.values()]
    assert [future.cancelled() for future in futures] == [False, False]
    assert source.identity() == path._known
    assert [future.cancelled() for future in futures] == [True, True]


def test_what_lies_beyond_the_end_is_not_requested(server, tmp_path):
    (path,) = expand_paths(f"{server.url}/a.h5")
    source = cached_object(path, DiskCache(tmp_path))
    server.requests.clear()
    ranges = np.array([0, len(CONTENT) - 5]), np.array([5, 7])
    source.announce(*ranges)
    with pytest.raises(RangeError) as caught:
        source.read_ranges(*ranges, np.array([0, 5]), np.empty(12, np.uint8))
    assert caught.value.number == 1
    assert "2 bytes" in str(caught.value.__cause__)
    assert not server.requests


def test_several_processes_share_it(server, tmp_path):
    code = f"""
        import sys, h5video_data as h5v
        with h5v.VideoLoader(
            "{server.url}/a.h5", cache_dir={str(tmp_path)!r}, seed=int(sys.argv[1]),
            cache_bytes={len(CONTENT) // 2}
        ) as loader:
            for _ in range(2):
                for _, numbers, (x, y) in loader.batches():
                    assert (y == numbers).all()
    """
    commands = [[sys.executable, "-c", textwrap.dedent(code), str(seed)] for seed in range(3)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert num_bytes_in(tmp_path) <= len(CONTENT) // 2 + 2 * (BLOCK_BYTES + 4)
    check(epochs(server, tmp_path, 1))


@pytest.mark.slow
def test_processes_that_are_killed_leave_nothing_that_is_wrong(server, tmp_path):
    code = f"""
        import h5video_data as h5v
        with h5v.VideoLoader("{server.url}/a.h5", cache_dir={str(tmp_path)!r}) as loader:
            print(flush=True)
            while True:
                for batch in loader.batches():
                    pass
    """
    server.delay = 0.005
    for number in range(4):
        command = [sys.executable, "-c", textwrap.dedent(code)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.03 * number)
            process.send_signal(signal.SIGKILL)
    check(epochs(server, tmp_path, 2))


def test_nothing_in_it_has_credentials(server, tmp_path):
    url = f"{server.url.replace('//', f'//me:{SECRET}@')}/a.h5?sig={SECRET}"
    with h5v.VideoLoader(url, cache_dir=tmp_path) as loader:
        next(loader.batches())
        assert SECRET not in repr(loader._set.paths[0].store.copies.cache)
    for path in tmp_path.rglob("*"):
        assert SECRET not in str(path)
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_arguments(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArgumentError, match="`cache_dir` must be a folder"):
        h5v.VideoLoader(f"{server.url}/a.h5", cache_dir=tmp_path / "file")
    with pytest.raises(UnavailableError, match="cannot use the folder"):
        h5v.VideoLoader(f"{server.url}/a.h5", cache_dir=tmp_path / "file" / "b")
    with pytest.raises(ArgumentError, match="`cache_bytes` is the limit of `cache_dir`"):
        h5v.VideoLoader(f"{server.url}/a.h5", cache_bytes=10)
    with pytest.raises(ArgumentError, match="`cache_bytes` must be"):
        h5v.VideoLoader(f"{server.url}/a.h5", cache_dir=tmp_path, cache_bytes=0)
    with pytest.raises(ArgumentError, match="`cache_dir` must be on this machine"):
        h5v.VideoLoader(f"{server.url}/a.h5", cache_dir="s3://bucket/cache")
    (tmp_path / "a.h5").write_bytes(CONTENT)
    with pytest.raises(ArgumentError, match="`cache_dir` needs URLs in `path`"):
        h5v.VideoLoader(tmp_path / "a.h5", cache_dir=tmp_path)


# --------------------------------------------------------------------------- by itself


def test_what_stands_for_an_object(tmp_path):
    cache = DiskCache(tmp_path)
    keys = {
        key(cache),
        key(cache, "http://a/c.h5"),
        key(cache, version='ETag "2"'),
        cache.key_of("http://a/b.h5", ObjectIdentity(-1, 0, 5, 0, 'ETag "1"', "")),
    }
    assert len(keys) == 4
    assert key(cache, "http://a/b.h5#12345678") == key(cache)
    assert cache.key_of("http://a/b.h5", ObjectIdentity(-1, 0, 5, 0, "", "")) is None
    assert cache.key_of("/a.h5", FileIdentity(1, 2, 3, 4)) is None


def test_blocks(tmp_path):
    cache, other = DiskCache(tmp_path), DiskCache(tmp_path)
    name = key(cache)
    assert not cache.has(name, 0)
    assert cache.read(name, 0, 0, 5, BLOCK_BYTES) is None
    cache.write(name, 0, BLOCK)
    for found in (cache, other, other):
        assert found.has(name, 0)
        assert found.read(name, 0, 7, 300, BLOCK_BYTES) == BLOCK[7:300]
    last = 10 * BLOCK_BYTES - 1000
    cache.write_range(name, last - 5, b"12345" + b"x" * 1000, 10 * BLOCK_BYTES)
    assert cache.read_range(name, last, last + 1000, 10 * BLOCK_BYTES) is None  # no whole block
    cache.write_range(name, 9 * BLOCK_BYTES - 3, b"abc" + BLOCK, 10 * BLOCK_BYTES)
    start = 9 * BLOCK_BYTES
    assert other.read_range(name, start, start + 9, 10 * BLOCK_BYTES) == BLOCK[:9]
    cache.write(name, 8, BLOCK[::-1])
    joined = cache.read_range(name, start - 9, start + 9, 10 * BLOCK_BYTES)
    assert joined == BLOCK[::-1][-9:] + BLOCK[:9]


def test_of_a_range_whole_blocks_are_kept(tmp_path):
    cache = DiskCache(tmp_path)
    name, size = key(cache), 10 * BLOCK_BYTES
    cache.write_range(name, 0, BLOCK + BLOCK[:-1], size)
    assert [cache.has(name, number) for number in range(3)] == [True, False, False]
    assert cache.read_range(name, 0, BLOCK_BYTES, size) == BLOCK


def test_a_block_that_is_cut_short_after_it_was_checked_is_removed(tmp_path):
    cache = DiskCache(tmp_path)
    cache.write(key(cache), 0, BLOCK)
    (path,) = tmp_path.rglob("*-0")
    os.truncate(path, 100)
    assert cache.read(key(cache), 0, 90, 100, BLOCK_BYTES) == BLOCK[90:100]
    assert cache.read(key(cache), 0, 90, 101, BLOCK_BYTES) is None
    assert not path.exists()


def test_a_lock_that_a_fork_has_left_behind_is_not_waited_for(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path)
    assert cache._lock.acquire()
    monkeypatch.setattr(cache, "_pid", -5)  # of the parent
    writing = threading.Thread(target=cache.write, args=(key(cache), 0, BLOCK), daemon=True)
    writing.start()
    writing.join(60)
    assert cache.read(key(cache), 0, 0, 9, BLOCK_BYTES) == BLOCK[:9]
    assert cache._pid == os.getpid()


def test_a_limit_below_a_block_leaves_none(tmp_path):
    cache = DiskCache(tmp_path)
    for number in range(3):
        cache.write(key(cache), number, BLOCK)
    for path in tmp_path.rglob("*-*"):
        os.utime(path, (time.time() - 1000,) * 2)
    assert DiskCache(tmp_path, 1000)._num_bytes == 0
    assert num_bytes_in(tmp_path) == 0


def test_old_blocks_make_room_for_new_ones(tmp_path):
    size = BLOCK_BYTES + 4
    old = DiskCache(tmp_path, 10 * size)
    for number in range(10):
        old.write(key(old), number, BLOCK)
    assert old.has(key(old), 9)
    for path in tmp_path.rglob("*-*"):
        os.utime(path, (time.time() - 1000,) * 2)
    new = DiskCache(tmp_path, 10 * size)
    assert new.read(key(new), 3, 0, 9, BLOCK_BYTES) == BLOCK[:9]  # in use again
    for number in range(100, 105):
        new.write(key(new), number, BLOCK)
    assert num_bytes_in(tmp_path) <= 10 * size
    assert all(new.has(key(new), number) for number in (3, *range(100, 105)))


def test_blocks_in_use_are_not_removed_for_new_ones(tmp_path):
    size = BLOCK_BYTES + 4
    cache = DiskCache(tmp_path, 5 * size)
    for number in range(9):
        cache.write(key(cache), number, BLOCK)
    assert [cache.has(key(cache), number) for number in range(9)] == [True] * 5 + [False] * 4
    assert cache.is_full


def test_a_lower_limit_is_held_at_once(tmp_path):
    cache = DiskCache(tmp_path)
    for number in range(9):
        cache.write(key(cache), number, BLOCK)
    for path in tmp_path.rglob("*-*"):
        os.utime(path, (time.time() - 1000,) * 2)
    DiskCache(tmp_path, 4 * BLOCK_BYTES)
    assert num_bytes_in(tmp_path) <= 4 * BLOCK_BYTES


def test_threads(tmp_path):
    cache = DiskCache(tmp_path, 20 * (BLOCK_BYTES + 4))
    name = key(cache)

    def work(seed):
        for number in np.random.default_rng(seed).integers(0, 30, 60).tolist():
            found = cache.read(name, number, number, number + 5, BLOCK_BYTES)
            assert found in (None, BLOCK[number : number + 5])
            cache.write(name, number, BLOCK)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert num_bytes_in(tmp_path) <= 20 * (BLOCK_BYTES + 4)


def test_a_full_disk_is_no_error(tmp_path, monkeypatch, caplog):
    cache = DiskCache(tmp_path)

    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache.os, "replace", replace)
    cache.write(key(cache), 0, BLOCK)
    cache.write(key(cache), 1, BLOCK)
    assert cache.is_full
    assert not num_bytes_in(tmp_path)
    assert [record.message for record in caplog.records] == [
        f"The cache {tmp_path} cannot be written: No space left on device"
    ]


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    for name, age in (("old.partial", 10_000), ("new.partial", 0)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / "mine.txt").write_bytes(b"x")
    DiskCache(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "new.partial"]
