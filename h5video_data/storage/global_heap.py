"""Reads rows of variable length, of bytes, by positioned reads: past HDF5's lock.

The dataset holds a descriptor of each row: its length, and where its bytes are in the global heap,
which is made of collections (HDF5 File Format Specification, version 3.0: III.E, and VIII for the
descriptors). Two steps, as for chunks: `describe_variable_rows` reads all descriptors once, into
arrays; `read_variable_rows` reads rows.

A collection says nowhere what lies where in it: its objects follow each other, each behind a header
with its index and size. HDF5 appends them with ascending indices, and closes the gaps that deleted
ones leave. So if objects 1 to k of a collection are all rows of this dataset, their lengths tell
where object k begins; its header is compared. Otherwise the collection is walked from its first
object on. HDF5 puts several objects into a collection, up to about 40 KB of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError

from .file_identity import FileIdentity, Files
from .filters import decode_chunk, undecodable
from .layout import StoredArray, describe
from .os_errors import read_failure
from .scratch import aligned_empty
from .system import read_at

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
ReadRanges = Callable[[Ints, Ints, Ints, Bytes], None]
"""`read_ranges(offsets, sizes, starts, target)` of a byte source."""

# Of a row: length, address of the collection, index of the object in it. Little-endian, unaligned.
_DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
# Headers of a collection and of an object. The data behind the latter is padded to 8 bytes.
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_OBJECT_FIELDS = np.dtype([("index", "<u2"), ("count", "<u2"), ("pad", "<u4"), ("size", "<u8")])
_SIGNATURE, _VERSION = b"GCOL", 1
_HEADER_NBYTES = 16  # of each of the two

# A collection has at least so many bytes; so many are read at once where one is walked.
_MIN_COLLECTION_NBYTES = 4096
# Indices of objects have two bytes.
_MAX_OBJECTS = 1 << 16
# Objects of other datasets in the same collection: at most so many bytes are expected of them.
_MAX_UNKNOWN_NBYTES = 1 << 16
# The header of a longer row is checked before memory is taken for it.
_MAX_UNCHECKED_NBYTES = 16 << 20
# Two ranges are read as one if no more lies between them: a read takes as long as copying this much
# from the page cache.
_MAX_GAP_NBYTES = 8 << 10
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


class RowBytes(NamedTuple):
    """Bytes of rows that were read: row i is `buffer[starts[i] : starts[i] + sizes[i]]`."""

    buffer: Bytes
    """uint8 (n,); other bytes of the file lie between the rows."""
    starts: Ints
    """int64 (rows,)."""
    sizes: Ints
    """int64 (rows,)."""


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
            got = read_at(dataset.file.id.get_vfd_handle(), data.data, offset)
        if got < nbytes:
            raise EOFError(f"{nbytes - got} bytes of those of row {first} are missing")
        if stored.filters:
            decode_chunk(stored.filters, mask, data, block)
            target[:] = block[: len(target)]
        elif data is not target:
            target[:] = data[: len(target)]


def _has_heap(dataset: Any, addresses: Ints) -> bool:
    """Returns whether there is a collection at the first of the addresses, if there are any."""
    found = bytearray(len(_SIGNATURE))
    if len(addresses):
        with phil:
            read_at(dataset.file.id.get_vfd_handle(), memoryview(found), int(addresses[0]))
    return not len(addresses) or found == _SIGNATURE


def _padded(sizes: Any) -> Any:
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
    needed = _HEADER_NBYTES + _padded(size)
    before = np.cumsum(needed) - needed
    is_first = np.diff(address, prepend=-1) != 0
    first = np.flatnonzero(is_first)
    of_collection = np.cumsum(is_first) - 1
    rank = np.arange(len(rows)) - first[of_collection]
    place = _HEADER_NBYTES + before - before[first][of_collection]
    missing = np.minimum(indices[rows].astype(np.int64) - 1 - rank, _MAX_OBJECTS)
    end = place + _HEADER_NBYTES + size
    next_address = np.append(address[first[1:]], _MAX_ADDRESS.astype(np.int64))[of_collection]
    # A length may be damaged. A header that is read first tells.
    is_doubtful = (address + end > next_address) | (size > _MAX_UNCHECKED_NBYTES)
    is_placed = (missing == 0) & ~is_doubtful
    # Objects of others are expected to be as large as those that are known.
    mean = (place + needed) // (rank + 1)
    unknown = np.maximum(missing, 0) * np.minimum(mean, _MAX_UNKNOWN_NBYTES)
    unknown = np.minimum(unknown, _MAX_UNKNOWN_NBYTES)
    estimate = np.where(is_doubtful, 0, end + unknown)
    ends[rows] = np.where(is_placed, end, np.maximum(estimate, _MIN_COLLECTION_NBYTES))
    are_placed[rows] = is_placed
    return ends, are_placed


class _Ranges(NamedTuple):
    """Ranges of a file to read, and their places in a buffer; parallel arrays, (ranges,)."""

    offsets: Ints
    sizes: Ints
    starts: Ints
    of_item: Ints
    """(items,), the range in which each item lies."""

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer."""
        return int(self.sizes.sum())

    def position(self, offsets: Ints) -> Ints:
        """Returns where bytes of the file lie in the buffer, one offset for each item."""
        return self.starts[self.of_item] + offsets - self.offsets[self.of_item]


