"""The datasets that make up a set of samples, over one file or several, as data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .planning.access import Access
from .sampling.bounds import BoundsKind
from .sampling.clip_lengths import ClipLengths
from .sampling.clips import Clip
from .sampling.sample_index import SampleIndex
from .sampling.window_index import WindowIndex
from .storage.file_identity import FileIdentity, Files
from .storage.layout import StoredArray


@dataclass(frozen=True, eq=False)
class Component:
    """One dataset of a set, over all of its files; or one array of labels."""

    name: str
    """As it was given: `"labels.h5:y"` for a dataset of another file."""
    accesses: tuple[Access, ...]
    """How each part, the dataset in one file, is stored and read; none if there are `values`."""
    index: SampleIndex
    """Which rows of which part each sample is."""
    clip: Clip | None = None
    """Which frames of each row are read, with the number of their axis; None: all of them."""
    values: NDArray[Any] | None = None
    """(samples, ...), what is no dataset of numbers: an array, or the class numbers of strings."""
    class_names: tuple[str, ...] | None = None
    """The names that class numbers stand for, if they were strings."""
    name_in_file: str | None = None
    """The name without the path, of a dataset of another file."""
    is_mask: bool = False
    """Whether it tells which frames of its index are beyond their recording: nothing is read."""
    files_read: Files = ()
    """Path and identity of the files that `values` are from."""

    @property
    def parts(self) -> tuple[StoredArray, ...]:
        """How the dataset is stored in each file."""
        return tuple(access.stored for access in self.accesses)

    @property
    def files(self) -> Files:
        """Path and identity of all files that contain its values."""
        return self.files_read + tuple(file for part in self.parts for file in part.files)

    @property
    def num_frames(self) -> int:
        """Frames of a row as it is stored."""
        axis = 0 if self.clip is None or self.clip.axis is None else self.clip.axis
        return self._stored.shape[1 + axis]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row as it is read: whole, or its clip."""
        shape = self._stored.shape[1:]
        return shape if self.clip is None else self.clip.shape_of(shape)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample as it is read."""
        is_row = self.index.offsets is None
        return self.row_shape if is_row else (self.index.rows_per_sample, *self.row_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its values in memory."""
        return self._stored.dtype

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row, as it is read, in memory."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def sample_nbytes(self) -> int:
        """Bytes of one sample in memory."""
        return self.row_nbytes * self.index.rows_per_sample

    @property
    def nbytes(self) -> int:
        """Bytes of all of its values in memory."""
        return sum(part.nbytes for part in self.parts or (self._stored,))

    @property
    def is_in_memory(self) -> bool:
        """Whether it is read once and kept."""
        return self.values is not None or self.is_mask or self.accesses[0].kind == "memory"

    @property
    def budget_nbytes(self) -> int:
        """Bytes of the memory budget that its values take: none if they are small as labels."""
        return self.nbytes if any(access.without_memory for access in self.accesses) else 0

    @property
    def is_decoded(self) -> bool:
        """Whether its samples are decoded each time that they are read."""
        return not self.is_in_memory and any(
            access.kind == "pictures" or access.stored.filters for access in self.accesses
        )

    @property
    def _stored(self) -> StoredArray | NDArray[Any]:
        """What has its shape, but for the number of rows, and its dtype."""
        if self.is_mask:
            return np.empty(0, np.bool_)
        return self.accesses[0].stored if self.values is None else self.values


@dataclass(frozen=True, eq=False)
class WindowedRows:
    """Windows of recordings as the samples of a set, and how the recordings were found."""

    index: WindowIndex
    name: str
    """Name of the dataset of x whose rows are those of the recordings; it may have `*`."""
    bounds: tuple[BoundsKind | None, str] | None
    """What divides its rows into recordings; None: each dataset is one."""


class Place(NamedTuple):
    """Where something is in the files of a set."""

    path: str
    name: str
    """Name of the dataset."""
    row: int


