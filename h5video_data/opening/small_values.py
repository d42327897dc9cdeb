"""Reads small values whole: bounds, and values of recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError, H5VideoError
from h5video_data.storage.chunk_table import check_chunk_table
from h5video_data.storage.hdf5_files import HDF5_ERRORS, OpenedFile
from h5video_data.storage.hdf5_names import dataset_location, find_dataset
from h5video_data.storage.layout import dtype_of
from h5video_data.storage.os_errors import read_failure
from h5video_data.storage.strings import as_text, picture_hint
from h5video_data.storage.values import Values
from h5video_data.storage.virtual import find_source_files

MAX_VALUES_NBYTES = 1 << 30
# As many chunks of such a dataset may not be written.
MAX_UNWRITTEN_CHUNKS = 100_000


def small_values(file: OpenedFile, name: str) -> NDArray[Any]:
    """Reads a small dataset of a file whole, a scalar as one value.

    Raises:
        FileFormatError: It is large, hardly written, or of a dtype that h5py does not support;
            its index of chunks is damaged.
        H5VideoError: It cannot be found or read.
    """
    dataset = find_dataset(file.file, name)
    try:
        return _whole(file, name, dataset)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise read_failure(dataset_location(dataset), error) from error


def _whole(file: OpenedFile, name: str, dataset: Any) -> NDArray[Any]:
    nbytes = math.prod(dataset.shape or (1,)) * dtype_of(dataset, file.path).itemsize
    if nbytes > MAX_VALUES_NBYTES:
        raise FileFormatError(
            f"{file.path}: {name!r} has {nbytes} bytes, too many for values of recordings."
        )
    if not dataset.shape:
        find_source_files(dataset)
        return np.asarray(dataset[()]).reshape(1)
    axes = zip(dataset.shape, dataset.chunks or dataset.shape, strict=True)
    num_chunks = math.prod(-(-length // max(chunk, 1)) for length, chunk in axes)
    # HDF5 would take minutes, and gigabytes, for as many chunks as a damaged shape has.
    if num_chunks > MAX_UNWRITTEN_CHUNKS and 2 * dataset.id.get_num_chunks() < num_chunks:
        raise FileFormatError(
            f"{file.path}: {name!r} has the shape {dataset.shape}, and few of its values were "
            "written. If that is not meant, the file is damaged."
        )
    check_chunk_table(dataset, file)
    return np.asarray(Values(dataset, dataset.shape[0]).read(slice(0, dataset.shape[0])))


def is_unwritten(file: Any, name: str) -> bool:
    """Whether no value of a dataset with axes was written, so that HDF5 gives the fill value."""
    dataset = find_dataset(file, name)
    return not (dataset.is_virtual or dataset.external or dataset.id.get_storage_size())


def joined_values(
    path: str, name: str, found: Sequence[NDArray[Any]], *, is_label: bool
) -> NDArray[Any]:
    """Joins values of recordings that must be alike: numbers, or strings as objects."""
    for item in found:
        if item.dtype.kind == "V":
            raise FileFormatError(
                f"{path}: the values of {name!r} {_no_values(item[:1].tobytes())}"
            )
    kinds = {(item.shape[1:], item.dtype.kind in "biufc") for item in found}
    if len(kinds) > 1:
        received = {f"{'numbers' if n else 'strings'} of shape {shape}" for shape, n in kinds}
        raise FileFormatError(
            f"{path}: the values of {name!r} must be alike, of the same shape for all recordings. "
            f"Received: {', '.join(sorted(received))}"
        )
    values = np.concatenate(found)
    if values.dtype.kind not in "biufc" and not is_label:
        raise FileFormatError(
            f"{path}: the values of {name!r} must be numbers: strings are read as y alone, as "
            f"class numbers. Received: {values.dtype}"
        )
    return _texts(path, name, values)


def _texts(path: str, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Returns strings as objects of `str`, and numbers in native byte order."""
    if values.dtype.kind in "biufc":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    texts = np.empty(values.size, object)
    for number, value in enumerate(values.ravel().tolist()):
        if not isinstance(value, (str, bytes)):
            found = _no_values(value.tobytes() if isinstance(value, np.ndarray) else b"", value)
            raise FileFormatError(f"{path}: the values of {name!r} {found}")
        if hint := picture_hint(value):
            raise FileFormatError(f"{path}: the values of {name!r} are {hint}")
        texts[number] = as_text(value)
    return texts.reshape(values.shape)


def _no_values(data: bytes, value: Any = "other bytes") -> str:
    """Returns what is wrong with values that are neither numbers nor strings."""
    if hint := picture_hint(data):
        return f"are {hint}"
    return f"must be numbers or strings. Received: {value!r}"
