"""Opens the files of a set, checks that their datasets fit together, decides how to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .errors import ArgumentError, FileFormatError, MissingFilterError
from .planning.access import Access, decide_access
from .sampling.clips import Clip
from .sampling.sample_index import SampleIndex
from .storage.attributes import read_class_names, read_sample_count
from .storage.file_identity import FileIdentity, absolute_path
from .storage.hdf5_files import file_identity, open_file
from .storage.hdf5_names import find_dataset, own_name
from .storage.layout import StoredArray, describe
from .storage.paths import Paths as Paths
from .storage.paths import expand_paths
from .storage.system import memory_nbytes
from .storage.values import Values
from .video_set import Component, VideoSet

Names: TypeAlias = str | Mapping[str, str]

SAMPLES = "(samples, frames, channels, rows, columns)"

# What the numbers of a sample take in its index and in planning an epoch, at the least.
NUMBERS_BYTES = 48


def open_video_set(
    path: Paths,
    x: Names = "X",
    y: Names | None = "Y",
    sample_weight: str | None = None,
    clip: Clip | None = None,
    *,
    budget_nbytes: int = 0,
) -> VideoSet:
    """Opens files, checks that their datasets fit together, and closes them again.

    Args:
        path: A path, a list of paths, or a glob.
        x: Name of the dataset of samples, or a dict of names.
        y: Name of the dataset of labels, or a dict of names; None: no labels.
        sample_weight: Name of the dataset of weights; None: no weights.
        clip: Which frames of the samples of x to read; None: all of them.
        budget_nbytes: Memory for the values of datasets of many small samples, beyond labels.

    Raises:
        ArgumentError: The clip does not fit into the samples.
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    wanted = _checked_names(x, y, sample_weight)
    datasets = list(dict.fromkeys(name for names in wanted for name in _listed(names)))
    files = []
    named: dict[tuple[str, ...], str] = {}
    for file_path in map(absolute_path, expand_paths(path)):
        files.append(_open(file_path, datasets, x, sample_weight))
        _check_class_names(files[-1], named)
    paths = tuple(file.path for file in files)
    num_rows = np.array([file.num_samples for file in files], np.int64)
    num_samples = int(num_rows.sum())
    clips = _clips(datasets, files[0].parts, clip, _listed(x))
    _check_memory(paths, num_samples, datasets, files[0].parts, clips)
    index = SampleIndex.stacked(num_rows)
    components: list[Component] = []
    for name, *parts in zip(datasets, *(file.parts for file in files), strict=True):
        _check_alike(name, parts)
        item = _component(name, parts, index, clips.get(name), budget_nbytes)
        budget_nbytes -= item.budget_nbytes
        components.append(item)
    if not num_samples:
        is_empty = not any(file.parts[0].shape[0] for file in files)
        reason = "the datasets have no rows" if is_empty else "`sample_count` is 0"
        raise FileFormatError(f"There is no sample in {', '.join(paths)}: {reason}.")

    def number_of(names: Names) -> Any:
        if isinstance(names, str):
            return datasets.index(names)
        return {key: datasets.index(name) for key, name in names.items()}

    return VideoSet(
        paths=paths,
        identities=tuple(file.identity for file in files),
        counts=num_rows,
        components=tuple(components),
        element=tuple(number_of(names) for names in wanted),
        class_names=next((file.class_names for file in files if file.class_names), None),
    )


class _File(NamedTuple):
    """Facts about one file of a set."""

    path: str
    identity: FileIdentity
    parts: tuple[StoredArray, ...]
    """How each dataset is stored."""
    num_samples: int
    class_names: tuple[str, ...] | None


def _open(path: str, datasets: Sequence[str], x: Names, sample_weight: str | None) -> _File:
    """Opens a file, checks that its datasets fit together, and closes it again."""
    with open_file(path) as file:
        identity = file_identity(file)
        parts = tuple(_described(file, name) for name in datasets)
        _check_file(path, parts, x if isinstance(x, str) else None)
        for name in [] if sample_weight is None else _listed(sample_weight):
            _check_weights(path, parts[datasets.index(name)])
        num_samples, _ = read_sample_count(file, datasets[0], parts[0].shape[0])
        return _File(path, identity, parts, num_samples, read_class_names(file))


