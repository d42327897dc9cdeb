"""Reads small values of a set: labels, ids of a split, lengths of clips."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, FileFormatError, H5VideoError
from .sampling.clip_lengths import ClipLengths, check_lengths
from .sampling.clips import Clip
from .sampling.split_indices import squeeze_column
from .storage.attributes import read_sample_count
from .storage.chunk_table import check_chunk_table
from .storage.descriptors import open_descriptor, with_free_descriptors
from .storage.file_handles import Descriptor, FileHandle
from .storage.file_identity import FileIdentity, ObjectPath, absolute_path, check_identity
from .storage.hdf5_files import handle_of, open_file
from .storage.hdf5_names import find_again, find_dataset
from .storage.layout import StoredArray
from .storage.paths import expand_beside, split_name
from .storage.values import Values
from .video_set import Component, VideoSet


def read_rows(parts: Sequence[StoredArray], counts: Sequence[int]) -> list[NDArray[Any]]:
    """Reads the first rows of parts, in the dtype that they have in memory.

    By h5py, which takes a fifth of a millisecond for each: those that lie in the file as they are,
    of which a set of recordings has a hundred thousand, without.

    Args:
        parts: How the dataset is stored in each part.
        counts: How many rows of each to read.

    Raises:
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    found: list[NDArray[Any]] = []
    pairs = zip(parts, counts, strict=True)
    # A file that has thousands of parts is opened once.
    for (path, identity), group in itertools.groupby(
        pairs, key=lambda pair: (pair[0].path, pair[0].identity)
    ):
        of_file = [*group]
        values = _read_without_hdf5(path, identity, of_file)
        if values is None:
            with open_file(path, identity) as file:
                handle = handle_of(file)
                values = [_read_part(file, handle, part, count) for part, count in of_file]
        found += values
    return found


def _read_without_hdf5(
    path: str, identity: FileIdentity, parts: Sequence[tuple[StoredArray, int]]
) -> list[NDArray[Any]] | None:
    """Reads contiguous parts of a file, which HDF5 takes long to open; None: only HDF5 can."""
    if isinstance(path, ObjectPath) or not all(map(_is_plain, (part for part, _ in parts))):
        return None
    # If a pipe has taken the file's place, opening it would wait for somebody to write to it.
    check_identity(path, identity)
    fd = with_free_descriptors(open_descriptor)(path)
    try:
        handle = Descriptor(path, fd)
        handle.check(identity)
        found = [_read_contiguous(handle, part, count) for part, count in parts]
        handle.check(identity)
    finally:
        os.close(fd)
    values = [
        item.astype(part.dtype, copy=False)
        for item, (part, _) in zip(found, parts, strict=True)
        if item is not None
    ]
    return values if len(values) == len(parts) else None


def _read_part(file: Any, handle: FileHandle, part: StoredArray, count: int) -> NDArray[Any]:
    """Reads the first rows of a part of an open file."""
    values = _read_contiguous(handle, part, count)
    if values is None:
        values = Values(find_again(file, part.name), count, part).read(slice(0, count))
    return values.astype(part.dtype, copy=False)


def _is_plain(part: StoredArray) -> bool:
    """Whether its bytes lie in the file one after another, as they are."""
    return part.storage == "contiguous" and part.obstacle is None


def _read_contiguous(handle: FileHandle, part: StoredArray, count: int) -> NDArray[Any] | None:
    """Reads the first rows of a contiguous part; None: only h5py can, or says what is wrong."""
    if not _is_plain(part):
        return None
    values = np.empty((count, *part.shape[1:]), part.file_dtype)
    target = values.reshape(-1).view(np.uint8)
    try:
        num_read = handle.read_at(target.data, int(part.offsets[0])) if len(target) else 0
    except OSError:
        return None
    return values if num_read == len(target) else None


