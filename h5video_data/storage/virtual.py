"""Virtual and external datasets: finds the other files that contain their values.

Easy to miss: where HDF5 does not find a source or cannot open it, it returns the fill value without
an error, just as for a part that no source is mapped to; and zeros beyond the end of an external
file. So each source is opened and measured when the set is opened (`find_source_files`), and after
the first read from it HDF5 must have it open (`UnopenedSources`).
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import (
    DatasetNotFoundError,
    FileFormatError,
    H5VideoError,
    VideoFileNotFoundError,
)

from .chunk_table import check_chunk_table
from .descriptors import check_openable, open_identities
from .external import SOURCE_PREFIX, STORAGE_PREFIX, check_place
from .external_storage import external_segments
from .file_identity import FileIdentity, Files, ObjectPath, check_identity, identity_of
from .hdf5_files import HDF5_ERRORS, file_identity, open_file, path_of
from .hdf5_names import all_names, dataset_location, find_dataset, name_text
from .os_errors import unavailable
from .paths import hdf5_search_path
from .plugins import require_filters

# HDF5's value for the count or the block of a selection that grows with its dataset.
_UNLIMITED = h5py.h5s.UNLIMITED


class SourceMapping(NamedTuple):
    """A part of a virtual dataset, an `h5py.h5s.SpaceID`, and the file that contains its values."""

    part: Any
    path: str
    identity: FileIdentity


@dataclass(frozen=True)
class SourceFiles:
    """The files other than its own that contain values of a dataset."""

    files: Files = ()
    mappings: tuple[SourceMapping, ...] = ()
    """One for each source of a virtual dataset in another file, except for parts that grow with
    their source."""
    are_chunked: bool = False
    """Whether a source of a virtual dataset is chunked."""


def find_source_files(dataset: Any) -> SourceFiles:
    """Finds and checks the files other than its own that contain values of an `h5py.Dataset`.

    Raises:
        ExternalFileError: The file of the dataset may not lead to one of them.
        H5VideoError: A file does not exist or cannot be opened; a source does not exist, has fewer
            values than are mapped, needs a filter that is not installed, or is the dataset itself.
    """
    search = _Search()
    try:
        # A file that this opens must not be taken for one that a read in another thread opened.
        with phil:
            search.collect(dataset)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise FileFormatError(
            f"{dataset_location(dataset)} has a damaged list of source or external files. "
            f"HDF5 error: {error}"
        ) from error
    search.found.pop(_path_of(dataset), None)
    return SourceFiles(tuple(search.found.items()), tuple(search.mappings), search.has_chunks)


class UnopenedSources:
    """The sources of a virtual dataset that HDF5 has not opened yet, as far as is known.

    HDF5 opens a source file when it first reads from it, and keeps it open with the dataset.
    """

    def __init__(self, mappings: Sequence[SourceMapping]) -> None:
        self._mappings = mappings
        self._is_unopened = np.ones(len(mappings), np.bool_)
        bounds = [mapping.part.get_select_bounds() for mapping in mappings]
        self._first_rows = np.array([first[0] for first, _ in bounds], np.int64)
        self._last_rows = np.array([last[0] for _, last in bounds], np.int64)

    def check(self, dataset: Any, selections: Iterable[Sequence[slice]]) -> None:
        """Raises an error if HDF5 could not open a source of what was just read.

        The caller holds `phil` since before the read: nobody else may open one of these files
        before this check. Each slice of a selection has a start and a stop.
        """
        if not self._is_unopened.any():
            return
        wanted = {number for selection in selections for number in self._wanted(dataset, selection)}
        opened = open_identities() if wanted else None
        for number in sorted(wanted):
            _, path, identity = self._mappings[number]
            if opened is None:
                # If HDF5 had no descriptor left, there is none now.
                check_openable(path)
            elif (identity.device, identity.inode) not in opened:
                check_identity(path, identity)
                what = f"{dataset_location(dataset)}: HDF5 could not open the source file {path}"
                cause = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                raise unavailable(what, cause) from cause
            self._is_unopened[number] = False

    def _wanted(self, dataset: Any, selection: Sequence[slice]) -> Iterator[int]:
        """Yields the numbers of the unopened sources that a selection has values of."""
        rows = selection[0]
        is_near = (self._first_rows < rows.stop) & (self._last_rows >= rows.start)
        near = np.flatnonzero(is_near & self._is_unopened).tolist()
        if not near:
            return
        ranges = [range(item.start, item.stop, item.step or 1) for item in selection]
        ranges += map(range, dataset.shape[len(ranges) :])
        if not all(map(len, ranges)):
            return
        starts, counts, steps = zip(*((r.start, len(r), r.step) for r in ranges), strict=True)
        for number in near:
            part = self._mappings[number].part.copy()
            part.select_hyperslab(starts, counts, steps, op=h5py.h5s.SELECT_AND)
            if part.get_select_npoints():
                yield number


def source_bounds(dataset: Any) -> tuple[int, NDArray[np.int64]]:
    """Finds where the sources of a virtual `h5py.Dataset` meet along its first axis.

    Returns:
        The number of its mappings, and int64 (n,), ascending: the rows where a source begins while
        no other one goes on. Between two of them, all rows may be of one source.
    """
    plist = dataset.id.get_create_plist()
    parts = [plist.get_virtual_vspace(i) for i in range(plist.get_virtual_count())]
    ends = []
    for part in parts:
        if _is_growing(part):
            ends.append((part.get_regular_hyperslab()[0][0], dataset.shape[0]))
        else:
            first, last = part.get_select_bounds()
            ends.append((first[0], last[0]))
    if not ends:
        return 0, np.zeros(0, np.int64)
    firsts, lasts = np.array(sorted(ends), np.int64).T
    before = np.maximum.accumulate(lasts)[:-1]
    return len(parts), firsts[np.append(True, firsts[1:] > before)]


class _Search:
    """Collects the source files of a dataset, and those of its sources."""

    def __init__(self) -> None:
        self.found: dict[str, FileIdentity] = {}
        self.mappings: list[SourceMapping] = []
        self.has_chunks = False
        # The datasets that are being searched, each a source of the one before.
        self._above: list[Any] = []

    def collect(self, dataset: Any) -> None:
        if dataset in self._above:
            raise FileFormatError(
                f"{dataset_location(dataset)} is a virtual dataset that maps to itself."
            )
        self.found[_path_of(dataset)] = file_identity(dataset.file)
        _check_remote(dataset)
        if self._above:  # a source
            check_chunk_table(dataset)
        self._above.append(dataset)
        self.has_chunks |= dataset.chunks is not None
        if dataset.is_virtual:
            self._collect_sources(dataset)
        elif dataset.external:
            self._collect_external(dataset)
        self._above.pop()

    def _collect_sources(self, dataset: Any) -> None:
        # The sources by file: the mappings, each with the numbers of its blocks in that file.
        by_file: dict[str, list[tuple[Any, range]]] = {}
        for item in dataset.virtual_sources():
            if _is_pattern(item.file_name):
                blocks = [range(k, k + 1) for k in range(_num_files(dataset, item))]
            else:
                blocks = [range(_num_blocks(dataset, item) if _is_pattern(item.dset_name) else 1)]
            for number, numbers in enumerate(blocks):
                name = _numbered(item.file_name, number)
                by_file.setdefault(name, []).append((item, numbers))
        for file_name, items in by_file.items():
            with _source_file(dataset, file_name) as file:
                self.found[path_of(file)] = file_identity(file)
                for item, numbers in items:
                    if _is_pattern(item.dset_name) and not _is_pattern(item.file_name):
                        pattern = item.dset_name.lstrip("/")
                        _check_no_gap(dataset, pattern, all_names(file), len(numbers))
                    for number in numbers:
                        self._collect_source(dataset, item, file, _numbered(item.dset_name, number))

    def _collect_source(self, dataset: Any, item: Any, file: Any, name: str) -> None:
        try:
            source = find_dataset(file, name)
        except DatasetNotFoundError as error:
            message = f"{dataset_location(dataset)} maps to the source dataset {name!r}: {error}"
            raise DatasetNotFoundError(message) from error
        require_filters(source)
        expected = _unmet_shape(dataset, item, source)
        if expected:
            raise FileFormatError(
                f"{dataset_location(dataset)} maps to {dataset_location(source)}, which is too "
                f"small. Expected: {expected}. Received: shape {source.shape}"
            )
        self.collect(source)
        path = _path_of(source)
        is_elsewhere = len(self._above) == 1 and path != _path_of(dataset)
        if is_elsewhere and not _is_growing(item.vspace) and 0 not in dataset.shape:
            self.mappings.append(SourceMapping(item.vspace, path, self.found[path]))

    def _collect_external(self, dataset: Any) -> None:
        what = f"the dataset {name_text(dataset.name)!r} has values in"
        for path, _, _ in external_segments(dataset):
            check_place(_path_of(dataset), what, path, STORAGE_PREFIX)
            try:
                self.found[path] = identity_of(path)
            except VideoFileNotFoundError:
                raise VideoFileNotFoundError(
                    f"{dataset_location(dataset)}: the external file {path} does not exist. HDF5 "
                    "looks for it in the working directory, or where HDF5_EXTFILE_PREFIX says."
                ) from None


def _check_remote(dataset: Any) -> None:
    """Raises a FileFormatError if values of a remote dataset are in other files.

    HDF5 would read them from this file again, or look for them on this machine.
    """
    if not isinstance(_path_of(dataset), ObjectPath):
        return
    names = [name for name, _, _ in dataset.external or ()]
    if dataset.is_virtual:
        names += [item.file_name for item in dataset.virtual_sources()]
    elsewhere = next((name for name in names if name != "."), None)
    if elsewhere is not None:
        raise FileFormatError(
            f"{dataset_location(dataset)} has values in another file, {elsewhere!r}, which is not "
            "read over a network. Copy the files to a disk, or make one file of them by `repack`."
        )


def _path_of(dataset: Any) -> str:
    return path_of(dataset.file)


# The sources of virtual datasets


def _places(dataset: Any, name: str) -> list[str]:
    """Lists where HDF5 looks for a source file of a virtual dataset."""
    return hdf5_search_path(_path_of(dataset), name, SOURCE_PREFIX)


def _source_file(dataset: Any, name: str) -> AbstractContextManager[Any]:
    """Returns a context that opens the file of a source; "." is the dataset's own."""
    if name == ".":
        return nullcontext(dataset.file)
    for place in filter(os.path.exists, _places(dataset, name)):
        what = f"the dataset {name_text(dataset.name)!r} has values in"
        check_place(_path_of(dataset), what, place, SOURCE_PREFIX)
        return open_file(os.path.abspath(place))
    raise VideoFileNotFoundError(
        f"{dataset_location(dataset)} maps to the source file {name!r}, which does not exist. "
        "Restore it, or place it next to the file of the virtual dataset."
    )