def _checked_names(x: Names, y: Names | None, sample_weight: str | None) -> list[Names]:
    """Returns the names of datasets that were given.

    Raises:
        ArgumentError: They are no names.
    """
    if sample_weight is not None and y is None:
        raise ArgumentError(
            f"`sample_weight` needs labels. Received: sample_weight={sample_weight!r}, y=None"
        )
    if x is None:
        raise ArgumentError("`x` must not be None; only `y` may be. Received: x=None")
    wanted = [names for names in (x, y, sample_weight) if names is not None]
    for names in wanted:
        if (
            not isinstance(names, (str, Mapping))
            or not names
            or not all(isinstance(name, str) for name in _listed(names))
        ):
            raise ArgumentError(
                "`x` and `y` must be the name of a dataset, or a dict of names, and "
                "`sample_weight` a name. Write values from elsewhere into the file, as another "
                f"dataset; y=None does without labels. Received: {names!r}"
            )
    return wanted


def _check_class_names(file: _File, named: dict[tuple[str, ...], str]) -> None:
    """Raises a FileFormatError if a file names other classes than those before it.

    Args:
        file: The file.
        named: By the names of the classes, the first file that has them; takes those of this one.
    """
    if file.class_names is not None:
        named.setdefault(file.class_names, file.path)
    if len(named) > 1:
        raise FileFormatError(
            "The attribute `class_names` must be the same in all files. Received: "
            + ", ".join(f"{names} in {first}" for names, first in named.items())
        )


def _component(
    name: str,
    parts: Sequence[StoredArray],
    index: SampleIndex,
    clip: Clip | None,
    budget_nbytes: int,
) -> Component:
    """Decides how a component is read, and makes sure that HDF5 can read what it has to.

    Args:
        name: Name of the dataset.
        parts: How it is stored in each file.
        index: Where its samples are.
        clip: Which frames of each row are read.
        budget_nbytes: Memory for its values, if it has many small samples.
    """
    shape = parts[0].shape[1:] if clip is None else clip.shape_of(parts[0].shape[1:])
    accesses = decide_access(
        parts, index.num_samples, shape, is_whole=clip is None, budget_nbytes=budget_nbytes
    )
    try:
        _check_readable(accesses, index)
    except MissingFilterError:
        if accesses[0].without_memory is None:
            raise
        # Decoded here, it is still readable.
        accesses = tuple(access.without_memory or access for access in accesses)
        _check_readable(accesses, index)
    return Component(name, accesses, index, clip)


def _check_readable(accesses: Sequence[Access], index: SampleIndex) -> None:
    """Raises an error if HDF5 lacks a filter, or rows in use, of what it has to read."""
    for access, num_rows in zip(accesses, index.num_rows.tolist(), strict=True):
        stored = access.stored
        is_read_by_hdf5 = access.kind in ("memory", "h5py")
        if is_read_by_hdf5 and (stored.filters or stored.storage == "external"):
            with open_file(stored.path, stored.identity) as file:
                Values(find_dataset(file, stored.name), num_rows, stored)


def _check_memory(
    paths: Sequence[str],
    num_samples: int,
    datasets: Sequence[str],
    parts: Sequence[StoredArray],
    clips: Mapping[str, Clip],
) -> None:
    """Raises a FileFormatError for shapes that nobody can mean, such as those of damaged files."""
    memory = memory_nbytes()
    if num_samples * NUMBERS_BYTES > memory:
        raise FileFormatError(
            f"There are {num_samples} samples in {', '.join(paths)}: the memory of this machine, "
            f"{memory} bytes, does not hold their numbers. If that is not meant, the file is "
            "damaged; the attribute `sample_count` says how many are in use."
        )
    for name, part in zip(datasets, parts, strict=True):
        clip, shape = clips.get(name), part.shape[1:]
        nbytes = math.prod(clip.shape_of(shape) if clip else shape) * part.dtype.itemsize
        if nbytes > memory:
            raise FileFormatError(
                f"{part.path}: a sample of {name!r} takes {nbytes} bytes, more than the memory of "
                f"this machine, {memory} bytes. Received: shape {part.shape}. If that is not "
                "meant, the file is damaged."
            )


