"""Video files and pictures: their frames and time stamps, read through PyAV (FFmpeg).

The only module that imports PyAV. Every error of a video file is a ReadError whose message says
what is wrong with the file, and does not name it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import MissingDependencyError, ReadError

from .clip_rules import Times
from .fitting import FrameForm, Turn, fitted, place, turn_of_matrix

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter


class Reader:
    """Frames of an open video, in the order in which they are shown.

    Attributes:
        frame_rate: Frames a second, nan if unknown.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        rate = stream.average_rate
        self.frame_rate = float(rate) if rate else float("nan")
        self._container, self._stream = container, stream
        self._pixel_aspect = _pixel_aspect(stream)
        self._reformatter: VideoReformatter = _import_av().video.reformatter.VideoReformatter()

    def frames(self) -> Iterator[VideoFrame]:
        """Decodes the video; may raise a ReadError."""
        return _decode(self._container, self._stream)

    def shown_size(self, frame: VideoFrame) -> tuple[int, int]:
        """Returns (rows, columns) of a frame as it is shown: turned, with square pixels."""
        rows, columns = frame.height, round(frame.width * self._pixel_aspect)
        return (columns, rows) if self._turn(frame).swaps else (rows, columns)

    def picture(self, frame: VideoFrame, form: FrameForm) -> NDArray[np.uint8]:
        """Returns a frame as uint8 (3, rows, columns), RGB; may raise a ReadError."""
        with _av_errors_as_read_errors("cannot be converted to RGB"):
            return _to_picture(
                frame, self._reformatter, form, self._pixel_aspect, self._turn(frame)
            )

    def _turn(self, frame: VideoFrame) -> Turn:
        try:
            # Not in a loop, which gives the items themselves before PyAV 19, and since then keys.
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
            if matrix is not None:
                return turn_of_matrix(np.frombuffer(bytes(matrix), np.int32))
            # PyAV 12 with FFmpeg 6: of the stream, in degrees.
            degrees = (getattr(self._stream, "side_data", None) or {}).get("DISPLAYMATRIX")
        except ValueError:  # PyAV 18 does not know all that FFmpeg 8 finds, such as EXIF
            degrees = getattr(frame, "rotation", 0)
        quarters = 0 if degrees is None else round(degrees / 90) % 4
        return (Turn(), Turn(True, True), Turn(False, True, True), Turn(True, False, True))[
            quarters
        ]


def _pixel_aspect(stream: Any) -> float:
    """Returns the width of a pixel over its height; 1 if it is unknown."""
    for holder in (stream, stream.codec_context):
        aspect = getattr(holder, "sample_aspect_ratio", None)
        if aspect:
            return float(aspect)
    return 1.0


def packet_times(path: Path) -> Times:
    """Reads the time stamps of a video's frames from its packets, without decoding them.

    It is a guess: of edit lists, frames that are not shown, and damage a packet says nothing.
    """
    stamps = []
    with _open_container(path) as container:
        stream = _video_stream(container)
        with contextlib.suppress(_import_av().error.FFmpegError):
            for packet in container.demux(stream):
                stamp = packet.dts if packet.pts is None else packet.pts
                if packet.size and not getattr(packet, "is_discard", False):
                    stamps.append(np.nan if stamp is None else float(stamp * packet.time_base))
    return np.sort(np.array(stamps, np.float64))


def frame_time(frame: VideoFrame) -> float:
    """Returns when a frame is shown, in seconds; nan if it has no time stamp."""
    return float("nan") if frame.time is None else float(frame.time)


@contextlib.contextmanager
def open_video(path: Path, num_threads: int = 0) -> Iterator[Reader]:
    """Opens a video, whose frames must be used before it closes.

    Args:
        path: The file.
        num_threads: Threads that decode it; 0: as FFmpeg likes.
    """
    with _open_container(path) as container:
        stream = _video_stream(container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads
        yield Reader(container, stream)


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
def _open_container(path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        with _av_errors_as_read_errors("is not a video, or a damaged one"):
            # discardcorrupt: the last packet of a truncated file is not whole. Decoders fail on it
            # or invent the rest of the picture; some lose good frames before it as well.
            file: Any = str(path.absolute())
            try:
                file.encode()
            except UnicodeEncodeError:  # PyAV takes no other names
                file = stack.enter_context(open(os.fsencode(path), "rb"))
            arguments = {"file": file, "options": {"fflags": "discardcorrupt"}}
            try:
                container = _import_av().open(metadata_errors="replace", **arguments)
            except TypeError:  # PyAV 19 has no such argument, and leaves such metadata undecoded
                container = _import_av().open(**arguments)
            stack.enter_context(container)
        yield container


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
    frame: VideoFrame,
    reformatter: VideoReformatter,
    form: FrameForm,
    pixel_aspect: float = 1.0,
    turn: Turn = Turn(),  # noqa: B008 - it is immutable
) -> NDArray[np.uint8]:
    """Scales, turns and fits a frame to (3, rows, columns), RGB."""
    shape = (float(frame.height), frame.width * pixel_aspect)
    placement = place(*(shape[::-1] if turn.swaps else shape), form)
    rows, columns = placement.scaled[::-1] if turn.swaps else placement.scaled
    # AREA averages all pixels that a smaller pixel covers, and is bilinear for enlarging.
    scaled = reformatter.reformat(frame, columns, rows, "rgb24", interpolation="AREA")
    return fitted(np.asarray(scaled.to_ndarray(), np.uint8), turn, placement, form)


def cut_scenes(path: Path, folder: Path, num_frames: int) -> int:
    """Cuts a video into short ones without loss, at a height of 144 pixels.

    They are `scene_00.mkv`, `scene_01.mkv`, ... of `num_frames` frames each; the rest at the end is
    left out. Returns their number.
    """
    av = _import_av()
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with open_video(path) as video:
        frame_rate, frames = video.frame_rate, video.frames()
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
