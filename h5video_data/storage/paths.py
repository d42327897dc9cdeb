"""Paths: those of a set's files, and those of other files that an HDF5 file names."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set
from typing import Any

from h5video_data.errors import ArgumentError, VideoFileNotFoundError

from .os_errors import unavailable
from .remote.paths import RemotePath, Url, expand_url, is_url, shown_url
from .remote.store import Store

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

# How names of HDF5 files end.
_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".mat", ".nc")

# A directory of the file system itself, at the root of a disk, which only root may read.
_LOST_AND_FOUND = "lost+found"


def expand_paths(path: Paths) -> tuple[str, ...]:
    """Returns the files that a path, a list of paths or a glob stands for.

    Args:
        path: A path, a URL, a glob, or an iterable of them. The matches of a glob are sorted, and
            so are the paths of what has no order of its own (`has_order`). What exists under that
            name is a path, not a glob.

    Raises:
        VideoFileNotFoundError: A glob matches no file.
        UnavailableError: A directory that a glob would search cannot be read, or a store.
        ArgumentError: It is none of these, or an empty sequence.
    """
    return _expand(path, {})


def _expand(path: Paths, stores: dict[str, Store]) -> tuple[str, ...]:
    if isinstance(path, str) and is_url(path):
        return tuple(expand_url(path, stores))
    if isinstance(path, (str, os.PathLike)):
        name = os.path.expanduser(os.fsdecode(path))
        if os.path.exists(name) or not glob.has_magic(name):
            return (name,)
        _check_folders(name)
        found = tuple(sorted(glob.glob(name, recursive=True)))
        if not found:
            raise VideoFileNotFoundError(f"No file matches the glob. Received: path={name!r}")
        return found
    is_other = isinstance(path, (bytes, bytearray, Mapping, io.IOBase))
    if is_other or not isinstance(path, Iterable) or getattr(path, "ndim", 1) != 1:
        raise ArgumentError(f"`path` must be a path or a list of paths. Received: path={path!r}")
    paths = tuple(found for item in path for found in _expand(item, stores))
    if not paths:
        kind = "an empty list" if isinstance(path, (list, tuple)) else f"none in path={path!r}"
        raise ArgumentError(f"`path` must name at least one file. Received: {kind}")
    return paths if has_order(path) else tuple(sorted(paths))


def expand_beside(path: Paths, beside: Sequence[str]) -> tuple[str, ...]:
    """Returns what `expand_paths` does; a URL has the options of another one of its kind."""
    for other in beside:
        if isinstance(other, RemotePath) and isinstance(path, str) and is_url(path):
            is_alike = other.partition("://")[0] == path.partition("://")[0]
            return expand_paths(Url(path, other.store.options if is_alike else None))
    return expand_paths(path)


def has_order(path: Paths) -> bool:
    """Whether paths come in an order that means something.

    That of a set differs between processes, and that of `Path.glob`, an iterator, between machines.
    Iterators cannot be told from each other, so that none of them has.
    """
    return isinstance(path, KeysView) or not isinstance(path, (Iterator, Set))


def split_name(name: str) -> tuple[str | None, str]:
    """Divides the name of a dataset of another file, `"labels.h5:y"`, at its last colon.

    Returns:
        The path or glob of the other file, and the name of the dataset there. None, and the whole
        name, if there is no such file: a dataset's name may contain a colon.
    """
    pattern, _, dataset = name.rpartition(":")
    if is_url(pattern) and shown_url(pattern) != pattern:
        raise ArgumentError(  # names are shown, and saved in states
            f"The name of a dataset must not have credentials in it, nor a query: "
            f"{shown_url(pattern)}:{dataset}. Use `storage_options`"
        )
    path = os.path.expanduser(pattern)
    if dataset and (
        is_url(pattern)
        or os.path.isfile(path)
        or (glob.has_magic(path) and glob.glob(path, recursive=True))
    ):
        return pattern, dataset
    return None, name


def other_file_hint(name: str) -> str:
    """Returns how to name a dataset of another file, for a name that is that of a file, or "".

    Raises:
        VideoFileNotFoundError: It is the name of a dataset of a file that does not exist.
    """
    pattern, _, dataset = name.rpartition(":")
    if dataset and pattern.lower().endswith(_SUFFIXES):
        raise VideoFileNotFoundError(
            f"No such file: {pattern!r}, or no file matches the glob. Received: {name!r}, which "
            "names a file and a dataset in it"
        )
    path, rest = name.rstrip(":"), ""
    while path and not os.path.isfile(os.path.expanduser(path)):
        path, _, last = path.rpartition("/")
        rest = f"{last}/{rest}"
    if not path:
        return ""
    full = f"{path}:{rest.rstrip('/') or 'y'}"
    return f" The name of a dataset of another file has a colon: {full!r}."


def hdf5_search_path(path: str, name: str, prefix_variable: str) -> list[str]:
    """Lists where HDF5 looks for another file that is named in a file, in this order.

    Args:
        path: Path of the file that contains the name.
        name: The other file's name, as it is stored.
        prefix_variable: Environment variable with directories to search first: HDF5_VDS_PREFIX for
            the source files of virtual datasets, HDF5_EXT_PREFIX for external links.
    """
    folder, real_folder = (os.path.dirname(f(path)) for f in (os.path.abspath, os.path.realpath))
    folders = [*prefix_folders(path, prefix_variable), folder, "", real_folder]
    # If an absolute path does not exist, HDF5 looks for its last component.
    first, relative = ([name], os.path.basename(name)) if os.path.isabs(name) else ([], name)
    return [*first, *(os.path.join(item, relative) for item in folders)]


def prefix_folders(path: str, prefix_variable: str) -> list[str]:
    """Lists the directories that an environment variable names, as `hdf5_search_path` does."""
    folder = os.path.dirname(os.path.abspath(path))
    prefixes = os.environ.get(prefix_variable, "").replace("${ORIGIN}", folder).split(":")
    return [*filter(None, prefixes)]


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


def with_options(path: Any, storage_options: Mapping[str, Any] | None) -> Any:
    """Returns paths in the form in which they are given, each URL as a `Url` with these options.

    Raises:
        ArgumentError: There are options, and no URL.
    """
    found = _with_options(path, storage_options)
    if storage_options is not None and found is path:
        raise ArgumentError(
            "`storage_options` needs URLs in `path`, such as s3://bucket/set.h5. Received: "
            f"path={path!r}"
        )
    return found


def _with_options(path: Any, options: Mapping[str, Any] | None) -> Any:
    """Returns `path` itself if there is no URL in it."""
    if isinstance(path, (str, os.PathLike)):
        return Url(path, options) if isinstance(path, str) and is_url(path) else path
    if isinstance(path, (bytes, bytearray, Mapping, io.IOBase)) or not isinstance(path, Iterable):
        return path
    if getattr(path, "ndim", 1) != 1:
        return path
    items = list(path)
    found = [_with_options(item, options) for item in items]
    is_same = all(new is old for new, old in zip(found, items, strict=True))
    if isinstance(path, Iterator) and not (is_same and options):
        return (item for item in found)
    if is_same:
        return path
    return found if has_order(path) else set(found)
