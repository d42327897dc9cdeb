"""What one file of a set holds of recordings: their rows, and values of each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import DatasetNotFoundError, FileFormatError
from h5video_data.sampling.bounds import BoundsKind, read_bounds
from h5video_data.storage.attributes import (
    read_attribute,
    read_class_names,
    read_sample_count,
)
from h5video_data.storage.hdf5_files import OpenedFile, open_file, path_of
from h5video_data.storage.hdf5_names import find_quickly
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.name_patterns import Found, Match, is_pattern, matching_datasets
from h5video_data.storage.picture_rows import Decoding, StoredPictures, holds_pictures
from h5video_data.storage.strings import is_strings

from .file_groups import described_dataset
from .fitting import Stored
from .recording_index import RecordingFile, saved_file, saving
from .small_values import is_unwritten, joined_values, small_values


def read_file(
    path: str,
    names: Sequence[str],
    windowed: set[str],
    labels: set[str],
    bounds: tuple[BoundsKind | None, str] | None,
    decoding: Decoding,
) -> RecordingFile:
    """Opens a file, finds its recordings, and closes it again; or takes them from an index.

    Args:
        path: Path of the file.
        names: Names of datasets, which may have a `*` for each recording, or "@" and the name of an
            attribute. The first one is that of frames.
        windowed: Those that need the rows of the recordings.
        labels: Those that may be strings.
        bounds: What divides the rows into recordings; None: each dataset is one.
        decoding: Which datasets are decoded as pictures, and how.

    Raises:
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    what: list[Any] = [[*names], sorted(windowed), sorted(labels), bounds, vars(decoding)]
    read = saved_file(path, what)
    if read is None:
        with saving(path, what) as save:
            read = _read_file(path, names, windowed, labels, bounds, decoding)
            save(read)
    return read


def _read_file(
    path: str,
    names: Sequence[str],
    windowed: set[str],
    labels: set[str],
    bounds: tuple[BoundsKind | None, str] | None,
    decoding: Decoding,
) -> RecordingFile:
    with open_file(path) as file:
        opened, first = OpenedFile.of(file), names[0]
        located: dict[str, list[str]] = {first: []}
        read = RecordingFile(path, opened.identity, parts={first: []})
        for match, item, dataset in _datasets(file, first):
            read.matches.append(match)
            located[first].append(item)
            read.parts[first].append(_rows_of(opened, dataset, item, decoding))
        lengths = [part.shape[0] for part in read.parts[first]]
        in_use = _rows_in_use(file, first, located[first], lengths)
        used = lengths if bounds else _rows_in_use_of_each(file, first, located[first], lengths)
        read.edges = _edges(file, bounds, read.matches, used, in_use)
        counts = [len(edges) - 1 for edges in read.edges]
        for name in names[1:]:
            if name[0] == "@":
                read.values[name] = _attributes(
                    file, located[first], name, counts, is_label=name in labels
                )
                continue
            may_be_text = name in labels - windowed
            shaped = _shaped(opened, name, lengths, may_be_text, decoding)
            located[name], num_rows, parts, is_text = shaped[1:]
            _check_matches(path, first, read.matches, name, shaped.matches)
            is_rows = num_rows == lengths
            is_each = [1 if n is None else n for n in num_rows] in (counts, [sum(counts)])
            if name in windowed and not is_rows:
                raise _unequal(path, first, located, name, lengths, num_rows)
            if not is_rows and not is_each:
                raise _unequal(path, first, located, name, lengths, num_rows, sum(counts))
            if is_rows and not is_text:
                read.parts[name] = parts
            # There may be as many rows as recordings: other files tell which of them is meant.
            # Pictures are no values of recordings.
            are_pictures = is_rows and any(isinstance(part, StoredPictures) for part in parts)
            if is_text or (is_each and name not in windowed and not are_pictures):
                values = [small_values(opened, item) for item in located[name]]
                read.values[name] = joined_values(path, name, values, is_label=name in labels)
                if not is_each:
                    read.row_values.add(name)
        read.class_names = read_class_names(file)
    return read