@dataclass(frozen=True, eq=False)
class VideoSet:
    """The samples of one file, or of several that follow each other."""

    paths: tuple[str, ...]
    identities: tuple[FileIdentity, ...]
    """The identity of each file when its layout was read."""
    counts: NDArray[np.int64]
    """Samples in use of each file."""
    components: tuple[Component, ...]
    """The datasets, each once, even if it is asked for under several keys."""
    element: tuple[Any, ...]
    """The structure of an element: (x,), (x, y) or (x, y, sample_weight), where each is the number
    of a component, or a dict of them."""
    class_names: tuple[str, ...] | None
    """The names of the classes of y, or the attribute `class_names` of the files that have it."""
    windows: WindowedRows | None = None
    """The recordings, if samples are windows; None: each row is a sample."""
    clip_lengths: ClipLengths | None = None
    """How many frames of each sample clips are drawn from; None: all that are stored."""

    def first_frames(
        self,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        earlier: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64] | None:
        """Draws the first frame of each sample's clip.

        Args:
            seed: The loader's seed.
            epoch: Number of the epoch.
            indices: int64 (n,), sample numbers.
            earlier: int64 (n,), how often each came before in the epoch; None: none did.

        Returns:
            int64 (n,), or None if all frames are read.
        """
        clips = [item.clip for item in self.components if item.clip is not None]
        if not clips:
            return None
        num_frames: int | NDArray[np.int64] = self.num_frames
        if self.clip_lengths is not None:
            num_frames = self.clip_lengths.of_samples(indices)
        return clips[0].first_frames(num_frames, seed, epoch, indices, earlier)

    def check_samples(self, samples: NDArray[np.int64]) -> None:
        """Raises an ArgumentError if a clip does not fit into one of these samples, int64 (n,)."""
        if self.clip_lengths is not None:
            self.clip_lengths.check(samples)

    @property
    def num_frames(self) -> int:
        """Frames, as they are stored, of the shortest component of which clips are read."""
        return min(item.num_frames for item in self.components if item.clip is not None)

    @property
    def num_samples(self) -> int:
        """Samples in all files."""
        return int(self.counts.sum())

    @property
    def sample_nbytes(self) -> int:
        """Bytes of one sample in memory, of all components."""
        return sum(item.sample_nbytes for item in self.components)

    def shifts(
        self,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        earlier: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64] | None:
        """Draws the anchors of windows; the arguments are those of `first_frames`.

        Returns:
            int64 (n,), how far each is moved, in rows; None: they are not drawn.
        """
        if self.windows is None:
            return None
        return self.windows.index.shifts(seed, epoch, indices, earlier)

    def places(
        self, indices: NDArray[np.int64], shifts: NDArray[np.int64] | None = None
    ) -> list[Place]:
        """Returns where samples begin: the lowest row of each, in the first dataset of x.

        Args:
            indices: int64 (n,), sample numbers.
            shifts: int64 (n,), how far the anchor of each is moved; None: not at all.
        """
        item = next(item for item in self.components if item.parts)
        parts, rows = item.index.rows(indices, shifts)
        length = item.index.rows_per_sample
        first_rows = rows.reshape(-1, length).min(axis=1).tolist()
        stored = [item.parts[part] for part in parts[::length].tolist()]
        return [
            Place(part.path, part.name, row) for part, row in zip(stored, first_rows, strict=True)
        ]

    def skipped_recordings(self) -> list[tuple[Place, int]]:
        """Returns where recordings begin that are too short for a window, and their rows."""
        if self.windows is None:
            return []
        index, recordings = self.windows.index, self.windows.index.recordings
        stored = next(item.parts for item in self.components if item.parts)
        skipped = index.skipped()
        arrays = (recordings.parts, recordings.first_rows, recordings.lengths)
        return [
            (Place(stored[part].path, stored[part].name, row), num_rows)
            for part, row, num_rows in zip(*(a[skipped].tolist() for a in arrays), strict=True)
        ]

    def chunk_rows(self) -> tuple[NDArray[np.int64], int]:
        """Numbers the chunk rows, whose samples are decoded together.

        Returns:
            int64 (num_samples,), the number of each sample's chunk row, ascending; and the bytes of
            the largest chunk row. By the component whose chunk rows are largest; samples that are
            read one by one are chunk rows of their own.
        """
        found = []
        x = self.element[0]
        of_x = set(x.values()) if isinstance(x, dict) else {x}
        for number, item in enumerate(self.components):
            if not item.parts:
                continue
            # As they are stored: an order must not depend on how much memory there is.
            stored = [access.without_memory or access for access in item.accesses]
            lengths = [1 if a.chunk_rows is None else a.chunk_rows.num_rows for a in stored]
            # Nor must it change by whether y is clipped.
            row_nbytes = item.row_nbytes if number in of_x else item.parts[0].row_nbytes
            found.append((max(lengths) * row_nbytes, np.array(lengths, np.int64), item.index))
        nbytes, num_rows, index = max(found, key=lambda entry: entry[0])
        counts = -(-index.num_rows // num_rows)
        starts = np.cumsum(counts) - counts
        _, parts, anchors = index.anchors(np.arange(index.num_samples))
        return starts[parts] + anchors // num_rows[parts], nbytes

    def build(self, of_component: Callable[[int], Any]) -> Any:
        """Makes an element in the form that Keras takes: x, (x, y) or (x, y, sample_weight).

        Args:
            of_component: Gives what stands for a component, by its number.
        """

        def leaf(tree: Any) -> Any:
            if isinstance(tree, dict):
                return {key: of_component(number) for key, number in tree.items()}
            return of_component(tree)

        trees = tuple(leaf(tree) for tree in self.element)
        return trees[0] if len(trees) == 1 else trees
