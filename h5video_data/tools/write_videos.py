"""`write_videos`: arrays to a file in the layout that is read fastest."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice
from h5video_data.errors import ArgumentError
from h5video_data.storage.codecs import BUILT_IN_COMPRESSIONS
from h5video_data.summary import counted

from .packing.row_files import RowFile

__all__ = ["write_videos"]


def write_videos(
    path: str | os.PathLike[str],
    arrays: Iterable[Any],
    labels: Iterable[Any] | None = None,
    *,
    compression: str | None = None,
    overwrite: bool = False,
) -> int:
    """Writes samples as an HDF5 file, one after the other: they need not fit in memory.

        h5v.write_videos("video_data.h5", (load(name) for name in names), labels)

    The file holds `X`, (samples, ...), in the dtype of the samples; `Y`, (samples, ...), if there
    are labels; and the attribute `sample_count`. It appears under its name when it is complete.

    Args:
        path: The file to write. Its folder must exist.
        arrays: An array (samples, ...), or an iterable of samples of one shape and dtype:
            (frames, channels, rows, columns), or channels last.
        labels: Of each sample: a row of a one-hot array, a number, or the name of its class, which
            becomes its number, and the names the attribute `class_names`. None: no labels.
        compression: None stores samples contiguously, which is fastest to read at random; "gzip"
            and "lzf" store each sample in a compressed chunk of its own.
        overwrite: Replaces `path` if it exists.

    Returns:
        The number of samples.

    Raises:
        ArgumentError: An argument is invalid, a sample is unlike the first one, there are more or
            fewer labels than samples, or `path` exists and `overwrite` is false.
        VideoFileNotFoundError: The folder of `path` does not exist.
        PackingError: The file cannot be written: no space, or a failing disk.
    """
    check_choice("compression", compression, None, *BUILT_IN_COMPRESSIONS)
    samples = iter(arrays)
    try:
        first = np.asarray(next(samples))
    except StopIteration:
        raise ArgumentError("`arrays` must hold a sample or more. Received: none") from None
    if first.dtype.kind not in "buif" or first.ndim == 0:
        raise ArgumentError(
            "`arrays` must hold arrays of numbers. "
            f"Received: a sample of dtype {first.dtype}, shape {first.shape}"
        )
    dtype = first.dtype.newbyteorder("=")
    rows = RowFile(
        Path(path),
        first.shape,
        dtype,
        compression=compression,
        overwrite=overwrite,
        argument="path",
    )
    with rows.opened():
        _append(rows, first, dtype)
        for number, sample in enumerate(samples, 1):
            values = np.asarray(sample)
            if values.shape != first.shape or values.dtype != first.dtype:
                raise ArgumentError(
                    f"Sample {number} must be like sample 0: {first.dtype} of shape {first.shape}. "
                    f"Received: {values.dtype} of shape {values.shape}"
                )
            _append(rows, values, dtype)
        given, class_names = _labels(labels, rows.num_rows)

        def write_rest(file: h5py.File) -> None:
            file.attrs["sample_count"] = rows.num_rows
            if class_names is not None:
                file.attrs["class_names"] = np.array(class_names, h5py.string_dtype())
            if given is not None:
                file["Y"] = given

        rows.finish("X", write_rest)
    return rows.num_rows


def _append(rows: RowFile, sample: NDArray[Any], dtype: np.dtype[Any]) -> None:
    rows.append(sample.astype(dtype, copy=False)[np.newaxis])


def _labels(
    labels: Iterable[Any] | None, count: int
) -> tuple[NDArray[Any] | None, list[str] | None]:
    """Returns the labels as an array, and the names of the classes if they were names."""
    if labels is None:
        return None, None
    values = np.asarray(labels if hasattr(labels, "__len__") else list(labels))
    if len(values) != count:
        raise ArgumentError(
            "There must be a label for each sample. Received: "
            f"{counted(count, 'sample')}, {counted(len(values), 'label')}"
        )
    if values.dtype.kind in "US":
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return numbers.reshape(-1).astype(np.int64), names.tolist()
    if values.dtype.kind not in "buif":
        raise ArgumentError(
            "`labels` must be numbers, rows of numbers, or names. "
            f"Received: dtype {values.dtype}, shape {values.shape}"
        )
    return values, None
