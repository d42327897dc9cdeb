"""Copies what files hold beside frames that are datasets of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from h5video_data.errors import H5VideoError, RepackingError
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file

from . import transfer
from .transfer import SkippedItem


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
                for name, item in _items(source):
                    if name.strip("/") not in left_out:
                        self._copy(path, name, item, target, f"{group}/{name}".strip("/"))

    def _copy(self, path: str, name: str, item: Any, target: h5py.File, new_name: str) -> None:
        what = f"{name!r} of {path}"
        if new_name.split("/")[0] in self._taken:
            reason = "has a name that another dataset has in the new file"
            self._skipped.append(SkippedItem(what, reason))
            return
        try:
            if isinstance(item, h5py.Dataset):
                transfer.check_copyable(item)
                where = PurePosixPath("/", new_name)
                group = target.require_group(str(where.parent))
                link = transfer.link_properties(where.name.encode())
                if not transfer.copy_by_hdf5(item, group.id, where.name.encode(), link):
                    new = transfer.make_like(item, target)
                    transfer.copy_rows(item, new)
                    group[where.name] = new
            elif not len(item.attrs):
                return  # made when something is in it
            else:
                target.require_group(f"/{new_name}")
        except transfer.SkipError as error:
            self._skipped.append(SkippedItem(what, str(error)))
            return
        except H5VideoError as error:
            self._skipped.append(SkippedItem(what, f"cannot be read: {error}"))
            return
        self._copied.append((path, name, f"/{new_name}"))
        for attribute in item.attrs:
            try:
                transfer.copy_attribute(item.id, target[f"/{new_name}"].id, attribute.encode())
            except transfer.SkipError as error:
                self._skipped.append(SkippedItem(f"attribute {attribute!r} of {what}", str(error)))

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
    """Yields names and items of a file, its root first; links are not followed."""
    names: list[str] = []
    file.visit(names.append)
    yield "", file["/"]
    for name in names:
        with contextlib.suppress(*HDF5_ERRORS):
            item = file[name]
            if isinstance(item, (h5py.Dataset, h5py.Group)):
                yield name, item
