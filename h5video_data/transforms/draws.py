"""Random numbers for each sample of a batch, from `seeds`, int32 (batch, 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Bisection to 2**-32, which is finer than the uniform numbers are.
_BISECTIONS = 32


def random_bits(seeds: tf.Tensor, draw: int | Sequence[int]) -> tf.Tensor:
    """Returns 32 random bits for each sample, as int64 from 0 to 2**32 - 1.

    `tf.random.stateless_uniform` takes one seed a call, not one a sample. So the seeds are mixed
    here, by the finalizer of MurmurHash3 (fmix32), in the low half of 64-bit integers.

    `draw` is the number of the draw within a map function, from 1; different draws are independent.
    The result is (batch,), or (batch, draws) for several numbers.
    """
    low = tf.constant(0xFFFFFFFF, tf.int64)
    words = tf.bitwise.bitwise_and(tf.cast(seeds, tf.int64), low)

    def mixed(value: tf.Tensor) -> tf.Tensor:
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            value = tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, shift))
            value = tf.bitwise.bitwise_and(value * factor, low)
        return value

    first, second = words[:, 0], words[:, 1]
    if not isinstance(draw, int):
        first, second = first[:, tf.newaxis], second[:, tf.newaxis]
    salt = np.asarray(draw, np.int64) * 0x9E3779B9 & 0xFFFFFFFF
    return mixed(tf.bitwise.bitwise_xor(mixed(tf.bitwise.bitwise_xor(first, salt)), second))


def uniform(
    seeds: tf.Tensor, draw: int | Sequence[int], low: float = 0.0, high: float = 1.0
) -> tf.Tensor:
    """Returns uniform numbers in [low, high), float32 (batch,), or (batch, draws)."""
    # A float32 holds 24 bits exactly, so the result is below 1.
    bits = tf.bitwise.right_shift(random_bits(seeds, draw), 8)
    return low + tf.cast(bits, tf.float32) * 2.0**-24 * (high - low)


def random_starts(seeds: tf.Tensor, draw: int | Sequence[int], spare: int | tf.Tensor) -> tf.Tensor:
    """Returns uniform integers from 0 to `spare`, both included, int32 (batch,)."""
    return tf.cast(uniform(seeds, draw) * tf.cast(spare + 1, tf.float32), tf.int32)


def symmetric_beta(seeds: tf.Tensor, draw: int, alpha: float) -> tf.Tensor:
    """Returns numbers of the distribution Beta(alpha, alpha), float64 (batch,).

    They are quantiles of uniform numbers, found by bisection: one draw is enough for any alpha.
    """
    probability = tf.cast(uniform(seeds, draw), tf.float64)
    parameter = tf.constant(alpha, tf.float64)
    low, high = tf.zeros_like(probability), tf.ones_like(probability)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_below = tf.math.betainc(parameter, parameter, middle) < probability
        low, high = tf.where(is_below, middle, low), tf.where(is_below, high, middle)
    return (low + high) / 2
