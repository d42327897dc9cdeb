"""Pinned memory, with a driver that only keeps accounts."""

import gc

import numpy as np
import pytest
from cuda_driver import Driver

from benchmarks import pinned
from benchmarks.contenders import Job
from benchmarks.contenders.ours import LoaderFeed
from benchmarks.pinned import Cuda, CudaError, find_cuda, pin_buffers
from benchmarks.video_set import make_set


def test_memory_is_pinned_until_it_is_collected():
    driver = Driver()
    array = Cuda(driver).pinned_empty(10_000)
    assert driver.registered == {array.ctypes.data: 10_000}
    view = array[5:]
    del array
    gc.collect()
    assert driver.registered
    del view
    gc.collect()
    assert not driver.registered
    assert driver.depth == 0


def test_the_speed_of_copies():
    driver = Driver()
    found = Cuda(driver).limits(1000)
    assert set(found) == {"pageable", "pinned"}
    assert all(speed > 0 for speed in found.values())
    assert driver.copied == 2 * 17 * 1000
    assert driver.allocated == driver.depth == 0


@pytest.mark.parametrize("name", ["cuInit", "cuMemHostRegister_v2", "cuMemcpyHtoD_v2"])
def test_what_the_driver_refuses(name):
    driver = Driver(failing=[name])
    with pytest.raises(CudaError, match=f"{name}: CUDA error 999"):
        Cuda(driver).limits(1000)
    assert driver.allocated == driver.depth == 0


def test_without_a_driver(monkeypatch):
    monkeypatch.setattr(pinned, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        find_cuda()


@pytest.mark.tf
def test_a_loader_reads_into_pinned_memory(tmp_path):
    path = make_set(tmp_path, "contiguous", 24, (4, 3, 16, 16))
    job = Job(path, tmp_path, 24, 8, 2)
    driver = Driver()
    feed = LoaderFeed(job, "exact")
    with feed.loader:
        pin_buffers(feed.loader, Cuda(driver))
        feed.start_turn()
        count = 0
        for x, _ in feed.loader:
            address = x.ctypes.data
            assert any(a <= address < a + size for a, size in driver.registered.items())
            count += 1
        assert count == 3
        # It takes as long to pin memory as to fill it: what was pinned once stays so.
        pools = feed.loader._feed._reader._pools
        held = [pool.lend((8,), np.dtype(np.uint8)) for pool in pools for _ in range(50)]
        num_pinned = len(driver.registered)
        del held
        assert len(driver.registered) == num_pinned >= 50
        del pools
    ordinary = LoaderFeed(job, "exact")
    with ordinary.loader:
        for x, _ in ordinary.loader:
            assert x.ctypes.data not in driver.registered
    del feed, x
    gc.collect()
    assert not driver.registered
