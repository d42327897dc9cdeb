"""The datasets that make up a set of samples, over one file or several, and how each is read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, FileFormatError, MissingFilterError
from .planning.access import Access, decide_access
from .sampling.clips import Clip
from .sampling.sample_index import SampleIndex
from .storage.file_identity import FileIdentity, absolute
from .storage.hdf5_files import (
    file_identity,
    find_dataset,
    open_file,
    own_name,
    read_class_names,
    read_sample_count,
)
from .storage.layout import StoredArray, describe
from .storage.paths import Paths as Paths
from .storage.paths import expand_paths
from .storage.values import Values

Names: TypeAlias = str | Mapping[str, str]

SAMPLES = "(samples, frames, channels, rows, columns)"

# What the numbers of a sample take in its index and in planning an epoch, at the least.
NUMBERS_BYTES = 48


@dataclass(frozen=True, eq=False)
class Component:
    """One dataset of a set, over all of its files."""

    name: str
    accesses: tuple[Access, ...]
    """How each part, the dataset in one file, is stored and read."""
    index: SampleIndex
    """Which rows of which part each sample is."""
    clip: Clip | None = None
    """Which frames of each row are read, with the number of their axis; None: all of them."""

    @property
    def parts(self) -> tuple[StoredArray, ...]:
        """How the dataset is stored in each file."""
        return tuple(access.stored for access in self.accesses)

    @property
    def num_frames(self) -> int:
        """Frames of a row as it is stored."""
        axis = 0 if self.clip is None or self.clip.axis is None else self.clip.axis
        return self.accesses[0].stored.shape[1 + axis]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row as it is read: whole, or its clip."""
        shape = self.accesses[0].stored.shape[1:]
        return shape if self.clip is None else self.clip.shape_of(shape)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample as it is read."""
        is_row = self.index.offsets is None
        return self.row_shape if is_row else (self.index.rows_per_sample, *self.row_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its values in memory."""
        return self.accesses[0].stored.dtype

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
        return sum(access.stored.nbytes for access in self.accesses)

    @property
    def is_in_memory(self) -> bool:
        """Whether it is read once and kept."""
        return self.accesses[0].kind == "memory"

    @property
    def budget_nbytes(self) -> int:
        """Bytes of the memory budget that its values take: none if they are small as labels."""
        return 0 if self.accesses[0].without_memory is None else self.nbytes

    @property
    def is_decoded(self) -> bool:
        """Whether its samples go through filters each time that they are read."""
        return not self.is_in_memory and any(part.filters for part in self.parts)


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
    """The attribute `class_names` of the files that have it."""

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
        for item in self.components:
            if item.clip is not None:
                return item.clip.first_frames(item.num_frames, seed, epoch, indices, earlier)
        return None

    @property
    def num_samples(self) -> int:
        """Samples in all files."""
        return int(self.counts.sum())

    @property
    def sample_nbytes(self) -> int:
        """Bytes of one sample in memory, of all components."""
        return sum(item.sample_nbytes for item in self.components)

    def chunk_rows(self) -> tuple[NDArray[np.int64], int]:
        """Numbers the groups of samples that are decoded together.

        Returns:
            int64 (num_samples,), the number of each sample's chunk row, ascending; and the bytes of
            the largest chunk row. By the component whose chunk rows are largest; samples that are
            read one by one are chunk rows of their own.
        """
        found = []
        for item in self.components:
            lengths = [1 if a.chunk_rows is None else a.chunk_rows.num_rows for a in item.accesses]
            found.append((max(lengths) * item.row_nbytes, np.array(lengths, np.int64), item.index))
        nbytes, num_rows, index = max(found, key=lambda entry: entry[0])
        counts = -(-index.num_rows // num_rows)
        starts = np.cumsum(counts) - counts
        return starts[index.parts] + index.first_rows // num_rows[index.parts], nbytes

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


def open_video_set(
    path: Paths,
    x: Names = "X",
    y: Names | None = "Y",
    sample_weight: str | None = None,
    clip: Clip | None = None,
    *,
    budget_nbytes: int = 0,
) -> VideoSet:
    """Opens files, checks that their datasets fit together, and closes them again.

    Args:
        path: A path, a list of paths, or a glob.
        x: Name of the dataset of samples, or a dict of names.
        y: Name of the dataset of labels, or a dict of names; None: no labels.
        sample_weight: Name of the dataset of weights; None: no weights.
        clip: Which frames of the samples of x to read; None: all of them.
        budget_nbytes: Memory for the values of datasets of many small samples, beyond labels.

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
    paths = tuple(map(absolute, expand_paths(path)))
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
    num_rows = np.array(counts, np.int64)
    clips = _clips(datasets, parts[0], clip, _listed(x))
    _check_memory(paths, sum(counts), datasets, parts[0], clips)
    index = SampleIndex.stacked(num_rows)
    components: list[Component] = []
    for name, stored_parts in zip(datasets, zip(*parts, strict=True), strict=True):
        _check_alike(name, stored_parts)
        item = _component(name, stored_parts, index, clips.get(name), budget_nbytes)
        budget_nbytes -= item.budget_nbytes
        components.append(item)
    if not sum(counts):
        is_empty = not any(stored[0].shape[0] for stored in parts)
        reason = "the datasets have no rows" if is_empty else "`sample_count` is 0"
        raise FileFormatError(f"There is no sample in {', '.join(paths)}: {reason}.")

    def number_of(names: Names) -> Any:
        if isinstance(names, str):
            return datasets.index(names)
        return {key: datasets.index(name) for key, name in names.items()}

    return VideoSet(
        paths=paths,
        identities=tuple(identities),
        counts=num_rows,
        components=tuple(components),
        element=tuple(number_of(names) for names in wanted),
        class_names=next(iter(named), None),
    )


def _component(
    name: str,
    parts: Sequence[StoredArray],
    index: SampleIndex,
    clip: Clip | None,
    budget_nbytes: int,
) -> Component:
    """Decides how a component is read, and makes sure that HDF5 can read what it has to.

    Args:
        name: Name of the dataset.
        parts: How it is stored in each file.
        index: Where its samples are.
        clip: Which frames of each row are read.
        budget_nbytes: Memory for its values, if it has many small samples.
    """
    shape = parts[0].shape[1:] if clip is None else clip.shape_of(parts[0].shape[1:])
    accesses = decide_access(
        parts, index.num_samples, shape, is_whole=clip is None, budget_nbytes=budget_nbytes
    )
    try:
        _check_readable(accesses, index)
    except MissingFilterError:
        if accesses[0].without_memory is None:
            raise
        # Decoded here, it is still readable.
        accesses = tuple(access.without_memory or access for access in accesses)
        _check_readable(accesses, index)
    return Component(name, accesses, index, clip)


def _check_readable(accesses: Sequence[Access], index: SampleIndex) -> None:
    """Raises an error if HDF5 lacks a filter, or rows in use, of what it has to read."""
    for access, num_rows in zip(accesses, index.num_rows.tolist(), strict=True):
        stored = access.stored
        is_read_by_hdf5 = access.kind in ("memory", "h5py")
        if is_read_by_hdf5 and (stored.filters or stored.storage == "external"):
            with open_file(stored.path, stored.identity) as file:
                Values(find_dataset(file, stored.name), num_rows, stored)


def _check_memory(
    paths: Sequence[str],
    num_samples: int,
    datasets: Sequence[str],
    parts: Sequence[StoredArray],
    clips: Mapping[str, Clip],
) -> None:
    """Raises a FileFormatError for shapes that nobody can mean, such as those of damaged files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_samples * NUMBERS_BYTES > memory:
        raise FileFormatError(
            f"There are {num_samples} samples in {', '.join(paths)}: the memory of this machine, "
            f"{memory} bytes, does not hold their numbers. If that is not meant, the file is "
            "damaged; the attribute `sample_count` says how many are in use."
        )
    for name, part in zip(datasets, parts, strict=True):
        clip, shape = clips.get(name), part.shape[1:]
        nbytes = math.prod(clip.shape_of(shape) if clip else shape) * part.dtype.itemsize
        if nbytes > memory:
            raise FileFormatError(
                f"{part.path}: a sample of {name!r} takes {nbytes} bytes, more than the memory of "
                f"this machine, {memory} bytes. Received: shape {part.shape}. If that is not "
                "meant, the file is damaged."
            )


def _described(file: Any, name: str) -> StoredArray:
    """How a dataset is stored, in the file itself or in one that a link leads to."""
    dataset = find_dataset(file, name)
    if dataset.file == file.file:
        return describe(dataset)
    path, linked_name = absolute(dataset.file.filename), own_name(dataset)
    # Opened anew, for HDF5 does not compare what it opens by itself before it and after.
    del dataset
    with open_file(path) as linked:
        return describe(find_dataset(linked, linked_name))


def _clips(
    datasets: Sequence[str],
    parts: Sequence[StoredArray],
    clip: Clip | None,
    videos: Sequence[str],
) -> dict[str, Clip]:
    """Finds the datasets that a clip holds for.

    Args:
        datasets: Names of the datasets.
        parts: How each is stored in the first file.
        clip: The clip; None: there is none.
        videos: The names of the datasets of x.

    Returns:
        By name, the clip with the number of its axis.
    """
    if clip is None:
        return {}
    if not isinstance(clip, Clip):
        raise ArgumentError(f"`clip` must be a Clip, such as Clip(16). Received: clip={clip!r}")
    found = {
        name: (clip.of_samples(name, part.shape[1:]), part.shape[1:])
        for name, part in zip(datasets, parts, strict=True)
        if name in videos and len(part.shape) > 2
    }
    if not found:
        raise ArgumentError(
            "`clip` needs samples with a frame axis: shape (frames, ...). "
            f"Received: clip={clip!r} for {', '.join(map(repr, videos))}"
        )
    lengths = {name: shape[item.axis or 0] for name, (item, shape) in found.items()}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            "`clip` needs the same number of frames in all datasets of x. "
            f"Received: {', '.join(f'{name!r} with {n}' for name, n in lengths.items())}"
        )
    clips = {name: item for name, (item, _) in found.items()}
    num_frames, axis = min(lengths.values()), next(iter(clips.values())).axis
    if clip.span > num_frames:
        raise ArgumentError(
            f"`clip` must fit into the samples, which have {num_frames} frames along axis {axis}; "
            f"`axis` names another one. Received: {clip!r}, which takes {clip.span}"
        )
    return clips


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