def component_values(item: Component) -> NDArray[Any]:
    """Reads the values of a component's samples in use: labels, or other small values.

    Returns:
        The values, (samples, ...); class numbers if they are strings.

    Raises:
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    values = item.values
    if values is None:
        values = np.concatenate(read_rows(item.parts, item.index.num_rows.tolist()))
    index = item.index
    if index.is_every_row:
        return values
    parts, rows = index.rows(np.arange(index.num_samples))
    starts = np.cumsum(index.num_rows) - index.num_rows
    of_samples: NDArray[Any] = values[starts[parts] + rows]
    return of_samples


def rows_in_use(
    name: str,
    lengths: Sequence[int],
    counts: Sequence[int],
    stored: Sequence[int],
    *,
    is_count_given: bool,
) -> list[int]:
    """Returns how many rows of a dataset in files of its own are samples of a set, for each file.

    Its rows, file after file, are the samples of the set. If a `sample_count` cuts files of x
    short, its files may have as many rows as these: then the same rows count.

    Args:
        name: Name of the dataset.
        lengths: Its rows in each of its files.
        counts: Samples of each file of x.
        stored: Rows of x in each of them, in use or not.
        is_count_given: Whether a file of x has a `sample_count`.

    Raises:
        FileFormatError: It has not as many rows.
    """
    num_samples = sum(counts)
    if sum(lengths) == num_samples:
        return list(lengths)
    if is_count_given and len(lengths) == len(counts):
        fit = all(length >= count for length, count in zip(lengths, counts, strict=True))
        if fit and (len(counts) == 1 or list(lengths) == list(stored)):
            return list(counts)
    raise FileFormatError(
        f"{name!r} must have a row for each of the {num_samples} samples. Received: "
        f"{' + '.join(map(str, lengths))} rows"
        + (
            "; the attribute `sample_count` says how many are in use"
            if sum(lengths) > num_samples
            else ""
        )
    )


def read_clip_lengths(video_set: VideoSet, clip: Clip) -> ClipLengths | None:
    """Reads the lengths that clips are drawn from, if the clip names them.

    Raises:
        ArgumentError: They are not one whole number for each sample.
        H5VideoError: They cannot be read.
    """
    lengths = clip.lengths
    if lengths is None:
        return None
    if isinstance(lengths, str):
        source = f"lengths={lengths!r}"
        _check_one_each(video_set, lengths)
        values = squeeze_column(read_values(video_set, lengths))
    else:
        source, values = "`lengths`", np.asarray(lengths)
    check_lengths(values, video_set.num_samples, source)
    return ClipLengths(values, source, clip, video_set.num_frames)


def _check_one_each(video_set: VideoSet, name: str) -> None:
    """Raises a FileFormatError if a dataset is not (samples,) or (samples, 1) in each file."""
    parts = video_set.components[0].parts
    if split_name(name)[0] is not None or len(parts) != len(video_set.paths):
        return  # it is in other files than the samples
    for path, identity, part in zip(video_set.paths, video_set.identities, parts, strict=True):
        with open_file(path, identity) as file:
            shape = find_dataset(file, name).shape
        if shape not in ((part.shape[0],), (part.shape[0], 1)):
            raise FileFormatError(
                f"{path}: the lengths {name!r} must have the shape (samples,), with a value for "
                f"each of the {part.shape[0]} samples of {part.name!r}. Received: shape {shape}"
            )


def place_of(paths: Sequence[str], name: str) -> tuple[str | None, str]:
    """Divides the name of a dataset of another file, as `split_name` does.

    Args:
        paths: The files of the set, which may have a dataset whose name has a colon.
        name: The name.

    Raises:
        ArgumentError: There is such a dataset, and such a file, too.
    """
    pattern, dataset = split_name(name)
    if pattern is None:
        return None, name
    try:
        with open_file(paths[0]) as file:
            find_dataset(file, name)
    except H5VideoError:  # it may be any file: what is wrong with it, others say
        return pattern, dataset
    raise ArgumentError(
        f"{name!r} is a dataset of {paths[0]}, and may be {dataset!r} of the file {pattern!r}. "
        f"Write {'/' + name.lstrip('/')!r} for the first, and "
        f"{os.path.abspath(pattern) + ':' + dataset!r} for the second."
    )


def is_same_dataset(video_set: VideoSet, name: str, other: str) -> bool:
    """Whether two names, one of which may have a path, are those of one dataset."""

    def place(given: str) -> tuple[tuple[str, ...], str]:
        pattern, dataset = split_name(given)
        paths = tuple(video_set.paths)
        if pattern is not None:
            paths = expand_beside(pattern, paths)
        return tuple(map(absolute_path, paths)), dataset.strip("/")

    return name.strip("/") == other.strip("/") or place(name) == place(other)


def read_values(video_set: VideoSet, name: str) -> NDArray[Any]:
    """Reads all values of a small dataset, of the samples in use: labels, or the ids of a split.

    Args:
        video_set: The set.
        name: Name of the dataset, which need not be one of the set's components, nor in its files:
            `"ids.h5:id"`. Strings are read as objects of bytes; those of a component are class
            numbers.

    Returns:
        The values, (samples, ...).

    Raises:
        FileFormatError: A file holds fewer values than samples.
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    item = next((item for item in video_set.components if item.name == name), None)
    if item is not None:
        return component_values(item)
    pattern, dataset_name = place_of(video_set.paths, name)
    if pattern is not None:
        values = _read_elsewhere(video_set, name, pattern, dataset_name)
    else:
        values = [
            _read_first(path, identity, name, count, beside=_name_of_x(video_set))
            for path, identity, count in zip(
                video_set.paths, video_set.identities, video_set.counts.tolist(), strict=True
            )
        ]
    try:
        return np.concatenate(values)
    except TypeError as error:
        raise FileFormatError(
            f"The values of {name!r} must have one kind of dtype in all files. Received: "
            f"{', '.join(dict.fromkeys(str(item.dtype) for item in values))}"
        ) from error


