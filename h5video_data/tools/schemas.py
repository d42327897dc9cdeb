"""How to open a file whose rows are frames, by the names, shapes and dtypes of its datasets."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileFormatError, H5VideoError
from h5video_data.sampling.bounds import BoundsKind, read_bounds

from .openings import Opening

# Bounded work, however large the file is.
_MAX_DATASETS = 20_000
_MAX_RECORDINGS = 64  # that are compared with each other
_MAX_BOUNDS = 8  # datasets that are read
_MAX_BOUNDS_NBYTES = 4 * 2**20

_FRAMES = 16  # of the windows in the call
_CHANNELS = (1, 3, 4)
_MIN_SIDE = 5  # rows and columns of a frame


def _word_set(text: str) -> frozenset[str]:
    """The words of a text, and their regular plurals."""
    return frozenset(form for word in text.split() for form in (word, f"{word}s"))


# Words in names. They choose among datasets whose shapes are right.
_PICTURES = _word_set("pixel image img rgb frame video color top high agentview")
_LESS = _word_set("next test val valid validation mask depth seg segmentation wrist hand flow")
_ACTIONS = _word_set("action act control")
_LABELS = _word_set("y label target class classes category categories")
_OF_LABELS = _word_set("id idx index one hot onehot train training val valid validation test")
_SPLITS = _word_set(
    "train training val valid validation test eval fold split part shard batch chunk"
)
_CAMERAS = _word_set("cam camera view")
_EPISODES = _word_set(
    "ep episode video vid recording traj trajectory trajectories clip seq sequence demo session "
    "trial movie scene"
)
_KINDS: dict[BoundsKind, frozenset[str]] = {  # the likeliest first
    "starts": _word_set("offset start begin first idx index indices ptr bound boundaries"),
    "lengths": _word_set("len length num count size"),
    "ends": _word_set("end stop"),
    "ids": _word_set("id"),
}


class Rows(NamedTuple):
    """A dataset, as far as this module needs to know it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name, or `string`."""
    nbytes: int
    is_readable: bool
    """Whether it can be read into a tensor."""


class _Recordings(NamedTuple):
    """How the rows of a file are to be read."""

    x: str
    y: str | None
    num_rows: float
    """Of a typical recording."""
    bounds: tuple[BoundsKind | None, str] | None = None
    """Its kind, if that must be said, and its name."""


def recordings_opening(
    datasets: Sequence[Rows], read: Callable[[str], NDArray[Any]]
) -> Opening | None:
    """Finds out how to open a file of recordings; None if its rows are no frames.

    Frames are told by shape and dtype, never by their values: (rows, columns), with channels last
    or first. The recordings are groups that are alike; or they follow each other, with a dataset of
    bounds; or the file is one.

    Args:
        datasets: The datasets of the file.
        read: Returns all values of the dataset with this name; may raise an H5VideoError.
    """
    datasets = _plainly_named(datasets)
    frames = sorted(filter(_is_frames, datasets), key=_preference)
    found = (
        _in_groups(frames, datasets)
        or _end_to_end(frames, datasets, read)
        or _one_recording(frames, datasets)
    )
    if found is None:
        return None
    num_frames = max(1, min(_FRAMES, int(found.num_rows)))
    return Opening(found.x, found.y, num_frames, found.bounds)


def samples_opening(datasets: Sequence[Rows]) -> Opening | None:
    """Finds out how to open a file whose rows are samples: `X`, or the first of clips or images."""
    found = [item for item in _plainly_named(datasets) if item.is_readable]
    videos = [item for item in found if item.name == "X" and item.dtype != "string"]
    videos += sorted((i for i in found if len(i.shape) in (5, 6)), key=_preference)
    videos += sorted((i for i in found if _is_frames(i)), key=_preference)
    if not videos:
        return None
    x = videos[0]
    if any(item.name == "Y" and item.shape[:1] == x.shape[:1] for item in found):
        return Opening(x.name, "Y", None)
    labels = [item.name for item in found if _is_label(item, x.shape[0])]
    group = x.name.rpartition("/")[0]
    beside = [name for name in labels if name.rpartition("/")[0] == group]
    return Opening(x.name, _named(_LABELS, beside or labels), None)


def _plainly_named(datasets: Sequence[Rows]) -> list[Rows]:
    # A `*` in an argument is a pattern, and "@" an attribute.
    return [item for item in datasets[:_MAX_DATASETS] if not re.search(r"[*@]", item.name)]


def _is_frames(item: Rows) -> bool:
    """Whether each row may be a frame."""
    if not item.is_readable or not re.match("u?int(8|16)$|float", item.dtype):
        return False
    if len(item.shape) == 3:  # (3, rows, columns) and (rows, columns, 3) are one picture
        return min(item.shape) >= _MIN_SIDE
    return len(item.shape) == 4 and item.shape[0] > 1 and min(_frame_size(item)) >= _MIN_SIDE


def _frame_size(item: Rows) -> tuple[int, int]:
    """Returns rows and columns of the frames, (0, 0) if they have too many channels."""
    if len(item.shape) == 3:
        return item.shape[1], item.shape[2]
    _, first, middle, last = item.shape
    if last in _CHANNELS:
        return first, middle
    return (middle, last) if first in _CHANNELS else (0, 0)


def _preference(item: Rows) -> tuple[Any, ...]:
    """Sorts datasets of frames: the picture from the front before masks, depth, and test data."""
    words = _words(item.name)
    return (
        len(words & _LESS),
        item.dtype != "uint8",
        not _words(_last(item.name)) & _PICTURES,
        -len(words & _PICTURES),
        -math.prod(item.shape[1:]),
        _natural(item.name),
    )


# --------------------------------------------------------------------------- the three forms


def _in_groups(frames: Sequence[Rows], datasets: Sequence[Rows]) -> _Recordings | None:
    """Finds groups that are a recording each: `data/*/obs/image`."""
    families: dict[tuple[Any, ...], list[Rows]] = {}
    for item in frames:
        parts = item.name.split("/")
        for i, part in enumerate(parts):
            if not _words(part) & (_SPLITS | _CAMERAS):
                pattern = "/".join([*parts[:i], "*", *parts[i + 1 :]])
                families.setdefault((pattern, item.shape[1:], item.dtype), []).append(item)
    found = [(key[0], items) for key, items in families.items() if _are_recordings(key[0], items)]
    if not found:
        return None
    x, members = max(found, key=lambda pair: len(pair[1]))  # the first one of the longest
    x, members = _with_second_star(x, members, frames)
    members = sorted(members, key=lambda item: _natural(item.name))[:_MAX_RECORDINGS]
    depth = len(x[: x.rindex("*")].split("/"))
    groups = ["/".join(item.name.split("/")[:depth]) for item in members]
    by_name = {item.name: item for item in datasets}

    def is_in_all(name: str) -> bool:
        others = [by_name.get(f"{group}/{name}") for group in groups]
        return all(map(_is_beside, others, members))

    first = f"{groups[0]}/"
    inside = [item.name[len(first) :] for item in datasets if item.name.startswith(first)]
    action = _named(_ACTIONS, filter(is_in_all, inside))
    return _Recordings(
        x=x,
        y=None if action is None else f"{x[: x.rindex('*')]}*/{action}",
        num_rows=_median([item.shape[0] for item in members]),
    )


def _are_recordings(pattern: str, members: Sequence[Rows]) -> bool:
    """Whether what `*` stands for may be recordings, and not sets, cameras or other components."""
    parts = pattern.split("/")
    place = parts.index("*")
    differ = len({item.shape[0] for item in members}) > 1
    names = {re.sub(r"\d+", "0", item.name.split("/")[place]) for item in members}
    if len(members) > 1 and len(names) == 1:  # alike but for their numbers
        return differ or parts[-1] != "*"
    return differ and len(members) > 2 and parts[-1] != "*"


def _with_second_star(
    x: str, members: list[Rows], frames: Sequence[Rows]
) -> tuple[str, list[Rows]]:
    """Has a `*` for a group above the recordings too, if that has others like it."""
    parts = x.split("/")
    for i in range(parts.index("*")):
        wider = [*parts[:i], "*", *parts[i + 1 :]]
        form = re.compile("/".join("([^/]+)" if part == "*" else re.escape(part) for part in wider))
        kind = members[0].shape[1:], members[0].dtype
        more = [
            item
            for item in frames
            if (item.shape[1:], item.dtype) == kind
            and (match := form.fullmatch(item.name))
            and not _words(match[1]) & (_SPLITS | _CAMERAS)
        ]
        if len(more) > len(members):
            return "/".join(wider), more
    return x, members


def _end_to_end(
    frames: Sequence[Rows], datasets: Sequence[Rows], read: Callable[[str], NDArray[Any]]
) -> _Recordings | None:
    """Finds recordings that follow each other in a dataset, and the dataset of their bounds."""
    pairs = [
        (item, bounds)
        for item in frames[:_MAX_BOUNDS]
        for bounds in _bounds_candidates(item, datasets)
    ]
    found = []
    for item, candidate in pairs[:_MAX_BOUNDS]:
        with contextlib.suppress(H5VideoError):
            found.append((item, _fitting(candidate, item.shape[0], read)))
    fits = [(item, *fitting) for item, fitting in found if fitting is not None]
    # Recordings without frames are possible; [0, 0], the first frame of each video, is likelier no
    # bounds.
    fits.sort(key=lambda fit: (frames.index(fit[0]), not np.diff(fit[1]).all()))
    for item, edges, bounds in fits[:1]:
        lengths = (item.shape[0], len(edges) - 1)
        labels = [other.name for other in datasets if any(_is_label(other, n) for n in lengths)]
        actions = [other.name for other in datasets if _is_beside(other, item)]
        return _Recordings(
            x=item.name,
            y=_named(_ACTIONS, actions) or _named(_LABELS, labels),
            num_rows=_median(np.diff(edges)),
            bounds=bounds,
        )
    return None


def _bounds_candidates(frames: Rows, datasets: Sequence[Rows]) -> list[Rows]:
    """The datasets that may divide rows into recordings by their names, the likeliest first."""
    num_rows, group = frames.shape[0], frames.name.rpartition("/")[0]
    of_kinds = frozenset().union(*_KINDS.values())

    def may_be(item: Rows) -> bool:
        words = _words(_last(item.name))
        if not item.shape or len(item.shape) > 2 or item.shape[1:] not in ((), (1,)):
            return False
        if not 2 <= item.shape[0] <= num_rows or item.nbytes > _MAX_BOUNDS_NBYTES:
            return False
        if item.shape[0] == num_rows:  # of each row: an id, if anything
            is_id = item.dtype == "string" or re.match("u?int", item.dtype)
            return bool(is_id and words & _EPISODES)
        return item.is_readable and bool(words & (of_kinds | _EPISODES)) and not words & _LABELS

    def likelihood(item: Rows) -> tuple[Any, ...]:
        words = _words(_last(item.name))
        return (
            item.name.rpartition("/")[0] != group,
            -len(words & _words(frames.name)),
            item.shape[0] == num_rows,
            *(not words & kind for kind in _KINDS.values()),
            item.name,
        )

    return sorted(filter(may_be, datasets), key=likelihood)


def _fitting(
    candidate: Rows, num_rows: int, read: Callable[[str], NDArray[Any]]
) -> tuple[NDArray[np.int64], tuple[BoundsKind | None, str]] | None:
    """Returns bounds of two recordings or more, and how the call is to name them."""
    values, words = read(candidate.name), _words(_last(candidate.name))
    said = [kind for kind, kind_words in _KINDS.items() if words & kind_words]
    for kind in (None, *said):
        try:
            edges = read_bounds(values, num_rows, candidate.name, kind)
        except FileFormatError:
            continue
        # Where every row begins a recording, the values are numbers of something else.
        if len(edges) < 3 or _median(np.diff(edges)) < 2:
            return None
        return edges, (kind, candidate.name)
    return None


def _one_recording(frames: Sequence[Rows], datasets: Sequence[Rows]) -> _Recordings | None:
    """Takes a file as one recording, unless its rows are samples."""
    if not frames:
        return None
    item = frames[0]
    size, num_rows = _frame_size(item), item.shape[0]
    are_samples = (
        item.name == "X"
        or bool(_words(item.name) & _SPLITS)
        or any(_is_label(other, num_rows) for other in datasets)
        or any(  # clips
            len(other.shape) == 5
            and other.shape[0] == num_rows
            and size in (other.shape[2:4], other.shape[3:])
            for other in datasets
        )
    )
    if are_samples:
        return None
    beside = [other.name for other in datasets if _is_beside(other, item)]
    return _Recordings(x=item.name, y=_named(_ACTIONS, beside), num_rows=num_rows)


# --------------------------------------------------------------------------- names


def _is_beside(item: Rows | None, frames: Rows) -> bool:
    """Whether a dataset has a value for each of the frames."""
    if item is None or not item.is_readable or item.name == frames.name:
        return False
    return item.shape[:1] == frames.shape[:1]


def _is_label(item: Rows, num_samples: int) -> bool:
    """Whether a dataset has a class, or a one-hot vector, for each of so many samples."""
    if item.shape[:1] != (num_samples,) or len(item.shape) > 2 or not item.is_readable:
        return False
    words = _words(_last(item.name))
    return bool(words & _LABELS) and words <= _LABELS | _OF_LABELS


def _named(words: frozenset[str], names: Iterable[str]) -> str | None:
    """Returns the plainest name that has one of the words."""
    found = [name for name in names if _words(_last(name)) & words]
    return min(found, key=lambda name: (len(name), name), default=None)


def _words(name: str) -> frozenset[str]:
    """Returns the words of a name, in lower case."""
    return frozenset(word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name))


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _natural(name: str) -> list[Any]:
    """Sorts names by the numbers in them: demo_2 before demo_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _median(values: Any) -> float:
    return float(np.median(values))
