"""What a repacked file would be, by some of its samples."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

import numpy as np

from h5video_data.reading.one_pass import read_once
from h5video_data.video_set import VideoSet

from .sample_batches import changed
from .sample_forms import SampleForm
from .sample_layout import SampleLayout

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


def estimated(
    video_set: VideoSet, form: SampleForm, layout: SampleLayout, num_samples: int
) -> Estimate:
    """Reads and encodes some samples, as `repack` would, for so many."""
    count = min(video_set.num_samples, _MOST_SAMPLES)
    samples = np.unique(np.linspace(0, video_set.num_samples - 1, count).astype(np.int64))
    encoders = [
        layout.encoder(form.shape_of(item), form.dtype_of(item)) for item in video_set.components
    ]
    begin, nbytes = time.perf_counter(), 0
    with contextlib.closing(read_once(video_set, samples, batch_size=1)) as batches:
        for batch in batches:
            for encode, values in zip(encoders, changed(video_set, form, batch), strict=True):
                if layout.encoding is not None:
                    nbytes += len(layout.encoding.encode(values[0]))
                else:
                    nbytes += len(encode(values)[0])
    factor = num_samples / len(samples)
    seconds = (time.perf_counter() - begin) * factor
    old = sum(os.path.getsize(path) for path in video_set.paths)
    return Estimate(old, round(nbytes * factor), seconds)
