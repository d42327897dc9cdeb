"""The plain generator of the original example, in `from_generator`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.facts import open_file
from benchmarks.measure import Feed
from benchmarks.plain_generator import generate_training_sequences

from .base import Contender, Job, from_generator


@contextmanager
def open_feed(job: Job, *, prefetch: bool) -> Iterator[Feed]:
    """Opens the file, draws one order, as the original does, and generates from it."""
    with open_file(job.path) as file:
        order = job.batches(0).ravel().tolist()
        generate = functools.partial(generate_training_sequences, job.batch_size, file, order)
        yield Feed(from_generator(job, generate, prefetch=prefetch))


bare, prefetching = (functools.partial(open_feed, prefetch=prefetch) for prefetch in (False, True))
CONTENDERS = {
    "plain": Contender(bare, "from_generator, no prefetch"),
    "plain-prefetch": Contender(prefetching, "from_generator, prefetch(AUTOTUNE)"),
}
