"""Measures feeds: timed turns of whole epochs, in turns with other feeds.

Needs NumPy only: it also runs in the environment of tensorflow-io.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from .checks import digests

T = TypeVar("T")

OnBatch = Callable[[Any, Any], None]

# An epoch is not stopped before this many batches: the first one says nothing about the next.
MIN_BATCHES = 2

# Fewer steps than this say nothing about utilisation: they are served by prefetched batches.
MIN_STEPS = 10

# How long a feed is drained in a turn.
DRAINED_SECONDS = 3.0


@dataclass(frozen=True)
class Turn:
    """How long a feed runs in one turn."""

    min_seconds: float = 0.0  # epochs follow each other until then
    max_seconds: float = 5.0  # an epoch is stopped at a batch after it
    step_seconds: float = 0.0  # how long an emulated accelerator computes on each batch
    with_digests: bool = False  # one epoch with the checksum of each sample; its time says nothing


@dataclass
class Result:
    """Figures of one turn."""

    # From asking for an epoch's iterator to its last batch, over all epochs.
    seconds: float = 0.0
    first_batch_seconds: float = 0.0  # of the first epoch
    num_samples: int = 0
    num_batches: int = 0
    is_whole: bool = True  # no epoch was stopped early
    # Compute time over total time, the first step left out; None: too few steps.
    utilisation: float | None = None
    digests: list[int] = field(default_factory=list)


class _StoppedError(Exception):
    """Ends an epoch from within."""


class Feed:
    """Epochs of shuffled batches; a contender makes one, or an object of a derived class.

    Args:
        batches: Each iteration over it is an epoch of batches (x, y).
        files: Files that are read instead of the HDF5 file.
    """

    def __init__(self, batches: Iterable[Any] | None = None, files: Sequence[str] = ()) -> None:
        self.batches = batches
        self.files = list(files)

    def start_turn(self) -> None:
        """Drops what was prefetched in the turn before; not timed."""

    def epoch(self, on_batch: OnBatch) -> None:
        """Iterates over an epoch, and calls a function with each batch (x, y)."""
        assert self.batches is not None
        for x, y in self.batches:
            on_batch(x, y)

    def take_turn(self, turn: Turn) -> Result:
        """Measures a turn."""
        result = Result()
        held: list[tuple[Any, Any]] = []
        after_steps: list[float] = []
        self.start_turn()
        epoch_begin = last = turn_begin = time.perf_counter()

        def on_batch(x: Any, y: Any) -> None:
            nonlocal last
            last = time.perf_counter()
            if not result.num_batches:
                result.first_batch_seconds = last - epoch_begin
            result.num_batches += 1
            result.num_samples += int(x.shape[0])
            if turn.with_digests:
                # One batch late, which finds out buffers that are written to again.
                held.append((x, y))
                if len(held) > 1:
                    result.digests += digests(*held.pop(0))
            if turn.step_seconds:
                time.sleep(turn.step_seconds)
                last = time.perf_counter()
                after_steps.append(last)
            if last - turn_begin > turn.max_seconds and result.num_batches >= MIN_BATCHES:
                result.is_whole = False
                raise _StoppedError

        while result.is_whole:
            epoch_begin = last = time.perf_counter()
            num_batches = result.num_batches
            with contextlib.suppress(_StoppedError):
                self.epoch(on_batch)
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


def drain(batches: Iterable[Any]) -> float:
    """Returns the bytes per second of batches, arrays of NumPy or tensors of torch."""
    begin, num_bytes = time.perf_counter(), 0
    for batch in batches:
        num_bytes += int(batch.nbytes if isinstance(batch, np.ndarray) else batch.numel())
        if time.perf_counter() - begin > DRAINED_SECONDS:
            break
    return num_bytes / (time.perf_counter() - begin)


def drain_epochs(dataset: Iterable[Any], batch_bytes: int) -> float:
    """Returns the bytes per second of whole epochs, each from `iter()` on, as `fit` runs them."""
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < DRAINED_SECONDS:
        steps += sum(1 for _ in dataset)
    return steps * batch_bytes / (time.perf_counter() - begin)


def in_turns(
    measures: Mapping[str, Callable[[], T]],
    rounds: int,
    *,
    warm_up: bool = True,
    failed: Callable[[str, Exception], None] | None = None,
) -> dict[str, list[T]]:
    """Calls functions in turns, forwards and backwards, so that none follows the same one.

    One that raises is left out from then on, and `failed` is told its name and the error.
    """
    found: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(rounds + warm_up):
        for name in list(found)[:: -1 if number % 2 else 1]:
            try:
                found[name].append(measures[name]())
            except Exception as error:
                if failed is None:
                    raise
                failed(name, error)
                del found[name]
    return {name: values[warm_up:] for name, values in found.items()}


def spread(values: Any) -> tuple[float, float]:
    """Returns the median of some values, and half the range of their middle half."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(high - low) / 2
