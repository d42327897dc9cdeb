"""Reads the chunk table of an open dataset, where each chunk is stored, and checks it.

The fast path trusts this table, so what cannot be true is found here, once. One call of HDF5's
`chunk_iter` lists the written chunks, in the order of the index; asking for them one by one takes a
search of the index each. HDF5's own mistakes are undone by `_undo_reordering` and
`_userblock_correction`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError

from .hdf5_files import HDF5_ERRORS, MIN_SUPERBLOCK_NBYTES, OpenedFile, file_identity
from .hdf5_names import location_in

Ints = NDArray[np.int64]

# A dataset of more chunks than this is left to HDF5: its table would take more than a gigabyte.
MAX_CHUNKS = 50_000_000

# Offsets and sizes are cut off here: beyond the end of any file, and far from an overflow of int64.
_MAX_VALUE = np.uint64(2**62)
# Chunks that are collected as Python integers before they become arrays.
_CHUNKS_AT_ONCE = 65_536

# H5D_CHUNK_IDX_SINGLE, _NONE, _FARRAY and _EARRAY in HDF5's H5Dpublic.h.
_SINGLE, _IMPLICIT, _FIXED_ARRAY, _EXTENSIBLE_ARRAY = 1, 2, 3, 4
_ADDRESS_NBYTES = 8


class UnreadableTableError(Exception):
    """The chunk table cannot be read or trusted; only HDF5 can read the dataset."""


class Chunking:
    """What HDF5 says of a chunked dataset, asked for once: some files have many datasets.

    Attributes:
        dataset: The `h5py.Dataset`.
        shape: Its shape.
        chunks: The shape of a chunk.
        grid: Chunks along each axis.
        num_filters: Filters of its chunks.
        chunk_nbytes: Bytes of a decoded chunk.

    Args:
        dataset: The dataset.
        plist: Its `h5py.h5p.PropDCID`, if it is at hand.
    """

    def __init__(self, dataset: Any, plist: Any = None) -> None:
        plist = dataset.id.get_create_plist() if plist is None else plist
        self.dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.chunks: tuple[int, ...] = plist.get_chunk()
        if len(self.chunks) != len(self.shape):
            raise ValueError(f"its chunk shape is {self.chunks}")
        self.grid = tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))
        self.num_filters = int(plist.get_nfilters())
        self.chunk_nbytes: int = math.prod(self.chunks) * int(dataset.id.get_type().get_size())

    @functools.cached_property
    def max_shape(self) -> tuple[int | None, ...]:
        """What it may grow to; None: without a limit."""
        sizes = self.dataset.id.get_space().get_simple_extent_dims(True)
        return tuple(None if size == h5py.h5s.UNLIMITED else size for size in sizes)

    @property
    def max_grid(self) -> tuple[int, ...]:
        """The chunks along each axis of the maximum shape; 1 for an unlimited axis."""
        return tuple(-(-(n or 1) // c) for n, c in zip(self.max_shape, self.chunks, strict=True))


Table = tuple[Ints, Ints, NDArray[np.uint32]]


def check_chunk_table(dataset: Any, file: OpenedFile | None = None) -> None:
    """Raises a FileFormatError if HDF5 would find other values by a damaged index, or none.

    For what h5py alone reads, as it does labels and bounds of recordings.

    Args:
        dataset: An `h5py.Dataset`.
        file: The file in which it was found, if that is known.
    """
    if dataset.chunks:
        if file is None or not file.holds(dataset):
            file = OpenedFile.of(dataset.file)
        with contextlib.suppress(UnreadableTableError):
            _, (offsets, _, _) = open_chunk_table(dataset, None, file)
            if is_lost(offsets, file.identity.num_bytes).any():
                raise FileFormatError(
                    f"{location_in(file.path, dataset)} is damaged: some of its chunks have a "
                    "wrong size, or lie outside of the file. Restore the file from a backup. h5py "
                    "may return what happens to be in memory."
                )


def is_lost(offsets: Ints, num_bytes: int) -> NDArray[np.bool_]:
    """Tells which chunks of a table cannot be read, in a file of so many bytes."""
    lost: NDArray[np.bool_] = offsets >= num_bytes
    return lost


def open_chunk_table(dataset: Any, plist: Any, file: OpenedFile) -> tuple[Chunking, Table]:
    """Reads the chunk table of a dataset of a file, as `read_chunk_table`.

    Raises:
        UnreadableTableError: Only HDF5 can read the dataset.
        FileFormatError: The chunk index is damaged.
    """
    try:
        chunking = Chunking(dataset, plist)
        return chunking, read_chunk_table(chunking, file)
    except HDF5_ERRORS as error:
        raise FileFormatError(
            f"{location_in(file.path, dataset)} has a damaged chunk index: {error}. Restore the "
            "file from a backup. h5py may return the values of other samples, or the fill value."
        ) from error


def read_chunk_table(chunking: Chunking, file: OpenedFile) -> Table:
    """Reads the chunk table of an open, chunked dataset of a file.

    A chunk that cannot be read, because it has no bytes or lies outside the file, gets the end of
    the file as its offset: so reading it is an error, and the other chunks can be read.

    Returns:
        Three arrays of shape (num_chunks,), in row-major order of the chunk grid: int64, byte
        offset in the file, -1 if the chunk was never written; int64, stored bytes; uint32, filter
        mask (HDF5 File Format Specification, III.A.1 and VII.A to VII.E).

    Raises:
        UnreadableTableError: Only HDF5 can read the dataset.
        ValueError: The chunk index is damaged.
    """
    dataset, grid = chunking.dataset, chunking.grid
    _check_index(chunking, file.identity.num_bytes)
    if math.prod(grid) > MAX_CHUNKS:
        raise UnreadableTableError(f"it has more than {MAX_CHUNKS} chunks")
    if not hasattr(dataset.id, "chunk_iter"):
        raise UnreadableTableError("this h5py cannot list chunks (built with HDF5 < 1.14)")
    reordered_axis = _reordered_axis(chunking)
    num_chunks = math.prod(grid)
    offsets = np.full(num_chunks, -1, np.int64)
    sizes = np.zeros(num_chunks, np.int64)
    masks = np.zeros(num_chunks, np.uint32)
    # One flat list, emptied now and then: fast to fill, and small for a million chunks.
    found: list[int] = []
    width = len(grid) + 3
    last = -1

    def flush() -> None:
        nonlocal last
        # A damaged address may have all 64 bits set.
        rows = np.minimum(np.array(found, np.uint64), _MAX_VALUE).astype(np.int64)
        rows = rows.reshape(-1, width)
        found.clear()
        if last < 0 < len(rows) == num_chunks and reordered_axis is None:
            # Most tables are so: all chunks, in their order.
            length = 1 << (grid[0] - 1).bit_length()
            corners = _corners((length, *grid[1:]), chunking.chunks)
            if (rows[:, :-3] == corners[:num_chunks]).all():
                offsets[:], sizes[:], masks[:] = rows[:, -3:].T
                last = num_chunks - 1
                return
        place, inside = np.divmod(rows[:, :-3], np.array(chunking.chunks, np.int64))
        if inside.any():
            raise ValueError("some chunks are not on the chunk grid")
        slots = None
        if reordered_axis is not None:
            slots, place = _undo_reordering(chunking, reordered_axis, place)
        if (place < 0).any() or (place >= grid).any():
            raise ValueError("some chunks are outside the dataset")
        index = np.ravel_multi_index(tuple(place.T), grid)
        # Each kind of index lists its chunks in order, and HDF5 searches for a chunk by that order.
        order = np.concatenate([[last], index if slots is None else slots])
        if (np.diff(order) <= 0).any():
            raise ValueError("some chunks are listed twice or out of order")
        last = int(order[-1])
        offsets[index], sizes[index], masks[index] = rows[:, -3:].T

    def collect(info: Any) -> None:
        if info.chunk_offset is None:  # h5py then knows neither place
            raise ValueError("some chunks have no address")
        found.extend(info.chunk_offset)
        found.extend((info.byte_offset, info.size, info.filter_mask))
        if len(found) == _CHUNKS_AT_ONCE * width:
            flush()

    with file.handle.listing_chunks(file.userblock_nbytes):
        dataset.id.chunk_iter(collect)
    flush()
    if num_chunks > 1 and np.count_nonzero(offsets >= 0) == 1:
        _check_single(chunking)
    if file.userblock_nbytes:
        offsets[offsets >= 0] += _userblock_correction(chunking, file, offsets, sizes)
    _check_ranges(chunking, file, offsets, sizes)
    return offsets, sizes, masks


def _whole_nbytes(chunking: Chunking) -> int | None:
    """Returns the bytes of each chunk in the file, if there is no filter; None: not known."""
    stored_type = chunking.dataset.id.get_type()
    if not has_variable_length(stored_type):
        return chunking.chunk_nbytes
    if stored_type.get_class() not in (h5py.h5t.VLEN, h5py.h5t.STRING):
        return None  # HDF5 gives the size of a part of variable length in memory, not in the file
    address_nbytes, _ = chunking.dataset.file.id.get_create_plist().get_sizes()
    # A length, and where the values are: specification, IV.A.2.d and III.E.
    return math.prod(chunking.chunks) * (4 + int(address_nbytes) + 4)


def has_variable_length(stored_type: Any) -> bool:
    """Tells if values of an HDF5 type, or parts of them, are stored elsewhere in the file."""
    if stored_type.detect_class(h5py.h5t.VLEN):
        return True
    try:
        return bool(stored_type.dtype.hasobject)  # strings, which are a class of their own
    except HDF5_ERRORS:
        return False


@functools.lru_cache(maxsize=4)
def _corners(grid: tuple[int, ...], chunks: tuple[int, ...]) -> Ints:
    """Returns the places of all chunks' first values, int64 (chunks, axes), in row-major order."""
    places: Ints = np.indices(grid).reshape(len(grid), -1).T * np.array(chunks, np.int64)
    return places


