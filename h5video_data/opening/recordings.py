"""Opens a set of recordings, whose samples are windows of their rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.sampling.sample_index import Indices
from h5video_data.sampling.window_index import Recordings, WindowIndex
from h5video_data.sampling.windows import Windows
from h5video_data.storage.file_identity import absolute_path
from h5video_data.storage.paths import Paths, expand_paths, split_name
from h5video_data.storage.picture_rows import Decoding
from h5video_data.summary import counted
from h5video_data.video_set import Component, VideoSet, WindowedRows

from .components import numbered_component, stored_component
from .fitting import check_class_names, check_order
from .frame_checks import check_frames
from .items import Items, listed
from .recording_files import read_file
from .recording_index import RecordingFile
from .recording_values import (
    are_of_rows,
    index_of_values,
    inferred_classes,
    values_elsewhere,
    values_of_files,
)

_log = logging.getLogger(__name__)

INFERRED = "inferred"


def open_recordings(
    path: Paths,
    items: Items,
    windows: Windows,
    decoding: Decoding,
    *,
    budget_nbytes: int = 0,
    by_number: bool = False,
) -> VideoSet:
    """Opens files, finds their recordings and the windows of these, and closes them again.

    Args:
        path: A path, an iterable of paths, or a glob.
        items: Names of datasets, or arrays. The `*` in names stand for recordings.
        windows: Which rows are a sample.
        decoding: Which datasets are decoded as pictures, and how.
        budget_nbytes: Memory for the values of datasets of many small rows, beyond labels.
        by_number: Whether the caller names windows by their numbers.

    Raises:
        ArgumentError: The windows do not go with x and y.
        FileFormatError: The datasets do not fit together, or no recording has a window.
        H5VideoError: Any of the errors of `open_file`, `find_dataset` and `describe`.
    """
    leaves = _leaves(items, windows)
    windowed = {leaf.name for leaf in leaves if leaf.offsets is not None}
    # There is one: x of Windows is never empty, and has no keys but those of x.
    first = next(leaf.name for leaf in leaves if leaf.offsets is not None and leaf.item == "x")
    paths = tuple(map(absolute_path, expand_paths(path)))
    others = {
        leaf.name: found
        for leaf in leaves
        if leaf.offsets is None
        and leaf.name not in (*windowed, *items.arrays)
        and (found := values_elsewhere(paths, leaf.name, is_label=leaf.name in items.labels))
    }
    check_order(path, paths, is_needed=by_number or bool(items.arrays) or bool(others))
    read_names = [name for name in items.datasets if name not in (first, INFERRED, *others)]
    bounds = (None, windows.bounds) if isinstance(windows.bounds, str) else windows.bounds
    files: list[RecordingFile] = []
    named: dict[tuple[str, ...], str] = {}
    for file_path in paths:
        file = read_file(file_path, [first, *read_names], windowed, items.labels, bounds, decoding)
        check_class_names(file.class_names, file_path, named)
        files.append(file)
    label = items.single_label
    check_frames(files, first, None if label in windowed else label, windows)
    index = _index(files, first, windows)
    _report_skipped(files, first, index, windows)
    by_leaf: dict[tuple[str, bytes | None], int] = {}
    components: list[Component] = []
    class_names = next(iter(named), None)
    for leaf in leaves:
        if leaf.values in by_leaf:
            continue
        if leaf.name == INFERRED:
            values: NDArray[Any] | None = inferred_classes(path, files)
        elif leaf.name in items.arrays:
            values = items.arrays[leaf.name]
        elif leaf.name in others:
            values = others[leaf.name][0]
        else:
            values = values_of_files(files, leaf.name)
        if values is None:
            parts = [part for file in files for part in file.parts[leaf.name]]
            at = index.anchors.with_offsets(leaf.offsets)
            same = next((item for item in components if item.name == leaf.name), None)
            if same is not None:
                item = replace(same, index=at)  # by the same accesses: it is read once
            else:
                item = stored_component(leaf.name, parts, at, budget_nbytes=budget_nbytes)
                budget_nbytes -= item.budget_nbytes
        else:
            is_counted = leaf.name in items.arrays or leaf.name in others
            of_rows = None if is_counted else are_of_rows(files, leaf.name)
            at = index_of_values(leaf.name, values, first, index, of_rows)
            item = Component(leaf.name, (), at, values=values)
            if leaf.name in others:
                _, files_read, name_in_file = others[leaf.name]
                item = replace(item, files_read=files_read, name_in_file=name_in_file)
            item = numbered_component(item, class_names, is_strict=False)
            if leaf.name == items.single_label:
                class_names = item.class_names or class_names
        by_leaf[leaf.values] = len(components)
        components.append(item)
    element = _element(items, leaves, by_leaf)
    if windows.mask is not None:
        element = _with_mask(element, components, windows)
    parts_per_file = [len(file.edges) for file in files]
    runs = np.diff(index.anchors.run_stops, prepend=0)
    file_of_part = np.repeat(np.arange(len(files)), parts_per_file)
    counts = np.bincount(file_of_part[index.anchors.run_parts], runs, minlength=len(files))
    return VideoSet(
        paths=paths,
        identities=tuple(file.identity for file in files),
        counts=counts.astype(np.int64),
        components=tuple(components),
        element=element,
        class_names=class_names,
        windows=WindowedRows(index, first, bounds),
    )


def check_no_recordings(items: Items) -> None:
    """Raises an ArgumentError for names that stand for recordings, where there are no windows."""
    for tree in items.element:
        for name in listed(tree):
            # A `*` before a colon is one of paths.
            if "*" in name.rpartition(":")[2] or name == INFERRED or name[0] == "@":
                raise ArgumentError(
                    f"{name!r} is for recordings, whose rows are frames: pass `windows`, such as "
                    "windows=16 for samples of 16 frames that follow each other."
                )


class _Leaf(NamedTuple):
    """A place in an element, and which frames of a recording it has."""

    item: str
    """x, y or sample_weight."""
    key: Any
    """Its key, if that is a dict."""
    name: str
    """Name of the component."""
    offsets: Indices | None

    @property
    def values(self) -> tuple[str, bytes | None]:
        """The same for places that have the same values."""
        return self.name, None if self.offsets is None else self.offsets.tobytes()


def _leaves(items: Items, windows: Windows) -> list[_Leaf]:
    """Returns the places of an element, with the frames that `windows` says."""
    leaves = []
    for item, tree in zip(("x", "y", "sample_weight"), items.element, strict=False):
        given = {"x": windows.x, "y": windows.y}.get(item)
        keys = set(tree) if isinstance(tree, Mapping) else set()
        if isinstance(given, Mapping) and not set(given) <= keys:
            raise ArgumentError(
                f"The keys of `{item}` of Windows must be keys of `{item}`. Received: "
                f"{list(given)}, and {item}={tree!r}"
            )
        for key, name in tree.items() if isinstance(tree, Mapping) else [(None, tree)]:
            offsets = windows.offsets(item, key) if item != "sample_weight" else None
            if offsets is not None and (name in items.arrays or name[0] == "@" or name == INFERRED):
                raise ArgumentError(
                    f"{name} has no frames: it cannot be windowed. Received: {windows!r}"
                )
            if name not in items.arrays:
                _check_name(item, name, offsets)
            leaves.append(_Leaf(item, key, name, offsets))
    return leaves


def _check_name(item: str, name: str, offsets: Indices | None) -> None:
    """Raises an ArgumentError for a name that recordings cannot have."""
    if name == "@" or (name == INFERRED and item != "y"):
        raise ArgumentError(
            f'`{item}` must name a dataset, or an attribute such as "@label"; only y may be '
            f'"inferred". Received: {item}={name!r}'
        )
    if offsets is not None and split_name(name)[0] is not None:
        raise ArgumentError(
            "With `windows`, frames are those of the recordings' own files; values of recordings "
            f"or of rows may be of other ones. Received: {item}={name!r}, windowed"
        )


def _index(files: Sequence[RecordingFile], first: str, windows: Windows) -> WindowIndex:
    """Returns the index of the windows of all recordings."""
    edges = [part for file in files for part in file.edges]
    counts = [len(part) - 1 for part in edges]
    recordings = Recordings(
        parts=np.repeat(np.arange(len(edges)), counts),
        first_rows=np.concatenate([part[:-1] for part in edges]),
        lengths=np.concatenate([np.diff(part) for part in edges]),
    )
    num_rows = [part.shape[0] for file in files for part in file.parts[first]]
    index = windows.of_recordings(recordings, np.array(num_rows, np.int64))
    if not index.anchors.num_samples:
        longest = int(recordings.lengths.max(initial=0))
        lowest, highest = windows.reach
        raise FileFormatError(
            f"No recording in {', '.join(file.path for file in files[:3])} is as long as a window: "
            f"it takes {counted(highest - lowest + 1, 'row')}. Received: "
            f"{counted(len(recordings), 'recording')} of up to {counted(longest, 'row')} of "
            f"{first!r}"
        )
    return index


def _report_skipped(
    files: Sequence[RecordingFile], first: str, index: WindowIndex, windows: Windows
) -> None:
    skipped = index.skipped()
    if len(skipped):
        lowest, highest = windows.reach
        _log.warning(
            "%d of %s of %r %s shorter than a window (%s) and left out, such as number %d (%s) in "
            "%s.",
            len(skipped), counted(len(index.recordings), "recording"), first,
            "is" if len(skipped) == 1 else "are", counted(highest - lowest + 1, "row"),
            skipped[0], counted(int(index.recordings.lengths[skipped[0]]), "row"),
            [part for file in files for part in file.parts[first]][
                index.recordings.parts[skipped[0]]
            ].path,
        )  # fmt: skip


def _element(
    items: Items, leaves: Sequence[_Leaf], by_leaf: Mapping[tuple[str, bytes | None], int]
) -> tuple[Any, ...]:
    """Returns the structure of an element, with the numbers of components."""
    numbers = {(leaf.item, leaf.key): by_leaf[leaf.values] for leaf in leaves}
    return tuple(
        {key: numbers[item, key] for key in tree}
        if isinstance(tree, Mapping)
        else numbers[item, None]
        for item, tree in zip(("x", "y", "sample_weight"), items.element, strict=False)
    )


def _with_mask(
    element: tuple[Any, ...], components: list[Component], windows: Windows
) -> tuple[Any, ...]:
    """Adds the component that tells which frames are padded, to x and to `components`."""
    x, *others = element
    if not isinstance(x, dict) or windows.mask in x:
        raise ArgumentError(
            "`mask` is a key in x beside others: x must be a dict without it. Received: "
            f"mask={windows.mask!r}, x with the keys {list(x) if isinstance(x, dict) else None}"
        )
    side = others[0] if others and windows.y is not None else x
    numbers = side.values() if isinstance(side, dict) else [side]
    padded = [components[n].index for n in numbers if components[n].index.offsets is not None]
    if len({index.offsets.tobytes() for index in padded if index.offsets is not None}) != 1:
        raise ArgumentError(
            "`mask` tells which frames are padded: all windows of "
            f"{'y' if side is not x else 'x'} must have the same frames. Received: {windows!r}"
        )
    components.append(Component(str(windows.mask), (), padded[0], is_mask=True))
    return ({**x, windows.mask: len(components) - 1}, *others)
