"""The files in a folder of videos: which may be videos, and which certainly are none."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from h5video_data.errors import ArgumentError, PackingError, ReadError, VideoFileNotFoundError

_MAX_NAMES_SHOWN = 10


@dataclass(frozen=True)
class SkippedVideo:
    """A file that is not in the packed file.

    Attributes:
        path: Its path relative to the packed folder, with `/` between the parts.
        reason: Why it was left out, for people to read.
    """

    path: str
    reason: str


def list_videos(
    folder: Path,
) -> tuple[tuple[str, ...], list[tuple[str, int]], list[SkippedVideo]]:
    """Lists what is in a folder with one sub-folder of videos per class.

    Returns:
        The class names; (path, label) of each file that may be a video, the paths relative to
        `folder`; and what certainly is none.

    Raises:
        VideoFileNotFoundError: There is no such folder.
        ArgumentError: It is a file.
        PackingError: It has no sub-folders, or a name that HDF5 does not take.
        ReadError: It, or a folder below it, cannot be read.
    """
    with _reading_folder(folder):
        exists, is_folder = folder.exists(), folder.is_dir()
    if not exists:
        raise VideoFileNotFoundError(f"There is no folder {folder}.")
    if not is_folder:
        raise ArgumentError(f"`folder` must be a folder. Received: folder={str(folder)!r}")
    with _reading_folder(folder):
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        class_names = tuple(path.name for path in entries if path.is_dir())
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
            problem = _problem(folder / path)
            if problem is None:
                files.append((path, label))
            else:
                skipped.append(SkippedVideo(path, problem))
    for text in (*class_names, *(item.path for item in skipped), *(path for path, _ in files)):
        _check_utf8(text)
    return class_names, files, skipped


@contextlib.contextmanager
def _reading_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReadError(
            f"{error.filename or folder} cannot be read: {error.strerror or error}. Nothing was "
            "written."
        ) from error


def _visible_files(folder: Path, name: str) -> Iterator[str]:
    """Walks through a class folder and gives paths relative to `folder`, in no certain order.

    Links to folders are among them: they are not followed, for they may lead in circles.
    """

    def fail(error: OSError) -> None:
        raise error

    with _reading_folder(folder / name):
        for parent, folders, files in os.walk(folder / name, onerror=fail):
            folders[:] = [name for name in folders if not name.startswith(".")]
            links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            for file in [*files, *links]:
                if not file.startswith("."):
                    yield (Path(parent) / file).relative_to(folder).as_posix()


def _problem(path: Path) -> str | None:
    """Why something in a class folder is no video, if that is clear before it is opened."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except OSError as error:
        return f"cannot be opened: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        return "is a link to a folder, which is not followed"
    # FFmpeg would wait for a pipe for ever.
    return None if stat.S_ISREG(mode) else "is not a file, but a pipe, a socket or a device"


def check_not_packed(out: Path, folder: Path, paths: Iterable[str]) -> None:
    """Makes sure that `out` does not take the place of a video, nor of one that is skipped.

    Raises:
        ArgumentError: It does.
    """
    if not out.exists() or h5py.is_hdf5(out):  # which is no video, but was packed before
        return
    for path in paths:
        if (folder / path).exists() and out.samefile(folder / path):
            raise ArgumentError(
                f"`out` must not be one of the files that are packed, and is {folder / path}. "
                f"Received: out={str(out)!r}"
            )


def _check_utf8(name: str) -> None:
    # HDF5 and FFmpeg take nothing else; this is quick, and packing can take hours.
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise PackingError(f"The name {name!a} is not valid UTF-8. Rename it.") from error


def shown(texts: Sequence[str]) -> str:
    """The first few of some names, for people."""
    more = len(texts) - _MAX_NAMES_SHOWN
    return ", ".join(texts[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
