"""Describes how the datasets of an open HDF5 file are stored.

Everything that positioned reads need later (offsets, stored sizes, filters) is read here once, into
arrays; after that the file can be closed. Byte-level facts are those of the HDF5 File Format
Specification, version 3.0, as h5py's low-level API reports them.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from .errors import FileFormatError, UnsupportedDtypeError
from .files import FileIdentity, Files
from .opening import file_identity, own_name
from .virtual import FilesBehind, files_behind

# The numeric dtypes that both HDF5 files and TensorFlow tensors have.
SUPPORTED_DTYPES = (
    "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64, "
    "complex64, complex128"
)
_SUPPORTED = frozenset(SUPPORTED_DTYPES.split(", "))
_NOT_NUMBERS = (
    "Labels are class numbers or one-hot, in a dataset of their own; y=None does without. For "
    "`split_by`, strings are fine."
)

# A grid of more chunks than this is left to HDF5: its table would take more than a gigabyte.
MAX_CHUNKS = 50_000_000


@dataclass(frozen=True)
class Filter:
    """One step of a filter pipeline, in the order in which it was applied when writing."""

    id: int
    """The registered number: 1 deflate, 2 shuffle, 3 fletcher32, 32000 lzf, ..."""
    name: str
    params: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """Where and how the bytes of one dataset are stored."""

    path: str
    """The file that holds the bytes: not the one that was opened if a link leads elsewhere."""
    identity: FileIdentity
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """The dtype of the values in memory: the stored one in the machine's byte order."""
    storage: str
    """`contiguous`, `chunked`, `compact`, `external` or `virtual`."""
    chunk_shape: tuple[int, ...] | None
    filters: tuple[Filter, ...]
    fill_value: Any
    """The value of what was never written."""
    offsets: NDArray[np.int64]
    """Byte offset in the file of each chunk, in row-major order of the chunk grid; -1: never
    written. One element if contiguous."""
    sizes: NDArray[np.int64]
    """Stored bytes of each chunk, after its filters."""
    masks: NDArray[np.uint32]
    """Filter mask of each chunk: bit i set means that filter i was not applied."""
    obstacle: str | None
    """Why the bytes must be read through HDF5, or None if positioned reads can have them."""
    behind: FilesBehind = field(default_factory=FilesBehind)
    """The other files that hold its values, if it is virtual or external."""

    @property
    def files(self) -> Files:
        """Path and identity of all files that hold its values, its own first."""
        return ((self.path, self.identity), *self.behind.files)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole dataset in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_nbytes(self) -> int:
        """Bytes of one sample in memory."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def row_decoded_nbytes(self) -> int:
        """Bytes that decoding one sample alone takes: of all chunks that hold a part of it."""
        if self.chunk_shape is None:
            return self.row_nbytes
        lengths = zip(self.shape[1:], self.chunk_shape[1:], strict=True)
        num_chunks = math.prod(-(-whole // length) for whole, length in lengths)
        return num_chunks * math.prod(self.chunk_shape) * self.dtype.itemsize

    @property
    def stored_nbytes(self) -> int:
        """Bytes that the dataset's values take in the file, as far as the chunk table tells."""
        return int(self.sizes.sum())


