"""`ContiguousFile`: a new file of contiguous datasets whose number of samples is known."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.tools.atomic_file import Output
from h5video_data.tools.packing.partial_files import IN_PLACE, Entry, PartialFile, make_contiguous


class ContiguousFile(PartialFile):
    """Writes samples to where HDF5 puts those of the first datasets of a new file.

        superblock, groups | X: sample 0, sample 1, ... | flow: sample 0, sample 1, ... | all else

    Args:
        out: The file.
        forms: Shape of a sample and dtype of each dataset.
        num_samples: Samples of each.
        options: See `PartialFile`.
    """

    def __init__(
        self,
        out: Path,
        forms: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
        num_samples: int,
        **options: Any,
    ) -> None:
        super().__init__(out, **options)
        self._forms = [((num_samples, *shape), dtype) for shape, dtype in forms]
        self._starts: list[int] = []  # where each dataset begins, in bytes of the file
        self._row_nbytes = [
            int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in forms
        ]

    def _prepare(self) -> None:
        # Not in the file itself: HDF5 would cut it short, as nothing leads to the datasets.
        trial = self._partial.with_name(f"{self._partial.name}.h5")
        trial.unlink(missing_ok=True)
        try:
            with Output(trial) as output, h5py.File(trial, "w", fileobj=output, **IN_PLACE) as file:
                self._starts = _offsets(self._make(file))
        finally:
            trial.unlink(missing_ok=True)

    def _make(self, file: h5py.File) -> list[h5py.Dataset]:
        return [make_contiguous(file, shape, dtype) for shape, dtype in self._forms]

    def _places(self, num_rows: int) -> list[tuple[int, int]]:
        """Returns where rows from `num_rows` on are, and their size, in each dataset."""
        return [
            (start + nbytes * num_rows, nbytes)
            for start, nbytes in zip(self._starts, self._row_nbytes, strict=True)
        ]

    @property
    def rows_nbytes(self) -> int:
        """Bytes of the samples that have been written."""
        return self.num_rows * sum(self._row_nbytes)

    def _take_over(self, entry: Entry) -> bool:
        found = [
            self._checksum_of(at, entry["rows"] * nbytes)
            for at, nbytes in self._places(self.num_rows)
        ]
        return bool(found == entry["checksums"])

    def append(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Appends samples: an array (n, ...) for each dataset, of its dtype."""
        checksums = []
        for values, (at, _) in zip(arrays, self._places(self.num_rows), strict=True):
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            self._write_at(data, at)
            checksums.append(zlib.crc32(data))
        count = len(arrays[0])
        self.num_rows += count
        self.entries.append({})
        self._note({"rows": count, "checksums": checksums, "entry": {}})

    def finish(
        self,
        write: Callable[[h5py.File, list[h5py.Dataset]], None],
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Completes the file.

        Args:
            write: Is given the datasets of samples, without names yet, and writes all else.
            check: Called with the path of the complete, closed file; may raise.
        """

        def write_all(file: h5py.File) -> None:
            datasets = self._make(file)
            if (found := _offsets(datasets)) != self._starts:
                raise self._error_type(
                    f"HDF5 has put the samples at bytes {found} of {self._out}, and they are at "
                    f"{self._starts}. Nothing was written."
                )
            write(file, datasets)

        self._finish_in_place(write_all, check)


def _offsets(datasets: Sequence[h5py.Dataset]) -> list[int]:
    return [int(dataset.id.get_offset() or 0) for dataset in datasets]
