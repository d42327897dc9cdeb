"""Single samples by h5py, as map-style loaders ask for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.files import open_file

from . import Job


class Samples:
    """A sequence of (sample, label). Another process that it is sent to opens the file anew.

    Labels are kept in memory: by h5py, one takes nearly as long as a sample.
    """

    def __init__(self, job: Job) -> None:
        """Remembers what to read; the file is opened by whoever reads first."""
        self._path = job.path
        self._labels = job.labels()
        (shape, self._dtype), _ = job.array_specs()
        self._shape = shape[1:]
        self._file: Any = None

    def __len__(self) -> int:
        """How many samples take part."""
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """A sample and its label."""
        if self._file is None:
            self._file = open_file(self._path)
        clip = np.empty(self._shape, self._dtype)
        self._file["X"].read_direct(clip, np.s_[index])
        return clip, self._labels[index]

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process."""
        return {**self.__dict__, "_file": None}

    def close(self) -> None:
        """Closes the file, if this process has opened it."""
        if self._file is not None:
            self._file.close()
            self._file = None
