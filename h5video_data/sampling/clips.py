"""`Clip`: which frames of each sample are read, if not all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number, is_whole_number
from h5video_data.errors import ArgumentError

from .seeds import sample_hash
from .split_indices import check_not_masked

Position = Literal["random", "center", "start"]


@dataclass(frozen=True, eq=False)
class Clip:
    """Equally spaced frames of each sample; the other frames are not read.

        clip=Clip(16)                # 16 consecutive frames, from a random one on
        clip=Clip(8, stride=4, position="center")
        clip=Clip(13, axis=-1)       # of samples (rows, columns, frames)
        clip=Clip(8, lengths="n_frames")  # of videos that are padded to the longest one

    It applies to all datasets of x whose samples have more than one dimension, with the same frames
    of each: if one of them is shorter (15 frames of flow beside 16 of RGB), clips are those that
    fit into the shortest one. A random clip begins at every frame where it fits with the same
    probability. The choice depends on the seed, the epoch, the sample and its length, and how often
    the sample came before in the epoch, and on nothing else.

    Args:
        num_frames: Number of frames of a clip.
        stride: Distance between consecutive frames of the clip, in frames of the sample.
        position: `"random"`, drawn anew each epoch; `"center"`; or `"start"`.
        axis: Axis of a sample that holds the frames: 0 is the first one, -1 the last one. None: the
            first one, unless the samples could be images. If it is not the first one, whole samples
            are read, and the clips are cut out of them.
        lengths: How many of each sample's first frames are video, if the rest is padding: clips are
            drawn from these alone. Name of a dataset of whole numbers, (samples,), or an array
            (samples,) of the whole set; from 1 to the frames that are stored, of the shortest
            dataset of x. None: all frames are video. A sample in use that is shorter than the clip
            is an error; others of the set may be.
        y: Which datasets and arrays of y get the same frames. None: those whose samples have three
            axes or more, and as many frames along `axis` as x, such as a mask for each frame. True:
            all that have as many frames, such as a class number for each, (samples, frames). False:
            none. (samples, n) is never clipped without True: it could be one-hot.

    Raises:
        ArgumentError: An argument is invalid.
    """

    num_frames: int
    stride: int = 1
    position: Position = "random"
    axis: int | None = None
    lengths: str | Sequence[int] | NDArray[Any] | None = field(default=None, kw_only=True)
    y: bool | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_whole_number("num_frames", self.num_frames, 1)
        check_whole_number("stride", self.stride, 1)
        check_choice("position", self.position, *get_args(Position))
        if self.axis is not None and not is_whole_number(self.axis):
            raise ArgumentError(
                "`axis` must be the number of an axis of the samples, 0 for the first one, -1 for "
                f"the last one, or None. Received: axis={self.axis!r}"
            )
        if self.y is not None and not isinstance(self.y, bool):
            raise ArgumentError(
                "`y` must be None, True or False: whether y has a value for each frame. "
                f"Received: y={self.y!r}"
            )
        if self.lengths is not None and not isinstance(self.lengths, str):
            object.__setattr__(self, "lengths", _as_lengths(self.lengths))

    def _values(self) -> tuple[Any, ...]:
        lengths = self.lengths
        values = (*lengths.tolist(),) if isinstance(lengths, np.ndarray) else lengths
        return self.num_frames, self.stride, self.position, self.axis, values, self.y

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Clip) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def of_samples(self, name: str, shape: tuple[int, ...]) -> Clip:
        """Returns the clip of a dataset's samples: `axis` from 0, without `lengths` and `y`."""
        rank = len(shape)
        if self.axis is None:
            self._check_frames_come_first(name, shape)
        elif not -rank <= self.axis < rank:
            raise ArgumentError(
                f"`axis` must be an axis of the samples of {name!r}, which have the shape {shape}: "
                f"from {-rank} to {rank - 1}. Received: clip={self!r}"
            )
        return self.along((self.axis or 0) % rank)

    def along(self, axis: int) -> Clip:
        """Returns the clip alone, along an axis, without `lengths` and `y`."""
        return Clip(self.num_frames, self.stride, self.position, axis)

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
        num_frames_stored: int | NDArray[np.int64],
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        earlier: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Returns the first frame of each sample's clip, int64 (n,).

        The arguments are those of `sample_hash`, and the number of frames of a sample, or of each.
        """
        last = np.asarray(num_frames_stored, np.int64) - self.span
        if self.position == "random":
            # The modulo of a 64-bit number favours some frames by a negligible amount.
            bits = sample_hash(seed, epoch, indices, earlier, purpose=0xC11B)
            drawn: NDArray[np.int64] = (bits % (last + 1).astype(np.uint64)).astype(np.int64)
            return drawn
        first = last // 2 if self.position == "center" else 0
        return np.full(len(indices), first, np.int64)

    def _check_frames_come_first(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises an ArgumentError if the first axis of samples may be other than frames."""
        could_be = other_reading(shape)
        if could_be is not None:
            raise ArgumentError(
                f"`clip` must say which axis holds the frames: the samples of {name!r} have the "
                f"shape {shape}, which could also be {could_be}. Pass `axis`, 0 for the first axis "
                "of a sample and -1 for the last one, such as "
                f"Clip({self.num_frames}, axis=0). If each row is one image, a frame of a "
                f"recording, pass windows={self.num_frames} instead of `clip`, for samples of "
                f"{self.num_frames} rows that follow each other. Received: clip={self!r}"
            )


# Channels of an image: grey, RGB, RGBA; and those of optical flow.
_CHANNELS = {1, 3, 4}
_CHANNELS_OR_FLOW = {1, 2, 3, 4}


def other_reading(shape: tuple[int, ...]) -> str | None:
    """Returns what else samples of a shape could be than frames along the first axis, if any."""
    if len(shape) == 2:
        return "(rows, columns)"
    if len(shape) == 3 and shape[-1] in _CHANNELS:
        return "(rows, columns, channels)"
    if len(shape) == 3 and shape[0] == shape[1] != shape[2]:
        return "(rows, columns, frames)"
    if (
        len(shape) == 4
        and shape[0] in _CHANNELS_OR_FLOW
        and not {shape[1], shape[3]} & _CHANNELS_OR_FLOW
    ):
        return "(channels, frames, rows, columns)"
    return None


def _as_lengths(lengths: Any) -> NDArray[Any]:
    """Returns the argument `lengths` as an array that nobody changes."""
    try:
        values = np.array(lengths)
    except ValueError as error:
        raise ArgumentError(f"`lengths` must be an array (samples,): {error}") from error
    check_not_masked("`lengths`", lengths)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # as MATLAB writes them
    if values.ndim != 1 or values.dtype.kind not in "uif":
        raise ArgumentError(
            "`lengths` must be the name of a dataset, or an array (samples,) of whole numbers. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    values.flags.writeable = False
    return values
