"""Copies what files hold beside frames that are datasets of their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from h5video_data.errors import H5VideoError, RepackingError
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.hdf5_names import name_text

from . import transfer
from .links import moved_link
from .transfer import SkippedItem

_TAKEN = "has a name that another dataset has in the new file"


class OtherItems:
    """The datasets of files that are no frames, and the attributes of these and of all groups.

    Args:
        files: For the path of each, the names of the datasets that are not copied.
        taken: Names in the new file that are those of other datasets.
        skipped: What could not be copied is added to it.
    """

    def __init__(
        self, files: Mapping[str, set[str]], taken: set[str], skipped: list[SkippedItem]
    ) -> None:
        self._files = list(files.items())
        self._taken = taken
        self._skipped = skipped
        self._copied: list[tuple[str, str, str]] = []  # file, its item, the copy

    def copy(self, target: h5py.File) -> None:
        """Copies them: from one file, to the same names; from several, to a group for each."""
        self._copied.clear()
        stems = [Path(path).name for path, _ in self._files]
        for number, (path, left_out) in enumerate(self._files):
            group = ""
            if len(self._files) > 1:
                is_unique = stems.count(stems[number]) == 1
                group = stems[number] if is_unique else f"{number}-{stems[number]}"
            with open_file(path) as source:
                copies: dict[Any, str] = {}  # for objects that have several names
                soft: list[tuple[str, str]] = []
                for name, item in _items(source):
                    new_name = f"{group}/{name}".strip("/")
                    if name.strip("/") in left_out:
                        continue
                    if isinstance(item, h5py.SoftLink):
                        soft.append((name, item.path))
                    elif isinstance(item, h5py.ExternalLink):
                        self._link_to_another_file(path, item, target, new_name)
                    elif (key := transfer.identity(item.id)) in copies:
                        target[f"/{new_name}"] = target[copies[key]]
                    elif self._copy(path, name, item, target, new_name):
                        copies[key] = f"/{new_name}"
                for name, where in soft:  # when all is there that they may lead to
                    self._link(path, name, where, target, group)

    def _link(self, path: str, name: str, where: str, target: h5py.File, group: str) -> None:
        """Copies a soft link; one from the root of a file leads to its group."""
        new_name = f"/{group}/{name}" if group else f"/{name}"
        where = f"/{group}{where}" if group and where.startswith("/") else where
        place = where if where.startswith("/") else f"{PurePosixPath(new_name).parent}/{where}"
        if self._is_taken(new_name):
            self._skipped.append(SkippedItem(f"link {name!r} of {path}", _TAKEN))
            return
        if place not in target:
            reason = "leads to something that is not in the new file"
            self._skipped.append(SkippedItem(f"link {name!r} of {path}", reason))
            return
        target[new_name] = h5py.SoftLink(where)

    def _link_to_another_file(
        self, path: str, link: h5py.ExternalLink, target: h5py.File, new_name: str
    ) -> None:
        if self._is_taken(new_name):
            self._skipped.append(SkippedItem(f"link to {link.path!r} of {path}", _TAKEN))
            return
        folder = os.path.dirname(os.path.abspath(target.filename))
        filename = os.fsdecode(moved_link(path, os.fsencode(link.filename), folder))
        target[f"/{new_name}"] = h5py.ExternalLink(filename, link.path)

    def _is_taken(self, new_name: str) -> bool:
        return new_name.strip("/").split("/")[0] in self._taken

    def _copy(self, path: str, name: str, item: Any, target: h5py.File, new_name: str) -> bool:
        """Copies an item with its attributes; returns whether it is in the new file."""
        what = f"{name!r} of {path}"
        if self._is_taken(new_name):
            self._skipped.append(SkippedItem(what, _TAKEN))
            return False
        try:
            where = PurePosixPath("/", new_name)
            link = transfer.link_properties(where.name.encode())
            if isinstance(item, h5py.Dataset):
                transfer.check_copyable(item)
                group = target.require_group(str(where.parent))
                if not transfer.copy_by_hdf5(item, group.id, where.name.encode(), link):
                    new = transfer.make_like(item, target)
                    transfer.copy_rows(item, new)
                    group[where.name] = new
            elif isinstance(item, h5py.Datatype):
                group = target.require_group(str(where.parent))
                transfer.copy_object(item.id, group.id, where.name.encode(), link)
            elif not len(item.attrs):
                return False  # made when something is in it
            else:
                target.require_group(f"/{new_name}")
        except transfer.SkipError as error:
            self._skipped.append(SkippedItem(what, str(error)))
            return False
        except H5VideoError as error:
            self._skipped.append(SkippedItem(what, f"cannot be read: {error}"))
            return False
        self._copied.append((path, name, f"/{new_name}"))
        for attribute in item.attrs:
            try:
                transfer.copy_attribute(item.id, target[f"/{new_name}"].id, attribute.encode())
            except transfer.SkipError as error:
                self._skipped.append(SkippedItem(f"attribute {attribute!r} of {what}", str(error)))
        return True

    def check(self, complete: Path) -> None:
        """Compares what was copied with what HDF5 reads in the complete file.

        Raises:
            RepackingError: Something is different.
        """
        with open_file(str(complete)) as new:
            for path, name, new_name in self._copied:
                with open_file(path) as source:
                    old, copy = source[f"/{name}"], new[new_name]
                    is_same = all(
                        transfer.same_attribute(old.id, copy.id, attribute.encode())
                        for attribute in old.attrs
                        if attribute in copy.attrs
                    )
                    if isinstance(old, h5py.Dataset):
                        is_same &= old.shape == copy.shape and transfer.same_rows(old, copy)
                if not is_same:
                    raise RepackingError(
                        f"{path}: {name!r}: HDF5 reads something else in the new file, which was "
                        "removed."
                    )


def _items(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Yields names and items of a file, its root first; of links that are not hard, the links."""
    names: list[bytes] = []
    file.id.links.visit(names.append)
    yield "", file["/"]
    for name in map(name_text, names):
        with contextlib.suppress(*HDF5_ERRORS):
            link = file.get(name, getlink=True)
            item = file[name] if isinstance(link, h5py.HardLink) else link
            yield name, item
