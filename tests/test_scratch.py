"""Memory that a thread uses again: its own, aligned, and one block for each purpose."""

import threading

import pytest

from h5video_data.storage.scratch import ALIGNMENT, aligned_empty, scratch


def address(block):
    return block.ctypes.data


@pytest.mark.parametrize("num_bytes", [1, 63, 64, 4097])
def test_aligned(num_bytes):
    for _ in range(5):
        block = aligned_empty(num_bytes)
        assert len(block) == num_bytes
        assert address(block) % ALIGNMENT == 0


def test_the_same_memory_comes_again_until_more_is_wanted():
    first = scratch("test again", 100)
    assert address(scratch("test again", 100)) == address(first)
    smaller = scratch("test again", 7)
    assert (address(smaller), len(smaller)) == (address(first), 7)
    larger = scratch("test again", 10_000)
    assert len(larger) == 10_000
    assert address(scratch("test again", 100)) == address(larger)


def test_purposes_and_threads_do_not_share():
    blocks = [scratch("test one", 50), scratch("test other", 50)]
    thread = threading.Thread(target=lambda: blocks.append(scratch("test one", 50)))
    thread.start()
    thread.join()
    for number, block in enumerate(blocks):
        block[:] = number
    assert [set(block.tolist()) for block in blocks] == [{0}, {1}, {2}]