def _coalesce(begins: Ints, stops: Ints) -> _Ranges:
    """Plans the reading of items, from `begins` to `stops` in the file, n >= 1, in any order."""
    order = np.argsort(begins, kind="stable")
    reach = np.maximum.accumulate(stops[order])
    is_first = np.append(True, begins[order][1:] > reach[:-1] + _MAX_GAP_NBYTES)
    first = np.flatnonzero(is_first)
    offsets = begins[order][first]
    sizes = reach[np.append(first[1:], len(order)) - 1] - offsets
    of_item = np.empty(len(order), np.int64)
    of_item[order] = np.cumsum(is_first) - 1
    return _Ranges(offsets, sizes, np.cumsum(sizes) - sizes, of_item)


def plan_variable_rows(variable_rows: VariableRows, rows: Ints) -> tuple[Ints, Ints]:
    """Plans which bytes `read_variable_rows` reads first; in the usual case, it reads no others.

    Returns:
        Offsets and sizes of ranges of the file, int64, ascending: for `ByteSource.announce`.

    Raises:
        ReadError: A row lies outside of the file.
    """
    rows = rows[variable_rows.lengths[rows] > 0]
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ranges = _plan(variable_rows, rows)[0]
    return ranges.offsets, ranges.sizes


def _plan(variable: VariableRows, rows: Ints) -> tuple[_Ranges, NDArray[np.bool_]]:
    """Plans the reading of rows that are not empty; returns also which of them are placed."""
    address, length = variable.addresses[rows], variable.lengths[rows]
    file_nbytes = variable.identity.num_bytes
    is_outside = address + 2 * _HEADER_NBYTES + length > file_nbytes
    if is_outside.any():
        raise _damaged(variable, int(rows[is_outside][0]), "it lies outside of the file")
    stops = address + variable.ends[rows]
    is_placed = variable.are_placed[rows] & (stops <= file_nbytes)
    place = variable.ends[rows] - length - _HEADER_NBYTES
    # The header of the collection is checked where it is next to the object.
    is_inner = is_placed & (place > _HEADER_NBYTES)
    begins = address + np.where(is_inner, place, 0)
    return _coalesce(begins, np.minimum(stops, file_nbytes)), is_placed


