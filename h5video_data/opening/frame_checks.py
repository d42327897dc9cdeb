"""Tells where the rows of a dataset seem to be samples, and not frames, as `windows` takes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from h5video_data.errors import ArgumentError
from h5video_data.sampling.windows import Windows
from h5video_data.set_values import read_rows
from h5video_data.storage.attributes import read_attribute, read_sample_count
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.layout import StoredArray

from .recording_index import RecordingFile

_log = logging.getLogger(__name__)

# An axis of so many is rather one of channels than of frames.
_MOST_CHANNELS = 4
_COLOURS = (3, 4)
_MIN_SIDE = 8
# So many rows of labels are looked at.
_LABELS_LOOKED_AT = 1000


def check_frames(
    files: Sequence[RecordingFile], first: str, label: str | None, windows: Windows
) -> None:
    """Raises an ArgumentError if rows are samples, and warns if they look like it.

    Bounds, and a name with `*`, say that rows are frames, unless a dataset is one picture.

    Args:
        files: The files of the set.
        first: Name of the dataset of frames.
        label: Name of y, if that is one dataset that is not windowed.
        windows: The windows.
    """
    stored = files[0].parts[first][0]
    shape = stored.shape[1:]
    is_picture = len(shape) == 2 and shape[0] >= _MIN_SIDE and shape[1] in _COLOURS
    if is_picture and stored.dtype == np.uint8:
        raise ArgumentError(
            "`windows` is for datasets whose rows are frames. The dataset "
            f"{stored.name!r} seems to be one picture, (rows, columns, channels). Received: shape "
            f"{stored.shape} in {stored.path}. `h5video-data repack --layout recordings` makes "
            "recordings of datasets that are a frame each."
        )
    if windows.bounds is not None or files[0].matches != [()]:
        return
    if len(shape) < 3:
        return
    labels = files[0].parts.get(label or "", [])
    reason = None
    with open_file(stored.path, stored.identity) as file:
        if read_attribute(file, stored.name, "sample_varying") is not None:
            # As The Well writes its fields: (trajectories, T, rows, columns).
            reason = "its attribute `sample_varying` says that its rows are trajectories"
        is_counted = read_sample_count(file, stored.name, stored.shape[0]).is_given
    if len(shape) > 3 and labels and _are_classes(labels[0], is_counted=is_counted):
        reason = f"a row has {len(shape)} axes, and a class in {label!r}"
    if reason is not None:
        raise ArgumentError(
            f"`windows` is for datasets whose rows are frames. The rows of {first!r} are samples: "
            f"{reason}. Leave `windows` out; `clip` takes frames of each sample, and of y with "
            "Clip(..., y=True). If the rows are frames all the same, name a dataset that divides "
            f"them: Windows(..., bounds=...). Received: shape {stored.shape} in {stored.path}"
        )
    is_time_last = len(shape) == 3 and shape[0] == shape[1] and shape[2] > _MOST_CHANNELS
    if len(shape) > 3 or is_time_last:
        other = "(rows, columns, frames)" if is_time_last else "(frames, ...)"
        _log.warning(
            "%s: `windows` takes the rows of %r, of shape %s, as frames. If each is a sample %s, "
            "leave `windows` out, and use `clip`%s.",
            stored.path, first, shape, other, " with axis=-1" if is_time_last else "",
        )  # fmt: skip


def _are_classes(stored: StoredArray, *, is_counted: bool) -> bool:
    """Whether rows are one-hot; or, beside a `sample_count`, numbers of classes."""
    if len(stored.shape) == 1:
        return is_counted and stored.dtype.kind in "iu"
    if len(stored.shape) != 2 or stored.shape[1] < 2:
        return False
    (values,) = read_rows([stored], [min(stored.shape[0], _LABELS_LOOKED_AT)])
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())
