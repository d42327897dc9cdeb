"""Names in an HDF5 file: lists datasets, follows links, finds a dataset by its name.

Easy to miss: names are bytes, usually but not always UTF-8. Here they are `str`, with other bytes
as in Python's file names ("surrogateescape"). Soft and external links are not followed while names
are listed, as they may form cycles.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py

from h5video_data.errors import DatasetNotFoundError, ExternalFileError, FileFormatError

from .descriptors import check_openable, with_free_descriptors
from .external import (
    allowing_external,
    check_growing_sources,
    check_links,
    is_an_offset,
    open_checked,
)
from .hdf5_files import HDF5_ERRORS, path_of

_MAX_NAMES_SHOWN = 20  # in an error message


def name_text(name: str | bytes | None) -> str:
    """Returns a name as `str`; h5py returns `bytes` for one that is not UTF-8."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name or ""


def name_bytes(name: str) -> bytes:
    """Returns a name as it is stored in the file."""
    return name.encode("utf-8", "surrogateescape")


def open_item(file: Any, name: str) -> Any:
    """Opens the dataset, group or named type of that name in an `h5py.File` or `h5py.Group`.

    Raises:
        ExternalFileError: A link leads to a file that this one may not lead to.
        Exception: One of `HDF5_ERRORS`.
    """
    check_links(file, name_bytes(name))
    item = file[name_bytes(name)]
    if isinstance(item, h5py.Dataset):
        check_growing_sources(item)
    return item


class FoundDataset:
    """A dataset that was opened among many: an `h5py.Dataset`, made when more of it is needed.

    Attributes:
        id: Its `h5py.h5d.DatasetID`.
        offset: Where its values are, if it is contiguous: see `layout`.
        plist: The `h5py.h5p.PropDCID` of its creation; None: not asked for, for it is contiguous.
        shape: Its shape; None: it is empty (`h5py.Empty`).
        is_own: Whether it is known to be in the file by one of whose names it was opened.

    Args:
        found: The identifier.
        is_own: As the attribute.
    """

    __slots__ = ("_dataset", "id", "is_own", "offset", "plist", "shape")

    def __init__(self, found: Any, *, is_own: bool) -> None:
        self.id = found
        self.is_own = is_own
        self._dataset: Any = None
        self.offset: int | None = found.get_offset()
        self.plist: Any = None
        if not is_an_offset(self.offset):
            self.plist = found.get_create_plist()
            check_growing_sources(self, self.plist)
        self.shape: tuple[int, ...] | None = found.shape

    @property
    def _full(self) -> Any:
        if self._dataset is None:
            self._dataset = h5py.Dataset(self.id, readonly=True)
        return self._dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._full, name)

    def __len__(self) -> int:
        return len(self._full)

    def __getitem__(self, selection: Any) -> Any:
        return self._full[selection]


def open_found(group: Any, name: str, *, is_own: bool) -> Any:
    """Opens the object of a name in an `h5py.Group`, as `open_item` does.

    In half the time, which counts where a file has many.

    Args:
        group: The group.
        name: The name.
        is_own: Whether the group is in the file that is meant, by its name in that.

    Returns:
        A `FoundDataset`; a pair of an `h5py.Group` and whether it is in the file that is meant; or
        None for anything else.
    """
    found, is_within = open_checked(group, name_bytes(name))
    if isinstance(found, h5py.h5d.DatasetID):
        return FoundDataset(found, is_own=is_own and is_within)
    is_group = isinstance(found, h5py.h5g.GroupID)
    return (h5py.Group(found), is_own and is_within) if is_group else None


