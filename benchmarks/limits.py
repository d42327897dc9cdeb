"""Limits of the machine: positioned and direct reads, decoding, by all threads.

All are bytes of samples per second, decoded.
"""

from __future__ import annotations

import functools
import mmap
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
    direct = functools.partial(direct_reads, path, batches)
    if stored.filters and cold:
        name = "the slower of direct reads from the disk and decoding"
        return Limit(name, lambda: min(direct(), decode()))
    if stored.filters:
        return Limit(f"decoding {names} from memory", decode)
    if cold:
        return Limit("direct reads from the disk", direct)
    read = functools.partial(
        positioned_reads, path, batches, num_threads=num_threads, num_bytes=num_bytes
    )
    return Limit(f"positioned reads of {unit}", read)


def positioned_reads(
    path: str, batches: NDArray[np.int64], *, num_threads: int, num_bytes: int
) -> float:
    """Measures `os.preadv` of batches into buffers that are used in turn, `num_bytes` in all.

    Whole samples are read if `X` is contiguous or in chunks of one sample, else whole chunks, each
    once and in random order.
    """
    ranges, batch_bytes, _ = _ranges(path, batches)
    size = max(size for _, size in ranges)
    per_buffer = max(1, batch_bytes // size)
    buffers = np.ones((max(2, num_bytes // (per_buffer * size)), per_buffer * size), np.uint8)
    num_reads = len(ranges) // per_buffer

    def read(fd: int, thread: int) -> None:
        for number in range(thread, num_reads, num_threads):
            view = memoryview(buffers[number % len(buffers)])
            begin = number * per_buffer
            for k, (offset, length) in enumerate(ranges[begin : begin + per_buffer]):
                os.preadv(fd, [view[k * size : k * size + length]], offset)

    seconds = _with_file(path, os.O_RDONLY, read, num_threads)
    return sum(length for _, length in ranges[: num_reads * per_buffer]) / seconds


def direct_reads(path: str, batches: NDArray[np.int64]) -> float:
    """Measures direct reads (`O_DIRECT`), past the page cache, eight or more at once.

    Raises:
        OSError: The file system has no direct reads.
    """
    ranges, _, bytes_per_stored_byte = _ranges(path, batches)
    total = np.cumsum([size for _, size in ranges])
    ranges = ranges[: max(1, int(np.searchsorted(total, MAX_BYTES)))]
    num_threads = max(8, 2 * num_processors())
    size = -(-max(size for _, size in ranges) // PAGE) * PAGE + PAGE

    def read(fd: int, thread: int) -> None:
        with mmap.mmap(-1, size) as buffer, memoryview(buffer) as view:
            for offset, length in ranges[thread::num_threads]:
                first = offset // PAGE * PAGE
                stop = -(-(offset + length) // PAGE) * PAGE
                os.preadv(fd, [view[: stop - first]], first)

    seconds = _with_file(path, os.O_RDONLY | os.O_DIRECT, read, num_threads)
    return sum(length for _, length in ranges) * bytes_per_stored_byte / seconds


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


def _with_file(path: str, flags: int, work: Callable[[int, int], None], num_threads: int) -> float:
    fd = os.open(path, flags)
    try:
        return _in_threads(functools.partial(work, fd), num_threads)
    finally:
        os.close(fd)


def _in_threads(work: Callable[[int], None], num_threads: int) -> float:
    """Calls a function in each thread with its number; returns the seconds until all are done."""
    with ThreadPoolExecutor(num_threads) as pool:
        begin = time.perf_counter()
        list(pool.map(work, range(num_threads)))  # raises what a thread raised
        return time.perf_counter() - begin
