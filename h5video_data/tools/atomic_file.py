"""What the tools that write HDF5 files have in common: the file appears when it is complete."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py

from h5video_data.errors import ArgumentError, H5VideoError, VideoFileNotFoundError

from .videos import missing_dependency

Item = TypeVar("Item")


def check_out(out: Path, *, overwrite: bool) -> None:
    """Makes sure that a file can be written under that name.

    Raises:
        VideoFileNotFoundError: There is no folder to write it to.
        ArgumentError: It is no file, or exists and `overwrite` is false.
    """
    if not out.parent.is_dir():
        raise VideoFileNotFoundError(f"There is no folder {out.parent} to write {out.name} to.")
    if out.is_dir():
        raise ArgumentError(f"`out` must be a file, and is a folder. Received: out={str(out)!r}")
    if out.exists() and not out.is_file():
        raise ArgumentError(
            f"`out` must be a file, and is a pipe, a socket or a device. Received: out={str(out)!r}"
        )
    if out.exists() and not overwrite:
        raise ArgumentError(
            "`out` exists. Give overwrite=True to replace it. Received: "
            f"out={str(out)!r}, overwrite={overwrite!r}"
        )


class Output(io.RawIOBase):
    """The bytes of a new file, for HDF5 to write: what cannot be written is not its trouble.

    If HDF5 itself finds that the disk is full or fails, it cannot close the file any more, and the
    process may end with a signal. So the first error is kept for `check`, and whatever is to be
    written from then on goes nowhere.

    Args:
        path: The file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.error: BaseException | None = None
        self._position = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def check(self) -> None:
        """Raises what went wrong while HDF5 was writing."""
        if self.error is not None:
            raise self.error

    def watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until something cannot be written: checked after each of them."""
        for item in items:
            yield item
            self.check()

    def sync(self) -> None:
        """Has the system write to the disk what it still holds.

        Raises:
            OSError: Something was not written, now or before.
        """
        self.check()
        os.fsync(self._fd)

    def close(self) -> None:
        """Closes the file; to be called after HDF5 closed it."""
        if not self.closed:
            os.close(self._fd)
        super().close()

    def write(self, data: Any) -> int:
        """Writes all of it, or nothing once there was an error."""
        rest, position = memoryview(data), self._position
        self._position += len(rest)
        # Ctrl-C as well: in the middle of HDF5 is no place for an exception of any kind.
        try:
            while len(rest) and self.error is None:
                count = os.pwrite(self._fd, rest, position)
                rest, position = rest[count:], position + count
        except BaseException as error:
            self.error = error
        return len(data)

    def readinto(self, data: Any) -> int:
        """Reads what HDF5 wrote; zeros beyond it."""
        view, done = memoryview(data), 0
        try:
            done = os.preadv(self._fd, [view], self._position)
        except BaseException as error:
            self.error = self.error or error
        view[done:] = bytes(len(view) - done)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Makes the file this long."""
        size = self._position if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._fd, size)
        except BaseException as error:
            self.error = error
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.fstat(self._fd).st_size if begin is None else begin)
        return self._position

    def tell(self) -> int:
        """The place."""
        return self._position

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True


@contextmanager
def file_when_complete(
    out: Path,
    error_type: type[H5VideoError],
    check: Callable[[Path], None] | None = None,
) -> Iterator[tuple[h5py.File, Output]]:
    """Opens a new file that is named `out` once it is complete, and removed if it never is.

    Args:
        out: The file's name in the end.
        error_type: Raised if the file cannot be written: no space, or a disk that fails.
        check: Called with the path of the complete file, closed, before it gets its name. If it
            raises, the file is removed.

    Yields:
        The `h5py.File`, open for writing, and the output behind it. Whoever writes much has it
        `watched`.

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
                    # HDF5 may have stumbled over what could not be written.
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
    """What to say if a file could not be written."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error)
    return f"{out} could not be written, and nothing of it was left behind: {reason}"


def with_progress(items: Iterable[Any], what: str, *, unit: str, progress: bool) -> Iterable[Any]:
    """The items, with a progress bar on stderr if `progress`.

    Raises:
        MissingDependencyError: tqdm is not installed.
    """
    if not progress:
        return items
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise missing_dependency("tqdm shows the progress", error) from error
    bar: Iterable[Any] = tqdm(items, desc=what, unit=unit)
    return bar
