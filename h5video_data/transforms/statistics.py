"""Mean and standard deviation of each channel over a split. Does not import TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice
from h5video_data.errors import ArgumentError, ReadError
from h5video_data.loader import VideoLoader
from h5video_data.reading.one_pass import read_once
from h5video_data.video_set import Component

from .selection import DataFormat, as_names, axes_of, find_places

# Samples are read in batches of about this many bytes, and of no more samples than this.
BATCH_BYTES = 8 << 20
MAX_BATCH_SIZE = 64


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of each channel, float64 (channels,), in stored units."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """Standard deviation with ddof=0, as `numpy.std` computes it."""


def channel_statistics(
    loader: VideoLoader,
    *,
    data_format: DataFormat | None = None,
    key: str | None = None,
    nan_policy: Literal["raise", "omit"] = "raise",
    progress: bool | Callable[[int, int], object] = False,
) -> ChannelStatistics:
    """Computes the mean and the standard deviation of each channel, in one pass over a split.

        loader = h5v.VideoLoader(path, validation_split=0.3, subset="training", seed=0)
        mean, std = h5v.channel_statistics(loader, progress=True)

    Every sample of `loader.sample_indices` counts once, whole and as it is stored: without clips
    and map functions, whatever the loader's batch size, order and sampler are; but if a clip has
    `lengths`, padding does not count. The samples are read in the order of the file by additional
    threads; the loader's epochs are not affected. It needs as much memory as a loader, and one
    sample.

    Where samples are windows of recordings, the rows of the recordings that they are of count once
    each, also rows that no window has, and no padding.

    Integers of 8 and 16 bits are summed exactly. Other dtypes are summed in float64, sample by
    sample, and merged by a method that is accurate if the mean is large compared with the deviation
    (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979).

    Args:
        loader: Loader of the samples.
        data_format: Order of the axes in the file: `"channels_first"`, the default,
            (samples, frames, channels, rows, columns), or `"channels_last"`. Images have no axis of
            frames, (samples, channels, rows, columns) or channels last.
        key: Name of the value that is clips, if not x itself: a name of x's dict or of y's, or "y".
        nan_policy: `"raise"`: values that are not finite (NaN, infinite) are an error. `"omit"`:
            they are left out. Named as in SciPy.
        progress: True: show the progress on stderr. Or a function, which is called with the number
            of samples that are done and the total.

    Returns:
        `mean` and `std`, as `normalize` takes them.

    Raises:
        ArgumentError: An argument is invalid, the samples have no channels, or their axes are not
            in the order of `data_format`.
        ReadError: A sample cannot be read, holds values that are not finite, or a file has changed.
    """
    check_choice("nan_policy", nan_policy, "raise", "omit")
    axes = axes_of(data_format)
    given = _clips_of(loader, key)
    lengths = None if given.clip is None else loader._set.clip_lengths
    component = replace(given, clip=None)
    numbers = np.sort(loader.sample_indices)
    if loader._set.windows is not None:
        # Windows overlap: their rows count once each, those of windows that are drawn anew as well.
        index = loader._set.windows.index.rows_of(numbers, component.index.offsets)
        component = replace(component, index=index)
        numbers = np.arange(index.num_samples)
    shape = (None, *component.sample_shape)
    letters = "fyxc" if data_format == "channels_last" else "fcyx"
    if len(shape) == 4:
        axes.check_images(shape)
        letters = letters.replace("f", "")
    axes.check(shape)
    report = _show if progress is True else progress
    is_small = component.dtype.kind in "iub" and component.dtype.itemsize <= 2
    sums = _ExactSums(letters) if is_small else _MergedSums(letters)
    clips_alone = replace(loader._set, components=(component,), element=(0,))
    batches = read_once(
        clips_alone,
        numbers,
        batch_size=min(max(1, BATCH_BYTES // component.sample_nbytes), MAX_BATCH_SIZE),
        num_threads=loader._num_threads,
    )
    done = 0
    with closing(batches):
        for indices, (clips,) in batches:
            for sample, clip in zip(indices, clips, strict=True):
                if given.clip is not None and lengths is not None:
                    (length,) = lengths.of_samples(np.array([sample]))
                    clip = replace(given.clip, num_frames=int(length), stride=1).cut(clip, 0)
                if not sums.add(clip) and nan_policy == "raise":
                    raise _not_finite(
                        component, int(sample), is_row=loader._set.windows is not None
                    )
            done += len(indices)
            if report:
                report(done, len(numbers))
    return sums.result()


class _ExactSums:
    """Sums of integers and of their squares, exact in Python integers."""

    # `axes` has a letter for each axis of a clip, as for `numpy.einsum`; c for the channels.
    def __init__(self, axes: str) -> None:
        self._axes = axes
        self._count = 0
        self._sums: Any = 0
        self._squares: Any = 0

    def add(self, clip: NDArray[Any]) -> bool:
        """Adds the values of a clip; returns True, since all integers are finite."""
        axes = self._axes
        # In 64 bits, squares of 16-bit values overflow beyond 2**31 values of a channel.
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
    """Mean of floats, and sum of their squared distances to it."""

    def __init__(self, axes: str) -> None:
        self._axes = axes
        self._count: Any = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    @np.errstate(invalid="ignore", over="ignore")  # `result` checks for overflow
    def add(self, clip: NDArray[Any]) -> bool:
        """Adds the finite values of a clip; returns whether all of its values are finite."""
        channel = self._axes.index("c")
        values = np.moveaxis(clip, channel, 0).reshape(clip.shape[channel], -1).astype(np.float64)
        count: Any = values.shape[1]
        # If the sums are finite, so are all values.
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
    """Returns the component that `key` names."""
    names = as_names(key)
    if len(names) > 1:
        raise ArgumentError(
            f"`key` must be one name: statistics are of one dataset. Received: key={key!r}"
        )
    element = loader._set.element
    (place,) = find_places(element, names)
    component: Component = loader._set.components[place.get(element)]
    if len(component.sample_shape) not in (3, 4):
        raise ArgumentError(
            "Samples must be clips of 4 dimensions, (frames, channels, rows, columns) or channels "
            "last, or images of 3. "
            f"Received: {component.name!r}, samples of shape {component.sample_shape}"
        )
    return component


def _not_finite(component: Component, sample: int, *, is_row: bool) -> ReadError:
    """Returns the error for a sample, or a row of a recording, with NaN or infinite values."""
    (part,), (row,) = component.index.rows(np.array([sample]))
    stored = component.parts[part]
    if is_row:
        what, name = "row", stored.name
        where = "It is the first such row of the recordings of the split."
    else:
        what, name = "sample", component.name
        where = f"It is number {sample} of the set, the first such sample of the split."
    return ReadError(
        f"{stored.path}: dataset {name!r}, {what} {row}: it holds values that are "
        'not finite (NaN, infinite). Pass nan_policy="omit" to leave such values out, or remove '
        f"the {what}. {where}"
    )


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done} of {total} samples ({done / total:.0%})", end=end, file=sys.stderr, flush=True)
