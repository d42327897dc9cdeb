"""The new files of `repack`, by how samples are stored in them.

contiguous: each where it stays -> all else
chunks, pictures: encoded, by threads -> rows of an unfinished file -> all else, and the rows
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError
from h5video_data.reading.threads import Threads
from h5video_data.storage.system import num_processors
from h5video_data.tools.atomic_file import Output
from h5video_data.tools.packing.encoded_rows import LENGTHS, EncodedChunks, EncodedFrames
from h5video_data.tools.packing.partial_files import PartialFile
from h5video_data.tools.packing.row_files import RowFile
from h5video_data.video_set import Component

from .contiguous_file import ContiguousFile
from .sample_batches import Batch
from .sample_forms import SampleForm
from .sample_layout import SampleLayout

Copy = Callable[[h5py.File, dict[str, Any]], dict[str, h5py.Dataset]]
"""Copies all else to a new file; given the layouts of the datasets of samples (see `Copier`), it
returns these."""

Check = Callable[[Path], None]


class SampleWriter(Protocol):
    """Writes samples to a file."""

    @property
    def file(self) -> PartialFile:
        """The file."""

    @property
    def num_done(self) -> int:
        """Samples that are in the file."""

    @property
    def nbytes(self) -> int:
        """Bytes of the samples in the file."""

    def append(self, batch: Batch) -> None:
        """Writes the samples that are next."""

    def finish(self, copy: Copy, check: Check) -> None:
        """Completes the file."""


def writer_of(
    components: tuple[Component, ...],
    out: Path,
    form: SampleForm,
    num_samples: int,
    layout: SampleLayout,
    stack: ExitStack,
    **options: Any,
) -> SampleWriter:
    """Returns the writer for a layout; its threads end with `stack`.

    Args:
        components: The datasets of samples.
        out: The file.
        form: What samples are to become.
        num_samples: Of all of them.
        layout: How they are stored.
        stack: Closes what the writer needs.
        options: See `PartialFile`.
    """
    if layout.is_contiguous:
        return _Contiguous(components, out, form, num_samples, options)
    threads = stack.enter_context(closing(Threads(num_processors(), "h5video_data_encode")))
    kind = _Chunks if layout.encoding is None else _Pictures
    return kind(components, out, form, layout, threads, options)


class _Contiguous:
    def __init__(
        self,
        components: tuple[Component, ...],
        out: Path,
        form: SampleForm,
        num_samples: int,
        options: Mapping[str, Any],
    ) -> None:
        self._names = [item.name for item in components]
        forms = [(form.shape_of(item), form.dtype_of(item)) for item in components]
        self.file = ContiguousFile(out, forms, num_samples, **options)

    @property
    def num_done(self) -> int:
        return self.file.num_rows

    @property
    def nbytes(self) -> int:
        return self.file.rows_nbytes

    def append(self, batch: Batch) -> None:
        self.file.append(batch)

    def finish(self, copy: Copy, check: Check) -> None:
        def write(file: h5py.File, datasets: list[h5py.Dataset]) -> None:
            pairs = zip(self._names, datasets, strict=True)
            copy(file, {name: {"made": dataset} for name, dataset in pairs})

        self.file.finish(write, check)


class _Encoded:
    """Samples that are encoded: rows, those of each sample together."""

    def __init__(
        self,
        components: tuple[Component, ...],
        out: Path,
        form: SampleForm,
        layout: SampleLayout,
        threads: Threads,
        options: Mapping[str, Any],
    ) -> None:
        self._components = components
        self._form = form
        self._layout = layout
        self._threads = threads
        count = len(components)
        self._slices = [slice(number, None, count) for number in range(count)]
        self.file = RowFile(out, encoding=layout.encoding, are_chunks=True, **options)

    @property
    def num_done(self) -> int:
        return self.file.num_rows // len(self._components)

    @property
    def nbytes(self) -> int:
        return sum(map(self.file.encoded_nbytes, self._slices))


class _Chunks(_Encoded):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._forms = [
            (self._form.shape_of(item), self._form.dtype_of(item)) for item in self._components
        ]
        self._encoders = [self._layout.encoder(*form) for form in self._forms]

    def append(self, batch: Batch) -> None:
        pairs = [
            (encode, values[row : row + 1])
            for row in range(len(batch[0]))
            for encode, values in zip(self._encoders, batch, strict=True)
        ]
        if self._layout.is_encoded_by_hdf5:
            self.file.append(EncodedChunks(encode(values) for encode, values in pairs))
        else:
            tasks = [self._threads.submit(encode, values) for encode, values in pairs]
            self.file.append(EncodedChunks(task.result() for task in tasks))
        self.file.commit({})

    def finish(self, copy: Copy, check: Check) -> None:
        def write(file: h5py.File, output: Output) -> None:
            layouts = {}
            for item, (shape, dtype) in zip(self._components, self._forms, strict=True):
                layouts[item.name] = {
                    "shape": shape,
                    "dtype": dtype,
                    "maxshape": (None, *shape),
                    **self._layout.options(shape, dtype),
                }
            datasets = copy(file, layouts)
            for item, rows in zip(self._components, self._slices, strict=True):
                self.file.write_chunks(datasets[item.name], output, rows)

        self.file.finish_by(write, check)


class _Pictures(_Encoded):
    def append(self, batch: Batch) -> None:
        encoding = self._layout.encoding
        assert encoding is not None
        frames = [frame for of_sample in zip(*batch, strict=True) for frame in of_sample]
        tasks = [self._threads.submit(encoding.encode, frame) for frame in frames]
        self.file.append(EncodedFrames(task.result() for task in tasks))
        self.file.commit({})

    def finish(self, copy: Copy, check: Check) -> None:
        encoding = self._layout.encoding
        pairs = list(zip(self._components, self._slices, strict=True))
        assert encoding is not None

        def write(file: h5py.File, output: Output) -> None:
            layouts = {
                item.name: {"shape": (), "dtype": self.file.encoded_dtype(rows)}
                for item, rows in pairs
            }
            datasets = copy(file, layouts)
            for item, rows in pairs:
                self.file.write_encoded(datasets[item.name], output, rows)
                if encoding.rows == "fixed":
                    add_lengths(file, f"{item.name}{LENGTHS}", self.file.lengths(rows))

        self.file.finish_by(write, check)


def add_lengths(target: h5py.File, name: str, lengths: NDArray[np.int64]) -> None:
    """Adds a dataset of the lengths of encoded rows; may raise an ArgumentError."""
    if name in target:
        raise ArgumentError(
            f"{name!r} is to hold the lengths of the rows, and is a dataset of something else. Use "
            "rows=\"variable\". Received: rows='fixed'"
        )
    target[name] = lengths
