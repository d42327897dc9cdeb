"""Copies what an HDF5 file holds, but for the samples that are to be stored in another layout."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from .columns import Column, VideoSet
from .errors import ArgumentError, FileFormatError, ReadError, RepackingError
from .layout import dtype_name
from .opening import SAMPLE_COUNT, dataset_names, find_dataset, open_file, read_sample_count
from .values import Values

# What is copied by rows is copied in blocks of about this many bytes.
BLOCK_BYTES = 4 << 20
# Holds the chunks that two such blocks share.
CACHE_BYTES = 64 << 20


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

    Attributes:
        places: By name, the new datasets for the columns of the set, without their values.
        skipped: What could not be copied.

    Args:
        video_set: The files; its columns are the datasets that are to be re-laid.
        source: The first file, open.
        target: The new file, open and empty.
        make: Makes a column's new dataset in a group, under a name.
    """

    def __init__(
        self,
        video_set: VideoSet,
        source: h5py.File,
        target: h5py.File,
        make: Callable[[h5py.Group, str, Column], h5py.Dataset],
    ) -> None:
        self.places: dict[str, h5py.Dataset] = {}
        self.skipped: list[SkippedItem] = []
        self._set = video_set
        self._source = source
        self._target = target
        self._make = make
        # Rows of the datasets of samples in each file, in use or not.
        self._lengths = [part.shape[0] for part in video_set.columns[0].parts]
        self._rows_differ = self._lengths != [video_set.num_samples]
        # The group whose samples are counted.
        _, self._group = read_sample_count(source, video_set.columns[0].name, self._lengths[0])
        self._columns: dict[h5py.Dataset, list[Column]] = {}
        for column in video_set.columns:
            self._columns.setdefault(find_dataset(source, column.name), []).append(column)
        # The copy of each object, for those that have several names.
        self._copies: dict[Any, Any] = {source["/"]: target["/"]}
        self._joined: set[str] = set()

    def copy(self) -> None:
        """Copies everything but the values of the set's columns.

        Raises:
            FileFormatError: The files do not fit together.
            ArgumentError: A column's dataset is in another file, in a group that is linked.
            ReadError: Something cannot be read.
            RepackingError: Something cannot be copied.
        """
        if self._source.userblock_size:
            self._skip(
                f"the userblock of {self._source.userblock_size} bytes",
                "stands before what HDF5 knows about",
            )
        self._copy_attributes(self._source, self._target)
        self._copy_members(self._source, self._target)
        for column in self._set.columns:
            if self._target.get(column.name) != self.places.get(column.name):
                raise ArgumentError(
                    f"{column.name!r} is in a group that a link leads to, of {column.parts[0].path}"
                    f": repack that file. Received: x={column.name!r}"
                )
        counted = self._target[self._group]
        if self._rows_differ or SAMPLE_COUNT not in counted.attrs:
            counted.attrs[SAMPLE_COUNT] = self._set.num_samples
        for path in self._set.paths[1:]:
            self._check_other_file(path)

    def _check_other_file(self, path: str) -> None:
        with open_file(path) as file:
            for name in dataset_names(file):
                if f"/{name}" not in self._joined:
                    self._skip(
                        f"dataset '/{name}' of {path}",
                        "does not hold a value for each sample; the first file's is used",
                    )

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(SkippedItem(name, reason))

    def _copy_members(self, source: h5py.Group, target: h5py.Group) -> None:
        for name in source:
            path = posixpath.join(target.name, name)
            try:
                link = source.get(name, getlink=True)
            except TypeError:
                self._skip(f"link {path!r}", "is of a kind that only its writer knows")
                continue
            if isinstance(link, h5py.SoftLink):
                target[name] = h5py.SoftLink(link.path)
            elif isinstance(link, h5py.ExternalLink) and not self._is_followed(source, name, path):
                target[name] = h5py.ExternalLink(self._moved(link.filename), link.path)
            else:
                try:
                    item = source[name]
                except (KeyError, OSError, RuntimeError) as error:
                    where = f"{source.file.filename}: {path!r}"
                    raise ReadError(f"{where} cannot be opened: {error}") from error
                self._copy_object(item, target, name, path)

    def _is_followed(self, group: h5py.Group, name: str, path: str) -> bool:
        """Whether the values that an external link leads to are needed in the new file."""
        try:
            item = group[name]
        except (KeyError, OSError):
            return False
        return isinstance(item, h5py.Dataset) and (
            item in self._columns or self._has_other_rows(item, path)
        )

    def _moved(self, filename: str) -> str:
        """The file name of an external link, as seen from the new file's folder."""
        found = os.path.join(os.path.dirname(self._source.filename), filename)
        if os.path.isabs(filename) or not os.path.exists(found):
            return filename
        folder = os.path.dirname(os.path.abspath(self._target.filename))
        return os.path.relpath(found, folder)

    def _has_other_rows(self, dataset: h5py.Dataset, path: str) -> bool:
        # What is in a group beside the one that is counted has samples of its own.
        group = posixpath.dirname(path)
        is_counted = posixpath.commonpath([group, self._group]) in (group, self._group)
        has_rows = bool(dataset.shape) and dataset.shape[0] == self._lengths[0]
        return self._rows_differ and is_counted and has_rows

    def _copy_object(self, item: Any, group: h5py.Group, name: str, path: str) -> None:
        if item in self._copies:
            group[name] = self._copies[item]
            return
        if isinstance(item, h5py.Group):
            new = self._copies[item] = group.create_group(name)
            self._copy_attributes(item, new)
            self._copy_members(item, new)
            return
        if isinstance(item, h5py.Dataset):
            if _holds_references(item):
                self._skip(f"dataset {path!r}", "holds references, which lead into their own file")
                return
            self._copy_dataset(item, group, name, path)
            self._copy_attributes(item, group[name])
        else:  # a named datatype
            group.copy(item, group, name)
        self._copies[item] = group[name]

    def _copy_dataset(self, item: h5py.Dataset, group: h5py.Group, name: str, path: str) -> None:
        if item in self._columns:
            columns = self._columns[item]
            new = self._make(group, name, columns[0])
            self.places.update({column.name: new for column in columns})
            self._joined.add(path)
        elif self._has_other_rows(item, path):
            self._join(item, group, name, path)
        elif item.is_virtual or item.external:
            _copy_rows(item, _make_like(item, item.shape, group, name), 0, len(item))
        else:
            try:
                group.copy(item, group, name, without_attrs=True)
            except (OSError, RuntimeError) as error:
                where = f"{item.file.filename}: dataset {item.name!r}"
                raise RepackingError(f"{where} cannot be copied: {error}") from error

    def _join(self, item: h5py.Dataset, group: h5py.Group, name: str, path: str) -> None:
        """Copies the rows of the samples in use, of all files."""
        new = _make_like(item, (self._set.num_samples, *item.shape[1:]), group, name)
        begin = 0
        for file_path, length, count in zip(
            self._set.paths, self._lengths, self._set.counts.tolist(), strict=True
        ):
            with open_file(file_path, rdcc_nbytes=CACHE_BYTES) as file:
                part = find_dataset(file, path)
                is_alike = part.id.get_type().equal(item.id.get_type())
                if part.shape != (length, *item.shape[1:]) or not is_alike:
                    raise FileFormatError(
                        f"The values of {path!r} should be alike in all files, and as many as the "
                        f"samples. Received: {dtype_name(item.dtype)} of shape {item.shape} in "
                        f"{self._set.paths[0]}, {dtype_name(part.dtype)} of shape {part.shape} in "
                        f"{file_path}, which has {length} samples"
                    )
                _copy_rows(part, new, begin, count)
            begin += count
        self._joined.add(path)

    def _copy_attributes(self, source: Any, target: Any) -> None:
        for name in source.attrs:
            try:
                problem = _copy_attribute(source, target, name)
            except (TypeError, ValueError, NotImplementedError) as error:  # a type unknown to h5py
                problem = f"cannot be copied by h5py: {error}"
            if problem:
                self._skip(f"attribute {name!r} of {target.name!r}", problem)


