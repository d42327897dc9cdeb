"""Small files with known values, to test training code without real video.

path = h5v.testing.write_video_file("tiny.h5", num_samples=20)
x = h5v.testing.sample_values(7)  # sample 7 of that file

path = h5v.testing.write_recordings("flat.h5", [20, 5, 31])
x = h5v.testing.recording_values(2, range(4, 8))  # frames 4 to 7 of recording 2 of that file
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, get_args, overload

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .arguments import check_choice

SAMPLE_SHAPE = (4, 3, 8, 8)
FRAME_SHAPE = (8, 8, 3)

RecordingLayout = Literal["flat", "groups", "files"]


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


def recording_values(
    recordings: ArrayLike,
    rows: ArrayLike,
    shape: tuple[int, ...] = FRAME_SHAPE,
    dtype: DTypeLike = np.uint8,
) -> NDArray[Any]:
    """Returns the values of frames in files that `write_recordings` wrote.

    The values are from 0 to 126, so any numeric dtype represents them exactly. Of 127 recordings
    with 16,129 rows each, no two frames are alike, if a frame has three values or more.

    Args:
        recordings: Number of a recording, or numbers of recordings.
        rows: Row of a frame in its recording, or rows. Both are broadcast, as NumPy does: one
            recording and several rows will do.
        shape: Shape of one frame, or of what else a row has: (4,) for the default `action`.
        dtype: Dtype of the values.

    Returns:
        The frames, (*broadcast shape, *shape).
    """
    recordings, rows = np.broadcast_arrays(
        np.asarray(recordings, np.int64)[..., np.newaxis],
        np.asarray(rows, np.int64)[..., np.newaxis],
    )
    offsets = np.arange(np.prod(shape, dtype=np.int64))
    # Modulo 127, the first three values alone determine recording, row and row // 127.
    values = rows * 59 + recordings * (31 + 2 * (offsets % 2)) + rows // 127 * (offsets % 3)
    values = (values + offsets * 7 + offsets // 101) % 127
    return values.reshape(*rows.shape[:-1], *shape).astype(dtype)


@overload
def write_recordings(
    path: str | os.PathLike[str],
    lengths: Sequence[int] = ...,
    *,
    layout: Literal["files"],
    frame_shape: tuple[int, ...] = ...,
    action_shape: tuple[int, ...] = ...,
    dtype: DTypeLike = ...,
    **options: Any,
) -> list[str]: ...


@overload
def write_recordings(
    path: str | os.PathLike[str],
    lengths: Sequence[int] = ...,
    *,
    layout: Literal["flat", "groups"] = ...,
    frame_shape: tuple[int, ...] = ...,
    action_shape: tuple[int, ...] = ...,
    dtype: DTypeLike = ...,
    **options: Any,
) -> str: ...


def write_recordings(
    path: str | os.PathLike[str],
    lengths: Sequence[int] = (20, 5, 31, 8, 12, 9, 40, 16, 7, 25, 11, 18),
    *,
    layout: RecordingLayout = "flat",
    frame_shape: tuple[int, ...] = FRAME_SHAPE,
    action_shape: tuple[int, ...] = (4,),
    dtype: DTypeLike = np.uint8,
    **options: Any,
) -> str | list[str]:
    """Writes small recordings, whose rows are frames, as robot learning keeps them.

    The frames are those of `recording_values`, and so are the actions: `recording_values(i, rows,
    action_shape, np.float32)`.

    Args:
        path: Path of the file, which is overwritten if it exists. For `layout="files"`, path of the
            folder, which is made if there is none.
        lengths: Rows of each recording.
        layout: `"flat"`: recordings end to end, `pixels` and `action`, float32, beside `ep_len`,
            int32, and `ep_offset`, int64, their lengths and first rows. `"groups"`: a group each,
            `data/demo_<i>/obs/agentview_rgb` and `data/demo_<i>/actions`, with the attribute
            `num_samples`. `"files"`: a file each, `episode_<i>.hdf5`, with
            `observations/images/top`, `observations/qpos`, which is `action`, and `action`.
        frame_shape: Shape of one frame.
        action_shape: Shape of one row of the actions.
        dtype: Stored dtype of the frames.
        **options: Storage of the frames, passed on to `h5py`'s `create_dataset`: `chunks`,
            `compression`, ... Chunks are cut to the rows that there are; a dataset without rows
            is stored without any options.

    Returns:
        The path; for `layout="files"`, the path of each file, in the order of `lengths`.
    """
    check_choice("layout", layout, *get_args(RecordingLayout))
    num_rows = np.asarray(lengths, np.int64).reshape(-1)

    def write(group: Any, name: str, recordings: NDArray[Any], rows: NDArray[Any]) -> None:
        frames = recording_values(recordings, rows, frame_shape, dtype)
        stored = dict(options) if len(rows) else {}
        if isinstance(stored.get("chunks"), tuple):
            stored["chunks"] = (min(stored["chunks"][0], len(rows)), *stored["chunks"][1:])
        group.create_dataset(name, data=frames, dtype=dtype, **stored)

    def actions(recordings: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
        return recording_values(recordings, rows, action_shape, np.float32)

    # The recording of each row, and the row's number in it.
    numbered = [(np.full(count, i), np.arange(count)) for i, count in enumerate(num_rows)]
    if layout == "files":
        os.makedirs(path, exist_ok=True)
        paths = [os.path.join(os.fspath(path), f"episode_{i}.hdf5") for i in range(len(num_rows))]
        for name, (recordings, rows) in zip(paths, numbered, strict=True):
            with h5py.File(name, "w") as file:
                write(file, "observations/images/top", recordings, rows)
                file["observations/qpos"] = file["action"] = actions(recordings, rows)
                file.attrs["sim"] = True
        return paths
    with h5py.File(path, "w") as file:
        if layout == "groups":
            for i, (recordings, rows) in enumerate(numbered):
                group = file.create_group(f"data/demo_{i}")
                write(group, "obs/agentview_rgb", recordings, rows)
                group["actions"] = actions(recordings, rows)
                group.attrs["num_samples"] = len(rows)
        else:
            recordings = np.repeat(np.arange(len(num_rows)), num_rows)
            offsets = np.cumsum(num_rows) - num_rows
            rows = np.arange(len(recordings)) - offsets[recordings]
            write(file, "pixels", recordings, rows)
            file["action"] = actions(recordings, rows)
            file["ep_len"], file["ep_offset"] = num_rows.astype(np.int32), offsets
    return os.fspath(path)
