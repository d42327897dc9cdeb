"""Opens the files of a set, checks that their datasets fit together, decides how to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .errors import ArgumentError, FileFormatError, MissingFilterError
from .file_groups import FileGroup, open_groups
from .fitting import Stored, check_alike
from .items import Labels, check_items, check_length, class_numbers, listed
from .items import Names as Names
from .planning.access import Access, decide_access
from .sampling.clipped_datasets import clips_of_datasets
from .sampling.clips import Clip
from .sampling.sample_index import SampleIndex
from .storage.file_identity import absolute_path
from .storage.hdf5_files import open_file
from .storage.hdf5_names import find_dataset
from .storage.layout import StoredArray
from .storage.paths import Paths as Paths
from .storage.paths import expand_paths, has_order
from .storage.strings import StoredStrings, read_strings
from .storage.system import memory_nbytes
from .storage.values import Values
from .video_set import Component, VideoSet, read_clip_lengths

# What the numbers of a sample take in its index and in planning an epoch, at the least.
NUMBERS_BYTES = 48


def open_video_set(
    path: Paths,
    x: Names = "X",
    y: Labels | None = "Y",
    sample_weight: Labels | None = None,
    clip: Clip | None = None,
    *,
    budget_nbytes: int = 0,
    by_number: bool = False,
) -> VideoSet:
    """Opens files, checks that their datasets fit together, and closes them again.

    Args:
        path: A path, an iterable of paths, or a glob.
        x: Name of the dataset of samples, or a dict of names.
        y: Name of the dataset of labels, an array, or a dict of these; None: no labels.
        sample_weight: Name of the dataset of weights, or an array; None: no weights.
        clip: Which frames of the samples of x to read; None: all of them.
        budget_nbytes: Memory for the values of datasets of many small samples, beyond labels.
        by_number: Whether the caller names samples by their numbers.

    Raises:
        ArgumentError: The clip does not fit into the samples, or an array not to their number.
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    items = check_items(x, y, sample_weight)
    paths = tuple(map(absolute_path, expand_paths(path)))
    groups = open_groups(paths, items)
    by_number = by_number or bool(items.arrays) or len(groups) > 1
    if by_number and len(paths) > 1 and not has_order(path):
        raise ArgumentError(
            f"`path` is {path!r}, which has no order: its {len(paths)} paths are sorted. Arrays, "
            "numbers of samples and datasets of other files go by the order of the paths: pass a "
            "list, such as sorted(path), so that it is known."
        )
    first = next(iter(groups.values()))
    for opened in groups.values():
        opened.fit_to(first)
    num_samples = sum(first.counts)
    group_of = {name: opened for opened in groups.values() for name in opened.names}
    samples = {name: group_of[name].parts(name)[0] for name in items.datasets}
    shapes = {name: part.shape[1:] for name, part in samples.items()}
    x_names, *others = map(listed, items.element)
    stored_others = [name for names in others for name in names if name in shapes]
    clips = clips_of_datasets(clip, shapes, x_names, stored_others)
    _check_memory(first.paths, num_samples, samples, clips)
    if not num_samples:
        is_empty = not any(part.shape[0] for part in first.parts(items.datasets[0]))
        reason = "the datasets have no rows" if is_empty else "`sample_count` is 0"
        raise FileFormatError(f"There is no sample in {', '.join(first.paths)}: {reason}.")
    label = items.single_label
    class_names = group_of.get(label or "", groups[paths]).class_names
    indices: dict[tuple[int, ...], SampleIndex] = {}
    components: list[Component] = []
    for name in items.names:
        group, array = group_of.get(name), items.arrays.get(name)
        is_in_memory = array is not None or isinstance(samples[name], StoredStrings)
        counts = (num_samples,) if group is None or is_in_memory else tuple(group.counts)
        if counts not in indices:
            indices[counts] = SampleIndex.stacked(np.array(counts, np.int64))
        if array is not None:
            check_length(name, array, num_samples)
            item = Component(name, (), indices[counts], values=array)
            item = _numbered(item, class_names, is_strict=False)
        elif group is not None and is_in_memory:
            item = _strings(name, group, indices[counts])
            item = _numbered(item, class_names, is_strict=name == label)
        elif group is not None:
            item = _component(name, group, indices[counts], clips.get(name), budget_nbytes)
        budget_nbytes -= item.budget_nbytes
        components.append(item)
    numbered = {item.name: number for number, item in enumerate(components)}
    if label is not None:
        class_names = components[numbered[label]].class_names or class_names
    video_set = VideoSet(
        paths=paths,
        identities=tuple(file.identity for file in groups[paths].files),
        counts=np.array(groups[paths].counts, np.int64),
        components=tuple(components),
        element=tuple(
            numbered[names]
            if isinstance(names, str)
            else {key: numbered[name] for key, name in names.items()}
            for names in items.element
        ),
        class_names=class_names,
    )
    return (
        video_set
        if clip is None
        else replace(video_set, clip_lengths=read_clip_lengths(video_set, clip))
    )


def _strings(name: str, group: FileGroup, index: SampleIndex) -> Component:
    """Reads the strings of a component."""
    parts = group.parts(name)
    check_alike(name, parts)
    read = [
        read_strings(part, num_rows)
        for part, num_rows in zip(parts, group.counts, strict=True)
        if isinstance(part, StoredStrings)
    ]
    return Component(
        name,
        (),
        index,
        values=np.concatenate([strings for strings, _ in read]),
        name_in_file=group.names[name],
        files_read=tuple(file for _, files in read for file in files),
    )


def _numbered(
    item: Component, class_names: tuple[str, ...] | None, *, is_strict: bool
) -> Component:
    """Returns a component with class numbers in place of strings."""
    if item.values is None or item.values.dtype != object:
        return item
    values, names = class_numbers(item.values, class_names, item.name, is_strict=is_strict)
    return replace(item, values=values, class_names=names)


def _component(
    name: str,
    group: FileGroup,
    index: SampleIndex,
    clip: Clip | None,
    budget_nbytes: int,
) -> Component:
    """Decides how a component is read, and makes sure that HDF5 can read what it has to.

    Args:
        name: Name of the dataset.
        group: Its files.
        index: Where its samples are.
        clip: Which frames of each row are read.
        budget_nbytes: Memory for its values, if it has many small samples.
    """
    stored = group.parts(name)
    check_alike(name, stored)
    parts = [part for part in stored if isinstance(part, StoredArray)]
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
    return Component(name, accesses, index, clip, name_in_file=group.names[name])


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
    stored: Mapping[str, Stored],
    clips: Mapping[str, Clip],
) -> None:
    """Raises a FileFormatError for shapes that nobody can mean, such as those of damaged files."""
    memory = memory_nbytes()
    if num_samples * NUMBERS_BYTES > memory:
        raise FileFormatError(
            f"There are {num_samples} samples in {', '.join(paths)}: the memory of this machine, "
            f"{memory} bytes, does not hold their numbers. If that is not meant, the file is "
            "damaged; the attribute `sample_count` says how many are in use."
        )
    for name, part in stored.items():
        clip, shape = clips.get(name), part.shape[1:]
        nbytes = math.prod(clip.shape_of(shape) if clip else shape) * part.itemsize
        if nbytes > memory:
            raise FileFormatError(
                f"{part.path}: a sample of {name!r} takes {nbytes} bytes, more than the memory of "
                f"this machine, {memory} bytes. Received: shape {part.shape}. If that is not "
                "meant, the file is damaged."
            )
