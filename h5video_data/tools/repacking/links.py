"""Finds the files that an HDF5 file refers to: by links, virtual datasets, or external storage."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from typing import Any

import h5py

from h5video_data.errors import H5VideoError
from h5video_data.storage.external import (
    LINK_PREFIX,
    SOURCE_PREFIX,
    STORAGE_PREFIX,
    may_lead_to,
)
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.paths import hdf5_search_path

from .transfer import identity

# The variable that says where HDF5 looks first, by the kind of reference (HDF5 User Guide,
# "External links", H5Pset_virtual_prefix, H5Pset_efile_prefix).
_LINK, _SOURCE, _RAW = LINK_PREFIX, SOURCE_PREFIX, STORAGE_PREFIX


def moved_link(path: str, filename: bytes, folder: str) -> bytes:
    """Returns the file name in an external link of the file `path`, for a copy in `folder`."""
    if os.path.isabs(filename):
        return filename
    found = filter(os.path.exists, hdf5_search_path(path, os.fsdecode(filename), _LINK))
    return next((os.fsencode(_relative(place, folder)) for place in found), filename)


def _relative(path: str, folder: str) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return os.path.abspath(path)


def linked_files(path: str) -> set[str]:
    """Returns the real paths of a file and of all regular files that it refers to, also indirectly.

    Where HDF5 may look in several places, a file in each of them counts. What cannot be read is
    ignored; what a file may not lead to (see `storage.external`) is not opened.
    """
    found: set[str] = set()
    waiting = [os.path.abspath(path)]
    while waiting:
        here = waiting.pop()
        if os.path.realpath(here) in found or not os.path.isfile(here):  # opening a pipe would hang
            continue
        found.add(os.path.realpath(here))
        with contextlib.suppress(H5VideoError, *HDF5_ERRORS), open_file(here) as file:
            for name, kind in dict.fromkeys(_names(file)):
                for place in _places(here, name, kind):
                    if may_lead_to(here, place, kind):
                        waiting.append(place)
                    elif os.path.isfile(place):
                        found.add(os.path.realpath(place))
    return found


def _names(file: Any) -> Iterator[tuple[str, str]]:
    """Yields the file names in an open file, each with the kind of reference."""
    groups = [file["/"].id]
    seen = {identity(groups[0])}
    while groups:
        group = groups.pop()
        names: list[bytes] = []
        # Group by group: H5Lvisit has ended the process on a damaged file (HDF5 1.14.6).
        with contextlib.suppress(*HDF5_ERRORS):
            group.links.iterate(names.append)
        for name in names:
            with contextlib.suppress(*HDF5_ERRORS):
                kind = group.links.get_info(name).type
                if kind == h5py.h5l.TYPE_EXTERNAL:
                    yield os.fsdecode(group.links.get_val(name)[0]), _LINK
                if kind != h5py.h5l.TYPE_HARD:
                    continue
                item = h5py.h5o.open(group, name)
                if identity(item) in seen:
                    continue
                seen.add(identity(item))
                if isinstance(item, h5py.h5g.GroupID):
                    groups.append(item)
                elif isinstance(item, h5py.h5d.DatasetID):
                    plist = item.get_create_plist()
                    if plist.get_layout() == h5py.h5d.VIRTUAL:
                        for number in range(plist.get_virtual_count()):
                            yield plist.get_virtual_filename(number), _SOURCE
                    for number in range(plist.get_external_count()):
                        yield os.fsdecode(plist.get_external(number)[0]), _RAW


def _places(path: str, name: str, kind: str) -> list[str]:
    """Lists the paths at which HDF5 looks for a file that the file `path` refers to."""
    places = hdf5_search_path(path, name, kind)
    if kind != _SOURCE:
        return places
    # `%b` stands for the number of a block, and `%%` for a percent sign (H5Pset_virtual).
    patterns = (
        re.sub("%%|%b", lambda found: "%" if found[0] == "%%" else "*", glob.escape(place))
        for place in places
    )
    return [found for pattern in patterns for found in glob.glob(pattern)]
