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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError

from .os_errors import read_failure
from .scratch import aligned_empty
from .variable_rows import (
    HEADER_NBYTES,
    MIN_COLLECTION_NBYTES,
    SIGNATURE,
    Ints,
    VariableRows,
    describe_variable_rows,
    padded,
)

__all__ = [
    "RowBytes",
    "VariableRows",
    "describe_variable_rows",
    "read_variable_rows",
]

Bytes = NDArray[np.uint8]
ReadRanges = Callable[[Ints, Ints, Ints, Bytes], None]
"""`read_ranges(offsets, sizes, starts, target)` of a byte source."""

# Headers of a collection and of an object. The data behind the latter is padded to 8 bytes.
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_OBJECT_FIELDS = np.dtype([("index", "<u2"), ("count", "<u2"), ("pad", "<u4"), ("size", "<u8")])
_VERSION = 1
# Two ranges are read as one if no more lies between them: a read takes as long as copying this much
# from the page cache.
_MAX_GAP_NBYTES = 8 << 10


class RowBytes(NamedTuple):
    """Bytes of rows that were read: row i is `buffer[starts[i] : starts[i] + sizes[i]]`."""

    buffer: Bytes
    """uint8 (n,); other bytes of the file lie between the rows."""
    starts: Ints
    """int64 (rows,)."""
    sizes: Ints
    """int64 (rows,)."""


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


def _plan(variable: VariableRows, rows: Ints) -> tuple[_Ranges, NDArray[np.bool_]]:
    """Plans the reading of rows that are not empty; returns also which of them are placed."""
    address, length = variable.addresses[rows], variable.lengths[rows]
    file_nbytes = variable.identity.num_bytes
    is_outside = address + 2 * HEADER_NBYTES + length > file_nbytes
    if is_outside.any():
        raise _damaged(variable, int(rows[is_outside][0]), "it lies outside of the file")
    stops = address + variable.ends[rows]
    is_placed = variable.are_placed[rows] & (stops <= file_nbytes)
    place = variable.ends[rows] - length - HEADER_NBYTES
    # The header of the collection is checked where it is next to the object.
    is_inner = is_placed & (place > HEADER_NBYTES)
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
        allocate: Returns memory of at least so many bytes, uint8 (nbytes,); called at most once.
            `scratch` is faster, and valid until the thread uses it again.

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
        self._ranges, self._is_placed = _plan(variable, rows)
        # Memory that is used again, perhaps: what is read later must not overwrite it.
        self.buffer = self._read(self._ranges, rows, allocate)

    def _read(
        self, ranges: _Ranges, rows: Ints, allocate: Callable[[int], Bytes] = aligned_empty
    ) -> Bytes:
        """Reads ranges for rows, of which each is one item."""
        nbytes = ranges.nbytes
        target = allocate(nbytes)[:nbytes]
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
        header = _gather(self.buffer, data - HEADER_NBYTES).view(_OBJECT_FIELDS)[:, 0]
        is_right = (header["index"] == variable.indices[rows]) & (
            header["size"] == variable.lengths[rows].astype(np.uint64)
        )
        is_first = variable.ends[rows] - variable.lengths[rows] == 2 * HEADER_NBYTES
        expected = np.frombuffer(SIGNATURE + bytes([_VERSION]), np.uint8)
        begins = _gather(self.buffer, data[is_first] - 2 * HEADER_NBYTES)
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
                if index not in collections.get(address, {}):
                    collections[address] = self._walk(address, item, index)
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

    def _walk(self, address: int, item: int, last: int) -> dict[int, tuple[int, int]]:
        """Returns, by index, where in the file the objects of a collection are, and their sizes.

        No further than to the object `last`.
        """
        window = _Window(self, item)
        signature, version, nbytes = _COLLECTION.unpack(window.header(address))
        if (signature, version) != (SIGNATURE, _VERSION):
            raise ValueError(f"there is no heap collection of version {_VERSION} at {address}")
        stop = address + nbytes
        if stop > self._variable.identity.num_bytes:
            raise ValueError(f"the heap collection at {address} reaches beyond the end of the file")
        found: dict[int, tuple[int, int]] = {}
        place = address + HEADER_NBYTES
        # Fewer bytes than a header at the end are free.
        while place + HEADER_NBYTES <= stop and last not in found:
            index, _, _, size = _OBJECT.unpack(window.header(place))
            # Free space is object 0, and its size counts its header in.
            used = HEADER_NBYTES + padded(size) if index else size
            if used < HEADER_NBYTES or place + used > stop or index in found:
                raise ValueError(f"the heap collection at {address} is damaged at {place}")
            found[index] = place + HEADER_NBYTES, size
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
        if inside < 0 or inside + HEADER_NBYTES > len(self._data):
            stop = min(offset + MIN_COLLECTION_NBYTES, self._heap._variable.identity.num_bytes)
            ranges = _coalesce(np.array([offset]), np.array([stop]))
            row = self._heap._rows[self._item : self._item + 1]
            self._use(ranges, 0, self._heap._read(ranges, row))
            inside = 0
        return self._data[inside : inside + HEADER_NBYTES]


def _gather(buffer: Bytes, places: Ints) -> Bytes:
    """Returns the 16 bytes at each of some places of a buffer, uint8 (n, 16)."""
    found: Bytes = buffer[places[:, np.newaxis] + np.arange(HEADER_NBYTES)]
    return found


def _location(variable: VariableRows, row: int) -> str:
    return f"{variable.path}: dataset {variable.name!r}, row {row}"


def _damaged(variable: VariableRows, row: int, reason: str) -> H5VideoError:
    """Returns the error for a row that is not where its descriptor says."""
    return read_failure(_location(variable, row), ValueError(f"damaged: {reason}"))