# In the names of a source, %b stands for the number of a block, and %% for a percent sign
# (H5Pset_virtual).
_PLACEHOLDER = re.compile("(%%|%b)")


def _is_pattern(name: str) -> bool:
    return "%b" in _PLACEHOLDER.findall(name)


def _numbered(name: str, number: int | str) -> str:
    return _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else str(number), name)


def _num_blocks(dataset: Any, item: Any) -> int:
    """Returns how many sources a mapping with a pattern has: one for each block of the dataset."""
    starts, strides, counts, _ = item.vspace.get_regular_hyperslab()
    axis = counts.index(_UNLIMITED)
    count: int = -(-(dataset.shape[axis] - starts[axis]) // strides[axis])
    return max(0, count)


def _num_files(dataset: Any, item: Any) -> int:
    """Returns how many source files a mapping has whose file name is a pattern."""
    count = _num_blocks(dataset, item)
    # To HDF5, the dataset ends where the file of the next number does not exist.
    is_growing = dataset.shape != dataset.maxshape
    if is_growing and any(map(os.path.exists, _places(dataset, _numbered(item.file_name, count)))):
        count += 1
    for place in _places(dataset, item.file_name):
        folder, name = os.path.split(place)
        # The number may be in the name of the directory instead.
        if _is_pattern(name) and os.path.isdir(folder or "."):
            _check_no_gap(dataset, name, os.listdir(folder or "."), count)
    return count


def _check_no_gap(dataset: Any, pattern: str, names: Iterable[str], count: int) -> None:
    """Raises an error if the source of the next block is missing, but a later one exists.

    To HDF5, a missing source is the end of the dataset.
    """
    group = "(?P<number>[0-9]+)"
    head, tail = _numbered(re.escape(pattern), group).split(group, 1)
    expression = head + group + tail.replace(group, "(?P=number)")
    found = (re.fullmatch(expression, name) for name in names)
    later = [int(item["number"]) for item in found if item and int(item["number"]) >= count]
    if later and count not in later:
        raise VideoFileNotFoundError(
            f"{dataset_location(dataset)} maps to {_numbered(pattern, count)!r}, which does not "
            f"exist, but {_numbered(pattern, min(later))!r} does."
        )


def _regular(space: Any) -> tuple[tuple[int, ...], ...] | None:
    """Returns start, stride, count and block of a selection for each axis; None: not regular."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    return tuple(zip(*space.get_regular_hyperslab(), strict=True))


def _is_growing(space: Any) -> bool:
    return any(_UNLIMITED in axis[2:] for axis in _regular(space) or ())


def _is_growing_whole(axis: tuple[int, ...]) -> bool:
    """Returns whether a selection takes all that its dataset grows by along an axis."""
    _, stride, count, block = axis
    return block == _UNLIMITED or (count == _UNLIMITED and stride == block)


def _end(start: int, stride: int, count: int, block: int) -> int:
    """Returns the end of a selection along an axis; 0 if it grows."""
    return 0 if _UNLIMITED in (count, block) else start + (count - 1) * stride + block


def _unmet_shape(dataset: Any, item: Any, source: Any) -> str | None:
    """Returns in words what a source must have, if it has less than is mapped; otherwise None."""
    shape, part, selected = source.shape or (), _regular(item.vspace), _regular(item.src_space)
    if item.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        if part is None or _is_growing(item.vspace):
            return None
        num_values = item.vspace.get_select_npoints()
        return f"{num_values} values" if math.prod(shape) < num_values else None
    if selected is None:
        wanted = tuple(end + 1 for end in item.src_space.get_select_bounds()[1])
    else:
        # As many rows as the virtual dataset has, which the longest of its sources decides.
        rows = [
            length - axis[0]
            for length, axis in zip(dataset.shape, part or (), strict=False)
            if _is_growing_whole(axis)
        ]
        wanted = tuple(
            axis[0] + rows[0] if rows and _is_growing_whole(axis) else _end(*axis)
            for axis in selected
        )
    is_met = len(shape) == len(wanted) and all(map(int.__ge__, shape, wanted))
    return None if is_met else f"shape {wanted} or larger"
