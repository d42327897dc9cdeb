"""Opens the files of a loader."""

from __future__ import annotations

from .errors import ArgumentError
from .opening import Paths, check_decoding, open_video_set, using_index, with_options
from .options import LoaderOptions
from .reading.memory_budget import small_samples_budget
from .storage.external import allowing_external
from .storage.remote.disk_cache import DiskCache
from .storage.remote.index import Index
from .storage.remote.index import Recording as Recording
from .storage.remote.store import LocalCopies
from .video_set import VideoSet


def open_set(path: Paths, options: LoaderOptions, recording: Recording | None = None) -> VideoSet:
    """Opens the files of a loader with these options; what is read is recorded for an index."""
    # A sample that cannot be read is skipped alone, not with its whole dataset.
    skips_failed = options.on_error == "skip"
    index = None if options.index is None else Index(options.index)
    cache = None
    if options.cache_dir is not None:
        cache = DiskCache(options.cache_dir, options.cache_bytes)
    with allowing_external(options.allow_external), using_index(index, recording):
        video_set = open_video_set(
            with_options(
                path,
                options.storage_options,
                options.remote_options,
                LocalCopies(index, cache, recording),
            ),
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
    if index is not None and not index.has_any(video_set.paths):
        raise ArgumentError(
            f"`index` is of other files than {video_set.paths[0]}. Received: index={index.path!r}"
        )
    return video_set
