"""`WindowIndex`: the anchors of all windows of all recordings of a set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .sample_index import Indices, SampleIndex
from .seeds import sample_hash


@dataclass(frozen=True, eq=False)
class Recordings:
    """The rows of recordings: arrays (recordings,)."""

    parts: Indices
    """The part that each is in."""
    first_rows: Indices
    """Its first row in that part."""
    lengths: Indices
    """Its rows."""

    def __len__(self) -> int:
        return len(self.parts)


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """The windows of recordings, as samples. `Windows.of_recordings` makes it."""

    recordings: Recordings
    anchors: SampleIndex
    """The anchor of each window: a sample of one row."""
    run_recordings: Indices
    """(runs,), the recording of each run of anchors; one that is too short has none."""
    hop: int
    """Distance from one anchor of a recording to the next, in rows."""
    choices: Indices | None = None
    """(runs,), among how many anchors that of each of a run's samples is drawn; None: it is not."""

    def recordings_of(self, samples: Indices) -> Indices:
        """Returns the recording of each sample, int64 (n,)."""
        runs, _, _ = self.anchors.anchors(samples)
        return self.run_recordings[runs]

    def rows_of(self, samples: Indices, offsets: Indices | None) -> SampleIndex:
        """Returns an index whose samples are single rows: all of the recordings of some windows.

        Args:
            samples: int64 (n,), numbers of windows.
            offsets: Those of the windows; None: the samples have no axis of frames.
        """
        used = np.unique(self.recordings_of(samples))
        return SampleIndex(
            run_parts=self.recordings.parts[used],
            run_rows=self.recordings.first_rows[used],
            run_stops=np.cumsum(self.recordings.lengths[used]),
            num_rows=self.anchors.num_rows,
            offsets=None if offsets is None else np.zeros(1, np.int64),
        )

    def skipped(self) -> Indices:
        """Returns the recordings that have no window, int64, ascending."""
        is_skipped = np.ones(len(self.recordings), np.bool_)
        is_skipped[self.run_recordings] = False
        return np.flatnonzero(is_skipped)

    def by_recording(self) -> SampleIndex:
        """Returns the index of values of recordings, whose rows are these, in one part."""
        return replace(
            self.anchors,
            run_parts=np.zeros_like(self.run_recordings),
            run_rows=self.run_recordings,
            num_rows=np.array([len(self.recordings)], np.int64),
            step=0,
            limits=None,
            is_shifted=False,
        )

    def shifts(
        self, seed: int, epoch: int, samples: Indices, earlier: Indices | None = None
    ) -> Indices | None:
        """Draws the anchors of samples for an epoch, each with the same probability.

        The arguments are those of `sample_hash`.

        Returns:
            int64 (n,), how far the anchor of each is from the run's first one, in rows; None: they
            are not drawn.
        """
        if self.choices is None:
            return None
        runs, _, _ = self.anchors.anchors(samples)
        bits = sample_hash(seed, epoch, samples, earlier, purpose=0x3170)
        drawn: Indices = (bits % self.choices[runs].astype(np.uint64)).astype(np.int64)
        return self.hop * drawn
