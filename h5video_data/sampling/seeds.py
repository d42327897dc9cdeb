"""Random bits of each use of a sample: for random map functions and random clips.

They depend on (seed, epoch, sample, earlier uses of it in the epoch) alone, so they do not change
with the batch size, the number of threads or workers, or after a resumed run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def earlier_uses(order: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Counts, at each place of an epoch, how often its sample came before in the epoch.

    Returns:
        int64 (n,), for `order`, int64 (n,) with n >= 1; None if no sample comes twice.
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
    """Returns seeds for random map functions, int32 (n, 2), as `tf.random.stateless_*` takes.

    The arguments are those of `sample_hash`.
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
    """Returns 64 random bits for each sample.

    The sample number goes through the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", 2014), from a start value drawn for the epoch.

    `indices`, int64 (n,), are sample numbers, and `earlier`, int64 (n,), the earlier uses of each
    in the epoch; None: none. Bits for different purposes are independent of each other.

    Returns:
        uint64 (n,).
    """
    words = np.random.SeedSequence([seed, epoch, purpose]).generate_state(3, np.uint64)
    start, step, step_again = words
    with np.errstate(over="ignore"):
        # Odd steps are invertible modulo 2^64: different samples have different values.
        value = start + indices.astype(np.uint64) * (step | np.uint64(1))
        if earlier is not None:
            value = value + earlier.astype(np.uint64) * (step_again | np.uint64(1))
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    bits: NDArray[np.uint64] = value
    return bits
