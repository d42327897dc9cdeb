"""Reads byte ranges of an object of a store or a web server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import VideoFileNotFoundError
from h5video_data.planning.requests import copy_ranges, plan_requests
from h5video_data.storage.file_identity import FileIdentity, check_identity
from h5video_data.storage.os_errors import RequestError
from h5video_data.storage.remote_paths import RemotePath

from .range_errors import RangeError, cut_short

# Not measured yet. What lies between two ranges costs less than another request.
MAX_GAP_BYTES = 256 << 10
# A connection to a store brings some 50 to 100 MB/s: several bring a large range sooner.
MAX_REQUEST_BYTES = 8 << 20

Ranges = NDArray[np.int64]


class RemoteObject:
    """An object that is read by requests. See `byte_sources.ByteSource`."""

    def __init__(self, path: RemotePath, identity: FileIdentity) -> None:
        check_identity(path, identity)
        self._path = path
        self._identity = identity

    def identity(self) -> FileIdentity:
        """Asks the store for the identity that the object has now. See `ByteSource.identity`."""
        return self._path.identity()

    def announce(self, offsets: Ranges, sizes: Ranges) -> None:
        """Does nothing. See `ByteSource.announce`."""

    def read_ranges(
        self, offsets: Ranges, sizes: Ranges, starts: Ranges, target: NDArray[np.uint8]
    ) -> None:
        """Reads them by requests that are sent at once. See `ByteSource.read_ranges`."""
        missing = offsets + sizes - self._identity.num_bytes
        beyond = np.flatnonzero((missing > 0) & (sizes > 0)).tolist()
        if beyond:
            number = beyond[0]
            reason = cut_short(int(offsets[number]), int(missing[number]), self._identity.num_bytes)
            raise RangeError(number) from reason
        begins, ends = plan_requests(offsets, sizes, MAX_GAP_BYTES, MAX_REQUEST_BYTES)
        if not len(begins):
            return
        try:
            found = self._path.read(begins.tolist(), ends.tolist())
        except VideoFileNotFoundError:
            check_identity(self._path, self._identity)  # says that it no longer exists
            raise RangeError(0) from RequestError("it disappeared, and is there again")
        except (RequestError, MemoryError) as error:
            raise RangeError(0) from error
        copy_ranges(found, begins, offsets, sizes, starts, target)