def _walk(file: Any) -> Iterator[tuple[str, str | None, Any]]:
    """Yields each object's first name, where a link of that name points to, and the object.

    The second is None for a hard link; the last is None for what cannot be opened, otherwise a
    `FoundDataset`, an `h5py.Group`, or True.
    """
    seen = {_address(file, b"/" if isinstance(file, h5py.File) else b".")}
    pending = [("", file)]
    while pending:
        prefix, group = pending.pop()
        links: dict[bytes, int] = {}
        with contextlib.suppress(*HDF5_ERRORS):  # other parts of a damaged file may be whole
            # In any other order HDF5 builds a table first, which ends the process if the list of
            # links is damaged (1.14.6); so does h5py's own `visititems`.
            group.id.links.iterate(
                lambda key, info, links=links: links.__setitem__(key, info.type),
                info=True,
                order=h5py.h5.ITER_NATIVE,
            )
        groups = []
        for link, kind in sorted((name_text(key), kind) for key, kind in links.items()):
            is_hard = kind == h5py.h5l.TYPE_HARD
            name, item = prefix + link, None
            target = None if is_hard else _link_target(group, link)
            try:
                item = open_found(group, link, is_own=is_hard)
                item = item[0] if isinstance(item, tuple) else True if item is None else item
                address = _address(item) if is_hard and item is not True else None
                if address is not None:
                    if address in seen:
                        continue
                    seen.add(address)
            except ExternalFileError as error:
                target = f"another file: {error}"
            except HDF5_ERRORS:
                pass
            yield name, target, item
            if target is None and isinstance(item, h5py.Group):
                groups.append((f"{name}/", item))
        pending += reversed(groups)


def _address(item: Any, name: bytes = b".") -> tuple[int, int] | None:
    """Returns what tells an object, or that of a name in it, from others; None: it is damaged."""
    with contextlib.suppress(*HDF5_ERRORS):
        info = h5py.h5o.get_info(item.id, name)
        return info.fileno, info.addr
    return None


def _link_target(file: Any, name: str) -> str | None:
    """Describes where a soft or external link points to that cannot be followed, or None."""
    try:
        link = file.get(name_bytes(name), getlink=True)
    except HDF5_ERRORS:
        return None
    if isinstance(link, h5py.SoftLink):
        return f"{link.path!r}, which does not exist"
    if isinstance(link, h5py.ExternalLink):
        return f"{link.path!r} in {link.filename!r}, which does not exist or cannot be opened"
    return None


def _is_hard_link(file: Any, name: str) -> bool:
    """Whether there is an object of that name, damaged or not."""
    try:
        return isinstance(file.get(name_bytes(name), getlink=True), h5py.HardLink)
    except HDF5_ERRORS:
        return False


class Listed(NamedTuple):
    """The names of the datasets of a file."""

    own: list[str]
    """Of the file itself, such as "group/X", each by the first of its names."""
    linked: list[str]
    """Behind soft and external links, also those in linked groups of other files."""
    problems: list[str]
    """A sentence for each link that leads nowhere and each object that cannot be opened."""


def list_names(file: Any) -> Listed:
    """Lists the datasets of an open `h5py.File` or `h5py.Group`."""
    listed = Listed([], [], [])
    for name, target, item in _walk(file):
        if item is None and target:
            listed.problems.append(f"the link {name!r} leads to {target}")
        elif item is None:
            listed.problems.append(f"{name!r} is damaged: HDF5 cannot open it")
        elif isinstance(item, FoundDataset):
            (listed.linked if target else listed.own).append(name)
        elif target and isinstance(item, h5py.Group) and item.file != file.file:
            listed.linked.extend(f"{name}/{key}" for key in dataset_names(item))
    return listed


def dataset_names(file: Any) -> list[str]:
    """Lists the datasets of an open `h5py.File`, such as "group/X", without those behind links."""
    return list_names(file).own


def linked_names(file: Any) -> tuple[list[str], list[str]]:
    """Lists what the soft and external links of an open `h5py.File` lead to.

    Returns:
        The names of datasets behind links; and the problems: see `Listed`.
    """
    listed = list_names(file)
    return listed.linked, listed.problems


def all_names(file: Any) -> list[str]:
    """Lists all datasets of an open `h5py.File`, those behind links last."""
    listed = list_names(file)
    return listed.own + listed.linked