def _check_ranges(chunking: Chunking, file: OpenedFile, offsets: Ints, sizes: Ints) -> None:
    """Checks offsets and sizes; moves chunks that cannot be read to the end of the file."""
    chunk_nbytes, end = chunking.chunk_nbytes, file.identity.num_bytes
    if not len(offsets):
        return
    is_filtered = chunking.num_filters > 0
    lowest = file.userblock_nbytes + MIN_SUPERBLOCK_NBYTES
    smallest, largest = int(sizes.min()), int(sizes.max())
    has_sizes = smallest > 0 if is_filtered else smallest == largest == chunk_nbytes
    if has_sizes and largest <= end and int(offsets.min()) >= lowest and int(offsets.max()) <= end:
        stops = offsets + sizes  # without an overflow
        if int(stops.max()) <= end and (stops[:-1] <= offsets[1:]).all():
            return  # as in most files
    whole_nbytes = None if is_filtered else _whole_nbytes(chunking)
    is_bad = (sizes <= 0) if whole_nbytes is None else (sizes != whole_nbytes)
    # Without a sum that could overflow.
    is_bad |= (offsets > end) | (sizes > end - np.minimum(offsets, end))
    # HDF5 adds the userblock to an address, and may overflow.
    is_bad |= offsets < lowest
    is_bad &= offsets >= 0
    if is_bad.any():
        offsets[is_bad], sizes[is_bad] = end, chunk_nbytes
    is_good = (offsets >= 0) & ~is_bad
    begins, lengths = offsets[is_good], sizes[is_good]
    if (np.diff(begins) < lengths[:-1]).any():  # most files need no sorting
        order = np.argsort(begins)
        if (np.diff(begins[order]) < lengths[order][:-1]).any():
            raise ValueError("some chunks overlap in the file")


