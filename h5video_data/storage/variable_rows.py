"""Where the rows of a dataset of variable length are, of bytes: reads their descriptors, once.

The dataset holds a descriptor of each row: its length, and where its bytes are in the global heap
(HDF5 File Format Specification, version 3.0: III.E, and VIII for the descriptors). `global_heap`
reads the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from .file_identity import FileIdentity, Files
from .filters import decode_chunk, undecodable
from .hdf5_files import handle_of
from .layout import StoredArray, describe

Ints = NDArray[np.int64]

# Of a row: length, address of the collection, index of the object in it. Little-endian, unaligned.
_DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
SIGNATURE = b"GCOL"
"""The first bytes of a collection."""
HEADER_NBYTES = 16
"""Bytes of the header of a collection, and of that of an object."""

# A collection has at least so many bytes; so many are read at once where one is walked.
MIN_COLLECTION_NBYTES = 4096
# Indices of objects have two bytes.
_MAX_OBJECTS = 1 << 16
# Objects of other datasets in the same collection: at most so many bytes are expected of them.
_MAX_UNKNOWN_NBYTES = 1 << 16
# The header of a longer row is checked before memory is taken for it.
_MAX_UNCHECKED_NBYTES = 16 << 20
# The arrays of more rows would take gigabytes.
_MAX_ROWS = 50_000_000
_ROWS_AT_ONCE = 1 << 16
# Addresses are cut off here: beyond the end of any file, and far from an overflow of int64.
_MAX_ADDRESS = np.uint64(2**62)


@dataclass(frozen=True, eq=False)
class VariableRows:
    """Where the rows of a dataset of variable length are; the arrays are parallel, (rows,)."""

    path: str
    """The file that contains the dataset."""
    identity: FileIdentity
    """That of the file when this was read."""
    name: str
    """The dataset's name in that file."""
    dtype: np.dtype[Any]
    """Of an element: uint8, int8 or an opaque byte, `V1`."""
    lengths: Ints
    """int64, elements, which are bytes; 0: empty, or never written."""
    addresses: Ints
    """int64, offset of the heap collection in the file, userblock counted in."""
    indices: NDArray[np.uint32]
    """uint32, index of the row's object in the collection."""
    ends: Ints
    """int64, end of the object's data in the collection, counted from its beginning; where the
    object is not `are_placed`, an estimate."""
    are_placed: NDArray[np.bool_]
    """bool, whether the lengths of other rows tell where the object lies in its collection."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays in memory: 29 a row."""
        arrays = (self.lengths, self.addresses, self.indices, self.ends, self.are_placed)
        return sum(array.nbytes for array in arrays)

    @property
    def files(self) -> Files:
        """Path and identity of the file, as of a `StoredArray`."""
        return ((self.path, self.identity),)


def describe_variable_rows(dataset: Any, opened_by: str | None = None) -> VariableRows | str:
    """Reads where the rows of an open `h5py.Dataset` of variable length are.

    Args:
        dataset: The dataset.
        opened_by: The name in its file by which it was opened, if that is known.

    Returns:
        The rows; or why only h5py can read them, in words.

    Raises:
        FileFormatError: The metadata of the dataset are damaged.
    """
    dtype = _element_dtype(dataset)
    if isinstance(dtype, str):
        return dtype
    if len(dataset.shape) != 1:
        return f"it has {len(dataset.shape)} axes: shape {dataset.shape}"
    if len(dataset) > _MAX_ROWS:
        return f"it has more than {_MAX_ROWS} rows"
    plist = dataset.id.get_create_plist()
    if dataset.file.id.get_create_plist().get_sizes() != (8, 8):
        return "the addresses of its file have another size than 8 bytes"
    is_default = plist.fill_value_defined() == h5py.h5d.FILL_VALUE_DEFAULT
    stored = describe(dataset, opened_by, element=(np.dtype("u1"), (_DESCRIPTOR.itemsize,)))
    num_rows = len(dataset)
    found = np.zeros(num_rows, _DESCRIPTOR)
    # What was never written holds the fill value: an empty row, unless the file has another.
    if stored.storage != "contiguous" or len(stored.offsets) or not is_default:
        if stored.obstacle:
            return stored.obstacle
        if foreign := undecodable(stored.filters_in_use):
            return f"its row descriptors pass the filter {foreign[0].name}"
        try:
            _read_descriptors(dataset, stored, found)
        except (OSError, EOFError, ValueError) as error:
            return f"its row descriptors cannot be read: {error}"
    is_null = found["address"] == 0  # whatever the length says (H5VLnative_blob.c)
    lengths = np.where(is_null, 0, found["length"]).astype(np.int64)
    base = dataset.file.userblock_size
    addresses = np.minimum(found["address"], _MAX_ADDRESS).astype(np.int64)
    addresses += np.where(is_null, 0, base)
    if base and not _has_heap(dataset, addresses[lengths > 0]):
        return "its heap is not where its userblock says"
    ends, are_placed = _place(lengths, addresses, found["index"])
    return VariableRows(
        path=stored.path,
        identity=stored.identity,
        name=stored.name,
        dtype=dtype,
        lengths=lengths,
        addresses=addresses,
        indices=found["index"].copy(),
        ends=ends,
        are_placed=are_placed,
    )


