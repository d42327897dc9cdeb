"""`RowFile`: a new HDF5 file with a dataset whose number of rows is known only at the end.

Rows are appended to `<out>.partial`, and a journal beside it says which are complete, with their
checksum: after a kill, the next run goes on behind them. Nothing but the rows is in the file until
`finish`, which writes HDF5's metadata around them: contiguous rows stay where they are, since they
were put where HDF5 puts the first dataset of a new file. Compressed and encoded ones are copied.

    12288 bytes left free | row 0 | row 1 | ...  ->  superblock, groups | X: row 0, row 1, ... | Y
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, H5VideoError, PackingError
from h5video_data.storage.filters import encode_chunk, sample_chunks
from h5video_data.storage.system import lock_file, read_at, write_at
from h5video_data.tools.atomic_file import HDF5_OPTIONS, Output, check_out, not_written

from .encoded_rows import LENGTHS, EncodedFrames, Encoding, encoded_values

# So that the first dataset's address does not depend on its size.
_IN_PLACE: dict[str, Any] = {**HDF5_OPTIONS, "alignment_threshold": 1, "alignment_interval": 4096}
_COPY_BYTES = 16 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)

Entry = dict[str, Any]


class RowFile:
    """Writes rows to a new file, which appears under its name when it is complete.

    Args:
        out: The file.
        row_shape: Shape of a row.
        dtype: Its dtype.
        compression: None: rows are stored contiguously; else each in a chunk that is encoded so.
        encoding: Rows are pictures, encoded so; None: they are arrays.
        signature: What the rows depend on; with another one, an unfinished file is begun anew.
            None: it is never gone on with.
        overwrite: Replaces `out` if it exists.
        argument: Name of the argument that `out` is from, for messages.
        error_type: Raised if the file cannot be written: no space, or a failing disk.

    Attributes:
        num_rows: Rows that have been appended.
        entries: The journal: what `commit` was given, also by an earlier process that was killed.
    """

    def __init__(
        self,
        out: Path,
        row_shape: tuple[int, ...],
        dtype: Any,
        *,
        compression: str | None = None,
        encoding: Encoding | None = None,
        signature: Any = None,
        overwrite: bool = False,
        argument: str = "out",
        error_type: type[H5VideoError] = PackingError,
    ) -> None:
        check_out(out, overwrite=overwrite, name=argument)
        self._argument = argument
        self._error_type = error_type
        self.num_rows = 0
        self.entries: list[Entry] = []
        self._out = out
        self._partial = out.with_name(f"{out.name}.partial")
        self._journal = out.with_name(f"{out.name}.partial.journal")
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._compression = compression
        self._layout: dict[str, Any] = {}
        if compression is not None:
            self._layout = sample_chunks(row_shape, self._dtype.itemsize, compression)
        self._encoding = encoding
        is_in_place = compression is None and encoding is None
        self._begin = _first_address(row_shape, self._dtype) if is_in_place else 0
        self._end = self._begin
        self._chunks: list[tuple[int, int]] = []  # bytes and filter mask of each encoded row
        self._checksum = 0
        self._signature = json.dumps(signature, sort_keys=True)
        self._is_resumable = signature is not None
        self._fd = -1

    @contextlib.contextmanager
    def opened(self) -> Iterator[RowFile]:
        """Opens the file; on an error, nothing of it is left behind."""
        # Not the file itself is locked, which HDF5 locks, too.
        lock = os.open(self._journal, _FLAGS, 0o666)
        if not lock_file(lock):
            os.close(lock)
            raise ArgumentError(
                f"Another process is writing `{self._argument}`. "
                f"Received: {self._argument}={str(self._out)!r}"
            )
        try:
            self._fd = os.open(self._partial, _FLAGS, 0o666)
            self._go_on()
            yield self
        except H5VideoError:
            raise
        except OSError as error:
            raise self._error_type(not_written(self._out, error)) from error
        finally:
            self._close()
            self._partial.unlink(missing_ok=True)
            os.close(lock)
            self._journal.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _go_on(self) -> None:
        """Takes over the rows that an earlier process has committed, if they are as they were."""
        lines = []
        with contextlib.suppress(OSError, ValueError):
            if self._is_resumable:
                lines = self._journal.read_text().splitlines(keepends=True)
        if lines and lines[0].strip() == self._signature:
            for line in lines[1:]:
                if not line.endswith("\n") or not self._is_intact(entry := json.loads(line)):
                    break
                self.entries.append(entry["entry"])
                self.num_rows += entry["rows"]
                self._end += entry["nbytes"]
                self._chunks += [(size, mask) for size, mask in entry["chunks"]]
        text = "".join(lines[: len(self.entries) + 1]) if self.entries else self._signature + "\n"
        self._journal.write_text(text)
        os.ftruncate(self._fd, self._end)
        self._mark = (self.num_rows, self._end)

    def _is_intact(self, entry: Entry) -> bool:
        checksum, at, stop = 0, self._end, self._end + entry["nbytes"]
        while at < stop:
            block = bytearray(min(_COPY_BYTES, stop - at))
            if (count := read_at(self._fd, memoryview(block), at)) == 0:
                return False
            checksum = zlib.crc32(memoryview(block)[:count], checksum)
            at += count
        return bool(checksum == entry["checksum"])

    def append(self, rows: NDArray[Any] | EncodedFrames) -> None:
        """Appends rows: (n, ...) in the file's dtype, or encoded pictures."""
        if isinstance(rows, EncodedFrames):
            for row in rows:
                self._chunks.append((len(row), 0))
                self._write(np.frombuffer(row, np.uint8).data)
        elif self._compression is None:
            self._write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        else:
            for row in rows:
                data, mask = encode_chunk(self._compression, row)
                self._chunks.append((len(data), mask))
                self._write(np.frombuffer(data, np.uint8).data)
        self.num_rows += len(rows)

    def _write(self, data: memoryview) -> None:
        self._checksum = zlib.crc32(data, self._checksum)
        while len(data):
            count = write_at(self._fd, data, self._end)
            data, self._end = data[count:], self._end + count

    def commit(self, entry: Entry) -> None:
        """Marks the rows since the last call as complete, with what is known about them."""
        rows, end = self._mark
        if self._is_resumable:
            line = {
                "rows": self.num_rows - rows,
                "nbytes": self._end - end,
                "checksum": self._checksum,
                "chunks": self._chunks[rows:],
                "entry": entry,
            }
            with open(self._journal, "a") as file:
                file.write(json.dumps(line) + "\n")
        self.entries.append(entry)
        self._mark, self._checksum = (self.num_rows, self._end), 0

    def roll_back(self) -> None:
        """Removes the rows since the last `commit`."""
        (self.num_rows, self._end), self._checksum = self._mark, 0
        del self._chunks[self.num_rows :]

    def finish(
        self,
        name: str,
        write_rest: Callable[[h5py.File], None],
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Completes the file.

        Args:
            name: Name of the dataset of rows.
            write_rest: Writes everything else.
            check: Called with the path of the complete, closed file; may raise.
        """
        if self._encoding is not None:
            self.finish_by(partial(self._write_pictures, self._encoding, name, write_rest), check)
            return
        if self._compression is None:

            def link(file: h5py.File, dataset: h5py.Dataset) -> None:
                file[name] = dataset
                write_rest(file)

            self.finish_in_place(link, check)
            return

        def write(file: h5py.File, output: Output) -> None:
            shape = (self.num_rows, *self._row_shape)
            dataset = file.create_dataset(name, shape, self._dtype, **self._layout)
            self._copy_chunks(dataset, output)
            write_rest(file)

        self.finish_by(write, check)

    def finish_in_place(
        self,
        write: Callable[[h5py.File, h5py.Dataset], None],
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Completes a file of rows that are stored contiguously.

        Args:
            write: Is given the dataset of rows, without a name yet, and writes all else.
            check: Called with the path of the complete, closed file; may raise.
        """
        os.ftruncate(self._fd, self._end)
        with Output(self._partial, is_new=False) as output:
            with h5py.File(self._partial, "w", fileobj=output, **_IN_PLACE) as file:
                shape = (self.num_rows, *self._row_shape)
                dataset = _make_contiguous(file, shape, self._dtype)
                address = dataset.id.get_offset()
                if self.num_rows and address != self._begin:
                    raise self._error_type(
                        f"HDF5 has put the rows at byte {address} of {self._out}, and they begin "
                        f"at {self._begin}. Nothing was written."
                    )
                _watched(output, lambda file: write(file, dataset), file)
            _sync(output)
        self._close()  # Windows renames no open file
        if check is not None:
            check(self._partial)
        os.replace(self._partial, self._out)

    def finish_by(
        self,
        write: Callable[[h5py.File, Output], None],
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Completes a file of compressed or encoded rows.

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
            if check is not None:
                check(complete)
            os.replace(complete, self._out)
        finally:
            complete.unlink(missing_ok=True)

    # Encoded rows. Of several datasets, those with the same number lie together.

    def lengths(self, number: int = 0, num_datasets: int = 1) -> NDArray[np.int64]:
        """Returns the bytes of each encoded row of a dataset, int64 (rows,)."""
        sizes = [size for size, _ in self._chunks[number::num_datasets]]
        return np.array(sizes, np.int64)

    def encoded_nbytes(self, number: int = 0, num_datasets: int = 1) -> int:
        """Returns the bytes that they take in the file."""
        lengths = self.lengths(number, num_datasets)
        is_fixed = self._encoding is not None and self._encoding.rows == "fixed"
        return int(lengths.max(initial=1) * len(lengths) if is_fixed else lengths.sum())

    def encoded_dtype(self, number: int = 0, num_datasets: int = 1) -> np.dtype[Any]:
        """Returns the dtype of a dataset that holds them."""
        if self._encoding is None:
            raise TypeError("rows are not encoded")
        longest = self.lengths(number, num_datasets).max(initial=0)
        return self._encoding.dtype(int(longest))

    def write_encoded(
        self, dataset: h5py.Dataset, output: Output, number: int = 0, num_datasets: int = 1
    ) -> None:
        """Writes the encoded rows to a dataset of `encoded_dtype`, (rows,)."""
        dtype = self.encoded_dtype(number, num_datasets)
        longest = max((size for size, _ in self._chunks), default=1)
        count = max(1, _COPY_BYTES // (longest * num_datasets)) * num_datasets
        at, done = self._begin, 0
        for begin in range(0, self.num_rows, count):
            sizes = [size for size, _ in self._chunks[begin : begin + count]]
            block = self._read(sum(sizes), at)
            ends = list(itertools.accumulate(sizes))
            rows = [block[end - size : end] for end, size in zip(ends, sizes, strict=True)]
            chosen = rows[number::num_datasets]
            # `dataset[...] = ` takes rows of variable length that are alike for an array.
            dataset.write_direct(
                encoded_values(chosen, dtype), dest_sel=np.s_[done : done + len(chosen)]
            )
            output.check()
            at, done = at + len(block), done + len(chosen)

    def _write_pictures(
        self,
        encoding: Encoding,
        name: str,
        write_rest: Callable[[h5py.File], None],
        file: h5py.File,
        output: Output,
    ) -> None:
        dataset = file.create_dataset(name, (self.num_rows,), self.encoded_dtype())
        self.write_encoded(dataset, output)
        if encoding.rows == "fixed":
            file[f"{name}{LENGTHS}"] = self.lengths()
        file.attrs.update(encoding.attributes)
        write_rest(file)

    def _read(self, nbytes: int, at: int) -> bytes:
        block, done = bytearray(nbytes), 0
        while done < nbytes:
            if (count := read_at(self._fd, memoryview(block)[done:], at + done)) == 0:
                raise OSError(f"{self._partial} ends early")
            done += count
        return bytes(block)

    def _copy_chunks(self, dataset: h5py.Dataset, output: Output) -> None:
        at, zeros = self._begin, (0,) * len(self._row_shape)
        for row, (size, mask) in enumerate(self._chunks):
            block = self._read(size, at)
            at += size
            # h5py (3.14) does not take its own lock for this call, and others may call h5py.
            with phil:
                dataset.id.write_direct_chunk((row, *zeros), block, mask)
            output.check()


def _watched(output: Output, write: Callable[[h5py.File], None], file: h5py.File) -> None:
    try:
        write(file)
    except Exception:
        output.check()  # data that were discarded may be the reason
        raise


def _sync(output: Output) -> None:
    output.check()
    os.fsync(output.fileno())


def _make_contiguous(file: h5py.File, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """Creates a dataset without a name, and without writing to its bytes."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    stored_type = h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, None, stored_type, space, plist))


def _first_address(row_shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Returns where HDF5 puts the values of a new file's first dataset."""
    with h5py.File("-", "w", fileobj=io.BytesIO(), **_IN_PLACE) as file:
        return _make_contiguous(file, (1, *row_shape), dtype).id.get_offset() or 0
