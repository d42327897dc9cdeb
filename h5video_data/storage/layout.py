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
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError, H5VideoError, UnsupportedDtypeError

from .chunk_table import (
    DamagedTableError,
    UnreadableTableError,
    grid_shape,
    read_chunk_table,
)
from .file_identity import FileIdentity, Files
from .hdf5_files import HDF5_ERRORS, file_identity, own_name
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
    """As NumPy sees it: an array type's own shape follows that of the dataset."""
    dtype: np.dtype[Any]
    """The dtype of the values in memory: the stored one in the machine's byte order."""
    file_dtype: np.dtype[Any]
    """The same in the byte order of the file."""
    storage: str
    """`contiguous`, `chunked`, `compact`, `external` or `virtual`."""
    chunk_shape: tuple[int, ...] | None
    """As `shape`."""
    filters: tuple[Filter, ...]
    fill_value: Any
    """The value of the chunks that were never written, a scalar; None: there are none."""
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
    def filters_in_use(self) -> tuple[Filter, ...]:
        """The filters that a chunk went through; without a chunk table, it may be any."""
        if not len(self.offsets):
            return self.filters
        skipped = int(np.bitwise_and.reduce(self.masks[self.offsets >= 0]))
        return tuple(item for i, item in enumerate(self.filters) if not skipped >> i & 1)

    @property
    def stored_nbytes(self) -> int:
        """Bytes that the dataset's values take in the file, as far as the chunk table tells."""
        return int(self.sizes.sum())


def describe(dataset: Any) -> StoredArray:
    """Describes how an open `h5py.Dataset` is stored, without reading its values.

    Raises:
        FileFormatError: It has no dimensions, or what the file says of it is damaged.
        UnsupportedDtypeError: Its values are not numbers.
        H5VideoError: It is virtual or external, and its values are not where they should be.
    """
    path = os.path.abspath(dataset.file.filename)
    identity = file_identity(dataset.file)
    where = f"{path}: dataset {dataset.name!r}"
    try:
        return _describe(dataset, path, identity, where)
    except H5VideoError:
        raise
    except DamagedTableError as error:
        raise FileFormatError(
            f"{where} has a damaged list of chunks: {error}. Restore the file from a copy; what "
            "h5py reads of it may be other samples' values, or none."
        ) from error
    except HDF5_ERRORS as error:
        raise FileFormatError(
            f"{where} is damaged, or stored in a way that h5py cannot read. h5py says: {error}"
        ) from error


