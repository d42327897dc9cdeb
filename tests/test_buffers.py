from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import race_helpers
from conftest import resident_nbytes
from hypothesis import given
from hypothesis import strategies as st

from h5video_data.reading.buffers import (
    ALIGNMENT,
    LEAST_HUGE_NBYTES,
    LEAST_MAPPED_NBYTES,
    BufferPool,
    aligned_empty,
)
from h5video_data.tfdata.malloc import keep_freed_blocks

U1 = np.dtype("u1")


def address(array):
    return array.ctypes.data


@given(st.integers(1, 5000))
def test_alignment(num_bytes):
    block = aligned_empty(num_bytes)
    assert (block.dtype, block.shape) == (np.uint8, (num_bytes,))
    assert address(block) % ALIGNMENT == 0


@pytest.mark.parametrize("block_nbytes", [4096, LEAST_MAPPED_NBYTES, LEAST_HUGE_NBYTES])
@pytest.mark.parametrize("dtype", ["u1", "?", "f2", "i4", "f8", "c16"])
def test_a_loan_is_aligned_writable_and_contiguous(dtype, block_nbytes):
    array = BufferPool(block_nbytes, max_kept=1).lend((3, 5, 7), np.dtype(dtype))
    assert (array.shape, array.dtype) == ((3, 5, 7), np.dtype(dtype))
    assert address(array) % ALIGNMENT == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_a_block_comes_back_when_its_array_is_gone():
    pool = BufferPool(100, max_kept=1)
    array = pool.lend((100,), U1)
    first = address(array)
    del array
    assert address(pool.lend((100,), U1)) == first
    assert pool.num_allocated == 1


def test_a_smaller_loan_takes_the_same_block():
    pool = BufferPool(100, max_kept=1)
    pool.lend((100,), U1)
    assert pool.lend((3, 4), np.dtype("f4")).nbytes == 48
    assert pool.num_allocated == 1


@pytest.mark.parametrize("block_nbytes", [LEAST_MAPPED_NBYTES, 600_000, 5_000_000])
def test_memory_of_blocks_that_are_not_kept_goes_back_to_the_system(block_nbytes):
    keep_freed_blocks()  # else the C library gives back large blocks by itself
    pool = BufferPool(block_nbytes, max_kept=0)
    before = resident_nbytes()
    count = (256 << 20) // block_nbytes
    held, between = [], []
    for _ in range(count):
        held.append(pool.lend((block_nbytes,), U1))
        held[-1][...] = 1
        # Something small of others, which stays.
        between.append(np.ones(1000, np.uint8))
    assert resident_nbytes() > before + (200 << 20)
    held.clear()
    assert resident_nbytes() < before + (20 << 20)
    assert len(between) == count


class Holder:
    """Holds an array as an attribute, in a reference cycle."""

    def __init__(self, array):
        self.array, self.me = array, self


HOLDS = {
    "the array": lambda array: array,
    "a row": lambda array: array[3],
    "a slice": lambda array: array[2:5],
    "every second": lambda array: array[::2, ::-1],
    "a slice of a slice": lambda array: array[1:][1:][1:, 2],
    "reshaped": lambda array: array.reshape(-1),
    "a reshaped slice": lambda array: array[4:].reshape(2, -1)[1],
    "transposed": lambda array: array.T,
    "another dtype": lambda array: array.view("u2"),
    "another dtype of a slice": lambda array: array[1:3].view("u4")[:, 1:],
    "a memoryview": memoryview,
    "a memoryview's slice": lambda array: memoryview(array)[2:4],
    "an array over a memoryview": lambda array: np.asarray(memoryview(array)[1:]),
    "bytes seen through frombuffer": lambda array: np.frombuffer(array, np.uint8, 8, 8),
    "as_strided": lambda array: np.lib.stride_tricks.as_strided(array[5:], (2, 2)),
    "broadcast": lambda array: np.broadcast_to(array[6], (3, 16)),
    "an iterator": lambda array: array.flat,
    "its base": lambda array: array[2].base,
    "a list": lambda array: [list(array)],
    "dlpack": lambda array: array.__dlpack__(),
    "from dlpack": lambda array: np.from_dlpack(array)[2:],
    "an object in a cycle": lambda array: Holder(array[1]),
    "a subclass": lambda array: array.view(np.ma.MaskedArray)[1:],
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_a_block_is_not_reused_while_somebody_sees_it(hold):
    pool = BufferPool(128, max_kept=4)
    array = pool.lend((8, 16), U1)
    array[...] = 7
    first = address(array)
    held = hold(array)
    del array
    others = [pool.lend((8, 16), U1) for _ in range(3)]  # all at once: every kept block is out
    assert first not in map(address, others)
    for other in others:
        other[...] = 0xEE
    del other, others, held
    gc.collect()
    assert first in map(address, [pool.lend((8, 16), U1) for _ in range(4)])


def test_a_held_view_keeps_its_values():
    pool = BufferPool(64, max_kept=8)
    held = []
    for number in range(50):
        array = pool.lend((8, 8), U1)
        array[...] = number
        held.append(array[number % 8, 1:])
        if number % 3 == 0:
            held.pop(len(held) // 2)
    assert {int(view[0]) for view in held} == {int(view[-1]) for view in held}
    assert len({int(view[0]) for view in held}) == len(held)


def test_lending_never_waits():
    pool = BufferPool(16, max_kept=0)
    held = [pool.lend((16,), U1) for _ in range(100)]
    assert len({address(array) for array in held}) == 100
    assert pool.num_allocated == 100


@pytest.mark.parametrize("max_kept", [0, 1, 3])
def test_no_more_blocks_are_kept_than_asked_for(max_kept):
    pool = BufferPool(16, max_kept=max_kept)
    held = [pool.lend((16,), U1) for _ in range(10)]
    del held
    again = [pool.lend((16,), U1) for _ in range(10)]
    assert pool.num_allocated == 10 + len(again) - max_kept


def test_a_pool_that_is_gone_leaves_its_loans_alone():
    pool = BufferPool(16, max_kept=2)
    pool.lend((16,), U1)  # and kept
    array = pool.lend((16,), U1)
    other = pool.lend((16,), U1)
    array[...] = 5
    gone = weakref.ref(pool)
    del pool, other
    assert gone() is None
    np.testing.assert_array_equal(array, 5)


def test_threads_never_share_a_block():
    pool = BufferPool(64, max_kept=4)
    wrong = []

    def work(number):
        for _ in range(500):
            array = pool.lend((64,), U1)
            array[...] = number
            view = array[10:20]
            del array
            if (view != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_blocks_are_poisoned_when_they_come_back():
    # So that the tests of races can fail: with H5VIDEO_RACES=1, and in test_exactly_once.
    restore = race_helpers.install()
    try:
        pool = BufferPool(64, max_kept=1)
        first = pool.lend((8,), np.dtype(np.int64))
        first[...] = 1
        address = first.ctypes.data
        del first
        again = pool.lend((64,), np.dtype(np.uint8))
        assert again.ctypes.data == address
        assert (again == race_helpers.POISON).all()
    finally:
        restore()
