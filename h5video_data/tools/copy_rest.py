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
    DatasetNotFoundError,
    ExternalFileError,
    FileFormatError,
    MissingFilterError,
    ReadError,
    RepackingError,
)
from h5video_data.storage.attributes import SAMPLE_COUNT, read_sample_count
from h5video_data.storage.external import check_links
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.hdf5_names import dataset_names, find_dataset, name_bytes, name_text
from h5video_data.video_set import Component, VideoSet

from . import transfer
from .inspection import size_text
from .links import moved_link
from .stored_samples import rows_of_files
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
        self._target = target
        self._layouts = layouts
        self._left_out = {name_bytes(n).strip(b"/"): why for n, why in left_out.items()}
        self._most_nbytes = max(SPARSE_BYTES, video_set.num_samples * video_set.sample_nbytes)
        # Rows of the datasets of samples in each file, in use or not.
        self._lengths = [part.shape[0] for part in video_set.components[0].parts]
        self._num_samples = len(samples)
        # Path, rows, first row in the new file, and rows that are copied, of each file.
        starts, runs = rows_of_files(video_set, samples)
        self._rows = list(zip(video_set.paths, self._lengths, starts, runs, strict=False))
        self._rows_differ = self._lengths != [self._num_samples]
        # Whether some are left out before the last one: then, rows are no longer those of samples.
        self._is_gapped = self._num_samples > 0 and samples[-1] >= self._num_samples
        found = read_sample_count(source, video_set.components[0].name, self._lengths[0])
        self._group = name_bytes(name_text(found.group))
        # Without the attribute, all rows count, and one of the root would count other groups' too.
        self._has_count = found.is_given or found.group != "/"
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
        counted = self._target[self._group]
        if self._has_count and (self._rows_differ or SAMPLE_COUNT not in counted.attrs):
            counted.attrs[SAMPLE_COUNT] = self._num_samples
            names = self._attributes[self._copies[transfer.identity(self._source[self._group].id)]]
            names[:] = [name for name in names if name != SAMPLE_COUNT.encode()]
        reason = "does not hold a value for each sample; the first file's is used"
        for path in self._set.paths[1:]:
            with open_file(path) as file:
                for where in (b"/" + name_bytes(name) for name in dataset_names(file)):
                    if where not in self._joined:
                        self._skip(f"dataset {_shown(where)} of {path}", reason)

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
        with self._skipping(f"something in {_shown(path)}"), transfer.skipping("cannot be listed"):
            order = transfer.order(source.get_create_plist().get_link_creation_order())
            if path == b"/" and order == h5py.h5.INDEX_CRT_ORDER:
                self._skip("the order in which '/' was filled", "is that of names in the new file")
            source.links.iterate(names.append, idx_type=order)
        for name in names:
            where, link = posixpath.join(path, name), transfer.link_properties(name)
            key = new = None
            with self._skipping(f"link {_shown(where)}"), transfer.skipping("cannot be opened"):
                item = self._copy_link(source, target, name, where, link)
                key = None if item is None else transfer.identity(item)
            if key is None:
                continue
            if key in self._copies:
                target.links.create_hard(name, self._target["/"].id, self._copies[key], link)
                continue
            is_dataset = isinstance(item, h5py.h5d.DatasetID)
            with self._skipping(f"{'dataset' if is_dataset else 'object'} {_shown(where)}"):
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
            if self._rows_differ:  # its rows may be among those that are left out or joined
                check_links(h5py.Group(source), name)
            # What it leads to may not exist, or be none of this file's business.
            with contextlib.suppress(ExternalFileError, *HDF5_ERRORS):
                check_links(h5py.Group(source), name)
                item = h5py.h5o.open(source, name)
                if isinstance(item, h5py.h5d.DatasetID):
                    dataset = h5py.Dataset(item)
                    if dataset in self._components or self._has_other_rows(dataset, path):
                        return item
            filename, where = source.links.get_val(name)
            folder = os.path.dirname(os.path.abspath(self._target.filename))
            filename = moved_link(self._source.filename, filename, folder)
            target.links.create_external(name, filename, where, link)
        else:
            raise transfer.SkipError("is of a kind that only its writer knows")
        return None

    def _has_other_rows(self, dataset: h5py.Dataset, path: bytes) -> bool:
        """Tells if rows of a dataset are left out or joined."""
        has_rows = bool(dataset.shape) and dataset.shape[0] == self._lengths[0]
        return self._rows_differ and self._is_counted(path) and has_rows

    def _is_counted(self, path: bytes) -> bool:
        """Tells if a dataset is not in a group beside the one that is counted, with its samples."""
        group = posixpath.dirname(path)
        return posixpath.commonpath([group, self._group]) in (group, self._group)

    def _copy_dataset(self, item: Any, target: Any, name: bytes, path: bytes, link: Any) -> Any:
        """Copies a dataset without its attributes; a component's, without its values."""
        dataset = h5py.Dataset(item)
        with transfer.skipping():
            components = self._components.get(dataset, [])
            is_joined = not components and self._has_other_rows(dataset, path)
        if not (components or is_joined):
            self._check_no_values_of_samples(dataset, path)
        with transfer.skipping():
            transfer.check_copyable(item.get_type())
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
            shape = (self._num_samples, *sample_shape)
            new = layout.pop("made", None)
            if new is None:
                new = self._target.create_dataset(None, shape, dtype, **layout)
            self.new_datasets.update({component.name: new for component in components})
        else:
            new = self._join(dataset, path) if is_joined else self._copy_values(dataset)
            self._datasets.append(path)
        if components or is_joined:
            self._joined.add(path)
        h5py.h5o.link(new.id, target, name, link)
        return new.id

    def _check_no_values_of_samples(self, dataset: h5py.Dataset, path: bytes) -> None:
        """Raises a FileFormatError if a dataset seems to have a value for each sample after all.

        Of several files, the values of the first one would be taken for those of all samples.
        """
        group = posixpath.dirname(path)
        count = int(self._set.counts[0])
        if self._is_gapped and self._is_counted(path) and dataset.shape:
            num_rows = dataset.shape[0]
            if num_rows == count or (num_rows > count and path.endswith(b"/Y")):
                raise FileFormatError(
                    f"{self._set.paths[0]}: {_shown(path)} must have as many rows as "
                    f"{self._set.components[0].name!r} has, {self._lengths[0]}, or none for each "
                    f"sample, to choose from. Received: {num_rows} rows"
                )
        beside_x = posixpath.dirname(name_bytes(self._set.components[0].name).strip(b"/"))
        if len(self._rows) == 1 or not dataset.shape or group.strip(b"/") != beside_x:
            return
        for file_path, length, _, _ in self._rows[1:]:
            with self._opened(file_path) as file:
                found: tuple[int, ...] = ()
                with contextlib.suppress(DatasetNotFoundError):
                    found = find_dataset(file, name_text(path)).shape or ()
            is_longer = dataset.shape[0] > self._lengths[0]
            if found and (found[0] == length or (is_longer and path.endswith(b"/Y"))):
                raise FileFormatError(
                    f"{_shown(path)} must have as many rows as there are samples, in all files or "
                    "in none. If the first rows are those of the samples, set the attribute "
                    "`sample_count`; if they are not, rename it. Received: "
                    f"{dataset.shape[0]} rows and {self._lengths[0]} samples in "
                    f"{self._set.paths[0]}, {found[0]} and {length} in {file_path}"
                )

    def _copy_values(self, dataset: h5py.Dataset) -> h5py.Dataset:
        """Copies a dataset by reading and writing its values."""
        with transfer.skipping():
            new = transfer.make_like(dataset, self._target)
        try:
            transfer.copy_rows(dataset, new)
        except (MissingFilterError, ReadError) as error:
            reason = transfer.reason_of(error.__cause__ or error)
            raise transfer.SkipError(f"cannot be read: {reason}") from error
        return new

    def _join(self, dataset: h5py.Dataset, path: bytes) -> h5py.Dataset:
        """Copies the rows of the samples in use, of all files."""
        new = transfer.make_like(dataset, self._target, self._num_samples)
        for file_path, length, begin, rows in self._rows:
            with self._opened(file_path) as file:
                part = find_dataset(file, name_text(path))
                with transfer.reading(f"{file_path}: dataset {_shown(path)}"):
                    is_alike = part.id.get_type().equal(dataset.id.get_type())
                if part.shape != (length, *dataset.shape[1:]) or not is_alike:
                    raise FileFormatError(
                        f"{_shown(path)} must have the same type and shape in all files, and as "
                        "many rows as there are samples. Received: "
                        f"{transfer.type_name(dataset)} of shape {dataset.shape} in "
                        f"{self._set.paths[0]}, {transfer.type_name(part)} of shape {part.shape} "
                        f"in {file_path}, which has {length} samples"
                    )
                transfer.copy_rows(part, new, begin, rows)
        return new

    def _opened(self, path: str) -> contextlib.AbstractContextManager[h5py.File]:
        # If a dataset whose fill value has a variable length is opened through one file twice,
        # closing one of the two leaves the other with a dangling pointer (HDF5 1.14.6).
        if os.path.samefile(path, self._source.filename):
            return contextlib.nullcontext(self._source)
        return open_file(path, rdcc_nbytes=transfer.CACHE_BYTES)

    def _copy_attributes(self, source: Any, target: Any, path: bytes) -> None:
        names: list[bytes] = []
        copied = self._attributes[path] = []
        what = f"some or all attributes of {_shown(path)}"
        with self._skipping(what), transfer.skipping("cannot be listed"):
            order = transfer.order(source.get_create_plist().get_attr_creation_order())
            h5py.h5a.iterate(source, names.append, index_type=order)
        for name in names:
            with self._skipping(f"attribute {_shown(name)} of {_shown(path)}"):
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
                        yield f"attribute {_shown(name)} of {_shown(path)}"
        for path in self._datasets:
            if not self._is_same(path, self._source[path], new[path]):
                yield f"dataset {_shown(path)}"

    def _is_same(self, path: bytes, old: h5py.Dataset, new: h5py.Dataset) -> bool:
        new.id.get_create_plist()  # raises an error if it is damaged
        if not old.id.get_type().equal(new.id.get_type()):
            return False
        if path in self._joined:
            for file_path, _, begin, rows in self._rows:
                with self._opened(file_path) as file:
                    if not transfer.same_rows(file[path], new, begin, rows):
                        return False
            return len(new) == self._num_samples
        if old.shape != new.shape:
            return False
        if old.chunks is not None and not transfer.has_variable_length(old.id.get_type()):
            # They may differ if values were encoded again. HDF5 1.14 lists wrong offsets for the
            # chunks of some datasets, and then finds none there.
            with contextlib.suppress(*HDF5_ERRORS):
                if transfer.same_chunks(old, new):
                    return True
        if transfer.is_sparse(old, self._most_nbytes):
            return old.chunks is None  # nothing of it is stored
        return transfer.same_rows(old, new)


def _shown(name: bytes) -> str:
    """Returns a name in a file, quoted for a message."""
    return repr(name.decode("utf-8", "backslashreplace"))
