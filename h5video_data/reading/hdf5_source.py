"""Reads samples by h5py: correct for every dataset that HDF5 can read, and slow.

h5py has one lock for the whole process, so these reads take turns. What positioned reads can have
never comes here.

A call of HDF5 costs about 5 us, and for a virtual dataset 0.3 us for each of its mappings besides:
1 ms if it joins 3,000 videos. So rows are read together where that is right:

- From chunks, HDF5 takes an irregular selection value by value, at 50 ns each: a hundred times the
  time of single rows, if these are large. So rows of more than `FEW_VALUES` are read one by one.
- If it is the sources of a virtual dataset that are chunked, a call reads at most one run of rows
  of each source, so that every source sees a regular selection; the next call reads further runs.
- HDF5 gives rows in the order of the file, so they have to be moved to their places in the batch.
  For large rows that costs more than the calls that it saves: see `TOGETHER_NBYTES`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, ReadError
from h5video_data.sampling.clips import Clip
from h5video_data.storage.descriptors import keep_open, with_free_descriptors
from h5video_data.storage.hdf5_files import connect, handle_of
from h5video_data.storage.hdf5_names import find_again
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.values import Values
from h5video_data.storage.virtual import source_bounds

from .read_stats import ReadStats
from .sample_sources import RowRequest, Rows

# HDF5's chunk cache holds the chunks that cross one sample, within these bounds. Without, a chunk
# that holds many samples would be decoded anew for each; HDF5's own default is the lower one.
MIN_CACHE_BYTES = 1 << 20
MAX_CACHE_BYTES = 64 << 20
# A prime, about a hundred times the number of chunks that fit, is what HDF5's manual advises.
CACHE_SLOTS = 100_003

MAX_OPEN_FILES = 64

# Rows of up to so many bytes for each mapping of a virtual dataset, and so many in any case, are
# read together. Measured for rows from 1 byte to 200 KiB and from 4 to 3,000 mappings.
TOGETHER_NBYTES = 1 << 10
LEAST_TOGETHER_NBYTES = 8 << 10
FEW_VALUES = 100


class Hdf5Files:
    """Keeps datasets open, the least recently used ones up to `MAX_OPEN_FILES`."""

    def __init__(self) -> None:
        # The file stays open for as long as somebody holds the pair.
        self.open = keep_open(_open_dataset, MAX_OPEN_FILES)

    def close(self) -> None:
        """Closes all of them."""
        self.open.cache_clear()


class _OpenDataset(NamedTuple):
    """An open dataset, and which of its rows can be read together."""

    file: Any
    values: Values
    together_nbytes: int
    """Rows of up to so many bytes are read together."""
    bounds: Rows | None
    """If only one run of each source of a virtual dataset may be read together: `source_bounds`."""
    is_always_written: bool
    """See `Values`."""


def _open_dataset(stored: StoredArray) -> _OpenDataset:
    options: dict[str, Any] = {"rdcc_nbytes": _cache_bytes(stored)}
    if stored.chunk_shape is not None:
        # Not for the sources of a virtual dataset: each of them would have such a table.
        options |= {"rdcc_nslots": CACHE_SLOTS, "rdcc_w0": 0.0}
    file = connect(stored.path, **options)
    handle_of(file).check(stored.identity)
    dataset = find_again(file, stored.name)
    values = Values(dataset, 0, stored)
    num_sources, bounds = source_bounds(dataset) if stored.storage == "virtual" else (0, None)
    nbytes = LEAST_TOGETHER_NBYTES + num_sources * TOGETHER_NBYTES
    few_nbytes = FEW_VALUES * stored.dtype.itemsize
    if stored.storage == "chunked":
        nbytes = few_nbytes
    elif stored.row_nbytes <= few_nbytes or not stored.sources.are_chunked:
        bounds = None
    return _OpenDataset(file, values, nbytes, bounds, values.is_always_written)


def _cache_bytes(stored: StoredArray) -> int:
    if stored.chunk_shape is None:
        return MIN_CACHE_BYTES
    return min(max(stored.row_decoded_nbytes, MIN_CACHE_BYTES), MAX_CACHE_BYTES)


class Hdf5Source:
    """Reads samples of one dataset of one file, or clips of them, through h5py.

    See `sample_sources.Source`.
    """

    def __init__(self, stored: StoredArray, clip: Clip | None, files: Hdf5Files) -> None:
        self._stored = stored
        self._clip = clip
        self._files = files

    @with_free_descriptors
    def read(self, request: RowRequest, stats: ReadStats) -> None:
        """Reads rows in the order of the file, each once, into their places."""
        begin = time.perf_counter()
        opened: _OpenDataset = self._files.open(self._stored)
        # HDF5 leaves what was never written as it is if the file says so; h5py starts from zeros.
        rows, out_rows, out = request.rows, request.out_rows, request.out
        if not opened.is_always_written:
            out[out_rows] = 0
        firsts = request.first_frames
        if firsts is None or self._clip is None:
            firsts = np.zeros_like(rows)
        order = np.lexsort((firsts, rows))
        rows, firsts = rows[order], firsts[order]
        is_new = np.append(True, (np.diff(rows) != 0) | (np.diff(firsts) != 0))
        wanted, firsts, targets = rows[is_new], firsts[is_new], out_rows[order[is_new]]
        if len(wanted) > 1 and out[0].nbytes <= opened.together_nbytes:
            try:
                slots = self._read_together(opened, wanted, firsts, out, out_rows, stats)
            except FileChangedError:
                raise
            except ReadError:  # says that one of many rows cannot be read; this says which one
                self._read_runs(opened.values, wanted, firsts, out, targets, stats)
            else:
                sources = np.empty(len(rows), np.int64)
                sources[order[is_new]] = slots
                sources[order[~is_new]] = np.arange(len(wanted), len(rows))
                _move_rows(out, out_rows, sources)
        else:
            self._read_runs(opened.values, wanted, firsts, out, targets, stats)
        opened.values.check_files()
        repeated = out_rows[order[~is_new]]
        out[repeated] = out[targets[np.cumsum(is_new)[~is_new] - 1]]
        stats.read_seconds += time.perf_counter() - begin
        stats.read_bytes += len(wanted) * out[0].nbytes

    def _read_runs(
        self,
        values: Values,
        rows: Rows,
        firsts: Rows,
        out: NDArray[Any],
        targets: Rows,
        stats: ReadStats,
    ) -> None:
        """Reads rows to their targets, those that follow each other in both as one."""
        # Clips of rows do not follow each other: each has frames of its own.
        is_break = (np.diff(rows) != 1) | (np.diff(targets) != 1) | (self._clip is not None)
        begins = np.flatnonzero(np.append(True, is_break))
        counts = np.diff(begins, append=len(rows))
        selections = [
            self._selection(rows, firsts, *run)
            for run in zip(begins.tolist(), counts.tolist(), strict=True)
        ]
        values.read_each(selections, out, targets[begins].tolist())
        stats.num_reads += len(selections)

    def _read_together(
        self,
        opened: _OpenDataset,
        rows: Rows,
        firsts: Rows,
        out: NDArray[Any],
        out_rows: Rows,
        stats: ReadStats,
    ) -> Rows:
        """Reads rows, in ascending order, to the first of `out_rows`, in as few calls as is right.

        Returns:
            int64 (n,), for each row the position in `out_rows` that it was read to.
        """
        # What may have several rows of a call only if they are one run. If the dataset is not
        # virtual, only clips of the same row must not be read together: they may overlap.
        if opened.bounds is not None:
            places = np.searchsorted(opened.bounds, rows, side="right")
        else:
            places = rows - (np.arange(len(rows)) if self._clip is None else 0)
        is_first = np.append(True, (np.diff(rows) != 1) | (np.diff(places) != 0))
        is_first |= self._clip is not None
        begins = np.flatnonzero(is_first)
        counts = np.diff(begins, append=len(rows))
        of_runs = places[begins]
        calls = np.arange(len(begins)) - np.searchsorted(of_runs, of_runs)
        slots, end = np.empty(len(rows), np.int64), 0
        for call in range(int(calls.max()) + 1):
            start, selections = end, []
            for run in np.flatnonzero(calls == call).tolist():
                begin, count = int(begins[run]), int(counts[run])
                selections.append(self._selection(rows, firsts, begin, count))
                slots[begin : begin + count] = np.arange(end, end + count)
                end += count
            opened.values.read_together(selections, out, out_rows[start:end])
            stats.num_reads += 1
        return slots

    def _selection(self, rows: Rows, firsts: Rows, begin: int, count: int) -> Sequence[slice]:
        """Returns what to select for `count` rows that follow each other."""
        row = int(rows[begin])
        if self._clip is None:
            return (slice(row, row + count),)
        return slice(row, row + count), self._clip.frames(int(firsts[begin]))


def _move_rows(out: NDArray[Any], places: Rows, sources: Rows) -> None:
    """Moves rows of an array, by memory for one of them.

    Args:
        out: The array.
        places: int64 (n,), which of its rows take part.
        sources: int64 (n,), a permutation: where among `places` the row is that belongs to each.
    """
    where, left = places.tolist(), sources.tolist()
    for start, source in enumerate(left):
        if source in (start, -1):
            continue
        held, here = out[where[start]].copy(), start
        while (source := left[here]) != start:
            out[where[here]] = out[where[source]]
            left[here], here = -1, source
        out[where[here]] = held
        left[here] = -1