class _Shaped(NamedTuple):
    """The datasets of a name."""

    matches: list[Match]
    names: list[str]
    num_rows: list[int | None]
    """The rows of each, None for a scalar."""
    parts: list[StoredArray]
    """How they are stored, as far as they may have the rows of the frames."""
    is_text: bool
    """Whether some are strings."""


def _shaped(
    file: OpenedFile, name: str, lengths: Sequence[int], may_be_text: bool, decoding: Decoding
) -> _Shaped:
    """Looks at the datasets of a name.

    Args:
        file: The file.
        name: The name.
        lengths: Rows of each of the datasets of frames.
        may_be_text: Whether they may be strings.
        decoding: Which of them are decoded as pictures.
    """
    matches: list[Match] = []
    names: list[str] = []
    num_rows: list[int | None] = []
    parts: list[StoredArray] = []
    is_text, may_fit = False, True
    for match, item, dataset in _datasets(file.file, name):
        matches.append(match)
        names.append(item)
        num_rows.append(dataset.shape[0] if dataset.shape else None)
        is_text = is_text or (
            may_be_text and is_strings(dataset) and not holds_pictures(dataset, decoding)
        )
        here = len(num_rows) - 1
        may_fit = may_fit and here < len(lengths) and num_rows[here] == lengths[here]
        if may_fit and not is_text:
            parts.append(_rows_of(file, dataset, item, decoding))
    return _Shaped(matches, names, num_rows, parts, is_text)


def _datasets(file: Any, name: str) -> Iterator[Found]:
    """Opens the datasets that a name stands for, one at a time: open ones take memory."""
    if not is_pattern(file, name):
        yield (), name, find_quickly(file, name)
        return
    is_any = False
    for found in matching_datasets(file, name):
        is_any = True
        yield found
    if not is_any:
        raise DatasetNotFoundError(f"{path_of(file)}: no dataset matches {name!r}.")


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
    in_one = {*expected} ^ {*found}
    odd = [match for match in (*expected, *found) if match in in_one]
    raise FileFormatError(
        f"{path}: `*` must stand for the same recordings in {first!r} and {name!r}. Received: "
        f"{len(expected)} and {len(found)}; {len(odd)} in one of them alone, such as "
        f"{', '.join('/'.join(match) for match in odd[:3])}"
    )


def _rows_of(file: OpenedFile, dataset: Any, name: str, decoding: Decoding) -> StoredArray:
    stored: Stored = described_dataset(file, dataset, name, decoding, is_label=False)
    assert isinstance(stored, StoredArray)  # others are strings, which are labels
    if 0 in stored.shape[1:]:
        raise FileFormatError(
            f"{stored.path}: the rows of {name!r} are empty. Received: shape {stored.shape}"
        )
    return stored


def _rows_in_use(file: Any, first: str, names: Sequence[str], lengths: Sequence[int]) -> int | None:
    """Returns the `sample_count` of a file; None: it has none, or it is that of all rows.

    It may count recordings, too. That of a group of one recording of several does not matter.
    """
    shared = first.partition("*")[0] if len(names) > 1 else names[0]
    count = read_sample_count(file, shared, sum(lengths))
    is_short = count.is_given and count.num_samples != sum(lengths)
    return count.num_samples if is_short else None


def _rows_in_use_of_each(
    file: Any, first: str, names: Sequence[str], lengths: list[int]
) -> list[int]:
    """Returns how many rows of each recording are in use: by the `sample_count` of its own group.

    If neither the first one has that nor the last one, none of them has.
    """
    shared = first.partition("*")[0].rpartition("/")[0].strip("/")

    def in_use(name: str, length: int) -> int:
        count = read_sample_count(file, name, length)
        is_own = count.is_given and len(count.group.strip("/")) > len(shared)
        return count.num_samples if is_own else length

    if len(names) < 2 or all(
        in_use(names[i], lengths[i]) == lengths[i] for i in (0, len(names) - 1)
    ):
        return lengths
    return [in_use(name, length) for name, length in zip(names, lengths, strict=True)]


