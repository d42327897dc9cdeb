"""`inspect`: how the datasets of a file are stored and read, and what to do about it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, H5VideoError, UnsupportedDtypeError
from h5video_data.planning.access import Access, AccessKind, decide_access, direct_access
from h5video_data.reading.memory_budget import small_samples_budget
from h5video_data.storage.attributes import (
    SAMPLE_COUNT,
    read_attribute,
    read_class_names,
    read_sample_count,
)
from h5video_data.storage.hdf5_files import HDF5_ERRORS, file_identity, open_file
from h5video_data.storage.hdf5_names import dataset_names, find_dataset, linked_names
from h5video_data.storage.layout import StoredArray, describe, dtype_name
from h5video_data.storage.picture_rows import Decoding, describe_pictures, holds_padded_pictures
from h5video_data.storage.strings import is_strings
from h5video_data.storage.system import shell_words
from h5video_data.storage.values import Values
from h5video_data.storage.virtual import check_external

from .schemas import Rows, opening_call

# A random read of one sample that decodes this many times its bytes is worth a new layout.
BAD_AMPLIFICATION = 2.0
_GROUPS_ASKED = 64  # for their `sample_count`


@dataclass(frozen=True)
class DatasetReport:
    """How one dataset is stored and read."""

    name: str
    """As it is to be given: `"group/X"`; that of a link, not of what it leads to."""
    shape: tuple[int, ...]
    dtype: str
    storage: str
    """`contiguous`, `chunked`, `compact`, `external` or `virtual`."""
    chunk_shape: tuple[int, ...] | None
    filters: tuple[str, ...]
    nbytes: int
    """Bytes in memory."""
    stored_nbytes: int
    """Bytes in the file, as far as it tells."""
    path: AccessKind | Literal["none"]
    """`memory` (all values are read once and kept), `direct` (byte ranges, each sample's into its
    place), `chunks` (a chunk is decoded for several samples), `pictures` (a row is an encoded
    picture, and is decoded into its place), `h5py`, or `none` (it cannot be read into a tensor)."""
    reason: str | None
    """Why it is not read directly, or cannot be read; None: it is."""
    read_amplification: float
    """Bytes decoded for one sample alone, over the bytes of the sample."""
    advice: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.shape} {self.dtype}, {size_text(self.nbytes)}"
            + (f", {size_text(self.stored_nbytes)} in the file" if self.filters else ""),
            f"  stored    {self.storage}"
            + (f", chunks {self.chunk_shape}" if self.chunk_shape else "")
            + (f", filters {' + '.join(self.filters)}" if self.filters else ""),
            f"  read by   {_PATHS[self.path]}" + (f": {self.reason}" if self.reason else ""),
        ]
        if self.read_amplification > 1:
            lines.append(f"  decodes   {self.read_amplification:.3g} times the bytes of a sample")
        return "\n".join([*lines, *(f"  advice    {item}" for item in self.advice)])


_PATHS = {
    "memory": "memory",
    "direct": "byte ranges, each sample straight into its place",
    "chunks": "chunks, each decoded for several samples",
    "pictures": "pictures, each decoded straight into its place",
    "h5py": "h5py (slow path)",
    "none": "not readable",
}


@dataclass(frozen=True)
class FileReport:
    """What `inspect` found in a file; `str()` of it is for people, `to_dict()` for JSON."""

    path: str
    nbytes: int
    sample_count: int | None
    """The attribute `sample_count`, or None."""
    class_names: tuple[str, ...] | None
    """The attribute `class_names`, or None."""
    datasets: tuple[DatasetReport, ...]
    problems: tuple[str, ...]
    """What would be an error when training on the file."""
    call: str | None = None
    """The call that opens the file, if its rows look like the frames of recordings."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, strings and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        head = f"{self.path}: {size_text(self.nbytes)}"
        if self.sample_count is not None:
            head += f", sample_count {self.sample_count}"
        if self.class_names:
            head += f", {len(self.class_names)} classes ({', '.join(self.class_names[:8])}"
            head += ", ...)" if len(self.class_names) > 8 else ")"
        problems = [f"problem: {item}" for item in self.problems]
        calls = [f"recordings, to be opened by\n  {self.call}"] if self.call else []
        return "\n".join([head, *calls, *map(str, self.datasets), *problems])


