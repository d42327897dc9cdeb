"""Reads encoded pictures, and decodes each straight into its place in a batch.

A call reads and decodes some rows at a time: as many as `BYTES_AT_ONCE` hold, which bounds the
memory of a thread. Decoding lets go of the interpreter's lock, and takes most of the time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from h5video_data.storage.global_heap import read_variable_rows
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.picture_rows import StoredPictures, row_bytes
from h5video_data.storage.pictures.codecs import PictureError
from h5video_data.storage.pictures.forms import PictureDecoder
from h5video_data.storage.scratch import scratch
from h5video_data.storage.variable_rows import VariableRows

from .byte_sources import BYTES_AT_ONCE, ByteSources, check_source, runs_of_bytes
from .chunk_decoder import ChunkRowDecoder
from .hdf5_source import Hdf5Files
from .read_stats import ReadStats
from .sample_sources import DirectSource, RowRequest, Rows, read_error

Encoded = NDArray[np.uint8]


class EncodedRows(Protocol):
    """Reads the bytes of rows of one dataset of one file. Called by several threads at once."""

    def sizes(self, rows: Rows) -> NDArray[np.int64]:
        """Returns how many bytes each row takes, int64 (n,)."""
        ...

    def read(self, rows: Rows, stats: ReadStats) -> Iterator[Encoded]:
        """Yields the bytes of each row, uint8 (n,), valid until the thread calls this again.

        Args:
            rows: int64 (n,), ascending, each once.
            stats: Counts what it cost; belongs to the calling thread.

        Raises:
            ReadError: A row cannot be read.
        """
        ...


class FixedRows:
    """Reads rows of a fixed length by positioned reads. See `EncodedRows`."""

    def __init__(self, source: DirectSource, stored: StoredArray) -> None:
        self._source = source
        self._row_nbytes = stored.row_nbytes
        self._dtype = stored.dtype

    def sizes(self, rows: Rows) -> NDArray[np.int64]:
        """Returns the length of all rows. See `EncodedRows.sizes`."""
        return np.full(len(rows), self._row_nbytes, np.int64)

    def read(self, rows: Rows, stats: ReadStats) -> Iterator[Encoded]:
        """Reads rows together. See `EncodedRows.read`."""
        out = scratch("encoded", len(rows) * self._row_nbytes).reshape(len(rows), -1)
        out = out.view(self._dtype)
        self._source.read(RowRequest(rows, np.arange(len(rows)), None, out), stats)
        yield from out.view(np.uint8)


class ChunkedRows:
    """Reads rows of a fixed length of which a chunk holds several. See `EncodedRows`.

    A chunk is decoded once for all of its rows that are asked for together.
    """

    def __init__(self, decoder: ChunkRowDecoder) -> None:
        self._decoder = decoder
        self._row_nbytes = decoder.chunk_rows.stored.row_nbytes
        self._dtype = decoder.chunk_rows.stored.dtype

    def sizes(self, rows: Rows) -> NDArray[np.int64]:
        """Returns the length of all rows. See `EncodedRows.sizes`."""
        return np.full(len(rows), self._row_nbytes, np.int64)

    def read(self, rows: Rows, stats: ReadStats) -> Iterator[Encoded]:
        """Reads rows together, which are in ascending order. See `EncodedRows.read`."""
        layout = self._decoder.chunk_rows
        out = scratch("encoded", len(rows) * self._row_nbytes).reshape(len(rows), 1, -1)
        out = out.view(self._dtype)
        numbers, in_chunk = np.divmod(rows, layout.num_rows)
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
        for begin, stop in itertools.pairwise(edges):
            wanted, firsts = in_chunk[begin:stop].tolist(), [0] * (stop - begin)
            for unit in range(layout.num_units):
                number = int(numbers[begin])
                self._decoder.decode(number, unit, wanted, firsts, list(out[begin:stop]), stats)
        yield from out[:, 0].view(np.uint8)


class HeapRows:
    """Reads rows of variable length by positioned reads. See `EncodedRows`."""

    def __init__(self, variable: VariableRows, sources: ByteSources) -> None:
        self._variable = variable
        self._sources = sources

    def sizes(self, rows: Rows) -> NDArray[np.int64]:
        """Returns the length of each row. See `EncodedRows.sizes`."""
        return self._variable.lengths[rows]

    def read(self, rows: Rows, stats: ReadStats) -> Iterator[Encoded]:
        """Reads rows together, those near each other in the file as one. See `EncodedRows.read`."""
        variable = self._variable
        begin = time.perf_counter()
        source = self._sources.open(variable.path, variable.identity)

        def read_ranges(offsets: Rows, sizes: Rows, starts: Rows, target: Encoded) -> None:
            source.announce(offsets, sizes)
            source.read_ranges(offsets, sizes, starts, target)
            stats.read_bytes += int(sizes.sum())
            stats.num_reads += len(sizes)

        try:
            found = read_variable_rows(
                read_ranges, rows, variable, lambda nbytes: scratch("encoded", nbytes)
            )
        finally:
            # Of a file that changed, the bytes need not be those of these rows.
            check_source(source, variable.path, variable.identity)
        stats.read_seconds += time.perf_counter() - begin
        for start, size in zip(found.starts.tolist(), found.sizes.tolist(), strict=True):
            yield found.buffer[start : start + size]


class Hdf5Rows:
    """Reads rows by h5py, one at a time. See `EncodedRows`."""

    def __init__(self, stored: StoredArray, files: Hdf5Files) -> None:
        self._stored = stored
        self._files = files

    def sizes(self, rows: Rows) -> NDArray[np.int64]:
        """Returns a length that rows are read one by one with. See `EncodedRows.sizes`."""
        return np.full(len(rows), BYTES_AT_ONCE, np.int64)

    def read(self, rows: Rows, stats: ReadStats) -> Iterator[Encoded]:
        """Reads each row. See `EncodedRows.read`."""
        values = self._files.open(self._stored).values
        for row in rows.tolist():
            begin = time.perf_counter()
            data = row_bytes(values.read(slice(row, row + 1)))
            stats.read_seconds += time.perf_counter() - begin
            stats.read_bytes += len(data)
            stats.num_reads += 1
            yield data


class PictureSource:
    """Reads and decodes pictures into their places. See `sample_sources.Source`.

    Args:
        stored: The dataset.
        encoded: Reads them.
    """

    def __init__(self, stored: StoredPictures, encoded: EncodedRows) -> None:
        self._stored = stored
        self._form = stored.form
        self._encoded = encoded

    def read(self, request: RowRequest, stats: ReadStats) -> None:
        """Reads rows in the order of the file, and decodes each once."""
        rows, first, of_row = np.unique(request.rows, return_index=True, return_inverse=True)
        targets = request.out_rows[first]
        out = request.out
        decoder = PictureDecoder(self._form, out)
        cost = ReadStats()
        begin = time.perf_counter()
        for some in runs_of_bytes(self._encoded.sizes(rows)):
            found = self._encoded.read(rows[some], cost)
            for row, target, data in zip(
                rows[some].tolist(), targets[some].tolist(), found, strict=True
            ):
                try:
                    decoder.decode(data, target)
                except (PictureError, MemoryError) as error:
                    raise read_error(self._stored, row, error) from error
        cost.decode_seconds = time.perf_counter() - begin - cost.read_seconds
        cost.num_chunks += len(rows)
        is_repeated = np.ones(len(of_row), np.bool_)
        is_repeated[first] = False
        for place in np.flatnonzero(is_repeated).tolist():
            out[request.out_rows[place]] = out[targets[of_row[place]]]
        stats.add(cost)
