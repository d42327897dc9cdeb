"""Writes HDF5 files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py

from h5video_data.errors import (
    ArgumentError,
    H5VideoError,
    MissingDependencyError,
    VideoFileNotFoundError,
)

Item = TypeVar("Item")


def check_out(out: Path, *, overwrite: bool) -> None:
    """Checks that a file can be written under that name.

    Raises:
        VideoFileNotFoundError: The folder to write it to does not exist.
        ArgumentError: It is not a file, or exists and `overwrite` is false.
    """
    received = f"Received: out={str(out)!r}"
    if not out.parent.is_dir():
        raise VideoFileNotFoundError(f"There is no folder {out.parent} to write {out.name} to.")
    if out.is_dir():
        raise ArgumentError(f"`out` must be a file, and is a folder. {received}")
    if out.exists() and not out.is_file():
        raise ArgumentError(
            f"`out` must be a file, and is a pipe, a socket or a device. {received}"
        )
    if out.exists() and not overwrite:
        raise ArgumentError(f"`out` exists. Use overwrite=True to replace it. {received}")


class Output:
    """File-like object that HDF5 writes a new file to, and that hides write errors from HDF5.

    If HDF5 itself meets a full or failing disk, it cannot close the file any more, and the process
    may end with a signal. So the first error is kept for `check`, and everything written after it
    is discarded.

    Args:
        path: The file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.error: BaseException | None = None
        self._position = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def check(self) -> None:
        """Raises the first error of writing, if any."""
        if self.error is not None:
            raise self.error

    def watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and calls `check` after each."""
        for item in items:
            yield item
            self.check()

    def sync(self) -> None:
        """Flushes the file to the disk.

        Raises:
            OSError: Something was not written, now or before.
        """
        self.check()
        os.fsync(self._fd)

    def close(self) -> None:
        """Closes the file, after HDF5 closed it."""
        os.close(self._fd)

    # What h5py's driver "fileobj" calls.

    def write(self, data: Any) -> int:
        """Writes all of the data, or nothing after an error."""
        rest, position = memoryview(data), self._position
        self._position += len(rest)
        # BaseException: HDF5 cannot handle a KeyboardInterrupt in here, either.
        try:
            while len(rest) and self.error is None:
                count = os.pwrite(self._fd, rest, position)
                rest, position = rest[count:], position + count
        except BaseException as error:
            self.error = error
        return len(data)

    def readinto(self, data: Any) -> int:
        """Reads what was written; zeros beyond it."""
        view, done = memoryview(data), 0
        try:
            done = os.preadv(self._fd, [view], self._position)
        except BaseException as error:
            self.error = self.error or error
        view[done:] = bytes(len(view) - done)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        """Changes the length of the file."""
        try:
            if self.error is None:
                os.ftruncate(self._fd, size)
        except BaseException as error:
            self.error = error
        return size

    def flush(self) -> None:
        """Does nothing: nothing is buffered here."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Changes the position, from the start or (`SEEK_END`) the end of the file."""
        start = 0 if whence == os.SEEK_SET else os.fstat(self._fd).st_size
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Returns the position."""
        return self._position


@contextmanager
def file_when_complete(
    out: Path,
    error_type: type[H5VideoError],
    check: Callable[[Path], None] | None = None,
) -> Iterator[tuple[h5py.File, Output]]:
    """Opens a new file, which is renamed to `out` when the context ends, and removed on an error.

    Args:
        out: The final path of the file.
        error_type: Raised if the file cannot be written: no space, or a failing disk.
        check: Called with the path of the complete, closed file before it is renamed. If it raises,
            the file is removed.

    Yields:
        The `h5py.File`, open for writing, and the `Output` behind it. Long loops of writes should
        be `watched`.

    Raises:
        H5VideoError: Of the given type.
    """
    partial = out.with_name(f"{out.name}.{secrets.token_hex(4)}.partial")
    try:
        with _reported(out, error_type):
            output = Output(partial)
        # In the format before 1.8 an attribute has at most 64 KiB, some 4,000 class names.
        options = {"driver": "fileobj", "fileobj": output, "libver": ("v108", "latest")}
        with closing(output):
            with h5py.File(partial, "w", **options) as file:
                try:
                    yield file, output
                except Exception:
                    # The reason may be that data were discarded after an error of writing.
                    with _reported(out, error_type):
                        output.check()
                    raise
            with _reported(out, error_type):
                output.sync()
        if check is not None:
            check(partial)
        with _reported(out, error_type):
            os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _reported(out: Path, error_type: type[H5VideoError]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise error_type(not_written(out, error)) from error


def not_written(out: Path, error: Exception) -> str:
    """Returns the message for a file that could not be written."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error)
    return f"{out} could not be written, and nothing of it was left behind: {reason}"


def with_progress(
    items: Iterable[Any], what: str, *, unit: str, progress: bool, total: int | None = None
) -> Iterable[Any]:
    """Returns the items, with a progress bar on stderr if `progress`.

    Args:
        items: The items.
        what: The text before the bar.
        unit: The name of an item.
        progress: Whether to show the bar.
        total: The number of items, if they have no length.

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
    bar: Iterable[Any] = tqdm(items, desc=what, unit=unit, total=total)
    return bar
