"""`repack(layout="recordings")`: files with a dataset for each frame, to recordings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    ReadError,
    RepackingError,
)
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.name_patterns import matching_names
from h5video_data.storage.paths import Paths, expand_paths

from .atomic_file import check_not_read, with_progress
from .packing.encoded_rows import EncodedFrames, Encoding, Saved
from .packing.row_files import RowFile

# Frames are handed on in pieces of so many.
_PIECE_FRAMES = 64


def repack_frames(
    path: Paths,
    out: Path,
    names: Sequence[str],
    *,
    compression: str | None,
    encoding: Encoding | None,
    progress: bool,
    overwrite: bool,
) -> tuple[int, Saved | None]:
    """Writes frames that are datasets of their own as rows of one dataset.

        images/image000, images/image001, ...     names=["images/image*"]
        0/0, 0/1, ..., 1/0, ...                   names=["*/*"]
        frame_0_x, frame_0_y, frame_1_x, ...      names=["frame_*_x", "frame_*_y"]

    The last `*` is the number of a frame, in natural order; those before it, and the file, are the
    recording. The frames become `X`, (frames, ...), the rest `Y`; `length` is how many frames each
    recording has, and `source` its file and name.

    Returns:
        The number of recordings, and what encoding the frames has saved.
    """
    if len(names) > 2 or not all("*" in name for name in names):
        raise ArgumentError(
            "`x` must be the names of the frames, with a *, and of a value for each, for "
            f'layout="recordings". Received: x={list(names)!r}'
        )
    paths = expand_paths(path)
    check_not_read(out, paths)
    recordings = [found for file in paths for found in _recordings(file, names)]
    first = _read(recordings[0][0], recordings[0][2][0][:1])[0]
    if encoding is not None:
        encoding.check(names[0], first.shape, first.dtype)
    rows = RowFile(
        out,
        first.shape,
        first.dtype,
        compression=compression,
        encoding=encoding,
        overwrite=overwrite,
        error_type=RepackingError,
    )
    values: list[NDArray[Any]] = []
    bar = with_progress(recordings, "repacking", unit="recording", progress=progress)
    with rows.opened():
        for file_path, _, found in bar:
            for begin in range(0, len(found[0]), _PIECE_FRAMES):
                pieces = [_read(file_path, part[begin : begin + _PIECE_FRAMES]) for part in found]
                for name, frame in zip(found[0][begin:], pieces[0], strict=False):
                    if frame.shape != first.shape or frame.dtype != first.dtype:
                        raise FileFormatError(
                            f"{file_path}: dataset {name!r} must be like the first frame: "
                            f"{first.dtype} of shape {first.shape}. "
                            f"Received: {frame.dtype} of shape {frame.shape}"
                        )
                rows.append(
                    np.stack(pieces[0])
                    if encoding is None
                    else EncodedFrames(map(encoding.encode, pieces[0]))
                )
                values += itertools.chain.from_iterable(pieces[1:])

        def write_rest(file: h5py.File) -> None:
            file["length"] = np.array([len(found[0]) for _, _, found in recordings], np.int64)
            sources = [f"{Path(item).name}:{name}" for item, name, _ in recordings]
            file.create_dataset("source", data=sources, dtype=h5py.string_dtype())
            if values:
                file["Y"] = np.stack(values)

        rows.finish("X", write_rest)
    if encoding is None:
        return len(recordings), None
    return len(recordings), encoding.saved(rows.num_rows * first.nbytes, rows.encoded_nbytes())


def _recordings(path: str, names: Sequence[str]) -> Iterator[tuple[str, str, list[list[str]]]]:
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
        yield path, "/".join(recording), [[found[key] for key in listed] for found in matches]


def _read(path: str, names: Sequence[str]) -> list[NDArray[Any]]:
    with open_file(path) as file:
        try:
            return [np.asarray(find_dataset(file, name)[()]) for name in names]
        except HDF5_ERRORS as error:
            raise ReadError(
                f"{path}: a frame of {names[0]!r}, ... cannot be read: {error}"
            ) from error
