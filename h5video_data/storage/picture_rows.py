"""Datasets whose rows are encoded pictures: the bytes of a JPEG or PNG file each.

A row is bytes of variable length, an opaque value or a string of fixed length, or numbers padded to
the longest row. `StoredPictures` is the `StoredArray` of the decoded pictures, and says how their
bytes are stored.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import (
    FileChangedError,
    FileFormatError,
    H5VideoError,
    MissingFilterError,
    ReadError,
    UnavailableError,
)

from .hdf5_files import HDF5_ERRORS
from .hdf5_names import dataset_location
from .layout import LostRows, StoredArray, describe
from .pictures.codecs import PictureError, PictureHeader, picture_codec_of, read_header
from .pictures.forms import PictureForm, form_of
from .pictures.resizing import Interpolation
from .values import Values
from .variable_rows import VariableRows, describe_variable_rows

Decode: TypeAlias = Literal["auto", "image"] | None
ColorMode: TypeAlias = Literal["grayscale", "rgb", "rgba"]

# So many rows, spread over a dataset, are looked at for one that is a whole picture.
ROWS_LOOKED_AT = 16

# Shorter rows, as labels mostly are, are not looked at. (No JPEG or PNG has less than 64 bytes, but
# one that was cut off there is worth an error.)
MIN_PICTURE_NBYTES = 16

# More bytes are not read to see whether they are one.
_MAX_NBYTES = 64 << 20

_BYTE = np.dtype(np.uint8)
# A row of variable length, as the dataset itself has it: where its bytes are.
_DESCRIPTOR = np.dtype("V16")


@dataclass(frozen=True)
class Decoding:
    """The arguments of the same names: what is decoded, and what pictures are delivered as."""

    decode: Decode = "auto"
    image_size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    color_mode: ColorMode | None = None

    @property
    def needs_pictures(self) -> bool:
        """Whether an argument has no effect where there are none."""
        return self.decode == "image" or self.image_size is not None or self.color_mode is not None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class StoredPictures(StoredArray):
    """Where and how the pictures of one dataset are stored.

    Shape and dtype are those of the decoded pictures; there are no offsets.
    """

    codec: str
    """That of the first picture, "jpeg" or "png"; others may have another one."""
    form: PictureForm
    """What each is delivered as."""
    fixed: StoredArray | None = None
    """Their bytes, uint8 (rows, bytes), if rows have a fixed length."""
    variable: VariableRows | None = None
    """Where the bytes of each row are, if lengths vary."""
    heap_obstacle: str | None = None
    """Why only h5py can read rows whose lengths vary; None: positioned reads can."""
    encoded_lost_rows: LostRows | None = None
    """`lost_rows` of the dataset as it is stored."""

    @property
    def lost_rows(self) -> LostRows | None:
        """See `StoredArray.lost_rows`."""
        return self.encoded_lost_rows


def describe_pictures(
    dataset: Any, decoding: Decoding, opened_by: str | None = None
) -> StoredPictures | None:
    """Describes how a dataset of encoded pictures is stored.

    Args:
        dataset: The open `h5py.Dataset`.
        decoding: Which datasets are decoded, and how.
        opened_by: The name in its file by which it was opened, if that is known.

    Returns:
        The pictures, (rows of the dataset, rows, columns, channels); None: it has none, or they
        are not to be decoded.

    Raises:
        FileFormatError: Its rows begin as pictures do, but none that was looked at is one.
        H5VideoError: Any of the errors of `describe`.
    """
    is_padded_too = decoding.decode == "image"
    if decoding.decode is None or not _may_be_pictures(dataset, is_padded_too=is_padded_too):
        return None
    header = _find_header(dataset)
    if header is None:
        return None
    form = form_of(
        header,
        image_size=decoding.image_size,
        interpolation=decoding.interpolation,
        color_mode=decoding.color_mode,
    )
    dtype = dataset.dtype
    fixed, variable = None, None
    if h5py.check_vlen_dtype(dtype) is not None:
        rows = describe(dataset, opened_by, (_DESCRIPTOR, ()))
        variable = describe_variable_rows(dataset, opened_by)
    else:
        element = None if _are_bytes(dtype) else (_BYTE, (dtype.itemsize,))
        rows = fixed = describe(dataset, opened_by, element)
    nothing = np.zeros(0, np.int64)
    return StoredPictures(
        path=rows.path,
        identity=rows.identity,
        name=rows.name,
        shape=(rows.shape[0], *form.shape),
        dtype=form.dtype,
        file_dtype=form.dtype,
        storage=rows.storage,
        chunk_shape=None,
        filters=rows.filters,
        fill_value=None,
        offsets=nothing,
        sizes=nothing,
        masks=nothing.astype(np.uint32),
        obstacle=None,
        sources=rows.sources,
        codec=header.codec,
        form=form,
        fixed=fixed,
        variable=None if isinstance(variable, str) else variable,
        heap_obstacle=variable if isinstance(variable, str) else None,
        encoded_lost_rows=rows.lost_rows,
    )


class PictureLook(NamedTuple):
    """What some rows of a dataset of pictures are, spread over it."""

    num_rows: int
    """Rows that were looked at."""
    codecs: dict[str, int]
    """How many of them begin as each codec's pictures do; "" is for others, and empty rows."""
    sizes: tuple[tuple[int, int], ...]
    """The sizes that there are, (rows, columns), the most frequent first."""
    mean_nbytes: float
    """Bytes of a row, without the zeros behind it."""


