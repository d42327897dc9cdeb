"""The plain generator of the original example, in `from_generator`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.files import open_file
from benchmarks.measure import Feed
from benchmarks.plain_generator import generate_training_sequences

from . import Job
from ._tensorflow import from_generator


@contextmanager
def open_feed(job: Job, variant: str) -> Iterator[Feed]:
    """Opens the file, draws one order, as the original does, and generates from it."""
    with open_file(job.path) as file:
        order = job.order(0).tolist()
        yield Feed(
            from_generator(
                job,
                lambda: generate_training_sequences(job.batch_size, file, order),
                prefetch=variant == "prefetch",
            )
        )
