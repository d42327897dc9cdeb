"""Mean and standard deviation of each channel, over a split. Without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, ReadError
from h5video_data.loader import VideoLoader
from h5video_data.reading.one_pass import read_once
from h5video_data.video_set import Component

from .selection import as_names, axes_of, find_places

# Samples are read in batches of about this many bytes, and of no more samples than this.
BATCH_BYTES = 8 << 20
MAX_BATCH_SIZE = 64


class ChannelStatistics(NamedTuple):
    """What `channel_statistics` found, float64 (channels,), in the units of the stored values."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """Of all the values (divided by their number, not by one less)."""


def channel_statistics(
    loader: VideoLoader,
    *,
    data_format: str | None = None,
    key: str | None = None,
    nan_policy: str = "raise",
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
        data_format: The order that the clips are stored in: `"channels_first"`, the default,
            (samples, frames, channels, rows, columns), or `"channels_last"`.
        key: Which value of the element, if not x itself: a name of x's dict or of y's, or "y".
        nan_policy: What to do with values that are not finite (NaN, infinite): `"raise"`, or
            `"omit"`: leave them out, as SciPy calls it.
        progress: True: shows on stderr how far it is. Or a function, which is called with the
            number of samples that are done and of all.

    Returns:
        `mean` and `std`, as `normalize` takes them.

    Raises:
        ArgumentError: An argument makes no sense, or the samples have no channels, or others than
            `data_format` says.
        ReadError: A sample cannot be read, or holds values that are not finite, or a file has
            changed.
    """
    if nan_policy not in ("raise", "omit"):
        raise ArgumentError(f'`nan_policy` must be "raise" or "omit". Received: {nan_policy!r}')
    axes = axes_of(data_format)
    column = replace(_clips_of(loader, key), clip=None)
    axes.check((None, *column.sample_shape))
    letters = "fyxc" if data_format == "channels_last" else "fcyx"
    report = _show if progress is True else progress
    is_small = column.dtype.kind in "iub" and column.dtype.itemsize <= 2
    sums: _Sums = _ExactSums(letters) if is_small else _MergedSums(letters)
    clips_alone = replace(loader._set, components=(column,), element=(0,))
    batches = read_once(
        clips_alone,
        loader.sample_indices,
        batch_size=min(max(1, BATCH_BYTES // column.sample_nbytes), MAX_BATCH_SIZE),
        num_threads=loader._num_threads,
    )
    done = 0
    with closing(batches):
        for indices, (clips,) in batches:
            for sample, clip in zip(indices, clips, strict=True):
                if not sums.add(clip) and nan_policy == "raise":
                    raise _not_finite(column, int(sample))
            done += len(indices)
            if report:
                report(done, loader.num_samples)
    return sums.result()


class _Sums(Protocol):
    """Collects the values of clips, channel by channel."""

    def add(self, clip: NDArray[Any]) -> bool:
        """Adds a clip's finite values, and tells whether there were no others."""
        ...

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

    def add(self, clip: NDArray[Any]) -> bool:
        axes = self._axes
        # A sum of squares of 16 bits overflows 64 bits beyond 2**31 values.
        sums = np.einsum(f"{axes}->c", clip, dtype=np.int64)
        squares = np.einsum(f"{axes},{axes}->c", clip, clip, dtype=np.int64)
        self._count += clip.size // len(sums)
        self._sums = self._sums + sums.astype(object)
        self._squares = self._squares + squares.astype(object)
        return True

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
        self._count: Any = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    @np.errstate(invalid="ignore", over="ignore")  # `result` sees what has overflowed
    def add(self, clip: NDArray[Any]) -> bool:
        channel = self._axes.index("c")
        values = np.moveaxis(clip, channel, 0).reshape(clip.shape[channel], -1).astype(np.float64)
        count: Any = values.shape[1]
        # A sum that is finite has no other terms; they are looked for only where it is not.
        is_finite = True
        mean = values.mean(axis=1)
        if not np.isfinite(mean).all():
            finite = np.isfinite(values)
            is_finite = bool(finite.all())
            count = finite.sum(axis=1)
            mean = values.sum(axis=1, where=finite) / np.maximum(count, 1)
            values = np.where(finite, values, mean[:, np.newaxis])
        values -= mean[:, np.newaxis]
        squares = np.einsum("cn,cn->c", values, values)
        total = self._count + count
        step = mean - self._mean
        self._mean = self._mean + step * (count / np.maximum(total, 1))
        self._squares = (
            self._squares + squares + step**2 * (self._count * count / np.maximum(total, 1))
        )
        self._count = total
        return is_finite

    def result(self) -> ChannelStatistics:
        if not np.all(self._count):
            raise ReadError("A channel has no finite value in any of the samples of the split.")
        std = np.sqrt(self._squares / self._count)
        if not np.isfinite(std).all():
            raise ReadError("The values are too large: the squares of some exceed float64.")
        return ChannelStatistics(self._mean, std)


def _clips_of(loader: VideoLoader, key: str | None) -> Component:
    """The column of the clips."""
    names = as_names(key)
    if len(names) > 1:
        raise ArgumentError(
            f"The statistics are of one dataset: `key` must be a name. Received: key={key!r}"
        )
    element = loader._set.element
    (place,) = find_places(element, names)
    column: Component = loader._set.components[place.get(element)]
    if len(column.sample_shape) != 4:
        raise ArgumentError(
            "The samples should be clips of 4 dimensions, (frames, channels, rows, columns) or "
            f"channels last. Received: {column.name!r}, samples of shape {column.sample_shape}"
        )
    return column


def _not_finite(column: Component, sample: int) -> ReadError:
    """The error for a sample that holds NaN or infinite values."""
    (part,), (row,) = column.index.rows(np.array([sample]))
    stored = column.parts[part]
    return ReadError(
        f"{stored.path}: dataset {column.name!r}, sample {row}: it holds values that are "
        'not finite (NaN, infinite). Pass nan_policy="omit" to leave such values out, or do '
        f"without the sample. It is number {sample} of the set, the first such one of the split."
    )


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done} of {total} samples ({done / total:.0%})", end=end, file=sys.stderr, flush=True)