def _holds_references(item: Any) -> bool:
    return bool(item.id.get_type().detect_class(h5py.h5t.REFERENCE))


def _copy_attribute(source: Any, target: Any, name: str) -> str | None:
    """Copies an attribute with its type and values as they are stored, or says why not."""
    attribute = h5py.h5a.open(source.id, name.encode("utf-8", "surrogateescape"))
    stored_type, space = attribute.get_type(), attribute.get_space()
    if stored_type.detect_class(h5py.h5t.REFERENCE):
        return "holds references, which lead into their own file"
    values = None
    if space.get_simple_extent_type() != h5py.h5s.NULL:
        values = np.zeros(attribute.shape, attribute.dtype)
        in_memory = h5py.h5t.py_create(attribute.dtype)
        attribute.read(values, mtype=in_memory)
    new = h5py.h5a.create(target.id, attribute.name, stored_type.copy(), space)
    if values is not None:
        new.write(values, mtype=in_memory)
    return None


def _make_like(
    item: h5py.Dataset, shape: tuple[int, ...], group: h5py.Group, name: str
) -> h5py.Dataset:
    """Makes a dataset of the same type; with the same chunks and filters, if it has some."""
    if item.chunks is None:
        plist, space = None, h5py.h5s.create_simple(shape)
    else:
        plist = item.id.get_create_plist()
        # Without a fixed length, since chunks may not be longer.
        longest = (h5py.h5s.UNLIMITED, *(n or h5py.h5s.UNLIMITED for n in item.maxshape[1:]))
        space = h5py.h5s.create_simple(shape, longest)
    stored_type = item.id.get_type().copy()
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), stored_type, space, plist))


def _copy_rows(source: h5py.Dataset, target: h5py.Dataset, begin: int, count: int) -> None:
    """Copies the first `count` rows to those from `begin` on, with HDF5's own conversion."""
    stored = Values(source, count)
    dtype = source.dtype
    in_memory = h5py.h5t.py_create(dtype)
    sample = source.shape[1:]
    zeros = (0,) * len(sample)
    step = max(1, BLOCK_BYTES // max(1, dtype.itemsize * int(np.prod(sample))))
    for start in range(0, count, step):
        shape = (min(step, count - start), *sample)
        values = np.zeros(shape, dtype)
        block = h5py.h5s.create_simple(shape)
        place = source.id.get_space()
        place.select_hyperslab((start, *zeros), shape)
        with stored.reading((slice(start, start + shape[0]),)):
            source.id.read(block, place, values, in_memory)
        place = target.id.get_space()
        place.select_hyperslab((begin + start, *zeros), shape)
        target.id.write(block, place, values, in_memory)
    stored.check_files()
