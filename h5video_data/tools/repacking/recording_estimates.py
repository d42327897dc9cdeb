"""What repacked recordings would be, by some of their frames, repacked to a temporary file."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from h5video_data.errors import RepackingError
from h5video_data.reading.threads import Threads
from h5video_data.storage.file_identity import identity_of
from h5video_data.storage.paths import Paths, expand_paths
from h5video_data.storage.picture_rows import Decode
from h5video_data.storage.system import num_processors
from h5video_data.tools.atomic_file import Output, check_not_read
from h5video_data.tools.inspecting.probe import probe_loader
from h5video_data.tools.packing.encoded_rows import Encoding
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.video_set import VideoSet

from .estimates import (
    PROBE_SECONDS,
    SAMPLED_BYTES,
    Estimate,
    rest_nbytes,
    temporary_folder,
    with_speeds,
)
from .frame_datasets import PIECE_FRAMES, append_frames, find_frames, read_frames
from .recording_datasets import append_rows, make_dataset, open_recordings, write_rows
from .sample_batches import Reading, rows_per_chunk
from .sample_forms import SampleForm
from .sample_layout import SampleLayout

# So many recordings of each name are looked at, from the first to the last.
_MOST_RECORDINGS = 16

T = TypeVar("T")


def estimated_recordings(
    path: Paths,
    out: Path,
    names: Sequence[str],
    decode: Decode,
    form: SampleForm,
    layout: SampleLayout,
) -> tuple[int, Estimate]:
    """Estimates what `repack_recordings` would write.

    Returns:
        The number of recordings, and the estimate, of frames.
    """
    sets = open_recordings(path, names, decode, form, layout)
    whole = [item for found in sets for item in found]
    chosen = [item for found in sets for item in _spread(found)]
    (old_path,) = expand_paths(path)
    check_not_read(out, [old_path])
    with temporary_folder(out) as folder:
        some = Path(folder) / "some.h5"
        file = RowFile(some, encoding=layout.encoding, are_chunks=True, error_type=RepackingError)
        parts: list[tuple[VideoSet, slice]] = []
        times = [time.perf_counter()]
        with file.opened():
            with closing(Threads(num_processors(), "h5video_data_encode")) as threads:
                for item in chosen:
                    start = file.num_rows
                    samples = np.arange(_num_rows(item, len(chosen)))
                    append_rows(file, item, samples, 0, form, layout, Reading(), threads)
                    parts.append((item, slice(start, file.num_rows)))

            times.append(time.perf_counter())

            def write(target: h5py.File, output: Output) -> None:
                for item, rows in parts:
                    name = item.components[0].name
                    target[name] = dataset = make_dataset(file, target, item, rows, form, layout)
                    write_rows(file, target, dataset, name, output, rows, layout)

            file.finish_by(write)
        times.append(time.perf_counter())
        estimate = _estimate(
            [old_path],
            times,
            num_frames=(file.num_rows, sum(item.num_samples for item in whole)),
            nbytes=file.encoded_nbytes(),
            rest=rest_nbytes(old_path, [item.components[0].name for item in whole]),
        )
        given: dict[str, Any] = {"x": {name: name for name in names}, "y": None, "windows": 1}
        old = probe_loader([old_path], {**given, "decode": decode}, PROBE_SECONDS)
        given |= {} if layout.encoding is not None else {"decode": None}
        return len(whole), with_speeds(estimate, probe_loader(some, given, PROBE_SECONDS), old)


def estimated_frames(
    path: Paths,
    out: Path,
    names: Sequence[str],
    *,
    compression: str | None,
    encoding: Encoding | None,
) -> tuple[int, Estimate]:
    """Estimates what `repack_frames` would write.

    Returns:
        The number of recordings, and the estimate, of frames. How fast frames that are datasets are
        read is not known: no loader reads them.
    """
    paths = expand_paths(path)
    check_not_read(out, paths)
    recordings, first = find_frames(paths, names, encoding)
    num_frames = sum(len(item.found[0]) for item in recordings)
    chosen = _spread(recordings)
    most = max(1, min(PIECE_FRAMES, SAMPLED_BYTES // len(chosen) // max(1, first.nbytes)))
    with temporary_folder(out) as folder:
        some = Path(folder) / "some.h5"
        rows = RowFile(
            some, first.shape, first.dtype, compression=compression, encoding=encoding,
            error_type=RepackingError,
        )  # fmt: skip
        times = [time.perf_counter()]
        with rows.opened():
            for item in chosen:
                some_names = item.found[0][:most]
                frames, _ = read_frames(item.path, some_names)
                append_frames(rows, item.path, some_names, frames, first, encoding)
            is_raw = compression is None and encoding is None
            nbytes = rows.num_rows * first.nbytes if is_raw else rows.encoded_nbytes()
            times.append(time.perf_counter())
            rows.finish("X", lambda _: None)
        times.append(time.perf_counter())
        names_of: dict[str, list[str]] = {file: [] for file in paths}
        for item in recordings:
            names_of[item.path] += itertools.chain.from_iterable(item.found)
        estimate = _estimate(
            paths,
            times,
            num_frames=(rows.num_rows, num_frames),
            nbytes=nbytes,
            rest=sum(rest_nbytes(*item) for item in names_of.items()),
        )
        given = {"x": "X", "y": None, "windows": 1}
        return len(recordings), with_speeds(
            estimate, probe_loader(some, given, PROBE_SECONDS), None
        )


def _spread(items: Sequence[T]) -> list[T]:
    """Returns some of them, from the first to the last."""
    count = min(_MOST_RECORDINGS, len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, count).astype(int).tolist()]


def _num_rows(video_set: VideoSet, num_sets: int) -> int:
    """Returns how many frames of a recording are looked at: those of whole chunks."""
    (component,) = video_set.components
    run = rows_per_chunk(video_set)
    wanted = SAMPLED_BYTES // num_sets // component.row_nbytes
    return min(video_set.num_samples, max(1, wanted // run) * run)


def _estimate(
    paths: Sequence[str],
    times: Sequence[float],
    *,
    num_frames: tuple[int, int],
    nbytes: int,
    rest: int,
) -> Estimate:
    """Returns the estimate without speeds.

    Args:
        paths: The files that are read.
        times: When writing of the frames began, and ended, and when the file was complete.
        num_frames: How many frames these were, and how many there are in all.
        nbytes: Bytes that they take in the file.
        rest: Bytes of everything else.
    """
    factor = num_frames[1] / num_frames[0]
    begin, middle, end = times
    seconds = (middle - begin) * factor + (end - middle) * (factor + rest / max(1, nbytes))
    old_nbytes = sum(identity_of(path).num_bytes for path in paths)
    return Estimate(old_nbytes, round(nbytes * factor) + rest, seconds, unit="frames")