def look_at_pictures(dataset: Any, num_rows: int = 64) -> PictureLook:
    """Reads some rows of an open `h5py.Dataset` of pictures, and the headers of these.

    Raises:
        H5VideoError: They cannot be read.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, num_rows).astype(np.int64)).tolist()
    codecs: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    num_bytes = 0
    for row in rows:
        data = read_row(dataset, row)
        num_bytes += int(np.flatnonzero(data)[-1]) + 1 if data.any() else 0
        codec = picture_codec_of(data)
        codecs["" if codec is None else codec.name] += 1
        with contextlib.suppress(PictureError):
            header = read_header(data)
            sizes[header.rows, header.columns] += 1
    found = tuple(size for size, _ in sizes.most_common())
    return PictureLook(len(rows), dict(codecs.most_common()), found, num_bytes / len(rows))


def holds_pictures(dataset: Any, decoding: Decoding) -> bool:
    """Whether an open `h5py.Dataset` is one of pictures that are to be decoded."""
    is_padded_too = decoding.decode == "image"
    return (
        decoding.decode is not None
        and _may_be_pictures(dataset, is_padded_too=is_padded_too)
        and _find_header(dataset) is not None
    )


def holds_padded_pictures(dataset: Any) -> bool:
    """Whether the rows of an open `h5py.Dataset` are numbers, but begin as pictures do."""
    if not _may_be_pictures(dataset, is_padded_too=True) or not _are_bytes(dataset.dtype):
        return False
    try:
        return picture_codec_of(read_row(dataset, 0)) is not None
    except H5VideoError:  # of which the reader tells, if it reads the row
        return False


def is_one_picture(dataset: Any) -> bool:
    """Whether the rows of an open `h5py.Dataset` are the bytes of one picture."""
    shape = dataset.shape
    is_line = len(shape) == 1 or shape[1:] == (1,)
    if not is_line or not _are_bytes(dataset.dtype):
        return False
    if not MIN_PICTURE_NBYTES <= shape[0] <= _MAX_NBYTES:
        return False
    try:
        values = Values(dataset)
        if picture_codec_of(row_bytes(values.read(slice(0, MIN_PICTURE_NBYTES)))) is None:
            return False
        read_header(row_bytes(values.read(slice(0, shape[0]))))
    except (PictureError, H5VideoError):
        return False
    return True


def read_row(dataset: Any, row: int) -> NDArray[np.uint8]:
    """Reads the bytes of one row by h5py, uint8 (n,).

    Raises:
        H5VideoError: They cannot be read.
    """
    return row_bytes(Values(dataset, row + 1).read(slice(row, row + 1)))


def row_bytes(row: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns the bytes of one row that h5py read: (1, n) numbers, or (1,) of something else."""
    if row.dtype.kind == "O":
        row = np.asarray(row.flat[0])
    return np.ascontiguousarray(row).reshape(-1).view(np.uint8)


def _are_bytes(dtype: np.dtype[Any]) -> bool:
    """Whether values are numbers of a byte."""
    return dtype.kind in "iu" and dtype.itemsize == 1


def _may_be_pictures(dataset: Any, *, is_padded_too: bool) -> bool:
    """Whether the shape and dtype of a dataset are those of encoded pictures."""
    try:
        shape = dataset.shape
        if not shape or not shape[0] or len(shape) > (2 if is_padded_too else 1):
            return False
        dtype = dataset.dtype
    except HDF5_ERRORS:  # NumPy has no such type
        return False
    if len(shape) == 2:
        return _are_bytes(dtype) and MIN_PICTURE_NBYTES <= shape[1] <= _MAX_NBYTES
    if h5py.check_string_dtype(dtype) is not None:
        return bool(dtype.kind == "S" and dtype.itemsize >= MIN_PICTURE_NBYTES)
    element = h5py.check_vlen_dtype(dtype)
    if element is not None:
        return isinstance(element, np.dtype) and element.itemsize == 1
    is_opaque = dtype.kind == "V" and dtype.names is None and dtype.subdtype is None
    return bool(is_opaque and dtype.itemsize >= MIN_PICTURE_NBYTES)


def _find_header(dataset: Any) -> PictureHeader | None:
    """Returns the header of the first picture among some rows, or None if there is none."""
    error: Exception | None = None
    is_read = False
    for row in np.unique(np.linspace(0, len(dataset) - 1, ROWS_LOOKED_AT).astype(int)).tolist():
        try:
            data = read_row(dataset, row)
            is_read = True
            if picture_codec_of(data) is not None:
                return read_header(data)
        except (FileChangedError, MissingFilterError, UnavailableError):
            raise
        except (PictureError, ReadError) as found:
            error = error or found
    if error is not None and not is_read:
        raise error
    if isinstance(error, PictureError):
        raise FileFormatError(
            f"{dataset_location(dataset)}: no row that was looked at is a whole picture. The first "
            f"one: {error}"
        ) from error
    return None
