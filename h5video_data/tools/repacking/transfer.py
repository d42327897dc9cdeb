"""Copies and compares datasets and attributes, by HDF5 or by the bytes of their values."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError
from h5video_data.storage.chunk_table import (
    check_chunk_table,
    check_index,
    has_fixed_index,
    has_variable_length,
)
from h5video_data.storage.hdf5_files import HDF5_ERRORS
from h5video_data.storage.hdf5_names import dataset_location
from h5video_data.storage.layout import dtype_name
from h5video_data.storage.values import Values

from .stored_bytes import (
    ValueForm,
    form_of,
    moves,
    read_piece,
    reading,
    reason_of,
    same_values,
    shape_of,
    spaces_of,
)

# HDF5's chunk cache, which holds the chunks that two pieces share.
CACHE_BYTES = 64 << 20
# Deflate decodes one byte to at most this many.
_MAX_RATIO = 1032


@dataclass(frozen=True)
class SkippedItem:
    """Something in a file that was not copied.

    Attributes:
        name: Its kind and name: `dataset '/refs'`.
        reason: Why it was left out, in words.
    """

    name: str
    reason: str


class SkipError(Exception):
    """Raised for something that cannot be copied; the message is the reason."""


@contextlib.contextmanager
def skipping(reason: str = "cannot be read") -> Iterator[None]:
    """Raises a SkipError for errors of h5py."""
    try:
        yield
    except HDF5_ERRORS as error:
        raise SkipError(f"{reason}: {reason_of(error)}") from error


def identity(item: Any) -> Any:
    """Returns a key that is the same for all handles of an object in open files."""
    info = h5py.h5g.get_objinfo(item)
    return info.fileno, info.objno


def check_copyable(dataset: Any) -> None:
    """Raises a SkipError if HDF5 would not survive a dataset, or its values are references."""
    check_type(dataset.id.get_type())
    try:
        check_index(dataset)
        check_chunk_table(dataset)
    except (ValueError, FileFormatError) as error:
        raise SkipError(f"is damaged: {error}") from None


def check_type(stored_type: Any) -> None:
    """Raises a SkipError if values of an HDF5 type are references, or have a part that is."""
    if stored_type.detect_class(h5py.h5t.REFERENCE):
        raise SkipError("holds references, which lead into their own file")


def nbytes_of(dataset: Any) -> int:
    """Returns the bytes of a dataset's values."""
    return int(math.prod(dataset.shape or ()) * dataset.id.get_type().get_size())


def type_name(dataset: Any) -> str:
    """Returns the name of a dataset's type, for messages."""
    try:
        return dtype_name(dataset.dtype)
    except HDF5_ERRORS:
        return "a type that h5py does not know"


def is_sparse(dataset: Any, most_nbytes: int) -> bool:
    """Tells if a dataset (virtual, hardly written) has more values than that, mostly not stored."""
    is_elsewhere = dataset.is_virtual or dataset.external
    stored_nbytes = 0 if is_elsewhere else dataset.id.get_storage_size()
    return nbytes_of(dataset) > max(most_nbytes, _MAX_RATIO * stored_nbytes)


# Links and groups


def order(creation_order: int) -> int:
    """Returns the order in which to list links or attributes: of creation, if it is tracked."""
    is_tracked = creation_order & h5py.h5p.CRT_ORDER_TRACKED
    return int(h5py.h5.INDEX_CRT_ORDER if is_tracked else h5py.h5.INDEX_NAME)


def link_properties(name: bytes) -> Any:
    """Returns the property list of a new link: its name is marked as UTF-8 if it is valid UTF-8."""
    plist = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    with contextlib.suppress(UnicodeDecodeError):
        name.decode("utf-8")
        plist.set_char_encoding(h5py.h5t.CSET_UTF8)
    return plist


def copy_object(item: Any, group: Any, name: bytes, link: Any) -> Any:
    """Copies a group without its members, or a committed type; neither's attributes."""
    if not isinstance(item, h5py.h5g.GroupID):
        new = item.copy()
        new.commit(group, name, link)
        return new
    # The orders that it tracks; not all of its properties, some of which are offsets in its file.
    old, plist = item.get_create_plist(), h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    plist.set_link_creation_order(old.get_link_creation_order())
    plist.set_attr_creation_order(old.get_attr_creation_order())
    return h5py.h5g.create(group, name, link, plist)


# Datasets


def make_like(dataset: Any, file: Any, num_rows: int | None = None) -> Any:
    """Creates a dataset without a name, of the same type, chunks and filters."""
    with reading(dataset_location(dataset)):
        plist, space = dataset.id.get_create_plist(), dataset.id.get_space()
        stored_type = dataset.id.get_type().copy()
        shape = shape_of(dataset, num_rows)
        if dataset.chunks is None:
            # A contiguous dataset cannot grow.
            space = h5py.h5s.create_simple(shape) if shape else space
            plist.set_layout(h5py.h5d.CONTIGUOUS)
            if dataset.external:
                plist = None
        elif num_rows is not None:
            # Without a maximal length, which no chunk may exceed.
            longest = (h5py.h5s.UNLIMITED, *(n or h5py.h5s.UNLIMITED for n in dataset.maxshape[1:]))
            space = h5py.h5s.create_simple(shape, longest)
    return h5py.Dataset(h5py.h5d.create(file.id, None, stored_type, space, plist))


