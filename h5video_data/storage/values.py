"""Reads the values of a dataset with h5py: all that h5py reads for this package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, H5VideoError

from .descriptors import check_openable, with_free_descriptors
from .external_storage import check_external
from .file_identity import check_files
from .hdf5_files import HDF5_ERRORS, handle_of, path_of
from .hdf5_names import dataset_location
from .layout import StoredArray
from .os_errors import read_failure
from .plugins import require_filters
from .virtual import UnopenedSources, find_source_files

Selection: TypeAlias = Sequence[slice]


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
            needs is not installed; its metadata are damaged.
    """

    def __init__(
        self, dataset: Any, num_rows: int | None = None, expected: StoredArray | None = None
    ) -> None:
        self.dataset = dataset
        try:
            self._look(num_rows, expected)
        except H5VideoError:
            raise
        except HDF5_ERRORS as error:
            raise read_failure(dataset_location(dataset), error) from error

    def _look(self, num_rows: int | None, expected: StoredArray | None) -> None:
        dataset = self.dataset
        require_filters(dataset)
        file = dataset.file  # which h5py makes anew each time
        self._handle = handle_of(file)
        own = path_of(file), self._handle.identity()
        sources = find_source_files(dataset) if expected is None else expected.sources
        self.files = (own, *sources.files)
        if expected is not None:
            check_files(expected.files)
            if own != expected.files[0]:
                raise FileChangedError(
                    f"{dataset_location(dataset)} is in another file than when it was opened. "
                    "Recreate the dataset."
                )
        self._lost_rows = None if expected is None else expected.lost_rows
        kind = dataset.id.get_type().get_class()
        # HDF5 converts neither array types nor big-endian bit fields to plain numbers.
        self._is_converted = kind not in (h5py.h5t.ARRAY, h5py.h5t.BITFIELD)
        self._unopened = UnopenedSources(sources.mappings)
        if dataset.shape and (expected is None or expected.storage == "external"):
            check_external(dataset, dataset.shape[0] if num_rows is None else num_rows)

    @property
    def is_always_written(self) -> bool:
        """Whether HDF5 gives each value one of its own or a fill value; if not, some are left."""
        plist = self.dataset.id.get_create_plist()
        return (
            not self.dataset.is_virtual
            and plist.get_fill_time() != h5py.h5d.FILL_TIME_NEVER
            and plist.fill_value_defined() != h5py.h5d.FILL_VALUE_UNDEFINED
        )

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

    def read_each(
        self, selections: Sequence[Selection], out: NDArray[Any], targets: Sequence[int]
    ) -> None:
        """Reads selections one by one, and raises as `read`; the caller calls `check_files`.

        No other thread reads by h5py meanwhile: the next selection may need a chunk that HDF5 has
        decoded for this one.

        Args:
            selections: Each a slice with a start and a stop for each of the first axes; the axes of
                an array type follow those of the dataset.
            out: Array to fill, C-contiguous, of the values' dtype in the machine's byte order.
            targets: For each selection, the first row of `out` to fill.
        """
        dataset, rank = self.dataset, len(self.dataset.shape)
        with phil:
            space, in_memory = dataset.id.get_space(), h5py.h5t.py_create(out.dtype)
            memory, num_rows = None, -1
            for selection, target in zip(selections, targets, strict=True):
                count = selection[0].stop - selection[0].start
                rows = out[target : target + count]
                self._check_chunks(selection)
                try:
                    if not self._is_converted:
                        self._read_converted(selection, rows)
                        continue
                    if count != num_rows:
                        memory, num_rows = h5py.h5s.create_simple(rows.shape), count
                    _select(space, selection)
                    dataset.id.read(memory, space, rows, in_memory)
                except HDF5_ERRORS as error:
                    raise self._failure((selection,), error) from error
            self._unopened.check(dataset, [selection[:rank] for selection in selections])

    def read_together(
        self, selections: Sequence[Selection], out: NDArray[Any], out_rows: NDArray[np.int64]
    ) -> None:
        """Reads selections by one call of HDF5, and raises as `read`.

        Args:
            selections: As for `read_each`; disjoint, in the order of their rows.
            out: As for `read_each`.
            out_rows: int64 (n,), ascending, the rows of `out` to fill with the rows of the
                selections, in this order.
        """
        if not self._is_converted:
            counts = [rows.stop - rows.start for rows, *_ in selections]
            ends = np.cumsum(counts)
            for selection, count, end in zip(selections, counts, ends.tolist(), strict=True):
                found = np.empty((count, *out.shape[1:]), out.dtype)
                self.read_each([selection], found, [0])
                out[out_rows[end - count : end]] = found
            return
        with self.reading(*selections):
            space = self.dataset.id.get_space()
            _select(space, *selections)
            first, stop = int(out_rows[0]), int(out_rows[-1]) + 1
            is_one_run = stop - first == len(out_rows)
            if is_one_run:
                out = out[first:stop]
            memory = h5py.h5s.create_simple(out.shape)
            if not is_one_run:
                runs = np.split(out_rows, np.flatnonzero(np.diff(out_rows) != 1) + 1)
                slices = ((slice(int(run[0]), int(run[-1]) + 1),) for run in runs)
                _select(memory, *slices)
            self.dataset.id.read(memory, space, out, h5py.h5t.py_create(out.dtype))

    def _read_converted(self, selection: Selection, out: NDArray[Any]) -> None:
        rank = len(self.dataset.shape)
        inner = (slice(None),) * rank + tuple(selection[rank:])
        out[...] = self.dataset[tuple(selection[:rank])][inner]

    @contextlib.contextmanager
    def reading(self, *selections: Selection) -> Iterator[None]:
        """Returns a context in which to read selections; the caller then calls `check_files`."""
        for selection in selections:
            self._check_chunks(selection)
        with phil:
            try:
                yield
            except HDF5_ERRORS as error:
                raise self._failure(selections, error) from error
            self._unopened.check(self.dataset, selections)

    def _check_chunks(self, selection: Selection) -> None:
        """Raises a ReadError where HDF5 would leave memory as it is: see `check_chunk_table`."""
        if self._lost_rows is None:
            return
        num_rows, is_lost = self._lost_rows
        if is_lost[selection[0].start // num_rows : -(-selection[0].stop // num_rows)].any():
            error = ValueError("where a chunk lies in the file, or its stored size, is damaged")
            raise self._failure((selection,), error)

    def _failure(self, selections: Sequence[Selection], error: Exception) -> Exception:
        """Returns the error to raise if selections cannot be read."""
        self.check_files()
        for path, _ in self.files:
            check_openable(path)
        first, stop = selections[0][0].start, selections[-1][0].stop
        samples = f"samples {first} to {stop - 1}" if stop > first + 1 else f"sample {first}"
        return read_failure(f"{dataset_location(self.dataset)}, {samples}", error)

    def check_files(self) -> None:
        """Raises an error if a file changed, so that what was just read may be from another."""
        (_, identity), *behind = self.files
        self._handle.check(identity)
        check_files(behind)


def _select(space: Any, *selections: Selection) -> None:
    """Selects the union of selections of a dataspace.

    As h5py's own selections do, but these take several times as long as a small read.
    """
    shape, operation = space.shape, h5py.h5s.SELECT_SET
    for selection in selections:
        rest = len(shape) - len(selection)
        starts = (*(item.start for item in selection), *[0] * rest)
        steps = (*(item.step or 1 for item in selection), *[1] * rest)
        counts = (
            *(len(range(item.start, item.stop, item.step or 1)) for item in selection),
            *shape[len(selection) :],
        )
        space.select_hyperslab(starts, counts, steps, op=operation)
        operation = h5py.h5s.SELECT_OR