def _name_of_x(video_set: VideoSet) -> str | None:
    """Returns the name of the first dataset of x; None: it is in other files than the set's."""
    first = video_set.components[0]
    return None if first.name_in_file not in (None, first.name) else first.name


def _read_first(
    path: str, identity: FileIdentity | None, name: str, count: int, *, beside: str | None
) -> NDArray[Any]:
    """Reads the first rows of a dataset, which has more only if a `sample_count` says so.

    Args:
        path: Path of the file.
        identity: Its identity; None: any.
        name: Name of the dataset.
        count: How many rows.
        beside: The dataset of samples in the same file, whose `sample_count` counts; None: there is
            none, so that more rows are right.
    """
    with open_file(path, identity) as file:
        dataset = find_dataset(file, name)
        if not dataset.shape or dataset.shape[0] < count:
            raise FileFormatError(
                f"{path}: {name!r} must hold a value for each of the {count} samples. "
                f"Received: shape {dataset.shape}"
            )
        if dataset.shape[0] > count and beside is not None:
            length = dataset.shape[0]
            if not any(read_sample_count(file, n, length).is_given for n in (beside, name)):
                raise FileFormatError(
                    f"{path}: {name!r} must hold a value for each of the {count} samples; it may "
                    "have more rows where the attribute `sample_count` says how many are in use. "
                    f"Received: shape {dataset.shape}"
                )
        check_chunk_table(dataset)
        return Values(dataset, count).read(slice(0, count))


def _read_elsewhere(
    video_set: VideoSet, name: str, pattern: str, dataset_name: str
) -> list[NDArray[Any]]:
    """Reads the values of a dataset of other files."""
    paths, lengths = [absolute_path(path) for path in expand_beside(pattern, video_set.paths)], []
    for path in paths:
        with open_file(path) as file:
            shape = find_dataset(file, dataset_name).shape or (0,)
            lengths.append(read_sample_count(file, dataset_name, shape[0]).num_samples)
    first = video_set.components[0]
    stored = [part.shape[0] for part in first.parts]
    counts = first.index.num_rows.tolist()
    is_given = stored != counts or _is_count_given(video_set)
    counts = rows_in_use(name, lengths, counts, stored, is_count_given=is_given)
    return [
        _read_first(path, None, dataset_name, count, beside=None)
        for path, count in zip(paths, counts, strict=True)
    ]


def _is_count_given(video_set: VideoSet) -> bool:
    """Whether a file of x has a `sample_count`, even if that is the number of all rows."""
    first = video_set.components[0]
    name = first.name_in_file or first.name
    for part in first.parts:
        with open_file(part.path, part.identity) as file:
            if read_sample_count(file, name, part.shape[0]).is_given:
                return True
    return False
