"""`PartialFile`: a new HDF5 file whose rows are written first, and gone on with after a kill.

Rows are written to `<out>.partial`, and a journal beside it says which are complete, with their
checksum: after a kill, the next run goes on behind them. HDF5's metadata come at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from h5video_data.errors import ArgumentError, H5VideoError, PackingError
from h5video_data.storage.system import lock_file, read_at, write_at
from h5video_data.tools.atomic_file import HDF5_OPTIONS, Output, check_out, not_written

# So that the first dataset's address does not depend on its size.
IN_PLACE: dict[str, Any] = {**HDF5_OPTIONS, "alignment_threshold": 1, "alignment_interval": 4096}
COPY_BYTES = 16 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)

Entry = dict[str, Any]


class PartialFile:
    """What files have in common that are gone on with after a kill.

    Args:
        out: The file.
        signature: What the rows depend on; with another one, an unfinished file is begun anew.
            None: it is never gone on with.
        overwrite: Replaces `out` if it exists.
        argument: Name of the argument that `out` is from, for messages.
        error_type: Raised if the file cannot be written: no space, or a failing disk.
        keeps_journal: Whether the journal stays when the file is complete, until
            `remove_journals`: as long as it is there, the same call finds the file complete.

    Attributes:
        num_rows: Rows that have been written.
        entries: The journal: what `commit` was given, also by an earlier process that was killed.
        result: What the journal is to say of the complete file, as JSON.
        is_complete: Whether the same call has completed the file, and what it said is in `result`.
    """

    def __init__(
        self,
        out: Path,
        *,
        signature: Any,
        overwrite: bool,
        argument: str = "out",
        error_type: type[H5VideoError] = PackingError,
        keeps_journal: bool = False,
    ) -> None:
        self.num_rows = 0
        self.entries: list[Entry] = []
        self.result: Any = None
        self._argument = argument
        self._error_type = error_type
        self._out = out
        self._partial = out.with_name(f"{out.name}.partial")
        self._journal = out.with_name(f"{out.name}.partial.journal")
        self._signature = json.dumps(signature, sort_keys=True)
        self._is_resumable = signature is not None
        self._keeps_journal = keeps_journal
        self._fd = -1
        self.is_complete = self._find_complete()
        if not self.is_complete:
            check_out(out, overwrite=overwrite, name=argument)

    def written_nbytes(self) -> int:
        """Returns the bytes of the disk that the unfinished file takes."""
        with contextlib.suppress(OSError):
            stat = self._partial.stat()
            return int(getattr(stat, "st_blocks", stat.st_size // 512) * 512)
        return 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Opens the file; on an error, nothing of it is left behind."""
        # Not the file itself is locked, which HDF5 locks, too.
        try:
            lock = os.open(self._journal, _FLAGS, 0o666)
        except OSError as error:
            raise self._error_type(not_written(self._out, error)) from error
        if not lock_file(lock):
            os.close(lock)
            raise ArgumentError(
                f"Another process is writing `{self._argument}`. "
                f"Received: {self._argument}={str(self._out)!r}"
            )
        try:
            self._fd = os.open(self._partial, _FLAGS, 0o666)
            self._prepare()
            self._go_on()
            yield
        except H5VideoError:
            raise
        except OSError as error:
            raise self._error_type(not_written(self._out, error)) from error
        finally:
            self._close()
            self._partial.unlink(missing_ok=True)
            os.close(lock)
            if not (self.is_complete and self._keeps_journal):
                self.remove_journal()

    def remove_journal(self) -> None:
        """Removes the journal, and what a killed process has left beside a complete file."""
        self._partial.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # The journal: the signature, a line for each `commit`, and one when the file is complete.

    def _lines(self) -> list[str]:
        """Returns the lines of the journal of the same call, without the signature."""
        lines = []
        with contextlib.suppress(OSError, ValueError):
            if self._is_resumable:
                lines = self._journal.read_text().splitlines(keepends=True)
        same = bool(lines) and lines[0].strip() == self._signature
        return lines[1:] if same else []

    def _find_complete(self) -> bool:
        found = _parsed(self._lines()[-1:])
        with contextlib.suppress(OSError):
            if found and found[0].get("complete") == _identity(self._out):
                self.result = found[0]["result"]
                for name, lines in found[0].get("others", {}).items():
                    self._journal.with_name(name).write_text("".join(lines))
                return True
        return False

    def _hold_others(self, others: Sequence[PartialFile]) -> None:
        """Writes what the journals of other complete files say into this one's, in one step."""
        with contextlib.suppress(OSError, IndexError):  # a journal may have been removed
            line = json.loads(self._lines()[-1])
            line["others"] = {
                file._journal.name: [f"{file._signature}\n", file._lines()[-1]] for file in others
            }
            self._partial.write_text(f"{self._signature}\n{json.dumps(line)}\n")
            os.replace(self._partial, self._journal)

    def _go_on(self) -> None:
        """Takes over the rows that an earlier process has committed, if they are as they were."""
        lines = self._lines()
        for entry in _parsed(lines):
            if "complete" in entry or not self._take_over(entry):
                break
            self.entries.append(entry["entry"])
            self.num_rows += entry["rows"]
        self._journal.write_text("".join([f"{self._signature}\n", *lines[: len(self.entries)]]))
        self._go_on_from()

    def _note(self, line: dict[str, Any]) -> None:
        if self._is_resumable:
            with open(self._journal, "a") as file:
                file.write(json.dumps(line) + "\n")

    # What each kind of file does

    def _prepare(self) -> None:
        """Called when the file is open, before anything of the journal is taken over."""

    def _take_over(self, entry: Entry) -> bool:
        """Takes over rows of an earlier process; False: they are not as they were."""
        raise NotImplementedError

    def _go_on_from(self) -> None:
        """Called when all has been taken over."""

    # Bytes

    def _write_at(self, data: memoryview, at: int) -> int:
        """Writes all of the data; returns where it ends."""
        while len(data):
            count = write_at(self._fd, data, at)
            data, at = data[count:], at + count
        return at

    def _checksum_of(self, at: int, nbytes: int) -> int | None:
        """Returns the checksum of bytes of the file; None: it ends before."""
        checksum, stop = 0, at + nbytes
        while at < stop:
            block = bytearray(min(COPY_BYTES, stop - at))
            if (count := read_at(self._fd, memoryview(block), at)) == 0:
                return None
            checksum = zlib.crc32(memoryview(block)[:count], checksum)
            at += count
        return checksum

    def _read(self, nbytes: int, at: int) -> bytes:
        block, done = bytearray(nbytes), 0
        while done < nbytes:
            if (count := read_at(self._fd, memoryview(block)[done:], at + done)) == 0:
                raise OSError(f"{self._partial} ends early")
            done += count
        return bytes(block)

    # The end

    def _finish_in_place(
        self, write: Callable[[h5py.File], None], check: Callable[[Path], None] | None
    ) -> None:
        """Writes HDF5's metadata around the rows."""
        with Output(self._partial, is_new=False) as output:
            with h5py.File(self._partial, "w", fileobj=output, **IN_PLACE) as file:
                _watched(output, write, file)
            _sync(output)
        self._close()  # Windows renames no open file
        self._publish(self._partial, check)

    def finish_by(
        self,
        write: Callable[[h5py.File, Output], None],
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Completes the file in another place, to which rows are copied.

        Args:
            write: Writes all of it.
            check: Called with the path of the complete, closed file; may raise.
        """
        complete = self._partial.with_name(f"{self._partial.name}.h5")
        complete.unlink(missing_ok=True)
        try:
            with Output(complete) as output:
                with h5py.File(complete, "w", fileobj=output, **HDF5_OPTIONS) as file:
                    _watched(output, lambda file: write(file, output), file)
                _sync(output)
            self._publish(complete, check)
        finally:
            complete.unlink(missing_ok=True)

    def _publish(self, complete: Path, check: Callable[[Path], None] | None) -> None:
        """Gives the complete file its name."""
        if check is not None:
            check(complete)
        self._note({"complete": _identity(complete), "result": self.result})
        os.replace(complete, self._out)
        self.is_complete = True


def remove_journals(files: Sequence[PartialFile]) -> None:
    """Removes the journals of complete files that belong together.

    A process that is killed meanwhile leaves the first file's, by which all are complete.
    """
    first, *others = files
    if others:
        first._hold_others(others)
    for file in (*others, first):
        file.remove_journal()


def make_contiguous(file: h5py.File, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """Creates a dataset without a name, and without writing to its bytes."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    stored_type = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, None, stored_type, space, plist))


def _parsed(lines: list[str]) -> list[dict[str, Any]]:
    """Returns lines of a journal, up to the first one that is not whole."""
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith("\n"):
            return found[:-1]
    return found


def _identity(path: Path) -> list[int]:
    """Returns what tells a complete file from any other; renaming keeps it."""
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _watched(output: Output, write: Callable[[h5py.File], None], file: h5py.File) -> None:
    try:
        write(file)
    except Exception:
        output.check()  # data that were discarded may be the reason
        raise


def _sync(output: Output) -> None:
    output.check()
    os.fsync(output.fileno())
