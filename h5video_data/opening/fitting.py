"""Checks that the datasets of a set fit together, with what to do where they don't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.storage.attributes import is_of_matlab
from h5video_data.storage.layout import StoredArray
from h5video_data.storage.paths import Paths, has_order
from h5video_data.storage.picture_rows import StoredPictures
from h5video_data.storage.strings import StoredStrings

Stored: TypeAlias = StoredArray | StoredStrings

SAMPLES = "(samples, frames, channels, rows, columns)"


def check_file(
    path: str,
    stored: Sequence[Stored],
    num_samples: int,
    *,
    video: str | None,
    is_count_given: bool,
) -> None:
    """Raises a FileFormatError if the datasets of one file do not fit together.

    Args:
        path: Path of the file.
        stored: How the datasets are stored.
        num_samples: Samples in use.
        video: Name of the dataset of x, if it is in this file and x is one name.
        is_count_given: Whether the file says how many are in use: some datasets may then be longer.
    """
    first = stored[0]
    if video is not None and len(first.shape) < 2:
        raise FileFormatError(
            f"{path}: {video!r} must have the shape {SAMPLES}, or at least 2 dimensions. "
            f"Received: {first.shape}"
        )
    for item in stored:
        if 0 in item.shape[1:]:
            raise FileFormatError(
                f"{path}: the samples of {item.name!r} are empty. Received: shape {item.shape}"
            )
        if item.shape[0] != first.shape[0] and not (
            is_count_given and item.shape[0] >= num_samples
        ):
            hint = transposed_hint(first, item) or (
                " If the rows are frames, pass `windows`. If each file is one sample, without an "
                "axis of samples, write the files into one first, with datasets of shape "
                "(samples, ...)."
            )
            given = f", and `sample_count` is {num_samples}" if is_count_given else ""
            raise FileFormatError(
                f"{path}: all datasets must have the same number of samples. Received: "
                f"{first.name!r} of shape {first.shape}, {item.name!r} of shape {item.shape}"
                f"{given}.{hint}"
            )


def transposed_hint(x: Stored, other: Stored) -> str:
    """Returns what to do if the axes of datasets seem to be in reverse; "" if they don't.

    Args:
        x: The dataset of x.
        other: Another one, of another length.
    """
    first, item = x.shape, other.shape
    is_matlab = any(is_of_matlab(stored.path, stored.name) for stored in (x, other))
    if len(item) == 2 and item[1] == first[0]:
        hint = " It looks transposed: the samples come first."
    elif first[-1] == item[-1] and (is_matlab or len(item) == 1 or item[0] < item[-1]):
        # (1, samples) and (classes, samples), not the channels of both.
        hint = " They look transposed: the last axes agree, but the samples come first."
    else:
        return ""
    if is_matlab:
        hint += " MATLAB writes the axes in reverse."
    return (
        f"{hint} Write the file anew with h5py: new[name] = np.transpose(old[name]) reverses all "
        "axes; for a large dataset, new[name][i:j] = np.transpose(old[name][..., i:j]) does so "
        "block by block."
    )


def check_alike(name: str, parts: Sequence[Stored]) -> None:
    """Raises a FileFormatError if a dataset differs from one file to another."""
    first = parts[0]
    for part in parts[1:]:
        if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
            is_one_file = part.path == first.path
            what = "rows" if is_one_file else "samples"
            where = "recordings" if is_one_file else "files"
            hint = ""
            if isinstance(part, StoredPictures) and isinstance(first, StoredPictures):
                hint = (
                    ". `image_size` resizes pictures to one size, and `color_mode` gives them the "
                    "same channels"
                )
            elif (
                first.dtype == part.dtype
                and str(part.dtype) in ("uint8", "int8")
                and len(first.shape) == len(part.shape) == 2
            ):
                hint = (
                    ". If they are the bytes of pictures, padded to the longest of each, "
                    'decode="image" decodes them'
                )
            raise FileFormatError(
                f"The {what} of {name!r} must be alike in all {where}. Received: "
                f"{first.dtype} of shape {first.shape[1:]} in {_place(first, is_one_file)}, "
                f"{part.dtype} of shape {part.shape[1:]} in {_place(part, is_one_file)}{hint}"
            )


def _place(part: Stored, has_name: bool) -> str:
    return f"{part.path}: {part.name!r}" if has_name else part.path


def check_class_names(
    names: tuple[str, ...] | None, path: str, named: dict[tuple[str, ...], str]
) -> None:
    """Raises a FileFormatError if a file names other classes than those before it.

    Args:
        names: The names of the file's classes; None: it has none.
        path: Path of the file.
        named: By the names of the classes, the first file that has them; takes those of this one.
    """
    if names is not None:
        named.setdefault(names, path)
    if len(named) > 1:
        raise FileFormatError(
            "The attribute `class_names` must be the same in all files. Received: "
            + ", ".join(f"{names} in {first}" for names, first in named.items())
        )


def check_order(path: Paths, paths: Sequence[str], *, is_needed: bool) -> None:
    """Raises an ArgumentError if numbers of samples are needed, and paths have no order.

    Args:
        path: As it was given.
        paths: The paths that it stands for.
        is_needed: Whether something goes by the numbers of samples.
    """
    if is_needed and len(paths) > 1 and not has_order(path):
        raise ArgumentError(
            f"`path` is {path!r}, which has no order: its {len(paths)} paths are sorted. Arrays, "
            "numbers of samples and datasets of other files go by the order of the paths: pass a "
            "list, such as sorted(path), so that it is known."
        )
