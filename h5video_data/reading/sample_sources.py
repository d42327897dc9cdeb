"""Reads rows of one dataset of one file into their places in a batch.

A source is what a reader's thread calls. `DirectSource` reads byte ranges and decodes them, outside
the interpreter's lock; `MemorySource` has labels and the like, read once; `hdf5_source.Hdf5Source`
reads everything else. `CutSource` cuts clips out of what another source reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError
from h5video_data.planning.byte_ranges import ReadPlan, RowPlanner
from h5video_data.sampling.clips import Clip
from h5video_data.storage.file_identity import ObjectPath
from h5video_data.storage.filters import decode_chunk
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.os_errors import read_failure
from h5video_data.storage.scratch import scratch

from .byte_sources import (
    ByteSource,
    ByteSources,
    RangeError,
    check_source,
    each_range,
    read_in_runs,
)
from .read_stats import ReadStats
from .stored_chunks import decode_chunks

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowRequest:
    """Rows of a dataset to read, and their places."""

    rows: Rows
    """(n,), positions along the dataset's first axis, n >= 1, in any order, repeats allowed."""
    out_rows: Rows
    """(n,), the row of `out` that each fills, ascending, without repeats."""
    first_frames: Rows | None
    """(n,), the first frame of each clip, for a source that reads clips."""
    out: NDArray[Any]
    """(m, ...), m >= n, C-contiguous, of the dataset's dtype in memory."""

    def single(self, i: int) -> RowRequest:
        """Returns the request for its row i alone."""
        one = slice(i, i + 1)
        first = None if self.first_frames is None else self.first_frames[one]
        return RowRequest(self.rows[one], self.out_rows[one], first, self.out)


class Source(Protocol):
    """Reads rows of one dataset of one file. Called by several threads at once."""

    def read(self, request: RowRequest, stats: ReadStats) -> None:
        """Reads rows, or a clip of each, into their places.

        Args:
            request: The rows.
            stats: Counts what it cost; belongs to the calling thread.

        Raises:
            ReadError: A row cannot be read or decoded.
        """
        ...


def read_error(stored: StoredArray, row: int, error: BaseException) -> H5VideoError:
    """Makes the error of one row, which says where it is, and whether the machine is at fault."""
    reason = error.__cause__ if isinstance(error, RangeError) else None
    where = f"{stored.path}: dataset {stored.name!r}, sample {row}"
    return read_failure(where, error if reason is None else reason)


class MemorySource:
    """Copies rows of an array in memory, or clips of them. See `Source`."""

    def __init__(self, values: NDArray[Any], clip: Clip | None = None) -> None:
        self._values = values
        self._clip = clip

    def read(self, request: RowRequest, stats: ReadStats) -> None:
        """Copies rows, or a clip of each."""
        del stats
        rows, firsts = request.rows, request.first_frames
        if self._clip is None or firsts is None:
            request.out[request.out_rows] = self._values[rows]
            return
        frames = firsts[:, np.newaxis] + self._clip.stride * np.arange(self._clip.num_frames)
        axis = 1 + (self._clip.axis or 0)
        # As (samples, frames, ...), views.
        values, out = (np.moveaxis(array, axis, 1) for array in (self._values, request.out))
        out[request.out_rows] = values[rows[:, np.newaxis], frames]


class CutSource:
    """Reads whole rows, one by one, and cuts clips out of them. See `Source`.

    For clips whose frames are not the first axis of a sample: these lie all over the row, and what
    of it need not be read is mostly too little to be left out. A thread holds one row at a time.

    Args:
        source: Reads the rows.
        stored: How they are stored.
        clip: Which frames of them; its axis is 1 or more.
    """

    def __init__(self, source: Source, stored: StoredArray, clip: Clip) -> None:
        self._source = source
        self._stored = stored
        self._clip = clip

    def read(self, request: RowRequest, stats: ReadStats) -> None:
        """Reads each row, and copies its clip to its place."""
        block = scratch("row", self._stored.row_nbytes)
        whole = block.view(self._stored.dtype).reshape(1, *self._stored.shape[1:])
        firsts = request.first_frames
        for i, (row, out_row) in enumerate(zip(request.rows, request.out_rows, strict=True)):
            one = RowRequest(np.array([row]), np.zeros(1, np.int64), None, whole)
            self._source.read(one, stats)
            request.out[out_row] = self._clip.cut(whole[0], 0 if firsts is None else firsts[i])


def announce_all(requests: Iterable[tuple[Source, RowRequest]]) -> None:
    """Announces what will be read of several remote files: their requests are sent at once."""
    files = set()
    for source, request in requests:
        file = source.file if isinstance(source, DirectSource) else None
        if isinstance(source, DirectSource) and file is not None and file not in files:
            files.add(file)  # a file holds one announcement
            source.announce(request)


def _turn_bytes(out: NDArray[Any], out_rows: Rows, file_dtype: np.dtype[Any]) -> None:
    """Brings values of these rows, which have a file's byte order, into the machine's."""
    begin, end = int(out_rows[0]), int(out_rows[-1]) + 1
    if end - begin > len(out_rows):
        out[out_rows] = out[out_rows].view(file_dtype)
        return
    # An assignment has five times the speed of `byteswap`, and holds no lock; of one dimension, it
    # needs no memory either.
    values = out[begin:end].reshape(-1)
    values[...] = values.view(file_dtype)


