"""The samples that `repack` reads: opened, and compared with those of the new file."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data import __version__
from h5video_data.errors import RepackingError
from h5video_data.opening import Paths, open_video_set
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.hdf5_names import find_again
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.picture_rows import Decode, Decoding, StoredPictures, read_row, row_bytes
from h5video_data.storage.values import Values
from h5video_data.tools.packing.encoded_rows import LENGTHS, Encoding
from h5video_data.video_set import VideoSet

from .sample_forms import SampleForm
from .sample_layout import SampleLayout

# The number of samples that are compared with the source; fewer, but at least two, if HDF5 would
# have to decode more bytes than this for them.
CHECKED_SAMPLES = 16
CHECKED_BYTES = 64 << 20


def open_frames(path: Paths, names: Sequence[str], decode: Decode, form: SampleForm) -> VideoSet:
    """Opens the datasets of samples; pictures of other sizes are resized if that is asked for."""
    datasets, decoding = {name: name for name in names}, Decoding(decode)
    video_set = open_video_set(path, datasets, None, decoding=decoding)
    are_pictures = [isinstance(item.parts[0], StoredPictures) for item in video_set.components]
    if form.image_size is None or not all(are_pictures):
        return video_set
    rows, columns = map(int, form.image_size)
    decoding = replace(decoding, image_size=(rows, columns), interpolation="area")
    return open_video_set(path, datasets, None, decoding=decoding)


def lengths_of_pictures(video_set: VideoSet) -> dict[str, str]:
    """Returns the datasets that say how long encoded rows were, and why they are not copied."""
    return {
        f"{item.name}{LENGTHS}": "says how long the rows were before they were decoded"
        for item in video_set.components
        if isinstance(item.parts[0], StoredPictures)
    }


def signature_of(
    video_set: VideoSet, form: SampleForm, samples: NDArray[np.int64], layout: SampleLayout
) -> list[Any]:
    """Returns what the samples of a new file depend on, for a `PartialFile`."""
    components = video_set.components
    files = sorted({(path, str(identity)) for item in components for path, identity in item.files})
    settings = [str(item) for item in (__version__, form, video_set.counts.tolist())]
    names = [item.name for item in components]
    return [settings, layout.signature, names, zlib.crc32(samples.tobytes()), files]


def rows_of_files(
    video_set: VideoSet, samples: NDArray[np.int64]
) -> tuple[list[int], list[list[range]]]:
    """Divides ascending numbers of samples among the files.

    Returns:
        For each file, how many are in the files before it, and its rows, as ranges.
    """
    starts = np.cumsum([0, *video_set.counts])
    edges = np.searchsorted(samples, starts).tolist()
    found = []
    for start, begin, stop in zip(starts.tolist(), edges, edges[1:], strict=False):
        rows = samples[begin:stop] - start
        cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        pairs = itertools.pairwise(cuts) if len(rows) else ()
        found.append([range(int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairs])
    return edges[:-1], found


def check_samples(
    video_set: VideoSet,
    path: Path,
    form: SampleForm,
    samples: NDArray[np.int64],
    encoding: Encoding | None = None,
) -> None:
    """Compares some samples of the new file with those of the old files, both read by h5py.

    `samples` are the numbers that they have in the old files.

    Raises:
        RepackingError: They differ.
    """
    with h5py.File(path) as new:
        for component in video_set.components:
            decoded_nbytes = max(part.row_decoded_nbytes for part in component.parts)
            count = max(2, min(CHECKED_SAMPLES, CHECKED_BYTES // decoded_nbytes))
            looked_at = np.linspace(0, len(samples) - 1, count).astype(np.int64)
            for sample in np.unique(looked_at).tolist():
                (number,), (row,) = map(list, component.index.rows(samples[sample : sample + 1]))
                part = component.parts[number]
                read = _read(part, row).astype(component.dtype)
                expected = form.apply(read, component, int(samples[sample]))
                found = new[component.name][sample : sample + 1]
                if encoding is None:
                    is_same = expected.tobytes() == found.tobytes()
                else:
                    is_same = encoding.encode(expected[0]) == row_bytes(found).tobytes().rstrip(
                        b"\0"
                    )
                if not is_same:
                    raise RepackingError(
                        f"{part.path}: dataset {part.name!r}, sample {row}: h5py reads other "
                        f"values there than in sample {sample} of the new file, which was removed."
                    )


def _read(part: StoredArray, row: int) -> NDArray[Any]:
    """Reads a row by h5py, (1, ...)."""
    with open_file(part.path) as file:
        dataset = find_again(file, part.name)
        if not isinstance(part, StoredPictures):
            return Values(dataset, row + 1, part).read(slice(row, row + 1))
        picture = np.empty((1, *part.shape[1:]), part.dtype)
        part.form.decode_into(read_row(dataset, row), picture[0])
        return picture
