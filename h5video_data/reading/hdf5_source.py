"""Reads samples by h5py: correct for every dataset that HDF5 can read, and slow.

h5py has one lock for the whole process, so these reads take turns. What positioned reads can have
never comes here.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from h5video_data.sampling.clips import Clip
from h5video_data.storage.descriptors import keep_open, with_free_descriptors
from h5video_data.storage.file_identity import check_identity
from h5video_data.storage.hdf5_files import connect
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.values import Values

from .sample_sources import ReadStats, RowRequest

# HDF5's chunk cache holds the chunks that cross one sample, within these bounds. Without, a chunk
# that holds many samples would be decoded anew for each; HDF5's own default is the lower one.
MIN_CACHE_BYTES = 1 << 20
MAX_CACHE_BYTES = 64 << 20
# A prime, about a hundred times the number of chunks that fit, is what HDF5's manual advises.
CACHE_SLOTS = 100_003

MAX_OPEN_FILES = 64


class Hdf5Files:
    """Keeps datasets open, the least recently used ones up to `MAX_OPEN_FILES`."""

    def __init__(self) -> None:
        # The file stays open for as long as somebody holds the pair.
        self.open = keep_open(_open_dataset, MAX_OPEN_FILES)

    def close(self) -> None:
        """Closes all of them."""
        self.open.cache_clear()


def _open_dataset(stored: StoredArray) -> tuple[Any, Values]:
    file = connect(
        stored.path, rdcc_nbytes=_cache_bytes(stored), rdcc_nslots=CACHE_SLOTS, rdcc_w0=0.0
    )
    check_identity(stored.path, stored.identity, file.id.get_vfd_handle())
    return file, Values(find_dataset(file, stored.name), 0, stored)


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
        _, values = self._files.open(self._stored)
        # HDF5 leaves what was never written as it is if the file says so; h5py starts from zeros.
        rows, out_rows, out = request.rows, request.out_rows, request.out
        out[out_rows] = 0
        firsts = request.first_frames
        if firsts is None or self._clip is None:
            firsts = np.zeros_like(rows)
        order = np.lexsort((firsts, rows))
        rows, out_rows, firsts = rows[order], out_rows[order], firsts[order]
        is_new = np.append(True, (np.diff(rows) != 0) | (np.diff(firsts) != 0))
        wanted, targets = rows[is_new], out_rows[is_new]
        # Rows that follow each other both in the file and in the batch are read as one, but for
        # clips, each of which has frames of its own.
        is_break = (np.diff(wanted) != 1) | (np.diff(targets) != 1) | (self._clip is not None)
        for run in np.split(np.arange(len(wanted)), np.flatnonzero(is_break) + 1):
            row, target, count = int(wanted[run[0]]), int(targets[run[0]]), len(run)
            selection: tuple[slice, ...] = (slice(row, row + count),)
            if self._clip is not None:
                selection += (self._clip.frames(int(firsts[is_new][run[0]])),)
            values.read_into(out[target : target + count], selection)
            stats.num_reads += 1
        values.check_files()
        repeated = ~is_new
        out[out_rows[repeated]] = out[targets[np.cumsum(is_new)[repeated] - 1]]
        stats.read_seconds += time.perf_counter() - begin
        stats.read_bytes += len(wanted) * out[0].nbytes
