"""Which frames of each sample are read, if not all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError
from h5video_data.samplers import sample_hash

POSITIONS = ("random", "center", "start")


@dataclass(frozen=True)
class Clip:
    """A run of frames of each sample; the other frames are not read.

        clip=Clip(16)                # 16 frames that follow each other, from a random frame on
        clip=Clip(8, stride=4, position="center")
        clip=Clip(13, axis=-1)       # of samples (rows, columns, frames)

    It holds for all datasets of x whose samples have more than one dimension. A random clip begins
    at any frame where it fits with the same probability; the choice depends on the seed, the epoch,
    the sample, and how often the sample came before in the epoch, and on nothing else. It is the
    same for all datasets of x.

    Args:
        num_frames: Frames of a clip.
        stride: Distance from one frame of the clip to the next, in frames of the sample.
        position: `"random"`, drawn anew each epoch; `"center"`; or `"start"`.
        axis: Which axis of a sample is frames: 0 is the first one, -1 the last one. None: the first
            one, unless the samples could be images. Of an axis that is not the first, whole samples
            are read, and the clips cut out of them.

    Raises:
        ArgumentError: An argument makes no sense.
    """

    num_frames: int
    stride: int = 1
    position: str = "random"
    axis: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("num_frames", self.num_frames), ("stride", self.stride)):
            is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not is_whole or value < 1:
                raise ArgumentError(
                    f"`{name}` must be a whole number, 1 or more. Received: {name}={value!r}"
                )
        if self.axis is not None and (
            not isinstance(self.axis, (int, np.integer)) or isinstance(self.axis, bool)
        ):
            raise ArgumentError(
                "`axis` must be the number of an axis of the samples, 0 for the first one, -1 for "
                f"the last one, or None. Received: axis={self.axis!r}"
            )
        if self.position not in POSITIONS:
            raise ArgumentError(
                f"`position` must be one of {', '.join(map(repr, POSITIONS))}. "
                f"Received: position={self.position!r}"
            )

    def of_samples(self, name: str, shape: tuple[int, ...]) -> Clip:
        """The same for samples of a dataset, with the number of their axis, 0 or more.

        Args:
            name: Name of the dataset.
            shape: The shape of its samples, of two dimensions or more.

        Raises:
            ArgumentError: They have no such axis, or nothing says which one is frames.
        """
        rank = len(shape)
        if self.axis is None:
            _check_frames_come_first(self, name, shape)
        elif not -rank <= self.axis < rank:
            raise ArgumentError(
                f"`axis` must be an axis of the samples of {name!r}, which have the shape {shape}: "
                f"from {-rank} to {rank - 1}. Received: clip={self!r}"
            )
        return replace(self, axis=(self.axis or 0) % rank)

    def frames(self, first: int) -> slice:
        """The frames of the clip that begins at frame `first`."""
        return slice(first, first + self.span, self.stride)

    def cut(self, sample: NDArray[Any], first: int) -> NDArray[Any]:
        """A view of the clip of a whole sample that begins at a frame; `axis` is 0 or more."""
        index = [slice(None)] * sample.ndim
        index[self.axis or 0] = self.frames(first)
        return sample[tuple(index)]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the clip of a sample of this shape; `axis` is 0 or more."""
        axis = self.axis or 0
        return (*shape[:axis], self.num_frames, *shape[axis + 1 :])

    @property
    def span(self) -> int:
        """Frames from the first one of a clip to its last, both counted."""
        return (self.num_frames - 1) * self.stride + 1

    def first_frames(
        self,
        num_frames_stored: int,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        earlier: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """The first frame of each sample's clip.

        Args:
            num_frames_stored: Frames of a sample, `span` or more.
            seed: The loader's seed.
            epoch: Number of the epoch.
            indices: int64 (n,), sample numbers.
            earlier: int64 (n,), how often each came before in the epoch; None: none did.

        Returns:
            int64 (n,).
        """
        last = num_frames_stored - self.span
        if self.position == "random":
            # Of 2^64 values; that the last ones make some frames likelier can be neglected.
            bits = sample_hash(seed, epoch, indices, earlier, purpose=0xC11B)
            drawn: NDArray[np.int64] = (bits % np.uint64(last + 1)).astype(np.int64)
            return drawn
        return np.full(len(indices), last // 2 if self.position == "center" else 0, np.int64)


# Channels of an image: grey, RGB, with alpha; and those of an optical flow.
_CHANNELS = {1, 3, 4}
_CHANNELS_OR_FLOW = {1, 2, 3, 4}


def _check_frames_come_first(clip: Clip, name: str, shape: tuple[int, ...]) -> None:
    """Raises an ArgumentError if the first axis of samples may be something other than frames."""
    could_be = None
    if len(shape) == 2:
        could_be = "(rows, columns)"
    elif len(shape) == 3 and shape[-1] in _CHANNELS:
        could_be = "(rows, columns, channels)"
    elif len(shape) == 3 and shape[0] == shape[1] != shape[2]:
        could_be = "(rows, columns, frames)"
    elif (
        len(shape) == 4
        and shape[0] in _CHANNELS_OR_FLOW
        and not {shape[1], shape[3]} & _CHANNELS_OR_FLOW
    ):
        could_be = "(channels, frames, rows, columns)"
    if could_be is not None:
        raise ArgumentError(
            f"`clip` needs to know which axis is frames: the samples of {name!r} have the shape "
            f"{shape}, which could be {could_be} as well. Say so, with 0 for the first axis of a "
            f"sample and -1 for the last one, such as Clip({clip.num_frames}, axis=0). If each "
            f"sample is one image, there are no frames to choose from. Received: clip={clip!r}"
        )
