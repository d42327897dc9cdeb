"""`OpenedSet`: the files of a call, opened once for all that `inspect` reads of them."""

from __future__ import annotations

from typing import Any

from h5video_data.loader import VideoLoader
from h5video_data.open_set import open_set
from h5video_data.opening import Paths, reusable
from h5video_data.options import options_of
from h5video_data.reading.memory_budget import DEFAULT_BATCHES, MemoryBudget
from h5video_data.video_set import Component


class OpenedSet:
    """The files of a call.

    Args:
        path: Of the files.
        arguments: Keyword arguments of `VideoLoader`.

    Raises:
        H5VideoError: The call would raise it, too.
    """

    def __init__(self, path: Paths, arguments: dict[str, Any]) -> None:
        self._path, self._arguments = reusable(path), arguments
        self._set = open_set(self._path, self._options({}))

    def _options(self, more: dict[str, Any]) -> Any:
        return options_of("VideoLoader.__init__", {**self._arguments, **more})

    @property
    def components(self) -> tuple[Component, ...]:
        """The datasets, over all files."""
        return self._set.components

    def read_ahead_bytes(self, most: int, batch_size: int) -> int | None:
        """Returns the argument, or less: `most`, but six batches at least; None: the default."""
        nbytes = batch_size * self._set.sample_nbytes
        limit, given = max(most, 6 * nbytes), self._arguments.get("read_ahead_bytes")
        if given is None and DEFAULT_BATCHES * nbytes <= limit:
            return None
        return limit if given is None else min(given, limit)

    def loader(self, **more: Any) -> VideoLoader:
        """Returns a loader with more arguments: those of how it is read, not of what."""
        return VideoLoader._of_set(self._path, self._set, self._options(more))

    @staticmethod
    def memory_of(loader: VideoLoader) -> MemoryBudget:
        """Returns how a loader splits its memory."""
        return loader._feed.memory
