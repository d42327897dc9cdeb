"""Limits of the machine: positioned and direct reads, decoding, by all threads.

All are bytes of samples per second, decoded.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from h5video_data.reading.memory_budget import default_read_ahead_bytes
from h5video_data.storage.chunk_runs import decode_run
from h5video_data.storage.filters import decode_chunk, run_codec, undecodable
from h5video_data.storage.layout import describe

from .contenders import Job
from .facts import filter_names, num_processors, open_file, sample_bytes

# Bytes that one measurement reads, or decodes to, at most.
MAX_BYTES = 2 << 30

# What one measurement decodes at least, if there is as much: more than processors' caches hold.
MIN_CHUNKS = 512
MIN_BYTES = 256 << 20

# Decoded by one call of the helper.
CHUNKS_AT_ONCE = 16

# Direct reads start at a multiple of this.
PAGE = 4096

CODECS: dict[int, Callable[..., object]] = {
    1: imagecodecs.deflate_decode,
    32000: functools.partial(imagecodecs.lzf_decode, header=False),
    32001: functools.partial(imagecodecs.blosc_decode, numthreads=1),
    32004: imagecodecs.lz4h5_decode,
    32015: imagecodecs.zstd_decode,
}


class Limit(NamedTuple):
    """What a file's layout, and the machine, allow."""

    name: str
    """What is done."""
    measure: Callable[[], float]
    """Measures bytes of samples per second."""
    measure_with_reads: Callable[[], float] | None = None
    """The same if chunks that are decoded are read before."""


def limit_of(job: Job, *, cold: bool = False) -> Limit | None:
    """Returns the limit for a file's layout; None: it has filters that only HDF5 undoes."""
    with open_file(job.path) as file:
        X = file["X"]
        stored, names = describe(X), filter_names(X)
        unit = "samples" if X.chunks in (None, (1, *X.shape[1:])) else "whole chunks"
    if stored.obstacle or undecodable(stored.filters):
        return None
    if not cold:
        if stored.filters:
            decode = functools.partial(decoding, job)
            with_reads = functools.partial(decoding, job, with_reads=True)
            return Limit(f"decoding {names} from memory", decode, with_reads)
        return Limit(f"positioned reads of {unit}", functools.partial(reads, job))
    direct = functools.partial(reads, job, direct=True)
    if not stored.filters:
        return Limit("direct reads from the disk", direct)
    name = "the slower of direct reads from the disk and decoding"
    return Limit(name, lambda: min(direct(), decoding(job)))


