"""The samples that `repack` reads, in batches, in the form that they are to have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.reading.one_pass import read_once
from h5video_data.storage.system import num_processors
from h5video_data.tools.atomic_file import with_progress
from h5video_data.video_set import VideoSet

from .sample_forms import SampleForm

# Samples are read and written in batches of about this many bytes; of more, up to the second
# number, if a chunk of the source is larger.
BATCH_BYTES = 16 << 20
MAX_BATCH_BYTES = 128 << 20

Batch = list[NDArray[Any]]
"""An array (n, ...) of samples for each dataset."""


@dataclass(frozen=True)
class Reading:
    """How samples are read.

    Attributes:
        read_ahead_bytes: Memory, as for a loader.
        progress: Whether a progress bar is shown.
    """

    read_ahead_bytes: int | None = None
    progress: bool = False


@contextlib.contextmanager
def sample_batches(
    video_set: VideoSet,
    form: SampleForm,
    samples: NDArray[np.int64],
    done: int,
    reading: Reading,
) -> Iterator[Iterable[Batch]]:
    """Reads samples, without the first `done`, by threads that end with the context.

    Each chunk is decoded once, by all threads, and in bounded memory.
    """
    rest, batch_size = samples[done:], batch_size_of(video_set)
    if not len(rest):
        yield ()
        return
    with contextlib.closing(
        read_once(
            video_set,
            rest,
            batch_size=batch_size,
            read_ahead_bytes=reading.read_ahead_bytes,
            num_threads=num_processors(),
        )
    ) as batches:
        yield with_progress(
            (changed(video_set, form, batch) for batch in batches),
            "repacking",
            unit="batch",
            total=-(-len(samples) // batch_size),
            initial=done // batch_size,
            progress=reading.progress,
        )


def changed(
    video_set: VideoSet, form: SampleForm, batch: tuple[NDArray[np.int64], list[NDArray[Any]]]
) -> Batch:
    """Gives the samples of a batch of `read_once` another form."""
    numbers, arrays = batch
    pairs = zip(arrays, video_set.components, strict=True)
    return [form.apply(values, item, int(numbers[0])) for values, item in pairs]


def batch_size_of(video_set: VideoSet) -> int:
    """Returns how many samples to read at once: unless that is too much, those of whole chunks."""
    nbytes = sum(component.row_nbytes for component in video_set.components)
    in_chunk = rows_per_chunk(video_set)
    size = max(1, BATCH_BYTES // nbytes)
    in_chunks = -(-size // in_chunk) * in_chunk
    return in_chunks if in_chunks * nbytes <= MAX_BATCH_BYTES else size


def rows_per_chunk(video_set: VideoSet) -> int:
    """Returns how many samples share a chunk, at most."""
    accesses = [access for component in video_set.components for access in component.accesses]
    return max((a.chunk_rows.num_rows for a in accesses if a.chunk_rows), default=1)
