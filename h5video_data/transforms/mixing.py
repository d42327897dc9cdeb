"""Map functions that mix each sample with another one of its batch, labels included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from h5video_data.errors import ArgumentError

from .boxes import inside, place_boxes
from .draws import random_bits, symmetric_beta
from .elements import (
    COLUMNS,
    ROWS,
    MapFunction,
    as_dtype,
    as_element,
    as_float,
    axis_of,
    check_rank,
    clips_of,
    length,
    with_clips,
)

# Of clips, of their partners, and of the shares that are drawn: the mixed clips, and the share of
# its own that each of them has kept.
_Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def mixup(alpha: float = 0.2, *, key: str | None = None) -> MapFunction:
    """Blends each sample with another one of its batch (Zhang and others, arXiv 1710.09412).

    A share is drawn from Beta(alpha, alpha) for each sample, as in `keras.layers.MixUp`:
    x = share * x + (1 - share) * x of its partner, and the same for y, and for sample weights if
    there are any.

    The share depends on the sample's own seed alone. The partner is another sample of the same
    batch: the batch is put in a random order, and each sample's partner is the next one. So every
    sample is partner once, and who is whose depends on which samples are in the batch, but not on
    their order. Other batches (another batch size, or number of workers) mean other partners.

    Args:
        alpha: Above 0. Small values leave most samples almost as they are; 1 draws all shares
            equally often.
        key: Which value of x to mix, if x is a dict; the others stay as they are.

    Returns:
        A map function that keeps shapes and dtypes; needs `seeds`. Labels must be floats of shape
        (batch, classes), one-hot or probabilities, or a dict of such; otherwise it raises an
        ArgumentError. Elements without labels are mixed as well.
    """

    def blend(
        clips: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del seeds
        return as_dtype(_blended(as_float(clips), partners, shares), clips.dtype), shares

    return _mixing("mixup", alpha, blend, key)


def cutmix(
    alpha: float = 1.0, *, data_format: str = "channels_first", key: str | None = None
) -> MapFunction:
    """Replaces a box of each sample by that of another one (Yun and others, arXiv 1905.04899).

    The share that a sample keeps is drawn from Beta(alpha, alpha). The box has the shape of the
    frame, and lies inside of it at a random place, as in `keras.layers.CutMix`, the same for all
    frames. Labels, and sample weights if there are any, are mixed by the share of pixels that were
    really kept: sizes are rounded to whole pixels.

    Shares and boxes depend on the sample's own seed alone; partners are chosen as in `mixup`.

    Args:
        alpha: Above 0; 1 draws all shares equally often.
        data_format: `"channels_first"` or `"channels_last"`.
        key: Which value of x to mix, if x is a dict; the others stay as they are.

    Returns:
        A map function that keeps shapes and dtypes; needs `seeds`. Labels as for `mixup`.
    """
    axes = axis_of(ROWS, data_format), axis_of(COLUMNS, data_format)

    def paste(
        clips: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows, columns = (length(clips, axis) for axis in axes)
        side = tf.sqrt(1 - shares)
        height, width = (tf.cast(tf.round(n * side), tf.int32) for n in (rows, columns))
        boxes = place_boxes(seeds, 3, rows, columns, height, width)
        covered = inside(boxes, rows, columns, data_format)
        kept = 1 - tf.cast(height * width, tf.float64) / (rows * columns)
        return tf.where(covered, tf.gather(clips, partners), clips), kept

    return _mixing("cutmix", alpha, paste, key)


def _mixing(name: str, alpha: float, mix: _Mix, key: str | None) -> MapFunction:
    if not isinstance(alpha, (int, float, np.number)) or not 0 < alpha < float("inf"):
        raise ArgumentError(f"`alpha` must be a number above 0. Received: alpha={alpha!r}")

    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        clips = clips_of(x, key)
        check_rank(clips)
        for labels in tf.nest.flatten(rest[:1]):
            _check_floats(f"{name} mixes labels: y", labels, "(batch, classes)", 2)
        for weights in rest[1:]:
            _check_floats(f"{name} mixes weights: sample_weight", weights, "(batch,)", 1)
        partners = _partners(seeds)
        shares = symmetric_beta(seeds, 2, float(alpha))
        mixed, kept = mix(clips, partners, shares, seeds)
        others = tf.nest.map_structure(lambda values: _blended(values, partners, kept), rest)
        return as_element(with_clips(x, key, mixed), others)

    apply.__name__ = name
    return apply


def _check_floats(what: str, values: tf.Tensor, shape: str, rank: int) -> None:
    if not values.dtype.is_floating or values.shape.rank != rank:
        hint = " (`tf.one_hot` makes such of class numbers)" if rank == 2 else ""
        raise ArgumentError(
            f"{what} must be floats of shape {shape}{hint}. "
            f"Received: {values.dtype.name} of shape {values.shape}"
        )


def _partners(seeds: tf.Tensor) -> tf.Tensor:
    """The place of each sample's partner in the batch, int32 (batch,): a cyclic permutation."""
    order = tf.argsort(random_bits(seeds, 1), stable=True)
    ranks = tf.argsort(order)
    return tf.gather(tf.roll(order, -1, 0), ranks)


def _blended(values: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Each value times its share, and its partner's times the rest; in the values' own dtype."""
    shape = [-1] + [1] * (values.shape.rank - 1)
    own = tf.cast(tf.reshape(shares, shape), values.dtype)
    other = tf.cast(tf.reshape(1 - shares, shape), values.dtype)
    return own * values + other * tf.gather(values, partners)
