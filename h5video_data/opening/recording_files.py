"""What one file of a set holds of recordings: their rows, and values of each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import DatasetNotFoundError, FileFormatError
from h5video_data.sampling.bounds import BoundsKind, read_bounds
from h5video_data.storage.attributes import read_attribute, read_class_names
from h5video_data.storage.file_identity import FileIdentity
from h5video_data.storage.hdf5_files import file_identity, open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.name_patterns import Match, is_pattern, matching_names
from h5video_data.storage.strings import as_text
from h5video_data.storage.values import Values

from .file_groups import described
from .fitting import Stored

# Bounds, and values of recordings, are read whole.
MAX_VALUES_NBYTES = 1 << 30


@dataclass(eq=False)
class RecordingFile:
    """The recordings of one file."""

    path: str
    identity: FileIdentity
    matches: list[Match]
    """For each part, what the `*` of its name stand for; one part without any."""
    parts: dict[str, list[StoredArray]] = field(default_factory=dict)
    """By name, how the datasets are stored that have the rows of the recordings."""
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    """By name, values (recordings, ...); strings as `str` objects."""
    edges: list[NDArray[np.int64]] = field(default_factory=list)
    """For each part, where its recordings begin, and the end of the last one."""
    class_names: tuple[str, ...] | None = None

    @property
    def num_recordings(self) -> int:
        """Recordings of the file."""
        return sum(len(edges) - 1 for edges in self.edges)


def read_file(
    path: str,
    names: Sequence[str],
    windowed: set[str],
    labels: set[str],
    bounds: tuple[BoundsKind | None, str] | None,
) -> RecordingFile:
    """Opens a file, finds its recordings, and closes it again.

    Args:
        path: Path of the file.
        names: Names of datasets, which may have a `*` for each recording, or "@" and the name of an
            attribute. The first one is that of frames.
        windowed: Those that need the rows of the recordings.
        labels: Those that may be strings.
        bounds: What divides the rows into recordings; None: each dataset is one.

    Raises:
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    with open_file(path) as file:
        found = {name: _located(file, name) for name in names if name[0] != "@"}
        first = names[0]
        matches = [*found[first]]
        for name, by_match in found.items():
            _check_matches(path, first, matches, name, [*by_match])
        read = RecordingFile(path, file_identity(file), matches)
        located = {name: [by_match[m] for m in by_match] for name, by_match in found.items()}
        read.parts[first] = [_rows_of(file, name) for name in located[first]]
        lengths = [part.shape[0] for part in read.parts[first]]
        read.edges = _edges(file, bounds, matches, lengths)
        counts = [len(edges) - 1 for edges in read.edges]
        for name in names[1:]:
            if name[0] == "@":
                read.values[name] = _attributes(file, located[first], name[1:], counts)
                continue
            shapes = [find_dataset(file, item).shape for item in located[name]]
            num_rows = [shape[0] if shape else None for shape in shapes]
            is_rows = num_rows == lengths
            is_each = [1 if n is None else n for n in num_rows] in (counts, [sum(counts)])
            if is_rows and is_each and any((np.diff(edges) != 1).any() for edges in read.edges):
                raise FileFormatError(
                    f"{path}: {name!r} has {sum(counts)} rows: as many as {first!r}, and as there "
                    "are recordings. Pass its values as an array of one value for each recording."
                )
            if is_rows or name in windowed:
                if not is_rows:
                    raise _unequal(path, first, located, name, lengths, num_rows)
                read.parts[name] = [_rows_of(file, item) for item in located[name]]
            elif is_each:
                values = [_values(file, item) for item in located[name]]
                read.values[name] = _texts(np.concatenate(values), is_label=name in labels)
            else:
                raise _unequal(path, first, located, name, lengths, num_rows, sum(counts))
        read.class_names = read_class_names(file)
    return read


def _located(file: Any, name: str) -> Mapping[Match, str]:
    """Returns the datasets that a name stands for."""
    if not is_pattern(file, name):
        return {(): name}
    found = matching_names(file, name)
    if not found:
        raise DatasetNotFoundError(f"{file.filename}: no dataset matches {name!r}.")
    return found


def _check_matches(
    path: str, first: str, expected: list[Match], name: str, found: list[Match]
) -> None:
    """Raises a FileFormatError if the `*` of two names stand for other recordings."""
    if found in ([()], expected):
        return
    if expected == [()]:
        raise FileFormatError(
            f"{path}: {name!r} stands for {len(found)} datasets, and {first!r} for one: `*` must "
            "stand for the same recordings in both."
        )
    odd = [m for m in (*expected, *found) if (m in expected) != (m in found)]
    raise FileFormatError(
        f"{path}: `*` must stand for the same recordings in {first!r} and {name!r}. Received: "
        f"{len(expected)} and {len(found)}; {len(odd)} in one of them alone, such as "
        f"{', '.join('/'.join(match) for match in odd[:3])}"
    )


