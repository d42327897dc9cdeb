"""Opens HDF5 files and finds datasets in them; errors say what is wrong and what to do."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from h5video_data.errors import (
    DatasetNotFoundError,
    FileChangedError,
    FileFormatError,
    FileInUseError,
    H5VideoError,
    MissingFilterError,
    NotHDF5Error,
    ReadError,
    VideoFileNotFoundError,
)

from .file_identity import (
    FileIdentity,
    check_identity,
    check_openable,
    error_number,
    identity_of,
    unavailable,
    with_room,
)

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


# What h5py raises on a damaged file: HDF5's own errors, and those of its Python code that meets
# what it did not expect.
HDF5_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError),
)


@contextlib.contextmanager
def open_file(path: str, expected: FileIdentity | None = None, **options: Any) -> Iterator[Any]:
    """Opens an HDF5 file for reading; what goes wrong becomes an error of this package.

    Args:
        path: The file's path.
        expected: What it must still be; None: whatever is there.
        **options: Passed on to `h5py.File`.

    Yields:
        The `h5py.File`, closed when the context ends.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: It is not an HDF5 file, or its end is missing.
        FileInUseError: It is open for writing elsewhere.
        FileChangedError: It is another one than expected, or became another one meanwhile.
        UnavailableError: It may not be read, or the machine has not got what that takes.
        ReadError: It cannot be opened.
    """
    file = connect(path, **options)
    try:
        identity = file_identity(file)
        if expected is not None and identity != expected:
            check_identity(path, expected, file.id.get_vfd_handle())
        try:
            yield file
        except HDF5_ERRORS as error:
            _check_unchanged(path, identity, error)
            raise
        # What was read so far may come from before a change and after it.
        _check_unchanged(path, identity)
    finally:
        file.close()


def _check_unchanged(path: str, identity: FileIdentity, error: BaseException | None = None) -> None:
    try:
        check_identity(path, identity)
    except (FileChangedError, VideoFileNotFoundError) as changed:
        raise changed from error


def connect(path: str, **options: Any) -> Any:
    """Does the same as `open_file`, but it is the caller who closes the `h5py.File`."""
    return with_room(functools.partial(_connect, path, options))


def _connect(path: str, options: dict[str, Any]) -> Any:
    before = identity_of(path)
    try:
        # With a driver whose handle is a descriptor, whatever HDF5_DRIVER says.
        file = h5py.File(path, "r", driver="sec2", **options)
    except FileNotFoundError:
        raise VideoFileNotFoundError(f"No such file. Received: path={path!r}") from None
    except PermissionError as error:
        raise unavailable(f"{path} may not be read", error) from error
    except OSError as error:
        raise _open_error(path, before.num_bytes, error) from error
    try:
        # HDF5 reads the beginning of a file when it opens it.
        check_identity(path, before, file.id.get_vfd_handle())
        if file.mode != "r":
            # This process has it open for writing as well. What it has not written yet would
            # change the file when this one is closed.
            file.flush()
    except BaseException:
        file.close()
        raise
    return file


def file_identity(file: Any) -> FileIdentity:
    """The identity of what is open: its name may lead to another file by now."""
    return identity_of(os.path.abspath(file.filename), file.id.get_vfd_handle())


def _open_error(path: str, size: int, error: OSError) -> H5VideoError:
    message = str(error)
    if "unable to lock" in message or "already open for" in message:
        return FileInUseError(
            f"{path} is open for writing elsewhere; close it there first. If the program that "
            "wrote it crashed, `h5clear -s` clears its mark; on a file system without locks, set "
            f"HDF5_USE_FILE_LOCKING=FALSE. HDF5 says: {message}"
        )
    if error_number(error):
        return unavailable(f"{path} cannot be opened", error)
    # The first block of a file, the superblock, has 96 bytes at most, and an address behind it.
    if "truncated file" in message or (8 <= size <= 128 and "signature not" not in message):
        return NotHDF5Error(
            f"{path} is cut short ({size} bytes): it was not written or copied to its end. "
            f"HDF5 says: {message}"
        )
    if "file signature not found" in message:
        return NotHDF5Error(f"{path} ({size} bytes) is not an HDF5 file.")
    return ReadError(f"{path} cannot be opened. HDF5 says: {message}")


# Names of things in a file: UTF-8, or else any bytes, which stand in a `str` as Python's own file
# names do (the error handler "surrogateescape"), so that they can be compared, shown and given.


def name_text(name: str | bytes | None) -> str:
    """A name as h5py gives it, which is `bytes` if it is not UTF-8."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name or ""


