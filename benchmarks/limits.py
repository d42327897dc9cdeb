"""What the machine can do: positioned reads, and decoding from memory, by all threads."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable

import h5py
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .video_set import SAMPLE_SHAPE

SAMPLE_BYTES = int(np.prod(SAMPLE_SHAPE))


def positioned_reads(
    path: str, order: NDArray[np.int64], *, batch_size: int, num_threads: int, num_buffers: int
) -> float:
    """Bytes per second of `os.preadv` of samples, in an order, into buffers that are used in turn.

    Args:
        path: A file with a contiguous `X`, or with unfiltered chunks of one sample.
        order: int64 (samples,), which samples, in which order.
        batch_size: Samples of a buffer.
        num_threads: Threads; each fills whole buffers.
        num_buffers: How many buffers there are: the memory that is written to.
    """
    with h5py.File(path, "r") as file:
        X = file["X"]
        if X.chunks is None:
            offsets = [X.id.get_offset() + i * SAMPLE_BYTES for i in order.tolist()]
        else:
            table = {}
            X.id.chunk_iter(lambda info: table.update({info.chunk_offset[0]: info.byte_offset}))
            offsets = [table[i] for i in order.tolist()]
    buffers = [np.ones(batch_size * SAMPLE_BYTES, np.uint8) for _ in range(num_buffers)]
    fd = os.open(path, os.O_RDONLY)

    def read(thread: int) -> None:
        for batch in range(thread, len(offsets) // batch_size, num_threads):
            view = memoryview(buffers[batch % num_buffers])  # type: ignore[arg-type]
            for k, offset in enumerate(offsets[batch * batch_size : (batch + 1) * batch_size]):
                os.preadv(fd, [view[k * SAMPLE_BYTES : (k + 1) * SAMPLE_BYTES]], offset)

    seconds = _in_threads(read, num_threads)
    os.close(fd)
    return len(offsets) // batch_size * batch_size * SAMPLE_BYTES / seconds


def decoding(
    path: str, *, num_threads: int, num_samples_in_memory: int, max_chunks: int = 512
) -> float:
    """Bytes per second, decoded, of the chunks of a compressed `X` in memory, by the codec alone.

    Args:
        path: A file with `X` in compressed chunks of one sample.
        num_threads: Threads that decode at once.
        num_samples_in_memory: How many samples' memory is written to in turn, as by a feed.
        max_chunks: How many chunks are decoded.
    """
    with h5py.File(path, "r") as file:
        X = file["X"]
        decode: Callable[..., object] = {
            "gzip": imagecodecs.deflate_decode,
            "lzf": functools.partial(imagecodecs.lzf_decode, header=False),
        }[X.compression]
        num_chunks = min(len(X), max_chunks)
        chunks = [X.id.read_direct_chunk((i, 0, 0, 0, 0))[1] for i in range(num_chunks)]

    places = np.ones((num_samples_in_memory, SAMPLE_BYTES), np.uint8)

    def work(thread: int) -> None:
        for number in range(thread, num_chunks, num_threads):
            decode(chunks[number], out=places[number % num_samples_in_memory])

    return num_chunks * SAMPLE_BYTES / _in_threads(work, num_threads)


def _in_threads(work: Callable[[int], None], num_threads: int) -> float:
    """Seconds until all threads are through."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(num_threads)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin
