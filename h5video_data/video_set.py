"""The datasets that make up a set of samples, over one file or several that follow each other."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, FileFormatError
from .planning.byte_ranges import ChunkRows, planner
from .sampling.clips import Clip
from .storage.attributes import read_class_names, read_sample_count
from .storage.file_identity import FileIdentity, absolute_path
from .storage.hdf5_files import file_identity, open_file
from .storage.hdf5_names import find_dataset, own_name
from .storage.layout import StoredArray, describe
from .storage.paths import Paths as Paths
from .storage.paths import expand_paths
from .storage.values import Values

Names = str | Mapping[str, str]

SAMPLES = "(samples, frames, channels, rows, columns)"


# Datasets of labels, weights and features (samples of one dimension at the most) are read once and
# kept if they are small: a read for a label of a few bytes costs as much as one for a frame.
MEMORY_ROW_BYTES = 4 << 10
MEMORY_BYTES = 32 << 20

# What the numbers of a sample take in planning an epoch, at the least.
NUMBERS_BYTES = 32


@dataclass(frozen=True, eq=False)
class Component:
    """One dataset of a set, over all of its files."""

    name: str
    parts: tuple[StoredArray, ...]
    """How it is stored in each file."""
    clip: Clip | None = None
    """Which frames of each sample are read, with the number of their axis; None: all of them."""
    is_read_once: bool = False
    """Whether it is read once and kept although it is larger than labels: see `memory`."""

    @property
    def num_frames(self) -> int:
        """Frames of a sample as it is stored."""
        axis = 0 if self.clip is None or self.clip.axis is None else self.clip.axis
        return self.parts[0].shape[1 + axis]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample as it is read."""
        shape = self.parts[0].shape[1:]
        return shape if self.clip is None else self.clip.shape_of(shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its values in memory."""
        return self.parts[0].dtype

    @property
    def row_nbytes(self) -> int:
        """Bytes of one sample in memory."""
        return math.prod(self.sample_shape) * self.dtype.itemsize

    @property
    def is_kept_in_memory(self) -> bool:
        """Whether it is read once and kept: labels, weights."""
        if self.is_read_once:
            return True
        nbytes = sum(part.nbytes for part in self.parts)
        is_small = self.row_nbytes <= MEMORY_ROW_BYTES and nbytes <= MEMORY_BYTES
        return len(self.sample_shape) <= 1 and is_small

    @property
    def is_decoded(self) -> bool:
        """Whether its samples go through filters each time that they are read."""
        return not self.is_kept_in_memory and any(part.filters for part in self.parts)


@dataclass(frozen=True, eq=False)
class VideoSet:
    """The samples of one file, or of several that follow each other.

    Sample i of the set is row `i - starts[f]` of file f, the last one that starts at or before i.
    """

    paths: tuple[str, ...]
    identities: tuple[FileIdentity, ...]
    """What each file was like when its layout was read."""
    counts: NDArray[np.int64]
    """Samples in use of each file."""
    columns: tuple[Component, ...]
    """The datasets, each once, even if it is asked for under several keys."""
    element: tuple[Any, ...]
    """What an element is made of: (x,), (x, y) or (x, y, sample_weight), where each is the number
    of a column, or a dict of them."""
    class_names: tuple[str, ...] | None
    """The attribute `class_names` of the files that have it."""

    def first_frames(
        self,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        earlier: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64] | None:
        """The first frame of each sample's clip, or None if all frames are read.

        Args:
            seed: The loader's seed.
            epoch: Number of the epoch.
            indices: int64 (n,), sample numbers.
            earlier: int64 (n,), how often each came before in the epoch; None: none did.

        Returns:
            int64 (n,), or None.
        """
        for column in self.columns:
            if column.clip is not None:
                return column.clip.first_frames(column.num_frames, seed, epoch, indices, earlier)
        return None

    @property
    def starts(self) -> NDArray[np.int64]:
        """The number of each file's first sample."""
        return np.cumsum(self.counts) - self.counts

    @property
    def num_samples(self) -> int:
        """Samples in all files."""
        return int(self.counts.sum())

    @property
    def row_nbytes(self) -> int:
        """Bytes of one sample in memory, of all columns."""
        return sum(column.row_nbytes for column in self.columns)

    def blocks(self) -> tuple[NDArray[np.int64], int]:
        """Which samples are decoded together.

        Returns:
            int64 (num_samples,), the number of each sample's block, ascending; and the bytes of the
            largest block. By the column whose blocks are largest; samples that are read one by one
            are blocks of their own.
        """
        sizes = np.ones((len(self.columns), len(self.paths)), np.int64)
        for number, column in enumerate(self.columns):
            for file, part in enumerate(column.parts):
                plan = None if column.is_kept_in_memory else planner(part)
                if isinstance(plan, ChunkRows):
                    sizes[number, file] = plan.samples_per_slab
        nbytes = sizes.max(axis=1) * [column.row_nbytes for column in self.columns]
        largest = int(nbytes.argmax())
        firsts = [np.arange(n) // size for n, size in zip(self.counts, sizes[largest], strict=True)]
        ends = np.cumsum([0, *(len(np.unique(first)) for first in firsts)])
        blocks = np.concatenate([f + end for f, end in zip(firsts, ends[:-1], strict=True)])
        return blocks.astype(np.int64), int(nbytes[largest])

    def build(self, of_column: Callable[[int], Any]) -> Any:
        """An element in the form that Keras takes: x, (x, y) or (x, y, sample_weight).

        Args:
            of_column: Gives what stands for a column, by its number.
        """

        def leaf(tree: Any) -> Any:
            if isinstance(tree, dict):
                return {key: of_column(number) for key, number in tree.items()}
            return of_column(tree)

        parts = tuple(leaf(tree) for tree in self.element)
        return parts[0] if len(parts) == 1 else parts


def open_video_set(
    path: Paths,
    x: Names = "X",
    y: Names | None = "Y",
    sample_weight: str | None = None,
    clip: Clip | None = None,
) -> VideoSet:
    """Opens files, checks that their datasets fit together, and closes them again.

    Args:
        path: A path, a list of paths, or a glob.
        x: Name of the dataset of samples, or a dict of names.
        y: Name of the dataset of labels, or a dict of names; None: no labels.
        sample_weight: Name of the dataset of weights; None: no weights.
        clip: Which frames of the samples of x to read; None: all of them.

    Raises:
        ArgumentError: The clip does not fit into the samples.
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    if sample_weight is not None and y is None:
        raise ArgumentError(
            f"`sample_weight` goes with labels. Received: sample_weight={sample_weight!r}, y=None"
        )
    if x is None:
        raise ArgumentError("`x` and `y`: only `y` may be None. Received: x=None")
    wanted = [names for names in (x, y, sample_weight) if names is not None]
    for names in wanted:
        if (
            not isinstance(names, (str, Mapping))
            or not names
            or not all(isinstance(name, str) for name in _listed(names))
        ):
            raise ArgumentError(
                "`x` and `y` are a dataset's name, or a dict of names, and `sample_weight` is a "
                "name; values from elsewhere have to be written into the file, as another dataset, "
                f"and y=None does without labels. Received: {names!r}"
            )
    datasets = list(dict.fromkeys(name for names in wanted for name in _listed(names)))
    paths = tuple(map(absolute_path, expand_paths(path)))
    parts: list[list[StoredArray]] = []
    identities: list[FileIdentity] = []
    counts: list[int] = []
    # Names of classes, and the first file that has them.
    named: dict[tuple[str, ...], str] = {}
    for file_path in paths:
        with open_file(file_path) as file:
            identities.append(file_identity(file))
            stored = [_described(file, name) for name in datasets]
            _check_file(file_path, stored, x if isinstance(x, str) else None)
            if sample_weight is not None:
                weights = [stored[datasets.index(name)] for name in _listed(sample_weight)]
                _check_weights(file_path, weights)
            counts.append(read_sample_count(file, datasets[0], stored[0].shape[0])[0])
            class_names = read_class_names(file)
        if class_names is not None:
            named.setdefault(class_names, file_path)
        if len(named) > 1:
            raise FileFormatError(
                "The attribute `class_names` should be the same in all files. Received: "
                + ", ".join(f"{names} in {first}" for names, first in named.items())
            )
        parts.append(stored)
    columns = tuple(map(Component, datasets, zip(*parts, strict=True)))
    if clip is not None:
        columns = _clipped(columns, clip, _listed(x))
    for column in columns:
        _check_column(column)
        for part, count in zip(column.parts, counts, strict=True):
            is_read_by_hdf5 = column.is_kept_in_memory or isinstance(planner(part), str)
            if is_read_by_hdf5 and (part.filters or part.storage == "external"):
                check_readable(part, count)
    if not sum(counts):
        is_empty = not any(stored[0].shape[0] for stored in parts)
        reason = "the datasets have no rows" if is_empty else "`sample_count` is 0"
        raise FileFormatError(f"There is no sample in {', '.join(paths)}: {reason}.")

    _check_memory(paths, sum(counts), columns)

    def number_of(names: Names) -> Any:
        if isinstance(names, str):
            return datasets.index(names)
        return {key: datasets.index(name) for key, name in names.items()}

    return VideoSet(
        paths=paths,
        identities=tuple(identities),
        counts=np.array(counts, np.int64),
        columns=columns,
        element=tuple(number_of(names) for names in wanted),
        class_names=next(iter(named), None),
    )


def _check_memory(paths: Sequence[str], num_samples: int, columns: Sequence[Component]) -> None:
    """Raises a FileFormatError for shapes that nobody can mean, such as those of damaged files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_samples * NUMBERS_BYTES > memory:
        raise FileFormatError(
            f"There are {num_samples} samples in {', '.join(paths)}: the memory of this machine, "
            f"{memory} bytes, does not hold their numbers. If that is not meant, the file is "
            "damaged; the attribute `sample_count` says how many are in use."
        )
    for column in columns:
        if column.row_nbytes > memory:
            raise FileFormatError(
                f"{column.parts[0].path}: a sample of {column.name!r} takes {column.row_nbytes} "
                f"bytes, more than the memory of this machine, {memory} bytes. Received: shape "
                f"{column.parts[0].shape}. If that is not meant, the file is damaged."
            )


def _described(file: Any, name: str) -> StoredArray:
    """How a dataset is stored, in the file itself or in one that a link leads to."""
    dataset = find_dataset(file, name)
    if dataset.file == file.file:
        return describe(dataset)
    path, linked_name = absolute_path(dataset.file.filename), own_name(dataset)
    # Opened anew, for HDF5 does not compare what it opens by itself before it and after.
    del dataset
    with open_file(path) as linked:
        return describe(find_dataset(linked, linked_name))


def check_readable(stored: StoredArray, count: int) -> None:
    """Raises an error if HDF5 lacks something to read the rows in use: a filter, or the rows."""
    with open_file(stored.path, stored.identity) as file:
        Values(find_dataset(file, stored.name), count, stored)


def _clipped(
    columns: Sequence[Component], clip: Clip, videos: Sequence[str]
) -> tuple[Component, ...]:
    """The columns, with the clip where it holds."""
    if not isinstance(clip, Clip):
        raise ArgumentError(f"`clip` must be a Clip, such as Clip(16). Received: clip={clip!r}")
    clipped = tuple(
        replace(column, clip=clip.of_samples(column.name, column.sample_shape))
        if column.name in videos and len(column.sample_shape) > 1
        else column
        for column in columns
    )
    lengths = {column.name: column.num_frames for column in clipped if column.clip}
    if not lengths:
        raise ArgumentError(
            "`clip` goes with samples of more than one dimension, one of which is frames. "
            f"Received: clip={clip!r} for {', '.join(map(repr, videos))}"
        )
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            "`clip` goes with datasets of x that have as many frames as each other. "
            f"Received: {', '.join(f'{name!r} with {n}' for name, n in lengths.items())}"
        )
    num_frames = min(lengths.values())
    if clip.span > num_frames:
        raise ArgumentError(
            f"`clip` must fit into the samples, which have {num_frames} frames along axis "
            f"{next(column.clip.axis for column in clipped if column.clip)}; another axis can be "
            f"said by `axis`. Received: {clip!r}, which takes {clip.span}"
        )
    return clipped


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names.values())


