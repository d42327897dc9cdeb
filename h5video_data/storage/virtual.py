"""Where the values of a dataset are if they are not in its own file: virtual and external ones.

HDF5 puts the fill value, without a word, in place of what it does not find or cannot open, as it
does where no source is meant to be. So the sources are looked for here, before values are read and
after.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py._objects import phil

from h5video_data.errors import (
    DatasetNotFoundError,
    FileFormatError,
    H5VideoError,
    VideoFileNotFoundError,
)

from .file_identity import (
    FileIdentity,
    Files,
    check_identity,
    identity_of,
    open_identities,
    unavailable,
)
from .hdf5_files import (
    HDF5_ERRORS,
    all_names,
    file_identity,
    find_dataset,
    object_name,
    open_file,
    require_filters,
    where,
)

# What HDF5 has for the count or the block of a selection that grows with its dataset.
_UNLIMITED = h5py.h5s.UNLIMITED


class Mapping(NamedTuple):
    """A part of a virtual dataset, an `h5py.h5s.SpaceID`, and the file that its values are in."""

    part: Any
    path: str
    identity: FileIdentity


@dataclass(frozen=True)
class FilesBehind:
    """The files that hold values of a dataset, beside its own."""

    files: Files = ()
    mappings: tuple[Mapping, ...] = ()
    """For each source of a virtual dataset in another file, what it fills; but for parts that grow
    with it."""


def files_behind(dataset: Any) -> FilesBehind:
    """Looks for the files that hold values of a dataset, beside its own.

    Args:
        dataset: The open `h5py.Dataset`, virtual or not.

    Raises:
        VideoFileNotFoundError: A file is not there.
        DatasetNotFoundError: A file has not got the dataset that is wanted of it.
        FileFormatError: A source has fewer values than are wanted of it, or is made of itself.
        MissingFilterError: A source was written with a filter that is not installed.
        H5VideoError: A file cannot be opened.
    """
    search = _Search()
    try:
        # What this opens must not be taken for what a read in another thread opened.
        with phil:
            search.collect(dataset)
    except HDF5_ERRORS as error:
        if isinstance(error, H5VideoError):
            raise
        raise FileFormatError(
            f"{where(dataset)}: what it says of where its values are is damaged. HDF5 says: {error}"
        ) from error
    search.found.pop(_path_of(dataset), None)
    return FilesBehind(tuple(search.found.items()), tuple(search.mappings))


class Unopened:
    """The sources of a virtual dataset of which it is not known yet whether HDF5 has opened them.

    It opens a source when it first reads from it, and keeps it open with the dataset.
    """

    def __init__(self, mappings: Sequence[Mapping]) -> None:
        self._mappings = mappings
        self._is_left = np.ones(len(mappings), np.bool_)
        bounds = [mapping.part.get_select_bounds() for mapping in mappings]
        self._begins = np.array([begin[0] for begin, _ in bounds], np.int64)
        self._lasts = np.array([last[0] for _, last in bounds], np.int64)

    def check(self, dataset: Any, selection: Sequence[slice]) -> None:
        """Makes sure that HDF5 has opened the sources of what was read just now.

        Call it before anybody else can open one of these files, with `phil` held since before the
        read.

        Args:
            dataset: The open `h5py.Dataset`.
            selection: What was read: a slice with a start and an end for each of the first axes.

        Raises:
            UnavailableError: It could not open one, and gave the fill value instead.
        """
        rows = selection[0]
        is_near = (self._begins < rows.stop) & (self._lasts >= rows.start)
        near = np.flatnonzero(is_near & self._is_left).tolist()
        if not near:
            return
        ranges = [range(item.start, item.stop, item.step or 1) for item in selection]
        ranges += [range(length) for length in dataset.shape[len(ranges) :]]
        if not all(map(len, ranges)):
            return
        starts, counts, steps = zip(*((r.start, len(r), r.step) for r in ranges), strict=True)
        wanted = []
        for number in near:
            part = self._mappings[number].part.copy()
            part.select_hyperslab(starts, counts, steps, op=h5py.h5s.SELECT_AND)
            if part.get_select_npoints():
                wanted.append(number)
        opened = open_identities() if wanted else None
        for number in wanted:
            _, path, identity = self._mappings[number]
            if opened is not None and (identity.device, identity.inode) not in opened:
                check_identity(path, identity)
                cause = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                raise unavailable(
                    f"{where(dataset)}: HDF5 could not open {path}, from which it takes values, "
                    "and which has to stay open",
                    cause,
                ) from cause
        self._is_left[wanted] = False


class _Search:
    """Collects the files behind a dataset."""

    def __init__(self) -> None:
        self.found: dict[str, FileIdentity] = {}
        self.mappings: list[Mapping] = []
        # The datasets that are being looked at, each a source of the one before.
        self._above: list[Any] = []

    def collect(self, dataset: Any) -> None:
        if dataset in self._above:
            raise FileFormatError(f"{where(dataset)} is virtual, and made of itself.")
        self.found[_path_of(dataset)] = file_identity(dataset.file)
        self._above.append(dataset)
        if dataset.is_virtual:
            self._collect_sources(dataset)
        elif dataset.external:
            self._collect_external(dataset)
        self._above.pop()

    def _collect_sources(self, dataset: Any) -> None:
        by_file: dict[str, list[Any]] = {}
        for item in dataset.virtual_sources():
            by_file.setdefault(item.file_name, []).append(item)
        for pattern, items in by_file.items():
            if not _is_pattern(pattern):
                self._collect_from(dataset, _numbered(pattern, 0), items)
                continue
            for item in items:
                count = _num_blocks(dataset, item)
                # HDF5 takes the first number of which there is nothing for the end of the dataset.
                next_places = _source_places(_path_of(dataset), _numbered(pattern, count))
                if dataset.shape != dataset.maxshape and any(map(os.path.exists, next_places)):
                    count += 1
                for number in range(count):
                    self._collect_from(dataset, _numbered(pattern, number), [item], number)
                for place in _source_places(_path_of(dataset), pattern):
                    folder, name = os.path.split(place)
                    if os.path.isdir(folder or "."):
                        _check_no_gap(dataset, name, os.listdir(folder or "."), count)

    def _collect_from(
        self, dataset: Any, name: str, items: Sequence[Any], number: int | None = None
    ) -> None:
        """The sources in one file; `number` is that of the block that it is for, if of one."""
        with _source_file(dataset, name) as file:
            self.found[os.path.abspath(file.filename)] = file_identity(file)
            for item in items:
                numbers: Iterable[int] = [0] if number is None else [number]
                if number is None and _is_pattern(item.dset_name):
                    count = _num_blocks(dataset, item)
                    numbers = range(count)
                    _check_no_gap(dataset, item.dset_name.lstrip("/"), all_names(file), count)
                for block in numbers:
                    self._collect_source(dataset, item, file, _numbered(item.dset_name, block))

    def _collect_source(self, dataset: Any, item: Any, file: Any, name: str) -> None:
        try:
            source = find_dataset(file, name)
        except DatasetNotFoundError as error:
            message = f"{where(dataset)} takes values from {name!r}: {error}"
            raise DatasetNotFoundError(message) from error
        require_filters(source)
        lacking = _lacking(dataset, item, source)
        if lacking:
            raise FileFormatError(
                f"{where(dataset)} takes values from {where(source)}, which is cut short. "
                f"Expected: {lacking}. Received: shape {source.shape}"
            )
        self.collect(source)
        path = _path_of(source)
        is_elsewhere = len(self._above) == 1 and path != _path_of(dataset)
        if is_elsewhere and not _is_growing(item.vspace) and 0 not in dataset.shape:
            self.mappings.append(Mapping(item.vspace, path, self.found[path]))

    def _collect_external(self, dataset: Any) -> None:
        for name, _, _ in dataset.external:
            path = os.path.abspath(os.path.join(_external_folder(dataset), name))
            try:
                self.found[path] = identity_of(path)
            except VideoFileNotFoundError:
                raise VideoFileNotFoundError(
                    f"{where(dataset)} has its values in {path}, which is not there. HDF5 looks "
                    "for it in the working directory, or where HDF5_EXTFILE_PREFIX says."
                ) from None


def check_external(dataset: Any, num_rows: int) -> None:
    """Raises an error if the external files of a dataset end before its first rows do.

    HDF5 gives zeros for what is not there. Only the rows in use count: those that were never
    written may be missing.

    Args:
        dataset: The open `h5py.Dataset`, external or not.
        num_rows: How many of its first rows are in use.
    """
    if not dataset.external:
        return
    left = num_rows * math.prod(dataset.shape[1:]) * dataset.id.get_type().get_size()
    for name, offset, size in dataset.external:
        path = os.path.abspath(os.path.join(_external_folder(dataset), name))
        needed = min(size, left)
        left -= needed
        found = identity_of(path).num_bytes
        if needed and found < offset + needed:
            raise FileFormatError(
                f"{where(dataset)} has its values in {path}, which is cut short. Expected: "
                f"{offset + needed} bytes for {num_rows} samples. Received: {found}"
            )


def _external_folder(dataset: Any) -> str:
    # An empty one is the working directory.
    folder = os.path.dirname(_path_of(dataset))
    return os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", folder)


def _path_of(dataset: Any) -> str:
    path: str = os.path.abspath(dataset.file.filename)
    return path


# The sources of virtual datasets


def _source_file(dataset: Any, name: str) -> AbstractContextManager[Any]:
    """The file of a source, which the context opens."""
    if name == ".":
        return nullcontext(dataset.file)
    places = [place for place in _source_places(_path_of(dataset), name) if os.path.exists(place)]
    if places:
        return open_file(os.path.abspath(places[0]))
    raise VideoFileNotFoundError(
        f"{_path_of(dataset)}: the virtual dataset {object_name(dataset)!r} takes values from "
        f"{name!r}, which is not there. Put it back, or next to the file."
    )


def _source_places(path: str, name: str) -> list[str]:
    """Where HDF5 looks for a source of a virtual dataset in the file `path`, in this order."""
    folder = os.path.dirname(path)
    prefixes = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", folder).split(":")
    folders = [*filter(None, prefixes), folder, "", os.path.dirname(os.path.realpath(path))]
    # A file that is not where an absolute name says is looked for by its last part.
    first, relative = ([name], os.path.basename(name)) if os.path.isabs(name) else ([], name)
    return [*first, *(os.path.join(item, relative) for item in folders)]


# In the name of a source, HDF5 puts the number of a block for %b, and a percent sign for %%.
_PLACEHOLDER = re.compile("(%%|%b)")


def _is_pattern(name: str) -> bool:
    return "%b" in _PLACEHOLDER.findall(name)


def _numbered(name: str, number: int) -> str:
    return _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else str(number), name)


def _num_blocks(dataset: Any, item: Any) -> int:
    """How many sources an entry with a pattern has: one for each of its blocks in the dataset."""
    starts, strides, counts, _ = item.vspace.get_regular_hyperslab()
    axis = counts.index(_UNLIMITED)
    count: int = -(-(dataset.shape[axis] - starts[axis]) // strides[axis])
    return max(0, count)


def _check_no_gap(dataset: Any, pattern: str, names: Iterable[str], count: int) -> None:
    """Raises an error if the source of the next block is missing, but not that of a later one.

    HDF5 takes a missing source for the end of the dataset.
    """
    if not _is_pattern(pattern):  # the number is in the name of a folder
        return
    literal = {"%%": "%", "%b": "(?P<number>[0-9]+)"}
    expression, seen = "", False
    for part in _PLACEHOLDER.split(pattern):
        again = part == "%b" and seen
        seen = seen or part == "%b"
        expression += "(?P=number)" if again else literal.get(part, re.escape(part))
    found = (re.fullmatch(expression, name) for name in names)
    later = [int(item["number"]) for item in found if item and int(item["number"]) >= count]
    if later and count not in later:
        raise VideoFileNotFoundError(
            f"{where(dataset)} takes values from {_numbered(pattern, count)!r}, which is not "
            f"there, but {_numbered(pattern, min(later))!r} is."
        )


def _regular(space: Any) -> tuple[tuple[int, ...], ...] | None:
    """Start, stride, count and block of a selection along each axis; None: it has none."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    return tuple(zip(*space.get_regular_hyperslab(), strict=True))


