"""Reads the attributes `sample_count` and `class_names`.

Easy to miss: the nearest group that has a `sample_count` decides.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import h5py
import numpy as np

from h5video_data.errors import FileFormatError, H5VideoError

from .hdf5_files import HDF5_ERRORS, open_file, path_of
from .hdf5_names import name_bytes, open_item

SAMPLE_COUNT = "sample_count"

# How a MAT-file of version 7.3 begins, before what HDF5 reads.
_MATLAB = b"MATLAB 7.3 MAT-file"


class SampleCount(NamedTuple):
    """How many samples are in use."""

    num_samples: int
    group: str
    """Name of the group that has the attribute, or would have it."""
    is_given: bool
    """Whether it is that of an attribute, not the length of a dataset."""


def read_sample_count(file: Any, name: str, length: int) -> SampleCount:
    """Reads the number of samples in use from the nearest attribute `sample_count`.

    Args:
        file: The open `h5py.File`.
        name: Name of the dataset of samples.
        length: Length of its first axis, and the number of samples if no group has the attribute.

    Raises:
        FileFormatError: The attribute cannot be read, is not a whole number, or is not in the range
            from 0 to `length`.
    """
    above = [part for part in name.split("/")[:-1] if part not in ("", ".")]
    groups = ["/" + "/".join(above[:depth]) for depth in range(len(above), -1, -1)]
    for group in groups:
        found = read_attribute(file, group, SAMPLE_COUNT)
        if found is not None:
            break
    else:
        return SampleCount(length, "/", is_given=False)
    attribute = f"{path_of(file)}: the attribute {SAMPLE_COUNT!r}"
    attribute += f" of {group!r}" if group != "/" else ""
    value = np.asarray(found)
    is_whole = value.size == 1 and value.dtype.kind in "iuf" and float(value.item()).is_integer()
    if not is_whole:
        raise FileFormatError(f"{attribute} must be a whole number. Received: {found!r}")
    count = int(value.item())
    if count > length and group == "/" and above:
        return SampleCount(length, groups[0], is_given=False)
    if not 0 <= count <= length:
        raise FileFormatError(
            f"{attribute} must be between 0 and {length}, the length of the datasets. "
            f"Received: {count}"
        )
    return SampleCount(count, group, is_given=True)


def read_class_names(file: Any) -> tuple[str, ...] | None:
    """Reads the attribute `class_names` of an open `h5py.File`; None if there is none."""
    found = read_attribute(file, "/", "class_names")
    if found is None or isinstance(found, h5py.Empty):
        return None
    return tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        for name in np.ravel(found)
    )


def is_of_matlab(path: str, name: str) -> bool:
    """Whether MATLAB wrote a dataset of a file: it marks datasets, and begins its files so."""
    with contextlib.suppress(H5VideoError, *HDF5_ERRORS), open_file(path) as file:
        if "MATLAB_class" in open_item(file, name).attrs:
            return True
        with open(path, "rb") as raw:
            return raw.read(len(_MATLAB)) == _MATLAB
    return False


def read_attribute(file: Any, group: str, name: str) -> Any:
    """Reads an attribute of a group; None if there is none of that name.

    Raises:
        FileFormatError: The attributes of the group are damaged.
    """
    try:
        # Most groups have none, and to open one takes HDF5 a while.
        if not h5py.h5a.exists(file.id, name_bytes(name), obj_name=name_bytes(group)):
            return None
        return open_item(file, group).attrs[name]
    except HDF5_ERRORS as error:
        raise FileFormatError(
            f"{path_of(file)}: cannot read the attribute {name!r} of {group!r}: the attributes of "
            "this group are damaged. Copy the datasets to a new file (`h5copy`, or h5py's `copy`) "
            f"and set the attributes there. HDF5 error: {error}"
        ) from error