def own_name(dataset: Any, opened_by: str | None = None) -> str:
    """Returns a name of an `h5py.Dataset` in the file that contains it.

    Args:
        dataset: The dataset.
        opened_by: The name in that file by which it was opened, if that is known.
    """
    if opened_by is not None and isinstance(dataset, FoundDataset) and dataset.is_own:
        return f"/{opened_by.strip('/')}"
    name = name_text(dataset.name)
    if opened_by is not None and name == f"/{opened_by.strip('/')}":
        return name
    # If it was opened through a soft link to an external link, HDF5 reports the soft link's name,
    # which is one of another file.
    file = dataset.file
    with contextlib.suppress(ExternalFileError, *HDF5_ERRORS):
        if open_item(file, name) == dataset:
            return name
    names = dataset_names(file)
    return next((other for other in names if open_item(file, other) == dataset), name)


def dataset_location(dataset: Any) -> str:
    """Returns file and name of an `h5py.Dataset`, for messages."""
    return location_in(path_of(dataset.file), dataset)


def location_in(path: str, dataset: Any) -> str:
    """Returns `dataset_location` of a dataset of a file whose absolute path is known."""
    return f"{path}: dataset {name_text(dataset.name)!r}"


@with_free_descriptors
def find_dataset(file: Any, name: str) -> Any:
    """Opens the `h5py.Dataset` of that name.

    Raises:
        DatasetNotFoundError: There is none, or the name is that of a group, a type, or a link that
            leads nowhere. The message lists the datasets of the file.
        ExternalFileError: A link leads to a file that this one may not lead to.
        FileFormatError: It is damaged, or a link leads from a remote file to another file.
        UnavailableError: There is no descriptor for another file that a link leads to.
    """
    try:
        item = open_item(file, name)
    except HDF5_ERRORS as error:
        # HDF5 does not say that it had no descriptor for the file that a link leads to.
        check_openable(os.devnull)
        if _is_hard_link(file, name):
            raise FileFormatError(
                f"{path_of(file)}: {name!r} is damaged: HDF5 cannot open it. HDF5 error: {error}"
            ) from error
        message = _not_found(file, name)
        if isinstance(error, (KeyError, ValueError)):
            raise DatasetNotFoundError(message) from None
        raise DatasetNotFoundError(f"{message} HDF5 error: {error}") from error
    if not isinstance(item, h5py.Dataset):
        keys = all_names(item) if isinstance(item, h5py.Group) else []
        names = [f"{name.rstrip('/')}/{key}" for key in keys]
        raise DatasetNotFoundError(
            f"{path_of(file)}: {name!r} is a {type(item).__name__.lower()}, not a dataset."
            + (f" It contains {_listed(names)}." if names else "")
        )
    path_of(item.file)  # an error if a link led from a remote file to another one
    return item


@with_free_descriptors
def find_quickly(file: Any, name: str) -> Any:
    """Opens a dataset as `find_dataset`, and raises as that: a `FoundDataset`, if it is quick."""
    with contextlib.suppress(*HDF5_ERRORS):
        pieces = name.strip("/").split("/")
        found = open_found(file, name, is_own="" not in pieces and "." not in pieces)
        if isinstance(found, FoundDataset) and found.is_own:
            return found
    return find_dataset(file, name)


def find_again(file: Any, name: str) -> Any:
    """Opens a dataset whose layout was read, as `find_dataset`: what it may lead to was checked."""
    with allowing_external(True):
        return find_dataset(file, name)


def _listed(names: list[str]) -> str:
    shown, num_left = names[:_MAX_NAMES_SHOWN], len(names) - _MAX_NAMES_SHOWN
    return ", ".join(map(repr, shown)) + (f" and {num_left} more" if num_left > 0 else "")


def _not_found(file: Any, name: str) -> str:
    names = all_names(file)
    target = _link_target(file, name)
    message = f"{path_of(file)} has no dataset {name!r}"
    message += f": the link of that name leads to {target}" if target else ""
    message += f". It contains {_listed(names)}." if names else ". It contains no datasets."
    by_lower_case = {key.lower(): key for key in names}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return message + (f" Did you mean {by_lower_case[near[0]]!r}?" if near else "")
