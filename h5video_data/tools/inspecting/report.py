"""The reports of `inspect`, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from h5video_data.planning.access import AccessKind
from h5video_data.storage.picture_rows import PictureLook

from .page import report_page
from .text import report_text


@dataclass(frozen=True)
class Advice:
    """What to do about how a dataset is stored."""

    text: str
    """One short line."""
    command: str | None = None
    """What to type in a shell to follow it; None: it is an argument, or cannot be typed."""

    datasets: tuple[str, ...] = ()
    """Names of the datasets that it is about."""

    def __str__(self) -> str:
        return self.text if self.command is None else f"{self.text}: {self.command}"


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
    picture), `h5py`, or `none` (it cannot be read
    into a tensor)."""
    reason: str | None
    """Why it is not read directly, or cannot be read; None: it is."""
    read_amplification: float
    """Bytes decoded for one sample alone, over the bytes of the sample."""
    advice: tuple[str, ...] = ()
    epoch_amplification: float = 1.0
    """Bytes decoded in a shuffled epoch, over those of its samples, with the memory at hand."""
    reads_per_sample: int = 1
    """Byte ranges or chunks that one sample is read in."""
    num_chunks: int = 0
    """Chunks of it; 0: it has none, or only HDF5 knows them."""
    num_unwritten_chunks: int = 0
    """Chunks that were never written: their values are the fill value."""
    pictures: PictureLook | None = None
    """What its rows are, if these are encoded pictures: shape and dtype are those of the decoded
    ones."""
    is_padded: bool = False
    """Whether the rows of pictures are numbers, padded to the longest: decode="image" decodes them.
    """
    samples_per_second: float | None = None
    """Predicted for shuffled batches of it alone, by `probe`; None: not measured."""

    def __str__(self) -> str:
        return report_text(self)


@dataclass(frozen=True)
class FileReport:
    """What `inspect` found in a file.

    `str()` of it is for people, `to_dict()` for JSON; a notebook shows it as a table, and
    `save("report.html")` writes a page.
    """

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
    sample_call: str | None = None
    """The call that opens the file, if its rows look like samples."""
    read_ahead_bytes: int | None = None
    """The argument."""
    advice: tuple[Advice, ...] = ()
    """What to do, each once."""
    samples_per_second: float | None = None
    """Predicted for the call, by `probe`; None: not measured."""
    from_disk: float | None = None
    """Which part of what the probe read came from a disk, not from the page cache; None: not known.
    """
    class_counts: tuple[tuple[str, int], ...] = ()
    """(class, samples) of the labels that the call reads, if these are classes."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, strings and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        return report_text(self)

    def _repr_html_(self) -> str:
        return report_page(self, is_whole=False)
