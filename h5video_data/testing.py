"""Small files with known values, to test training code without real video.

path = h5v.testing.write_video_file("tiny.h5", num_samples=20)
x = h5v.testing.sample_values(7)  # sample 7 of that file
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
    """Returns the values of samples in a file that `write_video_file` wrote.

    The values are from 0 to 126, so any numeric dtype represents them exactly. Adjacent samples,
    and adjacent values of a sample, differ.

    Args:
        index: Number of a sample, or numbers of samples, (n,).
        shape: Shape of one sample.
        dtype: Dtype of the values.

    Returns:
        The sample, of shape `shape`, or the samples, (n, *shape).
    """
    indices = np.asarray(index, np.int64)
    offsets = np.arange(np.prod(shape, dtype=np.int64))
    values = (indices[..., np.newaxis] * 59 + offsets * 7 + offsets // 101) % 127
    return values.reshape(*indices.shape, *shape).astype(dtype)


def labels(index: ArrayLike, num_classes: int) -> NDArray[np.float32]:
    """Returns one-hot labels: sample i is of class i modulo `num_classes`.

    Args:
        index: Numbers of samples, (n,).
        num_classes: Number of classes.

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
    """Writes a small file with samples `X`, one-hot labels `Y` and the attribute `sample_count`.

    Args:
        path: Path of the file, which is overwritten if it exists.
        num_samples: Number of samples.
        sample_shape: Shape of one sample: (frames, channels, rows, columns).
        num_classes: Number of classes.
        dtype: Stored dtype of `X`.
        first: Number of the file's first sample, for a set of several files.
        **options: Storage of `X`, passed on to `h5py`'s `create_dataset`: `chunks`, `compression`,
            `shuffle`, ...

    Returns:
        The path.
    """
    indices = np.arange(first, first + num_samples)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "X", data=sample_values(indices, sample_shape, dtype), dtype=dtype, **options
        )
        file.create_dataset("Y", data=labels(indices, num_classes))
        file.attrs["sample_count"] = num_samples
    return os.fspath(path)
