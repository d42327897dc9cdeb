"""Paths: those of a set's files, and those of other files that an HDF5 file names."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from h5video_data.errors import ArgumentError, VideoFileNotFoundError

from .os_errors import unavailable

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# A directory of the file system itself, at the root of a disk, which only root may read.
_LOST_AND_FOUND = "lost+found"


def expand_paths(path: Paths) -> tuple[str, ...]:
    """Returns the files that a path, a list of paths or a glob stands for.

    Args:
        path: A path, a glob, or a sequence of them. The matches of a glob are sorted. What exists
            under that name is a path, not a glob.

    Raises:
        VideoFileNotFoundError: A glob matches no file.
        UnavailableError: A directory that a glob would search cannot be read.
        ArgumentError: It is none of these, or an empty sequence.
    """
    if isinstance(path, (str, os.PathLike)):
        name = os.path.expanduser(os.fsdecode(path))
        if os.path.exists(name) or not glob.has_magic(name):
            return (name,)
        _check_folders(name)
        found = tuple(sorted(glob.glob(name, recursive=True)))
        if not found:
            raise VideoFileNotFoundError(f"No file matches the glob. Received: path={name!r}")
        return found
    if not isinstance(path, Sequence) or isinstance(path, (bytes, bytearray)):
        raise ArgumentError(f"`path` must be a path or a list of paths. Received: path={path!r}")
    paths = tuple(found for item in path for found in expand_paths(item))
    if not paths:
        raise ArgumentError("`path` must name at least one file. Received: an empty list")
    return paths


def hdf5_search_path(path: str, name: str, prefix_variable: str) -> list[str]:
    """Lists where HDF5 looks for another file that is named in a file, in this order.

    Args:
        path: Path of the file that contains the name.
        name: The other file's name, as it is stored.
        prefix_variable: Environment variable with directories to search first: HDF5_VDS_PREFIX for
            the source files of virtual datasets, HDF5_EXT_PREFIX for external links.
    """
    folder = os.path.dirname(os.path.abspath(path))
    prefixes = os.environ.get(prefix_variable, "").replace("${ORIGIN}", folder).split(":")
    folders = [*filter(None, prefixes), folder, "", os.path.dirname(os.path.realpath(path))]
    # If an absolute path does not exist, HDF5 looks for its last component.
    first, relative = ([name], os.path.basename(name)) if os.path.isabs(name) else ([], name)
    return [*first, *(os.path.join(item, relative) for item in folders)]


def _check_folders(pattern: str) -> None:
    """Raises an UnavailableError for a directory that cannot be read: `glob` passes over it."""
    parts = pattern.split(os.sep)
    for number, part in enumerate(parts):
        above = os.sep.join([*parts[:number], ""])
        for folder in glob.glob(above or os.curdir, recursive=True):
            if os.path.basename(folder.rstrip(os.sep)) == _LOST_AND_FOUND:
                continue
            try:
                if part == "**":
                    _walk(folder)
                elif glob.has_magic(part):
                    os.scandir(folder).close()
                else:
                    os.stat(os.path.join(folder, part))
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise unavailable(f"cannot read directory {error.filename}", error) from error


def _walk(folder: str) -> None:
    def fail(error: OSError) -> None:
        raise error

    for _, folders, _ in os.walk(folder, onerror=fail):
        folders[:] = [f for f in folders if f[0] != "." and f != _LOST_AND_FOUND]