def name_bytes(name: str) -> bytes:
    """A name as HDF5 has it."""
    return name.encode("utf-8", "surrogateescape")


class _Found(NamedTuple):
    """What a name in a file stands for."""

    name: str
    destination: str | None
    """Where a soft or external link leads to; None: it is the name of something in the file."""
    item: Any
    """What is there; None: it cannot be opened."""


def _walk(file: Any) -> Iterator[_Found]:
    """All names in an open `h5py.File` or `h5py.Group`, and in its groups; each thing once."""
    seen = set()
    with contextlib.suppress(*HDF5_ERRORS):
        seen.add(file["/"] if isinstance(file, h5py.File) else file)
    left = [("", file)]
    while left:
        prefix, group = left.pop()
        links: list[bytes] = []
        with contextlib.suppress(*HDF5_ERRORS):  # a file that is damaged in parts
            # In any other order HDF5 makes a table first: if the list of links is damaged, that
            # ends the process (1.14.6), as h5py's own `visititems` does.
            group.id.links.iterate(links.append, order=h5py.h5.ITER_NATIVE)
        inside = []
        for link in sorted(map(name_text, links)):
            name, destination, item = prefix + link, _destination(group, link), None
            with contextlib.suppress(*HDF5_ERRORS):
                item = _item(group, link)
                if destination is None and item in seen:
                    continue
                seen |= {item} if destination is None else set()
            yield _Found(name, destination, item)
            if destination is None and isinstance(item, h5py.Group):
                inside.append((f"{name}/", item))
        left += reversed(inside)


def dataset_names(file: Any) -> list[str]:
    """The names of all datasets of an open `h5py.File` itself, nested ones with their groups."""
    return [
        found.name
        for found in _walk(file)
        if found.destination is None and isinstance(found.item, h5py.Dataset)
    ]


def _item(file: Any, name: str) -> Any:
    return file[name_bytes(name)]


def linked_names(file: Any) -> tuple[list[str], list[str]]:
    """What the soft and external links of an open `h5py.File` lead to.

    Returns:
        The names under which it has datasets by links, or by links to groups of other files; and a
        sentence for each link that leads nowhere, and each thing that cannot be opened.
    """
    names: list[str] = []
    problems: list[str] = []
    for name, destination, item in _walk(file):
        if item is None:
            problems.append(
                f"the link {name!r} leads to {destination}"
                if destination
                else f"what is under the name {name!r} is damaged: HDF5 cannot open it"
            )
        elif destination and isinstance(item, h5py.Dataset):
            names.append(name)
        elif destination and isinstance(item, h5py.Group) and item.file != file.file:
            names += [f"{name}/{key}" for key in dataset_names(item)]
    return names, problems


def _destination(file: Any, name: str) -> str | None:
    """Where a soft or external link that is not followed leads to; None: it is none."""
    try:
        link = file.get(name_bytes(name), getlink=True)
    except HDF5_ERRORS:
        return None
    if isinstance(link, h5py.SoftLink):
        return f"{link.path!r}, which is not there"
    if isinstance(link, h5py.ExternalLink):
        return f"{link.path!r} in {link.filename!r}, which is not there or cannot be opened"
    return None


def object_name(item: Any) -> str:
    """The name that an `h5py.Dataset` or `h5py.Group` was opened by, in its own file."""
    return name_text(item.name)


def own_name(dataset: Any) -> str:
    """A name by which the file that an `h5py.Dataset` is in has it.

    Behind a soft link to an external one, HDF5 gives the soft link's name, of another file.
    """
    name, file = object_name(dataset), dataset.file
    try:
        if _item(file, name) == dataset:
            return name
    except HDF5_ERRORS:
        pass
    names = dataset_names(file)
    return next((other for other in names if _item(file, other) == dataset), name)


def where(dataset: Any) -> str:
    """Which dataset of which file, for messages."""
    return f"{os.path.abspath(dataset.file.filename)}: dataset {object_name(dataset)!r}"


