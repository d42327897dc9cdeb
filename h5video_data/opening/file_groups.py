"""Opens the files of a set, and finds their datasets and how many samples each file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    UnsupportedDtypeError,
)
from h5video_data.set_values import place_of, rows_in_use
from h5video_data.storage.attributes import read_class_names, read_sample_count
from h5video_data.storage.file_identity import FileIdentity, absolute_path
from h5video_data.storage.hdf5_files import OpenedFile, open_file, path_of
from h5video_data.storage.hdf5_names import find_dataset, own_name
from h5video_data.storage.layout import describe
from h5video_data.storage.paths import expand_beside, other_file_hint
from h5video_data.storage.picture_rows import Decoding, describe_pictures
from h5video_data.storage.strings import describe_strings, is_strings, not_numbers_hint

from .fitting import Stored, check_class_names, check_file, transposed_hint
from .items import Items


class File(NamedTuple):
    """Facts about one file of a set."""

    path: str
    identity: FileIdentity
    parts: tuple[Stored, ...]
    """How each dataset is stored."""
    num_samples: int
    is_count_given: bool
    """Whether that is a `sample_count`."""
    class_names: tuple[str, ...] | None


@dataclass(eq=False)
class FileGroup:
    """The datasets that are in the same files: those of `path`, or others."""

    names: Mapping[str, str]
    """By their names as they were given, those in the files."""
    files: Sequence[File]
    counts: list[int]
    """Samples in each file."""
    class_names: tuple[str, ...] | None

    @property
    def paths(self) -> list[str]:
        """The paths of the files."""
        return [file.path for file in self.files]

    def parts(self, name: str) -> list[Stored]:
        """Returns how a dataset is stored in each file."""
        number = [*self.names].index(name)
        return [file.parts[number] for file in self.files]

    def fit_to(self, first: FileGroup) -> None:
        """Finds the rows that are samples, or raises a FileFormatError.

        Args:
            first: The group of the first dataset of x.
        """
        if self is first:
            return
        of_x = [file.parts[0] for file in first.files]
        try:
            self.counts = rows_in_use(
                next(iter(self.names)),
                self.counts,
                first.counts,
                [part.shape[0] for part in of_x],
                is_count_given=any(file.is_count_given for file in first.files),
            )
        except FileFormatError as error:
            hint = transposed_hint(of_x[0], self.files[0].parts[0])
            raise FileFormatError(f"{error}.{hint}") from None


def open_groups(
    paths: tuple[str, ...], items: Items, decoding: Decoding
) -> dict[tuple[str, ...], FileGroup]:
    """Opens the files of all datasets, and closes them again.

    Returns:
        By the paths, the datasets of these files; those of the first dataset of x come first.
    """
    names: dict[tuple[str, ...], dict[str, str]] = {}
    for name in items.datasets:
        pattern, dataset = place_of(paths, name)
        place = paths
        if pattern is not None:
            place = tuple(map(absolute_path, expand_beside(pattern, paths)))
        names.setdefault(place, {})[name] = dataset
    if paths not in names:
        raise ArgumentError(
            "At least one dataset must be in the files of `path`. Received: "
            f"{', '.join(map(repr, items.datasets))}, each of another file, and path={paths}"
        )
    groups = {}
    for place, datasets in names.items():
        files = []
        named: dict[tuple[str, ...], str] = {}
        for path in place:
            files.append(_open(path, datasets, items, decoding))
            check_class_names(files[-1].class_names, path, named)
        counts = [file.num_samples for file in files]
        groups[place] = FileGroup(datasets, files, counts, next(iter(named), None))
    return groups


def _open(path: str, names: Mapping[str, str], items: Items, decoding: Decoding) -> File:
    """Opens a file, checks that its datasets fit together, and closes it again."""
    x = items.element[0]
    with open_file(path) as file:
        opened = OpenedFile.of(file)
        parts = tuple(
            described(opened, dataset, decoding, is_label=name in items.labels)
            for name, dataset in names.items()
        )
        found = read_sample_count(file, next(iter(names.values())), parts[0].shape[0])
        check_file(
            path,
            parts,
            found.num_samples,
            video=names.get(x) if isinstance(x, str) else None,
            is_count_given=found.is_given,
        )
        class_names = read_class_names(file)
    count, is_given = found.num_samples, found.is_given
    return File(path, opened.identity, parts, count, is_given, class_names)


def described(file: OpenedFile, name: str, decoding: Decoding, *, is_label: bool) -> Stored:
    """Describes a dataset, in the file itself or in one that a link leads to."""
    try:
        dataset = find_dataset(file.file, name)
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(f"{error}{other_file_hint(name)}") from None
    return described_dataset(file, dataset, name, decoding, is_label=is_label)


def described_dataset(
    file: OpenedFile, dataset: Any, name: str, decoding: Decoding, *, is_label: bool
) -> Stored:
    """Describes a dataset that was opened by a name in a file, as `described` does."""
    if file.holds(dataset):
        return _described_here(dataset, decoding, is_label=is_label, opened_by=name, file=file)
    path, linked_name = path_of(dataset.file), own_name(dataset)
    # Opened anew, for HDF5 does not compare what it opens by itself before it and after.
    del dataset
    with open_file(path) as linked:
        return _described_here(find_dataset(linked, linked_name), decoding, is_label=is_label)


def _described_here(
    dataset: Any,
    decoding: Decoding,
    *,
    is_label: bool,
    opened_by: str | None = None,
    file: OpenedFile | None = None,
) -> Stored:
    pictures = describe_pictures(dataset, decoding, opened_by)
    if pictures is not None:
        return pictures
    if is_label and is_strings(dataset):
        return describe_strings(dataset)
    try:
        return describe(dataset, opened_by, file=file)
    except UnsupportedDtypeError as error:
        hint = not_numbers_hint(dataset, is_label=is_label)
        raise UnsupportedDtypeError(f"{error}{hint}") from error
