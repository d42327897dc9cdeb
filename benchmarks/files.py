"""Opens files for h5py."""

from __future__ import annotations

import contextlib
from typing import Any

import h5py


def open_file(path: str) -> Any:
    """Opens a file for reading, with the filter plugins that are installed in this process."""
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401 - it registers them

    return h5py.File(path, "r")