def _userblock_correction(chunking: Chunking, file: OpenedFile, offsets: Ints, sizes: Ints) -> int:
    """Returns the bytes to add to the reported offsets in a file with a userblock."""
    # Of a chunk of another size, HDF5 reads more than h5py has memory for, unless it has filters.
    is_whole = sizes > 0 if chunking.num_filters else sizes == chunking.chunk_nbytes
    written = np.flatnonzero((offsets >= 0) & is_whole)
    if not written.size:
        return 0
    number = int(written[0])
    corner = np.array(np.unravel_index(number, chunking.grid)) * chunking.chunks
    with phil:  # h5py does not take its own lock for these calls
        _, expected = chunking.dataset.id.read_direct_chunk(tuple(corner.tolist()))
        found = bytearray(int(sizes[number]))
        candidates = []
        for correction in (0, file.userblock_nbytes):
            # Another file may be at its path by now.
            count = file.handle.read_at(memoryview(found), int(offsets[number]) + correction)
            if found[:count] == bytes(expected):
                candidates.append(correction)
    if len(candidates) != 1:
        raise UnreadableTableError("the offsets of its chunks are ambiguous (userblock)")
    return candidates[0]


def _undo_reordering(chunking: Chunking, axis: int, listed: Ints) -> tuple[Ints, Ints]:
    """Returns slots, int64 (n,), and places, int64 (n, axes), of chunks of an extensible array.

    If the unlimited axis is not the first one, HDF5 numbers the slots of the array as if it were
    (H5Dearray.c), so that the array can grow; but when it lists the chunks, it takes slots for
    places in row-major order. With P chunks before that axis and S after it in the maximum shape,
    the chunk at (p, u, s) has the slot u * P * S + p * S + s, and is listed at
    (0, slot // S, slot % S).
    """
    if listed[:, :axis].any():
        raise ValueError("some chunks are outside the dataset")
    max_grid = chunking.max_grid
    before, after = max_grid[:axis], max_grid[axis + 1 :]
    slots = listed[:, axis]
    for number, length in enumerate(after, axis + 1):
        slots = slots * length + listed[:, number]
    no_limit = np.iinfo(np.int64).max // math.prod(before + after)
    along, *others = np.unravel_index(slots, (no_limit, *before, *after))
    others.insert(axis, along)
    return slots, np.stack(others, axis=1)


