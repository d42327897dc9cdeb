"""Describes how the datasets of an open HDF5 file are stored: `StoredArray`.

All that positioned reads need later (offsets, stored sizes, filters) is read here once, into
arrays; after that the file can be closed. What positioned reads cannot do is an `obstacle`, a
reason in words, and the dataset is read by h5py. Sections are those of the HDF5 File Format
Specification, version 3.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError, H5VideoError, UnsupportedDtypeError

from .chunk_table import Chunking, UnreadableTableError, is_lost, open_chunk_table
from .file_identity import FileIdentity, Files
from .hdf5_files import HDF5_ERRORS, MIN_SUPERBLOCK_NBYTES, OpenedFile
from .hdf5_names import FoundDataset, location_in, own_name
from .virtual import SourceFiles, find_source_files

# Types of elements that are remembered while a file is open.
_TYPES_KEPT = 8

# The numeric dtypes that both HDF5 files and TensorFlow tensors have.
SUPPORTED_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


@dataclass(frozen=True)
class Filter:
    """One filter of a pipeline (HDF5 File Format Specification, IV.A.2.l)."""

    id: int
    """Registered number: 1 deflate, 2 shuffle, 3 fletcher32, 32000 lzf, ..."""
    name: str
    params: tuple[int, ...]
    """The client data values."""


LostRows: TypeAlias = tuple[int, NDArray[np.bool_]]

_NO_SOURCES = SourceFiles()


@dataclass(frozen=True, eq=False, slots=True)
class StoredArray:
    """Where and how the bytes of one dataset are stored."""

    path: str
    """The file that contains the dataset: not the one that was opened if a link leads elsewhere."""
    identity: FileIdentity
    """That of the file when this was read."""
    name: str
    """The dataset's name in that file."""
    shape: tuple[int, ...]
    """As NumPy sees it: the shape of an array type follows that of the dataset."""
    dtype: np.dtype[Any]
    """Dtype of the values in memory: `file_dtype` in the machine's byte order."""
    file_dtype: np.dtype[Any]
    """Dtype of the values in the file, in its byte order."""
    storage: str
    """`contiguous`, `chunked`, `compact`, `external` or `virtual`."""
    chunk_shape: tuple[int, ...] | None
    """As `shape`; None: not chunked."""
    filters: tuple[Filter, ...]
    """In the order in which they were applied when writing."""
    fill_value: Any
    """Value of the chunks that were never written, a scalar; None: there are none."""
    offsets: NDArray[np.int64]
    """int64 (num_chunks,), byte offset of each chunk in the file, in row-major order of the chunk
    grid; -1: never written. One element if contiguous, none if only h5py can read the dataset."""
    sizes: NDArray[np.int64]
    """int64 (num_chunks,), stored bytes of each chunk, after its filters."""
    masks: NDArray[np.uint32]
    """uint32 (num_chunks,), filter mask of each chunk: if bit i is set, filter i was skipped."""
    obstacle: str | None
    """Why only h5py can read the values; None: positioned reads can."""
    sources: SourceFiles = _NO_SOURCES
    """The other files that contain its values, if it is virtual or external."""

    @property
    def files(self) -> Files:
        """Path and identity of all files that contain its values, its own first."""
        return ((self.path, self.identity), *self.sources.files)

    @property
    def lost_rows(self) -> LostRows | None:
        """Which rows cannot be read, as a chunk of them cannot; None: there are none.

        The rows of a chunk; and for each run of so many rows, whether a chunk of it is lost.
        """
        lost = is_lost(self.offsets, self.identity.num_bytes)
        if self.chunk_shape is None or not lost.any():
            return None
        num_rows = self.chunk_shape[0]
        of_rows = np.logical_or.reduce(lost.reshape(-(-self.shape[0] // num_rows), -1), axis=1)
        return num_rows, np.asarray(of_rows)

    @property
    def itemsize(self) -> int:
        """Bytes of a value in memory."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole dataset in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row, an index of the first axis, in memory."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def row_decoded_nbytes(self) -> int:
        """Bytes to decode for one row alone: those of all chunks that hold a part of it."""
        if self.chunk_shape is None:
            return self.row_nbytes
        lengths = zip(self.shape[1:], self.chunk_shape[1:], strict=True)
        num_chunks = math.prod(-(-whole // length) for whole, length in lengths)
        return num_chunks * math.prod(self.chunk_shape) * self.dtype.itemsize

    @property
    def filters_in_use(self) -> tuple[Filter, ...]:
        """The filters that were not skipped for all chunks; without a chunk table, all filters."""
        if not self.filters or not len(self.offsets):
            return self.filters
        skipped = int(np.bitwise_and.reduce(self.masks[self.offsets >= 0]))
        return tuple(item for i, item in enumerate(self.filters) if not skipped >> i & 1)


Element = tuple[np.dtype[Any], tuple[int, ...]]
"""Dtype of an element's numbers in the file, in its byte order, and their shape."""


def describe(
    dataset: Any,
    opened_by: str | None = None,
    element: Element | None = None,
    file: OpenedFile | None = None,
) -> StoredArray:
    """Describes how an open `h5py.Dataset` is stored, without reading its values.

    Args:
        dataset: The dataset, or a `FoundDataset`.
        opened_by: The name in its file by which it was opened, if that is known: it need not be
            looked for then.
        element: What its elements are taken for; None: what they are. See `global_heap`.
        file: Its file, if that is known.

    Raises:
        FileFormatError: It has no axis, or its metadata are damaged.
        UnsupportedDtypeError: Its values are not numbers.
        H5VideoError: It is virtual or external, and a file with its values cannot be opened.
    """
    # The file may be replaced meanwhile, so the identity is that from before.
    file = OpenedFile.of(dataset.file) if file is None else file
    try:
        if not isinstance(dataset, FoundDataset):
            dataset = FoundDataset(dataset.id, is_own=False)
        return _describe(dataset, file, opened_by, element)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise FileFormatError(
            f"{location_in(file.path, dataset)} is damaged, or stored in a way that h5py cannot "
            f"read. h5py error: {error}"
        ) from error


def _describe(
    dataset: FoundDataset, file: OpenedFile, opened_by: str | None, element: Element | None
) -> StoredArray:
    shape = dataset.shape
    if not shape:
        kind = "empty (h5py.Empty)" if shape is None else "a scalar"
        raise FileFormatError(
            f"{location_in(file.path, dataset)} is {kind}. Its first axis must be the samples."
        )
    stored_type = dataset.id.get_type()
    dtype, file_dtype, inner_shape, type_obstacle = (
        _Type(element[0].newbyteorder("="), *element)
        if element
        else _type_of(dataset, stored_type, file)
    )
    plist, storage = dataset.plist, "contiguous"
    if plist is not None:
        # External storage is contiguous to HDF5.
        storage = "external" if plist.get_external_count() else _STORAGES[plist.get_layout()]
    chunks, chunk_shape = _NO_CHUNKS, None
    if storage == "contiguous":
        chunks = _contiguous(dataset, shape, stored_type, file)
    elif storage == "chunked":
        chunks = _chunked(dataset, plist, dtype, file)
        chunk_shape = file.shared((*plist.get_chunk(), *inner_shape))
    return StoredArray(
        path=file.path,
        identity=file.identity,
        name=own_name(dataset, opened_by),
        shape=file.shared((*shape, *inner_shape)),
        dtype=dtype,
        file_dtype=file_dtype,
        storage=storage,
        chunk_shape=chunk_shape,
        filters=() if plist is None else file.shared(_filters(plist)),
        fill_value=chunks.fill_value,
        offsets=chunks.offsets,
        sizes=chunks.sizes,
        masks=chunks.masks,
        obstacle=type_obstacle or _STORAGE_OBSTACLES.get(storage) or chunks.obstacle,
        # Without others, nothing is to be opened and checked.
        sources=find_source_files(dataset) if storage in ("virtual", "external") else _NO_SOURCES,
    )


class _Type(NamedTuple):
    """The part of a StoredArray that depends on the type of its elements."""

    dtype: np.dtype[Any]
    file_dtype: np.dtype[Any]
    inner_shape: tuple[int, ...]
    obstacle: str | None = None


def _type_of(dataset: Any, stored_type: Any, file: OpenedFile) -> _Type:
    for known, found in file.types:
        if stored_type.equal(known):
            of_known: _Type = found
            return of_known
    file_dtype, inner_shape = _file_dtype(dataset, file.path)
    obstacle = _type_obstacle(stored_type, file_dtype)
    found = _Type(file_dtype.newbyteorder("="), file_dtype, inner_shape, obstacle)
    if len(file.types) < _TYPES_KEPT:
        file.types.append((stored_type, found))
    return found


class _Chunks(NamedTuple):
    """The part of a StoredArray that depends on the kind of storage."""

    offsets: NDArray[np.int64] = np.zeros(0, np.int64)
    sizes: NDArray[np.int64] = np.zeros(0, np.int64)
    masks: NDArray[np.uint32] = np.zeros(0, np.uint32)
    fill_value: Any = None
    obstacle: str | None = None


_NO_CHUNKS = _Chunks()
# That of the one chunk of all contiguous datasets.
_NO_MASKS = np.zeros(1, np.uint32)
_NO_MASKS.flags.writeable = False


def _contiguous(
    dataset: FoundDataset, shape: tuple[int, ...], stored_type: Any, file: OpenedFile
) -> _Chunks:
    offset = dataset.offset
    stored_nbytes = dataset.id.get_storage_size()
    if offset is None or not stored_nbytes:
        return _Chunks(obstacle="no values were written to it yet")
    nbytes = math.prod(shape) * stored_type.get_size()
    if stored_nbytes < nbytes:  # other data follow in the file
        raise FileFormatError(
            f"{location_in(file.path, dataset)} is damaged: its shape {shape} takes "
            f"{nbytes} bytes, but {stored_nbytes} are stored."
        )
    # What is beyond the end of the file cannot be read; the exact offset does not matter. Nor can
    # values lie in the superblock.
    is_possible = offset >= file.userblock_nbytes + MIN_SUPERBLOCK_NBYTES
    end = file.identity.num_bytes
    return _Chunks(
        offsets=np.array([min(offset, end) if is_possible else end], np.int64),
        sizes=np.array([stored_nbytes], np.int64),
        masks=_NO_MASKS,
    )


def _chunked(dataset: Any, plist: Any, dtype: np.dtype[Any], file: OpenedFile) -> _Chunks:
    try:
        chunking, (offsets, sizes, masks) = open_chunk_table(dataset, plist, file)
    except UnreadableTableError as error:
        return _Chunks(obstacle=str(error))
    fill_value, obstacle = None, None
    if (offsets < 0).any():
        fill_value, obstacle = _fill_value(dataset, plist, dtype)
    if chunking.num_filters and len(offsets) and _edges_may_be_unfiltered(chunking, sizes, masks):
        obstacle = obstacle or "its edge chunks may be stored without filters"
    return _Chunks(offsets, sizes, masks, fill_value, obstacle)


def _fill_value(dataset: Any, plist: Any, dtype: np.dtype[Any]) -> tuple[Any, str | None]:
    """Returns the value of unwritten chunks (specification, IV.A.2.f), or why it is not known."""
    kind = plist.fill_value_defined()
    is_never_written = plist.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
    if kind == h5py.h5d.FILL_VALUE_UNDEFINED or is_never_written:
        return None, "the value of its unwritten chunks is undefined"
    if kind == h5py.h5d.FILL_VALUE_DEFAULT:
        return dtype.type(0), None
    if dataset.dtype.subdtype is None and dataset.dtype.kind != "O":
        return dtype.type(dataset.fillvalue), None
    return None, "h5py does not report the fill value of its type"


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Returns a dtype's name for messages, which tells apart what h5py makes of an `object`."""
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    if h5py.check_ref_dtype(dtype) is not None:
        return "reference"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "variable length"
    return f"compound {dtype.names}" if dtype.names else str(dtype)


def _filters(plist: Any) -> tuple[Filter, ...]:
    if not plist.get_nfilters():
        return ()
    found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    filters = tuple(
        Filter(int(number), name.decode("utf-8", "replace") or f"filter {number}", tuple(params))
        for number, _, params, name in found
    )
    for item in filters:
        if item.id == h5py.h5z.FILTER_SZIP and not _is_valid_szip(item.params):
            raise ValueError(f"the parameters of its filter szip: {item.params}")
    return filters


def _is_valid_szip(params: tuple[int, ...]) -> bool:
    """Whether HDF5 survives them: by others, its library writes beyond its memory (1.14.6)."""
    # H5Zszip.c: options, pixels of a block, bits of a pixel, pixels of a scan line; szlib.h.
    _, block, bits, line = (*params, 0, 0, 0, 0)[:4]
    is_block = 2 <= block <= 32 and block % 2 == 0
    return is_block and (1 <= bits <= 32 or bits == 64) and 1 <= line <= 128 * block


_STORAGES = {
    h5py.h5d.COMPACT: "compact",
    h5py.h5d.CONTIGUOUS: "contiguous",
    h5py.h5d.CHUNKED: "chunked",
    h5py.h5d.VIRTUAL: "virtual",
}
_STORAGE_OBSTACLES = {
    "compact": "it is stored in its object header (compact)",
    "external": "its values are in external files",
    "virtual": "it is a virtual dataset",
}


def dtype_of(dataset: Any, path: str) -> np.dtype[Any]:
    """Returns the dtype of an `h5py.Dataset` of a file, or raises an UnsupportedDtypeError."""
    try:
        dtype: np.dtype[Any] = dataset.dtype
    except HDF5_ERRORS as error:  # NumPy has no such type
        raise UnsupportedDtypeError(
            f"{location_in(path, dataset)} has a dtype that h5py does not support: {error!r}. "
            f"Supported: {', '.join(SUPPORTED_DTYPES)}."
        ) from error
    return dtype


def _file_dtype(dataset: Any, path: str) -> Element:
    """Returns the dtype of a dataset's numbers in the file, and the shape of its array type."""
    item = dtype_of(dataset, path)
    inner_shape: tuple[int, ...] = ()
    while item.subdtype is not None:
        item, shape = item.subdtype
        inner_shape += shape
    if item.name not in SUPPORTED_DTYPES:
        raise UnsupportedDtypeError(
            f"{location_in(path, dataset)} has the dtype {dtype_name(item)}. "
            f"Supported: {', '.join(SUPPORTED_DTYPES)}."
        )
    # Without h5py's metadata of enumerations.
    return np.dtype(item.name).newbyteorder(item.byteorder), inner_shape


def _type_obstacle(stored: Any, dtype: np.dtype[Any]) -> str | None:
    # The bytes are the same in the file and in memory only if HDF5 would convert nothing but the
    # byte order (specification, IV.A.2.d). Enumerations are compared by their integer type.
    while stored.get_class() == h5py.h5t.ARRAY:
        stored = stored.get_super()
    expected = h5py.h5t.py_create(dtype)
    if stored.get_class() == h5py.h5t.ENUM:
        stored = stored.get_super()
        if dtype == np.bool_:
            expected = expected.get_super()
    elif stored.get_class() == h5py.h5t.BITFIELD:
        # h5py returns bit fields as unsigned integers; PyTables stores bools as such.
        order = "BE" if stored.get_order() == h5py.h5t.ORDER_BE else "LE"
        expected = getattr(h5py.h5t, f"STD_B{8 * dtype.itemsize}{order}")
    if stored.equal(expected):
        return None
    return "its type has another precision or padding in the file than in memory"


def _edges_may_be_unfiltered(
    chunking: Chunking, sizes: NDArray[np.int64], masks: NDArray[np.uint32]
) -> bool:
    # Chunks across the edge of the dataset may be stored without filters (specification, IV.A.2.i;
    # H5Pset_chunk_opts), which neither h5py nor the mask tells. They then have exactly the size of
    # a decoded chunk.
    axes = enumerate(zip(chunking.shape, chunking.chunks, strict=True))
    cut = [axis for axis, (length, chunk) in axes if length % chunk]
    if not cut:
        return False
    grid = chunking.grid
    is_whole = (sizes.reshape(grid) == chunking.chunk_nbytes) & (masks.reshape(grid) == 0)
    return any(is_whole.take(-1, axis).any() for axis in cut)