def _describe(dataset: Any, path: str, identity: FileIdentity, where: str) -> StoredArray:
    if dataset.shape is None or dataset.shape == ():
        kind = "an empty dataspace" if dataset.shape is None else "a scalar"
        raise FileFormatError(f"{where} holds {kind}; its first dimension should be the samples.")
    file_dtype, inner_shape = _stored_dtype(dataset, where)
    dtype = file_dtype.newbyteorder("=")

    plist = dataset.id.get_create_plist()
    filters = tuple(
        Filter(int(number), name.decode("utf-8", "replace") or f"filter {number}", tuple(params))
        for number, _, params, name in (plist.get_filter(i) for i in range(plist.get_nfilters()))
    )
    storage = _storage(plist)
    offsets, sizes, masks = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32)
    obstacle = _type_obstacle(dataset.id.get_type(), file_dtype) or _storage_obstacle(storage)
    fill_value = None
    if storage == "contiguous":
        offset = dataset.id.get_offset()
        if offset is None:
            obstacle = obstacle or "nothing was written to it yet"
        else:
            # What lies beyond the end of the file cannot be read, and has no other place.
            offsets = np.array([min(offset, identity.num_bytes)], np.int64)
            sizes = np.array([dataset.id.get_storage_size()], np.int64)
            masks = np.zeros(1, np.uint32)
            nbytes = math.prod(dataset.shape) * dataset.id.get_type().get_size()
            if sizes[0] < nbytes:  # behind it, the file holds something else
                raise FileFormatError(
                    f"{where} is damaged: its shape {dataset.shape} takes {nbytes} bytes, and it "
                    f"has {sizes[0]} in the file."
                )
    elif storage == "chunked":
        try:
            offsets, sizes, masks = read_chunk_table(dataset)
        except UnreadableTableError as error:
            obstacle = obstacle or str(error)
        except DamagedTableError:
            raise
        except HDF5_ERRORS as error:
            raise DamagedTableError(error) from error
        if (offsets < 0).any():
            if not _fill_value_is_written(plist):
                obstacle = obstacle or "the value of its unwritten chunks is not defined"
            elif dataset.dtype.subdtype is None:
                fill_value = dtype.type(dataset.fillvalue)
            elif plist.fill_value_defined() == h5py.h5d.FILL_VALUE_DEFAULT:
                fill_value = dtype.type(0)
            else:
                obstacle = obstacle or "h5py does not tell the fill value of its array type"
        if filters and len(offsets) and _edges_may_be_unfiltered(dataset, sizes, masks):
            obstacle = obstacle or "its edge chunks may be stored without filters"
    return StoredArray(
        path=path,
        identity=identity,
        name=own_name(dataset),
        shape=(*dataset.shape, *inner_shape),
        dtype=dtype,
        file_dtype=file_dtype,
        storage=storage,
        chunk_shape=dataset.chunks and (*dataset.chunks, *inner_shape),
        filters=filters,
        fill_value=fill_value,
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


def _stored_dtype(dataset: Any, where: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype of a dataset's numbers as they are stored, and the shape of its array type."""
    try:
        found = dataset.dtype
    except HDF5_ERRORS as error:  # h5py has no name for it
        raise UnsupportedDtypeError(
            f"{where} has the dtype of which h5py says: {error!r}. Supported: {SUPPORTED_DTYPES}."
        ) from error
    item, inner_shape = found, ()
    while item.subdtype is not None:
        item, shape = item.subdtype
        inner_shape += shape
    if item.name not in _SUPPORTED:
        raise UnsupportedDtypeError(
            f"{where} has the dtype {dtype_name(item)}. Supported: {SUPPORTED_DTYPES}."
            + ("" if item.kind in "iufc" else f" {_NOT_NUMBERS}")
        )
    # Drops h5py's remarks on enumerations.
    return np.dtype(item.name).newbyteorder(item.byteorder), inner_shape


# HDF5's bit fields, which h5py gives as unsigned integers: PyTables stores bools so.
_BIT_FIELDS = {
    ("<", 1): h5py.h5t.STD_B8LE,
    ("<", 2): h5py.h5t.STD_B16LE,
    ("<", 4): h5py.h5t.STD_B32LE,
    ("<", 8): h5py.h5t.STD_B64LE,
    (">", 1): h5py.h5t.STD_B8BE,
    (">", 2): h5py.h5t.STD_B16BE,
    (">", 4): h5py.h5t.STD_B32BE,
    (">", 8): h5py.h5t.STD_B64BE,
}


def _type_obstacle(stored: Any, dtype: np.dtype[Any]) -> str | None:
    # Only a type that HDF5 would not convert, but for the order of the bytes, has the same bytes in
    # the file and in memory. Enumerations are compared by the integers beneath them.
    while stored.get_class() == h5py.h5t.ARRAY:
        stored = stored.get_super()
    expected = h5py.h5t.py_create(dtype)
    if stored.get_class() == h5py.h5t.ENUM:
        stored = stored.get_super()
        if dtype == np.bool_:
            expected = expected.get_super()
    elif stored.get_class() == h5py.h5t.BITFIELD:
        order = ">" if stored.get_order() == h5py.h5t.ORDER_BE else "<"
        expected = _BIT_FIELDS[order, dtype.itemsize]
    if stored.equal(expected):
        return None
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
    grid = grid_shape(dataset)
    chunk_nbytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    is_whole = (sizes.reshape(grid) == chunk_nbytes) & (masks.reshape(grid) == 0)
    return any(
        length % chunk and is_whole.take(-1, axis).any()
        for axis, (length, chunk) in enumerate(zip(dataset.shape, dataset.chunks, strict=True))
    )
