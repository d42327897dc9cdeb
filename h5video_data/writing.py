"""What the tools that write HDF5 files have in common: the file appears when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from .errors import ArgumentError, VideoFileNotFoundError
from .videos import missing_dependency


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


@contextmanager
def file_when_complete(
    out: Path, check: Callable[[Path], None] | None = None
) -> Iterator[h5py.File]:
    """Opens a new file that is named `out` once it is complete, and removed if it never is.

    Args:
        out: The file's name in the end.
        check: Called with the path of the complete file, closed, before it gets its name. If it
            raises, the file is removed.

    Yields:
        The `h5py.File`, open for writing.
    """
    partial = out.with_name(f"{out.name}.{secrets.token_hex(4)}.partial")
    try:
        # In the format before 1.8 an attribute has at most 64 KiB, some 4,000 class names.
        with h5py.File(partial, "x", libver=("v108", "latest")) as file:
            yield file
        if check is not None:
            check(partial)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


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
