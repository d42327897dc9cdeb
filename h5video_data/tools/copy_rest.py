"""Copies what an HDF5 file holds, but for the samples that are to be stored in another layout."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from h5video_data.errors import ArgumentError, FileFormatError, MissingFilterError, ReadError
from h5video_data.storage.attributes import SAMPLE_COUNT, read_sample_count
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.hdf5_names import dataset_names, find_dataset, name_bytes, name_text
from h5video_data.storage.layout import dtype_name
from h5video_data.video_set import Component, VideoSet

from .checking import CopiedItems, file_of, shown
from .inspection import size_text
from .links import find_linked_file
from .transfer import (
    REFERENCES,
    copy_attribute,
    copy_by_hdf5,
    copy_rows,
    holds_references,
    identity,
    is_sparse,
    make_like,
    nbytes_of,
    needs_values,
    reading,
    reason_of,
)

# Of a dataset whose values are mostly not stored, the values are written out if they take no more
# than the samples do, or than this.
SPARSE_BYTES = 1 << 30


@dataclass(frozen=True)
class SkippedItem:
    """Something in a file that is not in its copy.

    Attributes:
        name: What it is: `dataset '/refs'`.
        reason: Why it was left out, for people to read.
    """

    name: str
    reason: str


class Copier:
    """Copies the first file of a set, and joins what its other files hold for each sample.

    A dataset is *per sample* if it has as many rows as those that are to be re-laid. If samples are
    left out (those from `sample_count` on) or joined from several files, so are its rows. All else
    is the first file's; so is what lies beside a group that has a `sample_count` of its own.

    HDF5 itself copies a dataset (H5Ocopy) where it can. Where rows are left out or joined, or where
    HDF5's copy would be wrong, values are read and written. Names are bytes here: HDF5 takes any.

    Attributes:
        places: By name, the new datasets for the columns of the set, without their values.
        skipped: What could not be copied.
        copied: What was, but for the values of the columns.

    Args:
        video_set: The files; its columns are the datasets that are to be re-laid.
        source: The first file, open until what was copied has been checked.
        target: The new file, open and empty.
        folder: The folder of the new file.
        make: Makes a column's new dataset in the new file, under no name.
    """

    def __init__(
        self,
        video_set: VideoSet,
        source: h5py.File,
        target: h5py.File,
        folder: str,
        make: Callable[[h5py.File, Component], h5py.Dataset],
    ) -> None:
        self.places: dict[str, h5py.Dataset] = {}
        self.skipped: list[SkippedItem] = []
        self._most_nbytes = max(SPARSE_BYTES, video_set.num_samples * video_set.sample_nbytes)
        self.copied = CopiedItems(source, self._most_nbytes)
        self._set = video_set
        self._source = source
        self._target = target
        self._folder = folder
        self._make = make
        # Rows of the datasets of samples in each file, in use or not.
        self._lengths = [part.shape[0] for part in video_set.components[0].parts]
        self._rows_differ = self._lengths != [video_set.num_samples]
        # The group whose samples are counted.
        _, group = read_sample_count(source, video_set.components[0].name, self._lengths[0])
        self._group = name_bytes(name_text(group))
        self._columns: dict[h5py.Dataset, list[Component]] = {}
        for column in video_set.components:
            self._columns.setdefault(find_dataset(source, column.name), []).append(column)
        # HDF5's copy of what has addresses of another size cannot be opened.
        sizes = {file.id.get_create_plist().get_sizes() for file in (source, target)}
        self._is_copied_by_hdf5 = len(sizes) == 1
        # The name of each object's copy, for those that have several names.
        self._copies: dict[Any, bytes] = {}
        # The datasets that hold a value for each sample, and those of the samples.
        self._joined: set[bytes] = set()

    def copy(self) -> None:
        """Copies everything but the values of the set's columns.

        Raises:
            FileFormatError: The files do not fit together.
            ArgumentError: A column's dataset is in another file, in a group that is linked.
            ReadError: Rows that are left out or joined cannot be read.
            VideoFileNotFoundError: A source of a virtual dataset is not there.
        """
        if self._source.userblock_size:
            self._skip(
                f"the userblock of {self._source.userblock_size} bytes",
                "stands before what HDF5 knows about",
            )
        root = self._source["/"].id
        self._copies[identity(root)] = b"/"
        self._copy_attributes(root, self._target["/"].id, b"/")
        groups = [(root, self._target["/"].id, b"/")]
        while groups:  # no recursion: they may be nested more deeply than Python goes
            groups += self._copy_members(*groups.pop())
        for column in self._set.components:
            place = self.places.get(column.name)
            if place is None or _lookup(self._target, column.name) != place:
                raise ArgumentError(
                    f"{column.name!r} is in a group that a link leads to, of {column.parts[0].path}"
                    f": repack that file. Received: x={column.name!r}"
                )
        counted = self._target[self._group]
        if self._rows_differ or SAMPLE_COUNT not in counted.attrs:
            counted.attrs[SAMPLE_COUNT] = self._set.num_samples
            where = self._copies[identity(self._source[self._group].id)]
            names = self.copied.attributes[where]
            names[:] = [name for name in names if name != SAMPLE_COUNT.encode()]
        for path in self._set.paths[1:]:
            self._check_other_file(path)

    def _check_other_file(self, path: str) -> None:
        with open_file(path) as file:
            for name in dataset_names(file):
                where = b"/" + name_bytes(name_text(name))
                if where not in self._joined:
                    self._skip(
                        f"dataset {shown(where)} of {path}",
                        "does not hold a value for each sample; the first file's is used",
                    )

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(SkippedItem(name, reason))

    def _copy_members(self, source: Any, target: Any, path: bytes) -> list[tuple[Any, Any, bytes]]:
        """Copies what is in a group; gives the groups in it, whose members are to be copied."""
        names: list[bytes] = []
        groups = []
        try:
            order = _order(source.get_create_plist().get_link_creation_order())
            if path == b"/" and order == h5py.h5.INDEX_CRT_ORDER:
                self._skip("the order in which '/' was filled", "is that of names in the new file")
            source.links.iterate(names.append, idx_type=order)
        except HDF5_ERRORS as error:
            self._skip(f"something in {shown(path)}", f"cannot be listed: {reason_of(error)}")
        for name in names:
            where = posixpath.join(path, name)
            try:
                item = self._copy_link(source, target, name, where)
                key = None if item is None else identity(item)
            except HDF5_ERRORS as error:
                self._skip(f"link {shown(where)}", f"cannot be opened: {reason_of(error)}")
                continue
            if key in self._copies:
                root = self._target["/"].id
                target.links.create_hard(name, root, self._copies[key], _link_list(name))
                continue
            new = None if item is None else self._copy_object(item, target, name, where)
            if new is not None:
                self._copies[key] = where
                self._copy_attributes(item, new, where)
                if isinstance(item, h5py.h5g.GroupID):
                    groups.append((item, new, where))
        return groups

    def _copy_link(self, source: Any, target: Any, name: bytes, path: bytes) -> Any:
        """Copies a link that stays a link; gives the object that another one leads to."""
        kind = source.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            return h5py.h5o.open(source, name)
        if kind == h5py.h5l.TYPE_SOFT:
            target.links.create_soft(name, source.links.get_val(name), _link_list(name))
        elif kind == h5py.h5l.TYPE_EXTERNAL:
            with contextlib.suppress(*HDF5_ERRORS):  # it leads nowhere
                item = h5py.h5o.open(source, name)
                if isinstance(item, h5py.h5d.DatasetID) and self._is_needed(item, path):
                    return item
            filename, where = source.links.get_val(name)
            target.links.create_external(name, self._moved(filename), where, _link_list(name))
        else:
            self._skip(f"link {shown(path)}", "is of a kind that only its writer knows")
        return None

    def _is_needed(self, item: Any, path: bytes) -> bool:
        """Whether the values that an external link leads to are needed in the new file."""
        dataset = h5py.Dataset(item)
        return dataset in self._columns or self._has_other_rows(dataset, path)

    def _moved(self, filename: bytes) -> bytes:
        """The file name of an external link, as seen from the new file's folder."""
        found = find_linked_file(self._source.filename, os.fsdecode(filename))
        if os.path.isabs(filename) or found is None:
            return filename
        return os.fsencode(os.path.relpath(found, self._folder))

    def _has_other_rows(self, dataset: h5py.Dataset, path: bytes) -> bool:
        # What is in a group beside the one that is counted has samples of its own.
        group = posixpath.dirname(path)
        is_counted = posixpath.commonpath([group, self._group]) in (group, self._group)
        has_rows = bool(dataset.shape) and dataset.shape[0] == self._lengths[0]
        return self._rows_differ and is_counted and has_rows

    def _copy_object(self, item: Any, target: Any, name: bytes, path: bytes) -> Any:
        """Copies an object without its attributes and members, or skips it and gives None."""
        try:
            if isinstance(item, h5py.h5d.DatasetID):
                return self._copy_dataset(h5py.Dataset(item), target, name, path)
            with _skipping():
                if isinstance(item, h5py.h5g.GroupID):
                    return h5py.h5g.create(target, name, _link_list(name), _group_list(item))
                named_type = item.copy()
                named_type.commit(target, name, _link_list(name))
                return named_type
        except _SkipError as error:
            kind = "dataset" if isinstance(item, h5py.h5d.DatasetID) else "object"
            self._skip(f"{kind} {shown(path)}", str(error))
            return None

    def _copy_dataset(self, dataset: h5py.Dataset, target: Any, name: bytes, path: bytes) -> Any:
        link = _link_list(name)
        with _skipping():
            is_column = dataset in self._columns
            is_joined = not is_column and self._has_other_rows(dataset, path)
            by_hdf5 = self._is_copied_by_hdf5 and not is_joined and not needs_values(dataset)
            if holds_references(dataset.id.get_type()):
                raise _SkipError(REFERENCES)
        if is_column:
            columns = self._columns[dataset]
            new = self._make(self._target, columns[0])
            self.places.update({column.name: new for column in columns})
            self._joined.add(path)
        elif by_hdf5 and copy_by_hdf5(dataset, target, name, link):
            self.copied.rows[path] = None
            return h5py.h5o.open(target, name)
        else:
            with _skipping():
                if is_sparse(dataset, self._most_nbytes):
                    raise _SkipError(
                        f"has {size_text(nbytes_of(dataset))} of values, most of which are not "
                        f"stored; to have them, repack it by itself: x={dataset.name!r}"
                    )
            new = self._join(dataset, path) if is_joined else self._copy_values(dataset, path)
        h5py.h5o.link(new.id, target, name, link)
        return new.id

    def _copy_values(self, dataset: h5py.Dataset, path: bytes) -> h5py.Dataset:
        with _skipping():
            new = make_like(dataset, self._target)
        try:
            copy_rows(dataset, new)
        except (MissingFilterError, ReadError) as error:
            raise _SkipError(f"cannot be read: {reason_of(error.__cause__ or error)}") from error
        self.copied.rows[path] = None
        return new

    def _join(self, dataset: h5py.Dataset, path: bytes) -> h5py.Dataset:
        """Copies the rows of the samples in use, of all files."""
        new = make_like(dataset, self._target, self._set.num_samples)
        begin = 0
        parts = self.copied.rows[path] = []
        for file_path, length, count in zip(
            self._set.paths, self._lengths, self._set.counts.tolist(), strict=True
        ):
            with file_of(file_path, self._source) as file:
                part = find_dataset(file, path.decode("utf-8", "surrogateescape"))
                with reading(f"{file_path}: dataset {shown(path)}"):
                    is_alike = part.id.get_type().equal(dataset.id.get_type())
                if part.shape != (length, *dataset.shape[1:]) or not is_alike:
                    raise FileFormatError(
                        f"The values of {shown(path)} should be alike in all files, and as many as "
                        f"the samples. Received: {_type_name(dataset)} of shape {dataset.shape} in "
                        f"{self._set.paths[0]}, {_type_name(part)} of shape {part.shape} in "
                        f"{file_path}, which has {length} samples"
                    )
                copy_rows(part, new, begin, count)
            parts.append((file_path, count))
            begin += count
        self._joined.add(path)
        return new

    def _copy_attributes(self, source: Any, target: Any, path: bytes) -> None:
        names: list[bytes] = []
        copied = self.copied.attributes[path] = []
        try:
            order = _order(source.get_create_plist().get_attr_creation_order())
            h5py.h5a.iterate(source, names.append, index_type=order)
        except HDF5_ERRORS as error:
            what = f"some or all attributes of {shown(path)}"
            self._skip(what, f"cannot be listed: {reason_of(error)}")
        for name in names:
            problem = copy_attribute(source, target, name)
            if problem is None:
                copied.append(name)
            else:
                self._skip(f"attribute {shown(name)} of {shown(path)}", problem)


