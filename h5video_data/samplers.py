"""The order of an epoch: which samples, in which order. Pure NumPy.

An order is a pure function of (seed, epoch), so that it can be repeated, resumed, and known ahead.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, SamplerError
from .sampling.split_indices import as_column, distinct

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
    """What `shuffle=` takes for an order of your own.

    `epoch` must return the same array whenever it is called with the same number, in every process,
    and the same number of positions for every epoch. It is called from the thread that iterates,
    before the epoch begins: when the one before draws to its end.
    """

    def epoch(self, epoch: int) -> Positions:
        """The positions in the loader's `sample_indices` of an epoch's samples, in order.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            int64 (samples of the epoch,); positions may repeat, and may be left out.
        """
        ...


class SequentialSampler:
    """Every sample once, in the order of the file.

    Args:
        num_samples: Number of samples.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = _positive("num_samples", num_samples)

    def epoch(self, epoch: int) -> Positions:
        """0, 1, 2, ... in every epoch."""
        del epoch
        return np.arange(self.num_samples, dtype=np.int64)


class ShuffleSampler:
    """Every sample once, in an order drawn anew each epoch: a uniform permutation.

    Args:
        num_samples: Number of samples.
        seed: Seed of all the orders, a whole number from 0.
    """

    def __init__(self, num_samples: int, *, seed: int) -> None:
        self.num_samples = _positive("num_samples", num_samples)
        self.seed = seed

    def epoch(self, epoch: int) -> Positions:
        """The permutation of an epoch: `default_rng([seed, epoch]).permutation(num_samples)`."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)


class BlockShuffleSampler:
    """Every sample once; blocks in an order drawn anew each epoch, and mixed in windows.

    A block is the samples that share their chunks. The blocks are shuffled, cut into windows of
    some blocks, and the samples of each window are shuffled. So a chunk is needed only while its
    window lasts, and is decoded once an epoch with memory for one window; but a batch holds samples
    of few more blocks than a window has. A window of all blocks is a uniform permutation.

    Args:
        blocks: Whole numbers (samples,), the block of each sample.
        window: Blocks of a window.
        seed: Seed of all the orders, a whole number from 0.
    """

    def __init__(self, blocks: Any, *, window: int, seed: int) -> None:
        _, self._blocks = np.unique(np.asarray(blocks), return_inverse=True)
        self.num_samples = _positive("len(blocks)", len(self._blocks))
        self.window = _positive("window", window)
        self.seed = seed

    @property
    def samples_per_window(self) -> int:
        """Samples of a window at the most."""
        return self.window * int(np.bincount(self._blocks).max())

    def epoch(self, epoch: int) -> Positions:
        """The order of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        windows = rng.permutation(self._blocks.max() + 1) // self.window
        shuffled = rng.permutation(self.num_samples)
        # Sorting by window is stable, so that the order inside of each stays the shuffled one.
        return shuffled[np.argsort(windows[self._blocks[shuffled]], kind="stable")]


class WeightedSampler:
    """Samples drawn with replacement, each as often as its weight says.

    Args:
        weights: (samples,), how much more often than others a sample is drawn; not negative.
        num_samples: Samples of an epoch; None: as many as there are weights.
        seed: Seed of all the draws, a whole number from 0.

    Raises:
        ArgumentError: The weights are no such list, or all zero.
    """

    def __init__(self, weights: Any, *, num_samples: int | None = None, seed: int) -> None:
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1 or not np.isfinite(self.weights).all():
            raise ArgumentError(
                f"`weights` must be a list of finite numbers. Received: shape {self.weights.shape}"
            )
        if (self.weights < 0).any() or not self.weights.sum() > 0:
            raise ArgumentError(
                "`weights` must not be negative, nor all zero. "
                f"Received: from {self.weights.min(initial=0)} to {self.weights.max(initial=0)}"
            )
        self.num_samples = _positive(
            "num_samples", len(self.weights) if num_samples is None else num_samples
        )
        self.seed = seed
        self._bounds = np.cumsum(self.weights)

    def epoch(self, epoch: int) -> Positions:
        """The draws of an epoch; the same sample may come several times, in one batch too."""
        draws = np.random.default_rng([self.seed, epoch]).random(self.num_samples)
        # A sample of weight 0 has no room between two bounds. A draw just below 1 may be rounded up
        # to the last bound: it belongs to the last sample that has any room.
        found = np.searchsorted(self._bounds, draws * self._bounds[-1], side="right")
        positions: Positions = np.minimum(found, np.flatnonzero(self.weights)[-1])
        return positions