def _reordered_axis(chunking: Chunking) -> int | None:
    """Returns the axis for `_undo_reordering`; None: HDF5 lists the right places."""
    unlimited = [axis for axis, length in enumerate(chunking.max_shape) if length is None]
    if len(unlimited) != 1 or math.prod(chunking.max_grid[: unlimited[0]]) == 1:
        return None
    is_reordered = _has_extensible_array(chunking.dataset) and _lists_slots_as_places()
    return unlimited[0] if is_reordered else None


def _has_extensible_array(dataset: Any) -> bool:
    """Returns whether an extensible array indexes a dataset's chunks (specification, VII.D)."""
    return _index_type(dataset) == _EXTENSIBLE_ARRAY


def check_index(dataset: Any) -> None:
    """Checks that the index of a dataset's chunks may be in its file.

    A fixed array (specification, VII.C) has an address for each chunk of the maximal shape, and
    where there is no index (implicit, VII.B), all chunks follow each other. If the shape is
    damaged, HDF5 reads, or writes, beyond them, and ends the process (1.14.6). Where the index is
    that of a single chunk (VII.A), it returns that for every other one, too.

    Args:
        dataset: An `h5py.Dataset`.

    Raises:
        ValueError: It may not.
    """
    if dataset.chunks:
        chunking = Chunking(dataset)
        _check_index(chunking, file_identity(dataset.file).num_bytes)
        _check_single(chunking)


def _check_index(chunking: Chunking, num_bytes: int) -> None:
    """Checks an index as `check_index`, of a file of so many bytes."""
    if None in chunking.max_shape:
        # HDF5 numbers the chunks by the maximal lengths of all axes but the first one.
        if None in chunking.max_shape[1:] and has_fixed_index(chunking.dataset):
            raise ValueError("its maximal shape has no limit, and its index has one")
        return
    num_chunks, chunk_nbytes = math.prod(chunking.max_grid), chunking.chunk_nbytes
    if num_chunks * min(_ADDRESS_NBYTES, chunk_nbytes) <= num_bytes:
        return
    nbytes = {_IMPLICIT: chunk_nbytes, _FIXED_ARRAY: _ADDRESS_NBYTES}
    dataset = chunking.dataset
    with contextlib.suppress(UnreadableTableError):
        is_too_long = num_chunks * nbytes.get(_index_type(dataset), 0) > num_bytes
        if is_too_long and dataset.id.get_num_chunks():  # or nothing is written yet
            raise ValueError(f"{num_chunks} chunks, or their index, do not fit into its file")


def _check_single(chunking: Chunking) -> None:
    """Raises a ValueError if the index is that of a single chunk, and there are more."""
    num_chunks = math.prod(chunking.grid)
    with contextlib.suppress(UnreadableTableError):
        if num_chunks > 1 and _index_type(chunking.dataset) == _SINGLE:
            raise ValueError(f"its shape has {num_chunks} chunks, and its index is that of one")


def has_fixed_index(dataset: Any) -> bool:
    """Returns whether the index of a dataset's chunks is one that cannot grow (VII.B, VII.C)."""
    with contextlib.suppress(UnreadableTableError):
        return _index_type(dataset) in (_IMPLICIT, _FIXED_ARRAY)
    return False


def _index_type(dataset: Any) -> int:
    """Returns the `H5D_chunk_index_t` of a dataset."""
    kind = ctypes.c_int(-1)
    try:
        function = ctypes.CDLL(h5py.h5d.__file__).H5Dget_chunk_index_type
        with phil:
            failed = function(ctypes.c_int64(dataset.id.id), ctypes.byref(kind)) < 0
    except (OSError, AttributeError):
        failed = True
    if failed:
        raise UnreadableTableError("HDF5 does not report how its chunks are indexed")
    return int(kind.value)


@functools.cache
def _lists_slots_as_places() -> bool:
    """Returns whether HDF5 lists chunks at wrong places, as all releases up to 2.0 do."""
    listed: list[tuple[int, ...]] = []
    options = {"driver": "core", "backing_store": False, "libver": "latest"}
    with h5py.File("h5video_data_chunk_order", "w", **options) as file:
        dataset = file.create_dataset("X", (2, 2), "u1", chunks=(1, 1), maxshape=(2, None))
        dataset[1, 0] = 1
        dataset.id.chunk_iter(lambda info: listed.append(tuple(info.chunk_offset)))
    if listed not in ([(0, 1)], [(1, 0)]):
        raise UnreadableTableError("HDF5 does not report where its chunks are")
    return listed == [(0, 1)]
