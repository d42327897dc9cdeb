"""Makes the components of a set: decides how each is read, reads strings, numbers their classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from h5video_data.errors import ArgumentError, FileFormatError, MissingFilterError
from h5video_data.planning.access import Access, decide_access
from h5video_data.sampling.clips import Clip
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.hdf5_names import find_again
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.picture_rows import (
    Decoding,
    StoredPictures,
    holds_padded_pictures,
    is_one_picture,
)
from h5video_data.storage.strings import StoredStrings, read_strings
from h5video_data.storage.values import Values
from h5video_data.video_set import Component

from .fitting import Stored, check_alike
from .items import class_numbers

_log = logging.getLogger(__name__)


def strings_component(
    name: str,
    parts: Sequence[Stored],
    counts: Sequence[int],
    index: SampleIndex,
    name_in_file: str | None = None,
) -> Component:
    """Reads the strings of a component.

    Args:
        name: Name of the dataset.
        parts: How it is stored in each file.
        counts: Rows in use of each.
        index: Where its samples are.
        name_in_file: Its name without the path, if it is one of another file.
    """
    check_alike(name, parts)
    read = [
        read_strings(part, num_rows)
        for part, num_rows in zip(parts, counts, strict=True)
        if isinstance(part, StoredStrings)
    ]
    return Component(
        name,
        (),
        index,
        values=np.concatenate([strings for strings, _ in read]),
        name_in_file=name_in_file,
        files_read=tuple(file for _, files in read for file in files),
    )


def numbered_component(
    item: Component, class_names: tuple[str, ...] | None, *, is_strict: bool
) -> Component:
    """Returns a component with class numbers in place of strings."""
    if item.values is None or item.values.dtype != object:
        return item
    values, names = class_numbers(item.values, class_names, item.name, is_strict=is_strict)
    return replace(item, values=values, class_names=names)


def stored_component(
    name: str,
    stored: Sequence[Stored],
    index: SampleIndex,
    clip: Clip | None = None,
    *,
    budget_nbytes: int,
    name_in_file: str | None = None,
) -> Component:
    """Decides how a component is read, and makes sure that HDF5 can read what it has to.

    Args:
        name: Name of the dataset.
        stored: How it is stored in each part.
        index: Where its samples are.
        clip: Which frames of each row are read.
        budget_nbytes: Memory for its values, if it has many small samples.
        name_in_file: Its name without the path, if it is one of another file.
    """
    check_alike(name, stored)
    parts = [part for part in stored if isinstance(part, StoredArray)]
    shape = parts[0].shape[1:] if clip is None else clip.shape_of(parts[0].shape[1:])
    accesses = decide_access(
        parts, int(index.num_rows.sum()), shape, is_whole=clip is None, budget_nbytes=budget_nbytes
    )
    try:
        _check_readable(accesses, index)
    except MissingFilterError:
        if accesses[0].without_memory is None:
            raise
        # Decoded here, it is still readable.
        accesses = tuple(access.without_memory or access for access in accesses)
        _check_readable(accesses, index)
    return Component(name, accesses, index, clip, name_in_file=name_in_file)


def check_decoding(components: Sequence[Component], decoding: Decoding) -> None:
    """Checks that pictures are decoded where they can be, unless they are not to be.

    Warns of padded ones that are passed on as bytes.

    Raises:
        ArgumentError: There are arguments of pictures, and a set has none.
        FileFormatError: A dataset is one picture.
    """
    accesses = [item.accesses[0] for item in components if item.accesses]
    kinds = {access.kind for item in components for access in item.accesses}
    if decoding.needs_pictures and "pictures" not in kinds:
        parts = [access.stored for access in accesses]
        raise ArgumentError(
            "`decode`, `image_size` and `color_mode` are for rows that are encoded pictures, JPEG "
            f"or PNG. Received: {decoding!r}, and "
            + ", ".join(f"{p.name!r} of {p.path}, {p.shape}, {p.dtype}" for p in parts)
            + ". Frames of numbers are resized by a map function, such as transforms.resize; rows "
            'of bytes that are padded to the longest are decoded with decode="image".'
        )
    if decoding.decode is None:
        return
    for stored in (access.stored for access in accesses):
        if isinstance(stored, StoredPictures) or stored.dtype.name not in ("uint8", "int8"):
            continue
        if len(stored.shape) > 2:
            continue
        with open_file(stored.path, stored.identity) as file:
            dataset = find_again(file, stored.name)
            is_one, is_padded = is_one_picture(dataset), holds_padded_pictures(dataset)
        if is_one:
            raise FileFormatError(
                f"{stored.path}: {stored.name!r} is one encoded picture, and its rows are the "
                "bytes of that. Rows must be samples or frames: write the bytes of all pictures "
                f"into one dataset, a row each. Received: shape {stored.shape}"
            )
        if is_padded and decoding.decode == "auto":
            _log.warning(
                "%s: the rows of %r are pictures, which are passed on as bytes: "
                'decode="image" decodes them. decode=None leaves this message out.',
                stored.path,
                stored.name,
            )


def _check_readable(accesses: Sequence[Access], index: SampleIndex) -> None:
    """Raises an error if HDF5 lacks a filter, or rows in use, of what it has to read."""
    checked = set()  # of a hundred thousand recordings, all have the same filters
    for access, num_rows in zip(accesses, index.num_rows.tolist(), strict=True):
        stored = access.stored
        is_read_by_hdf5 = access.kind in ("memory", "h5py") or (
            access.kind == "pictures" and not access.has_positioned_reads
        )
        is_external = stored.storage == "external"
        filters = (stored.filters_in_use, len(stored.offsets) > 0)
        if is_read_by_hdf5 and (is_external or (stored.filters and filters not in checked)):
            checked.add(filters)
            with open_file(stored.path, stored.identity) as file:
                Values(find_again(file, stored.name), num_rows, stored)
