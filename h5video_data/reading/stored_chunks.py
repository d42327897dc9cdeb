"""Reads whole chunks and decodes them into their places, many in a call where that can be."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from h5video_data.planning.byte_ranges import ReadPlan
from h5video_data.storage.chunk_runs import decode_run
from h5video_data.storage.filters import decode_chunk, run_codec
from h5video_data.storage.layout import Filter

from .byte_sources import ByteSource, RangeError, StoredRun, read_in_runs
from .read_stats import ReadStats


def decode_chunks(
    source: ByteSource,
    filters: Sequence[Filter],
    plan: ReadPlan,
    chosen: NDArray[np.intp],
    target: NDArray[np.uint8],
    stats: ReadStats,
) -> None:
    """Reads chunks and decodes each into its place.

    Args:
        source: The file.
        filters: The dataset's filter pipeline, none of it `undecodable`.
        plan: Where the chunks are, and where each goes, as many bytes as a chunk has.
        chosen: Integers (n,), n >= 1, which ranges of the plan to read.
        target: uint8 (m,), contiguous. Nothing else of it is written.
        stats: Counts what it cost; belongs to the calling thread.

    Raises:
        RangeError: One of them cannot be read or decoded; its number is that in the plan.
    """
    begin, seconds = time.perf_counter(), 0.0
    for run in read_in_runs(source, plan.offsets, plan.sizes, chosen):
        middle = time.perf_counter()
        _decode(filters, plan, run, target)
        seconds += time.perf_counter() - middle
    stats.decode_seconds += seconds
    stats.read_seconds += time.perf_counter() - begin - seconds
    stats.read_bytes += int(plan.sizes[chosen].sum())
    stats.num_chunks += len(chosen)


def _decode(
    filters: Sequence[Filter], plan: ReadPlan, run: StoredRun, target: NDArray[np.uint8]
) -> None:
    places, masks = plan.starts[run.numbers], plan.masks[run.numbers]
    nbytes = int(plan.stops[run.numbers[0]] - places[0])
    # A chunk to which no filter was applied is copied.
    codec = None if masks.any() else run_codec(filters)
    i = 0
    while i < len(places):
        if codec is not None:
            sizes = run.stops[i:] - run.starts[i:]
            found = decode_run(codec, run.data, run.starts[i:], sizes, target, places[i:], nbytes)
            if not found:  # perhaps none of these is as it should be
                codec = None
            i += found
            continue
        start = int(places[i])
        try:
            decode_chunk(
                filters,
                int(masks[i]),
                run.data[run.starts[i] : run.stops[i]],
                target[start : start + nbytes],
            )
        except (ValueError, MemoryError) as error:
            raise RangeError(int(run.numbers[i])) from error
        i += 1
