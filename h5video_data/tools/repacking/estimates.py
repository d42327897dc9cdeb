"""What a repacked file would be, by some of its samples, repacked to a temporary file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import RepackingError
from h5video_data.tools.inspecting.probe import probe_loader
from h5video_data.video_set import VideoSet

from .sample_batches import Reading, rows_per_chunk, sample_batches
from .sample_forms import SampleForm
from .sample_layout import SampleLayout
from .sample_writers import writer_of

# Samples are taken in runs of whole chunks, of this many bytes in all if a chunk is not larger.
SAMPLED_BYTES = 64 << 20
_MOST_RUNS = 16
_PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class Estimate:
    """What a file would be, by some of its samples.

    Attributes:
        old_nbytes: Bytes of the files that are read.
        nbytes: Bytes of the samples in the new file.
        seconds: Time to read, encode and write them.
        samples_per_second: Predicted for shuffled batches of the new file, as `inspect(probe=True)`
            predicts it: from the page cache. None: not known.
        old_samples_per_second: The same of the files that are read.
    """

    old_nbytes: int
    nbytes: int
    seconds: float
    samples_per_second: float | None = None
    old_samples_per_second: float | None = None


def estimated(
    video_set: VideoSet,
    form: SampleForm,
    layout: SampleLayout,
    num_samples: int,
    arguments: Mapping[str, Any],
) -> Estimate:
    """Repacks some samples to a temporary file, and reads from both files for a second.

    Args:
        video_set: The files.
        form: What samples are to become.
        layout: How they are to be stored.
        num_samples: How many.
        arguments: Of the loader that opens the files.
    """
    samples, components = some_samples(video_set), video_set.components
    names = {item.name: item.name for item in components}
    with tempfile.TemporaryDirectory(prefix="h5video_data_") as folder, ExitStack() as stack:
        out = Path(folder) / "some.h5"
        options = {"signature": None, "overwrite": False, "error_type": RepackingError}
        writer = writer_of(components, out, form, len(samples), layout, stack, **options)
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

            writer.finish(create, lambda _: None)
        new_rate = probe_loader(out, {"x": names, "y": None}, _PROBE_SECONDS)
        nbytes = writer.nbytes
    old_rate = probe_loader(video_set.paths, {"x": names, "y": None, **arguments}, _PROBE_SECONDS)
    old_nbytes = sum(os.path.getsize(path) for path in video_set.paths)
    factor = num_samples / len(samples)
    return Estimate(
        old_nbytes,
        round(nbytes * factor),
        _seconds(times) * num_samples,
        samples_per_second=new_rate,
        old_samples_per_second=old_rate,
    )


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
