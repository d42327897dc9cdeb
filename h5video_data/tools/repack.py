"""`repack`: writes files anew in a layout that trains fast.

    files -> Copier: everything but the samples -> VideoLoader: the samples -> checks -> out

The samples are read by the loader itself, so that each chunk is decoded once, by all threads, and
in bounded memory; they are written in large blocks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import (
    ArgumentError,
    H5VideoError,
    MissingDependencyError,
    RepackingError,
    SamplerError,
)
from h5video_data.loader import VideoLoader
from h5video_data.opening import Paths, open_video_set
from h5video_data.reading.threads import Task, Threads
from h5video_data.storage.filters import DEFLATE_LEVEL, encode_chunk
from h5video_data.storage.hdf5_files import HDF5_ERRORS, open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.values import Values
from h5video_data.video_set import Component, VideoSet

from .atomic_file import check_out, file_when_complete, not_written, with_progress
from .copy_rest import Copier, SkippedItem
from .inspection import size_text
from .links import linked_files
from .transfer import CACHE_BYTES

__all__ = ["COMPRESSIONS", "RepackReport", "SkippedItem", "repack"]

# What the loader decodes itself; by the class of hdf5plugin that encodes it, if HDF5 does not.
COMPRESSIONS = {
    "gzip": None,
    "lzf": None,
    "zstd": "Zstd",
    "lz4": "LZ4",
    "blosc": "Blosc",
    "bitshuffle": "Bitshuffle",
}
_SHUFFLE_THEMSELVES = ("blosc", "bitshuffle")

# Samples are read and written in blocks of about this many bytes; of more, up to the second number,
# if a chunk of the source holds as many.
BLOCK_BYTES = 16 << 20
MAX_BLOCK_BYTES = 128 << 20

# How many samples are compared with the source; fewer, but two at the least, if HDF5 would have to
# decode more bytes than this for them.
CHECKED_SAMPLES = 16
CHECKED_BYTES = 64 << 20

_MAX_CHUNK_BYTES = 2**32 - 1  # HDF5 file format, section IV.A.2.i: chunk sizes are 32-bit


@dataclass(frozen=True)
class RepackReport:
    """What `repack` wrote, and what it left out.

    Attributes:
        path: The new file.
        num_samples: The number of samples in it.
        names: The datasets that have a new layout.
        skipped: What is not in it.
    """

    path: Path
    num_samples: int
    names: tuple[str, ...]
    skipped: tuple[SkippedItem, ...]


def repack(
    path: Paths,
    out: str | os.PathLike[str],
    *,
    x: str | Sequence[str] = "X",
    compression: str | None = None,
    chunks: str | None = None,
    read_ahead_bytes: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> RepackReport:
    """Writes an HDF5 file, or several that are one set, anew in a layout that trains fast.

        h5v.repack("slow.h5", "fast.h5")
        h5v.repack("part_*.h5", "whole.h5", x=["rgb", "flow"], compression="lzf")

    The datasets `x` are stored contiguously, which is read fastest, or with one sample in each
    chunk. Their values are the same, bit by bit, in this machine's byte order. Everything else is
    copied as it is: groups, attributes, other datasets with their chunks and filters. Of these:

    - Only samples in use are in the new file: the first `sample_count` of each file. A dataset with
      as many rows as `x` is taken to hold a value for each sample, and loses the same rows; but not
      in another group, if the attribute is that of the group of `x`. The new file has the attribute
      `sample_count` in any case, in the same place.
    - Of several files, the samples follow each other in the order given, and with them the rows of
      every dataset that holds a value for each sample. Everything else is the first file's; what
      other files hold beyond that is in the report.
    - Virtual datasets, and those in external files, become plain ones with their values; but not if
      these take more than the samples do, and more than 1 GiB. They are in the report then.
    - Soft links stay, and so do links to other files, with their path as seen from `out`. If one of
      these leads to a dataset of which rows are left out or joined, or to `x`, its values take the
      link's place.
    - Values keep the type that they are stored with, byte by byte. A dataset of which all rows are
      copied keeps damaged chunks, too, and those whose filter is not installed.
    - Object and region references (so dimension scales, too) cannot be copied, nor the userblock
      before an HDF5 file, the order in which the root group was filled, and what is damaged beside
      the samples. They are in the report. A committed type of a dataset becomes the dataset's own
      where rows are left out or joined, and that of an attribute always.

    The file appears under its name only when it is complete. It is first written next to it, as
    `<out>.<random>.partial`, which is removed when something fails; a process that is killed leaves
    it behind. Before the file gets its name, up to 16 samples from its first to its last and all
    that was copied beside them are read by h5py, from the old file and from the new, and compared.
    The source is only read.

    Args:
        path: A path, a list of paths, or a glob.
        out: The HDF5 file to write. Its folder must exist.
        x: Name of the dataset of samples, or a list of names; they have the same length.
        compression: `None`, "gzip", "lzf", or, where hdf5plugin is installed, "zstd", "lz4",
            "blosc" or "bitshuffle". Each sample is then in a compressed chunk of its own.
        chunks: `None` stores samples one after another if they are not compressed; "sample" stores
            each in a chunk of its own, so that the dataset can grow (`resize`).
        read_ahead_bytes: Memory for reading, see `video_dataset_from_hdf5`. If the samples that
            share a chunk take more, each chunk is decoded several times.
        progress: Shows a progress bar on stderr.
        overwrite: Replaces `out` if it exists.

    Returns:
        What was written and what was left out.

    Raises:
        ArgumentError: An argument makes no sense, `out` exists and `overwrite` is false, or `out`
            is a file that is read, or that one of these leads to.
        VideoFileNotFoundError: There is no such file, or no folder to write `out` to.
        FileFormatError: The datasets do not fit together, within a file or between files.
        RepackingError: There is no space, or something that was read again differs.
        MissingDependencyError: hdf5plugin (or, with `progress`, tqdm) is not installed.
        H5VideoError: Any error of opening and reading the files.
    """
    out = Path(out)
    names = _checked_names(x)
    _check_storage(compression, chunks)
    video_set = open_video_set(path, {name: name for name in names}, None)
    _check_not_read(out, video_set)
    check_out(out, overwrite=overwrite)
    is_chunked = compression is not None or chunks is not None
    if not is_chunked:
        _check_space(out, video_set)
    layouts = [
        _storage(column, compression, is_chunked=is_chunked) for column in video_set.components
    ]

    def make(file: h5py.File, column: Component) -> h5py.Dataset:
        layout = layouts[video_set.components.index(column)]
        shape = (video_set.num_samples, *column.sample_shape)
        return file.create_dataset(None, shape, column.dtype, **layout)

    def check(partial: Path) -> None:
        copier.copied.check(partial)
        _check_samples(video_set, partial)

    try:
        with (
            VideoLoader(
                video_set,
                shuffle=_OnePass(video_set.num_samples),
                batch_size=_block_size(video_set),
                read_ahead_bytes=read_ahead_bytes,
            ) as loader,
            open_file(video_set.paths[0], rdcc_nbytes=CACHE_BYTES) as source,
            file_when_complete(out, RepackingError, check) as (target, output),
        ):
            blocks = with_progress(loader, "repacking", unit="block", progress=progress)
            copier = Copier(video_set, source, target, os.path.abspath(out.parent), make)
            copier.copy()
            _write_samples(output.watched(blocks), copier.places, compression, loader.num_threads)
    except H5VideoError:
        raise
    except HDF5_ERRORS as error:
        raise RepackingError(not_written(out, error)) from error
    return RepackReport(
        path=out,
        num_samples=video_set.num_samples,
        names=names,
        skipped=tuple(copier.skipped),
    )


# Arguments


def _checked_names(x: Any) -> tuple[str, ...]:
    names = (x,) if isinstance(x, str) else tuple(x) if isinstance(x, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(
            f"`x` must be the name of a dataset, or a list of names. Received: x={x!r}"
        )
    return tuple(dict.fromkeys(names))


def _check_storage(compression: Any, chunks: Any) -> None:
    if compression not in (None, *COMPRESSIONS):
        raise ArgumentError(
            f"`compression` must be None or one of {', '.join(map(repr, COMPRESSIONS))}. "
            f"Received: compression={compression!r}"
        )
    if chunks not in (None, "sample"):
        raise ArgumentError(f"`chunks` must be None or 'sample'. Received: chunks={chunks!r}")


def _check_not_read(out: Path, video_set: VideoSet) -> None:
    """Makes sure that the new file does not take the place of one that is read."""
    if not out.exists():
        return
    for path in sorted(set().union(*map(linked_files, video_set.paths))):
        if os.path.exists(path) and out.samefile(path):
            raise ArgumentError(
                f"`out` must not be a file that is read, and is {path}. Received: out={str(out)!r}"
            )


def _check_space(out: Path, video_set: VideoSet) -> None:
    needed = video_set.num_samples * sum(column.row_nbytes for column in video_set.components)
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise RepackingError(
            f"{out} will have {size_text(needed)} or more, and its disk has {size_text(free)} "
            "free. Make room, choose another disk, or store it compressed."
        )


def _storage(column: Component, compression: str | None, *, is_chunked: bool) -> dict[str, Any]:
    """The arguments that make `create_dataset` choose the layout."""
    if not is_chunked:
        return {}
    if column.row_nbytes > _MAX_CHUNK_BYTES:
        raise ArgumentError(
            f"A sample must be smaller than 4 GiB to be one HDF5 chunk, and one of {column.name!r} "
            f"has {column.row_nbytes} bytes. Received: compression={compression!r}"
        )
    options: dict[str, Any] = {
        "chunks": (1, *column.sample_shape),
        "maxshape": (None, *column.sample_shape),
        "compression": compression,
    }
    if compression is not None and compression not in _SHUFFLE_THEMSELVES:
        options["shuffle"] = column.dtype.itemsize > 1
    if compression == "gzip":
        options["compression_opts"] = DEFLATE_LEVEL
    plugin = COMPRESSIONS.get(compression or "")
    return {**options, **_plugin_filter(plugin)} if plugin else options


def _plugin_filter(plugin: str) -> Mapping[str, Any]:
    try:
        import hdf5plugin
    except ImportError as error:
        raise MissingDependencyError(
            f"hdf5plugin encodes {plugin}, and cannot be imported ({error}). "
            "Install it with: pip install 'h5video_data[filters]'"
        ) from error
    found: Mapping[str, Any] = getattr(hdf5plugin, plugin)()
    return found


# Samples


@dataclass(frozen=True)
class _OnePass:
    """A sampler of one epoch, in order: at the end the loader cannot begin to read another one."""

    num_samples: int

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """All samples, in their order."""
        if epoch:
            raise SamplerError("The samples are read once.")
        return np.arange(self.num_samples)


def _block_size(video_set: VideoSet) -> int:
    """How many samples to read at once: where that is not too much, the whole chunks of them."""
    row_nbytes = sum(column.row_nbytes for column in video_set.components)
    accesses = [access for column in video_set.components for access in column.accesses]
    in_chunk = max((a.chunk_rows.num_rows for a in accesses if a.chunk_rows), default=1)
    size = max(1, BLOCK_BYTES // row_nbytes)
    in_chunks = -(-size // in_chunk) * in_chunk
    return in_chunks if in_chunks * row_nbytes <= MAX_BLOCK_BYTES else size


def _write_samples(
    blocks: Iterable[dict[str, NDArray[Any]]],
    places: Mapping[str, h5py.Dataset],
    compression: str | None,
    num_threads: int,
) -> None:
    write: Callable[[h5py.Dataset, int, NDArray[Any]], None] = _write_plain
    with contextlib.closing(Threads(num_threads, "h5video_data_encode")) as threads:
        if compression is not None and COMPRESSIONS[compression] is None:
            encode = functools.partial(threads.submit, encode_chunk, compression)
            write = functools.partial(_write_encoded, encode)
        begin = 0
        for block in blocks:
            for name, values in block.items():
                write(places[name], begin, values)
            begin += len(values)


def _write_plain(dataset: h5py.Dataset, begin: int, values: NDArray[Any]) -> None:
    dataset.write_direct(values, dest_sel=np.s_[begin : begin + len(values)])


def _write_encoded(
    encode: Callable[[NDArray[Any]], Task[tuple[Any, int]]],
    dataset: h5py.Dataset,
    begin: int,
    values: NDArray[Any],
) -> None:
    zeros = (0,) * (values.ndim - 1)
    for row, task in enumerate([encode(value) for value in values], begin):
        data, mask = task.result()
        # h5py (3.14) does not take its own lock here, as it does everywhere else, while the
        # loader's threads may read by h5py.
        with phil:
            dataset.id.write_direct_chunk((row, *zeros), data, mask)


def _check_samples(video_set: VideoSet, path: Path) -> None:
    """Compares some samples of the new file with those of the old ones, as h5py reads both."""
    with h5py.File(path) as new:
        for column in video_set.components:
            decoded_nbytes = max(part.row_decoded_nbytes for part in column.parts)
            count = max(2, min(CHECKED_SAMPLES, CHECKED_BYTES // decoded_nbytes))
            samples = np.linspace(0, video_set.num_samples - 1, count).astype(np.int64)
            for sample in np.unique(samples).tolist():
                (number,), (row,) = map(list, column.index.rows(np.array([sample])))
                part = column.parts[number]
                with open_file(part.path) as old:
                    stored = Values(find_dataset(old, part.name), row + 1, part)
                    expected = stored.read(slice(row, row + 1)).astype(column.dtype)
                if expected.tobytes() != new[column.name][sample].tobytes():
                    raise RepackingError(
                        f"{part.path}: dataset {part.name!r}, sample {row}: h5py reads other "
                        f"values there than in sample {sample} of the new file, which was removed."
                    )