def _check_alike(name: str, parts: Sequence[StoredArray]) -> None:
    """Raises a FileFormatError if a dataset differs from one file to another."""
    first = parts[0]
    for part in parts[1:]:
        if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
            raise FileFormatError(
                f"The samples of {name!r} must be alike in all files. Received: "
                f"{first.dtype} of shape {first.shape[1:]} in {first.path}, "
                f"{part.dtype} of shape {part.shape[1:]} in {part.path}"
            )


def read_rows(stored: StoredArray, num_rows: int) -> NDArray[Any]:
    """Reads the first rows of a part by h5py, in the dtype that it has in memory.

    Raises:
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    with open_file(stored.path, stored.identity) as file:
        values = Values(find_dataset(file, stored.name), num_rows, stored).read(slice(0, num_rows))
    return values.astype(stored.dtype, copy=False)


def read_values(video_set: VideoSet, name: str) -> NDArray[Any]:
    """All the values of a small dataset, of the samples in use: labels, or the ids of groups.

    Args:
        video_set: The set.
        name: Name of the dataset, which need not be one of the set's components. Strings are read
            as objects of bytes.

    Returns:
        The values, (samples, ...).

    Raises:
        FileFormatError: A file holds fewer values than samples.
        FileChangedError: A file is not the one whose layout was read.
        H5VideoError: The values cannot be read.
    """
    item = next((item for item in video_set.components if item.name == name), None)
    if item is not None:
        counts = item.index.num_rows.tolist()
        return np.concatenate([*map(read_rows, item.parts, counts)])
    values = []
    for path, identity, count in zip(
        video_set.paths, video_set.identities, video_set.counts.tolist(), strict=True
    ):
        with open_file(path, identity) as file:
            dataset = find_dataset(file, name)
            if not dataset.shape or dataset.shape[0] < count:
                raise FileFormatError(
                    f"{path}: {name!r} should hold a value for each of the {count} samples. "
                    f"Received: shape {dataset.shape}"
                )
            values.append(Values(dataset, count).read(slice(0, count)))
    try:
        return np.concatenate(values)
    except TypeError as error:
        raise FileFormatError(
            f"The values of {name!r} should be of one kind in all files. Received: "
            f"{', '.join(dict.fromkeys(str(item.dtype) for item in values))}"
        ) from error
