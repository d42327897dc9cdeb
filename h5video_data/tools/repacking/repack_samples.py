"""What `repack` does for a file of samples: reads them, writes them, copies all else, checks."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import H5VideoError, RepackingError
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.tools.atomic_file import not_written
from h5video_data.tools.packing.encoded_rows import Saved
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.video_set import VideoSet

from .copy_rest import Copier
from .sample_batches import Reading, sample_batches
from .sample_forms import SampleForm
from .sample_layout import SampleLayout
from .sample_writers import SampleWriter, writer_of
from .stored_samples import check_samples, lengths_of_pictures, signature_of
from .transfer import CACHE_BYTES, SkippedItem


def repack_samples(
    video_set: VideoSet,
    out: Path,
    form: SampleForm,
    samples: NDArray[np.int64],
    layout: SampleLayout,
    reading: Reading,
    *,
    overwrite: bool,
    keeps_journal: bool,
) -> tuple[tuple[SkippedItem, ...], Saved | None, PartialFile]:
    """Writes a file with the samples of these numbers.

    After a kill, the same call goes on where it was.

    Returns:
        What was not copied, what encoding has saved, and the file.
    """
    with ExitStack() as stack:
        writer = writer_of(
            video_set.components,
            out,
            form,
            len(samples),
            layout,
            stack,
            signature=signature_of(video_set, form, samples, layout),
            overwrite=overwrite,
            error_type=RepackingError,
            keeps_journal=keeps_journal,
        )
        if not writer.file.is_complete:
            try:
                stack.enter_context(writer.file.opened())
                _write(writer, video_set, form, samples, layout, reading)
            except H5VideoError:
                raise
            except HDF5_ERRORS as error:
                raise RepackingError(not_written(out, error)) from error
    found = writer.file.result
    skipped = tuple(SkippedItem(*item) for item in found["skipped"])
    saved = None
    if layout.encoding is not None:
        raw_nbytes = len(samples) * sample_nbytes(video_set, form)
        saved = layout.encoding.saved(raw_nbytes, found["nbytes"])
    return skipped, saved, writer.file


def _write(
    writer: SampleWriter,
    video_set: VideoSet,
    form: SampleForm,
    samples: NDArray[np.int64],
    layout: SampleLayout,
    reading: Reading,
) -> None:
    """Writes what the file does not hold yet."""
    copiers: list[Copier] = []
    with open_file(video_set.paths[0], rdcc_nbytes=CACHE_BYTES) as source:
        with sample_batches(video_set, form, samples, writer.num_done, reading) as batches:
            for batch in batches:
                writer.append(batch)

        def copy(target: h5py.File, layouts: dict[str, Any]) -> dict[str, h5py.Dataset]:
            left_out = lengths_of_pictures(video_set)
            copiers.append(Copier(video_set, source, target, layouts, left_out, samples))
            copiers[0].copy()
            return copiers[0].new_datasets

        def check(partial: Path) -> None:
            copiers[0].check(partial)
            check_samples(video_set, partial, form, samples, layout.encoding)
            skipped = [(item.name, item.reason) for item in copiers[0].skipped]
            writer.file.result = {"skipped": skipped, "nbytes": writer.nbytes}

        writer.finish(copy, check)


def sample_nbytes(video_set: VideoSet, form: SampleForm) -> int:
    """Returns the bytes of a sample in the new file, before it is compressed or encoded."""
    return sum(
        math.prod(form.shape_of(item)) * form.dtype_of(item).itemsize
        for item in video_set.components
    )
