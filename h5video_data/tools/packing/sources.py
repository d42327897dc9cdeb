"""What is packed: the videos in a folder, or those that a table lists."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from h5video_data.errors import ArgumentError, PackingError, ReadError, VideoFileNotFoundError
from h5video_data.storage.name_patterns import natural_key
from h5video_data.summary import counted

from .clip_rules import Span

_MAX_NAMES_SHOWN = 10

# GIF is not among them: one file is a video.
_PICTURE = re.compile(r".*\d\.(jpe?g|png|bmp|webp|tiff?|ppm|pgm)", re.IGNORECASE)


@dataclass(frozen=True)
class SkippedVideo:
    """A file that is not in the packed file.

    Attributes:
        path: Its path relative to the packed folder, with `/` between the parts.
        reason: Why it was left out, in words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Part:
    """A part of a video that gives samples, and what is known about them."""

    label: int | None = None
    span: Span = Span()  # noqa: RUF009 - it is immutable
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class Source:
    """A video: a file, or a folder of its frames."""

    name: str
    """Path relative to the folder or the table, with `/`; bytes that are not UTF-8, as `\\xff`."""
    path: Path
    parts: tuple[Part, ...] = (Part(),)
    frames: tuple[Path, ...] | None = None
    """The pictures, in order, of a folder of frames."""


@dataclass(frozen=True)
class Sources:
    """What there is to pack."""

    videos: tuple[Source, ...]
    skipped: tuple[SkippedVideo, ...]
    """What is no video, without having been opened."""
    class_names: tuple[str, ...] | None
    """None: the samples have no labels."""
    columns: frozenset[str] = frozenset()
    """Which of "group" and "split" a table has."""


def list_folder(folder: Path, *, has_classes: bool, has_frame_folders: bool) -> Sources:
    """Lists the videos in a folder.

    Args:
        folder: The folder.
        has_classes: Whether it holds one folder a class.
        has_frame_folders: Whether a folder, below those of the classes, that holds numbered
            pictures is one video; otherwise each picture is one.
    """
    entries = _entries(folder)
    class_names = tuple(path.name for path in entries if path.is_dir())
    strays = [path.name for path in entries if path.name not in class_names]
    if not has_classes:
        parents: list[tuple[str, int | None]] = [("", None)]
        skipped = []
    elif not class_names:
        raise PackingError(
            f"Expected one sub-folder per class in {folder}, with the videos of the class in it. "
            f"Found no sub-folders, and {counted(len(strays), 'file')}: {shown(strays)}. "
            "Use labels=None to pack videos without classes."
        )
    else:
        parents = [(name, label) for label, name in enumerate(class_names)]
        skipped = [SkippedVideo(readable(name), "is in no class folder") for name in strays]
    videos: list[Source] = []
    for parent, label in parents:
        files = sorted(_visible_files(folder, parent))
        is_frame = _frame_folders(files, parent) if has_frame_folders else lambda _: None
        frames: dict[str, list[Path]] = {}
        for path in files:
            if problem := problem_of(folder / path):
                skipped.append(SkippedVideo(readable(path), problem))
            elif (inside := is_frame(path)) is not None:
                frames.setdefault(inside, []).append(folder / path)
            else:
                videos.append(Source(readable(path), folder / path, (Part(label),)))
        videos += [
            Source(readable(path), folder / path, (Part(label),), _in_order(pictures))
            for path, pictures in frames.items()
        ]
    videos.sort(key=lambda item: (item.parts[0].label or 0, str(item.path.relative_to(folder))))
    names = tuple(map(readable, class_names)) if has_classes else None
    return Sources(tuple(videos), tuple(skipped), names)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise VideoFileNotFoundError(f"There is no folder {folder}.") from None
        raise ArgumentError(
            "`folder` must be a folder, or a table whose name ends in .csv, .tsv or .parquet, and "
            f"is a file. Received: folder={str(folder)!r}"
        ) from None
    except OSError as error:
        _raise_unreadable(error)


def _frame_folders(files: Sequence[str], parent: str) -> Callable[[str], str | None]:
    """Returns a function that tells the folder of frames that a file belongs to, if any."""
    counts: dict[str, int] = {}
    for path in files:
        if _PICTURE.fullmatch(path):
            inside = path.rpartition("/")[0]
            counts[inside] = counts.get(inside, 0) + 1
    folders = {inside for inside, count in counts.items() if count > 1 and inside != parent}
    return lambda path: (
        inside
        if _PICTURE.fullmatch(path) and (inside := path.rpartition("/")[0]) in folders
        else None
    )


def frame_folder(path: Path) -> tuple[Path, ...]:
    """Returns the pictures in a folder of frames, in order."""
    pictures = [item for item in path.iterdir() if _PICTURE.fullmatch(item.name)]
    return _in_order([item for item in pictures if not item.name.startswith(".")])


def _in_order(pictures: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(sorted(pictures, key=lambda path: (natural_key(path.name), path.name)))


def readable(name: str) -> str:
    """Returns a name as UTF-8 can hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _raise_unreadable(error: OSError) -> NoReturn:
    reason = error.strerror or error
    raise ReadError(f"{error.filename} cannot be read: {reason}. Nothing was written.") from error


def _visible_files(folder: Path, name: str) -> Iterator[str]:
    """Walks through a folder; yields paths relative to `folder`, in no particular order.

    Links to folders are among them: they are not followed, since they may be circular.
    """
    for parent, folders, files in os.walk(folder / name, onerror=_raise_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for file in [*files, *links]:
            if not file.startswith("."):
                yield (Path(parent) / file).relative_to(folder).as_posix()


def problem_of(path: Path) -> str | None:
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
