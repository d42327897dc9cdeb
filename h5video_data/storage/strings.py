"""Datasets of strings, which are read once, whole; and pictures in rows of bytes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError, H5VideoError

from .chunk_table import check_chunk_table
from .file_identity import FileIdentity, Files
from .hdf5_files import HDF5_ERRORS, file_identity, open_file, path_of
from .hdf5_names import dataset_location, find_again, own_name
from .values import Values

# How files of each format begin.
_PICTURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}


@dataclass(frozen=True, eq=False)
class StoredStrings:
    """A dataset of strings, of fixed or variable length."""

    path: str
    identity: FileIdentity
    """That of the file when this was made."""
    name: str
    shape: tuple[int, ...]

    @property
    def itemsize(self) -> int:
        """Bytes of a value in memory, of its class number."""
        return 4

    @property
    def dtype(self) -> str:
        """Stands for the dtype in messages: strings of any length are alike."""
        return "strings"


def is_strings(dataset: Any) -> bool:
    """Whether an open `h5py.Dataset` holds strings."""
    return bool(dataset.id.get_type().get_class() == h5py.h5t.STRING and dataset.shape)


def describe_strings(dataset: Any) -> StoredStrings:
    """Describes an open `h5py.Dataset` of strings; raises a FileFormatError if it is damaged."""
    check_chunk_table(dataset)
    path, identity = path_of(dataset.file), file_identity(dataset.file)
    return StoredStrings(path, identity, own_name(dataset), dataset.shape)


def read_strings(stored: StoredStrings, num_rows: int) -> tuple[NDArray[Any], Files]:
    """Reads the first rows of a dataset of strings.

    Returns:
        The strings, (num_rows, ...), objects of `str`; and the files that contain them.

    Raises:
        FileFormatError: They are pictures.
        H5VideoError: They cannot be read.
    """
    with open_file(stored.path, stored.identity) as file:
        dataset = find_again(file, stored.name)
        values = Values(dataset, num_rows)
        found = values.read(slice(0, num_rows))
        location = dataset_location(dataset)
    texts = np.empty(found.size, object)
    for number, value in enumerate(found.ravel().tolist()):
        if hint := picture_hint(value):
            raise FileFormatError(f"{location} holds {hint}")
        texts[number] = as_text(value)
    return texts.reshape(found.shape), values.files


def as_text(string: str | bytes) -> str:
    """Returns a string of a file, whose bytes are usually but not always UTF-8."""
    return string if isinstance(string, str) else string.decode("utf-8", "surrogateescape")


def not_numbers_hint(dataset: Any, *, is_label: bool) -> str:
    """Returns what to do about a dataset that is not one of numbers.

    Args:
        dataset: The open `h5py.Dataset`.
        is_label: Whether it is y.
    """
    try:
        dtype = dataset.dtype
    except HDF5_ERRORS:  # NumPy has no such type
        return ""
    kind = _find_pictures(dataset)
    if kind:
        return f" Its rows are {_pictures_text(kind)}"
    if is_label:
        return (
            " Labels are class numbers, one-hot vectors or strings, in a dataset of their own; "
            "y=None reads none."
        )
    if is_strings(dataset):
        return " Strings are read as y alone, as class numbers."
    if h5py.check_vlen_dtype(dtype) is not None:
        return (
            " Its rows have a length each; those of a tensor have a fixed shape. Write them into a "
            "dataset of numbers, padded, or decoded if they are compressed pictures."
        )
    is_number = dtype.kind in "iufc"
    return "" if is_number else " Samples are arrays of numbers, in a dataset of their own."


def _find_pictures(dataset: Any) -> str | None:
    """Returns "JPEG" or "PNG" if the first row of a dataset begins as such a file does, or None."""
    with contextlib.suppress(H5VideoError, *HDF5_ERRORS):
        rows = Values(dataset, 1).read(slice(0, 1))
        return _picture_kind(np.asarray(rows.ravel()[0]).tobytes()) or _picture_kind(rows.flat[0])
    return None


def picture_hint(value: Any) -> str | None:
    """Returns what a value is and what to do about it, if it begins as a picture does, or None."""
    kind = _picture_kind(value)
    return _pictures_text(kind) if kind else None


def _pictures_text(kind: str) -> str:
    """Returns what to do about pictures, for messages."""
    return (
        f"pictures ({kind}). These are decoded in datasets of the shape (rows,), a picture for "
        'each sample or frame, where `decode` is "auto" or "image".'
    )


def _picture_kind(value: Any) -> str | None:
    if not isinstance(value, bytes):
        return None
    return next((kind for begin, kind in _PICTURES.items() if value.startswith(begin)), None)