class _SkipError(Exception):
    """Something cannot be copied; the message says why."""


@contextlib.contextmanager
def _skipping() -> Iterator[None]:
    try:
        yield
    except HDF5_ERRORS as error:
        raise _SkipError(f"cannot be read: {reason_of(error)}") from error


def _type_name(dataset: h5py.Dataset) -> str:
    try:
        return dtype_name(dataset.dtype)
    except HDF5_ERRORS:
        return "a type that h5py does not know"


def _lookup(file: h5py.File, name: str) -> Any:
    try:
        return file[name]
    except HDF5_ERRORS:
        return None


def _order(creation_order: int) -> int:
    """In which order to list links or attributes: that in which they were made, if it is known."""
    is_tracked = creation_order & h5py.h5p.CRT_ORDER_TRACKED
    return int(h5py.h5.INDEX_CRT_ORDER if is_tracked else h5py.h5.INDEX_NAME)


def _link_list(name: bytes) -> Any:
    """The properties of a new link: its name is UTF-8, if it can be."""
    plist = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    with contextlib.suppress(UnicodeDecodeError):
        name.decode("utf-8")
        plist.set_char_encoding(h5py.h5t.CSET_UTF8)
    return plist


def _group_list(group: Any) -> Any:
    """The properties of a new group: the orders that are tracked in another one."""
    # Not the other one's own list, which says where in its file the links are.
    old, new = group.get_create_plist(), h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    new.set_link_creation_order(old.get_link_creation_order())
    new.set_attr_creation_order(old.get_attr_creation_order())
    return new