class BalancedSampler(WeightedSampler):
    """Samples drawn with replacement so that all classes come equally often.

    Args:
        labels: Classes (samples,) or (samples, 1), numbers or strings, or one-hot labels (samples,
            classes) of the loader's samples, in the order of `sample_indices`.
        num_samples: Samples of an epoch; None: as many as there are labels.
        seed: Seed of all the draws, a whole number from 0.

    Raises:
        ArgumentError: The labels are no such thing.
    """

    def __init__(self, labels: Any, *, num_samples: int | None = None, seed: int) -> None:
        labels = as_column(labels)
        is_valid = labels.ndim == 1
        if labels.ndim == 2 and labels.shape[1] and labels.dtype.kind in "biuf":
            # One-hot labels that were smoothed still have one largest value.
            largest = labels == labels.max(axis=1, keepdims=True)
            is_valid = bool((largest.sum(axis=1) == 1).all())
        if not is_valid:
            raise ArgumentError(
                "`labels` must be classes of shape (samples,) or one-hot labels of shape (samples, "
                "classes), one class a sample; for several, compute weights for WeightedSampler. "
                f"Received: {labels.dtype} labels of shape {labels.shape}"
                + (", some rows without one largest value" if labels.ndim == 2 else "")
            )
        if labels.ndim == 2:
            labels = labels.argmax(axis=1)
        numbers, counts = distinct(labels, "labels")
        super().__init__(1.0 / counts[numbers], num_samples=num_samples, seed=seed)


def checked_positions(
    sampler: Sampler, epoch: int, num_samples: int, promised: int | None = None
) -> Positions:
    """An epoch's positions from a sampler, or an error that says what is wrong with them.

    Args:
        sampler: The sampler.
        epoch: Number of the epoch.
        num_samples: Positions must be below this.
        promised: How many there must be; None: any number but 0.

    Raises:
        SamplerError: They are not valid.
    """
    name = f"{type(sampler).__name__}.epoch({epoch})"
    result = sampler.epoch(epoch)
    try:
        positions = np.asarray(result)
    except ValueError:  # lists of different lengths
        positions = np.asarray(result, object)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise SamplerError(
            f"{name} should return whole numbers of shape (samples,). "
            f"Received: {positions.dtype} of shape {positions.shape}"
        )
    if not positions.size or (promised is not None and positions.size != promised):
        raise SamplerError(
            f"{name} should return {'at least one position' if promised is None else promised}"
            f"{'' if promised is None else ' positions, as for the first epoch'}. "
            f"Received: {positions.size}"
        )
    if positions.min() < 0 or positions.max() >= num_samples:
        raise SamplerError(
            f"{name} should return positions from 0 to {num_samples - 1}. "
            f"Received: from {positions.min()} to {positions.max()}"
        )
    return positions.astype(np.int64, copy=False)


def earlier_uses(order: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """How often the sample at each place of an epoch came before in it.

    Args:
        order: int64 (n,), the epoch's samples in the order of their use, n >= 1.

    Returns:
        int64 (n,), 0 where a sample comes first; None if no sample comes twice.
    """
    if np.bincount(order).max() == 1:
        return None
    by_sample = np.argsort(order, kind="stable")
    places = np.arange(len(order))
    is_first = np.append(True, np.diff(order[by_sample]) != 0)
    first = np.maximum.accumulate(np.where(is_first, places, 0))
    earlier = np.empty(len(order), np.int64)
    earlier[by_sample] = places - first
    return earlier


def sample_seeds(
    seed: int, epoch: int, indices: NDArray[np.int64], earlier: NDArray[np.int64] | None = None
) -> NDArray[np.int32]:
    """Seeds for random map functions, which depend on (seed, epoch, sample, earlier uses) alone.

    Args:
        seed: The loader's seed.
        epoch: Number of the epoch.
        indices: int64 (n,), sample numbers.
        earlier: int64 (n,), how often each came before in the epoch; None: none did.

    Returns:
        int32 (n, 2), as `tf.random.stateless_*` takes them.
    """
    bits = sample_hash(seed, epoch, indices, earlier, purpose=0x5EED)
    seeds: NDArray[np.int32] = bits.view(np.int32)
    return seeds.reshape(-1, 2)


def sample_hash(
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
    earlier: NDArray[np.int64] | None = None,
    *,
    purpose: int,
) -> NDArray[np.uint64]:
    """Random bits that depend on (seed, epoch, sample, earlier uses) alone.

    The sample's number goes through the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", 2014), from a start that is drawn for the epoch.

    Args:
        seed: The loader's seed.
        epoch: Number of the epoch.
        indices: int64 (n,), sample numbers.
        earlier: int64 (n,), how often each came before in the epoch; None: none did.
        purpose: What the bits are for: those for another purpose are independent of them.

    Returns:
        uint64 (n,).
    """
    words = np.random.SeedSequence([seed, epoch, purpose]).generate_state(3, np.uint64)
    start, step, step_again = words
    with np.errstate(over="ignore"):
        # The step is odd, so that different samples stay different.
        value = start + indices.astype(np.uint64) * (step | np.uint64(1))
        if earlier is not None:
            value = value + earlier.astype(np.uint64) * (step_again | np.uint64(1))
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    bits: NDArray[np.uint64] = value
    return bits


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ArgumentError(f"`{name}` must be at least 1. Received: {value}")
    return value
