"""`repack(codec="jpeg")`: frames, encoded as rows of bytes.

    read_once -> threads: encode -> RowFile: append, journal -> Copier: everything else -> out

How long the longest row is, and so what the dataset is, is known when all are encoded.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, RepackingError
from h5video_data.reading.one_pass import read_once
from h5video_data.reading.threads import Threads
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.picture_rows import StoredPictures
from h5video_data.storage.system import num_processors
from h5video_data.tools.atomic_file import Output, with_progress
from h5video_data.tools.packing.encoded_rows import LENGTHS, EncodedFrames, Encoding, Saved
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.video_set import VideoSet

from .copy_rest import Copier
from .estimates import changed
from .sample_forms import SampleForm
from .stored_samples import check_samples, lengths_of_pictures, signature_of
from .transfer import CACHE_BYTES, SkippedItem


def check_encodable(video_set: VideoSet, form: SampleForm, encoding: Encoding) -> None:
    """Raises an ArgumentError if the datasets are not of frames that can be encoded."""
    for item in video_set.components:
        part = item.parts[0]
        encoding.check(item.name, form.shape_of(item), form.dtype_of(item))
        if isinstance(part, StoredPictures) and part.codec == encoding.codec and not form.changes:
            raise ArgumentError(
                f"{part.path}: {item.name!r} holds frames that are {part.codec.upper()} already. "
                f"Received: codec={encoding.codec!r}"
            )


def repack_encoded(
    video_set: VideoSet,
    out: Path,
    form: SampleForm,
    encoding: Encoding,
    samples: NDArray[np.int64],
    *,
    batch_size: int,
    read_ahead_bytes: int | None,
    progress: bool,
    overwrite: bool,
) -> tuple[tuple[SkippedItem, ...], Saved]:
    """Writes the frames of a set as rows of encoded bytes.

    After a kill, the same call goes on where it was.

    Returns:
        What was not copied, and what encoding has saved.
    """
    components, num_samples = video_set.components, len(samples)
    count = len(components)
    file = RowFile(
        out,
        (),
        np.uint8,
        encoding=encoding,
        signature=signature_of(video_set, form, samples, encoding),
        overwrite=overwrite,
        error_type=RepackingError,
    )
    copiers: list[Copier] = []
    with file.opened(), open_file(video_set.paths[0], rdcc_nbytes=CACHE_BYTES) as source:
        _append(file, video_set, form, encoding, samples, batch_size, read_ahead_bytes, progress)

        def write(target: h5py.File, output: Output) -> None:
            layouts: dict[str, Any] = {
                item.name: {"shape": (), "dtype": file.encoded_dtype(number, count)}
                for number, item in enumerate(components)
            }
            left_out = lengths_of_pictures(video_set)
            copier = Copier(video_set, source, target, layouts, left_out, samples)
            copiers.append(copier)
            copier.copy()
            for number, item in enumerate(components):
                file.write_encoded(copier.new_datasets[item.name], output, number, count)
                if encoding.rows == "fixed":
                    _add_lengths(target, f"{item.name}{LENGTHS}", file.lengths(number, count))

        def check(path: Path) -> None:
            copiers[0].check(path)
            check_samples(video_set, path, form, samples, encoding)

        file.finish_by(write, check)
    row_nbytes = sum(
        math.prod(form.shape_of(item)) * form.dtype_of(item).itemsize for item in components
    )
    nbytes = sum(file.encoded_nbytes(number, count) for number in range(count))
    return tuple(copiers[0].skipped), encoding.saved(num_samples * row_nbytes, nbytes)


def _add_lengths(target: h5py.File, name: str, lengths: Any) -> None:
    if name in target:
        raise ArgumentError(
            f"{name!r} is to hold the lengths of the rows, and is a dataset of something else. Use "
            "rows=\"variable\". Received: rows='fixed'"
        )
    target[name] = lengths


def _append(
    file: RowFile,
    video_set: VideoSet,
    form: SampleForm,
    encoding: Encoding,
    samples: NDArray[np.int64],
    batch_size: int,
    read_ahead_bytes: int | None,
    progress: bool,
) -> None:
    """Appends the rows of the samples that the file does not hold yet, those of each together."""
    done = file.num_rows // len(video_set.components)
    samples = samples[done:]
    if not len(samples):
        return
    num_threads = num_processors()
    batches = read_once(
        video_set,
        samples,
        batch_size=batch_size,
        read_ahead_bytes=read_ahead_bytes,
        num_threads=num_threads,
    )
    with (
        contextlib.closing(batches),
        contextlib.closing(Threads(num_threads, "h5video_data_encode")) as threads,
    ):
        for batch in with_progress(
            (changed(video_set, form, batch) for batch in batches),
            "repacking",
            unit="batch",
            total=-(-len(samples) // batch_size),
            progress=progress,
        ):
            frames = [frame for of_sample in zip(*batch, strict=True) for frame in of_sample]
            tasks = [threads.submit(encoding.encode, frame) for frame in frames]
            file.append(EncodedFrames(task.result() for task in tasks))
            file.commit({})
