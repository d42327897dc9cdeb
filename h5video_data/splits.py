"""Chooses and splits the samples of files: `indices`, `validation_split` and what it goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arguments import is_whole_number
from .errors import ArgumentError, H5VideoError
from .opening import Paths, open_video_set, with_options
from .opening.items import Labels, Names
from .opening.recording_values import check_not_drawn, values_of_samples
from .sampling.split_indices import (
    chosen_samples,
    split_indices,
    split_runs,
    squeeze_column,
    strata,
)
from .sampling.windows import Windows
from .set_values import component_values, is_same_dataset, read_values
from .storage.external import allows_external
from .storage.picture_rows import Decoding
from .video_set import Component, VideoSet

SplitBy: TypeAlias = str | Sequence[Any] | NDArray[Any] | None
StratifyBy: TypeAlias = str | Sequence[Any] | NDArray[Any] | None
SampleIndices: TypeAlias = Sequence[int] | Sequence[bool] | NDArray[Any] | None
Sides: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


@allows_external
def split_samples(
    path: Paths,
    validation_split: float,
    *,
    seed: int | None = None,
    split_by: SplitBy = None,
    stratify_by: StratifyBy = None,
    indices: SampleIndices = None,
    x: Names = "X",
    y: Labels | None = "Y",
    windows: Windows | int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    remote_options: Mapping[str, Any] | None = None,
    allow_external: bool = False,  # noqa: ARG001 - taken by the decorator
) -> Sides:
    """Splits the samples of files as `video_dataset_from_hdf5` does, and returns their numbers.

    Args:
        path: A path, a list of paths, or a glob.
        validation_split: Fraction of the samples for validation, between 0 and 1.
        seed: Seed of the split, a whole number from 0; None is 0.
        split_by: None (at random), `"label"` (each class in the same proportion), or the name of a
            dataset, or an array (samples,), of group ids: no group comes on both sides.
        stratify_by: Name of a dataset, or an array (samples,), of classes: each in the same
            proportion on both sides. None: `split_by` counts.
        indices: The samples to split, integers (n,) or a boolean mask (samples,). None: all.
        x: Name of the dataset of samples.
        y: Name of the dataset of labels, for `split_by="label"`.
        windows: A `Windows`, or a number of frames, if rows are frames of recordings, which come on
            one side each.
        storage_options: Of URLs in `path`, see `video_dataset_from_hdf5`.
        remote_options: Likewise.
        allow_external: Whether files may lead to others outside of their folders.

    Returns:
        The numbers of the samples for training and of those for validation, int64, ascending; with
        `indices`, in their order.

    Raises:
        H5VideoError: The files or arguments are not right; see `video_dataset_from_hdf5`.
    """
    by_number = any(
        item is not None and not isinstance(item, str) for item in (split_by, stratify_by, indices)
    )
    video_set = open_video_set(
        # Pictures are not read: how they are stored, and their sizes, do not matter.
        with_options(path, storage_options, remote_options),
        x,
        y,
        windows=Windows(windows) if is_whole_number(windows) else windows,  # type: ignore[arg-type]
        decoding=Decoding("image", image_size=(1, 1)),
        by_number=by_number,
    )
    return split_set(video_set, validation_split, seed, split_by, stratify_by, indices)


def split_set(
    video_set: VideoSet,
    validation_split: float,
    seed: int | None,
    split_by: SplitBy = None,
    stratify_by: StratifyBy = None,
    indices: SampleIndices = None,
) -> Sides:
    """Splits the samples of an open set: `split_samples` without the opening."""
    check_one_rule(split_by, stratify_by)
    is_plain = split_by is None or (isinstance(split_by, str) and split_by == "recording")
    if video_set.windows is not None and indices is None and is_plain and stratify_by is None:
        # Without arrays of all windows, of which there may be a hundred million.
        index = video_set.windows.index
        lengths = np.diff(index.anchors.run_stops, prepend=0)
        return split_runs(index.run_recordings, lengths, validation_split, seed=seed)
    chosen = chosen_samples(indices, video_set.num_samples)
    # Which samples come on which side depends on the choice, not on its order.
    in_order = np.sort(chosen)
    if video_set.windows is not None:
        validation = _split_windows(
            video_set, in_order, validation_split, seed, split_by, stratify_by
        )
        is_validation = np.isin(chosen, in_order[validation])
        return chosen[~is_validation], chosen[is_validation]
    labels = ids = None
    if isinstance(split_by, str) and split_by == "label":
        labels = label_values(
            video_set, 'split_by="label"', "`stratify_by` takes any dataset, or an array."
        )[in_order]
    elif split_by is not None:
        ids = _values(video_set, "split_by", split_by, "group ids")[in_order]
    elif stratify_by is not None:
        labels = strata(_values(video_set, "stratify_by", stratify_by, "classes")[in_order])
    _, validation = split_indices(len(chosen), validation_split, seed=seed, labels=labels, ids=ids)
    is_validation = np.isin(chosen, in_order[validation])
    return chosen[~is_validation], chosen[is_validation]


def _split_windows(
    video_set: VideoSet,
    samples: NDArray[np.int64],
    validation_split: float,
    seed: int | None,
    split_by: SplitBy,
    stratify_by: StratifyBy,
) -> NDArray[np.int64]:
    """Splits windows, so that those of a recording come on one side, as they may overlap.

    Returns:
        int64, positions in `samples` of those for validation.
    """
    assert video_set.windows is not None
    recordings = video_set.windows.index.recordings_of(samples)
    given = split_by
    if split_by is None or (isinstance(split_by, str) and split_by == "recording"):
        given = stratify_by
    is_by_label = isinstance(split_by, str) and split_by == "label"
    labels = ids = None
    if is_by_label:
        otherwise = "`stratify_by` takes any dataset, or an array."
        labels = label_values(video_set, 'split_by="label"', otherwise)[samples]
    elif given is None:
        ids = recordings
    elif given is split_by:
        ids = _values(video_set, "split_by", given, "group ids")[samples]
    else:
        labels = strata(_values(video_set, "stratify_by", given, "classes")[samples])
    distinct, firsts, numbers = np.unique(recordings, return_index=True, return_inverse=True)
    if labels is None:
        assert ids is not None
        if ids.ndim == 1 and (ids[firsts][numbers] != ids).any():
            raise ArgumentError(
                "`split_by` has several ids in a recording, whose windows may overlap: both sides "
                "would have the same frames. Windows(bounds=...) divides recordings where an id "
                "ends. Received: other ids in recording "
                f"{recordings[ids[firsts][numbers] != ids][0]}"
            )
        return split_indices(len(samples), validation_split, seed=seed, labels=None, ids=ids)[1]
    of_recordings = labels[firsts]
    if (labels != of_recordings[numbers]).any():
        raise ArgumentError(
            "Windows of a recording come on one side of the split, so they must have the same "
            "label. To split without regard to labels, leave `split_by` and `stratify_by` out."
        )
    _, validation = split_indices(
        len(distinct), validation_split, seed=seed, labels=of_recordings, ids=None
    )
    return np.flatnonzero(np.isin(numbers, validation))


def check_one_rule(split_by: SplitBy, stratify_by: StratifyBy) -> None:
    """Raises an ArgumentError if a split should go by two things."""
    if split_by is not None and stratify_by is not None:
        raise ArgumentError(
            "`split_by` and `stratify_by` exclude each other: groups that stay whole cannot give "
            "each class the same proportion on both sides. Give one of them. "
            f"Received: split_by={split_by!r}, stratify_by={stratify_by!r}"
        )


def label_values(video_set: VideoSet, what: str, otherwise: str) -> NDArray[Any]:
    """Returns the labels (samples, ...) of a set.

    Args:
        video_set: The set.
        what: The argument that needs them, for the message.
        otherwise: What to do if there is no such dataset, for the message.

    Raises:
        ArgumentError: There is no dataset of labels, or several.
    """
    labels = video_set.element[1] if len(video_set.element) > 1 else None
    if not isinstance(labels, int):
        raise ArgumentError(
            f'{what} needs one dataset of labels, y="...". {otherwise} '
            f"Received: {'a dict of datasets' if labels else 'y=None'}"
        )
    component = video_set.components[labels]
    if component.index.offsets is not None:
        raise ArgumentError(
            f"{what} needs a label for each window, not for each of its frames: y must not be "
            f"windowed. Received: y={component.name!r}"
        )
    if not _may_be_classes(component):  # not read for nothing
        raise ArgumentError(
            f"{what} needs labels of shape (samples,) or (samples, classes). {otherwise} "
            f"Received: y={component.name!r}, samples of shape {component.sample_shape}"
        )
    if video_set.windows is not None and component.index.is_shifted:
        if component.values is None:
            return values_of_samples(video_set, component.name)
        check_not_drawn(component.name, component.values, video_set.windows.index)
    return component_values(component)


# Labels that are read to count classes, and classes that are counted.
_MAX_LABELS = 1_000_000
_MAX_CLASSES = 1000


def class_counts(video_set: VideoSet, samples: NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
    """Counts the samples of each class of the labels; () if there are none, or no classes.

    Args:
        video_set: The set.
        samples: int64 (n,), the samples that count.

    Returns:
        (name or number of the class, samples) of each.
    """
    if len(samples) > _MAX_LABELS or len(video_set.element) < 2:
        return ()
    try:
        values = squeeze_column(label_values(video_set, "counting", ""))[samples]
    except H5VideoError:
        return ()
    if values.ndim == 2 and values.shape[1] > 1 and ((values == 0) | (values == 1)).all():
        numbers, counts = np.arange(values.shape[1]), values.sum(axis=0).astype(np.int64)
    elif values.ndim == 1 and values.dtype.kind in "iub":
        numbers, counts = np.unique(values, return_counts=True)
    else:
        return ()
    if len(numbers) > _MAX_CLASSES:
        return ()
    names = video_set.class_names or ()
    return tuple(
        (names[number] if 0 <= number < len(names) else str(number), count)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    )


def _may_be_classes(component: Component) -> bool:
    """Whether each sample may have one class: a number, one-hot values, or one string."""
    shape = component.sample_shape
    is_one_hot = len(shape) == 1 and component.class_names is None
    return shape in ((), (1,)) or is_one_hot


def _of_windows(video_set: VideoSet, argument: str, values: NDArray[Any]) -> NDArray[Any]:
    """Returns an array (samples, ...) of one that may be (recordings, ...) instead."""
    assert video_set.windows is not None
    index = video_set.windows.index
    if len(values) != len(index.recordings):
        return values
    recordings = index.recordings_of(np.arange(video_set.num_samples))
    if len(values) == video_set.num_samples and (np.diff(recordings) != 1).any():
        raise ArgumentError(
            f"`{argument}` has {len(values)} values: as many as there are samples, and as there "
            "are recordings, some of which have no sample or several. It cannot be told what they "
            "are of."
        )
    return values[recordings]


def _or_recordings(video_set: VideoSet) -> str:
    if video_set.windows is None:
        return ""
    return f"; or for each of the {len(video_set.windows.index.recordings)} recordings"


def _values(video_set: VideoSet, argument: str, given: Any, what: str) -> NDArray[Any]:
    """Returns what a split goes by, for each sample of a set.

    Args:
        video_set: The set.
        argument: Name of the argument.
        given: Its value: the name of a dataset, or an array.
        what: What the values are, for messages.
    """
    if not isinstance(given, str):
        values = squeeze_column(given)
        if video_set.windows is not None and values.ndim:
            values = _of_windows(video_set, argument, values)
        if values.ndim == 0 or len(values) != video_set.num_samples:
            raise ArgumentError(
                f"`{argument}` must be {what} for each of the {video_set.num_samples} samples of "
                "the files, also of those that `indices` leaves out"
                f"{_or_recordings(video_set)}. "
                f"Received: an array of shape {values.shape}"
            )
        return values
    x, *others = video_set.element
    for number, component in enumerate(video_set.components):
        if not is_same_dataset(video_set, component.name, given):
            continue
        if argument == "split_by" and others and others[0] == number:
            raise ArgumentError(
                f"`split_by` must not be the labels: each class of {given!r} would be a group, "
                "so that no class is in both training and validation. Use "
                'split_by="label" to split each class in the same proportion, or leave `split_by` '
                "out to split at random. (To keep classes apart on purpose, pass an array of ids.) "
                f"Received: split_by={given!r}, y={component.name!r}"
            )
        if component.index.offsets is not None:
            is_fit = len(component.row_shape) < 2
        else:
            is_fit = number != x and _may_be_classes(component)
        if not is_fit:
            raise ArgumentError(
                f"`{argument}` must be the name of a dataset of {what}, of shape (samples,). "
                f"Received: {argument}={given!r}, samples of shape {component.sample_shape}"
            )
        if video_set.windows is None or component.values is not None:
            return squeeze_column(component_values(component))
        break
    if video_set.windows is not None:
        return squeeze_column(values_of_samples(video_set, given))
    return squeeze_column(read_values(video_set, given))
