"""Splits sample numbers into training and validation. Pure NumPy.

A split depends on its arguments alone: the same seed gives the same split in every call and every
process, whatever `shuffle` is.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from h5video_data.errors import ArgumentError

# Makes the random numbers independent of those that order the epochs.
_STREAM = 0x5F117


def split_indices(
    num_samples: int,
    validation_split: float,
    *,
    seed: int | None = None,
    labels: NDArray[Any] | None = None,
    ids: NDArray[Any] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits `range(num_samples)` at random into training and validation.

    As in Keras, the number of validation samples is rounded down. With `labels`, each class is
    split in the same proportion, as nearly as whole samples allow. With `ids`, one for each sample,
    samples with the same id stay on one side, and the fraction is as near to `validation_split` as
    that allows; `labels` then do not count. Seed None is 0.

    Returns:
        Sample numbers for training and for validation, int64, ascending.
    """
    check_fraction(validation_split)
    rng = np.random.default_rng([_STREAM, 0 if seed is None else seed])
    if ids is not None:
        ids = squeeze_column(ids)
        _check_length(ids, num_samples, "ids")
        chosen = _by_id(rng, ids, validation_split)
    elif labels is not None:
        chosen = _by_label(rng, class_numbers(labels, num_samples), validation_split)
    else:
        chosen = rng.permutation(num_samples)[: int(validation_split * num_samples)]
    in_validation = np.zeros(num_samples, np.bool_)
    in_validation[chosen] = True
    training, validation = np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
    for side, name in ((training, "training"), (validation, "validation")):
        if not side.size:
            raise ArgumentError(
                f"The {name} side of the split would be empty. "
                f"Received: validation_split={validation_split} of {num_samples} samples"
            )
    return training, validation


def check_fraction(validation_split: float) -> None:
    """Raises an ArgumentError if a fraction is not between 0 and 1."""
    if not isinstance(validation_split, Real) or not 0 < validation_split < 1:
        raise ArgumentError(
            f"`validation_split` must be between 0 and 1. Received: {validation_split!r}"
        )


def squeeze_column(values: ArrayLike) -> NDArray[Any]:
    """Returns an array, and values of shape (samples, 1), as MATLAB writes them, as (samples,)."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ArgumentError(f"Labels and ids must be arrays: {error}") from error
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def find_distinct(values: NDArray[Any], what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the distinct values of an array.

    Returns:
        int64 (n,), the number of each value among the distinct ones, in ascending order, and int64
        (distinct values,), how often each of them occurs.
    """
    try:
        _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"The {what} must be all numbers or all strings, one for each sample. "
            f"Received: {values.dtype} values of shape {values.shape}; NumPy reports: {error}"
        ) from error
    return numbers, counts


def class_numbers(labels: NDArray[Any], num_samples: int) -> NDArray[np.int64]:
    """Returns the class numbers (num_samples,) of labels that are class numbers or one-hot."""
    labels = squeeze_column(labels)
    is_whole = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f"
        and bool((np.isfinite(labels) & (labels == np.floor(labels))).all())
    )
    if labels.ndim == 1 and is_whole:
        _check_length(labels, num_samples, "labels")
        return labels.astype(np.int64)
    if labels.ndim != 2 or not ((labels != 0).sum(axis=1) == 1).all():
        raise ArgumentError(
            'split_by="label" needs class numbers of shape (samples,) or one-hot labels of shape '
            f"(samples, classes). Received: {labels.dtype} labels of shape {labels.shape}"
            + (", not all of them whole" if labels.ndim == 1 else "")
            + (", some rows without exactly one non-zero value" if labels.ndim == 2 else "")
        )
    _check_length(labels, num_samples, "labels")
    classes: NDArray[np.int64] = labels.argmax(axis=1)
    return classes


def _check_length(values: NDArray[Any], num_samples: int, what: str) -> None:
    if values.ndim == 0 or len(values) != num_samples or (what == "ids" and values.ndim != 1):
        raise ArgumentError(
            f"There must be {what} for each of the {num_samples} samples. "
            f"Received: an array of shape {values.shape}"
        )


def _by_label(
    rng: np.random.Generator, labels: NDArray[np.int64], fraction: float
) -> NDArray[np.int64]:
    classes, counts = find_distinct(labels, "labels")
    # Rounded down for each class; the classes that lost most by rounding get one sample more.
    wanted = counts * fraction
    quota = np.floor(wanted).astype(np.int64)
    missing = int(fraction * len(labels)) - int(quota.sum())
    quota[np.argsort(quota - wanted, kind="stable")[: max(missing, 0)]] += 1
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[rank < np.repeat(quota, counts)]


def _by_id(rng: np.random.Generator, ids: NDArray[Any], fraction: float) -> NDArray[np.int64]:
    numbers, counts = find_distinct(ids, "ids")
    if len(counts) < 2:
        raise ArgumentError(
            f"A split by ids needs two different ids or more. Received: {len(counts)} "
            f"in {len(ids)} samples"
        )
    order = rng.permutation(len(counts))
    so_far = np.cumsum(counts[order])[:-1]
    num_ids = 1 + int(np.argmin(np.abs(so_far - fraction * len(ids))))
    return np.flatnonzero(np.isin(numbers, order[:num_ids]))