def find_dataset(file: Any, name: str) -> Any:
    """The `h5py.Dataset` of that name, or an error that tells what is there instead.

    Raises:
        DatasetNotFoundError: There is none of that name, or a link of that name leads nowhere.
        UnavailableError: A link leads to another file, for which there is no descriptor.
    """
    return with_room(functools.partial(_find_dataset, file, name))


def _find_dataset(file: Any, name: str) -> Any:
    try:
        item = _item(file, name)
    except HDF5_ERRORS as error:
        # HDF5 does not tell that it had no descriptor for the file that a link leads to.
        check_openable(os.devnull)
        message = _not_found(file, name)
        if isinstance(error, (KeyError, ValueError)):
            raise DatasetNotFoundError(message) from None
        raise DatasetNotFoundError(f"{message} HDF5 says: {error}") from error
    if not isinstance(item, h5py.Dataset):
        inside = all_names(item) if isinstance(item, h5py.Group) else []
        inside = [f"{name.rstrip('/')}/{key}" for key in inside]
        raise DatasetNotFoundError(
            f"{file.filename}: {name!r} is a {type(item).__name__.lower()}, not a dataset."
            + (f" It holds {_listed(inside)}." if inside else "")
        )
    return item


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")


def all_names(file: Any) -> list[str]:
    """The names of all datasets that an open `h5py.File` has, by links as well."""
    return [*dataset_names(file), *linked_names(file)[0]]


def _not_found(file: Any, name: str) -> str:
    names = all_names(file)
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
        FileFormatError: The attribute cannot be read, is no whole number, negative, or larger than
            `length`.
    """
    above = [part for part in name.split("/")[:-1] if part not in ("", ".")]
    groups = ["/" + "/".join(above[:depth]) for depth in range(len(above), -1, -1)]
    for group in groups:
        found = read_attribute(file, group, SAMPLE_COUNT)
        if found is not None:
            break
    else:
        return length, "/"
    where = f"{file.filename}: the attribute {SAMPLE_COUNT!r}"
    where += f" of {group!r}" if group != "/" else ""
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
    """The attribute `class_names`, or None.

    Raises:
        FileFormatError: It cannot be read.
    """
    found = read_attribute(file, "/", "class_names")
    if found is None or isinstance(found, h5py.Empty):
        return None
    return tuple(text(name) for name in np.ravel(found))


def read_attribute(file: Any, group: str, name: str) -> Any:
    """The value of an attribute; None: there is none of that name.

    Raises:
        FileFormatError: It cannot be read, or another one is damaged so that HDF5 cannot tell
            whether it is there.
    """
    try:
        attributes = _item(file, group).attrs
        # `get` takes the KeyError of an attribute that cannot be read for one that is not there.
        return attributes[name] if name in attributes else None  # noqa: SIM401
    except HDF5_ERRORS as error:
        raise FileFormatError(
            f"{file.filename}: the attributes of {group!r} are damaged, and {name!r} may be among "
            "them. Copy the datasets into a new file (`h5copy`, or h5py's `copy`) and set the "
            f"attributes there anew. HDF5 says: {error}"
        ) from error


def require_filters(dataset: Any) -> None:
    """Makes sure that HDF5 can undo the filters of a dataset of which it is to read values.

    It knows those of hdf5plugin only after that was imported, which takes time.

    Raises:
        MissingFilterError: A filter is needed, and is not installed.
    """
    plist = dataset.id.get_create_plist()
    missing = [
        (position, number, name)
        for position, (number, _, _, name) in enumerate(
            plist.get_filter(i) for i in range(plist.get_nfilters())
        )
        if not h5py.h5z.filter_avail(number)
    ]
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
    names = ", ".join(
        f"{name_text(name) or 'filter'} (number {number})"
        for position, number, name in missing
        if not h5py.h5z.filter_avail(number) and _is_applied(dataset, position)
    )
    if names:
        raise MissingFilterError(
            f"{where(dataset)} was written with a filter that is not installed: {names}. {advice}"
        )


def _is_applied(dataset: Any, position: int) -> bool:
    """Whether any chunk went through one of the filters."""
    if not hasattr(dataset.id, "chunk_iter"):
        return True
    # A result ends the iteration.
    found = dataset.id.chunk_iter(lambda chunk: None if chunk.filter_mask >> position & 1 else 1)
    return found is not None


def text(value: Any) -> str:
    """A string attribute or value, which h5py gives as `str` or as `bytes`."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
