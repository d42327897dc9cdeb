"""Opens the files of a loader."""

from __future__ import annotations

from .opening import Paths, check_decoding, open_video_set, with_options
from .options import LoaderOptions
from .reading.memory_budget import small_samples_budget
from .storage.external import allowing_external
from .video_set import VideoSet


def open_set(path: Paths, options: LoaderOptions) -> VideoSet:
    """Opens the files of a loader with these options."""
    # A sample that cannot be read is skipped alone, not with its whole dataset.
    skips_failed = options.on_error == "skip"
    with allowing_external(options.allow_external):
        video_set = open_video_set(
            with_options(path, options.storage_options),
            options.x,
            options.y,
            options.sample_weight,
            options.clip,
            options.of_recordings,
            options.decoding,
            budget_nbytes=0 if skips_failed else small_samples_budget(options.read_ahead_bytes),
            by_number=options.names_samples,
        )
    check_decoding(video_set.components, options.decoding)
    return video_set
