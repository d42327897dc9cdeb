"""Advice on a feed that the training waits for: one line, from the measurements of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

from h5video_data.loader import VideoLoader
from h5video_data.options import function_name
from h5video_data.planning.access import AccessKind
from h5video_data.reading.byte_sources import BYTES_PER_READ
from h5video_data.reading.prefetcher import LoaderStats
from h5video_data.storage.system import num_processors

# A training that waits for a smaller fraction of its time has little to gain from a faster feed.
_NOTEWORTHY_WAIT = 0.03


@dataclass(frozen=True)
class Measurements:
    """Measurements of one epoch of a training. Fractions are of its `seconds`, from 0 to 1."""

    num_steps: int
    num_samples: int
    """Samples that the feed delivered."""
    seconds: float
    """Duration of the epoch without its validation."""
    wait: float
    """Fraction that the training waited for data: the sum of the next four."""
    read: float
    decode: float
    map: float
    hand_over: float
    first_wait: float
    """Fraction that the first step waited."""
    is_first: bool
    """Whether this is the first epoch of the training."""
    stats: LoaderStats
    """Cost of the batches that were read during the epoch."""


def advise(measured: Measurements, loader: VideoLoader) -> str:
    """Returns one line that says where the time of an epoch goes, and what to do next."""
    if not measured.num_samples:
        return "the dataset was not read: the batches came from elsewhere, such as a cache"
    waited = f"waited {measured.wait:.1%} of {measured.seconds:.3g} s"
    if measured.wait < _NOTEWORTHY_WAIT:
        rate = measured.num_steps / measured.seconds
        return f"the feed keeps up: {waited}, at {rate:.3g} steps/s; the model is the limit"
    limits = {
        _reading: measured.read,
        _decoding: measured.decode,
        _mapping: measured.map,
        _handing_over: measured.hand_over,
    }
    limit = max(limits, key=limits.__getitem__)
    if measured.num_steps > 1 and measured.first_wait > measured.wait / 2:
        limit = _starting
    return limit(measured, loader, waited)


def _starting(measured: Measurements, loader: VideoLoader, waited: str) -> str:
    waited += f", {measured.first_wait:.1%} for the first batch"
    if measured.is_first:
        return f"the start of the training is the limit: {waited}. See the next epoch"
    return (
        f"the start of the epoch is the limit: {waited}. Train on dataset.repeat() with "
        f"steps_per_epoch={loader.steps_per_epoch}: the feed then continues between epochs "
        "(a FeedCheckpoint then needs repeated=True)"
    )


def _reading(measured: Measurements, loader: VideoLoader, waited: str) -> str:
    stats = measured.stats
    speed = f"{_rate(stats.read_bytes, measured.seconds)} read"
    if measured.wait < 0.95:
        needed = _rate(stats.read_bytes, measured.seconds * (1 - measured.wait))
        speed += f" of {needed} needed"
    fewer = "read fewer bytes (`clip`, a smaller dtype, compression)"
    obstacle = _obstacle(loader)
    if obstacle:
        return (
            f"reading by HDF5, one read at a time, is the limit: {waited}, {speed}. {obstacle}: "
            "`h5video-data inspect` says how to store it"
        )
    if stats.is_slow:
        return f"the disk is the limit: {waited}, {speed}. Use a faster disk, or {fewer}"
    if stats.read_bytes < stats.num_reads * BYTES_PER_READ:
        otherwise = "Store whole samples in a chunk: `h5video-data inspect` says how"
        if _kinds(loader) == {"pictures"}:
            otherwise = "Pictures that follow each other in the file are read together"
        return (
            f"reading in small pieces is the limit: {waited}, {speed} in pieces of "
            f"{stats.read_bytes // stats.num_reads:,} bytes. {otherwise}"
        )
    return (
        f"copying from the page cache is the limit: {waited}, {speed} by "
        f"{_count(loader._num_threads, 'thread')}. {_more_threads(loader) or fewer.capitalize()}"
    )


def _decoding(measured: Measurements, loader: VideoLoader, waited: str) -> str:
    lighter = "a lighter codec (`h5video-data repack`)"
    if _kinds(loader) == {"pictures"}:
        lighter = "smaller pictures, or pixels instead of them"
    return (
        f"decoding is the limit: {waited}, {_count(loader._num_threads, 'thread')} decoded "
        f"{_rate(measured.stats.delivered_bytes, measured.seconds)}. "
        f"{_more_threads(loader) or 'Use more processors'}, or {lighter}"
    )


def _mapping(measured: Measurements, loader: VideoLoader, waited: str) -> str:
    del measured
    names = ", ".join(map(function_name, loader._options.map_fns))
    stages = (
        f"the map stage {names}" if len(loader._options.map_fns) == 1 else f"a map stage ({names})"
    )
    given = loader._options.num_parallel_calls
    more = _more(given, "num_parallel_calls") if given else _more_threads(loader)
    return (
        f"{stages} is the limit: {waited}, {_count(given or loader._num_threads, 'call')} at once. "
        f"{more or 'Vectorise it'}, or move it into the model, to the accelerator"
    )


def _handing_over(measured: Measurements, loader: VideoLoader, waited: str) -> str:
    del loader
    milliseconds = 1e3 * measured.hand_over * measured.seconds / measured.num_steps
    return (
        f"the hand-over to TensorFlow is the limit: {waited}, {milliseconds:.2g} ms of each step. "
        "Use larger batches, or run less Python code at the same time"
    )


def _obstacle(loader: VideoLoader) -> str:
    """Names the first dataset that only HDF5 can read, with the reason; "" if there is none."""
    for component in loader._set.components:
        for access in component.accesses:
            if access.kind != "memory" and not access.has_positioned_reads:
                return f"Dataset {access.stored.name!r}: {access.reason}"
    return ""


def _kinds(loader: VideoLoader) -> set[AccessKind]:
    """The ways that datasets are read while an epoch runs."""
    kinds = {access.kind for item in loader._set.components for access in item.accesses}
    return kinds - {"memory"}


def _more_threads(loader: VideoLoader) -> str:
    return _more(loader._num_threads, "num_threads")


def _more(number: int, argument: str) -> str:
    """Returns the advice to use all processors; "" if as many threads or calls already do."""
    processors = num_processors()
    return "" if number >= processors else f"Set {argument}={processors} (now {number})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rate(num_bytes: float, seconds: float) -> str:
    rate = num_bytes / seconds if seconds > 0 else 0.0
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6)):
        if rate >= size:
            return f"{rate / size:.3g} {unit}"
    return f"{rate / 1e3:.3g} kB/s"
