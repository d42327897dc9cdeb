"""Which files a path, a list of paths or a glob names."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from h5video_data.errors import ArgumentError, VideoFileNotFoundError

from .file_identity import unavailable

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# Of the file system itself, at the top of a disk, for its repair; only the superuser may read it.
_FOLDER_OF_THE_DISK = "lost+found"


def expand_paths(path: Paths) -> tuple[str, ...]:
    """The files that a path, a list of paths or a glob names; a glob's matches are sorted.

    Raises:
        VideoFileNotFoundError: A glob matches no file.
        UnavailableError: A folder that a glob would look into cannot be read.
        ArgumentError: There is no path at all.
    """
    if isinstance(path, (str, os.PathLike)):
        name = os.path.expanduser(os.fsdecode(path))
        if os.path.exists(name) or not glob.has_magic(name):
            return (name,)
        _check_folders(name)
        found = tuple(sorted(glob.glob(name, recursive=True)))
        if not found:
            raise VideoFileNotFoundError(f"No file matches. Received: path={name!r}")
        return found
    if not isinstance(path, Sequence) or isinstance(path, (bytes, bytearray)):
        raise ArgumentError(f"`path` must be a path or a list of paths. Received: path={path!r}")
    paths = tuple(found for item in path for found in expand_paths(item))
    if not paths:
        raise ArgumentError("`path` must name at least one file. Received: an empty list")
    return paths


def _check_folders(pattern: str) -> None:
    """Raises an error if a glob would pass over a folder because it cannot be read."""
    parts = pattern.split(os.sep)
    for number, part in enumerate(parts):
        above = os.sep.join([*parts[:number], ""])
        for folder in glob.glob(above or os.curdir, recursive=True):
            if os.path.basename(folder.rstrip(os.sep)) == _FOLDER_OF_THE_DISK:
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
                raise unavailable(f"{error.filename} cannot be looked into", error) from error


def _walk(folder: str) -> None:
    def fail(error: OSError) -> None:
        raise error

    for _, folders, _ in os.walk(folder, onerror=fail):
        folders[:] = [f for f in folders if f[0] != "." and f != _FOLDER_OF_THE_DISK]
