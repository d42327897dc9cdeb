"""`repack`: rewrites files in a layout that trains fast.

    files -> Copier: everything but the samples -> read_once: the samples -> checks -> out

The samples are read as for training, so that each chunk is decoded once, by all threads, and in
bounded memory; they are written in large batches.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError, RepackingError
from h5video_data.opening import Paths
from h5video_data.splits import SampleIndices, SplitBy
from h5video_data.storage.codecs import BUILT_IN_COMPRESSIONS, COMPRESSIONS
from h5video_data.storage.external import allows_external
from h5video_data.storage.picture_rows import Decode
from h5video_data.video_set import VideoSet

from .atomic_file import check_not_read, check_out
from .estimates import Estimate, estimated
from .inspection import size_text
from .links import linked_files
from .packing.encoded_rows import Saved, checked_encoding, sum_of
from .repack_encoded import check_encodable, repack_encoded
from .repack_frames import repack_frames
from .repack_samples import batch_size_of, repack_samples
from .sample_choice import chosen, shard_paths
from .sample_forms import SampleForm
from .stored_samples import open_frames
from .transfer import SkippedItem

__all__ = ["COMPRESSIONS", "Estimate", "RepackReport", "SkippedItem", "repack"]


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
    on where it was. Where samples are in chunks, or `x` are several datasets that are not encoded,
    it begins anew, and leaves `<out>.<random>.partial` behind.

    Before the file is renamed, h5py reads up to 16 samples, from the first to the last, and
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
        dry_run: Writes nothing, and estimates size and time from some samples.
        allow_external: Whether files may lead to others outside of their folders, see
            `video_dataset_from_hdf5`.
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
    # Frames that are rows of one dataset are encoded in any layout.
    if layout == "recordings" and (encoding is None or any("*" in name for name in names)):
        choice = (subset, validation_split, seed, split_by, indices, shards)
        if (
            dry_run
            or chunks is not None
            or level is not None
            or form.changes
            or any(argument is not None for argument in choice)
        ):
            raise ArgumentError(
                "Frames that are datasets are repacked as they are, without `image_size`, `dtype`, "
                "`channels_last`, `level`, `chunks`, `dry_run`, `subset`, `indices` and `shards`; "
                "repack the result. Received: layout='recordings'"
            )
        check_choice("compression", compression, None, *BUILT_IN_COMPRESSIONS)
        count, cost, skipped = repack_frames(
            path,
            out,
            names,
            compression=compression,
            encoding=encoding,
            progress=progress,
            overwrite=overwrite,
        )
        return RepackReport(out, count, names, skipped, saved=cost)
    chunks = "sample" if layout == "sample-chunks" else chunks
    video_set = open_frames(path, names, decode, form)
    if encoding is not None:
        check_encodable(video_set, form, encoding)
    parts = chosen(
        path,
        video_set,
        subset=subset,
        validation_split=validation_split,
        seed=seed,
        split_by=split_by,
        indices=indices,
        num_shards=shards,
    )
    num_samples = sum(map(len, parts))
    outs = shard_paths(out, shards)
    for item in outs:
        if item.exists():
            check_not_read(item, sorted(set().union(*map(linked_files, video_set.paths))))
        check_out(item, overwrite=overwrite)
    if dry_run:
        estimate = estimated(video_set, form, compression, level, num_samples, encoding)
        return RepackReport(out, num_samples, names, (), estimate)
    saved: list[Saved] = []
    if encoding is None and compression is None and chunks is None:
        _check_space(out, num_samples * _new_nbytes(video_set, form))
    for item, samples in zip(outs, parts, strict=True):
        if encoding is not None:
            skipped, cost = repack_encoded(
                video_set,
                item,
                form,
                encoding,
                samples,
                batch_size=batch_size_of(video_set),
                read_ahead_bytes=read_ahead_bytes,
                progress=progress,
                overwrite=overwrite,
            )
            saved.append(cost)
        else:
            skipped = repack_samples(
                video_set,
                item,
                form,
                samples,
                compression=compression,
                level=level,
                has_chunks=compression is not None or chunks is not None,
                read_ahead_bytes=read_ahead_bytes,
                progress=progress,
                overwrite=overwrite,
            )
    return RepackReport(out, num_samples, names, skipped, saved=sum_of(saved))


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
