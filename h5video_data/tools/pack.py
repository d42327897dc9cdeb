"""`pack`: writes video files as one HDF5 file, in the layout that is read fastest.

    folder or table -> sources -> decode, by threads -> RowFile: append, journal -> out

Each video is decoded once. The number of samples is known when all have been.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from h5video_data import __version__
from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError, PackingError, ReadError
from h5video_data.storage.codecs import BUILT_IN_COMPRESSIONS
from h5video_data.storage.system import num_processors

from .atomic_file import check_not_read, check_out, with_progress
from .packing.clip_rules import ClipRule
from .packing.decoding import Decoded, Restart, in_order, read_source
from .packing.encoded_rows import EncodedFrames, Encoding, Saved
from .packing.fitting import FrameForm
from .packing.journal_entries import Samples, entry_of, too_short
from .packing.output_arguments import checked_encoding
from .packing.row_files import RowFile
from .packing.rules import checked_rule, settings_of
from .packing.sources import SkippedVideo, Source, Sources, list_folder, shown
from .packing.tables import is_table, read_table

__all__ = ["PackReport", "SkippedVideo", "pack"]

LABELS = ("one-hot", "numbers", None)
LAYOUTS = ("clips", "recordings")


@dataclass(frozen=True)
class PackReport:
    """The result of `pack`.

    Attributes:
        path: The HDF5 file.
        class_names: The names of the classes; the position of a name is its label. Empty if there
            are no labels.
        samples_per_class: The number of samples (recordings, in that layout) of each class, in the
            order of `class_names`.
        num_videos: The number of videos with at least one sample.
        skipped: The files without a sample, sorted by path.
        num_samples: The number of samples (recordings) in the file.
        saved: What encoding the frames has saved; None: they are not encoded.
    """

    path: Path
    class_names: tuple[str, ...]
    samples_per_class: tuple[int, ...]
    num_videos: int
    skipped: tuple[SkippedVideo, ...]
    num_samples: int
    saved: Saved | None = None


def pack(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    num_frames: int = 16,
    stride: int = 1,
    size: Sequence[int] = (112, 112),
    clips_per_video: int = 1,
    fit: str = "crop",
    short: str = "skip",
    uniform: bool = False,
    frame_rate: float | None = None,
    labels: str | None = "one-hot",
    layout: str = "clips",
    compression: str | None = None,
    codec: str | None = None,
    quality: int | None = None,
    rows: str | None = None,
    num_jobs: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> PackReport:
    """Writes a folder with one sub-folder of videos per class as an HDF5 file.

        videos/archery/v_01.avi              h5v.pack("videos", "video_data.h5")
        videos/archery/more/v_02.mp4         h5v.pack("videos.csv", "video_data.h5")
        videos/bowling/v_03/0001.jpg, ...

    The file holds one sample per clip, sorted by class, path and start:

    | name | shape | dtype | |
    |---|---|---|---|
    | `X` | (samples, frames, 3, rows, columns) | uint8 | red, green, blue |
    | `Y` | (samples, classes) or (samples,) | float32 or int64 | one-hot, or the class numbers |
    | `source` | (samples,) | utf-8 string | the video, relative to `folder`, with `/` |
    | `source_size` | (samples, 2) | int64 | rows and columns of the video, as it is shown |
    | `start_frame` | (samples,) | int64 | the number of the clip's first frame in the video |
    | `start_time` | (samples,) | float64 | its time in the video, in seconds; nan if unknown |
    | `frame_rate` | (samples,) | float64 | of the video, frames per second; nan if unknown |
    | `length` | (samples,) | int64 | with `short="pad"`: the frames that are not padding |
    | `group`, `split` | (samples,) | utf-8 string | of a table that has these columns |

    and the attributes `sample_count`, `class_names` and, for `read_video`, the arguments. Two clips
    of one video have the same `source`: use it as `split_by` to keep them on one side of a
    validation split.

    With `layout="recordings"`, the frames of all videos lie end to end in `X`, (frames, 3, rows,
    columns), for `Windows(..., bounds="length")`. There is one value of everything else for each
    video, `length` is its number of frames, and `frame_time`, (frames,), says when each is shown.

    With `codec="jpeg"` as well, `X`, (frames,), holds each frame as a JPEG, which loses some detail
    and takes a tenth of the space, or less. `video_dataset_from_hdf5` decodes them to (rows,
    columns, 3). `X_num_bytes`, int64 (frames,), says how long they are, without the zeros behind.

    A video is a file of any format that PyAV (FFmpeg) reads, in a class folder or below it; or a
    folder, below a class folder, of pictures whose names end in numbers, unless `num_frames` is 1.
    Hidden files and folders, whose names begin with a dot, are ignored. Every other file without a
    sample is reported as skipped: not a video, damaged, shorter than one clip; so is a link to a
    folder, which is not followed. Of a truncated file, the complete frames are used. A class keeps
    its label if all of its videos are skipped, or if it has none.

    A table (.csv, .tsv, or .parquet, which needs pyarrow) has a row for each video, or for each
    part of one, and the columns `path` (relative to the table) and, if need be, `label` (names, or
    class numbers from 0 on), `start` and `end` (seconds from the first frame), `group` and `split`.

    Pictures are turned as the file says (videos of telephones), and pixels that are not square are
    made so. Frames are taken in the order in which they are shown. Those of a video of variable
    frame rate are taken by their time stamps, at the interval that most of them have.

    Each video is decoded once, several at a time. The file appears under its name only when it is
    complete. Until then it is written next to it, as `<out>.partial`, which is removed on an error.
    If the process is killed, the same call goes on where it was.

    Args:
        folder: The folder that holds the class folders, or a table.
        out: The HDF5 file to write. Its folder must exist.
        num_frames: The number of frames of a clip. Of no effect on recordings.
        stride: The distance between two frames of a clip, or a recording, in frames of the video.
        size: (rows, columns) of a sample, in pixels.
        clips_per_video: The number of clips of each video, evenly spaced from its first to its last
            frame; a single one is in the middle. A video with fewer different clips has those.
        fit: How pictures get that size: "crop" takes the largest part from their center,
            "letterbox" adds black bars, "stretch" changes their aspect ratio.
        short: What becomes of a video that is shorter than a clip: "skip", "loop" (it begins
            again), or "pad" (black frames follow, and `length` says how many frames are before).
        uniform: Whether the frames of a clip are spread evenly over the whole video.
        frame_rate: Frames per second to which all videos are brought, by time stamps. Of folders of
            frames, the one that they have. None: each has its own.
        labels: "one-hot", "numbers", or None: there are no classes, `folder` holds videos in any
            folders, and there is no `Y`.
        layout: "clips" or "recordings".
        compression: `None` stores samples contiguously, which is fastest to read at random;
            `"gzip"` and `"lzf"` store each sample in a compressed chunk of its own.
        codec: "jpeg" or "png" (without loss): frames of recordings are encoded so.
        quality: Of a JPEG, from 1 to 100. None: 95.
        rows: Encoded frames are rows of "fixed" length, that of the longest, which are read
            fastest, or "variable", which take less space where lengths differ. None: fixed.
        num_jobs: Videos that are decoded at the same time. None: one for each processor.
        progress: Shows a progress bar, with rate and remaining time, on stderr.
        overwrite: Replaces `out` if it exists.

    Returns:
        The number of samples and the skipped files.

    Raises:
        ArgumentError: An argument is invalid, `out` exists and `overwrite` is false, or `out` is
            one of the files in `folder`.
        VideoFileNotFoundError: `folder`, or the folder of `out`, does not exist.
        FileFormatError: A table has a wrong column or value.
        PackingError: `folder` has no class folders, no video in them has a sample, or the file
            cannot be written: no space, or a failing disk.
        ReadError: A folder cannot be read.
        MissingDependencyError: PyAV (or, with `progress`, tqdm) is not installed.
    """
    is_recordings = layout == "recordings"
    check_choice("layout", layout, *LAYOUTS)
    check_choice("labels", labels, *LABELS)
    check_whole_number("num_jobs", num_jobs, 1, or_none=True)
    encoding = checked_encoding(
        codec, quality, rows, compression=compression, compressions=BUILT_IN_COMPRESSIONS
    )
    if encoding is not None and not is_recordings:
        raise ArgumentError(
            "Encoded rows are frames, of recordings; clips of them are cut when they are read: "
            'windows=h5v.Windows(16, bounds="length"). Use layout="recordings". '
            f"Received: codec={codec!r}, layout={layout!r}"
        )
    rule, form = checked_rule(
        num_frames=num_frames,
        stride=stride,
        size=size,
        clips_per_video=clips_per_video,
        fit=fit,
        short=short,
        uniform=uniform,
        frame_rate=frame_rate,
        is_recordings=is_recordings,
    )
    folder, out = Path(folder), Path(out)
    check_out(out, overwrite=overwrite)
    if is_table(folder):
        sources = read_table(folder, has_classes=labels is not None, parts_are_videos=is_recordings)
        check_not_read(out, [folder])
    else:
        sources = list_folder(
            folder, has_classes=labels is not None, has_frame_folders=rule.num_frames != 1
        )
    _check_sources(folder, out, sources)
    frame_shape = (3, *form.size)
    row_shape = frame_shape if is_recordings else (int(num_frames), *frame_shape)
    settings = settings_of(rule, form)
    file = RowFile(
        out,
        row_shape,
        np.uint8,
        compression=compression,
        encoding=encoding,
        signature=[
            *[__version__, settings, str(labels), layout, compression, _identities(sources)],
            None if encoding is None else [encoding.codec, encoding.quality],
        ],
        overwrite=overwrite,
    )
    with file.opened():
        read = partial(_read_pieces, rule, form, encoding)
        _write_videos(file, sources.videos, rule, read, num_jobs, progress)
        gaps = [SkippedVideo(**entry["skipped"]) for entry in file.entries if "skipped" in entry]
        skipped = tuple(sorted((*sources.skipped, *gaps), key=lambda video: video.path))
        samples = Samples(sources, file.entries)
        if not samples.entries:
            reasons = shown([f"{video.path} ({video.reason})" for video in skipped])
            raise PackingError(f"No file in {folder} gives a sample, of {len(skipped)}: {reasons}.")
        file.finish("X", partial(samples.write, settings, labels, is_recordings))
    saved = None
    if encoding is not None:
        raw_nbytes = file.num_rows * math.prod(frame_shape)
        saved = encoding.saved(raw_nbytes, file.encoded_nbytes())
    counts = Counter(samples.labels)
    names = sources.class_names or ()
    return PackReport(
        path=out,
        class_names=names,
        samples_per_class=tuple(counts[label] for label in range(len(names))),
        num_videos=len({entry["source"] for entry, _ in samples.entries}),
        skipped=skipped,
        num_samples=len(samples.entries),
        saved=saved,
    )


# Arguments


def _check_sources(folder: Path, out: Path, sources: Sources) -> None:
    if not h5py.is_hdf5(out):  # the result of an earlier call may be in the folder
        frames = (path for item in sources.videos for path in item.frames or (item.path,))
        check_not_read(out, [*frames, *(folder / item.path for item in sources.skipped)])
    if not sources.videos and not sources.skipped:
        inside = "the class folders in " if sources.class_names else ""
        raise PackingError(f"Nothing to pack: {inside}{folder} hold no files.")


def _identities(sources: Sources) -> list[Any]:
    """Returns what tells if the files are the same as when an unfinished file was begun."""
    found = []
    for source in sources.videos:
        stats = [path.stat() for path in source.frames or (source.path,)]
        stamps = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        found.append([source.name, [repr(part) for part in source.parts], stamps])
    return [found, sources.class_names]


# Videos


def _write_videos(
    rows: RowFile,
    videos: Sequence[Source],
    rule: ClipRule,
    read: Callable[[Source, int], Iterable[Any]],
    num_jobs: int | None,
    progress: bool,
) -> None:
    """Appends the videos that the file does not hold yet, each with an entry of its journal."""
    done = len(rows.entries)
    jobs = min(num_jobs or num_processors(), max(1, len(videos) - done))
    threads = max(1, num_processors() // jobs)
    results = in_order(
        videos[done:],
        lambda source: read(source, threads),
        lambda piece: int(getattr(piece, "nbytes", 0)),
        jobs,
    )
    bar = with_progress(
        results, "packing", unit="video", progress=progress, total=len(videos), initial=done
    )
    for number, pieces in bar:
        source = videos[done + number]
        try:
            decoded = _append(rows, pieces, is_recording=rule.num_frames is None)
        except ReadError as error:
            rows.roll_back()
            rows.commit({"skipped": {"path": source.name, "reason": str(error)}})
            continue
        if decoded.clips:
            rows.commit(entry_of(done + number, decoded, is_recording=rule.num_frames is None))
        else:
            rows.commit({"skipped": {"path": source.name, "reason": too_short(decoded, rule)}})


def _read_pieces(
    rule: ClipRule, form: FrameForm, encoding: Encoding | None, source: Source, num_threads: int
) -> Iterator[Any]:
    """Decodes a source, as `read_source` does, and encodes its frames if they are to be."""
    for piece in read_source(source, rule, form, num_threads):
        if encoding is not None and isinstance(piece, np.ndarray):
            yield EncodedFrames(map(encoding.encode, piece))
        else:
            yield piece


def _append(rows: RowFile, pieces: Iterable[Any], *, is_recording: bool) -> Decoded:
    for piece in pieces:
        if isinstance(piece, Decoded):
            decoded = piece
        elif isinstance(piece, Restart):
            rows.roll_back()
        else:
            rows.append(piece if is_recording else piece[np.newaxis])
    return decoded
