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

from .hdf5_files import MIN_SUPERBLOCK_NBYTES, OpenedFile, file_identity, handle_of

Ints = NDArray[np.int64]

# A dataset of more chunks than this is left to HDF5: its table would take more than a gigabyte.
MAX_CHUNKS = 50_000_000

# Offsets and sizes are cut off here: beyond the end of any file, and far from an overflow of int64.
_MAX_VALUE = np.uint64(2**62)
# Chunks that are collected as Python integers before they become arrays.
_CHUNKS_AT_ONCE = 65_536

# H5D_CHUNK_IDX_NONE, _FARRAY and _EARRAY in HDF5's H5Dpublic.h.
_IMPLICIT, _FIXED_ARRAY, _EXTENSIBLE_ARRAY = 2, 3, 4
_ADDRESS_NBYTES = 8


class UnreadableTableError(Exception):
    """The chunk table cannot be read or trusted; only HDF5 can read the dataset."""


def grid_shape(dataset: Any) -> tuple[int, ...]:
    """Returns the number of chunks along each axis of a chunked `h5py.Dataset`."""
    return tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))


def read_chunk_table(dataset: Any, file: OpenedFile) -> tuple[Ints, Ints, NDArray[np.uint32]]:
    """Reads the chunk table of an open, chunked `h5py.Dataset` of a file.

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
    chunk = np.array(dataset.chunks, np.int64)
    if len(chunk) != dataset.ndim:
        raise ValueError(f"its chunk shape is {dataset.chunks}")
    check_index(dataset, file.identity.num_bytes)
    grid = grid_shape(dataset)
    if math.prod(grid) > MAX_CHUNKS:
        raise UnreadableTableError(f"it has more than {MAX_CHUNKS} chunks")
    if not hasattr(dataset.id, "chunk_iter"):
        raise UnreadableTableError("this h5py cannot list chunks (built with HDF5 < 1.14)")
    reordered_axis = _reordered_axis(dataset)
    offsets = np.full(math.prod(grid), -1, np.int64)
    sizes = np.zeros(offsets.shape, np.int64)
    masks = np.zeros(offsets.shape, np.uint32)
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
        place, inside = np.divmod(rows[:, :-3], chunk)
        if inside.any():
            raise ValueError("some chunks are not on the chunk grid")
        slots = None
        if reordered_axis is not None:
            slots, place = _undo_reordering(dataset, reordered_axis, place)
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

    with handle_of(dataset.file).listing_chunks(dataset.file.userblock_size):
        dataset.id.chunk_iter(collect)
    flush()
    if file.userblock_nbytes:
        offsets[offsets >= 0] += _userblock_correction(dataset, offsets, sizes)
    _check_ranges(dataset, file, offsets, sizes)
    return offsets, sizes, masks


def _check_ranges(dataset: Any, file: OpenedFile, offsets: Ints, sizes: Ints) -> None:
    """Checks offsets and sizes; moves chunks that cannot be read to the end of the file."""
    chunk_nbytes, end = _chunk_nbytes(dataset), file.identity.num_bytes
    is_filtered = dataset.id.get_create_plist().get_nfilters() > 0
    is_bad = (sizes <= 0) if is_filtered else (sizes != chunk_nbytes)
    # Without a sum that could overflow.
    is_bad |= (offsets > end) | (sizes > end - np.minimum(offsets, end))
    # HDF5 adds the userblock to an address, and may overflow.
    is_bad |= offsets < file.userblock_nbytes + MIN_SUPERBLOCK_NBYTES
    is_bad &= offsets >= 0
    if is_bad.any():
        offsets[is_bad], sizes[is_bad] = end, chunk_nbytes
    is_good = (offsets >= 0) & ~is_bad
    begins, lengths = offsets[is_good], sizes[is_good]
    if (np.diff(begins) < lengths[:-1]).any():  # most files need no sorting
        order = np.argsort(begins)
        if (np.diff(begins[order]) < lengths[order][:-1]).any():
            raise ValueError("some chunks overlap in the file")


def _chunk_nbytes(dataset: Any) -> int:
    return int(math.prod(dataset.chunks) * dataset.id.get_type().get_size())


def _userblock_correction(dataset: Any, offsets: Ints, sizes: Ints) -> int:
    """Returns the bytes to add to the reported offsets in a file with a userblock."""
    # Of a chunk of another size, HDF5 reads more than h5py has memory for, unless it has filters.
    plist, nbytes = dataset.id.get_create_plist(), _chunk_nbytes(dataset)
    written = np.flatnonzero(
        (offsets >= 0) & (sizes > 0 if plist.get_nfilters() else sizes == nbytes)
    )
    if not written.size:
        return 0
    number = int(written[0])
    corner = np.array(np.unravel_index(number, grid_shape(dataset))) * dataset.chunks
    with phil:  # h5py does not take its own lock for these calls
        _, expected = dataset.id.read_direct_chunk(tuple(corner.tolist()))
        handle = handle_of(dataset.file)  # another file may be at its path by now
        found = bytearray(int(sizes[number]))
        candidates = []
        for correction in (0, dataset.file.userblock_size):
            count = handle.read_at(memoryview(found), int(offsets[number]) + correction)
            if found[:count] == bytes(expected):
                candidates.append(correction)
    if len(candidates) != 1:
        raise UnreadableTableError("the offsets of its chunks are ambiguous (userblock)")
    return candidates[0]


def _undo_reordering(dataset: Any, axis: int, listed: Ints) -> tuple[Ints, Ints]:
    """Returns slots, int64 (n,), and places, int64 (n, axes), of chunks of an extensible array.

    If the unlimited axis is not the first one, HDF5 numbers the slots of the array as if it were
    (H5Dearray.c), so that the array can grow; but when it lists the chunks, it takes slots for
    places in row-major order. With P chunks before that axis and S after it in the maximum shape,
    the chunk at (p, u, s) has the slot u * P * S + p * S + s, and is listed at
    (0, slot // S, slot % S).
    """
    if listed[:, :axis].any():
        raise ValueError("some chunks are outside the dataset")
    max_grid = _max_grid(dataset)
    before, after = max_grid[:axis], max_grid[axis + 1 :]
    slots = listed[:, axis]
    for number, length in enumerate(after, axis + 1):
        slots = slots * length + listed[:, number]
    no_limit = np.iinfo(np.int64).max // math.prod(before + after)
    along, *others = np.unravel_index(slots, (no_limit, *before, *after))
    others.insert(axis, along)
    return slots, np.stack(others, axis=1)


def _max_grid(dataset: Any) -> tuple[int, ...]:
    """Returns the chunks along each axis of the maximum shape; 1 for an unlimited axis."""
    return tuple(-(-(n or 1) // c) for n, c in zip(dataset.maxshape, dataset.chunks, strict=True))


def _reordered_axis(dataset: Any) -> int | None:
    """Returns the axis for `_undo_reordering`; None: HDF5 lists the right places."""
    unlimited = [axis for axis, length in enumerate(dataset.maxshape) if length is None]
    if len(unlimited) != 1 or math.prod(_max_grid(dataset)[: unlimited[0]]) == 1:
        return None
    return unlimited[0] if _has_extensible_array(dataset) and _lists_slots_as_places() else None


def _has_extensible_array(dataset: Any) -> bool:
    """Returns whether an extensible array indexes a dataset's chunks (specification, VII.D)."""
    return _index_type(dataset) == _EXTENSIBLE_ARRAY


def check_index(dataset: Any, num_bytes: int | None = None) -> None:
    """Checks that the index of a dataset's chunks may be in its file.

    A fixed array (specification, VII.C) has an address for each chunk of the maximal shape, and
    where there is no index (implicit, VII.B), all chunks follow each other. If the shape is
    damaged, HDF5 reads, or writes, beyond them, and ends the process (1.14.6).

    Args:
        dataset: An `h5py.Dataset`.
        num_bytes: Size of its file; None: it is asked for.

    Raises:
        ValueError: It may not.
    """
    if not dataset.chunks or None in dataset.maxshape:
        return
    num_chunks = math.prod(_max_grid(dataset))
    if num_bytes is None:
        num_bytes = file_identity(dataset.file).num_bytes
    if num_chunks * min(_ADDRESS_NBYTES, _chunk_nbytes(dataset)) <= num_bytes:
        return
    nbytes = {_IMPLICIT: _chunk_nbytes(dataset), _FIXED_ARRAY: _ADDRESS_NBYTES}
    with contextlib.suppress(UnreadableTableError):
        is_too_long = num_chunks * nbytes.get(_index_type(dataset), 0) > num_bytes
        if is_too_long and dataset.id.get_num_chunks():  # or nothing is written yet
            raise ValueError(f"{num_chunks} chunks, or their index, do not fit into its file")


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
