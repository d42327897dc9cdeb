"""Cuts clips out of whole samples, where frames are not the first axis of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.sampling.clips import Clip
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.scratch import scratch

from .sample_sources import ReadStats, Rows, Source


class CutSource:
    """Reads whole samples, one by one, and hands their clips on. See `sources.Source`.

    The frames of such a clip lie all over the sample: what of it need not be read is mostly too
    little to be left out. A thread holds one sample at a time.

    Args:
        source: Reads the samples.
        stored: How they are stored.
        clip: Which frames of them; its axis is 1 or more.
    """

    def __init__(self, source: Source, stored: StoredArray, clip: Clip) -> None:
        self._source = source
        self._stored = stored
        self._clip = clip

    def read(
        self, rows: Rows, places: Rows, firsts: Rows | None, out: NDArray[Any], stats: ReadStats
    ) -> None:
        """Reads each sample, and copies its clip to its place."""
        dtype = self._stored.dtype
        block = scratch("sample", self._stored.row_nbytes)
        sample = block.view(dtype).reshape(1, *self._stored.shape[1:])
        begins = np.zeros_like(rows) if firsts is None else firsts
        for number, (place, first) in enumerate(zip(places, begins, strict=True)):
            row = rows[number : number + 1]
            self._source.read(row, np.zeros(1, np.int64), None, sample, stats)
            out[place] = self._clip.cut(sample[0], first)
