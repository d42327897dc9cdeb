"""Datasets whose bytes are in other files, which are no HDF5 files."""

from __future__ import annotations

import math
import os
from typing import Any

from h5video_data.errors import FileFormatError

from .external import STORAGE_PREFIX
from .file_identity import identity_of
from .hdf5_files import path_of
from .hdf5_names import dataset_location


def check_external(dataset: Any, num_rows: int) -> None:
    """Raises a FileFormatError if the external files of a dataset do not contain its first rows.

    HDF5 returns zeros for what is beyond their end. Rows that are not in use may never have been
    written.
    """
    num_bytes_left = num_rows * math.prod(dataset.shape[1:]) * dataset.id.get_type().get_size()
    for path, offset, size in external_segments(dataset):
        needed = min(size, num_bytes_left)
        num_bytes_left -= needed
        found = identity_of(path).num_bytes
        if needed and found < offset + needed:
            raise FileFormatError(
                f"{dataset_location(dataset)}: the external file {path} is truncated. Expected: "
                f"{offset + needed} bytes for {num_rows} samples. Received: {found}"
            )


def external_segments(dataset: Any) -> list[tuple[str, int, int]]:
    """Lists absolute path, offset and bytes of the external files (specification, IV.A.2.h)."""
    own_folder = os.path.dirname(path_of(dataset.file))
    # Without a prefix, paths are relative to the working directory.
    prefix = os.environ.get(STORAGE_PREFIX, "").replace("${ORIGIN}", own_folder)
    return [
        (os.path.abspath(os.path.join(prefix, name)), offset, size)
        for name, offset, size in dataset.external or ()
    ]
