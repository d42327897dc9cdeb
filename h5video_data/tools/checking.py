"""What was copied from one HDF5 file to another, compared once the new file is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from h5video_data.errors import RepackingError
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file

from .transfer import (
    CACHE_BYTES,
    has_variable_length,
    is_sparse,
    same_attribute,
    same_chunks,
    same_rows,
)


class CopiedItems:
    """What was copied, by its name, which is the same in both files.

    Attributes:
        attributes: Of each object, the names of its attributes.
        rows: Of each dataset, the files that its rows are from, one after the other, and how many
            of each; None: it is as it was in the first file.

    Args:
        source: The first file, open until `check` is done.
        most_nbytes: Datasets with more bytes, most of which are not stored, are not read.
    """

    def __init__(self, source: h5py.File, most_nbytes: int) -> None:
        self.attributes: dict[bytes, list[bytes]] = {}
        self.rows: dict[bytes, list[tuple[str, int]] | None] = {}
        self._source = source
        self._most_nbytes = most_nbytes

    def check(self, path: Path) -> None:
        """Compares all of it with what HDF5 reads in the complete file.

        Raises:
            RepackingError: Something is different, or cannot be read.
        """
        try:
            with open_file(os.fspath(path), rdcc_nbytes=CACHE_BYTES) as new:
                for name, keys in self.attributes.items():
                    if not keys:  # a path of many groups takes long to follow
                        continue
                    items = h5py.h5o.open(self._source.id, name), h5py.h5o.open(new.id, name)
                    for key in keys:
                        if not same_attribute(*items, key):
                            raise self._error(f"attribute {shown(key)} of {shown(name)}")
                for name, parts in self.rows.items():
                    if not self._is_same(new, name, parts):
                        raise self._error(f"dataset {shown(name)}")
        except RepackingError:
            raise
        except HDF5_ERRORS as error:
            raise RepackingError(
                f"What was copied from {self._source.filename} cannot be compared with the new "
                f"file, which was removed: {error}"
            ) from error

    def _error(self, what: str) -> RepackingError:
        return RepackingError(
            f"{self._source.filename}: {what}: HDF5 reads something else in the new file, which "
            "was removed."
        )

    def _is_same(self, new: h5py.File, name: bytes, parts: list[tuple[str, int]] | None) -> bool:
        old, copy = self._source[name], new[name]
        copy.id.get_create_plist()  # which may be damaged where the values are not
        if not old.id.get_type().equal(copy.id.get_type()):
            return False
        if parts is None:
            return bool(old.shape == copy.shape) and self._has_same_values(old, copy)
        begin = 0
        for path, count in parts:
            with file_of(path, self._source) as file:
                if not same_rows(file[name], copy, begin, count):
                    return False
            begin += count
        return len(copy) == begin

    def _has_same_values(self, old: h5py.Dataset, copy: h5py.Dataset) -> bool:
        if old.chunks is not None and not has_variable_length(old.id.get_type()):
            # They may differ where values were written anew. HDF5 1.14 lists wrong places for the
            # chunks of some datasets, and then finds none there.
            with contextlib.suppress(*HDF5_ERRORS):
                if same_chunks(old, copy):
                    return True
        if is_sparse(old, self._most_nbytes):
            return old.chunks is None  # then nothing of it is stored
        return same_rows(old, copy)


@contextlib.contextmanager
def file_of(path: str, source: h5py.File) -> Iterator[h5py.File]:
    """Opens a file, but for `source`, which is open.

    If a dataset whose fill value has a variable length is opened through one file twice, closing
    one of the two leaves the other with a pointer to nowhere (HDF5 1.14.6).
    """
    if os.path.samefile(path, source.filename):
        yield source
    else:
        with open_file(path, rdcc_nbytes=CACHE_BYTES) as file:
            yield file


def shown(name: bytes) -> str:
    """A name in a file for people: UTF-8, if it can be."""
    return repr(name.decode("utf-8", "backslashreplace"))