def read_variable_rows(
    read_ranges: ReadRanges,
    rows: Ints,
    variable_rows: VariableRows,
    allocate: Callable[[int], Bytes] = aligned_empty,
) -> RowBytes:
    """Reads rows. Called by several threads at once. Mostly, it calls `read_ranges` once.

    Args:
        read_ranges: Reads ranges of the file: that of a `ByteSource`. Where its error has a
            `number`, that of a range, the error of this function names a row in it.
        rows: int64 (n,), positions along the dataset's axis, in any order, repeats allowed.
        variable_rows: Where they are.
        allocate: Returns memory of at least so many bytes, uint8 (nbytes,).

    Returns:
        Their bytes, in the order of `rows`.

    Raises:
        ReadError: The bytes of a row cannot be read, or are not where they should be. The file may
            have been changed: compare its identity.
        UnavailableError: The machine is at fault.
    """
    sizes = variable_rows.lengths[rows]
    starts = np.zeros(len(rows), np.int64)
    wanted = np.flatnonzero(sizes)
    if not len(wanted):
        return RowBytes(np.zeros(0, np.uint8), starts, sizes)
    heap = _HeapReader(read_ranges, variable_rows, rows[wanted], allocate)
    starts[wanted] = heap.locate()
    return RowBytes(heap.buffer, starts, sizes)


class _HeapReader:
    """Reads the bytes for some rows, none of them empty, and finds the rows in them."""

    def __init__(
        self,
        read_ranges: ReadRanges,
        variable: VariableRows,
        rows: Ints,
        allocate: Callable[[int], Bytes],
    ) -> None:
        self._read_ranges = read_ranges
        self._variable = variable
        self._rows = rows
        self._allocate = allocate
        self._ranges, self._is_placed = _plan(variable, rows)
        self.buffer = self._read(self._ranges, rows)

    def _read(self, ranges: _Ranges, rows: Ints) -> Bytes:
        """Reads ranges for rows, of which each is one item."""
        nbytes = ranges.nbytes
        target = self._allocate(nbytes)[:nbytes]
        try:
            self._read_ranges(ranges.offsets, ranges.sizes, ranges.starts, target)
        except Exception as error:
            number = getattr(error, "number", None)
            if number is None:
                raise
            row = int(rows[np.argmax(ranges.of_item == number)])
            cause = error.__cause__ or error
            raise read_failure(_location(self._variable, row), cause) from cause
        return target

    def locate(self) -> Ints:
        """Returns the place of each row in the buffer, which may have to become longer."""
        variable, rows = self._variable, self._rows
        address, length = variable.addresses[rows], variable.lengths[rows]
        data = self._ranges.position(address + variable.ends[rows] - length)
        is_right = self._is_placed.copy()
        is_right[is_right] = self._are_headers(data[is_right], rows[is_right])
        others = np.flatnonzero(~is_right)
        if not len(others):
            return data
        found = self._search(others)
        stops = self._ranges.offsets + self._ranges.sizes
        of_range = self._ranges.of_item[others]
        is_here = (found >= self._ranges.offsets[of_range]) & (
            found + length[others] <= stops[of_range]
        )
        here, far = others[is_here], others[~is_here]
        data[here] = self._ranges.starts[of_range][is_here] + (
            found[is_here] - self._ranges.offsets[of_range][is_here]
        )
        if len(far):
            offsets = found[~is_here]
            ranges = _coalesce(offsets, offsets + length[far])
            more = self._read(ranges, rows[far])
            data[far] = len(self.buffer) + ranges.position(offsets)
            self.buffer = np.concatenate([self.buffer, more])
        return data

    def _are_headers(self, data: Ints, rows: Ints) -> NDArray[np.bool_]:
        """Tells whether rows are at these places of the buffer, by the headers before them."""
        variable = self._variable
        header = _gather(self.buffer, data - _HEADER_NBYTES).view(_OBJECT_FIELDS)[:, 0]
        is_right = (header["index"] == variable.indices[rows]) & (
            header["size"] == variable.lengths[rows].astype(np.uint64)
        )
        is_first = variable.ends[rows] - variable.lengths[rows] == 2 * _HEADER_NBYTES
        expected = np.frombuffer(_SIGNATURE + bytes([_VERSION]), np.uint8)
        begins = _gather(self.buffer, data[is_first] - 2 * _HEADER_NBYTES)
        is_right[is_first] &= (begins[:, : len(expected)] == expected).all(axis=1)
        return np.asarray(is_right, np.bool_)

    def _search(self, items: Ints) -> Ints:
        """Walks the collections of some of the rows; returns where in the file their data is."""
        variable = self._variable
        collections: dict[int, dict[int, tuple[int, int]]] = {}
        offsets = np.empty(len(items), np.int64)
        for number, item in enumerate(items.tolist()):
            row = int(self._rows[item])
            address, index = int(variable.addresses[row]), int(variable.indices[row])
            try:
                if address not in collections:
                    collections[address] = self._walk(address, item)
                if index not in collections[address]:
                    raise ValueError(f"the heap collection at {address} has no object {index}")
                offset, size = collections[address][index]
                if size != variable.lengths[row]:
                    raise ValueError(
                        f"object {index} of the heap collection at {address} has {size} bytes "
                        f"instead of {variable.lengths[row]}"
                    )
            except ValueError as error:
                raise _damaged(variable, row, str(error)) from error
            offsets[number] = offset
        return offsets

    def _walk(self, address: int, item: int) -> dict[int, tuple[int, int]]:
        """Returns, by index, where in the file the objects of a collection are, and their sizes."""
        window = _Window(self, item)
        signature, version, nbytes = _COLLECTION.unpack(window.header(address))
        if (signature, version) != (_SIGNATURE, _VERSION):
            raise ValueError(f"there is no heap collection of version {_VERSION} at {address}")
        stop = address + nbytes
        if stop > self._variable.identity.num_bytes:
            raise ValueError(f"the heap collection at {address} reaches beyond the end of the file")
        found: dict[int, tuple[int, int]] = {}
        place = address + _HEADER_NBYTES
        # Fewer bytes than a header at the end are free.
        while place + _HEADER_NBYTES <= stop:
            index, _, _, size = _OBJECT.unpack(window.header(place))
            # Free space is object 0, and its size counts its header in.
            used = _HEADER_NBYTES + _padded(size) if index else size
            if used < _HEADER_NBYTES or place + used > stop or index in found:
                raise ValueError(f"the heap collection at {address} is damaged at {place}")
            found[index] = place + _HEADER_NBYTES, size
            place += used
        found.pop(0, None)
        return found


