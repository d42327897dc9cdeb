"""Map functions that mix each sample with another one of its batch, labels included."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from h5video_data.errors import ArgumentError
from h5video_data.transforms.selection import Key, Place, as_names, axes_of, find_places

from .boxes import inside, place_boxes
from .draws import random_bits, symmetric_beta
from .elements import (
    MapFunction,
    as_dtype,
    as_element,
    as_float,
    check_axes,
    check_rank,
    clips_at,
    length,
)

# Of clips, of their partners, and of the shares that are drawn: the mixed clips, and the share of
# its own that each of them has kept.
_Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def mixup(alpha: float = 0.2, *, key: Key = None) -> MapFunction:
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
        key: Which values of the element to mix as clips, if not x itself: see `transforms`. What
            else is in x stays as it is; what else is in y are labels.

    Returns:
        A map function that keeps shapes and dtypes; needs `seeds`. Clips are (batch, frames,
        channels, rows, columns) or channels last. Labels must be floats of shape (batch, classes),
        one-hot or probabilities, or a dict of such; otherwise it raises an ArgumentError. Elements
        without labels are mixed as well.
    """

    def blend(
        clips: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del seeds
        check_rank(clips)
        return as_dtype(_blended(as_float(clips), partners, shares), clips.dtype), shares

    return _mixing("mixup", alpha, blend, key, blends=True)


def cutmix(alpha: float = 1.0, *, data_format: str | None = None, key: Key = None) -> MapFunction:
    """Replaces a box of each sample by that of another one (Yun and others, arXiv 1905.04899).

    The share that a sample keeps is drawn from Beta(alpha, alpha). The box has the shape of the
    frame, and lies inside of it at a random place, as in `keras.layers.CutMix`, the same for all
    frames. Labels, and sample weights if there are any, are mixed by the share of pixels that were
    really kept: sizes are rounded to whole pixels.

    Shares and boxes depend on the sample's own seed alone; partners are chosen as in `mixup`.

    Args:
        alpha: Above 0; 1 draws all shares equally often.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: As for `mixup`; y may be masks of class numbers here.

    Returns:
        A map function that keeps shapes and dtypes; needs `seeds`. Clips and labels as for `mixup`.
    """
    axes = axes_of(data_format)

    def paste(
        clips: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_axes(clips, axes)
        rows, columns = (length(clips, axis) for axis in axes.of_frames.values())
        side = tf.sqrt(1 - shares)
        height, width = (tf.cast(tf.round(n * side), tf.int32) for n in (rows, columns))
        boxes = place_boxes(seeds, 3, rows, columns, height, width)
        covered = inside(boxes, rows, columns, axes)
        kept = 1 - tf.cast(height * width, tf.float64) / (rows * columns)
        return tf.where(covered, tf.gather(clips, partners), clips), kept

    return _mixing("cutmix", alpha, paste, key, alike=axes.of_frames)


def _mixing(
    name: str,
    alpha: float,
    mix: _Mix,
    key: Key,
    *,
    alike: Mapping[str, int] | None = None,
    blends: bool = False,
) -> MapFunction:
    if not isinstance(alpha, (int, float, np.number)) or not 0 < alpha < float("inf"):
        raise ArgumentError(f"`alpha` must be a number above 0. Received: alpha={alpha!r}")
    names = as_names(key)

    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        element = (x, *rest)
        places = find_places(element, names)
        found = clips_at(element, places, alike)
        others = [place for place in _places_behind_x(element) if place not in places]
        if blends:
            for place, clips in zip(places, found, strict=True):
                _check_blendable(place, clips)
        for place in others:
            for values in tf.nest.flatten(place.get(element)):
                _check_label(name, place, values)
        partners = _partners(seeds)
        shares = symmetric_beta(seeds, 2, float(alpha))
        for place, clips in zip(places, found, strict=True):
            mixed, kept = mix(clips, partners, shares, seeds)
            element = place.put(element, mixed)
        for place in others:
            blend = functools.partial(_blended, partners=partners, shares=kept)
            element = place.put(element, tf.nest.map_structure(blend, place.get(element)))
        return as_element(element)

    apply.__name__ = name
    return apply


def _places_behind_x(element: tuple[Any, ...]) -> list[Place]:
    """Where labels and weights are."""
    return [
        Place(number, name)
        for number, part in enumerate(element)
        if number > 0
        for name in (part if isinstance(part, dict) else (None,))
    ]


def _check_label(function: str, place: Place, values: tf.Tensor) -> None:
    if place.part == 1:
        _check_floats(f"{function} mixes labels: y", values, "(batch, classes)", 2)
    else:
        _check_floats(f"{function} mixes weights: sample_weight", values, "(batch,)", 1)


def _check_blendable(place: Place, clips: tf.Tensor) -> None:
    """Raises an ArgumentError if clips of y may be masks of class numbers."""
    if place.part > 0 and not clips.dtype.is_floating:
        raise ArgumentError(
            "mixup blends values, which class numbers do not allow: make floats of y before "
            "(`to_float` for images, `tf.one_hot` for masks), or use `cutmix`; for y=x, let "
            "`lambda x: (x, x)` come last. "
            f"Received: {clips.dtype.name} of shape {clips.shape}"
        )


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
