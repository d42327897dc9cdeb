"""Reads the values of a dataset with h5py: all that h5py reads for this package."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError

from .descriptors import check_openable, with_free_descriptors
from .file_identity import check_files, check_identity
from .hdf5_files import HDF5_ERRORS, file_identity
from .hdf5_names import dataset_location
from .layout import StoredArray
from .os_errors import read_failure
from .plugins import require_filters
from .virtual import UnopenedSources, check_external, find_source_files


class Values:
    """Values of an open dataset.

    What HDF5 would replace by other values without an error is an error here: see `virtual`.

    Attributes:
        dataset: The `h5py.Dataset`.
        files: Path and identity of the files that contain its values, its own first.

    Args:
        dataset: The open `h5py.Dataset`.
        num_rows: Rows in use, the first ones; None: all.
        expected: Its description from when its layout was read; None: it is not compared.

    Raises:
        H5VideoError: A file with its values cannot be opened or is truncated, or a filter that it
            needs is not installed.
    """

    def __init__(
        self, dataset: Any, num_rows: int | None = None, expected: StoredArray | None = None
    ) -> None:
        self.dataset = dataset
        require_filters(dataset)
        self._fd = dataset.file.id.get_vfd_handle()
        own = os.path.abspath(dataset.file.filename), file_identity(dataset.file)
        sources = find_source_files(dataset) if expected is None else expected.sources
        self.files = (own, *sources.files)
        if expected is not None:
            check_files(expected.files)
            if own != expected.files[0]:
                raise FileChangedError(
                    f"{dataset_location(dataset)} is in another file than when it was opened. "
                    "Recreate the dataset."
                )
        kind = dataset.id.get_type().get_class()
        # HDF5 converts neither array types nor big-endian bit fields to plain numbers.
        self._is_converted = kind not in (h5py.h5t.ARRAY, h5py.h5t.BITFIELD)
        self._unopened = UnopenedSources(sources.mappings)
        if dataset.shape:
            check_external(dataset, dataset.shape[0] if num_rows is None else num_rows)

    @with_free_descriptors
    def read(self, *selection: slice) -> NDArray[Any]:
        """Reads a selection: a slice with a start and a stop for each of the first axes.

        Returns:
            The values, of the dataset's dtype as h5py reads it.

        Raises:
            ReadError: The values cannot be read; the message names the rows of the selection.
            FileChangedError: A file was changed or replaced.
            UnavailableError: The machine cannot read them: descriptors, memory, permissions.
        """
        with self.reading(selection):
            values: NDArray[Any] = np.asarray(self.dataset[selection])
        self.check_files()
        return values

    def read_into(self, out: NDArray[Any], selection: Sequence[slice]) -> None:
        """Reads a selection into an array, and raises as `read`; the caller calls `check_files`.

        Args:
            out: Array to fill, C-contiguous, of the values' dtype in the machine's byte order.
            selection: A slice with a start and a stop for each of the first axes; the axes of an
                array type follow those of the dataset.
        """
        self.read_together([selection], out)

    def read_together(
        self,
        selections: Sequence[Sequence[slice]],
        out: NDArray[Any],
        out_rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Reads several selections by one call of HDF5, as `read_into` reads one.

        Args:
            selections: Disjoint selections, in the order of their rows.
            out: Array to fill.
            out_rows: int64 (n,), ascending, the rows of `out` to fill with the rows of all
                selections, in this order; None: all.
        """
        dataset, rank = self.dataset, len(self.dataset.shape)
        with self.reading(*(selection[:rank] for selection in selections)):
            if not self._is_converted:
                places = np.arange(len(out)) if out_rows is None else out_rows
                begin = 0
                for selection in selections:
                    found = dataset[tuple(selection[:rank])]
                    inner = (slice(None),) * rank + tuple(selection[rank:])
                    out[places[begin : begin + len(found)]] = found[inner]
                    begin += len(found)
                return
            space = dataset.id.get_space()
            _select(space, selections)
            if out_rows is not None and out_rows[-1] - out_rows[0] + 1 == len(out_rows):
                out, out_rows = out[out_rows[0] : out_rows[-1] + 1], None
            memory = h5py.h5s.create_simple(out.shape)
            if out_rows is not None:
                ends = np.flatnonzero(np.diff(out_rows) != 1)
                starts = out_rows[np.append(0, ends + 1)].tolist()
                stops = (out_rows[np.append(ends, -1)] + 1).tolist()
                _select(memory, [(slice(*pair),) for pair in zip(starts, stops, strict=True)])
            dataset.id.read(memory, space, out, h5py.h5t.py_create(out.dtype))

    @contextlib.contextmanager
    def reading(self, *selections: Sequence[slice]) -> Iterator[None]:
        """Returns a context in which to read selections; the caller then calls `check_files`."""
        with phil:
            try:
                yield
            except HDF5_ERRORS as error:
                self.check_files()
                for path, _ in self.files:
                    check_openable(path)
                first, stop = selections[0][0].start, selections[-1][0].stop
                samples = (
                    f"samples {first} to {stop - 1}" if stop > first + 1 else f"sample {first}"
                )
                location = f"{dataset_location(self.dataset)}, {samples}"
                raise read_failure(location, error) from error
            self._unopened.check(self.dataset, selections)

    def check_files(self) -> None:
        """Raises an error if a file changed, so that what was just read may be from another."""
        (path, identity), *behind = self.files
        check_identity(path, identity, self._fd)
        check_files(behind)


def _select(space: Any, selections: Sequence[Sequence[slice]]) -> None:
    """Selects the union of selections, each a slice for each of the first axes, of a dataspace.

    As h5py's own selections do, but these take several times as long as a small read.
    """
    shape = space.shape
    operation = h5py.h5s.SELECT_SET
    for selection in selections:
        ranges = [range(item.start, item.stop, item.step or 1) for item in selection]
        rest = shape[len(ranges) :]
        space.select_hyperslab(
            (*(item.start for item in ranges), *(0 for _ in rest)),
            (*map(len, ranges), *rest),
            (*(item.step for item in ranges), *(1 for _ in rest)),
            op=operation,
        )
        operation = h5py.h5s.SELECT_OR
