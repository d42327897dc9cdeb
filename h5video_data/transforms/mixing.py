"""Map functions that mix each sample, with its labels, with another one of its batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from h5video_data.errors import ArgumentError

from .boxes import inside, place_boxes
from .draws import random_bits, symmetric_beta
from .elements import (
    MapFunction,
    as_dtype,
    as_element,
    as_float,
    check_rank,
    find_clips,
    frame_size,
    is_number,
    per_clip,
    put_clips,
)
from .selection import ClipAxes, DataFormat, Key, Place, all_places, as_names, axes_of

# Function of clips, partners, ratios and seeds to the mixed clips and the ratios that labels are
# mixed by. A ratio, float64 (batch,) from 0 to 1, is the fraction of a sample that it keeps.
_Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def mixup(alpha: float = 0.2, *, key: Key = None) -> MapFunction:
    """Blends each sample with another one of its batch (Zhang et al., arXiv 1710.09412).

    A mixing ratio is drawn from Beta(alpha, alpha) for each sample, as in `keras.layers.MixUp`:
    x = ratio * x + (1 - ratio) * partner's x, and the same for y and for sample weights.

    The ratio depends on the sample's own seed alone. The partner is another sample of the same
    batch: the next one after the batch is put in a random order. So each sample is a partner once.
    Which samples are mixed depends on which samples are in the batch, but not on their order; with
    another batch size or number of workers, they are mixed differently.

    Args:
        alpha: Parameter of the distribution, above 0. With small values, most samples hardly
            change; with 1, ratios are uniform.
        key: Names of the values that are clips, if not x itself: see `transforms`. Other values of
            x are not changed; other values of y are labels.

    Returns:
        A map function that keeps shapes and dtypes; needs `seeds`. Clips are (batch, frames,
        channels, rows, columns) or channels last. Labels must be floats of shape (batch, classes),
        one-hot or probabilities, or a dict of such; otherwise it raises an ArgumentError. There may
        be no labels.
    """

    def blend(
        clips: tf.Tensor, partners: tf.Tensor, ratios: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del seeds
        check_rank(clips, images=True)
        return as_dtype(_blended(as_float(clips), partners, ratios), clips.dtype), ratios

    return _mixing("mixup", alpha, blend, key, blends=True)


def cutmix(
    alpha: float = 1.0, *, data_format: DataFormat | None = None, key: Key = None
) -> MapFunction:
    """Replaces a box of each sample by that of another one (Yun et al., arXiv 1905.04899).

    The fraction of the frame that a sample keeps is drawn from Beta(alpha, alpha). The box has the
    aspect ratio of the frame and lies inside it at a random location, as in `keras.layers.CutMix`,
    the same for all frames. Labels and sample weights are mixed by the fraction of pixels that is
    kept after the box is rounded to whole pixels.

    Fractions and boxes depend on the sample's own seed alone; partners are chosen as in `mixup`.

    Args:
        alpha: Parameter of the distribution, above 0; with 1, fractions are uniform.
        data_format: `"channels_first"`, the default, or `"channels_last"`.
        key: As for `mixup`; y may also be masks of class numbers.

    Returns:
        A map function that keeps shapes and dtypes; needs `seeds`. Clips and labels as for `mixup`.
    """
    axes = axes_of(data_format)

    def paste(
        clips: tf.Tensor, partners: tf.Tensor, ratios: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows, columns = frame_size(clips, axes)
        side = tf.sqrt(1 - ratios)
        height, width = (tf.cast(tf.round(n * side), tf.int32) for n in (rows, columns))
        boxes = place_boxes(seeds, 3, rows, columns, height, width)
        covered = inside(boxes, rows, columns, axes)
        kept = 1 - tf.cast(height * width, tf.float64) / (rows * columns)
        return tf.where(covered, tf.gather(clips, partners), clips), kept

    return _mixing("cutmix", alpha, paste, key, axes=axes)


def _mixing(
    name: str,
    alpha: float,
    mix: _Mix,
    key: Key,
    *,
    axes: ClipAxes | None = None,
    blends: bool = False,
) -> MapFunction:
    if not is_number(alpha) or not 0 < alpha < float("inf"):
        raise ArgumentError(f"`alpha` must be a number above 0. Received: alpha={alpha!r}")
    names = as_names(key)

    def apply(x: Any, *rest: Any, seeds: tf.Tensor) -> Any:
        element = (x, *rest)
        found = find_clips(element, names, axes.of_frames if axes else None, axes)
        others = [place for place in all_places(element) if place.item and place not in found]
        if blends:
            for place, clips in found.items():
                _check_blendable(place, clips)
        for place in others:
            for values in tf.nest.flatten(place.get(element)):
                _check_label(name, place, values)
        partners = _partners(seeds)
        ratios = symmetric_beta(seeds, 2, float(alpha))
        for place, clips in found.items():
            mixed, kept = mix(clips, partners, ratios, seeds)
            element = put_clips(element, place, mixed, clips)
        for place in others:
            blend = functools.partial(_blended, partners=partners, ratios=kept)
            element = place.put(element, tf.nest.map_structure(blend, place.get(element)))
        return as_element(element)

    apply.__name__ = name
    return apply


def _check_label(function: str, place: Place, values: tf.Tensor) -> None:
    if place.item == 1:
        rank, wanted = 2, "(batch, classes) (`one_hot` converts class numbers)"
        what = "labels: y"
    else:
        rank, wanted = 1, "(batch,)"
        what = "weights: sample_weight"
    if not values.dtype.is_floating or values.shape.rank != rank:
        raise ArgumentError(
            f"{function} mixes {what} must be floats of shape {wanted}. "
            f"Received: {values.dtype.name} of shape {values.shape}"
        )


def _check_blendable(place: Place, clips: tf.Tensor) -> None:
    """Raises an ArgumentError if clips of y could be masks of class numbers."""
    if place.item > 0 and not clips.dtype.is_floating:
        raise ArgumentError(
            "mixup blends values, and class numbers must not be blended: convert y to floats first "
            "(`to_float` for images, `tf.one_hot` for masks), or use `cutmix`; for y=x, put "
            "`lambda x: (x, x)` last. "
            f"Received: {clips.dtype.name} of shape {clips.shape}"
        )


def _partners(seeds: tf.Tensor) -> tf.Tensor:
    """Returns the place of each sample's partner, int32 (batch,): a cyclic permutation."""
    order = tf.argsort(random_bits(seeds, 1), stable=True)
    ranks = tf.argsort(order)
    return tf.gather(tf.roll(order, -1, 0), ranks)


def _blended(values: tf.Tensor, partners: tf.Tensor, ratios: tf.Tensor) -> tf.Tensor:
    """Returns ratio * value + (1 - ratio) * partner's value, in the dtype of the values."""
    own = tf.cast(per_clip(ratios, values), values.dtype)
    other = tf.cast(per_clip(1 - ratios, values), values.dtype)
    return own * values + other * tf.gather(values, partners)