def _rows_of(file: Any, name: str) -> StoredArray:
    stored: Stored = described(file, name, is_label=False)
    if not isinstance(stored, StoredArray):  # strings are read as values of recordings alone
        raise FileFormatError(f"{stored.path}: {name!r} must hold numbers. Received: strings")
    if 0 in stored.shape[1:]:
        raise FileFormatError(
            f"{stored.path}: the rows of {name!r} are empty. Received: shape {stored.shape}"
        )
    return stored


def _edges(
    file: Any,
    bounds: tuple[BoundsKind | None, str] | None,
    matches: list[Match],
    lengths: list[int],
) -> list[NDArray[np.int64]]:
    """Returns where the recordings of each part begin, and the end of the last one."""
    if bounds is None:
        return [np.array([0, length], np.int64) for length in lengths]
    kind, name = bounds
    located = _located(file, name)
    if [*located] != matches:
        raise FileFormatError(
            f"{file.filename}: the bounds {name!r} must be there for each of the {len(matches)} "
            f"datasets that they divide. Received: {len(located)}"
        )
    return [
        read_bounds(_values(file, item), length, f"{file.filename}: {item!r}", kind)
        for item, length in zip(located.values(), lengths, strict=True)
    ]


def _values(file: Any, name: str) -> NDArray[Any]:
    """Reads a small dataset whole, a scalar as one value."""
    dataset = find_dataset(file, name)
    nbytes = math.prod(dataset.shape or (1,)) * dataset.dtype.itemsize
    if nbytes > MAX_VALUES_NBYTES:
        raise FileFormatError(
            f"{file.filename}: {name!r} has {nbytes} bytes, too many for values of recordings."
        )
    if not dataset.shape:
        return np.asarray(dataset[()]).reshape(1)
    return np.asarray(Values(dataset, dataset.shape[0]).read(slice(0, dataset.shape[0])))


def _attributes(
    file: Any, names: Sequence[str], attribute: str, counts: Sequence[int]
) -> NDArray[Any]:
    """Reads an attribute of each recording: of its dataset, or of the nearest group above it."""
    found = []
    for name, count in zip(names, counts, strict=True):
        value = next(
            (v for v in (read_attribute(file, place, attribute) for place in _above(name))
             if v is not None),
            None,
        )  # fmt: skip
        if value is None:
            raise FileFormatError(
                f"{file.filename}: neither {name!r} nor a group above it has the attribute "
                f"{attribute!r}."
            )
        values = np.asarray(value)
        is_each = count > 1 and values.ndim > 0 and len(values) == count
        found.append(values if is_each else np.stack([values] * count))
    try:
        return _texts(np.concatenate(found), is_label=True)
    except ValueError as error:
        raise FileFormatError(
            f"{file.filename}: the attribute {attribute!r} must have the same shape for all "
            f"recordings. Received: {', '.join(str(item.shape[1:]) for item in found[:4])}"
        ) from error


def _above(name: str) -> Iterator[str]:
    pieces = [piece for piece in name.split("/") if piece]
    for depth in range(len(pieces), -1, -1):
        yield "/" + "/".join(pieces[:depth])


def _texts(values: NDArray[Any], *, is_label: bool) -> NDArray[Any]:
    """Returns strings as objects of `str`, and numbers in native byte order."""
    if values.dtype.kind in "biufc":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    texts = np.empty(values.size, object)
    for number, value in enumerate(values.ravel().tolist()):
        if not is_label or not isinstance(value, (str, bytes)):
            raise FileFormatError(f"Values must be numbers or strings. Received: {value!r}")
        texts[number] = as_text(value)
    return texts.reshape(values.shape)


def _unequal(
    path: str,
    first: str,
    located: Mapping[str, Sequence[str]],
    name: str,
    lengths: Sequence[int],
    num_rows: Sequence[int | None],
    num_recordings: int | None = None,
) -> FileFormatError:
    """Returns the error for a dataset whose rows are not those of the frames."""
    each = "" if num_recordings is None else f", or one for each of {num_recordings} recordings"
    if len(num_rows) == len(lengths):
        i = next(i for i, n in enumerate(lengths) if num_rows[i] != n)
        place = f"{located[first][i]!r} has {lengths[i]}, {located[name][i]!r} has {num_rows[i]}"
    else:
        place = f"{first!r} has {sum(lengths)}, {name!r} has {num_rows}"
    return FileFormatError(
        f"{path}: {name!r} must have as many rows as {first!r}{each}. Received: {place}"
    )