def _described(file: Any, name: str) -> StoredArray:
    """Describes a dataset, in the file itself or in one that a link leads to."""
    dataset = find_dataset(file, name)
    if dataset.file == file.file:
        return describe(dataset)
    path, linked_name = absolute_path(dataset.file.filename), own_name(dataset)
    # Opened anew, for HDF5 does not compare what it opens by itself before it and after.
    del dataset
    with open_file(path) as linked:
        return describe(find_dataset(linked, linked_name))


def _clips(
    datasets: Sequence[str],
    parts: Sequence[StoredArray],
    clip: Clip | None,
    videos: Sequence[str],
) -> dict[str, Clip]:
    """Finds the datasets that a clip holds for.

    Args:
        datasets: Names of the datasets.
        parts: How each is stored in the first file.
        clip: The clip; None: there is none.
        videos: The names of the datasets of x.

    Returns:
        By name, the clip with the number of its axis.
    """
    if clip is None:
        return {}
    if not isinstance(clip, Clip):
        raise ArgumentError(f"`clip` must be a Clip, such as Clip(16). Received: clip={clip!r}")
    found = {
        name: (clip.of_samples(name, part.shape[1:]), part.shape[1:])
        for name, part in zip(datasets, parts, strict=True)
        if name in videos and len(part.shape) > 2
    }
    if not found:
        raise ArgumentError(
            "`clip` needs samples with a frame axis: shape (frames, ...). "
            f"Received: clip={clip!r} for {', '.join(map(repr, videos))}"
        )
    lengths = {name: shape[item.axis or 0] for name, (item, shape) in found.items()}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            "`clip` needs the same number of frames in all datasets of x. "
            f"Received: {', '.join(f'{name!r} with {n}' for name, n in lengths.items())}"
        )
    clips = {name: item for name, (item, _) in found.items()}
    num_frames, axis = min(lengths.values()), next(iter(clips.values())).axis
    if clip.span > num_frames:
        raise ArgumentError(
            f"`clip` must fit into the samples, which have {num_frames} frames along axis {axis}; "
            f"`axis` names another one. Received: {clip!r}, which takes {clip.span}"
        )
    return clips


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names.values())


def _check_file(path: str, stored: Sequence[StoredArray], video: str | None) -> None:
    """Raises a FileFormatError if the datasets of one file do not fit together."""
    first = stored[0]
    if video is not None and len(first.shape) < 2:
        raise FileFormatError(
            f"{path}: {video!r} must have the shape {SAMPLES}, or at least 2 dimensions. "
            f"Received: {first.shape}"
        )
    for item in stored:
        if 0 in item.shape[1:]:
            raise FileFormatError(
                f"{path}: the samples of {item.name!r} are empty. Received: shape {item.shape}"
            )
        if item.shape[0] != first.shape[0]:
            hint = (
                " If each file is one sample, without an axis of samples, write the files into one "
                "first, with datasets of shape (samples, ...)."
            )
            if len(item.shape) == 2 and item.shape[1] == first.shape[0]:
                hint = " It looks transposed: the samples come first."
            raise FileFormatError(
                f"{path}: all datasets must have the same number of samples. Received: "
                f"{first.name!r} of shape {first.shape}, {item.name!r} of shape {item.shape}.{hint}"
            )


def _check_weights(path: str, stored: StoredArray) -> None:
    if len(stored.shape) != 1:
        raise FileFormatError(
            f"{path}: the weights {stored.name!r} must have the shape (samples,). "
            f"Received: {stored.shape}"
        )


def _check_alike(name: str, parts: Sequence[StoredArray]) -> None:
    """Raises a FileFormatError if a dataset differs from one file to another."""
    first = parts[0]
    for part in parts[1:]:
        if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
            raise FileFormatError(
                f"The samples of {name!r} must be alike in all files. Received: "
                f"{first.dtype} of shape {first.shape[1:]} in {first.path}, "
                f"{part.dtype} of shape {part.shape[1:]} in {part.path}"
            )
