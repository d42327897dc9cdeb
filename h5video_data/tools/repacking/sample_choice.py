"""Which samples `repack` writes, and to which of several files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from h5video_data.arguments import check_choice, check_whole_number
from h5video_data.errors import ArgumentError, H5VideoError
from h5video_data.opening import Paths
from h5video_data.sampling.split_indices import chosen_samples
from h5video_data.splits import SampleIndices, SplitBy, split_samples
from h5video_data.tools.inspecting.file_facts import find_opening
from h5video_data.video_set import VideoSet

_SUBSETS = ("training", "validation")


def chosen(
    path: Paths,
    video_set: VideoSet,
    *,
    subset: str | None,
    validation_split: float | None,
    seed: int | None,
    split_by: SplitBy,
    indices: SampleIndices,
    num_shards: int | None,
) -> list[NDArray[np.int64]]:
    """Chooses the samples as a loader with these arguments does, and cuts them into shards.

    Returns:
        The numbers of the samples of each file to be written, int64, ascending.

    Raises:
        ArgumentError: An argument is invalid, or rows are frames of recordings.
    """
    check_choice("subset", subset, None, *_SUBSETS)
    check_whole_number("shards", num_shards, 1, or_none=True)
    if (subset is None) != (validation_split is None):
        raise ArgumentError(
            "`validation_split` and `subset` must be given together. Received: "
            f"validation_split={validation_split}, subset={subset!r}"
        )
    if subset is None and (seed is not None or split_by is not None):
        raise ArgumentError(
            "`seed` and `split_by` are those of a split, with `validation_split` and `subset`. "
            f"Received: seed={seed!r}, split_by={split_by!r}, subset=None"
        )
    if subset is None and indices is None and num_shards in (None, 1):
        return [np.arange(video_set.num_samples)]
    _check_no_frames(video_set)
    if subset is not None and validation_split is not None:
        sides = split_samples(
            path,
            validation_split,
            seed=seed,
            split_by=split_by,
            indices=indices,
            x={item.name: item.name for item in video_set.components},
            y="Y" if isinstance(split_by, str) and split_by == "label" else None,
        )
        samples = np.sort(sides[_SUBSETS.index(subset)])
    else:
        samples = np.sort(chosen_samples(indices, video_set.num_samples))
    if (num_shards or 1) > len(samples):
        raise ArgumentError(
            f"`shards` must be at most the number of samples, {len(samples)}. "
            f"Received: shards={num_shards}"
        )
    return np.array_split(samples, num_shards or 1)


def shard_paths(out: Path, num_shards: int | None) -> list[Path]:
    """Returns the files to write: `fast.h5`, or `fast-00000-of-00004.h5`, ..."""
    if num_shards is None:
        return [out]
    return [
        out.with_name(f"{out.stem}-{number:05}-of-{num_shards:05}{out.suffix}")
        for number in range(num_shards)
    ]


def _check_no_frames(video_set: VideoSet) -> None:
    """Raises an ArgumentError if rows seem to be frames, of recordings that would be torn."""
    path, opening = video_set.paths[0], None
    with contextlib.suppress(H5VideoError):
        opening = find_opening(path)
    frames = [item.name for item in video_set.components if len(item.sample_shape) < 4]
    if opening is not None and opening.num_frames is not None and frames:
        raise ArgumentError(
            f"{path}: rows of {frames[0]!r} seem to be frames of recordings, which "
            "`indices`, `subset` and `shards` would tear. If they are samples, set the attribute "
            f"`sample_count`. `inspect` opens the file by {opening.call(path)}"
        )
