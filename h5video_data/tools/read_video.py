"""`read_video`: one video, prepared as those of a packed file were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, FileFormatError, ReadError, VideoFileNotFoundError
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.storage.layout import dtype_name, dtype_of
from h5video_data.storage.picture_rows import Decoding, describe_pictures

from .packing.clip_rules import ClipRule
from .packing.decoding import Restart, read_source
from .packing.fitting import FITS, FrameForm
from .packing.journal_entries import too_short
from .packing.rules import checked_rule
from .packing.sources import Source, frame_folder

__all__ = ["read_video"]


def read_video(
    path: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str],
    x: str = "X",
    **options: Any,
) -> NDArray[np.uint8]:
    """Reads the clips of one video, prepared as the samples of a file were by `pack`.

        model.predict(h5v.read_video("new.mp4", like="video_data.h5"))

    Frames are chosen, turned, scaled and ordered as the attributes of the file say; of a file that
    `pack` did not write, only the shape is known, and the rest is as by default.

    Args:
        path: The video, or a folder of numbered pictures.
        like: The HDF5 file.
        x: Name of its dataset of samples, or of frames if it holds recordings.
        **options: Arguments of `pack` that are to be other than the file's: `num_frames`, `stride`,
            `clips_per_video`, `fit`, `short`, `uniform`, `frame_rate`.

    Returns:
        uint8 (clips, frames, 3, rows, columns), or channels last if the file's samples are, as
        encoded frames are when they are read. Of a
        file of recordings: the whole video as one clip, unless `num_frames` is given.

    Raises:
        VideoFileNotFoundError: The video or the file does not exist.
        FileFormatError: The dataset is not one of color video of 8 bits.
        ReadError: It is no video, damaged, or shorter than a clip.
        ArgumentError: An option is invalid, or unknown.
        MissingDependencyError: PyAV is not installed.
    """
    rule, form, is_channels_last = _form_of(os.fspath(like), x, options)
    path = Path(path)
    if not path.exists():
        raise VideoFileNotFoundError(f"There is no video {path}.")
    frames = frame_folder(path) if path.is_dir() else None
    if frames == ():
        raise ReadError(f"{path} is a folder without numbered pictures.")
    pieces: list[Any] = []
    try:
        for piece in read_source(Source(path.name, path, frames=frames), rule, form):
            pieces = [] if isinstance(piece, Restart) else [*pieces, piece]
    except ReadError as error:
        raise ReadError(f"{path} {error}") from error
    *pictures, decoded = pieces
    if not pictures:
        raise ReadError(f"{path} {too_short(decoded, rule)}")
    clips = np.concatenate(pictures)[np.newaxis] if rule.num_frames is None else np.stack(pictures)
    return np.ascontiguousarray(np.moveaxis(clips, 2, -1)) if is_channels_last else clips


def _form_of(like: str, x: str, options: dict[str, Any]) -> tuple[ClipRule, FrameForm, bool]:
    with open_file(like) as file:
        dataset = find_dataset(file, x)
        pictures = describe_pictures(dataset, Decoding("image"))
        shape = (pictures or dataset).shape
        dtype = dtype_of(dataset, like) if pictures is None else pictures.dtype
        attributes = dict(file.attrs)
    if dtype != np.uint8:
        raise FileFormatError(
            f"{like}: dataset {x!r} must be uint8, as video files are; how its values were made "
            f"from such is not known. Received: {dtype_name(dtype)}"
        )
    is_recordings = len(shape) == 4
    axes = shape[-3:]
    if len(shape) not in (4, 5) or 3 not in (axes[0], axes[-1]):
        raise FileFormatError(
            f"{like}: dataset {x!r} must be (samples, frames, 3, rows, columns), or channels "
            f"last, or frames alone. Received: shape {shape}"
        )
    is_channels_last = axes[0] != 3
    known = {
        "num_frames": 16 if is_recordings else shape[1],
        "stride": int(attributes.get("stride", 1)),
        "clips_per_video": int(attributes.get("clips_per_video", 1)),
        "fit": attributes.get("fit", FITS[0]),
        "short": attributes.get("short", "skip"),
        "uniform": bool(attributes.get("uniform", False)),
        "frame_rate": attributes.get("target_frame_rate"),
    }
    if unknown := [name for name in options if name not in known]:
        raise ArgumentError(f"read_video has no option `{unknown[0]}`. It has: {', '.join(known)}")
    rule, form = checked_rule(
        **{**known, **options},
        size=tuple(map(int, axes[:2] if is_channels_last else axes[1:])),
        is_recordings=is_recordings and "num_frames" not in options,
    )
    return rule, form, is_channels_last
