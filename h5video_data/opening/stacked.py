"""Opens files of stacked samples, checks that their datasets fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.sampling.clipped_datasets import clips_of_datasets
from h5video_data.sampling.clips import Clip
from h5video_data.sampling.sample_index import SampleIndex
from h5video_data.set_values import read_clip_lengths
from h5video_data.storage.file_identity import absolute_path
from h5video_data.storage.paths import Paths, expand_paths
from h5video_data.storage.picture_rows import Decoding, StoredPictures
from h5video_data.storage.strings import StoredStrings
from h5video_data.storage.system import memory_nbytes
from h5video_data.video_set import Component, VideoSet

from .components import numbered_component, stored_component, strings_component
from .file_groups import open_groups
from .fitting import Stored, check_order
from .items import Items, check_length, listed

# What the numbers of a sample take in its index and in planning an epoch, at the least.
NUMBERS_BYTES = 48


def open_stacked(
    path: Paths,
    items: Items,
    clip: Clip | None,
    decoding: Decoding,
    *,
    budget_nbytes: int,
    by_number: bool,
) -> VideoSet:
    """Opens files of stacked samples: each row is one. The arguments are those of `open_video_set`.

    Raises:
        ArgumentError: The clip does not fit into the samples, or an array not to their number.
        FileFormatError: The datasets do not fit together.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    paths = tuple(map(absolute_path, expand_paths(path)))
    groups = open_groups(paths, items, decoding)
    check_order(path, paths, is_needed=by_number or bool(items.arrays) or len(groups) > 1)
    first = next(iter(groups.values()))
    for opened in groups.values():
        opened.fit_to(first)
    num_samples = sum(first.counts)
    group_of = {name: opened for opened in groups.values() for name in opened.names}
    samples = {name: group_of[name].parts(name)[0] for name in items.datasets}
    # A picture has no frames: its first axis is not one of them.
    pictures = {name for name, item in samples.items() if isinstance(item, StoredPictures)}
    shapes = {name: item.shape[1:] for name, item in {**samples, **items.arrays}.items()}
    shapes.update(dict.fromkeys(pictures, ()))
    x_names, *others = map(listed, items.element)
    if clip is not None and pictures.issuperset(x_names):
        raise ArgumentError(
            "`clip` takes frames of each sample, and a row of x is one encoded picture. If the "
            f"rows are frames of recordings, pass `windows`. Received: clip={clip!r}"
        )
    clips = clips_of_datasets(clip, shapes, x_names, [name for names in others for name in names])
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
            item = Component(name, (), indices[counts], clips.get(name), values=array)
            item = numbered_component(item, class_names, is_strict=False)
        elif group is not None and is_in_memory:
            parts, in_file = group.parts(name), group.names[name]
            item = strings_component(name, parts, group.counts, indices[counts], in_file)
            item = replace(item, clip=clips.get(name))
            item = numbered_component(item, class_names, is_strict=name == label)
        elif group is not None:
            item = stored_component(
                name,
                group.parts(name),
                indices[counts],
                clips.get(name),
                budget_nbytes=budget_nbytes,
                name_in_file=group.names[name],
            )
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
    if clip is None:
        return video_set
    return replace(video_set, clip_lengths=read_clip_lengths(video_set, clip))


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
