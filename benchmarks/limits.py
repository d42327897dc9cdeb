"""What the machine can do: copies, positioned and direct reads, decoding, by all threads.

All give bytes of samples per second, decoded.
"""

from __future__ import annotations

import functools
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from h5video_data.reading.memory_budget import default_read_ahead_bytes
from h5video_data.storage.filters import decode_chunk, undecodable
from h5video_data.storage.layout import describe

from .facts import filter_names
from .files import open_file

# Bytes that one measurement reads or copies at most.
MAX_BYTES = 2 << 30

# What direct reads start at a multiple of.
PAGE = 4096


def buffers_of_a_feed(batch_bytes: int) -> int:
    """How many batches' memory a feed of this package writes to in turn."""
    return max(2, default_read_ahead_bytes(batch_bytes) // batch_bytes)


@dataclass(frozen=True)
class Limit:
    """What a feed of a file is compared with."""

    name: str
    measure: Callable[[], float]


def limit_of(
    path: str,
    order: NDArray[np.int64],
    *,
    batch_size: int,
    num_threads: int,
    num_buffers: int,
    cold: bool = False,
) -> Limit | None:
    """The limit that applies to a file's layout and to the state of the page cache.

    Args:
        path: The file.
        order: int64 (samples,), which samples, in which order.
        batch_size: Samples of a batch.
        num_threads: Threads.
        num_buffers: Batches' buffers that are written to in turn, as by a feed.
        cold: Whether the bytes have to come from the disk.

    Returns:
        The limit; None if the file has filters that only HDF5 undoes.
    """
    with open_file(path) as file:
        stored = describe(file["X"])
        options: dict[str, Any] = {"num_threads": num_threads}
        if stored.obstacle or undecodable(stored.filters):
            return None
        decode = functools.partial(
            decoding, path, num_samples_in_memory=num_buffers * batch_size, **options
        )
        if cold:
            direct = functools.partial(direct_reads, path, order)
            if not stored.filters:
                return Limit("direct reads from the disk", direct)
            return Limit(
                "the slower of direct reads from the disk and decoding",
                lambda: min(direct(), decode()),
            )
        if stored.filters:
            return Limit(f"decoding {filter_names(path)} from memory", decode)
        options |= {"batch_size": batch_size, "num_buffers": num_buffers}
        unit = "samples" if _has_whole_samples(file["X"]) else "whole chunks"
        return Limit(
            f"positioned reads of {unit}",
            functools.partial(positioned_reads, path, order, **options),
        )


def positioned_reads(
    path: str, order: NDArray[np.int64], *, batch_size: int, num_threads: int, num_buffers: int
) -> float:
    """Bytes per second of `os.preadv` into buffers that are used in turn.

    Args:
        path: A file with an unfiltered `X`: whole samples are read if it is contiguous or in chunks
            of one sample, else whole chunks, each once and in random order.
        order: int64 (samples,), which samples, in which order.
        batch_size: Samples of a buffer.
        num_threads: Threads; each fills whole buffers.
        num_buffers: How many buffers there are: the memory that is written to.
    """
    ranges, row_bytes = _ranges(path, order)
    size = max(size for _, size in ranges)
    per_buffer = max(1, batch_size * row_bytes // size)
    buffers = [np.ones(per_buffer * size, np.uint8) for _ in range(num_buffers)]
    num_batches = len(ranges) // per_buffer
    fd = os.open(path, os.O_RDONLY)

    def read(thread: int) -> None:
        for batch in range(thread, num_batches, num_threads):
            view = memoryview(buffers[batch % num_buffers])  # type: ignore[arg-type]
            begin = batch * per_buffer
            for k, (offset, length) in enumerate(ranges[begin : begin + per_buffer]):
                os.preadv(fd, [view[k * size : k * size + length]], offset)

    try:
        seconds = _in_threads(read, num_threads)
    finally:
        os.close(fd)
    return sum(length for _, length in ranges[: num_batches * per_buffer]) / seconds


def direct_reads(path: str, order: NDArray[np.int64], *, num_threads: int = 0) -> float:
    """Bytes of samples per second of direct reads (`O_DIRECT`), past the page cache.

    Args:
        path: The file.
        order: int64 (samples,), which samples, in which order; of a chunked file all chunks.
        num_threads: Reads at once; 0: eight, or two a processor.

    Raises:
        OSError: The file system has no direct reads.
    """
    ranges, row_bytes = _ranges(path, order)
    with open_file(path) as file:
        X = file["X"]
        # Compressed bytes stand for more bytes of samples.
        ratio = len(X) * row_bytes / X.id.get_storage_size()
    total = np.cumsum([size for _, size in ranges])
    ranges = ranges[: max(1, int(np.searchsorted(total, MAX_BYTES)))]
    num_threads = num_threads or max(8, 2 * len(os.sched_getaffinity(0)))
    size = -(-max(size for _, size in ranges) // PAGE) * PAGE + PAGE
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)

    def read(thread: int) -> None:
        with mmap.mmap(-1, size) as buffer, memoryview(buffer) as view:
            for offset, length in ranges[thread::num_threads]:
                first = offset // PAGE * PAGE
                stop = -(-(offset + length) // PAGE) * PAGE
                os.preadv(fd, [view[: stop - first]], first)

    try:
        seconds = _in_threads(read, num_threads)
    finally:
        os.close(fd)
    return float(sum(length for _, length in ranges) * ratio / seconds)


def decoding(
    path: str, *, num_threads: int, num_samples_in_memory: int, max_chunks: int = 512
) -> float:
    """Bytes per second, decoded, of the chunks of a compressed `X` in memory.

    By the codec alone, or for several filters after each other by this package's `decode_chunk`.

    Args:
        path: A file with `X` in compressed chunks.
        num_threads: Threads that decode at once.
        num_samples_in_memory: How many samples' memory is written to in turn, as by a feed.
        max_chunks: How many chunks are decoded.
    """
    with open_file(path) as file:
        X = file["X"]
        filters = describe(X).filters
        row_bytes = int(np.prod(X.shape[1:])) * X.dtype.itemsize
        chunk_bytes = int(np.prod(X.chunks)) * X.dtype.itemsize
        table: list[Any] = []
        X.id.chunk_iter(table.append)
        chosen = table[: max(1, min(max_chunks, MAX_BYTES // chunk_bytes))]
        chunks = [X.id.read_direct_chunk(info.chunk_offset) for info in chosen]
    codec = _CODECS.get(filters[0].id) if len(filters) == 1 else None

    num_places = max(num_threads, num_samples_in_memory * row_bytes // chunk_bytes)
    places = np.ones((num_places, chunk_bytes), np.uint8)

    def work(thread: int) -> None:
        for number in range(thread, len(chunks), num_threads):
            mask, data = chunks[number]
            # Two threads must not write to one place at once.
            place = places[number % (num_places // num_threads * num_threads)]
            if codec is not None and not mask:
                codec(data, out=place)
            else:
                decode_chunk(filters, mask, data, place)

    return float(len(chunks) * chunk_bytes / _in_threads(work, num_threads))


_CODECS: dict[int, Callable[..., object]] = {
    1: imagecodecs.deflate_decode,
    32000: functools.partial(imagecodecs.lzf_decode, header=False),
    32001: functools.partial(imagecodecs.blosc_decode, numthreads=1),
    32004: imagecodecs.lz4h5_decode,
    32015: imagecodecs.zstd_decode,
}


def memory_copy(*, num_threads: int, block_bytes: int = 64 << 20, rounds: int = 8) -> float:
    """Bytes per second of copies from memory to memory, by all threads."""
    pairs = [np.ones((2, block_bytes), np.uint8) for _ in range(num_threads)]

    def copy(thread: int) -> None:
        source, target = pairs[thread]
        for _ in range(rounds):
            np.copyto(target, source)

    return num_threads * rounds * block_bytes / _in_threads(copy, num_threads)


def _has_whole_samples(dataset: Any) -> bool:
    return dataset.chunks is None or dataset.chunks == (1, *dataset.shape[1:])


def _ranges(path: str, order: NDArray[np.int64]) -> tuple[list[tuple[int, int]], int]:
    """(offset, size) of stored bytes in the order they are wanted, and the bytes of a sample."""
    with open_file(path) as file:
        X = file["X"]
        row_bytes = int(np.prod(X.shape[1:])) * X.dtype.itemsize
        if X.chunks is None:
            begin = X.id.get_offset()
            return [(begin + i * row_bytes, row_bytes) for i in order.tolist()], row_bytes
        table: dict[Sequence[int], tuple[int, int]] = {}
        X.id.chunk_iter(
            lambda info: table.update({info.chunk_offset: (info.byte_offset, info.size)})
        )
        if _has_whole_samples(X):
            rest = (0,) * (X.ndim - 1)
            return [table[(i,) + rest] for i in order.tolist()], row_bytes
    ranges = list(table.values())
    return [ranges[i] for i in np.random.default_rng(0).permutation(len(ranges))], row_bytes


def _in_threads(work: Callable[[int], None], num_threads: int) -> float:
    """Seconds until all threads are through; raises what the first of them raised."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(num_threads)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if errors:
        raise errors[0]
    return seconds
