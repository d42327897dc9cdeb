"""Reads byte ranges of an object of a store or a web server."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import VideoFileNotFoundError
from h5video_data.planning.requests import copy_ranges, plan_requests
from h5video_data.storage.file_identity import FileIdentity, check_identity
from h5video_data.storage.os_errors import ObjectChangedError, RequestError
from h5video_data.storage.remote.paths import RemotePath
from h5video_data.storage.remote.requests import wait_for

from .range_errors import RangeError, cut_short

# What lies between two ranges costs less than another request, which takes some 0.5 ms of a
# processor beside its latency: about this many bytes at 100 MB/s. But no more than half of what is
# needed, or memory and network go to what nobody reads.
MAX_GAP_BYTES = 64 << 10
MIN_GAP_BYTES = 4 << 10
# A connection to a store brings some 50 to 100 MB/s: several bring a large range sooner.
MAX_REQUEST_BYTES = 8 << 20
MAX_OBJECT_BYTES = 1 << 62

Ranges = NDArray[np.int64]


class _Announced(NamedTuple):
    """What a thread has begun to read."""

    begins: Ranges
    """int64 (m,), first byte of each request, ascending."""
    ends: Ranges
    futures: list[Future[bytes]]

    def requests_of(self, begins: Ranges, ends: Ranges) -> slice | None:
        """Returns the requests that bring all of these ranges, ascending; None: some are not."""
        first = int(np.searchsorted(self.begins, begins[0], "right")) - 1
        stop = int(np.searchsorted(self.begins, ends[-1]))
        if first < 0:
            return None
        number = np.searchsorted(self.begins, begins, "right") - 1
        last = np.searchsorted(self.begins, ends) - 1
        # From the request where a range begins to that where it ends, each begins where the one
        # before it ends.
        is_joined = np.append(True, self.begins[1:] == self.ends[:-1])
        pieces = np.cumsum(~is_joined)
        is_there = (pieces[number] == pieces[last]) & (ends <= self.ends[last])
        return slice(first, stop) if is_there.all() else None


class RemoteObject:
    """An object that is read by requests. See `byte_sources.ByteSource`."""

    def __init__(self, path: RemotePath, identity: FileIdentity) -> None:
        if path.identity_once() != identity:
            check_identity(path, identity)
        self._path = path
        self._identity = identity
        self._of_thread = threading.local()

    def identity(self) -> FileIdentity:
        """Returns the identity of what was read. See `ByteSource.identity`.

        The store is asked for the one that the object has now, unless each read was compared.

        That is how a thread ends a task: what was announced and not read is given up.
        """
        self._give_up()
        if self._path.is_compared(self._identity):
            return self._identity
        return self._path.identity()

    def announce(self, offsets: Ranges, sizes: Ranges) -> None:
        """Begins to read the ranges, for this thread. See `ByteSource.announce`.

        What was read is held until the thread announces others, or asks for the identity.
        """
        if self._is_announced(offsets, sizes):
            return
        self._give_up()
        if len(offsets) and not self._is_beyond(offsets, sizes).any():
            begins, ends = _requests(offsets, sizes)
            futures = self._path.begin(begins.tolist(), ends.tolist(), self._identity)
            if futures:
                self._of_thread.announced = _Announced(begins, ends, futures)
                self._of_thread.ranges = offsets, sizes

    def _is_announced(self, offsets: Ranges, sizes: Ranges) -> bool:
        """Whether these are the ranges that this thread announced last, and did not give up."""
        ranges = getattr(self._of_thread, "ranges", None)
        return ranges is not None and all(map(np.array_equal, ranges, (offsets, sizes)))

    def _give_up(self) -> None:
        self._of_thread.ranges = None
        announced: _Announced | None = getattr(self._of_thread, "announced", None)
        if announced is not None:
            self._of_thread.announced = None
            for future in announced.futures:
                future.cancel()

    def _is_beyond(self, offsets: Ranges, sizes: Ranges) -> NDArray[np.bool_]:
        is_beyond: NDArray[np.bool_] = (sizes > 0) & (offsets + sizes > self._identity.num_bytes)
        return is_beyond

    def _check_size(self, offsets: Ranges, sizes: Ranges) -> None:
        """Raises a RangeError if a range is not in the object."""
        for number in np.flatnonzero(self._is_beyond(offsets, sizes)).tolist():
            offset, num_bytes = int(offsets[number]), self._identity.num_bytes
            missing = offset + int(sizes[number]) - num_bytes
            raise RangeError(number) from cut_short(offset, missing, num_bytes)

    def read_ranges(
        self, offsets: Ranges, sizes: Ranges, starts: Ranges, target: NDArray[np.uint8]
    ) -> None:
        """Reads them by requests that are sent at once. See `ByteSource.read_ranges`."""
        self._check_size(offsets, sizes)
        begins, ends = plan_requests(offsets, sizes, 0, MAX_OBJECT_BYTES)  # no gaps
        if not len(begins):
            return
        announced: _Announced | None = getattr(self._of_thread, "announced", None)
        needed = slice(0) if announced is None else announced.requests_of(begins, ends)
        try:
            found: list[bytes] | None = None
            if announced is not None and needed is not None:
                with contextlib.suppress(ObjectChangedError):  # reading it anew tells whether it is
                    found = [wait_for(future) for future in announced.futures[needed]]
                    begins = announced.begins[needed]
            if found is None:
                begins, ends = _requests(offsets, sizes)
                found = self._path.read(begins.tolist(), ends.tolist(), self._identity)
        except (VideoFileNotFoundError, ObjectChangedError):
            check_identity(self._path, self._identity)  # says how it changed, or that it is gone
            raise RangeError(0) from RequestError("it changed, and is as it was again")
        except (RequestError, MemoryError) as error:
            raise RangeError(0) from error
        copy_ranges(found, begins, offsets, sizes, starts, target)


def _requests(offsets: Ranges, sizes: Ranges) -> tuple[Ranges, Ranges]:
    """Returns the first byte of the requests for some ranges, and the end of each."""
    gap = min(MAX_GAP_BYTES, max(MIN_GAP_BYTES, int(sizes.mean()) // 2)) if len(sizes) else 0
    return plan_requests(offsets, sizes, gap, MAX_REQUEST_BYTES)
