"""Which other files an HDF5 file leads to: by links, virtual datasets, or external storage."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from typing import Any

import h5py

from h5video_data.errors import H5VideoError
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file

from .transfer import identity

# Where HDF5 looks first, by the kind of what leads to a file (HDF5 User Guide, "External links",
# H5Pset_virtual_prefix, H5Pset_efile_prefix).
_LINK, _SOURCE, _RAW = "HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX"


def find_linked_file(path: str, name: str) -> str | None:
    """The file that an external link of that name in the file `path` leads to, if it is there."""
    return next(filter(os.path.exists, _places(path, name, _LINK)), None)


def linked_files(path: str) -> set[str]:
    """The real paths of a file and of all regular files that it leads to, directly or by others.

    Where HDF5 may look in several places, a file in each of them counts. What cannot be read is
    passed over.
    """
    found: set[str] = set()
    waiting = [os.path.abspath(path)]
    while waiting:
        here = waiting.pop()
        if os.path.realpath(here) in found or not os.path.isfile(here):  # a pipe would never open
            continue
        found.add(os.path.realpath(here))
        with contextlib.suppress(H5VideoError, *HDF5_ERRORS), open_file(here) as file:
            waiting += [
                place
                for name, kind in dict.fromkeys(_names(file))
                for place in _places(here, name, kind)
            ]
    return found


def _names(file: Any) -> Iterator[tuple[str, str]]:
    """The names of the files that an open file names itself, each with its kind."""
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
                    yield from _names_of_sources(item.get_create_plist())


def _names_of_sources(plist: Any) -> Iterator[tuple[str, str]]:
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        for number in range(plist.get_virtual_count()):
            yield plist.get_virtual_filename(number), _SOURCE
    for number in range(plist.get_external_count()):
        yield os.fsdecode(plist.get_external(number)[0]), _RAW


def _places(path: str, name: str, kind: str) -> list[str]:
    """Where HDF5 looks for a file that is named in the file `path`."""
    folder = os.path.dirname(os.path.abspath(path))
    prefixes = os.environ.get(kind, "").replace("${ORIGIN}", folder).split(":")
    folders = [*filter(None, prefixes), folder, "", os.path.dirname(os.path.realpath(path))]
    # A file that is not where an absolute name says is looked for by its last part.
    relative = os.path.basename(name) if os.path.isabs(name) else name
    places = [os.path.join(place, relative) for place in folders]
    places = [name, *places] if os.path.isabs(name) else places
    if kind != _SOURCE:
        return places
    # `%b` stands for the number of a block, and `%%` for a percent sign.
    patterns = [
        "*".join(glob.escape(part.replace("%%", "%")) for part in place.split("%b"))
        for place in places
    ]
    return [found for pattern in patterns for found in glob.glob(pattern)]