def _buffer_bytes(job: Job) -> int:
    """As much memory as a feed of this package writes to in turn."""
    batch_bytes = job.batch_bytes
    return (
        max(2, default_read_ahead_bytes(batch_bytes, job.num_threads) // batch_bytes) * batch_bytes
    )


def reads(job: Job, *, direct: bool = False) -> float:
    """Measures positioned reads of an epoch into buffers that are used in turn.

    Whole samples are read if `X` is contiguous or in chunks of one sample, else whole chunks, each
    once and in random order. `direct` reads (`O_DIRECT`) go past the page cache.
    """
    ranges, bytes_per_stored_byte = _ranges(job)
    # More at once than there are processors: the disk has a queue.
    num_threads = max(8, 2 * num_processors()) if direct else job.num_threads
    wanted = [length for _, length in ranges]
    if direct:
        ends = [(offset // PAGE, -(-(offset + size) // PAGE)) for offset, size in ranges]
        ranges = [(first * PAGE, (stop - first) * PAGE) for first, stop in ends]
    size = max(size for _, size in ranges)
    per_buffer = 1 if direct else max(1, job.batch_bytes // size)
    num_reads = min(len(ranges), max(1, MAX_BYTES // size)) // per_buffer
    num_buffers = max(num_threads, _buffer_bytes(job) // (per_buffer * size))
    memory = np.ones(num_buffers * per_buffer * size + PAGE, np.uint8)
    view = memory[-memory.ctypes.data % PAGE :].data
    fd = os.open(job.path, os.O_RDONLY | (os.O_DIRECT if direct else 0))

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


def decoding(job: Job, *, with_reads: bool = False) -> float:
    """Measures the decoding of chunks in memory, into buffers that are used in turn.

    By the codec alone, `CHUNKS_AT_ONCE` in one call where the package's helper does that; or for
    several filters after each other by this package's `decode_chunk`. `with_reads` reads each chunk
    before, which whoever has no copy of them in memory has to.
    """
    num_threads = job.num_threads
    with open_file(job.path) as file:
        X = file["X"]
        filters = describe(X).filters
        chunk_bytes = int(np.prod(X.chunks)) * int(X.dtype.itemsize)
        table: list[Any] = []
        X.id.chunk_iter(table.append)
        count = min(max(MIN_CHUNKS, MIN_BYTES // chunk_bytes), MAX_BYTES // chunk_bytes)
        infos = table[: max(1, count)]
        chunks = [] if with_reads else [X.id.read_direct_chunk(i.chunk_offset)[1] for i in infos]
    is_masked = any(info.filter_mask for info in infos)
    codec = CODECS.get(filters[0].id) if len(filters) == 1 and not is_masked else None
    run = None if is_masked else run_codec(filters)
    runs = [infos[begin : begin + CHUNKS_AT_ONCE] for begin in range(0, len(infos), CHUNKS_AT_ONCE)]
    stored = [
        np.frombuffer(b"".join(chunks[begin : begin + CHUNKS_AT_ONCE]), np.uint8)
        for begin in range(0, len(chunks), CHUNKS_AT_ONCE)
    ]
    # A multiple, so that two threads do not write to one place at once.
    num_places = max(1, _buffer_bytes(job) // chunk_bytes // CHUNKS_AT_ONCE // num_threads)
    places = np.ones((num_places * num_threads, CHUNKS_AT_ONCE, chunk_bytes), np.uint8)
    most = max(sum(info.size for info in some) for some in runs)

    def decode(thread: int, fd: int) -> None:
        memory = np.ones(most, np.uint8)
        for number in range(thread, len(runs), num_threads):
            some, out = runs[number], places[number % len(places)]
            sizes = np.array([info.size for info in some])
            starts = np.cumsum(sizes) - sizes
            data = memory if with_reads else stored[number]
            if with_reads:
                for info, start in zip(some, starts.tolist(), strict=True):
                    os.preadv(fd, [data[start : start + info.size].data], info.byte_offset)
            done = 0
            if run is not None:
                to = chunk_bytes * np.arange(len(some))
                done = decode_run(run, data, starts, sizes, out.reshape(-1), to, chunk_bytes)
            for i in range(done, len(some)):
                info, row = some[i], out[i]
                chunk = data[starts[i] : starts[i] + info.size]
                if codec is not None:
                    codec(chunk, out=row)
                else:
                    decode_chunk(filters, info.filter_mask, chunk, row)

    with open(job.path, "rb") as file:
        work = functools.partial(decode, fd=file.fileno())
        return len(infos) * chunk_bytes / _in_threads(work, num_threads)


def _ranges(job: Job) -> tuple[list[tuple[int, int]], float]:
    """(offset, size) of stored bytes in reading order, and bytes of samples per stored byte."""
    order = job.batches(0).ravel().tolist()
    with open_file(job.path) as file:
        X = file["X"]
        size = sample_bytes(X)
        if X.chunks is None:
            begin = X.id.get_offset()
            return [(begin + i * size, size) for i in order], 1.0
        table: dict[tuple[int, ...], tuple[int, int]] = {}
        X.id.chunk_iter(
            lambda info: table.update({info.chunk_offset: (info.byte_offset, info.size)})
        )
        ratio = len(X) * size / X.id.get_storage_size()
        if X.chunks == (1, *X.shape[1:]):
            rest = (0,) * (X.ndim - 1)
            return [table[(i,) + rest] for i in order], ratio
    ranges = list(table.values())
    np.random.default_rng(0).shuffle(ranges)
    return ranges, ratio


def _in_threads(work: Callable[[int], None], num_threads: int) -> float:
    """Calls a function in each thread with its number; returns the seconds until all are done."""
    with ThreadPoolExecutor(num_threads) as pool:
        begin = time.perf_counter()
        list(pool.map(work, range(num_threads)))  # raises what a thread raised
        return time.perf_counter() - begin
