"""`repack(x="data/*/obs/x")`: recordings that are datasets of their own, under the same names.

each recording -> threads: encode -> RowFile: append, journal -> all else, and the rows -> out
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, DatasetNotFoundError, H5VideoError, RepackingError
from h5video_data.reading.threads import Threads
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.name_patterns import is_pattern, matching_names
from h5video_data.storage.paths import Paths, expand_paths
from h5video_data.storage.picture_rows import Decode
from h5video_data.storage.system import num_processors
from h5video_data.summary import counted
from h5video_data.tools.atomic_file import Output, check_not_read, not_written
from h5video_data.tools.packing.encoded_rows import LENGTHS, EncodedChunks, Saved
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.video_set import VideoSet

from .copy_rest import Copier
from .links import linked_files
from .repack_samples import sample_nbytes
from .sample_batches import Reading, sample_batches
from .sample_forms import SampleForm
from .sample_layout import SampleLayout
from .sample_writers import add_lengths
from .stored_samples import check_samples, lengths_of_pictures, open_frames, signature_of
from .transfer import CACHE_BYTES, SkippedItem

# Recordings of which some frames are compared, at most: the first, the last, and some between.
_CHECKED_RECORDINGS = 16


def have_patterns(path: Paths, names: Sequence[str]) -> bool:
    """Tells if names stand for several datasets each: a `*` may also be a part of a name."""
    if not any("*" in name for name in names):
        return False
    with open_file(expand_paths(path)[0]) as file:
        return any(is_pattern(file, name) for name in names)


def repack_recordings(
    path: Paths,
    out: Path,
    names: Sequence[str],
    decode: Decode,
    form: SampleForm,
    layout: SampleLayout,
    reading: Reading,
    *,
    overwrite: bool,
) -> tuple[int, Saved | None, tuple[SkippedItem, ...]]:
    """Writes a file whose datasets of these names (`data/*/obs/x`) have another layout.

    The first axis of each is frames. All else keeps its name and place. After a kill, the same call
    goes on where it was.

    Returns:
        The number of recordings, what encoding their frames has saved, and what was not copied.
    """
    sets = [item for found in open_recordings(path, names, decode, form, layout) for item in found]
    if out.exists():
        check_not_read(out, sorted(linked_files(sets[0].paths[0])))
    file = RowFile(
        out,
        encoding=layout.encoding,
        are_chunks=True,
        signature=[signature_of(item, form, np.arange(item.num_samples), layout) for item in sets],
        overwrite=overwrite,
        error_type=RepackingError,
    )
    stops = np.cumsum([item.num_samples for item in sets]).tolist()
    parts = [
        (item, slice(stop - item.num_samples, stop)) for item, stop in zip(sets, stops, strict=True)
    ]
    skipped: list[SkippedItem] = []
    try:
        with file.opened():
            with closing(Threads(num_processors(), "h5video_data_encode")) as threads:
                for item, rows in parts:
                    samples = np.arange(item.num_samples)
                    done = min(max(0, file.num_rows - rows.start), item.num_samples)
                    append_rows(file, item, samples, done, form, layout, reading, threads)
            _finish(file, parts, form, layout, skipped)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise RepackingError(not_written(out, error)) from error
    saved = None
    if layout.encoding is not None:
        raw_nbytes = sum(item.num_samples * sample_nbytes(item, form) for item in sets)
        saved = layout.encoding.saved(raw_nbytes, file.encoded_nbytes())
    return len(sets), saved, tuple(skipped)


def open_recordings(
    path: Paths, names: Sequence[str], decode: Decode, form: SampleForm, layout: SampleLayout
) -> list[list[VideoSet]]:
    """Opens each dataset by itself: they are of different lengths.

    Returns:
        For each name, the recordings that have frames, each once.
    """
    paths = expand_paths(path)
    if len(paths) != 1 or not all("*" in name for name in names):
        raise ArgumentError(
            "Recordings that are datasets of their own are repacked file by file, and all names "
            f"have a *. Received: {counted(len(paths), 'file')}, x={list(names)!r}"
        )
    found: dict[str, list[str]] = {}
    with open_file(paths[0]) as file:
        for name in names:
            matches = list(matching_names(file, name).values())
            if not matches:
                raise DatasetNotFoundError(f"{paths[0]} has no dataset {name!r}.")
            known = set(itertools.chain.from_iterable(found.values()))
            found[name] = [
                match
                for match in matches
                if match not in known and (find_dataset(file, match).shape or ())[:1] != (0,)
            ]
    sets = [
        [open_frames(paths[0], [match], decode, form) for match in matches]
        for matches in found.values()
    ]
    for item in itertools.chain.from_iterable(sets):
        (component,) = item.components
        layout.check(item, form)
        if item.num_samples < component.parts[0].shape[0]:
            raise ArgumentError(
                f"{paths[0]}: `sample_count` leaves out frames of {component.name!r}; repack it by "
                f"itself. Received: x={list(names)!r}"
            )
    if not any(sets):
        raise ArgumentError(f"{paths[0]}: there are no frames. Received: x={list(names)!r}")
    return sets


def append_rows(
    file: RowFile,
    video_set: VideoSet,
    samples: NDArray[np.int64],
    done: int,
    form: SampleForm,
    layout: SampleLayout,
    reading: Reading,
    threads: Threads,
) -> None:
    """Appends frames of a recording, without the first `done`."""
    (component,) = video_set.components
    chunk_of = layout.encoder(form.shape_of(component), form.dtype_of(component))
    encoding = layout.encoding

    def encode(values: Any) -> tuple[Any, int]:
        return chunk_of(values) if encoding is None else (encoding.encode(values[0]), 0)

    with sample_batches(video_set, form, samples, done, reading) as batches:
        for (frames,) in batches:
            each = [frames[row : row + 1] for row in range(len(frames))]
            if layout.is_encoded_by_hdf5:
                file.append(EncodedChunks(map(encode, each)))
            else:
                tasks = [threads.submit(encode, frame) for frame in each]
                file.append(EncodedChunks(task.result() for task in tasks))
            file.commit({})


def _finish(
    file: RowFile,
    parts: Sequence[tuple[VideoSet, slice]],
    form: SampleForm,
    layout: SampleLayout,
    skipped: list[SkippedItem],
) -> None:
    """Copies all else, and the rows to their datasets."""
    copiers: list[Copier] = []
    first = parts[0][0]
    components = tuple(component for item, _ in parts for component in item.components)
    whole = replace(first, components=components)
    samples = np.arange(first.num_samples)
    with open_file(first.paths[0], rdcc_nbytes=CACHE_BYTES) as source:

        def write(target: h5py.File, output: Output) -> None:
            layouts = {
                item.components[0].name: {
                    "made": make_dataset(file, target, item, rows, form, layout)
                }
                for item, rows in parts
            }
            left_out = lengths_of_pictures(whole)
            copiers.append(Copier(whole, source, target, layouts, left_out, samples))
            copiers[0].copy()
            skipped.extend(copiers[0].skipped)
            for item, rows in parts:
                name = item.components[0].name
                write_rows(file, target, copiers[0].new_datasets[name], name, output, rows, layout)

        def check(complete: Path) -> None:
            copiers[0].check(complete)
            step = math.ceil(len(parts) / _CHECKED_RECORDINGS)
            for item, _ in (*parts[::step], parts[-1]):
                numbers = np.arange(item.num_samples)
                check_samples(item, complete, form, numbers, layout.encoding)

        file.finish_by(write, check)


def make_dataset(
    file: RowFile,
    target: h5py.File,
    video_set: VideoSet,
    rows: slice,
    form: SampleForm,
    layout: SampleLayout,
) -> h5py.Dataset:
    """Makes the dataset, without a name, that takes rows of a file."""
    (component,) = video_set.components
    shape, dtype = form.shape_of(component), form.dtype_of(component)
    options = layout.options(shape, dtype)
    if options:
        options["maxshape"] = (None, *shape)
    if layout.encoding is not None:  # one length for all, as those of one dataset
        shape, dtype = (), file.encoded_dtype()
    return target.create_dataset(None, (rows.stop - rows.start, *shape), dtype, **options)


def write_rows(
    file: RowFile,
    target: h5py.File,
    dataset: h5py.Dataset,
    name: str,
    output: Output,
    rows: slice,
    layout: SampleLayout,
) -> None:
    """Writes rows of a file to the dataset that was made for them."""
    if layout.encoding is not None:
        file.write_encoded(dataset, output, rows)
        if layout.encoding.rows == "fixed":
            add_lengths(target, f"{name}{LENGTHS}", file.lengths(rows))
    elif layout.has_chunks:
        file.write_chunks(dataset, output, rows)
    else:
        file.write_plain(dataset, output, rows)
