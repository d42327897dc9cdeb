"""What `repack` does for a file of samples that are not encoded: copies, reads, writes, checks."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError, RepackingError
from h5video_data.reading.one_pass import read_once
from h5video_data.reading.threads import Task, Threads
from h5video_data.storage.codecs import COMPRESSIONS
from h5video_data.storage.filters import encode_chunk, sample_chunks
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.system import num_processors
from h5video_data.tools.atomic_file import file_when_complete, not_written, with_progress
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.video_set import VideoSet

from .copy_rest import Copier
from .estimates import changed
from .sample_forms import SampleForm
from .stored_samples import check_samples, lengths_of_pictures, signature_of
from .transfer import CACHE_BYTES, SkippedItem

# Samples are read and written in batches of about this many bytes; of more, up to the second
# number, if a chunk of the source is larger.
BATCH_BYTES = 16 << 20
MAX_BATCH_BYTES = 128 << 20


def repack_samples(
    video_set: VideoSet,
    out: Path,
    form: SampleForm,
    samples: NDArray[np.int64],
    *,
    compression: str | None,
    level: int | None,
    has_chunks: bool,
    read_ahead_bytes: int | None,
    progress: bool,
    overwrite: bool,
) -> tuple[SkippedItem, ...]:
    """Writes a file with the samples of these numbers; returns what was not copied.

    After a kill, one dataset that is stored contiguously is gone on with where it was.
    """
    if len(video_set.components) == 1 and not has_chunks:
        return _repack_in_place(
            video_set,
            out,
            form,
            samples,
            read_ahead_bytes=read_ahead_bytes,
            progress=progress,
            overwrite=overwrite,
        )
    layouts = {}
    for item in video_set.components:
        shape, dtype = form.shape_of(item), form.dtype_of(item)
        layouts[item.name] = {"shape": shape, "dtype": dtype}
        options = sample_chunks(shape, dtype.itemsize, compression, level)
        if has_chunks:
            layouts[item.name] |= {**options, "maxshape": (None, *shape)}

    def check(partial: Path) -> None:
        copier.check(partial)
        check_samples(video_set, partial, form, samples)

    num_threads, batch_size = num_processors(), batch_size_of(video_set)
    batches = read_once(
        video_set,
        samples,
        batch_size=batch_size,
        read_ahead_bytes=read_ahead_bytes,
        num_threads=num_threads,
    )
    try:
        with (
            contextlib.closing(batches),
            open_file(video_set.paths[0], rdcc_nbytes=CACHE_BYTES) as source,
            file_when_complete(out, RepackingError, check) as (target, output),
        ):
            left_out = lengths_of_pictures(video_set)
            copier = Copier(video_set, source, target, layouts, left_out, samples)
            copier.copy()
            datasets = [copier.new_datasets[item.name] for item in video_set.components]
            shown = with_progress(
                (changed(video_set, form, batch) for batch in batches),
                "repacking",
                unit="batch",
                total=-(-len(samples) // batch_size),
                progress=progress,
            )
            _write_samples(output.watched(shown), datasets, compression, level, num_threads)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise RepackingError(not_written(out, error)) from error
    return tuple(copier.skipped)


def _repack_in_place(
    video_set: VideoSet,
    out: Path,
    form: SampleForm,
    samples: NDArray[np.int64],
    *,
    read_ahead_bytes: int | None,
    progress: bool,
    overwrite: bool,
) -> tuple[SkippedItem, ...]:
    (item,), batch_size = video_set.components, batch_size_of(video_set)
    file = RowFile(
        out,
        form.shape_of(item),
        form.dtype_of(item),
        signature=signature_of(video_set, form, samples),
        overwrite=overwrite,
        error_type=RepackingError,
    )
    copiers: list[Copier] = []
    try:
        with file.opened(), open_file(video_set.paths[0], rdcc_nbytes=CACHE_BYTES) as source:
            rest = samples[file.num_rows :]
            batches = (
                read_once(video_set, rest, batch_size=batch_size, read_ahead_bytes=read_ahead_bytes)
                if len(rest)
                else _no_batches()
            )
            with contextlib.closing(batches):
                for (values,) in with_progress(
                    (changed(video_set, form, batch) for batch in batches),
                    "repacking",
                    unit="batch",
                    total=-(-len(samples) // batch_size),
                    initial=file.num_rows // batch_size,
                    progress=progress,
                ):
                    _write_plain(file, file.num_rows, values)
                    file.commit({})

            def write(target: h5py.File, dataset: h5py.Dataset) -> None:
                left_out = lengths_of_pictures(video_set)
                layouts = {item.name: {"made": dataset}}
                copiers.append(Copier(video_set, source, target, layouts, left_out, samples))
                copiers[0].copy()

            def check(partial: Path) -> None:
                copiers[0].check(partial)
                check_samples(video_set, partial, form, samples)

            file.finish_in_place(write, check)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise RepackingError(not_written(out, error)) from error
    return tuple(copiers[0].skipped)


def _no_batches() -> Generator[Any, None, None]:
    yield from ()


def batch_size_of(video_set: VideoSet) -> int:
    """Returns how many samples to read at once: unless that is too much, those of whole chunks."""
    nbytes = sum(component.row_nbytes for component in video_set.components)
    accesses = [access for component in video_set.components for access in component.accesses]
    in_chunk = max((a.chunk_rows.num_rows for a in accesses if a.chunk_rows), default=1)
    size = max(1, BATCH_BYTES // nbytes)
    in_chunks = -(-size // in_chunk) * in_chunk
    return in_chunks if in_chunks * nbytes <= MAX_BATCH_BYTES else size


def _write_samples(
    batches: Iterable[Sequence[NDArray[Any]]],
    datasets: Sequence[h5py.Dataset],
    compression: str | None,
    level: int | None,
    num_threads: int,
) -> None:
    """Writes batches, each an array of samples for each dataset."""
    encodes = compression is not None and COMPRESSIONS[compression].encode is not None
    begin = 0
    with contextlib.closing(Threads(num_threads, "h5video_data_encode")) as threads:
        for batch in batches:
            for dataset, values in zip(datasets, batch, strict=True):
                if encodes:
                    tasks = [
                        threads.submit(encode_chunk, compression, value, level) for value in values
                    ]
                    _write_encoded(dataset, begin, tasks)
                else:
                    _write_plain(dataset, begin, values)
            begin += len(values)


def _write_plain(dataset: h5py.Dataset | RowFile, begin: int, values: NDArray[Any]) -> None:
    if isinstance(dataset, RowFile):
        dataset.append(values)
        return
    dataset.write_direct(values, dest_sel=np.s_[begin : begin + len(values)])


def _write_encoded(
    dataset: h5py.Dataset, begin: int, tasks: Iterable[Task[tuple[Any, int]]]
) -> None:
    zeros = (0,) * (dataset.ndim - 1)
    for row, task in enumerate(tasks, begin):
        data, mask = task.result()
        # h5py (3.14) does not take its own lock for this call, and the loader's threads may call
        # h5py at the same time.
        with phil:
            dataset.id.write_direct_chunk((row, *zeros), data, mask)
