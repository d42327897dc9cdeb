"""Video files: their frames and clips, read through PyAV (FFmpeg).

The part of `packing.py` that knows about videos, and the only one that imports PyAV. Every error
of a file is a ReadError whose message says what is wrong with the file, and does not name it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import MissingDependencyError, ReadError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

__all__ = ["clip_starts", "count_frames", "crop_box", "missing_dependency", "read_clips"]


def clip_starts(
    num_video_frames: int, *, num_clips: int, num_frames: int, stride: int
) -> tuple[int, ...]:
    """Picks the first frames of evenly spaced clips.

        video     0 1 2 3 4 5 6 7 8 9      num_clips=2, num_frames=3, stride=2: a span of 5 frames
        clip 0    x . x . x
        clip 1              x . x . x

    Args:
        num_video_frames: The number of frames of the video.
        num_clips: The number of clips wanted, at least 1.
        num_frames: The number of frames of a clip, at least 1.
        stride: The distance between two frames of a clip, at least 1.

    Returns:
        Different frame numbers in rising order, `num_clips` of them or as many as there are. The
        first is 0 and the last is the last that fits; a single one is in the middle (before it,
        where there are two). Empty if the video is shorter than a clip's span.
    """
    last = num_video_frames - ((num_frames - 1) * stride + 1)
    if last < 0:
        return ()
    num_clips = min(num_clips, last + 1)
    if num_clips == 1:
        return (last // 2,)
    return tuple(k * last // (num_clips - 1) for k in range(num_clips))


def crop_box(
    rows: int, columns: int, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """Says how a picture is scaled and cropped to a size, with its aspect ratio kept.

    Args:
        rows: The height of the picture, in pixels.
        columns: The width of the picture, in pixels.
        size: The wanted (rows, columns), in pixels.

    Returns:
        The (rows, columns) to scale to, of which one is that of `size` and the other is not
        smaller; and the slices of rows and columns to take of the scaled picture.
    """
    scale = max(size[0] / rows, size[1] / columns)
    scaled = (max(size[0], round(rows * scale)), max(size[1], round(columns * scale)))
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return scaled, (slice(top, top + size[0]), slice(left, left + size[1]))


def _import_av() -> Any:
    try:
        import av
        import av.error
        import av.video.reformatter
    except ImportError as error:
        raise missing_dependency("PyAV reads the video files", error) from error
    return av


def missing_dependency(what: str, error: ImportError) -> MissingDependencyError:
    """The error for a package of the `pack` extra that cannot be imported."""
    return MissingDependencyError(
        f"{what}, and cannot be imported ({error}). "
        "Install it with: pip install 'h5video_data[pack]'"
    )


@contextmanager
def _av_errors_as_read_errors(what: str) -> Iterator[None]:
    # PyAV raises ValueError and NotImplementedError for what FFmpeg reads and it does not.
    try:
        yield
    except (_import_av().error.FFmpegError, ValueError, NotImplementedError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise ReadError(f"{what}: {text}") from error


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[float, Iterator[VideoFrame]]]:
    """Opens a video: its frame rate, and its frames, to be used before it closes.

    Both raise ReadError; its message does not name the file.
    """
    with _av_errors_as_read_errors("is not a video, or a damaged one"):
        # discardcorrupt: the last packet of a file that was cut off is not whole. Decoders fail
        # on it or make up the rest of the picture; some lose good frames before it as well.
        arguments = {"file": str(path.absolute()), "options": {"fflags": "discardcorrupt"}}
        try:
            container = _import_av().open(metadata_errors="replace", **arguments)
        except TypeError:  # PyAV 19 has no such argument, and does not decode what it cannot
            container = _import_av().open(**arguments)
    with container:
        stream = _video_stream(container)
        stream.thread_type = "AUTO"
        rate = stream.average_rate
        yield float(rate) if rate else float("nan"), _decode(container, stream)


def _video_stream(container: Any) -> Any:
    if container.format.name == "tty":  # FFmpeg draws the text of .txt and .nfo files
        raise ReadError("is a text file")
    if not container.streams.video:
        raise ReadError("has no video stream")
    return container.streams.video[0]


def _decode(container: Any, stream: Any) -> Iterator[VideoFrame]:
    with _av_errors_as_read_errors("is damaged, decoding failed"):
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise ReadError(f"is damaged, the decoder had to make up parts of frame {number}")
            yield frame


def _to_picture(
    frame: VideoFrame, reformatter: VideoReformatter, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Scales and crops a frame to (3, rows, columns), RGB."""
    (rows, columns), box = crop_box(frame.height, frame.width, size)
    # Area averages all pixels that a smaller pixel covers, and is bilinear where it enlarges.
    scaled = reformatter.reformat(frame, columns, rows, "rgb24", interpolation="AREA")
    pixels: NDArray[np.uint8] = np.asarray(scaled.to_ndarray(), dtype=np.uint8)
    # A copy: a view would keep what was cropped off in memory.
    picture: NDArray[np.uint8] = np.moveaxis(pixels[box], -1, 0).copy()
    return picture


def count_frames(path: Path, size: tuple[int, int]) -> tuple[int, float]:
    """Decodes a whole video: its number of frames, and frames per second (nan if unknown)."""
    num_frames = 0
    with _open_video(path) as (frame_rate, frames):
        for frame in frames:
            if num_frames == 0:
                # A pixel format that cannot be converted shows here, not in the second reading.
                with _av_errors_as_read_errors("cannot be converted to RGB"):
                    _to_picture(frame, _import_av().video.reformatter.VideoReformatter(), size)
            num_frames += 1
    return num_frames, frame_rate


def read_clips(
    path: Path, starts: Sequence[int], *, num_frames: int, stride: int, size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Decodes a video once and gives its clips, each (frames, 3, rows, columns).

    It ends early if the video does. Only the pictures of clips that have begun are in memory.
    """
    reformatter = _import_av().video.reformatter.VideoReformatter()
    offsets = range(0, num_frames * stride, stride)
    needed = {start + offset for start in starts for offset in offsets}
    waiting = list(reversed(starts))
    pictures: dict[int, NDArray[np.uint8]] = {}
    with _open_video(path) as (_, frames):
        for number, frame in enumerate(frames):
            if number in needed:
                pictures[number] = _to_picture(frame, reformatter, size)
            if number == waiting[-1] + offsets[-1]:
                start = waiting.pop()
                yield np.stack([pictures[start + offset] for offset in offsets])
                if not waiting:
                    return
                pictures = {n: pictures[n] for n in pictures if n >= waiting[-1]}


def cut_scenes(path: Path, folder: Path, num_frames: int) -> int:
    """Cuts a video into short ones without loss, at a height of 144 pixels.

    Args:
        path: The video.
        folder: Where to write `scene_00.mkv`, `scene_01.mkv`, ...; made if need be.
        num_frames: Frames of each; what remains at the end is left out.

    Returns:
        How many were written.
    """
    av = _import_av()
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with _open_video(path) as (frame_rate, frames):
        while len(scene := list(itertools.islice(frames, num_frames))) == num_frames:
            with av.open(str(folder / f"scene_{count:02}.mkv"), "w") as container:
                stream = container.add_stream("ffv1", rate=round(frame_rate))
                stream.height, stream.pix_fmt = 144, "yuv420p"
                stream.width = 2 * round(scene[0].width * 72 / scene[0].height)
                for number, frame in enumerate(scene):
                    small = frame.reformat(stream.width, stream.height, "yuv420p")
                    small.pts, small.time_base = number, Fraction(1, round(frame_rate))
                    container.mux(stream.encode(small))
                container.mux(stream.encode(None))
            count += 1
    return count
