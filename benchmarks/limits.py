"""Limits of the machine: positioned and direct reads, decoding, by all threads.

All are bytes of samples per second, decoded.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from h5video_data.reading.memory_budget import default_read_ahead_bytes
from h5video_data.storage.filters import decode_chunk, undecodable
from h5video_data.storage.layout import describe

from .facts import filter_names, num_processors, open_file, sample_bytes

# Bytes that one measurement reads at most, and chunks that it decodes.
MAX_BYTES = 2 << 30
MAX_CHUNKS = 512

# Direct reads start at a multiple of this.
PAGE = 4096

CODECS: dict[int, Callable[..., object]] = {
    1: imagecodecs.deflate_decode,
    32000: functools.partial(imagecodecs.lzf_decode, header=False),
    32001: functools.partial(imagecodecs.blosc_decode, numthreads=1),
    32004: imagecodecs.lz4h5_decode,
    32015: imagecodecs.zstd_decode,
}


@dataclass(frozen=True)
class Limit:
    """What a feed of a file is compared with."""

    name: str
    measure: Callable[[], float]
    """Measures bytes of samples per second."""


def limit_of(
    path: str, batches: NDArray[np.int64], *, num_threads: int, cold: bool = False
) -> Limit | None:
    """Returns the limit that applies to a file's layout and to the state of the page cache.

    Args:
        path: The file.
        batches: int64 (batches, samples of a batch): which samples, in which order.
        num_threads: Threads.
        cold: Whether the bytes have to come from the disk.

    Returns:
        The limit; None if the file has filters that only HDF5 undoes.
    """
    with open_file(path) as file:
        X = file["X"]
        stored, names = describe(X), filter_names(X)
        unit = "samples" if X.chunks in (None, (1, *X.shape[1:])) else "whole chunks"
        # As much memory is written to in turn as by a feed of this package.
        batch_bytes = batches.shape[1] * sample_bytes(X)
        num_bytes = max(2, default_read_ahead_bytes(batch_bytes) // batch_bytes) * batch_bytes
    if stored.obstacle or undecodable(stored.filters):
        return None
    decode = functools.partial(decoding, path, num_threads=num_threads, num_bytes=num_bytes)
    if stored.filters and not cold:
        return Limit(f"decoding {names} from memory", decode)
    read = functools.partial(reads, path, batches, num_bytes=num_bytes)
    if not cold:
        read = functools.partial(read, num_threads=num_threads)
        return Limit(f"positioned reads of {unit}", read)
    # More at once than there are processors: the disk has a queue.
    direct = functools.partial(read, num_threads=max(8, 2 * num_processors()), direct=True)
    if not stored.filters:
        return Limit("direct reads from the disk", direct)
    name = "the slower of direct reads from the disk and decoding"
    return Limit(name, lambda: min(direct(), decode()))


def reads(
    path: str,
    batches: NDArray[np.int64],
    *,
    num_threads: int,
    num_bytes: int,
    direct: bool = False,
) -> float:
    """Measures positioned reads of batches into buffers that are used in turn, `num_bytes` in all.

    Whole samples are read if `X` is contiguous or in chunks of one sample, else whole chunks, each
    once and in random order. `direct` reads (`O_DIRECT`) go past the page cache.

    Raises:
        OSError: The file system has no direct reads.
    """
    ranges, batch_bytes, bytes_per_stored_byte = _ranges(path, batches)
    wanted = [length for _, length in ranges]
    if direct:
        ends = [(offset // PAGE, -(-(offset + size) // PAGE)) for offset, size in ranges]
        ranges = [(first * PAGE, (stop - first) * PAGE) for first, stop in ends]
    size = max(size for _, size in ranges)
    per_buffer = 1 if direct else max(1, batch_bytes // size)
    num_reads = min(len(ranges), max(1, MAX_BYTES // size)) // per_buffer
    num_buffers = max(num_threads, num_bytes // (per_buffer * size))
    memory = np.ones(num_buffers * per_buffer * size + PAGE, np.uint8)
    view = memory[-memory.ctypes.data % PAGE :].data
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))

    def read(thread: int) -> None:
        for number in range(thread, num_reads, num_threads):
            begin, at = number * per_buffer, number % num_buffers * per_buffer * size
            for offset, length in ranges[begin : begin + per_buffer]:
                os.preadv(fd, [view[at : at + length]], offset)
                at += size

    try:
        seconds = _in_threads(read, num_threads)
    finally:
        os.close(fd)
    return sum(wanted[: num_reads * per_buffer]) * bytes_per_stored_byte / seconds


def decoding(path: str, *, num_threads: int, num_bytes: int) -> float:
    """Measures the decoding of chunks in memory, into `num_bytes` that are written to in turn.

    By the codec alone, or for several filters after each other by this package's `decode_chunk`.
    """
    with open_file(path) as file:
        X = file["X"]
        filters = describe(X).filters
        chunk_bytes = int(np.prod(X.chunks)) * int(X.dtype.itemsize)
        table: list[Any] = []
        X.id.chunk_iter(table.append)
        chosen = table[: max(1, min(MAX_CHUNKS, MAX_BYTES // chunk_bytes))]
        chunks = [X.id.read_direct_chunk(info.chunk_offset) for info in chosen]
    codec = CODECS.get(filters[0].id) if len(filters) == 1 else None
    # A multiple, so that two threads do not write to one row at once.
    num_rows = max(1, num_bytes // chunk_bytes // num_threads) * num_threads
    rows = np.ones((num_rows, chunk_bytes), np.uint8)

    def work(thread: int) -> None:
        for number in range(thread, len(chunks), num_threads):
            mask, data = chunks[number]
            if codec is not None and not mask:
                codec(data, out=rows[number % num_rows])
            else:
                decode_chunk(filters, mask, data, rows[number % num_rows])

    return len(chunks) * chunk_bytes / _in_threads(work, num_threads)


def _ranges(path: str, batches: NDArray[np.int64]) -> tuple[list[tuple[int, int]], int, float]:
    """(offset, size) of stored bytes in reading order, batch bytes, bytes per stored byte."""
    order = batches.ravel().tolist()
    with open_file(path) as file:
        X = file["X"]
        size = sample_bytes(X)
        batch_bytes = batches.shape[1] * size
        if X.chunks is None:
            begin = X.id.get_offset()
            return [(begin + i * size, size) for i in order], batch_bytes, 1.0
        table: dict[tuple[int, ...], tuple[int, int]] = {}
        X.id.chunk_iter(
            lambda info: table.update({info.chunk_offset: (info.byte_offset, info.size)})
        )
        ratio = len(X) * size / X.id.get_storage_size()
        if X.chunks == (1, *X.shape[1:]):
            rest = (0,) * (X.ndim - 1)
            return [table[(i,) + rest] for i in order], batch_bytes, ratio
    ranges = list(table.values())
    order = np.random.default_rng(0).permutation(len(ranges)).tolist()
    return [ranges[i] for i in order], batch_bytes, ratio


def _in_threads(work: Callable[[int], None], num_threads: int) -> float:
    """Calls a function in each thread with its number; returns the seconds until all are done."""
    with ThreadPoolExecutor(num_threads) as pool:
        begin = time.perf_counter()
        list(pool.map(work, range(num_threads)))  # raises what a thread raised
        return time.perf_counter() - begin
