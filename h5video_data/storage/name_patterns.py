"""Names with `*`, such as "data/*/obs/rgb": each dataset that matches is a recording."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import h5py

from h5video_data.errors import DatasetNotFoundError

from .descriptors import check_openable
from .hdf5_files import HDF5_ERRORS, path_of
from .hdf5_names import FoundDataset, name_text, open_found, open_item

Match = tuple[str, ...]
"""What each `*` of a name stands for."""
Found = tuple[Match, str, Any]
"""A match, the name of the dataset, and the dataset, open: an `h5py.Dataset` or `FoundDataset`."""


def natural_key(text: str) -> list[tuple[int, str]]:
    """Returns a key by which names sort with their numbers as numbers: demo_2 before demo_10."""
    pieces = re.split(r"(\d+)", text)
    return [(int(piece), piece) if piece.isdecimal() else (-1, piece) for piece in pieces]


def is_pattern(file: Any, name: str) -> bool:
    """Whether a name stands for several datasets of an `h5py.File`; `*` may be part of a name."""
    if "*" not in name:
        return False
    with contextlib.suppress(*HDF5_ERRORS):
        return not isinstance(open_item(file, name), h5py.Dataset)
    return True


def matching_names(file: Any, pattern: str) -> dict[Match, str]:
    """Returns the names of `matching_datasets`, by what each `*` stands for, in natural order."""
    return {match: name for match, name, _ in matching_datasets(file, pattern)}


def matching_datasets(file: Any, pattern: str) -> Iterator[Found]:
    """Opens the datasets that a pattern stands for, one at a time; links are followed.

    Args:
        file: An open `h5py.File`.
        pattern: A name in which each `*` stands for any part of one component of the name.

    Yields:
        In natural order, what each `*` stands for, the name of the dataset, and the `FoundDataset`.

    Raises:
        DatasetNotFoundError: A link that matches leads nowhere.
    """
    pieces = [piece for piece in pattern.split("/") if piece]
    return _matches(file, pieces, (), "", is_own="." not in pieces)


def _matches(
    group: Any, pieces: list[str], match: Match, prefix: str, *, is_own: bool
) -> Iterator[Found]:
    """Yields what `matching_datasets` does, below a group.

    Args:
        group: The `h5py.Group`.
        pieces: The components of the name that are left.
        match: What each `*` before them stands for.
        prefix: The name of the group, and a slash.
        is_own: Whether that is its name in the file that is searched.
    """
    piece, *rest = pieces
    for groups, key in _matching_keys(group, piece):
        name = f"{prefix}{key}"
        found = (*match, *groups)
        if rest and "*" not in "".join(rest):
            # One call for the groups between: there may be many recordings.
            with contextlib.suppress(*HDF5_ERRORS):
                tail = "/".join(rest)
                item = open_found(group, f"{key}/{tail}", is_own=is_own)
                if isinstance(item, FoundDataset):
                    yield found, f"{name}/{tail}", item
                continue
        try:
            item = open_found(group, key, is_own=is_own)
        except HDF5_ERRORS as error:
            if "*" not in piece and key not in _keys(group):
                continue
            # To leave out a recording whose file was moved would go unnoticed.
            check_openable(os.devnull)
            raise DatasetNotFoundError(
                f"{path_of(group.file)}: {name!r} is one of the recordings that the `*` stand for, "
                "and cannot be opened: a link that leads nowhere, or a damaged object. Restore "
                f"what it leads to, or choose names that leave it out. HDF5 error: {error}"
            ) from error
        if rest and isinstance(item, tuple):
            below, is_below_own = item
            yield from _matches(below, rest, found, f"{name}/", is_own=is_below_own)
        elif not rest and isinstance(item, FoundDataset):
            yield found, name, item


def _matching_keys(group: Any, piece: str) -> list[tuple[Match, str]]:
    """Returns what each `*` of one component of a name stands for, and the key, in order."""
    if "*" not in piece:
        return [((), piece)]
    expression = re.compile("(.*)".join(map(re.escape, piece.split("*"))), re.DOTALL)
    found = [(parts.groups(), key) for key in _keys(group) if (parts := expression.fullmatch(key))]
    return sorted(found, key=lambda item: [*map(natural_key, item[0])])


def _keys(group: Any) -> list[str]:
    links: list[bytes] = []
    with contextlib.suppress(*HDF5_ERRORS):
        # In another order, HDF5 may end the process if the list of links is damaged.
        group.id.links.iterate(links.append, order=h5py.h5.ITER_NATIVE)
    return [*map(name_text, links)]
