"""Splits the samples of files: `validation_split`, `subset` and `split_by`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError
from .opening import Names, Paths, open_video_set
from .sampling.split_indices import split_indices, squeeze_column
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
    """Splits the samples of an open set: `split_samples` without the opening."""
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
    for number, component in enumerate(video_set.components):
        if component.name.strip("/") != split_by.strip("/"):
            continue
        if others and others[0] == number:
            raise ArgumentError(
                f"`split_by` must not be the labels: each class of {split_by!r} would be a group, "
                "so that no class is in both training and validation. Use "
                'split_by="label" to split each class in the same proportion, or leave `split_by` '
                "out to split at random. (To keep classes apart on purpose, pass an array of ids.) "
                f"Received: split_by={split_by!r}, y={component.name!r}"
            )
        if number == x or (isinstance(x, dict) and len(component.sample_shape) > 1):
            raise ArgumentError(
                "`split_by` must be the name of a dataset of group ids, of shape (samples,). "
                f"Received: split_by={split_by!r}, samples of shape {component.sample_shape}"
            )


def _label_name(video_set: VideoSet) -> str:
    labels = video_set.element[1] if len(video_set.element) > 1 else None
    if not isinstance(labels, int):
        raise ArgumentError(
            'split_by="label" needs one dataset of labels, y="...". '
            f"Received: {'a dict of datasets' if labels else 'y=None'}"
        )
    return video_set.components[labels].name
