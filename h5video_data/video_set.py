"""The datasets that make up a set of samples, over one file or several, as data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import FileFormatError
from .planning.access import Access
from .sampling.bounds import BoundsKind
from .sampling.clip_lengths import ClipLengths, check_lengths
from .sampling.clips import Clip
from .sampling.sample_index import SampleIndex
from .sampling.split_indices import squeeze_column
from .sampling.window_index import WindowIndex
from .storage.attributes import read_sample_count
from .storage.file_identity import FileIdentity, Files, absolute_path
from .storage.hdf5_files import open_file
from .storage.hdf5_names import find_dataset
from .storage.layout import StoredArray
from .storage.paths import expand_paths, split_name
from .storage.values import Values


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
        """Whether its samples go through filters each time that they are read."""
        return not self.is_in_memory and any(part.filters for part in self.parts)

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
        item = next(item for item in self.components if item.parts)
        return [
            (
                Place(
                    item.parts[recordings.parts[i]].path,
                    item.parts[recordings.parts[i]].name,
                    int(recordings.first_rows[i]),
                ),
                int(recordings.lengths[i]),
            )
            for i in index.skipped().tolist()
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


def read_rows(parts: Sequence[StoredArray], counts: Sequence[int]) -> list[NDArray[Any]]:
    """Reads the first rows of parts by h5py, in the dtype that they have in memory.

    Args:
        parts: How the dataset is stored in each part.
        counts: How many rows of each to read.

    Raises:
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    found: list[NDArray[Any]] = []
    pairs = zip(parts, counts, strict=True)
    # A file that has thousands of parts is opened once.
    for (path, identity), of_file in itertools.groupby(
        pairs, key=lambda pair: (pair[0].path, pair[0].identity)
    ):
        with open_file(path, identity) as file:
            for part, count in of_file:
                values = Values(find_dataset(file, part.name), count, part)
                found.append(values.read(slice(0, count)).astype(part.dtype, copy=False))
    return found


