"""Mean and standard deviation of each channel, over a split. Without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .columns import Column
from .errors import ArgumentError
from .loader import VideoLoader


class ChannelStatistics(NamedTuple):
    """What `channel_statistics` found, float64 (channels,), in the units of the stored values."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """Of all the values (divided by their number, not by one less)."""


def channel_statistics(
    loader: VideoLoader,
    *,
    data_format: str = "channels_first",
    key: str | None = None,
    progress: bool | Callable[[int, int], object] = False,
) -> ChannelStatistics:
    """Finds the mean and the standard deviation of each channel, in one pass over a split.

        loader = h5v.VideoLoader(path, validation_split=0.3, subset="training", seed=0)
        mean, std = h5v.transforms.channel_statistics(loader, progress=True)

    Every sample of `loader.sample_indices` counts once, whatever the loader's batch size, order and
    sampler are, as it is stored: whole, and before map functions. The samples are read in the order
    of the file by threads of their own; the loader's epochs go on as if nothing had happened.
    Memory: that of a loader, and one sample.

    Integers of 8 and 16 bits are summed exactly; other dtypes are summed in float64, sample by
    sample, and the sums merged so that nothing is lost if the mean is large against the deviation
    (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979).

    Args:
        loader: Says which samples of which files.
        data_format: The order that the clips are stored in: `"channels_first"`, (samples, frames,
            channels, rows, columns), or `"channels_last"`.
        key: Which value of x, if x is a dict.
        progress: True: shows on stderr how far it is. Or a function, which is called with the
            number of samples that are done and of all.

    Returns:
        `mean` and `std`, as `normalize` takes them.

    Raises:
        ArgumentError: An argument makes no sense, or the samples have no channels.
        ReadError: A sample cannot be read, or a file has changed.
    """
    axes = {"channels_first": "fcyx", "channels_last": "fyxc"}
    if data_format not in axes:
        raise ArgumentError(
            f'`data_format` must be "channels_first" or "channels_last". Received: {data_format!r}'
        )
    column = replace(_clips_of(loader, key), clip=None)
    report = _show if progress is True else progress
    is_small = column.dtype.kind in "iub" and column.dtype.itemsize <= 2
    sums: _Sums = _ExactSums(axes[data_format]) if is_small else _MergedSums(axes[data_format])
    clips_alone = replace(loader.video_set, columns=(column,), element=(0,))
    with VideoLoader(
        clips_alone,
        batch_size=None,
        shuffle=_InOrder(loader.sample_indices),
        num_threads=loader.num_threads,
    ) as reader:
        done = 0
        for _, indices, (clips,) in reader.batches():
            for clip in clips:
                sums.add(clip)
            done += len(indices)
            if report:
                report(done, loader.num_samples)
    return sums.result()


class _InOrder:
    """A sampler of given samples, each once."""

    def __init__(self, indices: NDArray[np.int64]) -> None:
        self.indices = indices

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        del epoch
        return self.indices


class _Sums(Protocol):
    """Collects the values of clips, channel by channel."""

    def add(self, clip: NDArray[Any]) -> None: ...

    def result(self) -> ChannelStatistics: ...


class _ExactSums:
    """Whole numbers: sums of values and of their squares, exact in Python's own integers.

    Args:
        axes: A letter for each axis of a clip, c for the channels.
    """

    def __init__(self, axes: str) -> None:
        self._axes = axes
        self._count = 0
        self._sums: Any = 0
        self._squares: Any = 0

    def add(self, clip: NDArray[Any]) -> None:
        axes = self._axes
        # A sum of squares of 16 bits overflows 64 bits beyond 2**31 values.
        sums = np.einsum(f"{axes}->c", clip, dtype=np.int64)
        squares = np.einsum(f"{axes},{axes}->c", clip, clip, dtype=np.int64)
        self._count += clip.size // len(sums)
        self._sums = self._sums + sums.astype(object)
        self._squares = self._squares + squares.astype(object)

    def result(self) -> ChannelStatistics:
        count = self._count
        spread = count * self._squares - self._sums**2
        variance = (spread / count**2).astype(np.float64)
        return ChannelStatistics((self._sums / count).astype(np.float64), np.sqrt(variance))


class _MergedSums:
    """Floats: the mean, and the sum of squared distances to it.

    Args:
        axes: A letter for each axis of a clip, c for the channels.
    """

    def __init__(self, axes: str) -> None:
        self._axes = axes
        self._count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, clip: NDArray[Any]) -> None:
        channel = self._axes.index("c")
        values = np.moveaxis(clip, channel, 0).reshape(clip.shape[channel], -1).astype(np.float64)
        count = values.shape[1]
        mean = values.mean(axis=1)
        values -= mean[:, np.newaxis]
        squares = np.einsum("cn,cn->c", values, values)
        total = self._count + count
        step = mean - self._mean
        self._mean = self._mean + step * (count / total)
        self._squares = self._squares + squares + step**2 * (self._count * count / total)
        self._count = total

    def result(self) -> ChannelStatistics:
        return ChannelStatistics(self._mean, np.sqrt(self._squares / self._count))


def _clips_of(loader: VideoLoader, key: str | None) -> Column:
    """The column of the clips."""
    x = loader.video_set.element[0]
    if isinstance(x, dict):
        if key not in x:
            raise ArgumentError(
                f"x is a dict: `key` must be one of {sorted(x)}, the clips. Received: key={key!r}"
            )
        x = x[key]
    column: Column = loader.video_set.columns[x]
    if len(column.sample_shape) != 4:
        raise ArgumentError(
            "The samples should be clips of 4 dimensions, (frames, channels, rows, columns) or "
            f"channels last. Received: {column.name!r}, samples of shape {column.sample_shape}"
        )
    return column


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done} of {total} samples ({done / total:.0%})", end=end, file=sys.stderr, flush=True)