def inspect(path: str | os.PathLike[str]) -> FileReport:
    """Tells how the datasets of an HDF5 file are stored and how they will be read.

    Args:
        path: The file's path.

    Returns:
        The report. Print it.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: It is not an HDF5 file, or its end is missing.
        FileInUseError: It is open for writing elsewhere.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"`path` must be a path. Received: path={path!r}")
    name = os.fsdecode(path)
    with open_file(name) as file:
        linked, problems = linked_names(file)
        names = dataset_names(file) + linked
        reports = []
        for item in names:
            try:
                reports.append(_report(find_dataset(file, item), item, problems))
            except HDF5_ERRORS as error:
                problems.append(f"the dataset {item!r} is damaged: {error}")
        lengths = [report.shape[0] for report in reports if report.name == "X" and report.shape]
        sample_count = class_names = None
        with _noting(problems):
            if read_attribute(file, "/", SAMPLE_COUNT) is not None:
                sample_count = read_sample_count(file, "X", max(lengths, default=2**63)).num_samples
        with _noting(problems):
            class_names = read_class_names(file)
        for report in reports:
            if report.storage == "external" and report.path != "none":
                with _noting(problems):  # external files may lack rows that are in use
                    count = read_sample_count(file, report.name, report.shape[0]).num_samples
                    check_external(find_dataset(file, report.name), count)
        if not names:
            problems.append("it holds no dataset")
        return FileReport(
            path=name,
            nbytes=file_identity(file).num_bytes,
            sample_count=sample_count,
            class_names=class_names,
            datasets=tuple(reports),
            problems=tuple(problems),
            call=_opening_call(file, name, reports, set(linked)),
        )


def _opening_call(
    file: Any, path: str, reports: list[DatasetReport], linked: set[str]
) -> str | None:
    """Returns the call that opens a file of recordings; None if it holds samples, or neither."""
    groups = ("/".join(item.name.split("/")[:-1]) for item in reports[:_GROUPS_ASKED])
    for group in {"/", *groups}:
        try:
            if read_attribute(file, group or "/", SAMPLE_COUNT) is not None:
                return None
        except H5VideoError:  # which is among the problems
            continue

    def read(name: str) -> NDArray[Any]:
        dataset = find_dataset(file, name)
        return Values(dataset).read(slice(0, len(dataset)))

    datasets = [
        Rows(item.name, item.shape, item.dtype, item.nbytes, item.path != "none")
        for item in reports
    ]
    # Under its own name, if it has one: a link is a second one.
    own = [item for item in datasets if item.name not in linked]
    return opening_call(path, own, read) or (opening_call(path, datasets, read) if linked else None)


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Adds an error to the problems instead of raising it."""
    try:
        yield
    except H5VideoError as error:
        problems.append(str(error))


