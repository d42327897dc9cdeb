"""This package."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.facts import open_file
from benchmarks.measure import Feed

from .base import Contender, Job, SkippedError


class LoaderFeed(Feed):
    """The dataset of a `VideoLoader`, which is given more arguments as `options`."""

    def __init__(self, job: Job, shuffle: Any = True, **options: Any) -> None:
        from h5video_data import VideoLoader, samplers

        with open_file(job.path) as file:
            is_whole = job.num_samples == int(file.attrs.get("sample_count", len(file["X"])))
        # The first samples of a file, in the order that `shuffle="exact"` would have.
        sampler = samplers.ShuffleSampler(job.num_samples, seed=0)
        self.loader = VideoLoader(
            job.path,
            batch_size=job.batch_size,
            shuffle=shuffle if is_whole else sampler,
            seed=0,
            drop_remainder=True,
            num_threads=job.num_threads,
            **options,
        )
        super().__init__(self.loader.dataset())
        self._turn = 0

    def start_turn(self) -> None:
        """Moves to another epoch than the one whose first batches were prefetched."""
        self._turn += 1
        self.loader.set_epoch(1_000_000 * self._turn)


@contextmanager
def open_feed(job: Job, shuffle: str) -> Iterator[Feed]:
    """Opens the file with `VideoLoader`."""
    with open_file(job.path) as file:
        chunks, is_part = file["X"].chunks, job.num_samples < len(file["X"])
    if shuffle == "blocks" and (chunks is None or chunks[0] == 1 or is_part):
        raise SkippedError("for files whose chunks hold many samples, all of which take part")
    feed = LoaderFeed(job, shuffle)
    with feed.loader:
        yield feed


CONTENDERS = {
    "h5video_data": Contender(functools.partial(open_feed, shuffle="exact")),
    "h5video_data-blocks": Contender(functools.partial(open_feed, shuffle="blocks")),
}