def _check_file(path: str, stored: list[StoredArray], video: str | None) -> None:
    """Raises a FileFormatError if the datasets of one file do not fit together."""
    first = stored[0]
    if video is not None and len(first.shape) < 2:
        raise FileFormatError(
            f"{path}: {video!r} should have the shape {SAMPLES}, or 2 dimensions at the least. "
            f"Received: {first.shape}"
        )
    for item in stored:
        if 0 in item.shape[1:]:
            raise FileFormatError(
                f"{path}: the samples of {item.name!r} are empty. Received: shape {item.shape}"
            )
        if item.shape[0] != first.shape[0]:
            hint = (
                " If each file is one sample, without an axis of samples, write the files into one "
                "first, with datasets of shape (samples, ...)."
            )
            if len(item.shape) == 2 and item.shape[1] == first.shape[0]:
                hint = " It looks transposed: the samples come first."
            raise FileFormatError(
                f"{path}: the datasets should have as many samples as each other. Received: "
                f"{first.name!r} of shape {first.shape}, {item.name!r} of shape {item.shape}.{hint}"
            )


def _check_weights(path: str, stored: list[StoredArray]) -> None:
    for item in stored:
        if len(item.shape) != 1:
            raise FileFormatError(
                f"{path}: the weights {item.name!r} should have the shape (samples,). "
                f"Received: {item.shape}"
            )