def _report(dataset: Any, name: str, problems: list[str]) -> DatasetReport:
    try:
        stored = describe(dataset)
    except H5VideoError as error:
        dtype: np.dtype[Any] | None = _known(lambda: dataset.dtype, None)
        path: AccessKind | Literal["none"] = "none"
        reason: str | None = "it has no samples"
        pictures = _known(lambda: describe_pictures(dataset, Decoding()), None)
        if pictures is not None:
            path, form = "pictures", pictures.form
            reason = (
                f"{direct_access(pictures).reason}. The first: {form.rows} x {form.columns} pixels "
                f"(rows x columns), {form.channels} channels, {form.dtype}"
            )
        elif is_strings(dataset):
            path, reason = "memory", "strings, which `y` reads as class numbers"
        elif isinstance(error, UnsupportedDtypeError):
            is_number = dtype is None or dtype.kind in "iufc"
            reason = "its dtype is not supported" if is_number else "its values are not numbers"
        elif dataset.is_virtual or dataset.external:
            reason = "its values are not all where it says"
            problems.append(str(error))
        elif dataset.shape:
            reason = "it is damaged, or of a kind that h5py cannot read"
            problems.append(str(error))
        return DatasetReport(
            name=name,
            shape=dataset.shape or (),
            dtype="unknown" if dtype is None else dtype_name(dtype),
            storage=_known(lambda: _storage(dataset), "unknown"),
            chunk_shape=_known(lambda: dataset.chunks, None),
            filters=(),
            nbytes=_known(lambda: (dataset.size or 0) * dataset.id.get_type().get_size(), 0),
            stored_nbytes=_known(dataset.id.get_storage_size, 0),
            path=path,
            reason=reason,
            read_amplification=0.0,
            advice=(),
        )
    num_samples, budget = stored.shape[0], small_samples_budget(None)
    (access,) = decide_access((stored,), num_samples, stored.shape[1:], budget_nbytes=budget)
    is_decoded = access.kind == "h5py" or (stored.filters and access.kind != "memory")
    amplification = 1.0
    if is_decoded and stored.row_nbytes:
        amplification = stored.row_decoded_nbytes / stored.row_nbytes
    return DatasetReport(
        name=name,
        shape=stored.shape,
        dtype=stored.dtype.name,
        storage=stored.storage,
        chunk_shape=stored.chunk_shape,
        filters=tuple(item.name for item in stored.filters),
        nbytes=stored.nbytes,
        stored_nbytes=dataset.id.get_storage_size(),
        path=access.kind,
        reason=None if access.kind == "direct" else access.reason,
        read_amplification=amplification,
        advice=(
            ('its rows are pictures: decode="image" decodes them',)
            if holds_padded_pictures(dataset)
            else tuple(_advice(access, amplification))
        ),
    )


def _known(read: Callable[[], Any], otherwise: Any) -> Any:
    """What h5py tells of a dataset, or something else if it fails: what is damaged, or foreign."""
    try:
        return read()
    except (H5VideoError, *HDF5_ERRORS):
        return otherwise


def _storage(dataset: Any) -> str:
    if dataset.is_virtual:
        return "virtual"
    return "chunked" if dataset.chunks else "contiguous"


def _advice(access: Access, amplification: float) -> list[str]:
    advice, stored = [], access.stored
    if len(stored.shape) <= 2:  # no video
        return []
    command = _repack_command(stored)
    if access.kind == "h5py":
        advice.append(f"store it anew to have it read directly: {command}")
    elif stored.filters and (stored.chunk_shape or (1,))[0] > 1:
        advice.append(
            f"read_ahead_bytes={stored.nbytes} or more decodes each chunk once an epoch; stored "
            f"anew, no memory is needed: {command}"
        )
    elif amplification >= BAD_AMPLIFICATION:
        advice.append(f"store it anew: {command}")
    if stored.dtype.kind == "f":
        advice.append(
            f"if these are pixels, uint8 takes a {stored.dtype.itemsize}th of the bytes; cast on "
            "the accelerator"
        )
    return advice


def _repack_command(stored: StoredArray) -> str:
    """What to type; a compressed dataset may be too large without compression."""
    name = stored.name.lstrip("/")
    words = ["h5video-data", "repack", stored.path, f"{os.path.splitext(stored.path)[0]}_fast.h5"]
    command = shell_words(words if name == "X" else [*words, "--x", name])
    if not stored.filters:
        return command
    return f"{command} (it then takes {size_text(stored.nbytes)}; with --compression lzf, less)"


def size_text(num_bytes: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"
