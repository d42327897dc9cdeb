"""Values of recordings or of rows: which there are, and where the value of each sample is."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.sampling.window_index import WindowIndex
from h5video_data.set_values import place_of, read_rows
from h5video_data.storage.attributes import read_sample_count
from h5video_data.storage.file_identity import Files, absolute_path, require_identity
from h5video_data.storage.hdf5_files import OpenedFile, open_file
from h5video_data.storage.paths import Paths, expand_beside
from h5video_data.storage.picture_rows import Decoding
from h5video_data.video_set import VideoSet

from .recording_files import read_file
from .recording_index import RecordingFile
from .small_values import joined_values, small_values


def values_of_samples(video_set: VideoSet, name: str) -> NDArray[Any]:
    """Reads a value for each window, of a dataset of rows or of values of recordings.

    Args:
        video_set: The set.
        name: Name of the dataset, which need not be one of the set's components.

    Returns:
        The values (samples, ...), of the anchors' rows or of the recordings; strings as objects.

    Raises:
        H5VideoError: The dataset does not fit the recordings, or cannot be read.
    """
    rows = video_set.windows
    assert rows is not None
    elsewhere = values_elsewhere(video_set.paths, name, is_label=True)
    if elsewhere is not None:
        index = index_of_values(name, elsewhere[0], rows.name, rows.index, None)
        return _at(video_set, name, elsewhere[0], index)
    decoding = Decoding("image")  # frames are not read, and need not be alike
    files = [
        read_file(path, [rows.name, name], set(), {name}, rows.bounds, decoding)
        for path in video_set.paths
    ]
    for file, identity in zip(files, video_set.identities, strict=True):
        require_identity(file.path, identity, file.identity)
    values, of_rows = values_of_files(files, name), are_of_rows(files, name)
    if values is None:
        of_rows = True
        parts = [part for file in files for part in file.parts[name]]
        if len(parts[0].shape) > 2:  # not read for nothing
            raise ArgumentError(
                f"{name!r} must have one value a row, or one a recording. Received: rows of shape "
                f"{parts[0].shape[1:]}"
            )
        values = np.concatenate(read_rows(parts, [part.shape[0] for part in parts]))
    index = index_of_values(name, values, rows.name, rows.index, of_rows)
    return _at(video_set, name, values, index)


def _at(video_set: VideoSet, name: str, values: NDArray[Any], index: SampleIndex) -> NDArray[Any]:
    """Returns the values of samples, where an index of one part says that they are."""
    assert video_set.windows is not None
    if index.is_shifted:
        check_not_drawn(name, values, video_set.windows.index)
    _, at = index.rows(np.arange(video_set.num_samples))
    of_samples: NDArray[Any] = values[at]
    return of_samples


def values_elsewhere(
    paths: Sequence[str], name: str, *, is_label: bool
) -> tuple[NDArray[Any], Files, str] | None:
    """Reads the values of a dataset of other files, such as `"labels.h5:class"`.

    Args:
        paths: The files of the set.
        name: The name.
        is_label: Whether it may be strings.

    Returns:
        The values of all of its files, strings as `str` objects; the files; and the name there.
        None: the name is that of a dataset of the set's own files.
    """
    pattern, dataset_name = place_of(paths, name)
    if pattern is None:
        return None
    found, files = [], []
    for path in map(absolute_path, expand_beside(pattern, paths)):
        with open_file(path) as file:
            opened = OpenedFile.of(file)
            files.append((path, opened.identity))
            values = small_values(opened, dataset_name)
            count = read_sample_count(file, dataset_name, len(values)).num_samples
            found.append(values[:count])
    values = joined_values(pattern, dataset_name, found, is_label=is_label)
    return values, tuple(files), dataset_name


def check_not_drawn(name: str, values: NDArray[Any], index: WindowIndex) -> None:
    """Raises an ArgumentError if samples have other values in each epoch: anchors are drawn.

    Args:
        name: Name of the dataset, for the message.
        values: (rows, ...), of all rows of all parts.
        index: The windows.
    """
    if index.choices is None:
        return
    recordings, num_rows = index.recordings, index.anchors.num_rows
    is_first = np.zeros(len(values) + 1, np.bool_)
    starts = (np.cumsum(num_rows) - num_rows)[recordings.parts] + recordings.first_rows
    is_first[starts] = is_first[starts + recordings.lengths] = True
    changes = (values[1:] != values[:-1]).reshape(len(values) - 1, -1).any(axis=1)
    if (changes & ~is_first[1:-1]).any():
        raise ArgumentError(
            f"{name!r} has several values in a recording, and windows are drawn anew each epoch: a "
            "sample has no value that stays. Pass one value for each recording, or a `position` "
            'other than "random".'
        )


def values_of_files(files: Sequence[RecordingFile], name: str) -> NDArray[Any] | None:
    """Returns the values of recordings; None: the dataset has their rows."""
    found = [file.values.get(name) for file in files]
    values = [item for item in found if item is not None]
    if not values or all(name in file.parts for file in files):
        is_ambiguous = len(values) == len(files) and any(
            (np.diff(edges) != 1).any() for file in files for edges in file.edges
        )
        if is_ambiguous:
            raise FileFormatError(
                f"{files[0].path}: {name!r} has as many rows as there are frames, and as there are "
                "recordings. Pass its values as an array of one value for each recording."
            )
        return None
    if len(values) < len(found):
        with_rows = next(file.path for file in files if name not in file.values)
        raise FileFormatError(
            f"{name!r} must be the same in all files: it has the rows of the recordings in "
            f"{with_rows}, and a value for each recording elsewhere."
        )
    shapes = {(item.shape[1:], item.dtype) for item in values}
    if len(shapes) > 1:
        raise FileFormatError(
            f"The values of {name!r} must be alike in all files. Received: "
            f"{', '.join(f'{dtype} of shape {shape}' for shape, dtype in shapes)}"
        )
    return np.concatenate(values)


def are_of_rows(files: Sequence[RecordingFile], name: str) -> bool:
    """Whether values of files are those of rows, not of recordings."""
    return any(name in file.row_values for file in files)


def index_of_values(
    name: str, values: NDArray[Any], first: str, index: WindowIndex, of_rows: bool | None
) -> SampleIndex:
    """Returns where the value of each sample is among values of recordings, or of rows.

    Args:
        name: Name of the values, for messages.
        values: They.
        first: Name of the dataset of frames.
        index: The windows.
        of_rows: Whether they are those of rows; None: as their number says.
    """
    num_rows = index.anchors.num_rows
    num_recordings, total = len(index.recordings), int(num_rows.sum())
    is_each = len(values) == num_recordings and of_rows is not True
    is_rows = len(values) == total and of_rows is not False
    if is_each and is_rows and (index.recordings.lengths != 1).any():
        raise ArgumentError(
            f"{name} has {total} values: as many as {first!r} has rows, and as there are "
            "recordings; some of these are empty. It cannot be told what they are of."
        )
    if is_each:
        return index.by_recording()
    if is_rows:
        starts = np.cumsum(num_rows) - num_rows
        runs = index.anchors
        return replace(
            runs,
            run_parts=np.zeros_like(runs.run_parts),
            run_rows=runs.run_rows + starts[runs.run_parts],
            num_rows=np.array([total], np.int64),
            limits=None,
        )
    raise ArgumentError(
        f"{name} must have a value for each of the {num_recordings} recordings, or for each of the "
        f"{total} rows of {first!r}. Received: shape {values.shape}"
    )


def inferred_classes(path: Paths, files: Sequence[RecordingFile]) -> NDArray[Any]:
    """Returns the class of each recording: what the first `*` of its name or path stands for."""
    names: list[str] = []
    if files[0].matches != [()]:
        for file in files:
            for match, edges in zip(file.matches, file.edges, strict=True):
                names += [match[0]] * (len(edges) - 1)
    elif isinstance(path, str) and glob.has_magic(path):
        pattern = re.compile(_expression(absolute_path(path)), re.DOTALL)
        for file in files:
            found = pattern.fullmatch(file.path)
            if found is None:
                raise ArgumentError(
                    f'y="inferred" cannot tell what the first `*` of {path!r} stands for in '
                    f"{file.path}."
                )
            names += [found.group(1)] * file.num_recordings
    else:
        raise ArgumentError(
            'y="inferred" needs a `*` in the name of x or in `path`, which stands for the class, '
            f"such as path='videos/*/*.h5'. Received: path={path!r}"
        )
    return np.array(names, object)


def _expression(pattern: str) -> str:
    """Returns the regular expression of a glob, with a group for what the first `*` stands for."""
    found = ""
    has_group = False
    for piece in re.split(r"(\*\*/?|\*|\?|\[!?[^]]+\])", pattern):
        if piece.startswith("**"):
            found += ".*"
        elif piece == "*":
            found += "[^/]*" if has_group else "([^/]*)"
            has_group = True
        elif piece == "?":
            found += "[^/]"
        elif piece.startswith("[") and piece.endswith("]"):
            found += f"[^{piece[2:-1]}]" if piece[1] == "!" else piece
        else:
            found += re.escape(piece)
    return found if has_group else f"({found})"
