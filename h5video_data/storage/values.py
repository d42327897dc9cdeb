"""Reads the values of a dataset by h5py: whatever asks it for values does so through here."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError

from .file_identity import (
    Files,
    check_files,
    check_identity,
    check_openable,
    read_failure,
    with_room,
)
from .hdf5_files import HDF5_ERRORS, file_identity, require_filters, where
from .layout import StoredArray
from .virtual import Unopened, check_external, files_behind


class Values:
    """The values of an open dataset, with all that HDF5 needs to give them.

    What HDF5 would leave out without a word is an error: see `virtual`.

    Attributes:
        dataset: The `h5py.Dataset`.
        files: Path and identity of the files that hold its values, its own first.

    Args:
        dataset: The same.
        num_rows: How many of its first rows are in use; None: all.
        expected: How it was stored when its layout was read; None: however it is.

    Raises:
        MissingFilterError: It was written with a filter that is not installed.
        H5VideoError: A file that its values are in is not there, cannot be opened, or is cut short.
    """

    def __init__(
        self, dataset: Any, num_rows: int | None = None, expected: StoredArray | None = None
    ) -> None:
        self.dataset = dataset
        require_filters(dataset)
        self._fd = dataset.file.id.get_vfd_handle()
        own = os.path.abspath(dataset.file.filename), file_identity(dataset.file)
        self.files: Files
        if expected is None:
            behind = files_behind(dataset)
            self.files = (own, *behind.files)
        else:
            behind, self.files = expected.behind, expected.files
            if own != self.files[0]:
                check_files(self.files[:1])
                raise FileChangedError(
                    f"{where(dataset)} is in another file since it was opened. Open the set anew."
                )
            check_files(behind.files)
        self._unopened = Unopened(behind.mappings)
        if dataset.shape:
            check_external(dataset, dataset.shape[0] if num_rows is None else num_rows)

    def read(self, *selection: slice) -> NDArray[Any]:
        """Reads a selection.

        Args:
            *selection: A slice with a start and an end for each of the first axes.

        Raises:
            ReadError: The values cannot be read; it names the first sample of the selection.
            FileChangedError: A file was changed or replaced.
            UnavailableError: The machine has not got what it takes.
        """

        def read() -> NDArray[Any]:
            with self.reading(selection):
                values: NDArray[Any] = np.asarray(self.dataset[selection])
            return values

        values = with_room(read)
        self.check_files()
        return values

    def read_into(self, out: NDArray[Any], selection: Sequence[slice]) -> None:
        """Reads a selection into an array; the caller calls `check_files` after it.

        Args:
            out: Takes the values. C-contiguous, of their dtype in the machine's byte order.
            selection: A slice with a start and an end for each of the first axes, of which an array
                type's own come last.

        Raises:
            H5VideoError: The same errors as `read`.
        """
        dataset, rank = self.dataset, len(self.dataset.shape)
        with self.reading(selection[:rank]):
            # HDF5 does not convert array types nor big-endian bit fields to plain numbers.
            if self._has_plain_numbers:
                # Without a place, HDF5 takes 1.6 times as long for a virtual dataset of many parts.
                dataset.read_direct(out, tuple(selection), np.s_[: len(out)])
            else:
                out[...] = dataset[tuple(selection[:rank])][
                    (slice(None),) * rank + tuple(selection[rank:])
                ]

    @functools.cached_property
    def _has_plain_numbers(self) -> bool:
        stored_type = self.dataset.id.get_type()
        return stored_type.get_class() not in (h5py.h5t.ARRAY, h5py.h5t.BITFIELD)

    @contextlib.contextmanager
    def reading(self, selection: Sequence[slice]) -> Iterator[None]:
        """A context in which a selection is read; the caller calls `check_files` after it.

        Raises:
            H5VideoError: The same errors as `read`.
        """
        with phil:
            try:
                yield
            except HDF5_ERRORS as error:
                self._explain(error, selection[0])
            self._unopened.check(self.dataset, selection)

    def _explain(self, error: BaseException, rows: slice) -> NoReturn:
        self.check_files()
        for path, _ in self.files:
            check_openable(path)
        samples = f"samples {rows.start} to {rows.stop - 1}"
        if rows.stop == rows.start + 1:
            samples = f"sample {rows.start}"
        raise read_failure(f"{where(self.dataset)}, {samples}", error) from error

    def check_files(self) -> None:
        """Raises an error if what was read just now may have come from other files."""
        (path, identity), *behind = self.files
        check_identity(path, identity, self._fd)
        check_files(behind)
