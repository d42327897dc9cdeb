"""Many reads in one system call: the same bytes as one by one, and short counts where it fails."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import platform
import threading

import numpy as np
import pytest
from conftest import wait_until

from h5video_data import VideoLoader, testing
from h5video_data.reading import byte_sources
from h5video_data.reading import io_submit as aio

NUM_BYTES = 100_000

pytestmark = pytest.mark.skipif(aio.open_queue() is None, reason="the kernel gives no queue")


@pytest.fixture
def content():
    return np.random.default_rng(0).integers(0, 256, NUM_BYTES, np.uint8)


@pytest.fixture
def fd(tmp_path, content):
    path = tmp_path / "bytes"
    path.write_bytes(content.tobytes())
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


def read(queue, fd, offsets, sizes):
    """Reads each range to a place of its own; gives the counts and the bytes of each."""
    offsets, sizes = np.asarray(offsets, np.int64), np.asarray(sizes, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    out = np.full(starts[-1] + 1, 0xA5, np.uint8)
    done = queue.read(fd, offsets, sizes, out.ctypes.data + starts[:-1])
    assert out[-1] == 0xA5  # nothing is written behind the last place
    return done, [out[start : start + size] for start, size in zip(starts, sizes, strict=False)]


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129, 256, 1000])
def test_any_number_of_ranges(fd, content, count):
    rng = np.random.default_rng(count)
    offsets = rng.integers(0, NUM_BYTES - 300, count)
    sizes = rng.integers(0, 300, count)
    done, found = read(aio.ReadQueue(), fd, offsets, sizes)
    np.testing.assert_array_equal(done, sizes)
    for offset, size, values in zip(offsets, sizes, found, strict=True):
        np.testing.assert_array_equal(values, content[offset : offset + size])


def test_one_queue_many_times(fd, content):
    # What one call leaves in the requests must not matter to the next, smaller one.
    queue = aio.ReadQueue()
    for count in [200, 3, 128, 1, 130, 2]:
        offsets = np.arange(count) * 50
        done, found = read(queue, fd, offsets, np.full(count, 50))
        assert (done == 50).all()
        np.testing.assert_array_equal(np.concatenate(found), content[: count * 50])


def test_at_the_end_of_the_file(fd, content):
    offsets = [0, NUM_BYTES - 10, NUM_BYTES, NUM_BYTES + 5, 20]
    done, found = read(aio.ReadQueue(), fd, offsets, [10, 30, 10, 10, 10])
    assert done.tolist() == [10, 10, 0, 0, 10]
    np.testing.assert_array_equal(found[1][:10], content[-10:])
    assert (found[1][10:] == 0xA5).all()
    np.testing.assert_array_equal(found[4], content[20:30])


@pytest.mark.parametrize("kind", ["never opened", "closed", "for writing", "a directory", "a pipe"])
def test_a_bad_descriptor_gives_nothing(tmp_path, kind):
    opened = []
    if kind == "never opened":
        number = 1 << 20
    elif kind == "closed":
        number = os.dup(0)
        os.close(number)
    elif kind == "for writing":
        opened = [os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)]
        number = opened[0]
    elif kind == "a directory":
        opened = [os.open(tmp_path, os.O_RDONLY)]
        number = opened[0]
    else:
        opened = list(os.pipe())
        number = opened[0]
        os.close(opened.pop())  # nobody writes: a read would end, not wait
    done, found = read(aio.ReadQueue(), number, np.arange(200), np.full(200, 8))
    assert not done.any()
    assert all((values == 0xA5).all() for values in found)
    for number in opened:
        os.close(number)


def test_a_bad_request_does_not_spoil_the_others(fd, content):
    # A negative offset, and an address that is not ours: these count as not read.
    queue = aio.ReadQueue()
    for offsets, shift in [([0, -5, 10, 20], 0), ([0, 5, 10, 20], 1 << 62)]:
        out = np.zeros((4, 10), np.uint8)
        addresses = out.ctypes.data + np.arange(4) * 10
        addresses[1] += shift
        done = queue.read(fd, np.array(offsets), np.full(4, 10), addresses)
        assert done[1] == 0
        assert done[0] == 10
        for offset, count, values in zip(offsets, done, out, strict=True):
            if count:
                np.testing.assert_array_equal(values, content[offset : offset + 10])


def test_ranges_of_more_than_two_gib(tmp_path):
    # Linux reads 2 GiB less a page at once. The file has no data, and the memory stays untouched
    # but for the file's few bytes: a range may be larger than what the file holds.
    path = tmp_path / "small"
    path.write_bytes(b"x" * 5000)
    out = np.empty(5 << 30, np.uint8)
    fd = os.open(path, os.O_RDONLY)
    sizes = np.array([5 << 30, 3 << 30, 1000])
    addresses = out.ctypes.data + np.array([0, 100_000, 200_000])
    done = aio.ReadQueue().read(fd, np.array([0, 1000, 2000]), sizes, addresses)
    os.close(fd)
    assert done.tolist() == [5000, 4000, 1000]
    for start, count in zip([0, 100_000, 200_000], done.tolist(), strict=True):
        assert (out[start : start + count] == ord("x")).all()


def test_a_queue_for_each_thread(fd, content):
    files = byte_sources.ThreadQueues()
    found, queues = [], []

    def work(seed):
        rng = np.random.default_rng(seed)
        queues.append(files.queue)
        assert files.queue is queues[-1] or files.queue in queues
        for _ in range(20):
            offsets = rng.integers(0, NUM_BYTES - 40, 150)
            done, values = read(files.queue, fd, offsets, np.full(150, 40))
            expected = content[offsets[:, np.newaxis] + np.arange(40)]
            found.append((done == 40).all() and (np.array(values) == expected).all())

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert len({id(queue) for queue in queues}) == 6
    assert len(found) == 120
    assert all(found)


def num_contexts():
    with open("/proc/self/maps") as file:
        return sum("[aio]" in line for line in file)


@pytest.mark.memory_limit(64)
def test_queues_end_with_their_threads(tmp_path):
    path = testing.write_video_file(tmp_path / "a.h5", num_samples=40)
    gc.collect()
    before = num_contexts()
    for _ in range(5):
        with VideoLoader(path, batch_size=8, num_threads=3) as loader:
            list(loader)
    wait_until(lambda: num_contexts() <= before)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork(fd, content):
    queue = aio.ReadQueue()
    read(queue, fd, [0], [10])
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            # The parent's queue is not the child's to end; it gets one of its own.
            del queue
            done, found = read(aio.ReadQueue(), fd, [5, 50], [10, 10])
            right = (np.concatenate(found) == content[[*range(5, 15), *range(50, 60)]]).all()
            status = 0 if right and done.tolist() == [10, 10] else 2
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    done, found = read(queue, fd, [7], [10])
    assert done.tolist() == [10]
    np.testing.assert_array_equal(found[0], content[7:17])


def refuse(*_):
    return None


def short(self, fd, offsets, sizes, addresses):
    """Reads half of each range, as on a full queue or at a signal."""
    return _whole_read(self, fd, offsets, sizes // 2, addresses)


def nothing(self, fd, offsets, sizes, addresses):
    del self, fd, sizes, addresses
    return np.zeros(len(offsets), np.int64)


_whole_read = aio.ReadQueue.read


@pytest.mark.memory_limit(64)
@pytest.mark.parametrize("way", ["no queue", "no such machine", "half", "nothing"])
def test_the_samples_are_the_same_without(tmp_path, monkeypatch, way):
    if way == "no queue":
        monkeypatch.setattr(byte_sources, "open_queue", refuse)
    elif way == "no such machine":
        monkeypatch.setattr(aio.platform, "machine", lambda: "z80")
    elif way == "half":
        monkeypatch.setattr(aio.ReadQueue, "read", short)
    else:
        monkeypatch.setattr(aio.ReadQueue, "read", nothing)
    shape = testing.SAMPLE_SHAPE
    for options in ({}, {"chunks": (1, 1, *shape[1:])}, {"chunks": (4, *shape)}):
        path = testing.write_video_file(tmp_path / "a.h5", num_samples=300, **options)
        with VideoLoader(path, batch_size=150, seed=0, num_threads=2) as loader:
            for _, indices, (x, _) in loader.batches():
                np.testing.assert_array_equal(x, testing.sample_values(indices))


def test_no_queue_where_the_kernel_refuses(monkeypatch):
    def fail(self):
        del self
        raise OSError(11, "io_setup failed")

    monkeypatch.setattr(aio.ReadQueue, "__init__", fail)
    # Whose attributes are missing then; its end must not mind.
    monkeypatch.setattr(aio.ReadQueue, "_context", None, raising=False)
    assert aio.open_queue() is None


def test_no_queue_where_the_system_call_is_forbidden(monkeypatch):
    calls = (1 << 20, *aio._SYSTEM_CALLS[platform.machine()][1:])
    monkeypatch.setitem(aio._SYSTEM_CALLS, platform.machine(), calls)
    with pytest.raises(OSError, match="io_setup failed") as caught:
        aio.ReadQueue()
    assert caught.value.errno == errno.ENOSYS
    assert aio.open_queue() is None


@pytest.mark.parametrize("number", [errno.EINTR, errno.EINVAL])
def test_only_a_signal_has_the_answers_asked_for_again(fd, content, number):
    queue, asked = aio.ReadQueue(), []
    call = queue._call

    def fail_at_first(function, *args):
        if function == queue._get_events:
            asked.append(args)
            if len(asked) == 1:
                ctypes.set_errno(number)
                return -1
        return call(function, *args)

    queue._call = fail_at_first
    if number == errno.EINTR:
        done, found = read(queue, fd, [5, 50], [10, 20])
        assert (done.tolist(), len(asked)) == ([10, 20], 2)
        np.testing.assert_array_equal(found[1], content[50:70])
    else:
        with pytest.raises(OSError, match="io_getevents failed") as caught:
            read(queue, fd, [5], [10])
        assert caught.value.errno == number