def component_values(item: Component) -> NDArray[Any]:
    """Reads the values of a component's samples in use: labels, or other small values.

    Returns:
        The values, (samples, ...); class numbers if they are strings.

    Raises:
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    values = item.values
    if values is None:
        values = np.concatenate(read_rows(item.parts, item.index.num_rows.tolist()))
    index = item.index
    if index.is_every_row:
        return values
    parts, rows = index.rows(np.arange(index.num_samples))
    starts = np.cumsum(index.num_rows) - index.num_rows
    of_samples: NDArray[Any] = values[starts[parts] + rows]
    return of_samples


def rows_in_use(
    name: str,
    lengths: Sequence[int],
    counts: Sequence[int],
    stored: Sequence[int],
    *,
    is_count_given: bool,
) -> list[int]:
    """Returns how many rows of a dataset in files of its own are samples of a set, for each file.

    Its rows, file after file, are the samples of the set. If a `sample_count` cuts files of x
    short, its files may have as many rows as these: then the same rows count.

    Args:
        name: Name of the dataset.
        lengths: Its rows in each of its files.
        counts: Samples of each file of x.
        stored: Rows of x in each of them, in use or not.
        is_count_given: Whether a file of x has a `sample_count`.

    Raises:
        FileFormatError: It has not as many rows.
    """
    num_samples = sum(counts)
    if sum(lengths) == num_samples:
        return list(lengths)
    if is_count_given and len(lengths) == len(counts):
        fit = all(length >= count for length, count in zip(lengths, counts, strict=True))
        if fit and (len(counts) == 1 or list(lengths) == list(stored)):
            return list(counts)
    raise FileFormatError(
        f"{name!r} must have a row for each of the {num_samples} samples. Received: "
        f"{' + '.join(map(str, lengths))} rows"
        + (
            "; the attribute `sample_count` says how many are in use"
            if sum(lengths) > num_samples
            else ""
        )
    )


def read_clip_lengths(video_set: VideoSet, clip: Clip) -> ClipLengths | None:
    """Reads the lengths that clips are drawn from, if the clip names them.

    Raises:
        ArgumentError: They are not one whole number for each sample.
        H5VideoError: They cannot be read.
    """
    lengths = clip.lengths
    if lengths is None:
        return None
    if isinstance(lengths, str):
        source = f"lengths={lengths!r}"
        _check_one_each(video_set, lengths)
        values = squeeze_column(read_values(video_set, lengths))
    else:
        source, values = "`lengths`", np.asarray(lengths)
    check_lengths(values, video_set.num_samples, source)
    return ClipLengths(values, source, clip, video_set.num_frames)


def _check_one_each(video_set: VideoSet, name: str) -> None:
    """Raises a FileFormatError if a dataset is not (samples,) or (samples, 1) in each file."""
    parts = video_set.components[0].parts
    if split_name(name)[0] is not None or len(parts) != len(video_set.paths):
        return  # it is in other files than the samples
    for path, identity, part in zip(video_set.paths, video_set.identities, parts, strict=True):
        with open_file(path, identity) as file:
            shape = find_dataset(file, name).shape
        if shape not in ((part.shape[0],), (part.shape[0], 1)):
            raise FileFormatError(
                f"{path}: the lengths {name!r} must have the shape (samples,), with a value for "
                f"each of the {part.shape[0]} samples of {part.name!r}. Received: shape {shape}"
            )


def read_values(video_set: VideoSet, name: str) -> NDArray[Any]:
    """Reads all values of a small dataset, of the samples in use: labels, or the ids of a split.

    Args:
        video_set: The set.
        name: Name of the dataset, which need not be one of the set's components, nor in its files:
            `"ids.h5:id"`. Strings are read as objects of bytes; those of a component are class
            numbers.

    Returns:
        The values, (samples, ...).

    Raises:
        FileFormatError: A file holds fewer values than samples.
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    item = next((item for item in video_set.components if item.name == name), None)
    if item is not None:
        return component_values(item)
    pattern, dataset_name = split_name(name)
    if pattern is not None:
        values = _read_elsewhere(video_set, name, pattern, dataset_name)
    else:
        values = [
            _read_first(path, identity, name, count)
            for path, identity, count in zip(
                video_set.paths, video_set.identities, video_set.counts.tolist(), strict=True
            )
        ]
    try:
        return np.concatenate(values)
    except TypeError as error:
        raise FileFormatError(
            f"The values of {name!r} must have one kind of dtype in all files. Received: "
            f"{', '.join(dict.fromkeys(str(item.dtype) for item in values))}"
        ) from error


def _read_first(path: str, identity: FileIdentity | None, name: str, count: int) -> NDArray[Any]:
    """Reads the first rows of a dataset."""
    with open_file(path, identity) as file:
        dataset = find_dataset(file, name)
        if not dataset.shape or dataset.shape[0] < count:
            raise FileFormatError(
                f"{path}: {name!r} must hold a value for each of the {count} samples. "
                f"Received: shape {dataset.shape}"
            )
        return Values(dataset, count).read(slice(0, count))


def _read_elsewhere(
    video_set: VideoSet, name: str, pattern: str, dataset_name: str
) -> list[NDArray[Any]]:
    """Reads the values of a dataset of other files."""
    paths, lengths = [absolute_path(path) for path in expand_paths(pattern)], []
    for path in paths:
        with open_file(path) as file:
            shape = find_dataset(file, dataset_name).shape or (0,)
            lengths.append(read_sample_count(file, dataset_name, shape[0]).num_samples)
    first = video_set.components[0]
    stored = [part.shape[0] for part in first.parts]
    counts = first.index.num_rows.tolist()
    counts = rows_in_use(name, lengths, counts, stored, is_count_given=True)
    return [_read_first(path, None, dataset_name, n) for path, n in zip(paths, counts, strict=True)]
