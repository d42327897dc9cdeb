"""Writes HDF5 files that appear under their name only when they are complete."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from h5video_data.errors import (
    ArgumentError,
    MissingDependencyError,
    VideoFileNotFoundError,
)
from h5video_data.storage.system import read_at, write_at

Item = TypeVar("Item")

# In the format before 1.8 an attribute has at most 64 KiB, some 4,000 class names.
HDF5_OPTIONS: dict[str, Any] = {"driver": "fileobj", "libver": ("v108", "latest")}


def check_out(out: Path, *, overwrite: bool, name: str = "out") -> None:
    """Raises an error if no file can be written there; `name` is that of the argument."""
    received = f"Received: {name}={str(out)!r}"
    if not out.parent.is_dir():
        raise VideoFileNotFoundError(f"There is no folder {out.parent} to write {out.name} to.")
    if out.exists() and not out.is_file():
        kind = "a folder" if out.is_dir() else "a pipe, a socket or a device"
        raise ArgumentError(f"`{name}` must be a file, and is {kind}. {received}")
    if out.exists() and not overwrite:
        raise ArgumentError(f"`{name}` exists. Use overwrite=True to replace it. {received}")


def check_not_read(out: Path, paths: Iterable[str | Path]) -> None:
    """Raises an ArgumentError if a new file would replace one of the files that are read."""
    for path in paths:
        if out.exists() and os.path.exists(path) and out.samefile(path):
            raise ArgumentError(
                f"`out` must not be a file that is read, and is {path}. Received: out={str(out)!r}"
            )


class Output(io.FileIO):
    """New file that HDF5 writes to, and that hides write errors from HDF5.

    If HDF5 itself meets a full or failing disk, it cannot close the file any more, and the process
    may end with a signal. So the first error is kept for `check`, and everything written after it
    is discarded. HDF5 seeks before it reads or writes.

    Args:
        path: The file.
        is_new: Whether it must not exist. If it does, HDF5 takes it for empty, and what HDF5 does
            not write to stays as it is.
    """

    def __init__(self, path: Path, *, is_new: bool = True) -> None:
        self.error: BaseException | None = None
        self._stop = 0  # where the file ends for HDF5
        mode = "x+b" if is_new else "r+b"
        super().__init__(path, mode, opener=lambda path, flags: os.open(path, flags, 0o666))

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Sets the position; from the end, from what HDF5 takes for it."""
        if whence == os.SEEK_END:
            return super().seek(self._stop + offset)
        return super().seek(offset, whence)

    def check(self) -> None:
        """Raises the first error of writing, if any."""
        if self.error is not None:
            raise self.error

    # BaseException: HDF5 cannot handle a KeyboardInterrupt in these functions, either.

    def write(self, data: Any, /) -> int:
        """Writes all of the data, or nothing after an error."""
        rest = memoryview(data)
        try:
            position = self.tell()
            while len(rest) and self.error is None:
                count = write_at(self.fileno(), rest, position)
                rest, position = rest[count:], position + count
            self._stop = max(self._stop, position)
        except BaseException as error:
            self.error = error
        return len(data)

    def readinto(self, data: Any, /) -> int:
        """Reads what was written; zeros beyond it."""
        view, done = memoryview(data), 0
        try:
            done = read_at(self.fileno(), view, self.tell())
        except BaseException as error:
            self.error = self.error or error
        view[done:] = bytes(len(view) - done)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Changes the length of the file."""
        size = self.tell() if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self.fileno(), size)
                self._stop = size
        except BaseException as error:
            self.error = error
        return size


def not_written(out: Path, error: Exception) -> str:
    """Returns the message for a file that could not be written."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error)
    return f"{out} could not be written, and nothing of it was left behind: {reason}"


def with_progress(
    items: Iterable[Any],
    what: str,
    *,
    unit: str,
    progress: bool,
    total: int | None = None,
    initial: int = 0,
) -> Iterable[Any]:
    """Returns the items, with a progress bar on stderr if `progress`.

    Raises:
        MissingDependencyError: tqdm is not installed.
    """
    if not progress:
        return items
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingDependencyError(
            f"tqdm shows the progress, and cannot be imported ({error}). "
            "Install it with: pip install 'h5video_data[pack]'"
        ) from error
    bar: Iterable[Any] = tqdm(items, desc=what, unit=unit, total=total, initial=initial)
    return bar
