"""Makes sure that HDF5 has the filters that a dataset needs, those of hdf5plugin included.

hdf5plugin takes time to import, so it is imported only if a filter is missing.
"""

from __future__ import annotations

import contextlib
from typing import Any

import h5py

from h5video_data.errors import MissingFilterError

from .hdf5_names import dataset_location, name_text


def require_filters(dataset: Any) -> None:
    """Raises a MissingFilterError if HDF5 cannot undo the filters of an `h5py.Dataset`."""
    if not _missing_filters(dataset):
        return
    advice = "Try: pip install hdf5plugin"
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters with HDF5

        advice = (
            "The installed hdf5plugin does not provide it. Install the HDF5 plugin that the "
            "writing program used and set HDF5_PLUGIN_PATH, or have that program write the file "
            "without this filter."
        )
    names = [name for position, name in _missing_filters(dataset) if _is_applied(dataset, position)]
    if names:
        raise MissingFilterError(
            f"{dataset_location(dataset)} needs an HDF5 filter that is not installed: "
            f"{', '.join(names)}. {advice}"
        )


def _missing_filters(dataset: Any) -> list[tuple[int, str]]:
    """Returns the positions in the pipeline, and the names, of the filters that HDF5 lacks."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    return [
        (position, f"{name_text(name) or 'filter'} (number {number})")
        for position, (number, _, _, name) in enumerate(filters)
        if not h5py.h5z.filter_avail(number)
    ]


def _is_applied(dataset: Any, position: int) -> bool:
    """Returns whether any chunk went through the filter at a position of the pipeline."""
    if not hasattr(dataset.id, "chunk_iter"):
        return True
    # Any result but None ends the iteration.
    found = dataset.id.chunk_iter(lambda chunk: None if chunk.filter_mask >> position & 1 else 1)
    return found is not None
