"""`repack`: rewrites files in a layout that trains fast.

    files -> Copier: everything but the samples -> read_once: the samples -> checks -> out

The samples are read as for training, so that each chunk is decoded once, by all threads, and in
bounded memory; they are written in large batches.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError, RepackingError
from h5video_data.opening import Paths, with_options
from h5video_data.splits import SampleIndices, SplitBy
from h5video_data.storage.codecs import BUILT_IN_COMPRESSIONS, COMPRESSIONS
from h5video_data.storage.external import allows_external
from h5video_data.storage.paths import is_url, shown_url
from h5video_data.storage.picture_rows import Decode
from h5video_data.video_set import VideoSet

from .atomic_file import check_not_read, check_out
from .inspection import size_text
from .packing.encoded_rows import Saved, sum_of
from .packing.output_arguments import checked_size
from .packing.partial_files import PartialFile, remove_journals
from .repacking.estimates import Estimate, estimated
from .repacking.frame_datasets import repack_frames
from .repacking.links import linked_files
from .repacking.recording_datasets import have_patterns, repack_recordings
from .repacking.recording_estimates import estimated_frames, estimated_recordings
from .repacking.repack_samples import repack_samples, sample_nbytes
from .repacking.sample_batches import Reading
from .repacking.sample_choice import chosen, shard_paths
from .repacking.sample_forms import SampleForm
from .repacking.sample_layout import SampleLayout, checked_layout
from .repacking.stored_samples import open_frames, signature_of
from .repacking.transfer import SkippedItem

__all__ = ["COMPRESSIONS", "Estimate", "RepackReport", "SkippedItem", "repack"]


@dataclass(frozen=True)
class RepackReport:
    """The result of `repack`.

    Attributes:
        path: The new file; with `shards`, the name of which theirs are made.
        num_samples: The number of samples in it.
        names: The datasets with a new layout.
        skipped: What was not copied.
        estimate: What it would be, if nothing was written.
        saved: What encoding the frames has saved; None: they are not encoded.
        shards: The new files, with `shards`.
    """

    path: Path
    num_samples: int
    names: tuple[str, ...]
    skipped: tuple[SkippedItem, ...]
    estimate: Estimate | None = None
    saved: Saved | None = None
    shards: tuple[Path, ...] = ()


@allows_external
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
    subset: str | None = None,
    validation_split: float | None = None,
    seed: int | None = None,
    split_by: SplitBy = None,
    indices: SampleIndices = None,
    shards: int | None = None,
    dry_run: bool = False,
    allow_external: bool = False,  # noqa: ARG001 - taken by the decorator
    read_ahead_bytes: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    remote_options: Mapping[str, Any] | None = None,
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
    with channels last. Rows that are JPEG or PNG pictures are decoded, once: without `codec`, the
    new file holds raw frames, which take ten times the space and more.

    The file appears under its name only when it is complete. Until then it is written next to it,
    as `<out>.partial`, which is removed on an error. If the process is killed, the same call goes
    on where it was; of several `shards`, those that are complete stay, also on an error. Samples
    that are in chunks or encoded are copied to their places at the end: for that time, they take
    their space twice.

    Before the file is renamed, h5py reads up to 16 samples, from the first to the last, and
    everything that was copied beside them, from the old file and the new one, and compares them.
    The source is only read.

    Args:
        path: A path, a list of paths, or a glob; also URLs that fsspec opens.
        out: The HDF5 file to write. Its folder must exist.
        x: Name of the dataset of samples, or a list of names; they have the same length. With `*`,
            such as "data/*/obs/x": each dataset of such a name is a recording, (frames, ...), and
            keeps its name.
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
            "frame_*_y"]`, of `Y`; an attribute that all frames have, of a dataset of its name.
            Everything else keeps its name; of several files, in a group for each.
        image_size: (rows, columns) to which frames are scaled, whatever their aspect ratio: a pixel
            is the average of those that it covers. None: as they are.
        dtype: "uint8" stores values as bytes, which they must fit: whole numbers from 0 to 255.
            None: as they are.
        scale: What values are multiplied by before they are rounded to uint8: 255, if they are from
            0 to 1.
        channels_last: Whether channels are moved behind rows and columns, if they are before them.
        subset: "training" or "validation": only the samples of that side of a split are written, in
            the order of the files.
        validation_split: With `subset`: the split is that of `video_dataset_from_hdf5`, with these
            four arguments.
        seed: Of the split.
        split_by: Of the split.
        indices: Only these samples are written, or split.
        shards: Writes so many files, with neighbouring samples each, and numbers after the name:
            `out-00000-of-00004.h5`.
        dry_run: Writes no more than a temporary file of some samples, beside `out`, by which it
            estimates size, time and speed.
        allow_external: Whether files may lead to others outside of their folders, see
            `video_dataset_from_hdf5`.
        read_ahead_bytes: Memory for reading, see `video_dataset_from_hdf5`. If the samples that
            share a chunk take more, each chunk is decoded several times.
        progress: Shows a progress bar on stderr.
        overwrite: Replaces `out` if it exists.
        storage_options: Of URLs in `path`, see `video_dataset_from_hdf5`.
        remote_options: Likewise.

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
    if is_url(os.fspath(out)):
        raise ArgumentError(
            "`out` must be a file of this machine: write it, then copy it to the store. Received: "
            f"out={shown_url(os.fspath(out))!r}"
        )
    out, path = Path(out), with_options(path, storage_options, remote_options)
    names = _checked_names(x)
    check_choice("decode", decode, "auto", "image", None)
    check_whole_number("read_ahead_bytes", read_ahead_bytes, 0, or_none=True)
    stored = checked_layout(
        compression=compression,
        level=level,
        codec=codec,
        quality=quality,
        rows=rows,
        chunks=chunks,
        layout=layout,
    )
    size = None if image_size is None else checked_size("image_size", image_size)
    form = SampleForm(bool(channels_last), size, dtype, scale)
    choice: dict[str, Any] = {
        "subset": subset,
        "validation_split": validation_split,
        "seed": seed,
        "split_by": split_by,
        "indices": indices,
        "num_shards": shards,
    }
    reading = Reading(read_ahead_bytes, progress)
    are_many = have_patterns(path, names)
    if are_many or (layout == "recordings" and codec is None):
        is_chosen = any(map(_is_given, choice.values()))
        if dry_run:
            check_out(out, overwrite=overwrite, name="out")
        if layout == "recordings":
            if is_chosen or chunks is not None or form.changes or level is not None:
                raise ArgumentError(_FOR_FRAMES)
            return _repack_frames(path, out, names, stored, progress, overwrite, dry_run)
        if is_chosen:
            raise ArgumentError(_FOR_RECORDINGS.format(list(names)))
        if dry_run:
            count, estimate = estimated_recordings(path, out, names, decode, form, stored)
            return RepackReport(out, count, names, (), estimate)
        count, saved, skipped = repack_recordings(
            path, out, names, decode, form, stored, reading, overwrite=overwrite
        )
        return RepackReport(out, count, names, skipped, saved=saved)
    # Frames that are rows of one dataset are encoded in any layout.
    video_set = open_frames(path, names, decode, form)
    stored.check(video_set, form)
    parts = chosen(path, video_set, **choice)
    num_samples = sum(map(len, parts))
    files = list(zip(shard_paths(out, shards), parts, strict=True))
    _check_outs(video_set, files, form, stored, overwrite=overwrite)
    if dry_run:
        estimate = estimated(video_set, form, stored, num_samples, out, {"decode": decode})
        return RepackReport(out, num_samples, names, (), estimate)
    skipped, saved = _write(video_set, files, form, stored, reading, overwrite=overwrite)
    new = () if shards is None else tuple(file for file, _ in files)
    return RepackReport(out, num_samples, names, skipped, saved=saved, shards=new)


_FOR_FRAMES = (
    "Frames that are datasets are repacked as they are, without `image_size`, `dtype`, "
    "`channels_last`, `level`, `chunks`, `subset`, `indices` and `shards`; "
    "repack the result. Received: layout='recordings'"
)

_FOR_RECORDINGS = (
    "Recordings that are datasets of their own are repacked whole, without `subset`, `indices` and "
    "`shards`. Received: x={!r}"
)

_Files = list[tuple[Path, NDArray[np.int64]]]
"""The files to write, and the numbers of the samples in each."""


def _repack_frames(
    path: Paths,
    out: Path,
    names: tuple[str, ...],
    stored: SampleLayout,
    progress: bool,
    overwrite: bool,
    dry_run: bool,
) -> RepackReport:
    """Repacks frames that are datasets of their own, or estimates what that would write."""
    check_choice("compression", stored.compression, None, *BUILT_IN_COMPRESSIONS)
    if dry_run:
        count, estimate = estimated_frames(
            path, out, names, compression=stored.compression, encoding=stored.encoding
        )
        return RepackReport(out, count, names, (), estimate)
    count, saved, skipped = repack_frames(
        path,
        out,
        names,
        compression=stored.compression,
        encoding=stored.encoding,
        progress=progress,
        overwrite=overwrite,
    )
    return RepackReport(out, count, names, skipped, saved=saved)


def _write(
    video_set: VideoSet,
    files: _Files,
    form: SampleForm,
    stored: SampleLayout,
    reading: Reading,
    *,
    overwrite: bool,
) -> tuple[tuple[SkippedItem, ...], Saved | None]:
    """Writes the files; those that a killed call has completed are left as they are.

    Returns:
        What was not copied, and what encoding has saved.
    """
    skipped: dict[SkippedItem, None] = {}
    savings: list[Saved] = []
    complete = []
    for out, samples in files:
        left_out, saved, file = repack_samples(
            video_set,
            out,
            form,
            samples,
            stored,
            reading,
            overwrite=overwrite,
            keeps_journal=len(files) > 1,
        )
        skipped.update(dict.fromkeys(left_out))
        savings += [] if saved is None else [saved]
        complete.append(file)
    remove_journals(complete)
    return tuple(skipped), sum_of(savings)


# Arguments


def _is_given(argument: Any) -> bool:
    return argument is not None


def _checked_names(x: Any) -> tuple[str, ...]:
    names = (x,) if isinstance(x, str) else tuple(x) if isinstance(x, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(
            f"`x` must be the name of a dataset, or a list of names. Received: x={x!r}"
        )
    return tuple(dict.fromkeys(names))


def _check_outs(
    video_set: VideoSet, files: _Files, form: SampleForm, stored: SampleLayout, *, overwrite: bool
) -> None:
    """Raises an error if one of the files cannot be written, before any of them is."""
    linked: set[str] = set()
    needed = 0
    for out, samples in files:
        if out.exists():
            linked = linked or set().union(*map(linked_files, video_set.paths))
            check_not_read(out, sorted(linked))
        signature = signature_of(video_set, form, samples, stored)
        file = PartialFile(out, signature=signature, overwrite=overwrite)
        if not file.is_complete:
            needed += len(samples) * sample_nbytes(video_set, form) - file.written_nbytes()
    # How many bytes encoded samples have, nobody knows.
    if stored.is_contiguous or (stored.encoding is None and stored.compression is None):
        _check_space(files[0][0], needed)


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise RepackingError(
            f"{out} will have {size_text(needed)} or more, and its disk has {size_text(free)} "
            "free. Free some space, choose another disk, or use compression."
        )
