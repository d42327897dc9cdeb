"""Files whose values say where they belong, for testing training code without real video.

path = h5v.testing.write_video_file("tiny.h5", num_samples=20)
x = h5v.testing.sample_values(7, (16, 3, 112, 112))     # what sample 7 must hold
"""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

SAMPLE_SHAPE = (4, 3, 8, 8)


def sample_values(
    index: ArrayLike, shape: tuple[int, ...] = SAMPLE_SHAPE, dtype: DTypeLike = np.uint8
) -> NDArray[Any]:
    """The values of samples of a file written by `write_video_file`.

    Neighbouring samples, and neighbouring values of a sample, differ; every dtype can hold them
    exactly.

    Args:
        index: The sample's number, or an array of numbers of shape (n,).
        shape: Shape of one sample.
        dtype: Dtype of the values.

    Returns:
        The sample, of that shape, or the samples, (n, *shape).
    """
    numbers = np.asarray(index, np.int64)
    place = np.arange(np.prod(shape, dtype=np.int64))
    values = (numbers[..., np.newaxis] * 59 + place * 7 + place // 101) % 127
    return values.reshape(*numbers.shape, *shape).astype(dtype)


def labels(index: ArrayLike, num_classes: int) -> NDArray[np.float32]:
    """One-hot labels of samples: sample i is of class i modulo `num_classes`.

    Args:
        index: Numbers of samples, (n,).
        num_classes: How many classes there are.

    Returns:
        float32 (n, num_classes).
    """
    one_hot: NDArray[np.float32] = np.eye(num_classes, dtype=np.float32)[
        np.asarray(index) % num_classes
    ]
    return one_hot


def write_video_file(
    path: str | os.PathLike[str],
    *,
    num_samples: int = 20,
    sample_shape: tuple[int, ...] = SAMPLE_SHAPE,
    num_classes: int = 4,
    dtype: DTypeLike = np.uint8,
    first: int = 0,
    **options: Any,
) -> str:
    """Writes a small file with `X`, one-hot `Y`, and the attribute `sample_count`.

    Args:
        path: The file to write; an existing one is replaced.
        num_samples: How many samples.
        sample_shape: Shape of one sample: (frames, channels, rows, columns).
        num_classes: How many classes.
        dtype: Stored dtype of `X`.
        first: The number of its first sample, for a set of several files.
        **options: How to store `X`: passed on to `h5py`'s `create_dataset` (chunks, compression,
            shuffle, ...).

    Returns:
        The path.
    """
    numbers = np.arange(first, first + num_samples)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "X", data=sample_values(numbers, sample_shape, dtype), dtype=dtype, **options
        )
        file.create_dataset("Y", data=labels(numbers, num_classes))
        file.attrs["sample_count"] = num_samples
    return os.fspath(path)
