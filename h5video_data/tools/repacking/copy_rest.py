"""Copies what an HDF5 file holds beside the samples that are stored in another layout."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import (
    ArgumentError,
    ExternalFileError,
    FileFormatError,
    MissingFilterError,
    ReadError,
    RepackingError,
)
from h5video_data.storage.attributes import SAMPLE_COUNT
from h5video_data.storage.chunk_table import has_variable_length
from h5video_data.storage.external import check_links
from h5video_data.storage.file_identity import ObjectPath
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file, path_of
from h5video_data.storage.hdf5_names import dataset_names, find_dataset, name_bytes
from h5video_data.tools.inspection import size_text
from h5video_data.video_set import Component, VideoSet

from . import transfer
from .links import moved_link
from .sample_rows import SampleRows, shown
from .stored_bytes import reason_of
from .transfer import SkippedItem

# A dataset most of whose values are not stored is written out if they take no more bytes than the
# samples do, or than this.
SPARSE_BYTES = 1 << 30


class Copier:
    """Copies the first file of a set, and joins what its other files hold for each sample.

    A dataset is *per sample* if it has as many rows as those that get a new layout. If samples are
    left out (those from `sample_count` on) or joined from several files, so are its rows. All else
    is the first file's; so is what lies beside a group that has a `sample_count` of its own.

    HDF5 itself copies a dataset (H5Ocopy) where it can: chunks stay as they are stored, even
    damaged ones. Where rows are left out or joined, or where its copy would be wrong, values are
    read and written. It copies no groups, whose members may be damaged, linked under other names,
    or not to be copied as they are; and no attributes, which datasets of other rows need, too.

    Names are bytes here: HDF5 allows any.

    Attributes:
        new_datasets: By name, the new datasets for the components of the set, without their values.
        skipped: What could not be copied.

    Args:
        video_set: The files; its components are the datasets that get a new layout.
        source: The first file, open until what was copied has been checked.
        target: The new file, open and empty.
        layouts: By name, the arguments of `create_dataset` for the components: those of chunks, and
            `shape` (of a sample) and `dtype` if these are others than before; or `made`, the
            dataset itself, without a name.
        left_out: Datasets that are not copied, and why, by name.
        samples: Numbers of the samples that are copied, int64, ascending.
    """

    def __init__(
        self,
        video_set: VideoSet,
        source: h5py.File,
        target: h5py.File,
        layouts: dict[str, Any],
        left_out: Mapping[str, str],
        samples: NDArray[np.int64],
    ) -> None:
        self.new_datasets: dict[str, h5py.Dataset] = {}
        self.skipped: list[SkippedItem] = []
        self._set = video_set
        self._source = source
        self._is_remote = isinstance(path_of(source), ObjectPath)
        self._target = target
        self._layouts = layouts
        self._left_out = {name_bytes(n).strip(b"/"): why for n, why in left_out.items()}
        self._most_nbytes = max(SPARSE_BYTES, video_set.num_samples * video_set.sample_nbytes)
        self._rows = SampleRows(video_set, source, target, samples)
        self._components: dict[h5py.Dataset, list[Component]] = {}
        for component in video_set.components:
            dataset = find_dataset(source, component.name)
            self._components.setdefault(dataset, []).append(component)
        # HDF5's copy of a dataset with addresses of another size cannot be opened.
        sizes = {file.id.get_create_plist().get_sizes() for file in (source, target)}
        self._is_copied_by_hdf5 = len(sizes) == 1
        # The name of each object's copy, for objects that have several names.
        self._copies: dict[Any, bytes] = {}
        # What `check` compares: the copied attributes of each object, and the copied datasets.
        self._attributes: dict[bytes, list[bytes]] = {}
        self._datasets: list[bytes] = []
        self._joined: set[bytes] = set()  # those with a value for each sample, and `x`

    def copy(self) -> None:
        """Copies everything but the values of the set's components.

        Raises:
            FileFormatError: The files do not match.
            ArgumentError: A component's dataset is in a group of another file.
            ReadError: Rows that are left out or joined cannot be read.
            VideoFileNotFoundError: A source of a virtual dataset does not exist.
        """
        if self._source.userblock_size:
            name = f"the userblock of {self._source.userblock_size} bytes"
            self._skip(name, "stands before the part of the file that HDF5 reads")
        root = self._source["/"].id
        self._copies[transfer.identity(root)] = b"/"
        self._copy_attributes(root, self._target["/"].id, b"/")
        groups = [(root, self._target["/"].id, b"/")]
        while groups:  # no recursion: they may be nested more deeply than Python allows
            groups += self._copy_members(*groups.pop())
        for component in self._set.components:
            with contextlib.suppress(*HDF5_ERRORS):
                if self._target[component.name] == self.new_datasets.get(component.name):
                    continue
            raise ArgumentError(
                f"{component.name!r} is in a group of another file, {component.parts[0].path}: "
                f"repack that file. Received: x={component.name!r}"
            )
        counted = self._target[self._rows.group]
        if self._rows.has_count and (self._rows.differ or SAMPLE_COUNT not in counted.attrs):
            counted.attrs[SAMPLE_COUNT] = self._rows.num_samples
            old = self._copies[transfer.identity(self._source[self._rows.group].id)]
            names = self._attributes[old]
            names[:] = [name for name in names if name != SAMPLE_COUNT.encode()]
        reason = "does not hold a value for each sample; the first file's is used"
        for path in self._set.paths[1:]:
            with open_file(path) as file:
                for where in (b"/" + name_bytes(name) for name in dataset_names(file)):
                    if where not in self._joined:
                        self._skip(f"dataset {shown(where)} of {path}", reason)

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(SkippedItem(name, reason))

    @contextlib.contextmanager
    def _skipping(self, name: str) -> Iterator[None]:
        """Adds something to `skipped` if a SkipError is raised."""
        try:
            yield
        except transfer.SkipError as error:
            self._skip(name, str(error))

    def _copy_members(self, source: Any, target: Any, path: bytes) -> list[tuple[Any, Any, bytes]]:
        """Copies what is in a group; returns the groups in it, whose members are not copied yet."""
        names: list[bytes] = []
        groups = []
        with self._skipping(f"something in {shown(path)}"), transfer.skipping("cannot be listed"):
            order = transfer.order(source.get_create_plist().get_link_creation_order())
            if path == b"/" and order == h5py.h5.INDEX_CRT_ORDER:
                self._skip("the order in which '/' was filled", "is that of names in the new file")
            source.links.iterate(names.append, idx_type=order)
        for name in names:
            where, link = posixpath.join(path, name), transfer.link_properties(name)
            key = new = None
            with self._skipping(f"link {shown(where)}"), transfer.skipping("cannot be opened"):
                item = self._copy_link(source, target, name, where, link)
                key = None if item is None else transfer.identity(item)
            if key is None:
                continue
            if key in self._copies:
                target.links.create_hard(name, self._target["/"].id, self._copies[key], link)
                continue
            is_dataset = isinstance(item, h5py.h5d.DatasetID)
            with self._skipping(f"{'dataset' if is_dataset else 'object'} {shown(where)}"):
                if reason := self._left_out.get(where.strip(b"/")):
                    raise transfer.SkipError(reason)
                if is_dataset:
                    new = self._copy_dataset(item, target, name, where, link)
                else:
                    with transfer.skipping():
                        new = transfer.copy_object(item, target, name, link)
            if new is None:
                continue
            self._copies[key] = where
            self._copy_attributes(item, new, where)
            if isinstance(item, h5py.h5g.GroupID):
                groups.append((item, new, where))
        return groups

    def _copy_link(self, source: Any, target: Any, name: bytes, path: bytes, link: Any) -> Any:
        """Copies a link that stays a link, or returns the object that is to be copied."""
        kind = source.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            return h5py.h5o.open(source, name)
        if kind == h5py.h5l.TYPE_SOFT:
            target.links.create_soft(name, source.links.get_val(name), link)
        elif kind == h5py.h5l.TYPE_EXTERNAL:
            if self._is_remote:  # HDF5 would take this very file for the other one
                other = os.fsdecode(source.links.get_val(name)[0])
                raise transfer.SkipError(f"is a link to another file, {other!r}, of the store")
            if self._rows.differ:  # its rows may be among those that are left out or joined
                check_links(h5py.Group(source), name)
            # What it leads to may not exist, or be none of this file's business.
            with contextlib.suppress(ExternalFileError, *HDF5_ERRORS):
                check_links(h5py.Group(source), name)
                item = h5py.h5o.open(source, name)
                if isinstance(item, h5py.h5d.DatasetID):
                    dataset = h5py.Dataset(item)
                    if dataset in self._components or self._rows.change(dataset, path):
                        return item
            filename, where = source.links.get_val(name)
            folder = os.path.dirname(os.path.abspath(self._target.filename))
            filename = moved_link(self._source.filename, filename, folder)
            target.links.create_external(name, filename, where, link)
        else:
            raise transfer.SkipError("is of a kind that only its writer knows")
        return None

    def _copy_dataset(self, item: Any, target: Any, name: bytes, path: bytes, link: Any) -> Any:
        """Copies a dataset without its attributes; a component's, without its values."""
        dataset = h5py.Dataset(item)
        with transfer.skipping():
            components = self._components.get(dataset, [])
            is_joined = not components and self._rows.change(dataset, path)
        if not (components or is_joined):
            self._rows.check_not_of(dataset, path)
        with transfer.skipping():
            transfer.check_copyable(dataset)
            is_copyable = self._is_copied_by_hdf5 and not (components or is_joined)
            if is_copyable and transfer.copy_by_hdf5(dataset, target, name, link):
                self._datasets.append(path)
                return h5py.h5o.open(target, name)
            if not components and transfer.is_sparse(dataset, self._most_nbytes):
                size = size_text(transfer.nbytes_of(dataset))
                raise transfer.SkipError(
                    f"has {size} of values, most of which are not stored; to have them, repack it "
                    f"by itself: x={dataset.name!r}"
                )
        if components:
            layout = dict(self._layouts.get(components[0].name, {}))
            sample_shape = layout.pop("shape", components[0].sample_shape)
            dtype = layout.pop("dtype", components[0].dtype)
            shape = (self._rows.num_samples, *sample_shape)
            new = layout.pop("made", None)
            if new is None:
                new = self._target.create_dataset(None, shape, dtype, **layout)
            self.new_datasets.update({component.name: new for component in components})
        else:
            join = self._rows.join if is_joined else self._copy_values
            new = join(dataset, path)
            self._datasets.append(path)
        if components or is_joined:
            self._joined.add(path)
        h5py.h5o.link(new.id, target, name, link)
        return new.id

    def _copy_values(self, dataset: h5py.Dataset, _: bytes) -> h5py.Dataset:
        """Copies a dataset by reading and writing its values."""
        with transfer.skipping():
            new = transfer.make_like(dataset, self._target)
        try:
            transfer.copy_rows(dataset, new)
        except FileFormatError as error:
            if not self._is_remote:
                raise
            raise transfer.SkipError(f"cannot be read: {error}") from error
        except (MissingFilterError, ReadError) as error:
            reason = reason_of(error.__cause__ or error)
            raise transfer.SkipError(f"cannot be read: {reason}") from error
        return new

    def _copy_attributes(self, source: Any, target: Any, path: bytes) -> None:
        names: list[bytes] = []
        copied = self._attributes[path] = []
        what = f"some or all attributes of {shown(path)}"
        with self._skipping(what), transfer.skipping("cannot be listed"):
            order = transfer.order(source.get_create_plist().get_attr_creation_order())
            h5py.h5a.iterate(source, names.append, index_type=order)
        for name in names:
            with self._skipping(f"attribute {shown(name)} of {shown(path)}"):
                transfer.copy_attribute(source, target, name)
                copied.append(name)

    def check(self, path: Path) -> None:
        """Compares all that was copied with what HDF5 reads in the complete file.

        Raises:
            RepackingError: Something is different, or cannot be read.
        """
        try:
            with open_file(os.fspath(path), rdcc_nbytes=transfer.CACHE_BYTES) as new:
                different = next(self._differences(new), None)
        except HDF5_ERRORS as error:
            raise RepackingError(
                f"What was copied from {self._source.filename} cannot be compared with the new "
                f"file, which was removed: {error}"
            ) from error
        if different is not None:
            raise RepackingError(
                f"{self._source.filename}: {different}: HDF5 reads something else in the new "
                "file, which was removed."
            )

    def _differences(self, new: h5py.File) -> Iterator[str]:
        for path, names in self._attributes.items():
            if names:  # a path of many groups takes long to follow
                items = h5py.h5o.open(self._source.id, path), h5py.h5o.open(new.id, path)
                for name in names:
                    if not transfer.same_attribute(*items, name):
                        yield f"attribute {shown(name)} of {shown(path)}"
        for path in self._datasets:
            if not self._is_same(path, self._source[path], new[path]):
                yield f"dataset {shown(path)}"

    def _is_same(self, path: bytes, old: h5py.Dataset, new: h5py.Dataset) -> bool:
        new.id.get_create_plist()  # raises an error if it is damaged
        if not old.id.get_type().equal(new.id.get_type()):
            return False
        if path in self._joined:
            return self._rows.are_joined(path, new)
        if old.shape != new.shape:
            return False
        if old.chunks is not None and not has_variable_length(old.id.get_type()):
            # They may differ if values were encoded again. HDF5 1.14 lists wrong offsets for the
            # chunks of some datasets, and then finds none there.
            with contextlib.suppress(*HDF5_ERRORS):
                if transfer.same_chunks(old, new):
                    return True
        if transfer.is_sparse(old, self._most_nbytes):
            return old.chunks is None  # nothing of it is stored
        return transfer.same_rows(old, new)
