"""`Clip`: which frames of each sample are read, if not all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number, is_whole_number
from h5video_data.errors import ArgumentError

from .seeds import sample_hash

Position = Literal["random", "center", "start"]


@dataclass(frozen=True)
class Clip:
    """Equally spaced frames of each sample; the other frames are not read.

        clip=Clip(16)                # 16 consecutive frames, from a random one on
        clip=Clip(8, stride=4, position="center")
        clip=Clip(13, axis=-1)       # of samples (rows, columns, frames)

    It applies to all datasets of x whose samples have more than one dimension, with the same frames
    of each. A random clip begins at every frame where it fits with the same probability. The choice
    depends on the seed, the epoch, the sample, and how often the sample came before in the epoch,
    and on nothing else.

    Args:
        num_frames: Number of frames of a clip.
        stride: Distance between consecutive frames of the clip, in frames of the sample.
        position: `"random"`, drawn anew each epoch; `"center"`; or `"start"`.
        axis: Axis of a sample that holds the frames: 0 is the first one, -1 the last one. None: the
            first one, unless the samples could be images. If it is not the first one, whole samples
            are read, and the clips are cut out of them.

    Raises:
        ArgumentError: An argument is invalid.
    """

    num_frames: int
    stride: int = 1
    position: Position = "random"
    axis: int | None = None

    def __post_init__(self) -> None:
        check_whole_number("num_frames", self.num_frames, 1)
        check_whole_number("stride", self.stride, 1)
        check_choice("position", self.position, *get_args(Position))
        if self.axis is not None and not is_whole_number(self.axis):
            raise ArgumentError(
                "`axis` must be the number of an axis of the samples, 0 for the first one, -1 for "
                f"the last one, or None. Received: axis={self.axis!r}"
            )

    def of_samples(self, name: str, shape: tuple[int, ...]) -> Clip:
        """Returns the clip of a dataset's samples, with `axis` as a number from 0."""
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
        """Returns the frames of the clip that begins at a frame, as a slice."""
        return slice(first, first + self.span, self.stride)

    def cut(self, sample: NDArray[Any], first: int) -> NDArray[Any]:
        """Returns a view of a sample: the clip from frame `first` on; `axis` is 0 or more."""
        index = [slice(None)] * sample.ndim
        index[self.axis or 0] = self.frames(first)
        return sample[tuple(index)]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the clip of a sample of a shape; `axis` is 0 or more."""
        axis = self.axis or 0
        return (*shape[:axis], self.num_frames, *shape[axis + 1 :])

    @property
    def span(self) -> int:
        """Number of frames from the first one of a clip to its last, both included."""
        return (self.num_frames - 1) * self.stride + 1

    def first_frames(
        self,
        num_frames_stored: int,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        earlier: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Returns the first frame of each sample's clip, int64 (n,).

        The arguments are those of `sample_hash`, and the number of frames of a sample.
        """
        last = num_frames_stored - self.span
        if self.position == "random":
            # The modulo of a 64-bit number favours some frames by a negligible amount.
            bits = sample_hash(seed, epoch, indices, earlier, purpose=0xC11B)
            drawn: NDArray[np.int64] = (bits % np.uint64(last + 1)).astype(np.int64)
            return drawn
        return np.full(len(indices), last // 2 if self.position == "center" else 0, np.int64)


# Channels of an image: grey, RGB, RGBA; and those of optical flow.
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
            f"`clip` must say which axis holds the frames: the samples of {name!r} have the shape "
            f"{shape}, which could also be {could_be}. Pass `axis`, 0 for the first axis of a "
            f"sample and -1 for the last one, such as Clip({clip.num_frames}, axis=0). If each "
            f"sample is one image, it has no frames: leave `clip` out. Received: clip={clip!r}"
        )
