"""Opens HDF5 files and finds datasets in them; errors say what is wrong and what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from .errors import (
    DatasetNotFoundError,
    FileFormatError,
    FileInUseError,
    H5VideoError,
    MissingFilterError,
    NotHDF5Error,
    ReadError,
    VideoFileNotFoundError,
)
from .layout import StoredArray

SAMPLE_COUNT = "sample_count"

if h5py.version.version_tuple < (3, 14):
    # If a thread reads while another one forks, the child has a lock that nobody will release. From
    # 3.14 on, h5py does this itself (h5py/h5py#2584).
    from h5py._objects import phil

    os.register_at_fork(
        before=phil.acquire, after_in_parent=phil.release, after_in_child=phil.release
    )

# How many datasets an error message lists.
_NAMES_SHOWN = 20


@contextlib.contextmanager
def open_file(path: str, **options: Any) -> Iterator[Any]:
    """Opens an HDF5 file for reading; what goes wrong becomes an error of this package.

    Args:
        path: The file's path.
        **options: Passed on to `h5py.File`.

    Yields:
        The `h5py.File`, closed when the context ends.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: It is not an HDF5 file, or its end is missing.
        FileInUseError: It is open for writing elsewhere.
        ReadError: It may not be read.
    """
    file = connect(path, **options)
    try:
        yield file
    finally:
        file.close()


def connect(path: str, **options: Any) -> Any:
    """Does the same as `open_file`, but it is the caller who closes the `h5py.File`."""
    try:
        file = h5py.File(path, "r", **options)
        if file.mode != "r":
            # This process has it open for writing as well. What it has not written yet would
            # change the file when this one is closed.
            file.flush()
        return file
    except FileNotFoundError:
        raise VideoFileNotFoundError(f"No such file. Received: path={path!r}") from None
    except IsADirectoryError:
        raise NotHDF5Error(
            f"{path} is a directory. Name its files, or use a glob: {os.path.join(path, '*.h5')!r}"
        ) from None
    except PermissionError as error:
        raise ReadError(f"{path} may not be read: {error.strerror or error}") from error
    except OSError as error:
        raise _open_error(path, str(error)) from error


def _open_error(path: str, message: str) -> H5VideoError:
    if "unable to lock" in message or "already open for" in message:
        return FileInUseError(
            f"{path} is open for writing elsewhere; close it there first. If the program that "
            "wrote it crashed, `h5clear -s` clears its mark; on a file system without locks, set "
            f"HDF5_USE_FILE_LOCKING=FALSE. HDF5 says: {message}"
        )
    size = os.path.getsize(path)
    # The first block of a file, the superblock, has 96 bytes at most, and an address behind it.
    if "truncated file" in message or (8 <= size <= 128 and "signature not" not in message):
        return NotHDF5Error(
            f"{path} is cut short ({size} bytes): it was not written or copied to its end. "
            f"HDF5 says: {message}"
        )
    if "file signature not found" in message:
        return NotHDF5Error(f"{path} ({size} bytes) is not an HDF5 file.")
    return ReadError(f"{path} cannot be opened. HDF5 says: {message}")


def dataset_names(file: Any) -> list[str]:
    """The names of all datasets of an open `h5py.File` itself, nested ones with their groups."""
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    try:
        file.visititems(visit)
    except (RuntimeError, OSError, KeyError):  # a file that is corrupt in parts
        return [name for name in _link_names(file) if _is_own_dataset(file, name)]
    return names


def _link_names(file: Any) -> list[str]:
    names: list[bytes] = []
    with contextlib.suppress(RuntimeError, OSError, KeyError):  # a file that is corrupt in parts
        file.id.links.visit(names.append)  # Group.visit_links came with h5py 3.11
    return [name.decode("utf-8", "surrogateescape") for name in names]


def _is_own_dataset(file: Any, name: str) -> bool:
    try:
        return _destination(file, name) is None and isinstance(file[name], h5py.Dataset)
    except (KeyError, ValueError, OSError, RuntimeError):
        return False


def linked_names(file: Any) -> tuple[list[str], list[str]]:
    """What the soft and external links of an open `h5py.File` lead to.

    Returns:
        The names under which it has datasets by links, or by links to groups of other files; and a
        sentence for each link that leads nowhere.
    """
    names: list[str] = []
    dangling: list[str] = []
    for name in _link_names(file):
        where = _destination(file, name)
        if where is None:
            continue
        try:
            item = file[name]
        except (KeyError, ValueError, OSError, RuntimeError):
            dangling.append(f"the link {name!r} leads to {where}")
            continue
        if isinstance(item, h5py.Dataset):
            names.append(name)
        elif isinstance(item, h5py.Group) and item.file != file.file:
            names += [f"{name}/{key}" for key in dataset_names(item)]
    return names, dangling


def _destination(file: Any, name: str) -> str | None:
    """Where a soft or external link that is not followed leads to; None: it is none."""
    try:
        link = file.get(name, getlink=True)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError):
        return None
    if isinstance(link, h5py.SoftLink):
        return f"{link.path!r}, which is not there"
    if isinstance(link, h5py.ExternalLink):
        return f"{link.path!r} in {link.filename!r}, which is not there or cannot be opened"
    return None


def find_dataset(file: Any, name: str) -> Any:
    """The `h5py.Dataset` of that name, or an error that tells what is there instead."""
    try:
        item = file[name]
    except (KeyError, ValueError):
        raise DatasetNotFoundError(_not_found(file, name)) from None
    except (OSError, RuntimeError) as error:
        raise DatasetNotFoundError(f"{_not_found(file, name)} HDF5 says: {error}") from error
    if not isinstance(item, h5py.Dataset):
        inside = _all_names(item) if isinstance(item, h5py.Group) else []
        inside = [f"{name.rstrip('/')}/{key}" for key in inside]
        raise DatasetNotFoundError(
            f"{file.filename}: {name!r} is a {type(item).__name__.lower()}, not a dataset."
            + (f" It holds {_listed(inside)}." if inside else "")
        )
    return item


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")


def _all_names(file: Any) -> list[str]:
    return [*dataset_names(file), *linked_names(file)[0]]


def _not_found(file: Any, name: str) -> str:
    names = _all_names(file)
    message = f"{file.filename} has no dataset {name!r}"
    where = _destination(file, name)
    if where is not None:
        message += f": the link of that name leads to {where}"
    message += f". It holds {_listed(names)}." if names else ". It holds no dataset at all."
    by_lower_case = {key.lower(): key for key in names}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return message + (f" Did you mean {by_lower_case[near[0]]!r}?" if near else "")


def read_sample_count(file: Any, name: str, length: int) -> tuple[int, str]:
    """The number of samples in use, by the attribute `sample_count` of the nearest group.

    Args:
        file: The open `h5py.File`.
        name: Name of the dataset of samples.
        length: Its length.

    Returns:
        The number, and the group that has it, or should have it. Without an attribute, the number
        is the length. A file's attribute that is larger than a dataset in a group is about others.

    Raises:
        FileFormatError: The attribute is no whole number, negative, or larger than `length`.
    """
    above = [part for part in name.split("/")[:-1] if part not in ("", ".")]
    groups = ["/" + "/".join(above[:depth]) for depth in range(len(above), -1, -1)]
    group = next((group for group in groups if SAMPLE_COUNT in file[group].attrs), None)
    if group is None:
        return length, "/"
    where = f"{file.filename}: the attribute {SAMPLE_COUNT!r}"
    where += f" of {group!r}" if group != "/" else ""
    found = file[group].attrs[SAMPLE_COUNT]
    value = np.asarray(found)
    whole = value.size == 1 and value.dtype.kind in "iuf" and float(value.item()).is_integer()
    if not whole:
        raise FileFormatError(f"{where} should be a whole number. Received: {found!r}")
    count = int(value.item())
    if count > length and group == "/" and above:
        return length, groups[0]
    if not 0 <= count <= length:
        raise FileFormatError(
            f"{where} should be between 0 and {length}, the length of the datasets. "
            f"Received: {count}"
        )
    return count, group


def read_class_names(file: Any) -> tuple[str, ...] | None:
    """The attribute `class_names`, or None."""
    found = file.attrs.get("class_names")
    if found is None or isinstance(found, h5py.Empty):
        return None
    return tuple(text(name) for name in np.ravel(found))


def require_filters(stored: StoredArray) -> None:
    """Makes sure that HDF5 can undo the filters of a dataset that it has to read.

    Raises:
        MissingFilterError: A filter's plugin is not installed.
    """
    missing = [item for item in stored.filters_in_use if not h5py.h5z.filter_avail(item.id)]
    if not missing:
        return
    advice = "Try: pip install hdf5plugin"
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters with HDF5

        advice = (
            "hdf5plugin, which is installed, does not have it. Install the HDF5 plugin that the "
            "writing program used and set HDF5_PLUGIN_PATH, or have that program write the file "
            "without it."
        )
    missing = [item for item in missing if not h5py.h5z.filter_avail(item.id)]
    if missing:
        names = ", ".join(f"{item.name} (number {item.id})" for item in missing)
        raise MissingFilterError(
            f"{stored.path}: dataset {stored.name!r} was written with a filter that is not "
            f"installed: {names}. {advice}"
        )


def text(value: Any) -> str:
    """A string attribute or value, which h5py gives as `str` or as `bytes`."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
