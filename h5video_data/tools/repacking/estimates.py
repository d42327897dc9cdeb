"""What a repacked file would be, by some of its samples."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.reading.one_pass import read_once
from h5video_data.storage.codecs import COMPRESSIONS
from h5video_data.storage.filters import encode_chunk, sample_chunks
from h5video_data.tools.packing.encoded_rows import Encoding
from h5video_data.video_set import VideoSet

from .sample_forms import SampleForm

_MOST_SAMPLES = 16


@dataclass(frozen=True)
class Estimate:
    """What a file would be, by some of its samples.

    Attributes:
        old_nbytes: Bytes of the files that are read.
        nbytes: Bytes of the samples in the new file.
        seconds: Time to read and encode them, without that to write them.
    """

    old_nbytes: int
    nbytes: int
    seconds: float


def changed(
    video_set: VideoSet, form: SampleForm, batch: tuple[NDArray[np.int64], list[NDArray[Any]]]
) -> list[NDArray[Any]]:
    """Gives the samples of a batch of `read_once` another form."""
    numbers, arrays = batch
    pairs = zip(arrays, video_set.components, strict=True)
    return [form.apply(values, item, int(numbers[0])) for values, item in pairs]


def estimated(
    video_set: VideoSet,
    form: SampleForm,
    compression: str | None,
    level: int | None,
    num_samples: int,
    encoding: Encoding | None = None,
) -> Estimate:
    """Reads and encodes some samples, as `repack` would, for so many."""
    count = min(video_set.num_samples, _MOST_SAMPLES)
    samples = np.unique(np.linspace(0, video_set.num_samples - 1, count).astype(np.int64))
    begin, nbytes = time.perf_counter(), 0
    with contextlib.closing(read_once(video_set, samples, batch_size=1)) as batches:
        for batch in batches:
            for values in changed(video_set, form, batch):
                if encoding is not None:
                    nbytes += len(encoding.encode(values[0]))
                elif compression is None:
                    nbytes += values.nbytes
                elif COMPRESSIONS[compression].encode is not None:
                    nbytes += len(encode_chunk(compression, values[0], level)[0])
                else:
                    nbytes += _nbytes_by_hdf5(values, compression, level)
    factor = num_samples / len(samples)
    seconds = (time.perf_counter() - begin) * factor
    old = sum(os.path.getsize(path) for path in video_set.paths)
    return Estimate(old, round(nbytes * factor), seconds)


def _nbytes_by_hdf5(values: NDArray[Any], compression: str, level: int | None) -> int:
    with h5py.File("-", "w", driver="core", backing_store=False) as file:
        layout = sample_chunks(values.shape[1:], values.itemsize, compression, level)
        dataset = file.create_dataset("X", data=values, **layout)
        file.flush()
        return int(dataset.id.get_storage_size())
