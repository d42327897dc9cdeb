"""How one contender's turn is measured, and the state of the page cache it is measured in.

Needs NumPy only: other environments, with other releases of TensorFlow, use it as well.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .checks import digests

OnBatch = Callable[[Any, Any], None]

# An epoch is not broken off before this many batches: the first one says nothing of the next.
MIN_BATCHES = 2

# Fewer steps than this say nothing of utilisation: what was read ahead serves them.
MIN_STEPS = 10

# Positions of a file that are asked whether they are in the page cache.
CACHE_PROBES = 200


class Feed:
    """What a contender delivers: epochs of shuffled batches.

    A contender makes one of these, or of a class derived from it.
    """

    def __init__(self, batches: Iterable[Any] | None = None, files: Sequence[str] = ()) -> None:
        """Makes a feed.

        Args:
            batches: Each iteration over it is an epoch of batches (x, y).
            files: What it reads instead of the HDF5 file: its copy.
        """
        self.batches = batches
        self.files = tuple(files)
        self.versions: dict[str, str] | None = None
        """Of the packages where it runs, if that is another process."""

    def start_turn(self) -> None:
        """Forgets what was read ahead in the turn before; outside of the time that is taken."""

    def epoch(self, on_batch: OnBatch) -> None:
        """Goes through an epoch, and calls a function with each batch (x, y)."""
        assert self.batches is not None
        for x, y in self.batches:
            on_batch(x, y)

    def take_turn(self, turn: Turn) -> Result:
        """Measures a turn."""
        return measure_turn(self, turn)


@dataclass(frozen=True)
class Turn:
    """How long a contender runs when it is its turn."""

    min_seconds: float = 0.0
    """Epochs follow each other until this much time has passed."""
    max_seconds: float = 5.0
    """An epoch is broken off at a batch after this much time."""
    step_seconds: float = 0.0
    """How long an emulated accelerator computes on each batch."""
    with_digests: bool = False
    """Whether to compute the checksum of each sample: for one epoch, and not for its time."""


@dataclass
class Result:
    """What a turn gave."""

    seconds: float = 0.0
    """From asking for an epoch's iterator to its last batch, over all epochs. The time to take an
    iterator down is left out."""
    first_batch_seconds: float = 0.0
    """Of the first epoch."""
    num_samples: int = 0
    num_batches: int = 0
    is_whole: bool = True
    """Whether no epoch was broken off."""
    utilisation: float | None = None
    """Compute time over total time, the first step left out; None if there were too few steps."""
    digests: list[int] = field(default_factory=list)


class _BrokenOffError(Exception):
    """Ends an epoch from within."""


def measure_turn(feed: Feed, turn: Turn) -> Result:
    """Measures a contender's turn in this process."""
    result = Result()
    held: list[tuple[Any, Any]] = []
    after_steps: list[float] = []
    feed.start_turn()
    epoch_begin = last = turn_begin = time.perf_counter()

    def on_batch(x: Any, y: Any) -> None:
        nonlocal last
        last = time.perf_counter()
        if not result.num_batches:
            result.first_batch_seconds = last - epoch_begin
        result.num_batches += 1
        result.num_samples += int(x.shape[0])
        if turn.with_digests:
            # One batch late: what was handed over must not be written to any more.
            held.append((x, y))
            if len(held) > 1:
                result.digests += digests(*held.pop(0))
        if turn.step_seconds:
            time.sleep(turn.step_seconds)
            last = time.perf_counter()
            after_steps.append(last)
        if last - turn_begin > turn.max_seconds and result.num_batches >= MIN_BATCHES:
            result.is_whole = False
            raise _BrokenOffError

    while result.is_whole:
        epoch_begin = last = time.perf_counter()
        num_batches = result.num_batches
        with contextlib.suppress(_BrokenOffError):
            feed.epoch(on_batch)
        result.seconds += last - epoch_begin
        if result.num_batches == num_batches:
            raise RuntimeError("an epoch without a batch")
        if turn.with_digests or time.perf_counter() - turn_begin >= turn.min_seconds:
            break
    for batch in held:
        result.digests += digests(*batch)
    if len(after_steps) >= MIN_STEPS:
        compute = turn.step_seconds * (len(after_steps) - 1)
        result.utilisation = compute / (after_steps[-1] - after_steps[0])
    return result


def drop_cache(paths: Iterable[str | Path]) -> None:
    """Asks the operating system to forget what it holds of these files in memory."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            # Pages that were not yet written to the disk stay.
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def warm_cache(path: str) -> None:
    """Reads a file from end to end."""
    with Path(path).open("rb", buffering=0) as file:
        buffer = bytearray(8 << 20)
        while file.readinto(buffer):
            pass


def cached_share(path: str) -> float | None:
    """The share of a file that is in the page cache, by a sample; None: it cannot be told."""
    size = Path(path).stat().st_size
    positions = np.linspace(0, max(0, size - 1), CACHE_PROBES).astype(int)
    fd, buffer, hits = os.open(path, os.O_RDONLY), bytearray(1), 0
    try:
        # Or each look would have the system read on from there, and the next ones find that.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for position in positions.tolist():
            try:
                # Fails at once where it would have to wait for the disk.
                hits += os.preadv(fd, [buffer], position, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError:
                return None
    finally:
        os.close(fd)
    return hits / len(positions)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The median of some values, and half the range of their middle half."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(high - low) / 2
