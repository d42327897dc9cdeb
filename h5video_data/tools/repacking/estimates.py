"""What a repacked file would be, by some of its samples, repacked to a temporary file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import RepackingError
from h5video_data.storage.file_identity import FileIdentity
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.hdf5_names import dataset_names, find_dataset
from h5video_data.storage.picture_rows import StoredPictures
from h5video_data.tools.atomic_file import not_written
from h5video_data.tools.inspecting.probe import Prediction, probe_loader
from h5video_data.video_set import VideoSet

from .sample_batches import Reading, rows_per_chunk, sample_batches
from .sample_forms import SampleForm
from .sample_layout import SampleLayout
from .sample_writers import writer_of

# Samples are taken in runs of whole chunks, of this many bytes in all if a chunk is not larger:
# some batches, of which the first one does not count.
SAMPLED_BYTES = 128 << 20
_MOST_RUNS = 16
PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class Estimate:
    """What a file would be, by some of its samples.

    Attributes:
        old_nbytes: Bytes of the files that are read.
        nbytes: Bytes of the new file: its samples, and all else that is copied.
        seconds: Time to write it, until the disk has it.
        samples_per_second: Predicted for shuffled batches of the new file, as `inspect(probe=True)`
            predicts it: from the page cache. None: not known.
        old_samples_per_second: The same of the files that are read.
        old_from_disk: Which part of these bytes came from a disk, not from the page cache; None:
            not known.
        unit: What is counted: "samples", or "frames" of recordings.
    """

    old_nbytes: int
    nbytes: int
    seconds: float
    samples_per_second: float | None = None
    old_samples_per_second: float | None = None
    old_from_disk: float | None = None
    unit: str = "samples"


def estimated(
    video_set: VideoSet,
    form: SampleForm,
    layout: SampleLayout,
    num_samples: int,
    out: Path,
    arguments: Mapping[str, Any],
) -> Estimate:
    """Repacks some samples to a temporary file, and reads from both files for a second.

    Args:
        video_set: The files.
        form: What samples are to become.
        layout: How they are to be stored.
        num_samples: How many.
        out: The new file.
        arguments: Of the loader that opens the files.
    """
    samples, components = some_samples(video_set), video_set.components
    names = {item.name: item.name for item in components}
    with temporary_folder(out) as folder, ExitStack() as stack:
        some = Path(folder) / "some.h5"
        options = {"signature": None, "overwrite": False, "error_type": RepackingError}
        writer = writer_of(components, some, form, len(samples), layout, stack, **options)
        # The files are opened, and threads started, once: not for each of the parts.
        times: list[tuple[float, int]] = []
        with writer.file.opened():
            begin = time.perf_counter()
            with sample_batches(video_set, form, samples, 0, Reading()) as batches:
                for batch in batches:
                    writer.append(batch)
                    times.append((time.perf_counter() - begin, len(batch[0])))

            def create(file: h5py.File, layouts: dict[str, Any]) -> dict[str, h5py.Dataset]:
                return {
                    name: _created(file, name, len(samples), given)
                    for name, given in layouts.items()
                }

            begin = time.perf_counter()
            writer.finish(create, lambda _: None)
            finishing = time.perf_counter() - begin
        # Rows of bytes that stay as they are, are read as such.
        are_pictures = layout.encoding is not None or any(
            isinstance(part, StoredPictures) for item in components for part in item.parts
        )
        given: dict[str, Any] = {"x": names, "y": None}
        given |= {} if are_pictures else {"decode": None}
        new = probe_loader(some, given, PROBE_SECONDS)
        nbytes = writer.nbytes
    old = probe_loader(video_set.paths, {**arguments, **given}, PROBE_SECONDS)
    factor = num_samples / len(samples)
    files = zip(video_set.paths, video_set.identities, strict=True)
    rest = sum(rest_nbytes(path, names, identity) for path, identity in files)
    rest = round(rest * num_samples / video_set.num_samples)
    estimate = Estimate(
        sum(item.num_bytes for item in video_set.identities),
        round(nbytes * factor) + rest,
        _seconds(times) * num_samples + finishing * (factor + rest / max(1, nbytes)),
    )
    return with_speeds(estimate, new, old)


def with_speeds(estimate: Estimate, new: Prediction | None, old: Prediction | None) -> Estimate:
    """Adds how fast the new file and the old ones are read; None: not known."""
    return replace(
        estimate,
        samples_per_second=None if new is None else new.samples_per_second,
        old_samples_per_second=None if old is None else old.samples_per_second,
        old_from_disk=None if old is None else old.from_disk,
    )


def temporary_folder(out: Path) -> tempfile.TemporaryDirectory[str]:
    """Returns a folder beside the new file: another disk would have another speed."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise RepackingError(not_written(out, error)) from error


def rest_nbytes(path: str, names: Iterable[str], identity: FileIdentity | None = None) -> int:
    """Returns the bytes of all datasets in a file but those of these names, as stored."""
    given = {name.strip("/") for name in names}
    with open_file(path, identity) as file:
        others = [name for name in dataset_names(file) if name not in given]
        return sum(find_dataset(file, name).id.get_storage_size() for name in others)


def some_samples(video_set: VideoSet) -> NDArray[np.int64]:
    """Chooses samples, spread over the files, in runs of whole chunks, as `repack` reads them."""
    nbytes = sum(item.row_nbytes for item in video_set.components)
    count, run = video_set.num_samples, min(rows_per_chunk(video_set), video_set.num_samples)
    num_runs = max(1, min(_MOST_RUNS, SAMPLED_BYTES // (run * nbytes), count // run))
    length = run * max(
        1, min(SAMPLED_BYTES // (num_runs * run * nbytes), count // (num_runs * run))
    )
    begins = np.linspace(0, max(0, count - length), num_runs).astype(np.int64) // run * run
    return np.unique((begins[:, np.newaxis] + np.arange(length)).clip(max=count - 1))


def _seconds(times: list[tuple[float, int]]) -> float:
    """Returns the seconds of a sample; of several batches, without those until the first one."""
    whole, count = times[-1][0], sum(number for _, number in times)
    if len(times) < 3:
        return whole / count
    return (whole - times[0][0]) / (count - times[0][1])


def _created(file: h5py.File, name: str, count: int, given: dict[str, Any]) -> h5py.Dataset:
    if "made" in given:
        file[name] = given["made"]
        return given["made"]
    shape = given.pop("shape")
    return file.create_dataset(name, (count, *shape), given.pop("dtype"), **given)