def _element_dtype(dataset: Any) -> np.dtype[Any] | str:
    """Returns the dtype of an element, of one byte, or why the rows cannot be read here."""
    stored = dataset.id.get_type()
    if stored.get_class() != h5py.h5t.VLEN:
        return "its rows do not have a variable length"
    element = stored.get_super()
    if element.get_size() != 1:
        return f"its elements have {element.get_size()} bytes"
    if element.get_class() == h5py.h5t.OPAQUE:
        return np.dtype("V1")
    for dtype in (np.dtype("u1"), np.dtype("i1")):
        if element.equal(h5py.h5t.py_create(dtype)):
            return dtype
    return "its elements are not bytes"


def _read_descriptors(dataset: Any, stored: StoredArray, found: NDArray[np.void]) -> None:
    """Fills `found`, of `_DESCRIPTOR`, with the descriptors of all rows that were written."""
    num_rows, size = len(found), _DESCRIPTOR.itemsize
    length = _ROWS_AT_ONCE if stored.chunk_shape is None else stored.chunk_shape[0]
    block = np.empty(length * size, np.uint8)
    for number, first in enumerate(range(0, num_rows, length)):
        count = min(length, num_rows - first)
        target, offset, mask = found[first : first + count].view(np.uint8), 0, 0
        if stored.chunk_shape is None:
            offset, nbytes = int(stored.offsets[0]) + first * size, count * size
        else:
            offset, nbytes = int(stored.offsets[number]), int(stored.sizes[number])
            mask = int(stored.masks[number])
        if offset < 0:
            continue
        data = target if not stored.filters and nbytes == len(target) else np.empty(nbytes, "u1")
        with phil:  # h5py does not take its own lock for this call
            got = handle_of(dataset.file).read_at(data.data, offset)
        if got < nbytes:
            raise EOFError(f"{nbytes - got} bytes of those of row {first} are missing")
        if stored.filters:
            decode_chunk(stored.filters, mask, data, block)
            target[:] = block[: len(target)]
        elif data is not target:
            target[:] = data[: len(target)]


def _has_heap(dataset: Any, addresses: Ints) -> bool:
    """Returns whether there is a collection at the first of the addresses, if there are any."""
    found = bytearray(len(SIGNATURE))
    if len(addresses):
        with phil:
            handle_of(dataset.file).read_at(memoryview(found), int(addresses[0]))
    return not len(addresses) or found == SIGNATURE


def padded(sizes: Any) -> Any:
    """Returns the bytes that objects of these sizes take behind their headers."""
    return -(-sizes // 8) * 8


def _place(
    lengths: Ints, addresses: Ints, indices: NDArray[np.uint32]
) -> tuple[Ints, NDArray[np.bool_]]:
    """Returns `ends` and `are_placed` of `VariableRows`."""
    ends, are_placed = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.bool_)
    rows = np.flatnonzero(lengths)
    if not len(rows):
        return ends, are_placed
    # By collection, and in it by index.
    rows = rows[np.lexsort((indices[rows], addresses[rows]))]
    address, size = addresses[rows], lengths[rows]
    needed = HEADER_NBYTES + padded(size)
    before = np.cumsum(needed) - needed
    is_first = np.diff(address, prepend=-1) != 0
    first = np.flatnonzero(is_first)
    of_collection = np.cumsum(is_first) - 1
    rank = np.arange(len(rows)) - first[of_collection]
    place = HEADER_NBYTES + before - before[first][of_collection]
    missing = np.minimum(indices[rows].astype(np.int64) - 1 - rank, _MAX_OBJECTS)
    end = place + HEADER_NBYTES + size
    next_address = np.append(address[first[1:]], _MAX_ADDRESS.astype(np.int64))[of_collection]
    # A length may be damaged. A header that is read first tells.
    is_doubtful = (address + end > next_address) | (size > _MAX_UNCHECKED_NBYTES)
    is_placed = (missing == 0) & ~is_doubtful
    # Objects of others are expected to be as large as those that are known.
    mean = (place + needed) // (rank + 1)
    unknown = np.maximum(missing, 0) * np.minimum(mean, _MAX_UNKNOWN_NBYTES)
    unknown = np.minimum(unknown, _MAX_UNKNOWN_NBYTES)
    estimate = np.where(is_doubtful, 0, end + unknown)
    ends[rows] = np.where(is_placed, end, np.maximum(estimate, MIN_COLLECTION_NBYTES))
    are_placed[rows] = is_placed
    return ends, are_placed