def _edges(
    file: Any,
    bounds: tuple[BoundsKind | None, str] | None,
    matches: list[Match],
    lengths: list[int],
    in_use: int | None,
) -> list[NDArray[np.int64]]:
    """Returns where the recordings of each part begin, and the end of the last one."""
    if bounds is None:
        if in_use is not None and matches == [()]:
            lengths = [in_use]
        elif in_use not in (None, len(matches)):
            raise FileFormatError(
                f"{path_of(file)}: the attribute `sample_count` is {in_use}, and there are "
                f"{len(matches)} recordings with {sum(lengths)} rows: it must be one of these "
                "numbers. Correct or delete the attribute."
            )
        return [np.array([0, length], np.int64) for length in lengths]
    kind, name = bounds
    located = {match: item for match, item, _ in _datasets(file, name)}
    if [*located] != matches:
        raise FileFormatError(
            f"{path_of(file)}: the bounds {name!r} must be there for each of the {len(matches)} "
            f"datasets that they divide. Received: {len(located)}"
        )
    opened = OpenedFile.of(file)
    values = [small_values(opened, item) for item in located.values()]
    for item, found, length in zip(located.values(), values, lengths, strict=True):
        # Zeros are rows of one id, or the start of one recording. More starts than that are not.
        if 1 < len(found) != length and not found.any() and is_unwritten(file, item):
            raise FileFormatError(
                f"{path_of(file)}: no values of the bounds {item!r} were written. Write them; or "
                "if that is not meant, the file is damaged."
            )
    where = [f"{path_of(file)}: {item!r}" for item in located.values()]

    def read(lengths: list[int]) -> list[NDArray[np.int64]]:
        each = zip(values, lengths, where, strict=True)
        return [read_bounds(found, length, place, kind) for found, length, place in each]

    if in_use is None:
        return read(lengths)
    with contextlib.suppress(FileFormatError):
        edges = read(lengths)
        if sum(map(len, edges)) - len(edges) == in_use:
            return edges  # it is the number of recordings
    if len(lengths) == 1:
        if len(values[0]) == lengths[0] and kind in (None, "ids"):
            values = [values[0][:in_use]]
        with contextlib.suppress(FileFormatError):
            return read([in_use])
    raise FileFormatError(
        f"{path_of(file)}: the attribute `sample_count` is {in_use}, and there are {sum(lengths)} "
        f"rows: the bounds {name!r} must divide the first {in_use} of them, or all of them into "
        f"{in_use} recordings. Correct or delete the attribute."
    )


def _attributes(
    file: Any, names: Sequence[str], item: str, counts: Sequence[int], *, is_label: bool
) -> NDArray[Any]:
    """Reads an attribute of each recording: of its dataset, or of the nearest group above it."""
    found = []
    attribute = item[1:]
    for name, count in zip(names, counts, strict=True):
        value = next(
            (v for v in (read_attribute(file, place, attribute) for place in _above(name))
             if v is not None),
            None,
        )  # fmt: skip
        if value is None:
            raise FileFormatError(
                f"{path_of(file)}: neither {name!r} nor a group above it has the attribute "
                f"{attribute!r}."
            )
        values = np.asarray(value)
        is_each = count > 1 and values.ndim > 0 and len(values) == count
        found.append(values if is_each else np.stack([values] * count))
    return joined_values(path_of(file), item, found, is_label=is_label)


def _above(name: str) -> Iterator[str]:
    pieces = [piece for piece in name.split("/") if piece]
    for depth in range(len(pieces), -1, -1):
        yield "/" + "/".join(pieces[:depth])


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
        shown = [n for n in num_rows if n is not None]
        place = f"{first!r} has {sum(lengths)}, {name!r} has {sum(shown) if shown else 'none'}"
    return FileFormatError(
        f"{path}: {name!r} must have as many rows as {first!r}{each}. Received: {place}"
    )