class _Window:
    """Headers of a file, from what was read for an item, or read in small parts."""

    def __init__(self, heap: _HeapReader, item: int) -> None:
        self._heap = heap
        self._item = item
        ranges = heap._ranges
        number = int(ranges.of_item[item])
        self._use(ranges, number, heap.buffer)

    def _use(self, ranges: _Ranges, number: int, buffer: Bytes) -> None:
        start, size = int(ranges.starts[number]), int(ranges.sizes[number])
        self._begin, self._data = int(ranges.offsets[number]), buffer[start : start + size].data

    def header(self, offset: int) -> memoryview:
        """Returns the bytes of a header at an offset of the file."""
        inside = offset - self._begin
        if inside < 0 or inside + _HEADER_NBYTES > len(self._data):
            stop = min(offset + _MIN_COLLECTION_NBYTES, self._heap._variable.identity.num_bytes)
            ranges = _coalesce(np.array([offset]), np.array([stop]))
            row = self._heap._rows[self._item : self._item + 1]
            self._use(ranges, 0, self._heap._read(ranges, row))
            inside = 0
        return self._data[inside : inside + _HEADER_NBYTES]


def _gather(buffer: Bytes, places: Ints) -> Bytes:
    """Returns the 16 bytes at each of some places of a buffer, uint8 (n, 16)."""
    found: Bytes = buffer[places[:, np.newaxis] + np.arange(_HEADER_NBYTES)]
    return found


def _location(variable: VariableRows, row: int) -> str:
    return f"{variable.path}: dataset {variable.name!r}, row {row}"


def _damaged(variable: VariableRows, row: int, reason: str) -> H5VideoError:
    """Returns the error for a row that is not where its descriptor says."""
    return read_failure(_location(variable, row), ValueError(f"damaged: {reason}"))
