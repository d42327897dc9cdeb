"""Video files: which a folder holds, and their frames and clips, read through PyAV (FFmpeg).

The only module that imports PyAV. Every error of a video file is a ReadError whose message says
what is wrong with the file, and does not name it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import (
    ArgumentError,
    MissingDependencyError,
    PackingError,
    ReadError,
    VideoFileNotFoundError,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

_MAX_NAMES_SHOWN = 10


# Folders


@dataclass(frozen=True)
class SkippedVideo:
    """A file that is not in the packed file.

    Attributes:
        path: Its path relative to the packed folder, with `/` between the parts.
        reason: Why it was left out, in words.
    """

    path: str
    reason: str


def list_videos(
    folder: Path,
) -> tuple[tuple[str, ...], list[tuple[str, int]], list[SkippedVideo]]:
    """Lists the files in a folder with one sub-folder of videos per class.

    Returns:
        The class names; (path, label) of each file that may be a video, the paths relative to
        `folder`; and the files that are none, without having been opened.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        class_names = tuple(path.name for path in entries if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise VideoFileNotFoundError(f"There is no folder {folder}.") from None
        raise ArgumentError(
            f"`folder` must be a folder, and is a file. Received: folder={str(folder)!r}"
        ) from None
    except OSError as error:
        _raise_unreadable(error)
    strays = [path.name for path in entries if path.name not in class_names]
    if not class_names:
        raise PackingError(
            f"Expected one sub-folder per class in {folder}, with the videos of the class in it. "
            f"Found no sub-folders, and {len(strays)} files: {shown(strays)}."
        )
    skipped = [SkippedVideo(name, "is in no class folder") for name in strays]
    files: list[tuple[str, int]] = []
    for label, name in enumerate(class_names):
        for path in sorted(_visible_files(folder, name)):
            if problem := _problem(folder / path):
                skipped.append(SkippedVideo(path, problem))
            else:
                files.append((path, label))
    for text in (*class_names, *(item.path for item in skipped), *(path for path, _ in files)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            # HDF5 and FFmpeg accept nothing else. Checked first, since packing can take hours.
            raise PackingError(f"The name {text!a} is not valid UTF-8. Rename it.") from error
    return class_names, files, skipped


def _raise_unreadable(error: OSError) -> NoReturn:
    reason = error.strerror or error
    raise ReadError(f"{error.filename} cannot be read: {reason}. Nothing was written.") from error


def _visible_files(folder: Path, name: str) -> Iterator[str]:
    """Walks through a class folder; yields paths relative to `folder`, in no particular order.

    Links to folders are among them: they are not followed, since they may be circular.
    """
    for parent, folders, files in os.walk(folder / name, onerror=_raise_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for file in [*files, *links]:
            if not file.startswith("."):
                yield (Path(parent) / file).relative_to(folder).as_posix()


def _problem(path: Path) -> str | None:
    """Returns why a path is not a video, if that is clear before it is decoded."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except OSError as error:
        return f"cannot be opened: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        return "is a link to a folder, which is not followed"
    # FFmpeg would wait for a pipe indefinitely.
    return None if stat.S_ISREG(mode) else "is not a file, but a pipe, a socket or a device"


def shown(texts: Sequence[str]) -> str:
    """Returns the first few of some names, for a message."""
    more = len(texts) - _MAX_NAMES_SHOWN
    return ", ".join(texts[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# Frames and clips


def clip_starts(num_video_frames: int, *, num_clips: int, span: int) -> tuple[int, ...]:
    """Picks the first frames of evenly spaced clips of `span` frames.

        video     0 1 2 3 4 5 6 7 8 9      num_clips=2, span=5, here with a stride of 2
        clip 0    x . x . x
        clip 1              x . x . x

    Returns:
        Different frame numbers in rising order, `num_clips` of them or as many as there are. The
        first is 0 and the last is the last that fits; a single one is in the middle (the earlier
        one, where there are two). Empty if the video is shorter than a clip's span.
    """
    last = num_video_frames - span
    if last < 0:
        return ()
    num_clips = min(num_clips, last + 1)
    if num_clips == 1:
        return (last // 2,)
    return tuple(k * last // (num_clips - 1) for k in range(num_clips))


def crop_box(
    rows: int, columns: int, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """Computes how to scale and crop a picture to a size, keeping its aspect ratio.

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
        raise MissingDependencyError(
            f"PyAV reads the video files, and cannot be imported ({error}). "
            "Install it with: pip install 'h5video_data[pack]'"
        ) from error
    return av


@contextlib.contextmanager
def _av_errors_as_read_errors(what: str) -> Iterator[None]:
    # PyAV raises ValueError and NotImplementedError for what FFmpeg reads and it does not.
    try:
        yield
    except (_import_av().error.FFmpegError, ValueError, NotImplementedError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise ReadError(f"{what}: {text}") from error


@contextlib.contextmanager
def _open_video(path: Path) -> Iterator[tuple[float, Iterator[VideoFrame]]]:
    """Opens a video; yields its frame rate and its frames, which must be used before it closes."""
    with _av_errors_as_read_errors("is not a video, or a damaged one"):
        # discardcorrupt: the last packet of a truncated file is not whole. Decoders fail on it or
        # invent the rest of the picture; some lose good frames before it as well.
        arguments = {"file": str(path.absolute()), "options": {"fflags": "discardcorrupt"}}
        try:
            container = _import_av().open(metadata_errors="replace", **arguments)
        except TypeError:  # PyAV 19 has no such argument, and leaves such metadata undecoded
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
    # AREA averages all pixels that a smaller pixel covers, and is bilinear for enlarging.
    scaled = reformatter.reformat(frame, columns, rows, "rgb24", interpolation="AREA")
    pixels: NDArray[np.uint8] = np.asarray(scaled.to_ndarray(), np.uint8)[box]
    # A view would keep the cropped pixels in memory.
    return np.array(np.moveaxis(pixels, -1, 0), order="C")


def count_frames(path: Path, size: tuple[int, int]) -> tuple[int, float]:
    """Decodes a video; returns its number of frames, and frames per second (nan if unknown)."""
    num_frames = 0
    with _open_video(path) as (frame_rate, frames):
        for frame in frames:
            if num_frames == 0:
                # Finds a pixel format that cannot be converted now, not in the second reading.
                with _av_errors_as_read_errors("cannot be converted to RGB"):
                    _to_picture(frame, _import_av().video.reformatter.VideoReformatter(), size)
            num_frames += 1
    return num_frames, frame_rate


def read_clips(
    path: Path, clips: Sequence[range], size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Decodes a video once and yields its clips, uint8 (frames, 3, rows, columns) each.

    Ends early if the video does. Only the pictures of clips that have begun are in memory.

    Args:
        path: The video.
        clips: The numbers of the frames of each clip; the clips in rising order.
        size: (rows, columns) to scale and crop to, in pixels.
    """
    reformatter = _import_av().video.reformatter.VideoReformatter()
    needed = set(itertools.chain(*clips))
    pictures: dict[int, NDArray[np.uint8]] = {}
    waiting = list(reversed(clips))
    with _open_video(path) as (_, frames):
        for number, frame in enumerate(frames):
            if number in needed:
                pictures[number] = _to_picture(frame, reformatter, size)
            if number == waiting[-1][-1]:
                yield np.stack([pictures[n] for n in waiting.pop()])
                if not waiting:
                    return
                pictures = {n: pictures[n] for n in pictures if n >= waiting[-1].start}


def cut_scenes(path: Path, folder: Path, num_frames: int) -> int:
    """Cuts a video into short ones without loss, at a height of 144 pixels.

    They are `scene_00.mkv`, `scene_01.mkv`, ... of `num_frames` frames each; the rest at the end is
    left out. Returns their number.
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
