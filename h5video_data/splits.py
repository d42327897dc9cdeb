"""Splits the samples of files: what `validation_split`, `subset` and `split_by` mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError
from .opening import Names, Paths, open_video_set
from .sampling.split_indices import check_fraction, split_indices, squeeze_column
from .video_set import VideoSet, read_values

SplitBy = str | Sequence[Any] | NDArray[Any] | None


def split_samples(
    path: Paths,
    validation_split: float,
    *,
    seed: int | None = None,
    split_by: SplitBy = None,
    x: Names = "X",
    y: Names | None = "Y",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits the samples of files as `video_dataset_from_hdf5` does, and returns their numbers.

    Args:
        path: A path, a list of paths, or a glob.
        validation_split: Fraction of the samples for validation, between 0 and 1.
        seed: Seed of the split, a whole number from 0; None is 0.
        split_by: None (at random), `"label"` (each class in the same proportion), or the name of a
            dataset, or an array (samples,), of group ids: no group comes on both sides.
        x: Name of the dataset of samples.
        y: Name of the dataset of labels, for `split_by="label"`.

    Returns:
        The numbers of the samples for training and of those for validation, int64, ascending.

    Raises:
        H5VideoError: The files or arguments are not right; see `video_dataset_from_hdf5`.
    """
    return split_set(open_video_set(path, x, y), validation_split, seed, split_by)


def split_set(
    video_set: VideoSet, validation_split: float, seed: int | None, split_by: SplitBy
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same for a set that is open already."""
    labels = groups = None
    if isinstance(split_by, str) and split_by == "label":
        labels = read_values(video_set, _label_name(video_set))
    elif isinstance(split_by, str):
        _check_group_name(video_set, split_by)
        groups = read_values(video_set, split_by)
    elif split_by is not None:
        groups = squeeze_column(split_by)
    return split_indices(
        video_set.num_samples, validation_split, seed=seed, labels=labels, ids=groups
    )


def _check_group_name(video_set: VideoSet, split_by: str) -> None:
    """Raises an ArgumentError if a dataset of the set cannot be meant as the ids of groups."""
    x, *others = video_set.element
    for number, column in enumerate(video_set.components):
        if column.name.strip("/") != split_by.strip("/"):
            continue
        if others and others[0] == number:
            raise ArgumentError(
                f"`split_by` must not be the labels: the groups of {split_by!r} would be its "
                "classes, of which none comes in both training and validation. Type "
                'split_by="label" to split each class in the same proportion, or leave `split_by` '
                "out to split at random. (An array of ids keeps classes apart on purpose.) "
                f"Received: split_by={split_by!r}, y={column.name!r}"
            )
        if number == x or (isinstance(x, dict) and len(column.sample_shape) > 1):
            raise ArgumentError(
                "`split_by` must be the name of a dataset of group ids, of shape (samples,). "
                f"Received: split_by={split_by!r}, samples of shape {column.sample_shape}"
            )


def _label_name(video_set: VideoSet) -> str:
    labels = video_set.element[1] if len(video_set.element) > 1 else None
    if not isinstance(labels, int):
        raise ArgumentError(
            'split_by="label" needs one dataset of labels, y="...". '
            f"Received: {'a dict of datasets' if labels else 'y=None'}"
        )
    return video_set.components[labels].name


def is_one_of(value: Any, *choices: str | None) -> bool:
    """Whether an argument is one of them, whatever it is: an array compares value by value."""
    return (value is None or isinstance(value, str)) and value in choices


def check_split(
    validation_split: float | None,
    subset: str | None,
    split_by: SplitBy,
    shuffle: bool,
    seed: int | None,
) -> None:
    """Raises an ArgumentError in the cases in which Keras's own data set functions do.

    See `keras.utils.image_dataset_from_directory`.
    """
    if not is_one_of(subset, None, "training", "validation", "both"):
        raise ArgumentError(
            f'`subset` must be "training", "validation" or "both". Received: subset={subset!r}'
        )
    if validation_split is not None:
        check_fraction(validation_split)
    if (validation_split is None) != (subset is None):
        raise ArgumentError(
            "`validation_split` and `subset` go together. Received: "
            f"validation_split={validation_split}, subset={subset!r}"
        )
    if validation_split is None and split_by is not None:
        raise ArgumentError(
            f"`split_by` needs a `validation_split`. Received: split_by={split_by!r}"
        )
    if validation_split is not None and shuffle and seed is None:
        raise ArgumentError(
            "A split of shuffled samples needs a `seed`, so that training and validation do not "
            f"overlap. Received: validation_split={validation_split}, shuffle=True, seed=None"
        )
