"""Reads where the chunks of an open dataset are stored, and checks what HDF5 says about it.

The fast path trusts this table blindly, so whatever cannot be true is found here, once.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from .hdf5_files import file_identity

Ints = NDArray[np.int64]

# A grid of more chunks than this is left to HDF5: its table would take more than a gigabyte.
MAX_CHUNKS = 50_000_000

# More than any file has, and far from what int64 cannot hold.
_LARGEST = np.uint64(2**62)

# H5D_CHUNK_IDX_EARRAY of HDF5's H5Dpublic.h.
_EXTENSIBLE_ARRAY = 4


class UnreadableTableError(Exception):
    """The chunk table cannot be had or trusted; HDF5 has to read the dataset."""


class DamagedTableError(ValueError):
    """The chunk table cannot be that of any dataset: HDF5 itself would not find all its chunks."""


def grid_shape(dataset: Any) -> tuple[int, ...]:
    """How many chunks an open, chunked `h5py.Dataset` has along each axis."""
    return tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))


def read_chunk_table(dataset: Any) -> tuple[Ints, Ints, NDArray[np.uint32]]:
    """Reads the chunk table of an open, chunked `h5py.Dataset`.

    A chunk that cannot be read, because it has no bytes or lies outside of the file, gets the
    file's end as its offset: reading it is an error of its own, and the others can be read.

    Returns:
        Byte offset in the file (-1: never written), stored bytes and filter mask of every chunk of
        the grid, in row-major order.

    Raises:
        UnreadableTableError: HDF5 has to read the dataset.
        DamagedTableError: The list of chunks is damaged.
    """
    chunk = np.array(dataset.chunks, np.int64)
    if len(chunk) != dataset.ndim:
        raise DamagedTableError(f"its chunks have the shape {dataset.chunks}")
    grid = grid_shape(dataset)
    if math.prod(grid) > MAX_CHUNKS:
        raise UnreadableTableError(f"it has more than {MAX_CHUNKS} chunks")
    if not hasattr(dataset.id, "chunk_iter"):
        raise UnreadableTableError("this h5py cannot list chunks (it was built with HDF5 < 1.14)")
    turned = _turned_array(dataset)
    offsets = np.full(math.prod(grid), -1, np.int64)
    sizes = np.zeros(offsets.shape, np.int64)
    masks = np.zeros(offsets.shape, np.uint32)
    # One plain list, emptied now and then: quick to fill, and small for a million chunks.
    found: list[int] = []
    width = len(grid) + 3
    most = 65_536 * width
    last = -1

    def flush() -> None:
        nonlocal last
        # A damaged address may have 64 bits.
        rows = np.minimum(np.array(found, np.uint64), _LARGEST).astype(np.int64)
        rows = rows.reshape(-1, width)
        found.clear()
        place, inside = np.divmod(rows[:, :-3], chunk)
        if inside.any():
            raise DamagedTableError("it has chunks that are not on the grid of chunks")
        slots = None
        if turned is not None:
            slots = turned.slots(place)
            place = turned.places(slots)
        if (place < 0).any() or (place >= grid).any():
            raise DamagedTableError("it has chunks outside of the dataset")
        index = np.ravel_multi_index(tuple(place.T), grid)
        # Every kind of index is listed in its order, and HDF5 finds a chunk by that order.
        order = np.concatenate([[last], index if slots is None else slots])
        if (np.diff(order) <= 0).any():
            raise DamagedTableError("it has a chunk twice, or out of order")
        last = int(order[-1])
        offsets[index], sizes[index], masks[index] = rows[:, -3:].T

    def collect(info: Any) -> None:
        found.extend(info.chunk_offset)
        found.extend((info.byte_offset, info.size, info.filter_mask))
        if len(found) == most:
            flush()

    dataset.id.chunk_iter(collect)
    flush()
    if dataset.file.userblock_size:
        offsets[offsets >= 0] += _userblock_correction(dataset, offsets, sizes)
    _check_ranges(dataset, offsets, sizes)
    return offsets, sizes, masks


def _check_ranges(dataset: Any, offsets: Ints, sizes: Ints) -> None:
    """Checks where the chunks are, and marks those that cannot be read."""
    chunk_nbytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    is_filtered = dataset.id.get_create_plist().get_nfilters() > 0
    end = file_identity(dataset.file).num_bytes
    is_bad = (sizes <= 0) if is_filtered else (sizes != chunk_nbytes)
    # Written so that it cannot overflow.
    is_bad |= (offsets > end) | (sizes > end - np.minimum(offsets, end))
    is_bad &= offsets >= 0
    if is_bad.any():
        offsets[is_bad], sizes[is_bad] = end, chunk_nbytes
    is_good = (offsets >= 0) & ~is_bad
    begins, lengths = offsets[is_good], sizes[is_good]
    if (np.diff(begins) < lengths[:-1]).any():  # most files need no sorting
        order = np.argsort(begins)
        if (np.diff(begins[order]) < lengths[order][:-1]).any():
            raise DamagedTableError("it has chunks that overlap each other in the file")


def _userblock_correction(dataset: Any, offsets: Ints, sizes: Ints) -> int:
    """Bytes to add to the reported offsets in a file with a userblock.

    Releases of HDF5 differ in whether the offset of a chunk counts the userblock in, so one chunk
    is read both ways and compared with what HDF5 itself reads.
    """
    written = np.flatnonzero((offsets >= 0) & (sizes > 0))
    if not written.size:
        return 0
    number = int(written[0])
    grid = grid_shape(dataset)
    corner = tuple(
        int(place) * length
        for place, length in zip(np.unravel_index(number, grid), dataset.chunks, strict=True)
    )
    with phil:  # h5py does not take its own lock for this call
        _, expected = dataset.id.read_direct_chunk(corner)
    fd = dataset.file.id.get_vfd_handle()  # its name may lead to another file by now
    candidates = [
        correction
        for correction in (0, dataset.file.userblock_size)
        if os.pread(fd, int(sizes[number]), int(offsets[number]) + correction) == bytes(expected)
    ]
    if len(candidates) != 1:
        raise UnreadableTableError("the offsets of its chunks are ambiguous (userblock)")
    return candidates[0]


class _TurnedArray:
    """The places of chunks in an extensible array whose unlimited axis k is not the first.

    HDF5 numbers the slots of such an array as if axis k came first (H5Dearray.c), so that it can
    grow; but in listing the chunks it takes slots for places in row-major order. With P chunks
    before axis k and S behind it, those of the largest shape, the chunk at (p, u, s) has slot
    u * P * S + p * S + s, and is listed at (0, slot // S, slot % S).

    Args:
        top: Chunks along each axis of the largest shape; that of axis k does not count.
        axis: The unlimited axis k.
    """

    def __init__(self, top: tuple[int, ...], axis: int) -> None:
        self._axis = axis
        self._before, self._behind = top[:axis], top[axis + 1 :]

    def slots(self, listed: Ints) -> Ints:
        """The slots, int64 (n,), of chunks that HDF5 lists at (n, axes)."""
        if listed[:, : self._axis].any():
            raise DamagedTableError("it has chunks outside of the dataset")
        slots: Ints = listed[:, self._axis]
        for axis, count in enumerate(self._behind, self._axis + 1):
            slots = slots * count + listed[:, axis]
        return slots

    def places(self, slots: Ints) -> Ints:
        """Where the chunks of these slots are in the grid, (n, axes)."""
        num_before, num_behind = math.prod(self._before), math.prod(self._behind)
        along, rest = np.divmod(slots, num_before * num_behind)
        before, behind = np.divmod(rest, num_behind)
        places = (
            *(np.unravel_index(before, self._before) if self._before else ()),
            along,
            *(np.unravel_index(behind, self._behind) if self._behind else ()),
        )
        return np.stack(places, axis=1).astype(np.int64)


def _turned_array(dataset: Any) -> _TurnedArray | None:
    """What undoes the wrong places of a dataset's chunks; None: HDF5 lists them rightly."""
    unlimited = [axis for axis, length in enumerate(dataset.maxshape) if length is None]
    if len(unlimited) != 1:
        return None
    (axis,) = unlimited
    top = tuple(-(-(n or 0) // c) for n, c in zip(dataset.maxshape, dataset.chunks, strict=True))
    if math.prod(top[:axis]) == 1 or not _has_extensible_array(dataset):
        return None
    return _TurnedArray(top, axis) if _lists_turned_arrays_wrongly() else None


def _has_extensible_array(dataset: Any) -> bool:
    """Whether a dataset's chunks are indexed by an extensible array, which h5py does not tell.

    The function is looked up in the library that h5py itself runs on: that of its own module.
    """
    try:
        function = ctypes.CDLL(h5py.h5d.__file__).H5Dget_chunk_index_type
    except (OSError, AttributeError):
        function = None
    kind = ctypes.c_int(-1)
    if function is not None:
        with phil:
            failed = function(ctypes.c_int64(dataset.id.id), ctypes.byref(kind)) < 0
    if function is None or failed:
        raise UnreadableTableError("HDF5 does not tell how its chunks are indexed")
    return kind.value == _EXTENSIBLE_ARRAY


@functools.cache
def _lists_turned_arrays_wrongly() -> bool:
    """Whether this HDF5 lists chunks of such arrays at wrong places; all releases up to 2.0 do."""
    listed: list[tuple[int, ...]] = []
    options = {"driver": "core", "backing_store": False, "libver": "latest"}
    with h5py.File("h5video_data_chunk_order", "w", **options) as file:
        dataset = file.create_dataset("X", (2, 2), "u1", chunks=(1, 1), maxshape=(2, None))
        dataset[1, 0] = 1
        dataset.id.chunk_iter(lambda info: listed.append(tuple(info.chunk_offset)))
    if listed not in ([(0, 1)], [(1, 0)]):
        raise UnreadableTableError("HDF5 does not tell where its chunks are")
    return listed == [(0, 1)]
