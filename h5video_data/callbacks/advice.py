"""What to do about a feed that a training waits for: one line, with figures."""

from __future__ import annotations

import os
from dataclasses import dataclass

from h5video_data.loader import VideoLoader
from h5video_data.options import function_name
from h5video_data.reading.byte_sources import BYTES_PER_READ
from h5video_data.reading.sample_sources import ReadStats

# A training that waits less than this share of its time is not worth an effort.
NOTEWORTHY_WAIT = 0.03


@dataclass(frozen=True)
class Figures:
    """What was measured in an epoch of a training. Shares are of its time, from 0 to 1."""

    num_steps: int
    num_samples: int
    """Samples that the feed gave."""
    seconds: float
    """Its time, without the validation."""
    wait: float
    """Share of it that the training waited for data."""
    read: float
    """Share that it waited for reading."""
    decode: float
    """The same for decoding."""
    map: float
    """The same for the map functions."""
    hand_over: float
    """The same for handing batches over to TensorFlow, in Python and behind it."""
    first_wait: float
    """Share that it waited in the first step."""
    is_first: bool
    """Whether it is the first epoch of the training."""
    read_bytes: int
    """Stored bytes that were read."""
    num_reads: int
    """Ranges of files that they were read in."""
    read_seconds: float
    """Seconds of reading, summed over the threads."""
    decoded_bytes: int
    """Bytes of the batches."""


def verdict(figures: Figures, loader: VideoLoader) -> str:
    """Where the time goes, and what to do next.

    Args:
        figures: What was measured.
        loader: What it was measured on.
    """
    if not figures.num_samples:
        return "the feed was not asked for anything: the batches came from elsewhere"
    waited = f"waited {figures.wait:.1%} of {figures.seconds:.3g} s"
    if figures.wait < NOTEWORTHY_WAIT:
        rate = figures.num_steps / figures.seconds
        return f"the feed keeps up: {waited}, at {rate:.3g} steps/s; the model is the limit"
    limits = {
        _reading: figures.read,
        _decoding: figures.decode,
        _mapping: figures.map,
        _handing_over: figures.hand_over,
    }
    limit = max(limits, key=limits.__getitem__)
    if figures.num_steps > 1 and figures.first_wait > figures.wait / 2:
        limit = _starting
    return limit(figures, loader, waited)


def _starting(figures: Figures, loader: VideoLoader, waited: str) -> str:
    del loader
    waited += f", {figures.first_wait:.1%} for the first batch"
    if figures.is_first:
        return f"the start of the training is the limit: {waited}. See what the next epoch says"
    return (
        f"the start of the epoch is the limit: {waited}. Train on dataset.repeat() with "
        "steps_per_epoch: the feed then runs on between epochs"
    )


def _reading(figures: Figures, loader: VideoLoader, waited: str) -> str:
    speed = f"{_rate(figures.read_bytes, figures.seconds)} read"
    if figures.wait < 0.95:
        needed = _rate(figures.read_bytes, figures.seconds * (1 - figures.wait))
        speed += f" of {needed} needed"
    fewer = "read fewer bytes (`clip`, a smaller dtype, compression)"
    obstacle = _obstacle(loader)
    if obstacle:
        return (
            f"reading by HDF5, one read at a time, is the limit: {waited}, {speed}. {obstacle}: "
            "`h5video-data inspect` says how to store it"
        )
    cost = ReadStats(
        read_bytes=figures.read_bytes,
        num_reads=figures.num_reads,
        read_seconds=figures.read_seconds,
    )
    if cost.is_slow:
        return f"the disk is the limit: {waited}, {speed}. Use a faster disk, or {fewer}"
    if figures.read_bytes < figures.num_reads * BYTES_PER_READ:
        return (
            f"reading in small pieces is the limit: {waited}, {speed} in pieces of "
            f"{figures.read_bytes // figures.num_reads:,} bytes. Store whole samples in a chunk: "
            "`h5video-data inspect` says how"
        )
    return (
        f"copying from the page cache is the limit: {waited}, {speed} by "
        f"{_count(loader._num_threads, 'thread')}. {_more_threads(loader) or _sentence(fewer)}"
    )


def _decoding(figures: Figures, loader: VideoLoader, waited: str) -> str:
    return (
        f"decoding is the limit: {waited}, {_count(loader._num_threads, 'thread')} decoded "
        f"{_rate(figures.decoded_bytes, figures.seconds)}. "
        f"{_more_threads(loader) or 'Use more processors'}, or a lighter codec "
        "(`h5video-data repack`)"
    )


def _mapping(figures: Figures, loader: VideoLoader, waited: str) -> str:
    del figures
    functions = loader._options.map_fns
    names = ", ".join(map(function_name, functions))
    stages = f"the map stage {names}" if len(functions) == 1 else f"a map stage ({names})"
    return (
        f"{stages} is the limit: {waited}, {_count(loader._num_threads, 'call')} at once. "
        f"{_more_threads(loader) or 'Vectorise it'}, or move it into the model, to the accelerator"
    )


def _handing_over(figures: Figures, loader: VideoLoader, waited: str) -> str:
    del loader
    milliseconds = 1e3 * figures.hand_over * figures.seconds / figures.num_steps
    return (
        f"the hand-over to TensorFlow is the limit: {waited}, {milliseconds:.2g} ms of each step. "
        "Make the batches larger, or run less Python beside it"
    )


def _obstacle(loader: VideoLoader) -> str:
    """The first dataset that only HDF5 can read, and why."""
    for component in loader._set.components:
        for access in component.accesses:
            if access.kind == "h5py":
                return f"Dataset {access.stored.name!r}: {access.reason}"
    return ""


def _more_threads(loader: VideoLoader) -> str:
    processors = len(os.sched_getaffinity(0))
    if loader._num_threads >= processors:
        return ""
    return f"Set num_threads={processors} (now {loader._num_threads})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _rate(num_bytes: float, seconds: float) -> str:
    rate = num_bytes / seconds if seconds > 0 else 0.0
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6)):
        if rate >= size:
            return f"{rate / size:.3g} {unit}"
    return f"{rate / 1e3:.3g} kB/s"
