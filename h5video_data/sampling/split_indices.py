"""Chooses sample numbers, and splits them into training and validation. Pure NumPy.

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


def split_runs(
    ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    validation_split: float,
    *,
    seed: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits as `split_indices` does by the ids of all samples, without an array of these.

    Args:
        ids: int64 (runs,), the id of the samples of each run.
        lengths: int64 (runs,), how many samples follow each other in it.
        validation_split: As for `split_indices`.
        seed: As for `split_indices`.
    """
    check_fraction(validation_split)
    rng = np.random.default_rng([_STREAM, 0 if seed is None else seed])
    distinct, numbers = np.unique(ids, return_inverse=True)
    counts = np.zeros(len(distinct), np.int64)
    np.add.at(counts, numbers, lengths)
    chosen = _choose_ids(rng, counts, validation_split)
    in_validation = np.repeat(np.isin(numbers, chosen), lengths)
    return np.flatnonzero(~in_validation), np.flatnonzero(in_validation)


def chosen_samples(
    indices: ArrayLike | None, num_samples: int, *, repeated: bool = False
) -> NDArray[np.int64]:
    """Returns the numbers of the samples that `indices` chooses, in the order given.

    Args:
        indices: Integers (n,), sample numbers; or a boolean mask (num_samples,). None: all samples.
        num_samples: Number of samples to choose from.
        repeated: Whether a sample may come several times.

    Raises:
        ArgumentError: They are of another form, out of range or repeated, or there are none.
    """
    if indices is None:
        return np.arange(num_samples, dtype=np.int64)
    try:
        given = np.asarray(indices)
    except ValueError as error:
        raise ArgumentError(f"`indices` must be one array: {error}") from error
    check_not_masked("`indices`", indices)
    received = f"Received: {given.dtype} values of shape {given.shape}"
    if given.ndim == 1 and not given.size:
        raise ArgumentError("`indices` must choose at least one sample. Received: an empty array")
    if given.ndim != 1 or given.dtype.kind not in "iub":
        raise ArgumentError(
            "`indices` must be sample numbers, integers (n,), or a boolean mask (samples,), of "
            f"which `np.flatnonzero` gives the numbers. {received}"
        )
    if given.dtype.kind == "b":
        if len(given) != num_samples:
            raise ArgumentError(
                "`indices` as a boolean mask must have a value for each of the "
                f"{num_samples} samples. {received}"
            )
        if not given.any():
            raise ArgumentError(
                "`indices` must choose at least one sample. Received: a mask without any True"
            )
        return np.flatnonzero(given)
    if given.min() < 0 or given.max() >= num_samples:
        hint = "; negative numbers do not count from the end" if given.min() < 0 else ""
        raise ArgumentError(
            f"`indices` must be from 0 to {num_samples - 1}, the numbers of the samples{hint}. "
            f"Received: from {given.min()} to {given.max()}"
        )
    numbers, counts = np.unique(given, return_counts=True)
    if len(numbers) < len(given) and not repeated:
        is_like_a_mask = len(given) == num_samples and set(numbers.tolist()) <= {0, 1}
        raise ArgumentError(
            "`indices` must have each sample once"
            + ("; a mask must be of dtype bool" if is_like_a_mask else "")
            + (
                ". (A sampler may repeat samples.) "
                f"Received: {numbers[counts.argmax()]} {counts.max()} times"
            )
        )
    return given.astype(np.int64)


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
    check_not_masked("Labels and ids", values)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def check_not_masked(what: str, values: Any) -> None:
    """Raises an ArgumentError for an array with masked values, which NumPy would take as given.

    Args:
        what: What the values are, for the message.
        values: What was given.
    """
    if np.ma.is_masked(values):
        raise ArgumentError(f"{what} must have no masked values. Received: {values!r:.200}")


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
    is_number = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f" and bool(is_whole(labels).all())
    )
    if labels.ndim == 1 and is_number:
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


def is_whole(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which of some floats are whole numbers; NaN and infinity are not."""
    found: NDArray[np.bool_] = np.isfinite(values) & (values == np.floor(values))
    return found


def strata(values: ArrayLike) -> NDArray[np.int64]:
    """Returns the number of each sample's class, for values of any kind that name classes.

    Args:
        values: Numbers or strings (samples,) or (samples, 1), or one-hot values (samples, classes).

    Raises:
        ArgumentError: They name no classes: numbers with a fraction, several classes a sample, or
            a class of its own for each sample.
    """
    values = squeeze_column(values)
    problem = ""
    if values.ndim == 2 and values.dtype.kind in "iubf":
        if not ((values != 0).sum(axis=1) == 1).all():
            problem = ", some rows without exactly one non-zero value"
        values = values.argmax(axis=1) if not problem else values
    elif values.ndim == 1 and values.dtype.kind == "f":
        if not is_whole(values).all():
            problem = ", not all of them whole numbers"
    elif values.ndim != 1 or values.dtype.kind not in "iubSUO":
        problem = ", which name no classes"
    if problem:
        raise ArgumentError(
            "`stratify_by` must be classes: whole numbers or strings of shape (samples,), or "
            "one-hot values of shape (samples, classes). (Of measurements, make classes first, "
            f"such as by `np.digitize`.) Received: {values.dtype} values of shape {values.shape}"
            f"{problem}"
        )
    numbers, counts = find_distinct(values, "values of `stratify_by`")
    if len(values) > 1 and counts.max() == 1:
        raise ArgumentError(
            "`stratify_by` must be classes, with several samples in some of them. "
            f"Received: {len(values)} different values for {len(values)} samples"
        )
    return numbers


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
    return np.flatnonzero(np.isin(numbers, _choose_ids(rng, counts, fraction)))


def _choose_ids(
    rng: np.random.Generator, counts: NDArray[np.int64], fraction: float
) -> NDArray[np.int64]:
    """Chooses ids for validation, by their numbers, where `counts` has the samples of each."""
    num_samples = int(counts.sum())
    if len(counts) < 2:
        raise ArgumentError(
            f"A split by ids needs two different ids or more. Received: {len(counts)} "
            f"in {num_samples} samples"
        )
    order = rng.permutation(len(counts))
    so_far = np.cumsum(counts[order])[:-1]
    num_ids = 1 + int(np.argmin(np.abs(so_far - fraction * num_samples)))
    chosen: NDArray[np.int64] = order[:num_ids]
    return chosen
