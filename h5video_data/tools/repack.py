"""`repack`: rewrites files in a layout that trains fast.

    files -> Copier: everything but the samples -> read_once: the samples -> checks -> out

The samples are read as for training, so that each chunk is decoded once, by all threads, and in
bounded memory; they are written in large batches.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError, H5VideoError, RepackingError
from h5video_data.opening import Paths
from h5video_data.reading.one_pass import read_once
from h5video_data.reading.threads import Task, Threads
from h5video_data.storage.codecs import BUILT_IN_COMPRESSIONS, COMPRESSIONS
from h5video_data.storage.filters import encode_chunk, sample_chunks
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.picture_rows import Decode
from h5video_data.storage.system import num_processors
from h5video_data.video_set import VideoSet

from .atomic_file import check_not_read, check_out, file_when_complete, not_written, with_progress
from .copy_rest import Copier, SkippedItem
from .estimates import Estimate, changed, estimated
from .inspection import size_text
from .links import linked_files
from .packing.encoded_rows import Encoding, Saved, checked_encoding
from .repack_encoded import check_encodable, repack_encoded
from .repack_frames import repack_frames
from .sample_forms import SampleForm
from .stored_samples import check_samples, lengths_of_pictures, open_frames
from .transfer import CACHE_BYTES

__all__ = ["COMPRESSIONS", "Estimate", "RepackReport", "SkippedItem", "repack"]

# Samples are read and written in batches of about this many bytes; of more, up to the second
# number, if a chunk of the source is larger.
BATCH_BYTES = 16 << 20
MAX_BATCH_BYTES = 128 << 20


@dataclass(frozen=True)
class RepackReport:
    """The result of `repack`.

    Attributes:
        path: The new file.
        num_samples: The number of samples in it.
        names: The datasets with a new layout.
        skipped: What was not copied.
        estimate: What it would be, if nothing was written.
        saved: What encoding the frames has saved; None: they are not encoded.
    """

    path: Path
    num_samples: int
    names: tuple[str, ...]
    skipped: tuple[SkippedItem, ...]
    estimate: Estimate | None = None
    saved: Saved | None = None


def repack(
    path: Paths,
    out: str | os.PathLike[str],
    *,
    x: str | Sequence[str] = "X",
    compression: str | None = None,
    level: int | None = None,
    codec: str | None = None,
    quality: int | None = None,
    rows: str | None = None,
    decode: Decode = "auto",
    chunks: str | None = None,
    layout: str | None = None,
    image_size: Sequence[int] | None = None,
    dtype: str | None = None,
    scale: float | None = None,
    channels_last: bool = False,
    dry_run: bool = False,
    read_ahead_bytes: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> RepackReport:
    """Rewrites an HDF5 file, or several that form one set, in a layout that trains fast.

        h5v.repack("slow.h5", "fast.h5")
        h5v.repack("part_*.h5", "whole.h5", x=["rgb", "flow"], compression="lzf")

    The datasets `x` are stored contiguously, which is fastest to read, or with one sample per
    chunk. Their values are the same, bit by bit, in this machine's byte order. Everything else is
    copied unchanged: groups, attributes, other datasets with their chunks and filters. Exceptions:

    - Only samples in use are copied: the first `sample_count` of each file. A dataset with as many
      rows as `x` is taken to hold a value for each sample, and loses the same rows; but not in
      another group, if the attribute is that of the group of `x`. The new file has the
      attribute in the same place; or none, as without it, `x` holds all samples in use.
    - Samples of several files are concatenated in the order given, and with them the rows of every
      dataset that holds a value for each sample. Everything else is taken from the first file; the
      report lists what else other files hold.
    - Virtual datasets, and those in external files, become ordinary ones with their values; but not
      if these take more bytes than the samples do, and more than 1 GiB. The report lists those.
    - Soft links are kept, and so are links to other files, with their path relative to `out`. If
      such a link leads to `x`, or to a dataset whose rows are left out or joined, its values
      replace the link.
    - Values keep the type that they are stored with, byte by byte. A dataset of which all rows are
      copied keeps damaged chunks, too, and those whose filter is not installed.
    - Object and region references (including dimension scales) cannot be copied, nor the userblock
      before an HDF5 file, the order in which the root group was filled, and what is damaged beside
      the samples. The report lists them. A committed type of a dataset becomes the dataset's own
      where rows are left out or joined, and that of an attribute always.

    With `codec="jpeg"`, rows that are frames, (rows, columns) or with 1 or 3 channels, first or
    last, are encoded as JPEGs, which loses some detail; `video_dataset_from_hdf5` delivers them
    with channels last. After a kill, the same call goes on where it was. Rows that are JPEG or PNG
    pictures are decoded, once: without `codec`, the new file holds raw frames, which take ten times
    the space and more.

    The file appears under its name only when it is complete. Until then it is written next to it,
    as `<out>.<random>.partial`, which is removed on an error; a process that is killed leaves it
    behind. Before the file is renamed, h5py reads up to 16 samples, from the first to the last, and
    everything that was copied beside them, from the old file and the new one, and compares them.
    The source is only read.

    Args:
        path: A path, a list of paths, or a glob.
        out: The HDF5 file to write. Its folder must exist.
        x: Name of the dataset of samples, or a list of names; they have the same length.
        compression: `None`, "gzip", "lzf", or, where hdf5plugin is installed, "zstd", "lz4",
            "blosc" or "bitshuffle". Each sample is then in a compressed chunk of its own.
        level: The codec's level of compression. None: its default.
        codec: "jpeg" or "png" (without loss): frames are encoded so.
        quality: Of a JPEG, from 1 to 100. None: 95.
        rows: Encoded frames are rows of "fixed" length, that of the longest, with a dataset
            `X_num_bytes` of their lengths; or "variable", which take less space where lengths
            differ. None: fixed, which are read fastest.
        decode: Which rows are decoded as pictures, see `video_dataset_from_hdf5`; "image": those of
            numbers, padded, too; None: none, and only padded ones can be repacked.
        chunks: `None` stores samples contiguously unless they are compressed; "sample" stores each
            in a chunk of its own, so that the dataset can grow (`resize`).
        layout: "contiguous" and "sample-chunks" are other names of `chunks=None` and "sample";
            "recordings" is for files with a dataset for each frame, `x="images/image*"` or `"*/*"`:
            the last `*` is the frame, and those before it the recording. Frames become rows of `X`,
            for `Windows(..., bounds="length")`; those of a second name, such as `x=["frame_*_x",
            "frame_*_y"]`, of `Y`. Nothing else is copied.
        image_size: (rows, columns) to which frames are scaled, whatever their aspect ratio: a pixel
            is the average of those that it covers. None: as they are.
        dtype: "uint8" stores values as bytes, which they must fit: whole numbers from 0 to 255.
            None: as they are.
        scale: What values are multiplied by before they are rounded to uint8: 255, if they are from
            0 to 1.
        channels_last: Whether channels are moved behind rows and columns, if they are before them.
        dry_run: Writes nothing, and estimates size and time from some samples.
        read_ahead_bytes: Memory for reading, see `video_dataset_from_hdf5`. If the samples that
            share a chunk take more, each chunk is decoded several times.
        progress: Shows a progress bar on stderr.
        overwrite: Replaces `out` if it exists.

    Returns:
        The number of samples, and what was not copied.

    Raises:
        ArgumentError: An argument is invalid, `out` exists and `overwrite` is false, or `out` is a
            file that is read, or that one of these links to.
        VideoFileNotFoundError: A file, or the folder of `out`, does not exist.
        FileFormatError: The datasets do not match, within a file or between files.
        RepackingError: There is no space, or the new file differs from what was read.
        MissingDependencyError: hdf5plugin (or, with `progress`, tqdm) is not installed.
        H5VideoError: Any error of opening and reading the files.
    """
    out = Path(out)
    names = _checked_names(x)
    check_choice("compression", compression, None, *COMPRESSIONS)
    check_choice("decode", decode, "auto", "image", None)
    encoding = checked_encoding(codec, quality, rows, compression=compression)
    check_choice("chunks", chunks, None, "sample")
    check_choice("layout", layout, None, "contiguous", "sample-chunks", "recordings")
    if layout == "contiguous" and (compression is not None or chunks is not None):
        raise ArgumentError(
            "Contiguous samples are neither compressed nor in chunks. Received: "
            f"layout='contiguous', compression={compression!r}, chunks={chunks!r}"
        )
    if encoding is not None and level is not None:
        raise ArgumentError(
            "`level` is that of a compression; a JPEG has a `quality`. "
            f"Received: codec={codec!r}, level={level}"
        )
    if encoding is not None and (chunks is not None or layout not in (None, "recordings")):
        raise ArgumentError(
            "Encoded frames are rows of bytes, without chunks. Received: "
            f"codec={codec!r}, layout={layout!r}, chunks={chunks!r}"
        )
    check_whole_number("read_ahead_bytes", read_ahead_bytes, 0, or_none=True)
    size = None if image_size is None else tuple(image_size)
    form = SampleForm(bool(channels_last), size, dtype, scale)  # type: ignore[arg-type]
    if layout == "recordings":
        if dry_run or chunks is not None:
            raise ArgumentError(
                "Recordings are repacked without `dry_run` and `chunks`. Received: "
                f"layout='recordings', dry_run={bool(dry_run)}, chunks={chunks!r}"
            )
        return _to_recordings(
            path, out, names, form, compression, level, encoding, progress, overwrite
        )
    chunks = "sample" if layout == "sample-chunks" else chunks
    video_set = open_frames(path, names, decode, form)
    if encoding is not None:
        check_encodable(video_set, form, encoding)
    if out.exists():
        check_not_read(out, sorted(set().union(*map(linked_files, video_set.paths))))
    check_out(out, overwrite=overwrite)
    if dry_run:
        estimate = estimated(video_set, form, compression, level, encoding)
        return RepackReport(out, video_set.num_samples, names, (), estimate)
    if encoding is not None:
        skipped, saved = repack_encoded(
            video_set,
            out,
            form,
            encoding,
            batch_size=_batch_size(video_set),
            read_ahead_bytes=read_ahead_bytes,
            progress=progress,
            overwrite=overwrite,
        )
        return RepackReport(out, video_set.num_samples, names, skipped, saved=saved)
    layouts = {}
    for item in video_set.components:
        shape, new_dtype = form.shape_of(item), form.dtype_of(item)
        layouts[item.name] = {"shape": shape, "dtype": new_dtype}
        options = sample_chunks(shape, new_dtype.itemsize, compression, level)
        if compression is not None or chunks is not None:
            layouts[item.name] |= {**options, "maxshape": (None, *shape)}
    if compression is None and chunks is None:
        _check_space(out, video_set.num_samples * _new_nbytes(video_set, form))

    def check(partial: Path) -> None:
        copier.check(partial)
        check_samples(video_set, partial, form)

    num_threads = num_processors()
    samples, batch_size = np.arange(video_set.num_samples), _batch_size(video_set)
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
            copier = Copier(video_set, source, target, layouts, lengths_of_pictures(video_set))
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
    return RepackReport(out, video_set.num_samples, names, tuple(copier.skipped))


# Arguments


def _checked_names(x: Any) -> tuple[str, ...]:
    names = (x,) if isinstance(x, str) else tuple(x) if isinstance(x, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(
            f"`x` must be the name of a dataset, or a list of names. Received: x={x!r}"
        )
    return tuple(dict.fromkeys(names))


def _new_nbytes(video_set: VideoSet, form: SampleForm) -> int:
    """Returns the bytes of a sample in the new file, before it is compressed."""
    return sum(
        math.prod(form.shape_of(item)) * form.dtype_of(item).itemsize
        for item in video_set.components
    )


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise RepackingError(
            f"{out} will have {size_text(needed)} or more, and its disk has {size_text(free)} "
            "free. Free some space, choose another disk, or use compression."
        )


def _to_recordings(
    path: Paths,
    out: Path,
    names: tuple[str, ...],
    form: SampleForm,
    compression: str | None,
    level: int | None,
    encoding: Encoding | None,
    progress: bool,
    overwrite: bool,
) -> RepackReport:
    check_choice("compression", compression, None, *BUILT_IN_COMPRESSIONS)
    if form.changes or level is not None:
        raise ArgumentError(
            "Frames that are datasets are repacked as they are, without `image_size`, `dtype`, "
            "`channels_last` and `level`; repack the result. Received: layout='recordings'"
        )
    count, saved = repack_frames(
        path,
        out,
        names,
        compression=compression,
        encoding=encoding,
        progress=progress,
        overwrite=overwrite,
    )
    return RepackReport(out, count, names, (), saved=saved)


# Samples


def _batch_size(video_set: VideoSet) -> int:
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


def _write_plain(dataset: h5py.Dataset, begin: int, values: NDArray[Any]) -> None:
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