def copy_by_hdf5(dataset: Any, group: Any, name: bytes, link: Any) -> bool:
    """Copies a dataset as it is stored, without its attributes, by H5Ocopy.

    Returns:
        False if HDF5 cannot copy it, or would copy it without its values, or with a fill value that
        is an address in the old file, as one of variable length is.
    """
    plist = dataset.id.get_create_plist()
    is_filled = plist.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    if is_filled and has_variable_length(dataset.id.get_type()):
        return False
    if dataset.is_virtual or dataset.external or _has_damaged_chunks(dataset):
        return False
    options = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
    options.set_copy_object(h5py.h5o.COPY_WITHOUT_ATTR_FLAG)
    try:
        h5py.h5o.copy(dataset.id, b".", group, name, options, link)
    except HDF5_ERRORS:
        return False
    return True


def _has_damaged_chunks(dataset: Any) -> bool:
    """Tells if HDF5 would end the process, or write beyond its memory (1.14.6).

    H5Ocopy does, and H5Dread_chunk, for chunks that lie beyond the file's end, and for those
    without filters whose stored size is not that of a chunk. H5Ocopy does, too, if the maximal
    shape has no limit, but the index has one.
    """
    if dataset.chunks is None:
        return False
    if None in dataset.maxshape and has_fixed_index(dataset):
        return True
    if not hasattr(dataset.id, "chunk_iter"):
        return False
    end = dataset.file.id.get_filesize()
    is_filtered = dataset.id.get_create_plist().get_nfilters() > 0
    size = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    with contextlib.suppress(*HDF5_ERRORS):
        # The first result that is not None ends the iteration.
        return bool(
            dataset.id.chunk_iter(
                lambda info: (
                    info.byte_offset + info.size > end
                    or not (is_filtered or info.size == size)
                    or None
                )
            )
        )
    return True


def copy_rows(
    source: Any, target: Any, begin: int = 0, rows: Sequence[range] | None = None
) -> None:
    """Copies some rows of a dataset (all, if None) to another of its type, from row `begin`.

    Raises:
        MissingFilterError: They were written with a filter that is not installed.
        ReadError: HDF5 cannot read them.
        H5VideoError: A file that they are in does not exist, cannot be opened, or has changed.
        OSError, RuntimeError: HDF5 cannot write them.
    """
    stored = Values(source, None if rows is None else max((run.stop for run in rows), default=0))
    with reading(dataset_location(source)):
        form = form_of(source.id.get_type())
    for piece, moved in moves(source, form.dtype, begin, rows):
        values = read_piece(source, piece, form, stored)
        target.id.write(*spaces_of(target, moved), values, form.in_memory)
    stored.check_files()


def same_rows(
    source: Any, target: Any, begin: int = 0, rows: Sequence[range] | None = None
) -> bool:
    """Tells if the rows that `copy_rows` copied are the same, byte by byte."""
    with reading(dataset_location(source)):
        form = form_of(source.id.get_type(), is_read_only=True)
    return all(
        same_values(read_piece(source, piece, form), read_piece(target, moved, form))
        for piece, moved in moves(source, form.dtype, begin, rows)
    )


def same_chunks(source: Any, target: Any) -> bool:
    """Tells if two chunked datasets of a type are stored in the same chunks, byte by byte.

    Nothing is decoded: a chunk may be damaged, or its filter not installed.
    """
    plists = [dataset.id.get_create_plist() for dataset in (source, target)]
    filters = [[p.get_filter(i) for i in range(p.get_nfilters())] for p in plists]
    if filters[0] != filters[1] or source.chunks != target.chunks or _has_damaged_chunks(source):
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


# Attributes


def copy_attribute(source: Any, target: Any, name: bytes) -> None:
    """Copies an attribute from one object (a low-level id) to another; may raise a SkipError."""
    with skipping():
        attribute = h5py.h5a.open(source, name)
        stored_type, space = attribute.get_type(), attribute.get_space()
        check_type(stored_type)
        form = form_of(stored_type)
        values = _attribute_values(attribute, form)
    new = h5py.h5a.create(target, name, stored_type.copy(), space)
    if values is not None:
        new.write(values, mtype=form.in_memory)


def same_attribute(source: Any, target: Any, name: bytes) -> bool:
    """Tells if an attribute of two objects has the same type, shape and values."""
    old, new = h5py.h5a.open(source, name), h5py.h5a.open(target, name)
    if not old.get_type().equal(new.get_type()) or old.shape != new.shape:
        return False
    form = form_of(old.get_type(), is_read_only=True)
    return same_values(_attribute_values(old, form), _attribute_values(new, form))


def _attribute_values(attribute: Any, form: ValueForm) -> NDArray[Any] | None:
    if attribute.shape is None:
        return None
    values = np.zeros(attribute.shape, form.dtype)
    attribute.read(values, mtype=form.in_memory)
    return values
