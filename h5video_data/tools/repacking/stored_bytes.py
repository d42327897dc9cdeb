"""Values as the bytes that are stored: read in pieces, with the types that they are stored with.

NumPy's strings are padded with nulls. Many programs write null-terminated strings instead; if one
fills its size, HDF5 replaces its last letter with the terminator when it comes from NumPy. So
values are copied as the bytes that are stored, and through NumPy's types only where these are
equivalent.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ReadError
from h5video_data.storage.hdf5_files import HDF5_ERRORS
from h5video_data.storage.hdf5_names import dataset_location
from h5video_data.storage.values import Values

# Values are copied and compared in pieces of about this many bytes, and those of variable length,
# whose bytes are stored elsewhere, this many at a time.
PIECE_BYTES = 2 << 20
PIECE_OBJECTS = 4096

# A part of an array: a slice for each axis, with a start and a stop.
_Piece = tuple[slice, ...]


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Raises a ReadError for errors of h5py."""
    try:
        yield
    except HDF5_ERRORS as error:
        raise ReadError(f"{what} cannot be read: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Returns the message of an error; `str` of a KeyError has it in quotes."""
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


class ValueForm(NamedTuple):
    """The NumPy and the HDF5 type that values have in memory."""

    dtype: np.dtype[Any]
    in_memory: Any


def form_of(stored_type: Any, *, is_read_only: bool = False) -> ValueForm:
    """Chooses the form in which to read values of an HDF5 type, and write them unless read-only."""
    try:
        dtype = stored_type.dtype
    except HDF5_ERRORS:  # h5py has no such type
        if stored_type.detect_class(h5py.h5t.VLEN):
            raise
        dtype = np.dtype("V1")
    # Values of variable length come as objects, which can be compared, and which h5py frees.
    if dtype.hasobject and (is_read_only or _is_exact(dtype, stored_type)):
        return ValueForm(dtype, h5py.h5t.py_create(dtype))
    # For others of variable length, HDF5's own pointers are copied, and h5py does not free what
    # they point to: a loss of memory, but not of letters.
    return ValueForm(np.dtype((np.void, stored_type.get_size())), stored_type)


def _is_exact(dtype: np.dtype[Any], stored_type: Any) -> bool:
    """Tells if h5py writes the objects that it reads with the same HDF5 type."""
    if not h5py.h5t.py_create(dtype, logical=True).equal(stored_type):
        return False
    if not stored_type.detect_class(h5py.h5t.VLEN):  # strings, which are a class of their own
        return True
    # h5py (3.14) does not swap the bytes of numbers.
    item = h5py.check_vlen_dtype(dtype)
    return item is not None and np.dtype(item).isnative and not np.dtype(item).hasobject


def shape_of(dataset: Any, num_rows: int | None) -> Any:
    """Returns the shape of a dataset's first rows; None: of all of it."""
    return dataset.shape if num_rows is None else (num_rows, *dataset.shape[1:])


def _pieces(shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> Iterator[_Piece]:
    """Cuts an array into pieces, in row-major order."""
    if shape is None or 0 in shape:
        return
    most = PIECE_OBJECTS if dtype.hasobject else max(1, PIECE_BYTES // dtype.itemsize)
    sizes = list(shape)
    for axis in range(len(shape)):
        sizes[axis] = max(1, min(shape[axis], most // math.prod(shape[axis + 1 :])))
        if sizes[axis] > 1:
            break
    yield from itertools.product(
        *(
            [slice(start, min(start + size, length)) for start in range(0, length, size)]
            for length, size in zip(shape, sizes, strict=True)
        )
    )


def moves(
    source: Any, dtype: np.dtype[Any], begin: int, rows: Sequence[range] | None
) -> Iterator[tuple[_Piece, _Piece]]:
    """Yields pieces of rows, and where they are to be, from row `begin`."""
    if rows is None:
        yield from ((piece, _shifted(piece, begin)) for piece in _pieces(source.shape, dtype))
        return
    for run in rows:
        for piece in _pieces((len(run), *source.shape[1:]), dtype):
            yield _shifted(piece, run.start), _shifted(piece, begin)
        begin += len(run)


def _shifted(piece: _Piece, num_rows: int) -> _Piece:
    rows = [slice(item.start + num_rows, item.stop + num_rows) for item in piece[:1]]
    return (*rows, *piece[1:])


def read_piece(
    dataset: Any, piece: _Piece, form: ValueForm, stored: Values | None = None
) -> NDArray[Any]:
    """Reads a part of a dataset; `stored` finds what HDF5 would not tell."""
    with stored.reading(piece) if stored and piece else reading(dataset_location(dataset)):
        values = np.zeros([item.stop - item.start for item in piece], form.dtype)
        dataset.id.read(*spaces_of(dataset, piece), values, form.in_memory)
    return values


def spaces_of(dataset: Any, piece: _Piece) -> tuple[Any, Any]:
    """Returns the data spaces of a piece, in memory and in the dataset."""
    if not piece:
        return h5py.h5s.ALL, h5py.h5s.ALL
    size = tuple(item.stop - item.start for item in piece)
    space = dataset.id.get_space()
    space.select_hyperslab(tuple(item.start for item in piece), size)
    return h5py.h5s.create_simple(size), space


def same_values(one: Any, other: Any) -> bool:
    """Compares arrays byte by byte (NaN, -0.0), and the objects in them likewise."""
    if not isinstance(one, np.ndarray):
        return bool(one == other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.names and one.dtype.hasobject:
        return all(same_values(one[name], other[name]) for name in one.dtype.names)
    if one.dtype.hasobject:
        return all(map(same_values, one.ravel(), other.ravel()))
    return bool(one.tobytes() == other.tobytes())
