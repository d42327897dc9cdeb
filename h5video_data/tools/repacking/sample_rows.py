"""Datasets that hold a value for each sample: which they are, and their rows of all files."""

from __future__ import annotations

import contextlib
import os
import posixpath

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import DatasetNotFoundError, FileFormatError
from h5video_data.storage.attributes import read_sample_count
from h5video_data.storage.chunk_table import check_chunk_table
from h5video_data.storage.file_identity import ObjectPath
from h5video_data.storage.hdf5_files import open_file, path_of
from h5video_data.storage.hdf5_names import find_dataset, name_bytes, name_text
from h5video_data.video_set import VideoSet

from .stored_bytes import reading
from .stored_samples import rows_of_files
from .transfer import CACHE_BYTES, copy_rows, make_like, same_rows, type_name


class SampleRows:
    """The rows of samples in the files of a set, and in the new file.

    Attributes:
        num_samples: Samples of the new file.
        differ: Whether rows are left out or joined.
        group: The group that the attribute `sample_count` is that of.
        has_count: Whether the new file is to have the attribute.

    Args:
        video_set: The files; its components are the datasets that get a new layout.
        source: The first file, open.
        target: The new file, open.
        samples: Numbers of the samples that are copied, int64, ascending.
    """

    def __init__(
        self,
        video_set: VideoSet,
        source: h5py.File,
        target: h5py.File,
        samples: NDArray[np.int64],
    ) -> None:
        self._set = video_set
        self._source = source
        self._target = target
        # Rows of the datasets of samples in each file, in use or not.
        self._lengths = [part.shape[0] for part in video_set.components[0].parts]
        self.num_samples = len(samples)
        # Path, rows, first row in the new file, and rows that are copied, of each file.
        starts, runs = rows_of_files(video_set, samples)
        self._rows = list(zip(video_set.paths, self._lengths, starts, runs, strict=False))
        self.differ = self._lengths != [self.num_samples]
        # Whether some are left out before the last one: then, rows are no longer those of samples.
        self._is_gapped = self.num_samples > 0 and samples[-1] >= self.num_samples
        found = read_sample_count(source, video_set.components[0].name, self._lengths[0])
        self.group = name_bytes(name_text(found.group))
        # Without the attribute, all rows count, and one of the root would count other groups' too.
        self.has_count = found.is_given or found.group != "/"

    def change(self, dataset: h5py.Dataset, path: bytes) -> bool:
        """Tells if rows of a dataset are left out or joined."""
        has_rows = bool(dataset.shape) and dataset.shape[0] == self._lengths[0]
        return self.differ and self._is_counted(path) and has_rows

    def _is_counted(self, path: bytes) -> bool:
        """Tells if a dataset is not in a group beside the one that is counted, with its samples."""
        group = posixpath.dirname(path)
        return posixpath.commonpath([group, self.group]) in (group, self.group)

    def check_not_of(self, dataset: h5py.Dataset, path: bytes) -> None:
        """Raises a FileFormatError if a dataset seems to have a value for each sample after all.

        Of several files, the values of the first one would be taken for those of all samples.
        """
        group = posixpath.dirname(path)
        count = int(self._set.counts[0])
        if self._is_gapped and self._is_counted(path) and dataset.shape:
            num_rows = dataset.shape[0]
            if num_rows == count or (num_rows > count and path.endswith(b"/Y")):
                raise FileFormatError(
                    f"{self._set.paths[0]}: {shown(path)} must have as many rows as "
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
                    f"{shown(path)} must have as many rows as there are samples, in all files or "
                    "in none. If the first rows are those of the samples, set the attribute "
                    "`sample_count`; if they are not, rename it. Received: "
                    f"{dataset.shape[0]} rows and {self._lengths[0]} samples in "
                    f"{self._set.paths[0]}, {found[0]} and {length} in {file_path}"
                )

    def join(self, dataset: h5py.Dataset, path: bytes) -> h5py.Dataset:
        """Copies the rows of the samples in use, of all files."""
        new = make_like(dataset, self._target, self.num_samples)
        for file_path, length, begin, rows in self._rows:
            with self._opened(file_path) as file:
                part = find_dataset(file, name_text(path))
                with reading(f"{file_path}: dataset {shown(path)}"):
                    is_alike = part.id.get_type().equal(dataset.id.get_type())
                if part.shape != (length, *dataset.shape[1:]) or not is_alike:
                    raise FileFormatError(
                        f"{shown(path)} must have the same type and shape in all files, and as "
                        "many rows as there are samples. Received: "
                        f"{type_name(dataset)} of shape {dataset.shape} in "
                        f"{self._set.paths[0]}, {type_name(part)} of shape {part.shape} "
                        f"in {file_path}, which has {length} samples"
                    )
                check_chunk_table(part)
                copy_rows(part, new, begin, rows)
        return new

    def are_joined(self, path: bytes, new: h5py.Dataset) -> bool:
        """Tells if a dataset holds the rows of the samples of all files."""
        for file_path, _, begin, rows in self._rows:
            with self._opened(file_path) as file:
                if not same_rows(file[path], new, begin, rows):
                    return False
        return len(new) == self.num_samples

    def _opened(self, path: str) -> contextlib.AbstractContextManager[h5py.File]:
        # If a dataset whose fill value has a variable length is opened through one file twice,
        # closing one of the two leaves the other with a dangling pointer (HDF5 1.14.6).
        own = path_of(self._source)
        is_remote = isinstance(path, ObjectPath) or isinstance(own, ObjectPath)
        if path == own if is_remote else os.path.samefile(path, own):
            return contextlib.nullcontext(self._source)
        return open_file(path, rdcc_nbytes=CACHE_BYTES)


def shown(name: bytes) -> str:
    """Returns a name in a file, quoted for a message."""
    return repr(name.decode("utf-8", "backslashreplace"))
