"""What the tests of rows of variable length share."""

from __future__ import annotations

import os

import h5py
import numpy as np

from h5video_data.storage.file_identity import identity_of
from h5video_data.storage.global_heap import VariableRows, describe_variable_rows
from h5video_data.storage.system import read_at


class RangeError(Exception):
    """As that of `reading.byte_sources`."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Reader:
    """Reads ranges of a file, and remembers which. See `ByteSource.read_ranges`."""

    def __init__(self, path):
        self.path = path
        self.calls = []

    def __call__(self, offsets, sizes, starts, target):
        self.calls.append(list(zip(offsets.tolist(), sizes.tolist(), strict=True)))
        assert (sizes > 0).all()
        fd = os.open(self.path, os.O_RDONLY)
        try:
            for number, (offset, size) in enumerate(self.calls[-1]):
                start = starts[number]
                if read_at(fd, target[start : start + size].data, offset) < size:
                    raise RangeError(number) from EOFError("the file ends too early")
        finally:
            os.close(fd)

    @property
    def nbytes(self):
        return sum(size for call in self.calls for _, size in call)


def described(path, name="video"):
    with h5py.File(path) as file:
        found = describe_variable_rows(file[name])
    assert isinstance(found, VariableRows), found
    assert found.identity == identity_of(str(path))
    return found


def rows_of(found):
    """The rows of a `RowBytes`, as bytes."""
    return [
        found.buffer[start : start + size].tobytes()
        for start, size in zip(found.starts.tolist(), found.sizes.tolist(), strict=True)
    ]


def h5py_rows(path, name="video"):
    with h5py.File(path) as file:
        return [np.asarray(row).tobytes() for row in file[name]]


def content(row, size):
    """Bytes that differ from those of other rows."""
    return np.random.default_rng([row, size]).integers(0, 256, size, np.uint8)
