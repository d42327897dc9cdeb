"""How many frames of each sample are video, if the others are padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError

from .clips import Clip

# So many samples are listed in a message.
_MOST_LISTED = 5


@dataclass(frozen=True, eq=False)
class ClipLengths:
    """The lengths that clips are drawn from, as they were given: `check` before `of_samples`."""

    values: NDArray[Any]
    """(samples,), for every sample of the set, whether it is in use or not."""
    source: str
    """The argument `lengths`, for messages."""
    clip: Clip
    num_frames: int
    """Frames of a sample as it is stored; of the shortest dataset of x."""

    def check(self, samples: NDArray[np.int64]) -> None:
        """Checks the lengths of the samples in use.

        Args:
            samples: int64 (n,), their numbers.

        Raises:
            ArgumentError: One is no length, or shorter than the clip.
        """
        lengths = self.values[samples]
        # Written so that NaN is none.
        is_length = (lengths >= 1) & (lengths <= self.num_frames) & (lengths == np.floor(lengths))
        if not is_length.all():
            raise ArgumentError(
                f"`lengths` must be whole numbers from 1 to {self.num_frames}, the frames that are "
                f"stored. Received: {self.source} with {_listed(samples, lengths, ~is_length)}"
            )
        is_short = lengths < self.clip.span
        if is_short.any():
            raise ArgumentError(
                f"`clip` must fit into the samples: it takes {self.clip.span} frames, and "
                f"{is_short.sum()} of {len(samples)} samples have fewer. Read fewer frames, or "
                f"leave these samples out: indices=np.flatnonzero(lengths >= {self.clip.span}). "
                f"Received: {self.source} with {_listed(samples, lengths, is_short)}"
            )

    def of_samples(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the lengths of samples that were checked, int64 (n,)."""
        return self.values[samples].astype(np.int64)

    @property
    def has_effect(self) -> bool:
        """Whether clips are others than without lengths."""
        return self.clip.position != "start" and bool((self.values != self.num_frames).any())


def check_lengths(values: NDArray[Any], num_samples: int, source: str) -> None:
    """Checks that an array or a dataset may be lengths.

    Args:
        values: (samples,).
        num_samples: Samples of the set.
        source: The argument, for messages.

    Raises:
        ArgumentError: It is not.
    """
    if values.shape != (num_samples,) or values.dtype.kind not in "uif":
        raise ArgumentError(
            f"`lengths` must be a whole number for each of the {num_samples} samples of the files. "
            f"Received: {source}, {values.dtype} of shape {values.shape}"
        )


def _listed(samples: NDArray[np.int64], lengths: NDArray[Any], are_wrong: NDArray[np.bool_]) -> str:
    places = np.flatnonzero(are_wrong)
    first = ", ".join(f"{lengths[i]} for sample {samples[i]}" for i in places[:_MOST_LISTED])
    return first + (", ..." if len(places) > _MOST_LISTED else "")
