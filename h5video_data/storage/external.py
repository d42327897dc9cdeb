"""Which other files an HDF5 file may lead to: by links, virtual datasets, or external storage.

A file from elsewhere could name any file of this machine, and its values would be delivered as if
they were samples; opening a pipe or a terminal would wait for ever. So what a file names is looked
at before HDF5 opens it, and must be in the folder of that file or below, unless the user allows
more.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import h5py

from h5video_data.errors import ArgumentError, ExternalFileError

from .file_identity import ObjectPath
from .hdf5_files import HDF5_ERRORS, open_file, path_of
from .paths import hdf5_search_path, prefix_folders

_Function = TypeVar("_Function", bound=Callable[..., Any])

LINK_PREFIX, SOURCE_PREFIX = "HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX"
STORAGE_PREFIX = "HDF5_EXTFILE_PREFIX"

# HDF5 follows 16 links of a name.
_MAX_LINKS = 64

# What is opened between an argument and here knows nothing of it: some thirty functions.
_is_allowed: ContextVar[bool] = ContextVar("allow_external", default=False)


# Takes the places of other files that a file leads to.
_places: ContextVar[list[str] | None] = ContextVar("places", default=None)


@contextlib.contextmanager
def noting_others() -> Iterator[list[str]]:
    """Returns a context with a list, to which each place is added that a file leads to."""
    places: list[str] = []
    token = _places.set(places)
    try:
        yield places
    finally:
        _places.reset(token)


@contextlib.contextmanager
def allowing_external(allowed: bool) -> Iterator[None]:
    """Returns a context in which files may lead out of their folders, if `allowed`.

    Raises:
        ArgumentError: It is neither True nor False.
    """
    if not isinstance(allowed, bool):
        raise ArgumentError(
            f"`allow_external` must be True or False. Received: allow_external={allowed!r}"
        )
    token = _is_allowed.set(allowed or _is_allowed.get())
    try:
        yield
    finally:
        _is_allowed.reset(token)


def allows_external(function: _Function) -> _Function:
    """Decorator: the keyword argument `allow_external` holds for all that a function calls."""

    @functools.wraps(function)
    def with_external(*args: Any, **options: Any) -> Any:
        with allowing_external(options.get("allow_external", False)):
            return function(*args, **options)

    return with_external  # type: ignore[return-value]


def may_lead_to(path: str, place: str, prefix_variable: str) -> bool:
    """Whether a file may lead to another one: in its folder or below, or all if that is allowed.

    What is there under a symbolic link is, too: that is the user's own, no HDF5 file can make one.

    Args:
        path: The file that names the other one.
        place: Where the other one is.
        prefix_variable: The environment variable with directories in which to look for it, which
            are the user's own as well: one of the constants above.
    """
    if _is_allowed.get():
        return True
    own = os.path.abspath(path)
    folders = [os.path.dirname(own), os.path.dirname(os.path.realpath(own))]
    folders += map(os.path.abspath, prefix_folders(own, prefix_variable))
    real, named = os.path.realpath(place), os.path.abspath(place)
    # Behind a symbolic link, `..` is not the folder that it is by name.
    if os.path.realpath(named) == real and any(_holds(folder, named) for folder in folders):
        return True
    return any(_holds(os.path.realpath(folder), real) for folder in folders)


def _holds(folder: str, place: str) -> bool:
    try:
        return os.path.commonpath([folder, place]) == os.path.normpath(folder)
    except ValueError:  # on another drive of Windows
        return False


def check_place(path: str, what: str, place: str, prefix_variable: str) -> None:
    """Raises an ExternalFileError if a file may not lead to another one.

    Args:
        path: The file that names the other one.
        what: What in it does, with a verb, for the message.
        place: Where the other one is.
        prefix_variable: As for `may_lead_to`.
    """
    places = _places.get()
    if places is not None:
        places.append(place)
    if not may_lead_to(path, place, prefix_variable):
        raise ExternalFileError(
            f"{path}: {what} {os.path.abspath(place)}, which is outside of the file's folder. If "
            "you trust the file, use allow_external=True."
        )


def _check_opened(path: str, what: str, place: str, prefix_variable: str) -> None:
    """Checks, as `check_place`, what HDF5 would open by itself: a pipe might wait for ever."""
    check_place(path, what, place, prefix_variable)
    if not os.path.isfile(place):
        raise ExternalFileError(f"{path}: {what} {place}, which is not a regular file.")


def check_links(group: Any, name: bytes) -> None:
    """Raises an ExternalFileError if the links of a name lead to what a file may not lead to.

    Args:
        group: An open `h5py.File` or `h5py.Group`.
        name: The name of an object in it, which need not exist.
    """
    _follow(group, name, _MAX_LINKS)


@functools.cache
def _no_external_links() -> Any:
    """Returns the `h5py.h5p.PropLAID` by which HDF5 follows no external link.

    It would open two files whose names begin with that of the other file, and go on so that there
    is no such file, whatever that is: a pipe is not opened, either.
    """
    members = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    members.set_fapl_sec2()
    files = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    nowhere = f"/{uuid.uuid4().hex}".encode()
    files.set_fapl_split(nowhere, members, nowhere, members)
    links = h5py.h5p.create(h5py.h5p.LINK_ACCESS)
    links.set_elink_fapl(files)
    # HDF5 1.14 crashes if it has to close the driver's lists itself, at the end of the process.
    atexit.register(_no_external_links.cache_clear)
    return links


def open_checked(group: Any, name: bytes) -> tuple[Any, bool]:
    """Opens the object of a name in an `h5py.Group`, and checks the links that the name has.

    Returns:
        Its low-level identifier, and whether it is known to be in the group's own file.

    Raises:
        ExternalFileError: As `check_links`.
        Exception: One of `HDF5_ERRORS`.
    """
    try:
        # To look at each link of a name takes HDF5 longer than to open what it leads to.
        return h5py.h5o.open(group.id, name, lapl=_no_external_links()), True
    except HDF5_ERRORS:
        check_links(group, name)
    return h5py.h5o.open(group.id, name, lapl=group._lapl), False


def is_an_offset(found: int | None) -> bool:
    """Whether HDF5 tells where values are: then, a dataset is contiguous.

    To the offset that means none, all bits of which are set, it adds the length of a userblock, if
    there is one: that is 511, 1023, ...
    """
    return found is not None and found & (found + 1) != 0


def check_growing_sources(dataset: Any, plist: Any = None) -> None:
    """Raises an ExternalFileError if HDF5 may not look into a source of an `h5py.Dataset`.

    For the shape of a virtual dataset that grows with its sources, it opens them. The others are
    opened by reads alone, before which `virtual.find_source_files` checks all of them.

    Args:
        dataset: The dataset.
        plist: The `h5py.h5p.PropDCID` of its creation, if it is at hand.
    """
    plist = dataset.id.get_create_plist() if plist is None else plist
    if plist.get_layout() != h5py.h5d.VIRTUAL:
        return
    path = path_of(dataset.file)
    for number in range(plist.get_virtual_count()):
        part, name = plist.get_virtual_vspace(number), plist.get_virtual_filename(number)
        is_regular = part.get_select_type() == h5py.h5s.SEL_HYPERSLABS
        if not (is_regular and part.is_regular_hyperslab()) or name == ".":
            continue
        _, _, counts, blocks = part.get_regular_hyperslab()
        if h5py.h5s.UNLIMITED in (*counts, *blocks) and not isinstance(path, ObjectPath):
            name = name.replace("%b", "0").replace("%%", "%")
            for place in filter(os.path.exists, hdf5_search_path(path, name, SOURCE_PREFIX)):
                _check_opened(path, "a virtual dataset has values in", place, SOURCE_PREFIX)
                break


def _follow(group: Any, name: bytes, num_left: int) -> None:
    links, here = group.id.links, b"/" if name.startswith(b"/") else b""
    pieces = [piece for piece in name.split(b"/") if piece not in (b"", b".")]
    for number, piece in enumerate(pieces):
        try:
            kind = links.get_info(here + piece).type
            if kind == h5py.h5l.TYPE_HARD:
                here += piece + b"/"
                continue
            target = links.get_val(here + piece)
        except HDF5_ERRORS:
            return  # what opens it says what is wrong
        rest = pieces[number + 1 :]
        if kind == h5py.h5l.TYPE_SOFT and num_left:
            target = target if target.startswith(b"/") else here + target
            _follow(group, b"/".join([target, *rest]), num_left - 1)
        elif kind == h5py.h5l.TYPE_EXTERNAL and num_left:
            filename, target = target
            with _linked_file(group, here + piece, os.fsdecode(filename)) as file:
                if file is not None:
                    _follow(file, b"/".join([b"", target, *rest]), num_left - 1)
        return


@contextlib.contextmanager
def _linked_file(group: Any, name: bytes, filename: str) -> Iterator[Any]:
    """Opens the file that an external link leads to; yields None if there is none.

    Raises:
        ExternalFileError: It is not in the folder of the link's file, or is no regular file.
    """
    path = path_of(group.file)
    place = None
    if not isinstance(path, ObjectPath):  # of which no link is followed
        found = hdf5_search_path(path, filename, LINK_PREFIX)
        place = next((p for p in found if os.path.exists(p) and not os.path.isdir(p)), None)
    if place is None:
        yield None
        return
    what = f"the link {name.decode('utf-8', 'backslashreplace')!r} leads to"
    _check_opened(path, what, place, LINK_PREFIX)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(place))
        except HDF5_ERRORS:
            file = None
        yield file