class DirectSource:
    """Reads byte ranges, or reads and decodes them, straight into their places. See `Source`."""

    def __init__(self, planner: RowPlanner, sources: ByteSources) -> None:
        self._planner = planner
        self._stored = planner.stored
        self._sources = sources

    def read(self, request: RowRequest, stats: ReadStats) -> None:
        """Plans the ranges of the rows, then reads them."""
        stored, cost = self._stored, ReadStats()
        rows, out_rows, out = request.rows, request.out_rows, request.out
        plan = self._planner.plan(rows, out_rows, request.first_frames)
        source = self._sources.open(stored.path, stored.identity)
        try:
            self._read_plan(source, plan, out.reshape(-1).view(np.uint8), cost)
        except RangeError as error:
            check_source(source, stored.path, stored.identity)
            # Rows that follow each other are one range: the first one is named that is not whole.
            position = int(plan.starts[error.number]) + error.num_read
            row = int(rows[np.searchsorted(out_rows, position // self._planner.row_nbytes)])
            raise read_error(stored, row, error) from error.__cause__ or error
        if not stored.file_dtype.isnative:
            _turn_bytes(out, out_rows, stored.file_dtype)
        stats.add(cost)
        check_source(source, stored.path, stored.identity)

    def announce(self, request: RowRequest) -> None:
        """Says what will be read next of the file."""
        source = self._sources.open(self._stored.path, self._stored.identity)
        plan = self._planner.plan(request.rows, request.out_rows, request.first_frames)
        is_written = plan.offsets >= 0
        source.announce(plan.offsets[is_written], plan.sizes[is_written])

    @property
    def file(self) -> str | None:
        """The file, if what is read of several should be announced first; None: it should not."""
        path = self._stored.path
        return path if isinstance(path, ObjectPath) else None

    def _read_plan(
        self, source: ByteSource, plan: ReadPlan, target: NDArray[np.uint8], stats: ReadStats
    ) -> None:
        """Reads and decodes the ranges of a plan.

        Raises:
            RangeError: One of them cannot be read or decoded; its number is that in the plan.
        """
        is_written = plan.offsets >= 0
        if not is_written.all():
            for number in np.flatnonzero(~is_written).tolist():
                place = target[plan.starts[number] : plan.stops[number]]
                place.view(self._stored.file_dtype)[...] = self._stored.fill_value
        begin = time.perf_counter()
        source.announce(plan.offsets[is_written], plan.sizes[is_written])
        is_plain = self._is_plain(plan)
        direct = np.flatnonzero(is_written & is_plain)
        starts = plan.starts[direct]
        try:
            source.read_ranges(plan.offsets[direct], plan.stops[direct] - starts, starts, target)
        except RangeError as error:
            raise RangeError(int(direct[error.number]), error.num_read) from error.__cause__
        stats.read_seconds += time.perf_counter() - begin
        stats.read_bytes += int(plan.sizes[direct].sum())
        stats.num_reads += len(plan)
        decoded = np.flatnonzero(is_written & ~is_plain)
        is_whole = plan.stops[decoded] - plan.starts[decoded] == self._planner.chunk_nbytes
        if is_whole.any():
            decode_chunks(source, self._stored.filters, plan, decoded[is_whole], target, stats)
        if not is_whole.all():
            self._decode_parts(source, plan, decoded[~is_whole], target, stats)

    def _decode_parts(
        self,
        source: ByteSource,
        plan: ReadPlan,
        chosen: NDArray[np.intp],
        target: NDArray[np.uint8],
        stats: ReadStats,
    ) -> None:
        """Reads and decodes chunks of which a part is wanted. See `decode_chunks`."""
        places = [item[chosen].tolist() for item in (plan.starts, plan.stops, plan.masks)]
        begin, seconds = time.perf_counter(), 0.0
        for (number, data), start, stop, mask in zip(
            each_range(read_in_runs(source, plan.offsets, plan.sizes, chosen)), *places, strict=True
        ):
            middle = time.perf_counter()
            skip = 0 if plan.skips is None else int(plan.skips[number])
            try:
                self._decode_part(mask, data, skip, target[start:stop])
            except (ValueError, MemoryError) as error:
                raise RangeError(number) from error
            seconds += time.perf_counter() - middle
        stats.decode_seconds += seconds
        stats.read_seconds += time.perf_counter() - begin - seconds
        stats.read_bytes += int(plan.sizes[chosen].sum())
        stats.num_chunks += len(chosen)

    def _is_plain(self, plan: ReadPlan) -> NDArray[np.bool_]:
        """Finds the ranges that are the values themselves: none of the filters was applied."""
        if not self._stored.filters:
            return np.ones(len(plan), np.bool_)
        none_applied = (1 << len(self._stored.filters)) - 1
        is_plain: NDArray[np.bool_] = (
            (plan.masks == none_applied)
            & (plan.sizes == self._planner.chunk_nbytes)
            & (plan.sizes == plan.stops - plan.starts)
        )
        return is_plain

    def _decode_part(
        self, mask: int, stored: NDArray[np.uint8], skip: int, place: NDArray[np.uint8]
    ) -> None:
        """Decodes a chunk, of which a part is wanted: from byte `skip` on, or frames of that."""
        whole = scratch("chunk", self._planner.chunk_nbytes)
        decode_chunk(self._stored.filters, mask, stored, whole)
        clip = self._planner.clip
        frame = self._planner.frame_nbytes
        if clip is None or clip.stride == 1 or len(place) <= frame:
            place[:] = whole[skip : skip + len(place)]
        else:
            wanted = place.reshape(-1, frame)
            frames = whole[skip:].reshape(-1, frame)
            wanted[:] = frames[: len(wanted) * clip.stride : clip.stride]
