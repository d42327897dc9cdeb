"""This package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.files import open_file
from benchmarks.measure import Feed

from . import Job


class LoaderFeed(Feed):
    """A `VideoLoader`'s dataset."""

    def __init__(self, job: Job, shuffle: Any, **options: Any) -> None:
        """Makes the loader and its dataset.

        Args:
            job: What is to be fed.
            shuffle: As `VideoLoader` takes it.
            **options: More of its arguments.
        """
        from h5video_data import VideoLoader, samplers

        with open_file(job.path) as file:
            num_stored = int(file.attrs.get("sample_count", len(file["X"])))
        self.loader = VideoLoader(
            job.path,
            batch_size=job.batch_size,
            shuffle=shuffle
            if job.num_samples == num_stored
            # The first samples of a file, in the order that `shuffle="exact"` would have.
            else samplers.ShuffleSampler(job.num_samples, seed=job.seed),
            seed=job.seed,
            drop_remainder=True,
            num_threads=job.num_threads,
            **options,
        )
        super().__init__(self.loader.dataset())
        self._turn = 0

    def start_turn(self) -> None:
        """Jumps to another epoch than the one whose first batches were read ahead."""
        self._turn += 1
        self.loader.set_epoch(1_000_000 * self._turn)


def why_not(job: Job, variant: str) -> str | None:
    """Blocks are for files whose chunks hold many samples."""
    if variant == "exact":
        return None
    with open_file(job.path) as file:
        X = file["X"]
        if X.chunks is None or X.chunks[0] == 1 or job.num_samples < len(X):
            return "for files whose chunks hold many samples, all of which take part"
    return None


@contextmanager
def open_feed(job: Job, variant: str) -> Iterator[Feed]:
    """Opens the file with `VideoLoader`."""
    feed = LoaderFeed(job, variant)
    with feed.loader:
        yield feed
