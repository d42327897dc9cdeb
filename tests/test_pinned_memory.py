"""Buffers that a GPU copies from, with a stand-in for the driver."""

from __future__ import annotations

import functools
import gc
import logging
import os

import h5py
import numpy as np
import pytest
from cuda_driver import Driver

from h5video_data import VideoLoader
from h5video_data.errors import ArgumentError
from h5video_data.reading import pinned_memory, prefetcher
from h5video_data.reading.buffers import LEAST_MAPPED_NBYTES, BufferPool
from h5video_data.reading.pinned_memory import CudaError, PinnedMemory

U1 = np.dtype("u1")
SAMPLE = (4, 3, 64, 64)
NUM = 40


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A file of samples of 48 KiB, and what is in it."""
    path = tmp_path_factory.mktemp("pinned") / "set.h5"
    x = np.random.default_rng(0).integers(0, 256, (NUM, *SAMPLE), np.uint8)
    with h5py.File(path, "w") as file:
        file["X"], file["Y"] = x, np.arange(NUM)
    return str(path), x


@pytest.fixture
def driver(monkeypatch):
    """The driver that loaders find."""
    found = Driver()
    monkeypatch.setattr(
        prefetcher, "PinnedMemory", functools.partial(PinnedMemory, functions=found)
    )
    return found


@pytest.mark.parametrize("block_nbytes", [LEAST_MAPPED_NBYTES, 5_000_000])
def test_a_block_is_pinned_until_it_is_collected(block_nbytes):
    driver = Driver()
    pool = BufferPool(block_nbytes, max_kept=0, pinned=PinnedMemory(0, driver))
    array = pool.lend((block_nbytes,), U1)
    assert driver.registered == {array.ctypes.data: block_nbytes}
    view = array[5:]
    del array
    gc.collect()
    assert driver.registered
    del view
    gc.collect()
    assert not driver.registered
    assert driver.depth == 0


def test_a_block_that_is_kept_stays_pinned():
    driver = Driver()
    pool = BufferPool(LEAST_MAPPED_NBYTES, max_kept=1, pinned=PinnedMemory(0, driver))
    for _ in range(3):
        assert driver.holds(pool.lend((100,), U1).ctypes.data)
    assert driver.num_registered == 1
    del pool
    gc.collect()
    assert not driver.registered


def test_small_blocks_are_not_pinned():
    """They share pages with other memory, which must not be pinned twice."""
    driver = Driver()
    BufferPool(LEAST_MAPPED_NBYTES - 1, max_kept=0, pinned=PinnedMemory(0, driver)).lend((9,), U1)
    assert driver.num_registered == 0


def test_what_the_driver_refuses_is_logged_once(caplog):
    driver = Driver(failing=["cuMemHostRegister_v2"])
    pinned = PinnedMemory(0, driver)
    with caplog.at_level(logging.WARNING):
        arrays = [
            BufferPool(LEAST_MAPPED_NBYTES, max_kept=0, pinned=pinned).lend((9,), U1)
            for _ in range(3)
        ]
    (record,) = caplog.records
    assert "cuMemHostRegister_v2: CUDA error 999" in record.getMessage()
    assert driver.calls.count("cuMemHostRegister_v2") == 1
    del arrays
    gc.collect()
    assert "cuMemHostUnregister" not in driver.calls
    assert driver.depth == 0


def test_a_child_process_does_not_call_the_driver(monkeypatch):
    driver = Driver()
    pool = BufferPool(LEAST_MAPPED_NBYTES, max_kept=0, pinned=PinnedMemory(0, driver))
    array = pool.lend((9,), U1)
    before = list(driver.calls)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    other = pool.lend((9,), U1)
    del array, other
    gc.collect()
    assert driver.calls == before


def test_without_a_driver(monkeypatch):
    monkeypatch.setattr(pinned_memory, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(CudaError, match="no NVIDIA driver: libno-such-driver"):
        PinnedMemory()


@pytest.mark.parametrize("name", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"])
def test_an_error_of_the_driver(name):
    with pytest.raises(CudaError, match=f"{name}: CUDA error 999"):
        PinnedMemory(0, Driver(failing=[name]))


def test_a_loader_reads_into_pinned_memory(videos, driver):
    path, x = videos
    with VideoLoader(path, batch_size=8, seed=0, pin_memory=True) as loader:
        for _ in range(3):
            batches = [
                (driver.holds(arrays[0].ctypes.data), indices, arrays[0].copy())
                for _, indices, arrays in loader.batches()
            ]
            assert [is_pinned for is_pinned, *_ in batches] == [True] * 5
            for _, indices, array in batches:
                np.testing.assert_array_equal(array, x[indices])
        # Pinning takes as long as reading: what was pinned once stays so.
        pinned_once = driver.num_registered
        for _ in range(3):
            for batch in loader:
                del batch
        assert driver.num_registered == pinned_once
    del loader
    gc.collect()
    assert not driver.registered
    assert driver.depth == 0


def test_a_loader_that_is_in_use_pins_its_next_epoch(videos, driver):
    path, x = videos
    with VideoLoader(path, batch_size=8, seed=0) as loader:
        running = loader.batches()
        next(running)
        loader._feed.pin_buffers(0)
        assert len(list(running)) == 4
        assert driver.num_registered == 0
        for _, indices, (array, _) in loader.batches():
            assert driver.holds(array.ctypes.data)
            np.testing.assert_array_equal(array, x[indices])


def test_pinned_memory_that_is_not_to_be_had(videos, monkeypatch):
    path, _ = videos
    monkeypatch.setattr(pinned_memory, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(
        ArgumentError, match=r"`pin_memory=True` needs a GPU of NVIDIA's.*no NVIDIA"
    ):
        VideoLoader(path, pin_memory=True)
    with pytest.raises(ArgumentError, match=r"`pin_memory` must be None, True or False.*'yes'"):
        VideoLoader(path, pin_memory="yes")
