"""What codecs free stays with the C library, although TensorFlow has it go back to the kernel."""

import ctypes

import pytest

import h5video_data as h5v
from h5video_data.testing import write_video_file


class MemoryUse(ctypes.Structure):
    """`struct mallinfo2`, malloc.h of the GNU C library."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_what_codecs_free_is_kept_by_the_c_library(tmp_path):
    c = ctypes.CDLL(None)
    c.mallinfo2.restype = MemoryUse
    c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    path = write_video_file(tmp_path / "f.h5", num_samples=22, compression="gzip")
    next(iter(h5v.video_dataset_from_hdf5(path)))
    before = c.mallinfo2().hblks
    # More than it has lying about.
    blocks = [c.malloc(300_000) for _ in range(500)]
    mapped = c.mallinfo2().hblks - before
    for block in blocks:
        c.free(block)
    assert mapped == 0
