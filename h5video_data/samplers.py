"""Orders of an epoch: which samples, in which order. Pure NumPy.

An order is a pure function of (seed, epoch), so it can be repeated, resumed, and planned ahead.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.random  # on first use, NumPy would import it while another thread may fork
from numpy.typing import ArrayLike, NDArray

from .arguments import check_whole_number
from .errors import ArgumentError, SamplerError
from .sampling.seeds import earlier_uses as earlier_uses
from .sampling.seeds import sample_seeds as sample_seeds
from .sampling.split_indices import check_not_masked, find_distinct, squeeze_column

__all__ = [
    "BalancedSampler",
    "BlockShuffleSampler",
    "Sampler",
    "SequentialSampler",
    "ShuffleSampler",
    "WeightedSampler",
]

Positions = NDArray[np.int64]


@runtime_checkable
class Sampler(Protocol):
    """Interface of an order of your own, for `shuffle=`.

    `epoch` must return the same array for the same number, in every process, and the same number of
    positions for every epoch. The iterating thread calls it before the epoch begins, while the
    previous epoch is being delivered.
    """

    def epoch(self, epoch: int) -> Positions:
        """Returns the order of an epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            int64 (samples of the epoch,), positions in the loader's `sample_indices`. Positions may
            be repeated or left out.
        """
        ...


class SequentialSampler:
    """Every sample once, in the order of the file.

    Args:
        num_samples: Number of samples.
    """

    def __init__(self, num_samples: int) -> None:
        check_whole_number("num_samples", num_samples, 1)
        self.num_samples = num_samples

    def epoch(self, epoch: int) -> Positions:
        """Returns 0, 1, 2, ... for every epoch."""
        del epoch
        return np.arange(self.num_samples, dtype=np.int64)


class ShuffleSampler:
    """Every sample once, in a new uniform random order each epoch.

    Args:
        num_samples: Number of samples.
        seed: Seed of all the orders, an integer from 0.
    """

    def __init__(self, num_samples: int, *, seed: int) -> None:
        check_whole_number("num_samples", num_samples, 1)
        self.num_samples = num_samples
        self.seed = seed

    def epoch(self, epoch: int) -> Positions:
        """Returns `default_rng([seed, epoch]).permutation(num_samples)`."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)