def describe(dataset: Any) -> StoredArray:
    """Describes how an open `h5py.Dataset` is stored, without reading its values.

    Raises:
        FileFormatError: It has no dimensions, or its list of chunks is damaged.
        UnsupportedDtypeError: Its values are not numbers.
        H5VideoError: It is virtual or external, and its values are not where they should be.
    """
    path = os.path.abspath(dataset.file.filename)
    identity = file_identity(dataset.file)
    where = f"{path}: dataset {dataset.name!r}"
    if dataset.shape is None or dataset.shape == ():
        kind = "an empty dataspace" if dataset.shape is None else "a scalar"
        raise FileFormatError(f"{where} holds {kind}; its first dimension should be the samples.")
    try:
        stored_dtype = dataset.dtype
    except (TypeError, ValueError) as error:  # h5py has no name for it
        raise UnsupportedDtypeError(
            f"{where} has the dtype of which h5py says: {error}. Supported: {SUPPORTED_DTYPES}."
        ) from error
    if stored_dtype.name not in _SUPPORTED:
        raise UnsupportedDtypeError(
            f"{where} has the dtype {dtype_name(stored_dtype)}. Supported: {SUPPORTED_DTYPES}."
            + ("" if stored_dtype.kind in "iufc" else f" {_NOT_NUMBERS}")
        )
    # Drops h5py's remarks on enumerations, and the byte order of the file.
    dtype = np.dtype(stored_dtype.name)

    plist = dataset.id.get_create_plist()
    filters = tuple(
        Filter(int(number), name.decode("utf-8", "replace") or f"filter {number}", tuple(params))
        for number, _, params, name in (plist.get_filter(i) for i in range(plist.get_nfilters()))
    )
    storage = _storage(plist)
    offsets, sizes, masks = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32)
    obstacle = _type_obstacle(dataset, dtype) or _storage_obstacle(storage)
    if storage == "contiguous":
        offset = dataset.id.get_offset()
        if offset is None:
            obstacle = obstacle or "nothing was written to it yet"
        else:
            offsets = np.array([offset], np.int64)
            sizes = np.array([dataset.id.get_storage_size()], np.int64)
            masks = np.zeros(1, np.uint32)
    elif storage == "chunked":
        try:
            offsets, sizes, masks = _chunk_table(dataset)
        except _UnreadableTableError as error:
            obstacle = obstacle or str(error)
        except (OSError, RuntimeError, OverflowError) as error:
            raise FileFormatError(f"{where} has a damaged list of chunks: {error}") from error
        if (offsets < 0).any() and not _fill_value_is_written(plist):
            obstacle = obstacle or "the value of its unwritten chunks is not defined"
        if filters and len(offsets) and _edges_may_be_unfiltered(dataset, sizes, masks):
            obstacle = obstacle or "its edge chunks may be stored without filters"
    return StoredArray(
        path=path,
        identity=identity,
        name=own_name(dataset),
        shape=tuple(dataset.shape),
        dtype=dtype,
        storage=storage,
        chunk_shape=dataset.chunks,
        filters=filters,
        fill_value=dtype.type(dataset.fillvalue),
        offsets=offsets,
        sizes=sizes,
        masks=masks,
        obstacle=obstacle,
        behind=files_behind(dataset),
    )


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a dtype for people, which says what h5py means by an `object`."""
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    if h5py.check_ref_dtype(dtype) is not None:
        return "reference"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "variable length"
    return f"compound {dtype.names}" if dtype.names else str(dtype)


def _storage(plist: Any) -> str:
    if plist.get_layout() == h5py.h5d.CONTIGUOUS and plist.get_external_count():
        return "external"
    return {
        h5py.h5d.COMPACT: "compact",
        h5py.h5d.CONTIGUOUS: "contiguous",
        h5py.h5d.CHUNKED: "chunked",
    }.get(plist.get_layout(), "virtual")


def _type_obstacle(dataset: Any, dtype: np.dtype[Any]) -> str | None:
    # Only a type that HDF5 would not convert has the same bytes in the file and in memory.
    # Enumerations are compared by the integers beneath them.
    stored = dataset.id.get_type()
    expected = h5py.h5t.py_create(dtype)
    if stored.get_class() == h5py.h5t.ENUM:
        stored = stored.get_super()
        if dtype == np.bool_:
            expected = expected.get_super()
    if stored.equal(expected):
        return None
    if dataset.dtype.byteorder == (">" if np.little_endian else "<"):
        return "its byte order is not this machine's"
    return "its type is stored with another precision or padding than in memory"


def _storage_obstacle(storage: str) -> str | None:
    return {
        "compact": "it is stored inside its header (compact)",
        "external": "its bytes are in external files",
        "virtual": "it is a virtual dataset, put together from others",
    }.get(storage)


def _fill_value_is_written(plist: Any) -> bool:
    undefined = plist.fill_value_defined() == h5py.h5d.FILL_VALUE_UNDEFINED
    return not undefined and bool(plist.get_fill_time() != h5py.h5d.FILL_TIME_NEVER)


def _edges_may_be_unfiltered(
    dataset: Any, sizes: NDArray[np.int64], masks: NDArray[np.uint32]
) -> bool:
    # A file may say that its edge chunks are not filtered (H5Pset_chunk_opts), which h5py does not
    # tell, nor does the mask. They then have just the size of a decoded chunk.
    grid = _grid(dataset)
    chunk_nbytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    is_whole = (sizes.reshape(grid) == chunk_nbytes) & (masks.reshape(grid) == 0)
    return any(
        length % chunk and is_whole.take(-1, axis).any()
        for axis, (length, chunk) in enumerate(zip(dataset.shape, dataset.chunks, strict=True))
    )


def _grid(dataset: Any) -> tuple[int, ...]:
    """How many chunks there are along each axis."""
    return tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))


class _UnreadableTableError(Exception):
    """The chunk table cannot be had or trusted; HDF5 has to read the dataset."""


def _chunk_table(
    dataset: Any,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
    """Offset, stored size and filter mask of every chunk of the grid, in row-major order."""
    chunk = np.array(dataset.chunks, np.int64)
    grid = _grid(dataset)
    if math.prod(grid) > MAX_CHUNKS:
        raise _UnreadableTableError(f"it has more than {MAX_CHUNKS} chunks")
    if not hasattr(dataset.id, "chunk_iter"):
        raise _UnreadableTableError("this h5py cannot list chunks (it was built with HDF5 < 1.14)")
    offsets = np.full(math.prod(grid), -1, np.int64)
    sizes = np.zeros(offsets.shape, np.int64)
    masks = np.zeros(offsets.shape, np.uint32)
    # One plain list, emptied now and then: quick to fill, and small for a million chunks.
    found: list[int] = []
    width = len(grid) + 3
    most = 65_536 * width

    def flush() -> None:
        rows = np.array(found, np.int64).reshape(-1, width)
        found.clear()
        corner = rows[:, :-3]
        place = corner // chunk
        if (place * chunk != corner).any() or (place >= grid).any():
            raise _UnreadableTableError("HDF5 reports chunks that are not on its grid")
        index = np.ravel_multi_index(tuple(place.T), grid)
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
    return offsets, sizes, masks


def _userblock_correction(
    dataset: Any, offsets: NDArray[np.int64], sizes: NDArray[np.int64]
) -> int:
    """Bytes to add to the reported offsets in a file with a userblock.

    Releases of HDF5 differ in whether the offset of a chunk counts the userblock in, so one chunk
    is read both ways and compared with what HDF5 itself reads.
    """
    written = np.flatnonzero((offsets >= 0) & (sizes > 0))
    if not written.size:
        return 0
    number = int(written[0])
    grid = _grid(dataset)
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
        raise _UnreadableTableError("the offsets of its chunks are ambiguous (userblock)")
    return candidates[0]
