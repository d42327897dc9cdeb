"""Which frames of each sample are read, if not all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError
from .samplers import sample_hash

POSITIONS = ("random", "center", "start")


@dataclass(frozen=True)
class Clip:
    """A run of frames of each sample; the other frames are not read.

        clip=Clip(16)                # 16 frames that follow each other, from a random frame on
        clip=Clip(8, stride=4, position="center")

    It holds for all datasets of x whose samples have more than one dimension; frames are their
    first one. A random clip begins at any frame where it fits with the same probability; the choice
    depends on the seed, the epoch and the sample alone, so it comes again with them, and it is the
    same for all datasets of x.

    Args:
        num_frames: Frames of a clip.
        stride: Distance from one frame of the clip to the next, in frames of the sample.
        position: `"random"`, drawn anew each epoch; `"center"`; or `"start"`.

    Raises:
        ArgumentError: An argument makes no sense.
    """

    num_frames: int
    stride: int = 1
    position: str = "random"

    def __post_init__(self) -> None:
        for name, value in (("num_frames", self.num_frames), ("stride", self.stride)):
            is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not is_whole or value < 1:
                raise ArgumentError(
                    f"`{name}` must be a whole number, 1 or more. Received: {name}={value!r}"
                )
        if self.position not in POSITIONS:
            raise ArgumentError(
                f"`position` must be one of {', '.join(map(repr, POSITIONS))}. "
                f"Received: position={self.position!r}"
            )

    @property
    def span(self) -> int:
        """Frames from the first one of a clip to its last, both counted."""
        return (self.num_frames - 1) * self.stride + 1

    def first_frames(
        self, num_frames_stored: int, seed: int, epoch: int, indices: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The first frame of each sample's clip.

        Args:
            num_frames_stored: Frames of a sample, `span` or more.
            seed: The loader's seed.
            epoch: Number of the epoch.
            indices: int64 (n,), sample numbers.

        Returns:
            int64 (n,).
        """
        last = num_frames_stored - self.span
        if self.position == "random":
            # Of 2^64 values; that the last ones make some frames likelier can be neglected.
            bits = sample_hash(seed, epoch, indices, purpose=0xC11B)
            drawn: NDArray[np.int64] = (bits % np.uint64(last + 1)).astype(np.int64)
            return drawn
        return np.full(len(indices), last // 2 if self.position == "center" else 0, np.int64)