class BlockShuffleSampler:
    """Every sample once, in random order within a shuffle buffer of a few blocks.

    A block is the samples that share chunks. Each epoch, the blocks are put in a new random order
    and taken `window` at a time; the samples of these blocks are shuffled together. Each chunk is
    then needed only for a short time: it is decoded once an epoch, with memory for `window` blocks.
    In return, a batch has samples of few more than `window` blocks. With all blocks at a time, the
    order is a uniform permutation.

    Args:
        blocks: Integers (samples,), the block of each sample.
        window: Number of blocks whose samples are shuffled together.
        seed: Seed of all the orders, an integer from 0.
    """

    def __init__(self, blocks: ArrayLike, *, window: int, seed: int) -> None:
        _, self._blocks = np.unique(np.asarray(blocks), return_inverse=True)
        if not len(self._blocks):
            raise ArgumentError("`blocks` must have at least one sample. Received: an empty array")
        check_whole_number("window", window, 1)
        self.num_samples = len(self._blocks)
        self.window = window
        self.seed = seed

    @property
    def samples_per_window(self) -> int:
        """Largest number of samples that are shuffled together."""
        return self.window * int(np.bincount(self._blocks).max())

    def epoch(self, epoch: int) -> Positions:
        """Returns the order of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        turns = rng.permutation(self._blocks.max() + 1) // self.window
        shuffled = rng.permutation(self.num_samples)
        # A stable sort keeps the shuffled order of the samples that have their turn together.
        return shuffled[np.argsort(turns[self._blocks[shuffled]], kind="stable")]


class WeightedSampler:
    """Samples drawn with replacement, with given probabilities.

    Args:
        weights: Numbers (samples,), not negative: relative probability of each sample.
        num_samples: Samples of an epoch; None: as many as there are weights.
        seed: Seed of all the draws, an integer from 0.

    Raises:
        ArgumentError: The weights are not of that form, or all zero.
    """

    def __init__(self, weights: ArrayLike, *, num_samples: int | None = None, seed: int) -> None:
        check_not_masked("`weights`", weights)
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1 or not np.isfinite(self.weights).all():
            raise ArgumentError(
                "`weights` must be finite numbers of shape (samples,). "
                f"Received: an array of shape {self.weights.shape}"
            )
        if (self.weights < 0).any() or not self.weights.sum() > 0:
            raise ArgumentError(
                "`weights` must not be negative, nor all zero. "
                f"Received: from {self.weights.min(initial=0)} to {self.weights.max(initial=0)}"
            )
        check_whole_number("num_samples", num_samples, 1, or_none=True)
        self.num_samples = len(self.weights) if num_samples is None else num_samples
        self.seed = seed
        self._bounds = np.cumsum(self.weights)

    def epoch(self, epoch: int) -> Positions:
        """Returns the draws of an epoch; a sample may come several times, also in one batch."""
        draws = np.random.default_rng([self.seed, epoch]).random(self.num_samples)
        # A sample of weight 0 has an empty interval between two bounds. A draw just below 1 may be
        # rounded up to the last bound: it belongs to the last sample with a positive weight.
        found = np.searchsorted(self._bounds, draws * self._bounds[-1], side="right")
        positions: Positions = np.minimum(found, np.flatnonzero(self.weights)[-1])
        return positions


class BalancedSampler(WeightedSampler):
    """Samples drawn with replacement, each class with the same probability.

    Args:
        labels: Labels of the loader's samples, in the order of `sample_indices`: classes (samples,)
            or (samples, 1), numbers or strings, or one-hot labels (samples, classes).
        num_samples: Samples of an epoch; None: as many as there are labels.
        seed: Seed of all the draws, an integer from 0.

    Raises:
        ArgumentError: The labels are not of that form.
    """

    def __init__(self, labels: ArrayLike, *, num_samples: int | None = None, seed: int) -> None:
        classes = squeeze_column(labels)
        is_valid = classes.ndim == 1
        if classes.ndim == 2 and classes.shape[1] and classes.dtype.kind in "biuf":
            # One-hot labels that were smoothed still have one largest value.
            largest = classes == classes.max(axis=1, keepdims=True)
            is_valid = bool((largest.sum(axis=1) == 1).all())
        if not is_valid:
            raise ArgumentError(
                "`labels` must be classes of shape (samples,) or one-hot labels of shape (samples, "
                "classes), one class a sample; for several, compute weights for WeightedSampler. "
                f"Received: {classes.dtype} labels of shape {classes.shape}"
                + (", some rows without one largest value" if classes.ndim == 2 else "")
            )
        if classes.ndim == 2:
            classes = classes.argmax(axis=1)
        numbers, counts = find_distinct(classes, "labels")
        super().__init__(1.0 / counts[numbers], num_samples=num_samples, seed=seed)


def checked_positions(
    sampler: Sampler, epoch: int, num_samples: int, promised: int | None = None
) -> Positions:
    """Returns an epoch's positions from a sampler, checked: `promised` of them, if not None."""
    name = f"{type(sampler).__name__}.epoch({epoch})"
    result = sampler.epoch(epoch)
    try:
        positions = np.asarray(result)
    except ValueError:  # lists of different lengths
        positions = np.asarray(result, object)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise SamplerError(
            f"{name} must return whole numbers of shape (samples,). "
            f"Received: {positions.dtype} of shape {positions.shape}"
        )
    if not positions.size or (promised is not None and positions.size != promised):
        expected = "at least one position"
        if promised is not None:
            expected = f"{promised} positions, as for the first epoch"
        raise SamplerError(f"{name} must return {expected}. Received: {positions.size}")
    if positions.min() < 0 or positions.max() >= num_samples:
        raise SamplerError(
            f"{name} must return positions from 0 to {num_samples - 1}. "
            f"Received: from {positions.min()} to {positions.max()}"
        )
    return positions.astype(np.int64, copy=False)
