"""Splits sample numbers into a training and a validation side. Pure NumPy.

A split depends on its arguments alone: the same seed gives the same split in another call, another
process, and for another `shuffle`.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError

# Keeps the stream of random numbers apart from those that order the epochs.
_STREAM = 0x5F117


def split_indices(
    num_samples: int,
    validation_split: float,
    *,
    seed: int | None = None,
    labels: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits `range(num_samples)` at random.

    Args:
        num_samples: Number of samples.
        validation_split: Fraction of the samples for validation, between 0 and 1. As in Keras, the
            number of validation samples is rounded down.
        seed: Seed of the split; None is 0.
        labels: Class numbers (num_samples,) or (num_samples, 1), or one-hot labels (num_samples,
            classes): each class is split in the same proportion, as nearly as whole samples allow.
        groups: A group's id for each sample, (num_samples,) or (num_samples, 1), numbers or
            strings: no group comes on both sides. The cut is at the whole group that comes nearest
            to `validation_split`.

    Returns:
        The sample numbers for training and for validation, int64, ascending.

    Raises:
        ArgumentError: `validation_split` is not between 0 and 1, the labels or groups do not fit,
            or a side would be empty.
    """
    check_fraction(validation_split)
    rng = np.random.default_rng([_STREAM, 0 if seed is None else seed])
    if groups is not None:
        groups = _checked(as_column(groups), num_samples, "groups")
        chosen = _by_group(rng, groups, validation_split)
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
    if not isinstance(validation_split, numbers.Real) or not 0 < validation_split < 1:
        raise ArgumentError(
            f"`validation_split` must be between 0 and 1. Received: {validation_split!r}"
        )


def class_numbers(labels: NDArray[Any], num_samples: int) -> NDArray[np.int64]:
    """Class numbers (num_samples,) of labels that are class numbers or one-hot.

    Raises:
        ArgumentError: They are neither.
    """
    labels = as_column(labels)
    is_whole = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f"
        and bool((np.isfinite(labels) & (labels == np.floor(labels))).all())
    )
    if labels.ndim == 1 and is_whole:
        return _checked(labels, num_samples, "labels").astype(np.int64)
    if labels.ndim != 2 or not ((labels != 0).sum(axis=1) == 1).all():
        raise ArgumentError(
            'split_by="label" needs class numbers of shape (samples,) or one-hot labels of shape '
            f"(samples, classes). Received: {labels.dtype} labels of shape {labels.shape}"
            + {
                1: ", not all of them whole",
                2: ", some rows without exactly one non-zero value",
            }.get(labels.ndim, "")
        )
    classes: NDArray[np.int64] = _checked(labels, num_samples, "labels").argmax(axis=1)
    return classes


def as_column(values: Any) -> NDArray[Any]:
    """Values of shape (samples, 1), as MATLAB writes them, as (samples,); others as they are.

    Raises:
        ArgumentError: They are no array, but lists of different lengths.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ArgumentError(f"Labels and groups must be arrays: {error}") from error
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def distinct(values: NDArray[Any], what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each value among those that differ, in their order, and how often each comes.

    Args:
        values: (n,).
        what: What they are, for people.

    Raises:
        ArgumentError: They cannot be put in order, such as numbers beside strings, or None.
    """
    try:
        _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"The {what} should be all numbers or all strings, one for each sample. "
            f"Received: {values.dtype} values of shape {values.shape}, of which NumPy says: {error}"
        ) from error
    return numbers, counts


def _checked(values: NDArray[Any], num_samples: int, what: str) -> NDArray[Any]:
    if values.ndim == 0 or len(values) != num_samples or (what == "groups" and values.ndim != 1):
        raise ArgumentError(
            f"There should be one of the {what} for each of the {num_samples} samples. "
            f"Received: an array of shape {values.shape}"
        )
    return values


def _by_label(
    rng: np.random.Generator, labels: NDArray[np.int64], fraction: float
) -> NDArray[np.int64]:
    classes, counts = distinct(labels, "labels")
    # Whole samples for each class, the remaining ones to the classes that lost most in rounding.
    wanted = counts * fraction
    quota = np.floor(wanted).astype(np.int64)
    missing = int(fraction * len(labels)) - int(quota.sum())
    quota[np.argsort(quota - wanted, kind="stable")[: max(missing, 0)]] += 1
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[rank < np.repeat(quota, counts)]


def _by_group(rng: np.random.Generator, groups: NDArray[Any], fraction: float) -> NDArray[np.int64]:
    members, counts = distinct(groups, "groups")
    if len(counts) < 2:
        raise ArgumentError(
            f"A split by groups needs two groups or more. Received: {len(counts)} "
            f"in {len(groups)} samples"
        )
    order = rng.permutation(len(counts))
    so_far = np.cumsum(counts[order])[:-1]
    num_groups = 1 + int(np.argmin(np.abs(so_far - fraction * len(groups))))
    return np.flatnonzero(np.isin(members, order[:num_groups]))
