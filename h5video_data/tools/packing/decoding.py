"""Sources to the pictures of samples: each video is decoded once, several at a time, in order."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ReadError

from . import videos
from .clip_rules import ClipFrames, ClipRule, Times
from .fitting import FrameForm
from .sources import Source

Pictures = NDArray[np.uint8]

# Pictures that threads have decoded and nobody has written yet.
BUFFERED_BYTES = 256 << 20
# Frames of a recording are handed on in pieces of about this many bytes.
PIECE_BYTES = 8 << 20

T = TypeVar("T")


class Restart:
    """Says that the pictures of a source come again: its packets announced other frames."""


@dataclass(frozen=True)
class Decoded:
    """What is known about a source after it was decoded.

    Attributes:
        clips: The clips that were read, in the order of their pictures.
        times: Time stamps of all of its frames, from the first one.
        frame_rate: Frames a second, nan if unknown.
        shown_size: (rows, columns) of its first frame, as it is shown.
    """

    clips: tuple[ClipFrames, ...]
    times: Times
    frame_rate: float
    shown_size: tuple[int, int]


def read_source(
    source: Source, rule: ClipRule, form: FrameForm, num_threads: int = 0
) -> Iterator[Pictures | Restart | Decoded]:
    """Decodes a source.

    Which frames are needed follows from when they are shown, which only decoding tells for sure:
    packets may be missing or hidden, the container may be wrong. So the frames are chosen by the
    packets' time stamps, and chosen again in the rare case that decoding shows others.

    Args:
        source: The video.
        rule: Which of its frames are needed.
        form: What the pictures are to be.
        num_threads: Threads that decode it; 0: as FFmpeg likes.

    Yields:
        The samples in the order of `ClipRule.choose`, uint8 (frames, 3, rows, columns) each, or a
        recording in pieces; a `Restart` before they come again; at last, a `Decoded`.

    Raises:
        ReadError: It is damaged, or not a video. What was yielded is not to be used.
    """
    spans = tuple(part.span for part in source.parts)
    guess = _guessed_times(source, rule)
    clips = rule.choose(guess, spans)
    for _ in range(2):
        decoded = yield from _decode_clips(source, rule, clips, form, num_threads)
        needs_times = rule.frame_rate is not None or any(span != type(span)() for span in spans)
        if needs_times and not np.isfinite(decoded.times).all():
            raise ReadError(
                "has no time stamps, which start, end and `frame_rate` are counted by"
                + ("; for a folder of frames, give `frame_rate`" if source.frames else "")
            )
        found = rule.choose(decoded.times, spans)
        if _are_same(clips, found):
            yield decoded
            return
        yield Restart()
        clips = found
    raise ReadError("changed while it was read")


def _guessed_times(source: Source, rule: ClipRule) -> Times:
    if source.frames is None:
        return videos.packet_times(source.path)
    return _frame_folder_times(len(source.frames), rule)


def _frame_folder_times(count: int, rule: ClipRule) -> Times:
    interval = float("nan") if rule.frame_rate is None else 1 / rule.frame_rate
    return np.asarray(np.arange(count) * interval, np.float64)


def _are_same(some: Sequence[ClipFrames], others: Sequence[ClipFrames]) -> bool:
    return len(some) == len(others) and all(
        one.span == other.span and np.array_equal(one.frames, other.frames)
        for one, other in zip(some, others, strict=True)
    )


def _decode_clips(
    source: Source,
    rule: ClipRule,
    clips: Sequence[ClipFrames],
    form: FrameForm,
    num_threads: int,
) -> Generator[Pictures, None, Decoded]:
    """Decodes all of a source; only the pictures of clips that have begun are in memory."""
    needed = set(itertools.chain.from_iterable(clip.frames.tolist() for clip in clips))
    waiting = deque(clips)
    # A recording is handed on in pieces.
    rest = deque(waiting[0].frames.tolist()) if waiting and rule.num_frames is None else deque()
    most = max(1, PIECE_BYTES // (3 * form.size[0] * form.size[1]))
    pictures: dict[int, Pictures] = {}
    piece: list[Pictures] = []
    times, size, frame_rate = [], (0, 0), float("nan")
    for number, (video, frame) in enumerate(_frames(source, num_threads)):
        times.append(videos.frame_time(frame))
        if number == 0:
            size, frame_rate = video.shown_size(frame), video.frame_rate
        if number in needed or number == 0:  # a format that cannot be converted shows at once
            pictures[number] = video.picture(frame, form)
        while rest and rest[0] == number:
            piece.append(pictures[rest.popleft()])
            if len(piece) == most:
                yield np.stack(piece)
                piece = []
        if rule.num_frames is None:
            pictures.clear()
            continue
        while waiting and waiting[0].frames.max() == number:
            clip = waiting.popleft()
            stacked = np.stack([pictures[n] for n in clip.frames.tolist()])
            stacked[clip.length :] = 0
            yield stacked
            del stacked
        first = min((int(clip.frames.min()) for clip in waiting), default=number + 1)
        for old in [n for n in pictures if n < first]:
            del pictures[old]
    if piece:
        yield np.stack(piece)
    if source.frames is not None:
        shown = _frame_folder_times(len(times), rule)
        frame_rate = float("nan") if rule.frame_rate is None else rule.frame_rate
    else:
        shown = np.array(times, np.float64)
        shown -= shown[0] if len(shown) else 0
    return Decoded(tuple(clips), shown, frame_rate, size)


def _frames(source: Source, num_threads: int) -> Iterator[tuple[videos.Reader, Any]]:
    if source.frames is None:
        with videos.open_video(source.path, num_threads) as video:
            for frame in video.frames():
                yield video, frame
        return
    for path in source.frames:
        try:
            with videos.open_video(path, 1) as video:
                yield video, next(video.frames())
        except (ReadError, StopIteration) as error:
            raise ReadError(f"has a frame that cannot be read: {path.name} {error}") from error


# In parallel


class _StoppedError(Exception):
    """Ends a thread whose results nobody wants any more."""


def in_order(
    items: Sequence[Any],
    read: Callable[[Any], Iterable[T]],
    nbytes: Callable[[T], int],
    num_jobs: int,
) -> Iterator[tuple[int, Iterator[T]]]:
    """Reads items by threads, and yields what each gives, item by item.

    The threads end with the iteration. Together they are at most about `BUFFERED_BYTES` ahead.

    Args:
        items: What to read.
        read: Reads one; called in a thread. What it raises is raised where its results are used.
        nbytes: The size of a result.
        num_jobs: Number of threads.

    Yields:
        The number of an item, and its results, which must be used up before the next item's.
    """
    changed = threading.Condition()
    results: list[deque[tuple[T | None, BaseException | None]]] = [deque() for _ in items]
    state = {"next": 0, "current": 0, "buffered": 0, "stopped": 0}

    def put(number: int, result: T | None, error: BaseException | None = None) -> None:
        size = 0 if result is None else nbytes(result)
        with changed:
            # The item that is used now may always be ahead by one, or nothing would move.
            changed.wait_for(
                lambda: (
                    state["stopped"]
                    or state["buffered"] + size <= BUFFERED_BYTES
                    or (number == state["current"] and not results[number])
                )
            )
            if state["stopped"]:
                raise _StoppedError
            state["buffered"] += size
            results[number].append((result, error))
            changed.notify_all()

    def work() -> None:
        with contextlib.suppress(_StoppedError):
            while True:
                with changed:
                    number = state["next"]
                    state["next"] += 1
                    if state["stopped"] or number >= len(items):
                        return
                try:
                    for result in read(items[number]):
                        put(number, result)
                        del result
                    put(number, None)
                except _StoppedError:
                    raise
                except BaseException as error:
                    put(number, None, error)

    def take(number: int) -> Iterator[T]:
        while True:
            with changed:
                changed.wait_for(lambda: results[number])
                result, error = results[number].popleft()
                if result is None:
                    if error is not None:
                        raise error
                    return
                state["buffered"] -= nbytes(result)
                changed.notify_all()
            yield result
            del result

    threads = [
        threading.Thread(target=work, name=f"h5video_data_decode_{n}", daemon=True)
        for n in range(min(num_jobs, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(len(items)):
            with changed:
                state["current"] = number
                changed.notify_all()
            yield number, take(number)
    finally:
        with changed:
            state["stopped"] = 1
            changed.notify_all()
        for thread in threads:
            thread.join()
