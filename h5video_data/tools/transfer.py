"""Copies and compares values with the type that they are stored with.

NumPy's strings are padded with nulls. Many programs write strings that end with a null instead; of
one that fills its size, HDF5 cuts the last letter to make room for the null when it comes from
NumPy. So values go from file to file as the bytes that are stored, and through NumPy's types only
where those say the same.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import ReadError
from h5video_data.storage.hdf5_files import HDF5_ERRORS
from h5video_data.storage.values import Values

# Values are copied and compared in blocks of about this many bytes,
BLOCK_BYTES = 2 << 20
# and those of variable length, whose bytes are elsewhere, this many at a time.
BLOCK_OBJECTS = 4096
# Holds the chunks that two such blocks share.
CACHE_BYTES = 64 << 20
# Deflate makes at most this many bytes of one.
MOST_COMPRESSED = 1032

# Why something is not copied.
REFERENCES = "holds references, which lead into their own file"


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Makes a ReadError of what h5py raises for a damaged file: `what` cannot be read."""
    try:
        yield
    except HDF5_ERRORS as error:
        raise ReadError(f"{what} cannot be read: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """What an error says; KeyError shows the repr of it."""
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def identity(item: Any) -> Any:
    """What tells an object from all others in open files."""
    info = h5py.h5g.get_objinfo(item)
    return info.fileno, info.objno


def holds_references(stored_type: Any) -> bool:
    """Whether values of an HDF5 type lead to objects, or have a part that does."""
    return bool(stored_type.detect_class(h5py.h5t.REFERENCE))


def nbytes_of(dataset: Any) -> int:
    """Bytes of a dataset's values."""
    return int(math.prod(dataset.shape or ()) * dataset.id.get_type().get_size())


def is_sparse(dataset: Any, most_nbytes: int) -> bool:
    """Whether a dataset has more values than that, and than what is stored of it can be decoded to.

    One may claim a shape of any size: if it is virtual, or hardly written.
    """
    is_elsewhere = dataset.is_virtual or dataset.external
    stored = 0 if is_elsewhere else dataset.id.get_storage_size()
    return nbytes_of(dataset) > max(most_nbytes, MOST_COMPRESSED * stored)


def needs_values(dataset: Any) -> bool:
    """Whether HDF5's own copy of a dataset would not have its values, or a damaged fill value."""
    plist = dataset.id.get_create_plist()
    # HDF5 copies a fill value of variable length as an address in the old file.
    is_filled = plist.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    is_filled_elsewhere = is_filled and has_variable_length(dataset.id.get_type())
    return bool(dataset.is_virtual or dataset.external or is_filled_elsewhere)


def has_variable_length(stored_type: Any) -> bool:
    """Whether values of an HDF5 type are stored elsewhere in the file, or have parts that are."""
    if stored_type.detect_class(h5py.h5t.VLEN):
        return True
    try:
        return bool(stored_type.dtype.hasobject)  # strings, which are a class of their own
    except HDF5_ERRORS:
        return False


def make_like(dataset: Any, file: Any, count: int | None = None) -> Any:
    """Makes a dataset of the same type, and of the same chunks and filters if it has some.

    Args:
        dataset: An existing one.
        file: Where to make it, without a name.
        count: Its number of rows; None: its shape is the same.
    """
    with reading(f"{dataset.file.filename}: dataset {dataset.name!r}"):
        plist, space = dataset.id.get_create_plist(), dataset.id.get_space()
        stored_type = dataset.id.get_type().copy()
        shape = dataset.shape if count is None else (count, *dataset.shape[1:])
        if dataset.chunks is None:
            # What is contiguous has no larger shape to grow to.
            space = h5py.h5s.create_simple(shape) if shape else space
            plist.set_layout(h5py.h5d.CONTIGUOUS)
            if dataset.external:
                plist = None
        elif count is not None:
            # Without a fixed length, since chunks may not be longer.
            longest = (h5py.h5s.UNLIMITED, *(n or h5py.h5s.UNLIMITED for n in dataset.maxshape[1:]))
            space = h5py.h5s.create_simple(shape, longest)
    return h5py.Dataset(h5py.h5d.create(file.id, None, stored_type, space, plist))


def copy_by_hdf5(dataset: Any, group: Any, name: bytes, link: Any) -> bool:
    """Lets HDF5 copy a dataset without its attributes (H5Ocopy), in the form that it has.

    Args:
        dataset: An `h5py.Dataset`.
        group: The low-level id of the group to copy it to.
        name: The name there.
        link: The properties of the new link.

    Returns:
        Whether it worked. If not, nobody knows whether reading failed or writing.
    """
    plist = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
    plist.set_copy_object(h5py.h5o.COPY_WITHOUT_ATTR_FLAG)
    try:
        if _has_chunks_beyond_the_end(dataset):  # which end the process (HDF5 1.14.6)
            return False
        h5py.h5o.copy(dataset.id, b".", group, name, plist, link)
    except HDF5_ERRORS:
        return False
    return True


def _has_chunks_beyond_the_end(dataset: Any) -> bool:
    if dataset.chunks is None or not hasattr(dataset.id, "chunk_iter"):
        return False
    end = dataset.file.id.get_filesize()
    # The first result of the function that is not None ends the iteration.
    return bool(dataset.id.chunk_iter(lambda info: info.byte_offset + info.size > end or None))


def copy_rows(source: Any, target: Any, begin: int = 0, count: int | None = None) -> None:
    """Copies the first `count` rows of a dataset to those from `begin` on of another one.

    Args:
        source: The `h5py.Dataset` to read; of the same type as `target`.
        target: The `h5py.Dataset` to write to.
        begin: Where to write the first row.
        count: How many rows; None: all values, of a scalar too.

    Raises:
        MissingFilterError: They were written with a filter that is not installed.
        ReadError: HDF5 cannot read them.
        H5VideoError: A file that they are in is not there, cannot be opened, or has changed.
        OSError, RuntimeError: HDF5 cannot write them.
    """
    stored = Values(source, count)
    with reading(_name(source)):
        dtype, in_memory = _form(source.id.get_type())
        shape = source.shape if count is None else (count, *source.shape[1:])
    for corner, size in _blocks(shape, dtype):
        values = _read(source, corner, size, dtype, in_memory, stored)
        corner = (begin + corner[0], *corner[1:]) if corner else ()
        target.id.write(*_selection(target, corner, size), values, in_memory)
    stored.check_files()


def same_rows(source: Any, target: Any, begin: int = 0, count: int | None = None) -> bool:
    """Whether the rows that `copy_rows` copied are the same, byte by byte.

    Raises:
        ReadError: HDF5 cannot read them.
    """
    with reading(_name(source)):
        dtype, in_memory = _form(source.id.get_type(), is_read_only=True)
        shape = source.shape if count is None else (count, *source.shape[1:])
    for corner, size in _blocks(shape, dtype):
        values = _read(source, corner, size, dtype, in_memory)
        corner = (begin + corner[0], *corner[1:]) if corner else ()
        if not _same(values, _read(target, corner, size, dtype, in_memory)):
            return False
    return True


def same_chunks(source: Any, target: Any) -> bool:
    """Whether two chunked datasets of a type have the same chunks as they are stored.

    Nothing is decoded: a chunk may be damaged, or its filter not installed.

    Raises:
        OSError, RuntimeError: HDF5 does not find a chunk where it says that one is.
    """
    filters = [[p.get_filter(i) for i in range(p.get_nfilters())] for p in _plists(source, target)]
    if filters[0] != filters[1] or source.chunks != target.chunks:
        return False
    corners: list[tuple[int, ...]] = []
    if hasattr(source.id, "chunk_iter"):
        source.id.chunk_iter(lambda info: corners.append(info.chunk_offset))
    else:
        numbers = range(source.id.get_num_chunks())
        corners += [source.id.get_chunk_info(number).chunk_offset for number in numbers]
    with phil:  # h5py does not take its own lock for this call
        return len(corners) == target.id.get_num_chunks() and all(
            source.id.read_direct_chunk(corner) == target.id.read_direct_chunk(corner)
            for corner in corners
        )


def _plists(*datasets: Any) -> list[Any]:
    return [dataset.id.get_create_plist() for dataset in datasets]


def copy_attribute(source: Any, target: Any, name: bytes) -> str | None:
    """Copies an attribute between two objects (`h5py`'s low-level ids), or says why not.

    Raises:
        OSError, RuntimeError: HDF5 cannot write it.
    """
    try:
        attribute = h5py.h5a.open(source, name)
        stored_type, space = attribute.get_type(), attribute.get_space()
        if holds_references(stored_type):
            return REFERENCES
        values, in_memory = _attribute_values(attribute)
    except HDF5_ERRORS as error:
        return f"cannot be read: {reason_of(error)}"
    new = h5py.h5a.create(target, name, stored_type.copy(), space)
    if values is not None:
        new.write(values, mtype=in_memory)
    return None


def same_attribute(source: Any, target: Any, name: bytes) -> bool:
    """Whether an attribute of two objects has the same type, shape and values."""
    one, other = h5py.h5a.open(source, name), h5py.h5a.open(target, name)
    if not (one.get_type().equal(other.get_type()) and _same_extent(one, other)):
        return False
    values, _ = _attribute_values(one, is_read_only=True)
    return values is None or _same(values, _attribute_values(other, is_read_only=True)[0])


def _same_extent(one: Any, other: Any) -> bool:
    spaces = one.get_space(), other.get_space()
    kinds = {space.get_simple_extent_type() for space in spaces}
    return len(kinds) == 1 and (h5py.h5s.NULL in kinds or one.shape == other.shape)


def _attribute_values(attribute: Any, *, is_read_only: bool = False) -> tuple[Any, Any]:
    if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return None, None
    dtype, in_memory = _form(attribute.get_type(), is_read_only=is_read_only)
    values = np.zeros(attribute.shape, dtype)
    attribute.read(values, mtype=in_memory)
    return values, in_memory


def _form(stored_type: Any, *, is_read_only: bool = False) -> tuple[np.dtype[Any], Any]:
    """The NumPy and the HDF5 type that values are read with, and written.

    Args:
        stored_type: The HDF5 type in the file.
        is_read_only: They are compared, not written.
    """
    try:
        dtype = stored_type.dtype
    except HDF5_ERRORS:  # h5py has no name for it
        if stored_type.detect_class(h5py.h5t.VLEN):
            raise
        dtype = np.dtype("V1")
    # What has a variable length comes as objects, which can be compared, and which h5py frees.
    if dtype.hasobject and (is_read_only or _is_exact(dtype, stored_type)):
        return dtype, h5py.h5t.py_create(dtype)
    # Of what is left of these, HDF5's own pointers are copied, and h5py does not free the values:
    # a loss of memory, but not of letters.
    return np.dtype((np.void, stored_type.get_size())), stored_type


def _is_exact(dtype: np.dtype[Any], stored_type: Any) -> bool:
    """Whether h5py writes the same objects as it read."""
    if not h5py.h5t.py_create(dtype, logical=True).equal(stored_type):
        return False
    item = h5py.check_vlen_dtype(dtype)
    if stored_type.detect_class(
        h5py.h5t.VLEN
    ):  # other than strings, which are a class of their own
        # h5py (3.14) does not turn the bytes of numbers around.
        return item is not None and np.dtype(item).isnative and not np.dtype(item).hasobject
    return True


def _blocks(
    shape: tuple[int, ...] | None, dtype: np.dtype[Any]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Corners and sizes of the blocks that an array is cut into, in row-major order."""
    if shape is None or 0 in shape:
        return
    most = BLOCK_OBJECTS if dtype.hasobject else max(1, BLOCK_BYTES // dtype.itemsize)
    block = list(shape)
    for axis in range(len(shape)):
        block[axis] = max(1, min(shape[axis], most // math.prod(shape[axis + 1 :])))
        if block[axis] > 1:
            break
    for corner in itertools.product(*map(range, [0] * len(shape), shape, block)):
        ends = zip(corner, block, shape, strict=True)
        yield corner, tuple(min(start + step, n) - start for start, step, n in ends)


def _read(
    dataset: Any,
    corner: tuple[int, ...],
    size: tuple[int, ...],
    dtype: np.dtype[Any],
    in_memory: Any,
    stored: Values | None = None,
) -> NDArray[Any]:
    selection = tuple(
        slice(begin, begin + length) for begin, length in zip(corner, size, strict=True)
    )
    with stored.reading(selection) if stored and selection else reading(_name(dataset)):
        values = np.zeros(size, dtype)
        dataset.id.read(*_selection(dataset, corner, size), values, in_memory)
    return values


def _selection(dataset: Any, corner: tuple[int, ...], size: tuple[int, ...]) -> tuple[Any, Any]:
    """The block in memory, and its place in the dataset."""
    if not size:
        return h5py.h5s.ALL, h5py.h5s.ALL
    place = dataset.id.get_space()
    place.select_hyperslab(corner, size)
    return h5py.h5s.create_simple(size), place


def _name(dataset: Any) -> str:
    return f"{dataset.file.filename}: dataset {dataset.name!r}"


def _same(one: Any, other: Any) -> bool:
    """Compares arrays byte by byte (NaN, -0.0), and objects in them likewise."""
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if not one.dtype.hasobject:
            return np.array_equal(one.ravel().view(np.uint8), other.ravel().view(np.uint8))
        if one.dtype.names:
            return all(_same(one[name], other[name]) for name in one.dtype.names)
        return all(map(_same, one.ravel(), other.ravel()))
    return bool(one == other)