def _check_column(column: Component) -> None:
    """Raises a FileFormatError if a dataset differs from one file to another."""
    first = column.parts[0]
    for part in column.parts[1:]:
        if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
            raise FileFormatError(
                f"The samples of {column.name!r} should be alike in all files. Received: "
                f"{first.dtype} of shape {first.shape[1:]} in {first.path}, "
                f"{part.dtype} of shape {part.shape[1:]} in {part.path}"
            )


def read_values(video_set: VideoSet, name: str) -> NDArray[Any]:
    """All the values of a small dataset, of the samples in use: labels, or the ids of groups.

    Args:
        video_set: The set.
        name: Name of the dataset, which need not be one of the set's columns. Strings are read as
            objects of bytes.

    Returns:
        The values, (samples, ...).

    Raises:
        FileFormatError: A file holds fewer values than samples.
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    values = []
    parts = next((item.parts for item in video_set.columns if item.name == name), None)
    for number, (path, count) in enumerate(
        zip(video_set.paths, video_set.counts.tolist(), strict=True)
    ):
        with open_file(path, video_set.identities[number]) as file:
            dataset = find_dataset(file, name)
            if not dataset.shape or dataset.shape[0] < count:
                raise FileFormatError(
                    f"{path}: {name!r} should hold a value for each of the {count} samples. "
                    f"Received: shape {dataset.shape}"
                )
            expected = None if parts is None else parts[number]
            values.append(Values(dataset, count, expected).read(slice(0, count)))
    try:
        return np.concatenate(values)
    except TypeError as error:
        raise FileFormatError(
            f"The values of {name!r} should be of one kind in all files. Received: "
            f"{', '.join(dict.fromkeys(str(item.dtype) for item in values))}"
        ) from error
