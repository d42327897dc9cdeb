"""`RowFile`: a new HDF5 file with a dataset whose number of rows is known only at the end.

Rows are appended to the `PartialFile`. Contiguous ones stay where they are, since they were put
where HDF5 puts the first dataset of a new file. Compressed and encoded ones are copied.

    12288 bytes left free | row 0 | row 1 | ...  ->  superblock, groups | X: row 0, row 1, ... | Y
"""

from __future__ import annotations

import io
import itertools
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

from h5video_data.storage.filters import encode_chunk, sample_chunks
from h5video_data.tools.atomic_file import Output

from .encoded_rows import LENGTHS, EncodedChunks, EncodedFrames, Encoding, encoded_values
from .partial_files import COPY_BYTES, IN_PLACE, Entry, PartialFile, make_contiguous

_ALL = slice(None)


class RowFile(PartialFile):
    """Writes rows to a new file, which appears under its name when it is complete.

    Rows that are encoded may be those of several datasets: those with the same number in each lie
    together.

    Args:
        out: The file.
        row_shape: Shape of a row.
        dtype: Its dtype.
        compression: None: rows are stored contiguously; else each in a chunk that is encoded so.
        encoding: Rows are pictures, encoded so; None: they are arrays.
        are_chunks: Whether rows are given as chunks that are encoded already.
        signature: See `PartialFile`, and the other arguments there.
    """

    def __init__(
        self,
        out: Path,
        row_shape: tuple[int, ...] = (),
        dtype: Any = np.uint8,
        *,
        compression: str | None = None,
        encoding: Encoding | None = None,
        are_chunks: bool = False,
        signature: Any = None,
        overwrite: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(out, signature=signature, overwrite=overwrite, **options)
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._compression = compression
        self._layout: dict[str, Any] = {}
        if compression is not None:
            self._layout = sample_chunks(row_shape, self._dtype.itemsize, compression)
        self._encoding = encoding
        is_in_place = compression is None and encoding is None and not are_chunks
        self._begin = _first_address(row_shape, self._dtype) if is_in_place else 0
        self._end = self._begin
        self._chunks: list[tuple[int, int]] = []  # bytes and filter mask of each encoded row
        self._checksum = 0

    def _take_over(self, entry: Entry) -> bool:
        if self._checksum_of(self._end, entry["nbytes"]) != entry["checksum"]:
            return False
        self._end += entry["nbytes"]
        self._chunks += [(size, mask) for size, mask in entry["chunks"]]
        return True

    def _go_on_from(self) -> None:
        os.ftruncate(self._fd, self._end)
        self._mark = (self.num_rows, self._end)

    def append(self, rows: NDArray[Any] | EncodedFrames | EncodedChunks) -> None:
        """Appends rows: (n, ...) in the file's dtype, or encoded ones."""
        if isinstance(rows, EncodedChunks):
            chunks = rows
        elif isinstance(rows, EncodedFrames):
            chunks = EncodedChunks((row, 0) for row in rows)
        elif self._compression is not None:
            chunks = EncodedChunks(encode_chunk(self._compression, row) for row in rows)
        else:
            self._write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
            chunks = EncodedChunks()
        for data, mask in chunks:
            self._chunks.append((len(data), mask))
            self._write(np.frombuffer(data, np.uint8).data)
        self.num_rows += len(rows)

    def _write(self, data: memoryview) -> None:
        self._checksum = zlib.crc32(data, self._checksum)
        self._end = self._write_at(data, self._end)

    def commit(self, entry: Entry) -> None:
        """Marks the rows since the last call as complete, with what is known about them."""
        rows, end = self._mark
        self._note(
            {
                "rows": self.num_rows - rows,
                "nbytes": self._end - end,
                "checksum": self._checksum,
                "chunks": self._chunks[rows:],
                "entry": entry,
            }
        )
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
            os.ftruncate(self._fd, self._end)
            self._finish_in_place(partial(self._write_in_place, name, write_rest), check)
            return

        def write(file: h5py.File, output: Output) -> None:
            shape = (self.num_rows, *self._row_shape)
            dataset = file.create_dataset(name, shape, self._dtype, **self._layout)
            self.write_chunks(dataset, output)
            write_rest(file)

        self.finish_by(write, check)

    def _write_in_place(
        self, name: str, write_rest: Callable[[h5py.File], None], file: h5py.File
    ) -> None:
        dataset = make_contiguous(file, (self.num_rows, *self._row_shape), self._dtype)
        address = dataset.id.get_offset()
        if self.num_rows and address != self._begin:
            raise self._error_type(
                f"HDF5 has put the rows at byte {address} of {self._out}, and they begin at "
                f"{self._begin}. Nothing was written."
            )
        file[name] = dataset
        write_rest(file)

    # Encoded rows: a slice of them is those of one dataset.

    def lengths(self, rows: slice = _ALL) -> NDArray[np.int64]:
        """Returns the bytes of each encoded row, int64 (rows,)."""
        return np.array([size for size, _ in self._chunks[rows]], np.int64)

    def encoded_nbytes(self, rows: slice = _ALL) -> int:
        """Returns the bytes that they take in the file."""
        lengths = self.lengths(rows)
        is_fixed = self._encoding is not None and self._encoding.rows == "fixed"
        return int(lengths.max(initial=1) * len(lengths) if is_fixed else lengths.sum())

    def encoded_dtype(self, rows: slice = _ALL) -> np.dtype[Any]:
        """Returns the dtype of a dataset that holds them."""
        if self._encoding is None:
            raise TypeError("rows are not encoded")
        return self._encoding.dtype(int(self.lengths(rows).max(initial=0)))

    def write_encoded(self, dataset: h5py.Dataset, output: Output, rows: slice = _ALL) -> None:
        """Writes the encoded rows to a dataset of `encoded_dtype`, (rows,)."""
        longest = max((size for size, _ in self._chunks), default=1)
        count = max(1, COPY_BYTES // longest)
        read, done = self._read_rows(rows), 0
        while some := [data for data, _ in itertools.islice(read, count)]:
            # `dataset[...] = ` takes rows of variable length that are alike for an array.
            dataset.write_direct(
                encoded_values(some, dataset.dtype), dest_sel=np.s_[done : done + len(some)]
            )
            output.check()
            done += len(some)

    def write_chunks(self, dataset: h5py.Dataset, output: Output, rows: slice = _ALL) -> None:
        """Writes the encoded rows to the chunks of a dataset, each of one row."""
        zeros = (0,) * (dataset.ndim - 1)
        for row, (data, mask) in enumerate(self._read_rows(rows)):
            # h5py (3.14) does not take its own lock for this call, and others may call h5py.
            with phil:
                dataset.id.write_direct_chunk((row, *zeros), data, mask)
            output.check()

    def write_plain(self, dataset: h5py.Dataset, output: Output, rows: slice = _ALL) -> None:
        """Writes rows that are no more than the values of a dataset's rows."""
        for row, (data, _) in enumerate(self._read_rows(rows)):
            values = np.frombuffer(data, dataset.dtype).reshape(1, *dataset.shape[1:])
            dataset.write_direct(values, dest_sel=np.s_[row : row + 1])
            output.check()

    def _read_rows(self, rows: slice) -> Iterator[tuple[bytes, int]]:
        """Yields encoded rows and their filter masks."""
        starts = itertools.accumulate((size for size, _ in self._chunks), initial=self._begin)
        placed = zip(starts, self._chunks, strict=False)
        for at, (size, mask) in itertools.islice(placed, rows.start, rows.stop, rows.step):
            yield self._read(size, at), mask

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


def _first_address(row_shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Returns where HDF5 puts the values of a new file's first dataset."""
    with h5py.File("-", "w", fileobj=io.BytesIO(), **IN_PLACE) as file:
        return make_contiguous(file, (1, *row_shape), dtype).id.get_offset() or 0