def _is_growing(space: Any) -> bool:
    return any(_UNLIMITED in axis[2:] for axis in _regular(space) or ())


def _is_growing_whole(axis: tuple[int, ...]) -> bool:
    """Whether a selection takes all that its dataset grows by along an axis."""
    _, stride, count, block = axis
    return block == _UNLIMITED or (count == _UNLIMITED and stride == block)


def _lacking(dataset: Any, item: Any, source: Any) -> str | None:
    """What a source should have, if it has less than a virtual dataset wants of it."""
    shape, part, selected = source.shape or (), _regular(item.vspace), _regular(item.src_space)
    if item.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        if part is None or _is_growing(item.vspace):
            return None
        wanted = item.vspace.get_select_npoints()
        return f"{wanted} values" if math.prod(shape) < wanted else None
    if selected is None:
        wanted = tuple(end + 1 for end in item.src_space.get_select_bounds()[1])
        is_whole = len(shape) == len(wanted) and all(map(int.__ge__, shape, wanted))
        return None if is_whole else f"shape {wanted} at the least"
    if len(shape) != len(selected):
        return f"{len(selected)} dimensions"
    wanted = tuple(
        0 if _UNLIMITED in (count, block) else start + (count - 1) * stride + block
        for start, stride, count, block in selected
    )
    if part is not None:
        # As far as the virtual dataset reaches, which the longest of its sources decides.
        rows = [
            length - axis[0]
            for length, axis in zip(dataset.shape, part, strict=True)
            if _is_growing_whole(axis)
        ]
        wanted = tuple(
            axis[0] + rows[0] if rows and _is_growing_whole(axis) else end
            for axis, end in zip(selected, wanted, strict=True)
        )
    is_whole = all(map(int.__ge__, shape, wanted))
    return None if is_whole else f"shape {wanted} at the least"
