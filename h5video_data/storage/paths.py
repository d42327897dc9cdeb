"""Paths: those of a set's files, and those of other files that an HDF5 file names."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set
from typing import Any

from h5video_data.errors import ArgumentError, VideoFileNotFoundError

from .os_errors import unavailable
from .remote.paths import RemotePath, Url, ask_ahead, expand_url
from .remote.paths import is_url as is_url
from .remote.paths import shown_url as shown_url
from .remote.request_options import request_options
from .remote.store import LocalCopies, Store

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
    found = _expand(path, {})
    ask_ahead(found)
    return found


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
        is_list = isinstance(path, (list, tuple)) and not isinstance(path, ListedPaths)
        kind = "an empty list" if is_list else f"none in path={path!r}"
        raise ArgumentError(f"`path` must name at least one file. Received: {kind}")
    return paths if has_order(path) else tuple(sorted(paths))


def expand_beside(path: Paths, beside: Sequence[str]) -> tuple[str, ...]:
    """Returns what `expand_paths` does; a URL has the options of another one of its kind."""
    for other in beside:
        if isinstance(other, RemotePath) and isinstance(path, str) and is_url(path):
            is_alike = other.partition("://")[0] == path.partition("://")[0]
            store = other.store
            options = store.options if is_alike else None
            return expand_paths(Url(path, options, store.copies, store.requests))
    return expand_paths(path)


def has_order(path: Paths) -> bool:
    """Whether paths come in an order that means something.

    That of a set differs between processes, and that of `Path.glob`, an iterator, between machines.
    Iterators cannot be told from each other, so that none of them has.
    """
    return isinstance(path, KeysView) or not isinstance(path, (Iterator, ListedPaths, Set))


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


def with_options(
    path: Any,
    storage_options: Mapping[str, Any] | None,
    remote_options: Mapping[str, Any] | None = None,
    copies: LocalCopies | None = None,
) -> Any:
    """Returns paths in the form in which they are given, each URL as a `Url` with these options.

    Args:
        path: The paths.
        storage_options: Arguments of the file system of fsspec.
        remote_options: How requests are sent: see `remote.request_options`.
        copies: What there is on this machine of remote files.

    Raises:
        ArgumentError: There are options or copies, and no URL; or options are not valid.
    """
    check_options(storage_options)
    requests = request_options(remote_options)
    path = reusable(path)
    found = _with_options(path, (storage_options, copies, requests))
    given = {
        "storage_options": storage_options is not None,
        "remote_options": remote_options is not None,
        "index": copies is not None and copies.index is not None and not copies.index.notes,
        "cache_dir": copies is not None and copies.cache is not None,
    }
    needing = next((name for name, is_given in given.items() if is_given), None)
    if needing is not None and found is path and not isinstance(path, (RemotePath, Url)):
        raise ArgumentError(
            f"`{needing}` needs URLs in `path`, such as s3://bucket/set.h5. Received: path={path!r}"
        )
    return found


class ListedPaths(tuple[Any, ...]):
    """What an iterator of paths gave, which can be read again; its order says nothing."""

    shown = ""

    def __repr__(self) -> str:
        return self.shown or tuple.__repr__(self)


def reusable(path: Any) -> Any:
    """Returns paths that can be read several times: what an iterator gives is listed."""
    if not isinstance(path, Iterator) or isinstance(path, io.IOBase):
        return path
    found = ListedPaths(path)
    found.shown = repr(path)
    return found


def check_options(storage_options: Any) -> None:
    """Raises an ArgumentError for what cannot be `storage_options`."""
    is_mapping = isinstance(storage_options, Mapping)
    if storage_options is not None and not (
        is_mapping and all(isinstance(name, str) for name in storage_options)
    ):
        raise ArgumentError(
            "`storage_options` must be a dict: arguments of the file system of fsspec, by their "
            f"names. Received: a {type(storage_options).__name__}"
        )


def single_path(
    path: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None,
    remote_options: Mapping[str, Any] | None = None,
) -> str:
    """Returns the path of one file, of which a URL is made one that can be opened.

    Raises:
        ArgumentError: It is a glob that several objects match, or options go with a local file.
        H5VideoError: As `expand_paths`, of a URL.
    """
    name = os.fsdecode(path) if isinstance(path, os.PathLike) else path
    given = with_options(name, storage_options, remote_options)
    if not isinstance(given, (RemotePath, Url)):
        return os.fsdecode(given)
    found = expand_paths(given)
    if len(found) > 1:
        raise ArgumentError(
            f"`path` must be one file, and {len(found)} match. Received: path={str(given)!r}"
        )
    return found[0]


def _with_options(path: Any, options: tuple[Any, ...]) -> Any:
    """Returns `path` itself if there is no URL in it."""
    if isinstance(path, (RemotePath, Url)):
        return path
    if isinstance(path, (str, os.PathLike)):
        return Url(path, *options) if isinstance(path, str) and is_url(path) else path
    if isinstance(path, (bytes, bytearray, Mapping, io.IOBase)) or not isinstance(path, Iterable):
        return path
    if getattr(path, "ndim", 1) != 1:
        return path
    items = list(path)
    found = [_with_options(item, options) for item in items]
    if all(new is old for new, old in zip(found, items, strict=True)):
        return path
    return found if has_order(path) else ListedPaths(found)
