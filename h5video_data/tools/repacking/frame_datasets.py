"""`repack(layout="recordings")`: files with a dataset for each frame, to recordings.

frames -> RowFile: append, journal -> values and attributes of each frame -> all else -> out
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data import __version__
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    H5VideoError,
    ReadError,
    RepackingError,
)
from h5video_data.storage.chunk_table import check_chunk_table
from h5video_data.storage.file_identity import identity_of
from h5video_data.storage.hdf5_files import HDF5_ERRORS, OpenedFile, open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.name_patterns import matching_names
from h5video_data.storage.paths import Paths, expand_paths
from h5video_data.storage.picture_rows import row_bytes
from h5video_data.storage.values import Values
from h5video_data.tools.atomic_file import check_not_read, with_progress
from h5video_data.tools.packing.encoded_rows import LENGTHS, EncodedFrames, Encoding, Saved
from h5video_data.tools.packing.row_files import RowFile

from .copy_others import OtherItems
from .transfer import SkippedItem

# Frames are handed on in pieces of so many.
PIECE_FRAMES = 64
_CHECKED_FRAMES = 16


class Recording(NamedTuple):
    """A recording whose frames are datasets."""

    path: str
    name: str
    found: list[list[str]]
    """Names of its frames, and of their values, if there are any."""


def repack_frames(
    path: Paths,
    out: Path,
    names: Sequence[str],
    *,
    compression: str | None,
    encoding: Encoding | None,
    progress: bool,
    overwrite: bool,
) -> tuple[int, Saved | None, tuple[SkippedItem, ...]]:
    """Writes frames that are datasets of their own as rows of one dataset.

        images/image000, images/image001, ...     names=["images/image*"]
        0/0, 0/1, ..., 1/0, ...                   names=["*/*"]
        frame_0_x, frame_0_y, frame_1_x, ...      names=["frame_*_x", "frame_*_y"]

    The last `*` is the number of a frame, in natural order; those before it, and the file, are the
    recording. The frames become `X`, (frames, ...), the rest `Y`; `length` is how many frames each
    recording has, and `source` its file and name. An attribute that all frames have (`timestamp`)
    becomes a dataset of its name, (frames, ...). Everything else keeps its name; of several files,
    in a group with that of the file. After a kill, the same call goes on where it was.

    Returns:
        The number of recordings, what encoding the frames has saved, and what was not copied.
    """
    if len(names) > 2 or not all("*" in name for name in names):
        raise ArgumentError(
            "`x` must be the names of the frames, with a *, and of a value for each, for "
            f'layout="recordings". Received: x={list(names)!r}'
        )
    paths = expand_paths(path)
    check_not_read(out, paths)
    recordings, first = find_frames(paths, names, encoding)
    rows = RowFile(
        out,
        first.shape,
        first.dtype,
        compression=compression,
        encoding=encoding,
        signature=[
            *[__version__, list(names), compression],
            None if encoding is None else [encoding.codec, encoding.quality],
            [_signature(file) for file in paths],
        ],
        overwrite=overwrite,
        error_type=RepackingError,
    )
    values: list[NDArray[Any]] = []
    attributes: list[dict[str, Any]] = []
    bar = with_progress(recordings, "repacking", unit="recording", progress=progress)
    with rows.opened():
        done = len(rows.entries)
        for number, (file_path, _, found) in enumerate(bar):
            for begin in range(0, len(found[0]), PIECE_FRAMES):
                some = [part[begin : begin + PIECE_FRAMES] for part in found]
                frames, of_frames = read_frames(file_path, some[0], has_values=number >= done)
                attributes += of_frames
                if len(some) > 1:
                    values += read_frames(file_path, some[1])[0]
                if number >= done:
                    append_frames(rows, file_path, some[0], frames, first, encoding)
            if number >= done:
                rows.commit({})
        beside: dict[str, Any] = {
            "length": np.array([len(found[0]) for _, _, found in recordings], np.int64)
        }
        if values:
            beside["Y"] = np.stack(values)
        taken = {"X", "Y", "length", "source", f"X{LENGTHS}"}
        listed, skipped = _attribute_values(attributes, taken)
        beside |= listed
        of_files: dict[str, set[str]] = {file: set() for file in paths}
        for item in recordings:
            of_files[item.path].update(itertools.chain.from_iterable(item.found))
        others = OtherItems(of_files, taken | set(beside), skipped)

        def write_rest(file: h5py.File) -> None:
            for name, array in beside.items():
                file[name] = array
            sources = [f"{Path(item.path).name}:{item.name}" for item in recordings]
            file.create_dataset("source", data=sources, dtype=h5py.string_dtype())
            others.copy(file)

        def check(complete: Path) -> None:
            others.check(complete)
            _check_frames(complete, recordings, encoding)

        rows.finish("X", write_rest, check)
    saved = None
    if encoding is not None:
        saved = encoding.saved(rows.num_rows * first.nbytes, rows.encoded_nbytes())
    return len(recordings), saved, tuple(skipped)


def find_frames(
    paths: Sequence[str], names: Sequence[str], encoding: Encoding | None
) -> tuple[list[Recording], NDArray[Any]]:
    """Returns the recordings, and the first frame of the first one."""
    recordings = [found for file in paths for found in _recordings(file, names)]
    first = read_frames(recordings[0].path, recordings[0].found[0][:1])[0][0]
    if first.ndim > 3:
        raise ArgumentError(
            f"{recordings[0].path}: {recordings[0].found[0][0]!r} is a recording already, of shape "
            f"{first.shape}, no frame: leave out `layout`, and each keeps its name. "
            f"Received: layout='recordings', x={list(names)!r}"
        )
    if encoding is not None:
        encoding.check(names[0], first.shape, first.dtype)
    return recordings, first


def append_frames(
    rows: RowFile,
    path: str,
    names: Sequence[str],
    frames: Sequence[NDArray[Any]],
    first: NDArray[Any],
    encoding: Encoding | None,
) -> None:
    """Appends frames of these names, encoded if they should be; they must be like the first one."""
    for name, frame in zip(names, frames, strict=True):
        if frame.shape != first.shape or frame.dtype != first.dtype:
            raise FileFormatError(
                f"{path}: dataset {name!r} must be like the first frame: {first.dtype} of shape "
                f"{first.shape}. Received: {frame.dtype} of shape {frame.shape}"
            )
    if encoding is None:
        rows.append(np.stack(frames))
    else:
        rows.append(EncodedFrames(map(encoding.encode, frames)))


def _signature(path: str) -> list[Any]:
    """Returns what tells a file from others, and from itself before a change."""
    identity = identity_of(path)
    return [path, str(identity)]


def _recordings(path: str, names: Sequence[str]) -> Iterator[Recording]:
    """Yields the file, name and, for each pattern, the frames of each of its recordings."""
    with open_file(path) as file:
        matches = [matching_names(file, name) for name in names]
    if not matches[0]:
        raise DatasetNotFoundError(f"{path} has no dataset {names[0]!r}.")
    for name, found in zip(names[1:], matches[1:], strict=True):
        if missing := [match for match in matches[0] if match not in found]:
            raise FileFormatError(
                f"{path}: there is no {name!r} for the frame {matches[0][missing[0]]!r}."
            )
    for recording, keys in itertools.groupby(matches[0], lambda match: match[:-1]):
        listed = list(keys)
        found_names = [[found[key] for key in listed] for found in matches]
        yield Recording(path, "/".join(recording), found_names)


def read_frames(
    path: str, names: Sequence[str], *, has_values: bool = True
) -> tuple[list[NDArray[Any]], list[dict[str, Any]]]:
    """Reads the values (if wanted) and attributes of datasets."""
    values, attributes = [], []
    with open_file(path) as file:
        opened = OpenedFile.of(file)
        try:
            for name in names:
                dataset = find_dataset(file, name)
                attributes.append(dict(dataset.attrs))
                if has_values:
                    check_chunk_table(dataset, opened)
                    stored = Values(dataset)  # checks other files with its values
                    values.append(np.asarray(dataset[()]))
                    stored.check_files()
        except H5VideoError:
            raise
        except HDF5_ERRORS as error:
            raise ReadError(
                f"{path}: a frame of {names[0]!r}, ... cannot be read: {error}"
            ) from error
    return values, attributes


def _attribute_values(
    attributes: Sequence[dict[str, Any]], taken: set[str]
) -> tuple[dict[str, Any], list[SkippedItem]]:
    """Returns the attributes that all frames have, alike, as arrays (frames, ...); and others."""
    listed: dict[str, Any] = {}
    skipped = []
    for name in sorted({name for item in attributes for name in item}):
        found = [item[name] for item in attributes if name in item]
        forms = {(np.shape(item), np.asarray(item).dtype.kind) for item in found}
        reason = None
        if len(found) < len(attributes):
            reason = f"is that of {len(found)} of {len(attributes)} frames"
        elif len(forms) > 1 or next(iter(forms))[1] not in "buifSUO":
            reason = "is not alike for all frames"
        elif name in taken or "/" in name:
            reason = "has a name that another dataset has in the new file"
        if reason is None:
            values = np.array(found)
            is_text = values.dtype.kind in "UO"
            listed[name] = values.astype(h5py.string_dtype()) if is_text else values
        else:
            skipped.append(SkippedItem(f"attribute {name!r} of frames", reason))
    return listed, skipped


def _check_frames(path: Path, recordings: Sequence[Recording], encoding: Encoding | None) -> None:
    """Compares some frames of the new file with those of the old ones, read by h5py."""
    frames = [(item.path, name) for item in recordings for name in item.found[0]]
    with h5py.File(path) as file:
        for row in np.unique(np.linspace(0, len(frames) - 1, _CHECKED_FRAMES, dtype=int)).tolist():
            (expected,), _ = read_frames(frames[row][0], [frames[row][1]])
            found = file["X"][row : row + 1]
            data = expected.tobytes() if encoding is None else encoding.encode(expected)
            if row_bytes(found).tobytes()[: len(data)] != data:
                raise RepackingError(
                    f"{frames[row][0]}: dataset {frames[row][1]!r}: h5py reads other values there "
                    f"than in row {row} of the new file, which was removed."
                )
