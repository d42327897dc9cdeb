"""What is known about the samples of a packed file: in its journal, and in the file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import h5py
import numpy as np

from .clip_rules import ClipRule
from .decoding import Decoded
from .partial_files import Entry
from .sources import Sources


def too_short(decoded: Decoded, rule: ClipRule) -> str:
    """Returns why a video that was decoded has no clip."""
    count = len(decoded.times)
    frames = f"{count} frame{'s' * (count != 1)}"
    if count >= rule.clip_span or not count:
        return f"has no clip between start and end: it has {frames}"
    return f"is too short: it has {frames}, and a clip spans {rule.clip_span}"


def entry_of(number: int, decoded: Decoded, *, is_recording: bool) -> Entry:
    """Returns what the journal says about a video that has clips.

    Args:
        number: Its number among the sources.
        decoded: What decoding found.
        is_recording: Whether the times of all frames are kept.
    """
    clips = [
        {
            "part": clip.span,
            "start_frame": int(clip.frames[0]),
            "start_time": _or_none(decoded.times[clip.frames[0]]),
            "length": clip.length,
        }
        for clip in decoded.clips
    ]
    entry: Entry = {
        "source": number,
        "clips": clips,
        "frame_rate": _or_none(decoded.frame_rate),
        "source_size": decoded.shown_size,
    }
    if is_recording:
        frames = decoded.clips[0].frames
        entry["frame_time"] = [_or_none(time) for time in decoded.times[frames]]
    return entry


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class Samples:
    """What the file holds beside the pictures: for each sample, its journal's entry and clip."""

    def __init__(self, sources: Sources, entries: Sequence[Entry]) -> None:
        self.sources = sources
        self.entries = [(entry, clip) for entry in entries for clip in entry.get("clips", ())]
        self.parts = [
            sources.videos[entry["source"]].parts[clip["part"]] for entry, clip in self.entries
        ]
        self.labels = [part.label for part in self.parts]

    def write(
        self, settings: dict[str, Any], labels: str | None, is_recordings: bool, file: h5py.File
    ) -> None:
        """Writes datasets and attributes beside `X`."""
        strings = h5py.string_dtype()
        if not is_recordings:
            file.attrs["sample_count"] = len(self.entries)
        file.attrs.update(settings)
        names = self.sources.class_names
        if names is not None and labels is not None:
            file.attrs["class_names"] = np.array(names, dtype=strings)
            numbers = np.array(self.labels, np.int64)
            one_hot = labels == "one-hot"
            file["Y"] = np.eye(len(names), dtype=np.float32)[numbers] if one_hot else numbers
        videos = [self.sources.videos[entry["source"]].name for entry, _ in self.entries]
        file.create_dataset("source", data=videos, dtype=strings)
        file["source_size"] = np.array([e["source_size"] for e, _ in self.entries], np.int64)
        file["start_frame"] = np.array([clip["start_frame"] for _, clip in self.entries], np.int64)
        file["start_time"] = np.array(_nans(clip["start_time"] for _, clip in self.entries))
        file["frame_rate"] = np.array(_nans(entry["frame_rate"] for entry, _ in self.entries))
        if is_recordings or settings["short"] == "pad":
            file["length"] = np.array([clip["length"] for _, clip in self.entries], np.int64)
        if is_recordings:
            times = (time for entry, _ in self.entries for time in entry["frame_time"])
            file["frame_time"] = np.array(_nans(times))
        for column in sorted(self.sources.columns):
            values = [getattr(part, column) for part in self.parts]
            file.create_dataset(column, data=values, dtype=strings)


def _nans(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
