"""What one file holds of recordings, and how an index keeps that for files on the disk.

A file is opened in a second or so, but one of 100,000 recordings takes HDF5 ten times as long. The
next time, what was found in it comes from the index, if the file is still the same.

Easy to miss: an index must not outlive what is in it. Files whose values, or whose links, are in
other files are not saved: the time of change of one file says nothing about another.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, FileFormatError
from h5video_data.storage.external import noting_others
from h5video_data.storage.file_identity import FileIdentity, ObjectPath, identity_of
from h5video_data.storage.layout import SUPPORTED_DTYPES, Filter, StoredArray
from h5video_data.storage.name_patterns import Match
from h5video_data.storage.remote.index import Index, Note, Recording

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class RecordingFile:
    """The recordings of one file."""

    path: str
    identity: FileIdentity
    matches: list[Match] = field(default_factory=list)
    """For each part, what the `*` of its name stand for; one part without any."""
    parts: dict[str, list[StoredArray]] = field(default_factory=dict)
    """By name, how the datasets are stored that have the rows of the recordings."""
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    """By name, values (recordings, ...); strings as `str` objects."""
    row_values: set[str] = field(default_factory=set)
    """Names of `values` that are (rows, ...) instead: strings."""
    edges: list[NDArray[np.int64]] = field(default_factory=list)
    """For each part, where its recordings begin, and the end of the last one."""
    class_names: tuple[str, ...] | None = None

    @property
    def num_recordings(self) -> int:
        """Recordings of the file."""
        return sum(len(edges) - 1 for edges in self.edges)


_Use = tuple[Index | None, Recording | None]
_index: ContextVar[_Use] = ContextVar("index", default=(None, None))


@contextlib.contextmanager
def using_index(index: Index | None, recording: Recording | None) -> Iterator[None]:
    """Returns a context in which files of recordings come from an index, or are collected for one.

    Args:
        index: What was saved; None: nothing.
        recording: Takes what is found; None: it is not collected.
    """
    token = _index.set((index, recording))
    try:
        yield
    finally:
        _index.reset(token)


def saved_file(path: str, what: list[Any]) -> RecordingFile | None:
    """Returns what the index has of a file; None: it must be opened.

    Args:
        path: Absolute path of the file.
        what: What is looked for in it: JSON.

    Raises:
        FileChangedError: The file was changed after the index was made.
        FileFormatError: The index is damaged.
        H5VideoError: The file is gone, or cannot be looked at.
    """
    index, _ = _index.get()
    if index is None or path not in index.notes:
        return None
    identity = identity_of(path)
    wanted = json.loads(json.dumps(what))
    for note in index.notes[path]:
        try:
            saved = FileIdentity(*note.text["identity"])
            if saved != identity or note.text["changed_ns"] != _changed_ns(path):
                raise FileChangedError(
                    f"{path} was changed, moved or replaced after {index.path} was made: "
                    f"{saved.changes(identity) or 'the time of its last change is another one'}. "
                    f"Make the index again: {index.again}"
                )
            if note.text["what"] == wanted:
                return _decoded(path, identity, note)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"{index.path} is damaged: what it has of {path} cannot be ({error}). Make it "
                f"again: {index.again}"
            ) from error
    _log.warning(
        "%s is of other datasets of %s, or other windows: the file is opened without it.",
        index.path, path,
    )  # fmt: skip
    return None


@contextlib.contextmanager
def saving(path: str, what: list[Any]) -> Iterator[Callable[[RecordingFile], None]]:
    """Returns a context in which to read a file, and a function that takes what was found in it.

    The arguments are those of `saved_file`.
    """
    _, recording = _index.get()
    if recording is None or isinstance(path, ObjectPath):
        yield lambda _file: None
        return
    changed_ns = _changed_ns(path)
    with noting_others() as others:

        def save(file: RecordingFile) -> None:
            note = None if others else _encoded(file, what, changed_ns)
            if note is not None:
                recording.notes.append(note)

        yield save


def _changed_ns(path: str) -> int:
    """Returns when anything of a file was changed last, which no program can set; 0: not known.

    For files that are open, `FileIdentity` does without: `chmod` and backups set it, too.
    """
    with contextlib.suppress(OSError):
        return os.stat(path).st_ctime_ns
    return 0


# What datasets have in common; a file has few different ones.
_COMMON = ("shape", "dtype", "file_dtype", "storage", "chunk_shape", "filters", "fill_value")
_TABLES = ("offsets", "sizes", "masks")


def _encoded(file: RecordingFile, what: list[Any], changed_ns: int) -> Note | None:
    """Returns a file as a note; None: it holds something that is not saved."""
    every = [part for parts in file.parts.values() for part in parts]
    for part in every:
        if type(part) is not StoredArray or part.path != file.path or part.sources.files:
            return None
    text: dict[str, Any] = {
        "what": what,
        "identity": [getattr(file.identity, item.name) for item in fields(FileIdentity)],
        "changed_ns": changed_ns,
        "matches": file.matches,
        "class_names": file.class_names,
        "row_values": sorted(file.row_values),
        "parts": {name: [part.name for part in parts] for name, parts in file.parts.items()},
        "values": {},
    }
    arrays = []
    numbers: dict[str, int] = {}
    kinds = []
    for part in every:
        common = [_text_of(part, name) for name in (*_COMMON, "obstacle")]
        kinds.append(numbers.setdefault(json.dumps(common), len(numbers)))
    text["kinds"] = [json.loads(kind) for kind in numbers]
    arrays.append(np.array(kinds, np.int64))
    arrays.append(np.array([len(part.offsets) for part in every], np.int64))
    arrays += [np.concatenate([getattr(part, name) for part in every]) for name in _TABLES]
    arrays.append(np.array([len(edges) for edges in file.edges], np.int64))
    arrays.append(np.concatenate(file.edges))
    for name, values in file.values.items():
        is_text = values.dtype == object
        text["values"][name] = [list(values.shape), values.ravel().tolist() if is_text else None]
        if not is_text:
            arrays.append(np.ascontiguousarray(values).reshape(-1))
    return Note(file.path, text, tuple(arrays))


def _text_of(part: StoredArray, name: str) -> Any:
    value = getattr(part, name)
    if isinstance(value, np.dtype):
        return value.str
    if name == "filters":
        return [[item.id, item.name, item.params] for item in value]
    if name == "fill_value" and value is not None:
        return np.asarray(value).tobytes().hex()
    return value


def _decoded(path: str, identity: FileIdentity, note: Note) -> RecordingFile:
    """Returns the file of a note, or raises an error if it cannot be one."""
    text, (kinds, counts, *tables, lengths, edges) = note.text, note.arrays[:7]
    commons = [_common_of(kind) for kind in text["kinds"]]
    stops = np.cumsum(counts)
    if len(stops) and {len(table) for table in tables} != {int(stops[-1])}:
        raise ValueError("its tables have other lengths")
    _check_tables(commons, kinds, counts, tables[0], tables[1], identity.num_bytes)
    names = [name for found in text["parts"].values() for name in found]
    begins = (stops - counts).tolist()
    every = [
        StoredArray(
            path=path,
            identity=identity,
            name=name,
            **commons[kind],
            offsets=tables[0][begin:stop],
            sizes=tables[1][begin:stop],
            masks=tables[2][begin:stop],
        )
        for name, kind, begin, stop in zip(
            names, kinds.tolist(), begins, stops.tolist(), strict=True
        )
    ]
    left = iter(every)
    file = RecordingFile(path, identity)
    file.matches = [tuple(match) for match in text["matches"]]
    file.parts = {name: [next(left) for _ in found] for name, found in text["parts"].items()}
    ends = np.cumsum(lengths)
    spans = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    file.edges = [edges[begin:end] for begin, end in spans]
    file.row_values = set(text["row_values"])
    file.class_names = None if text["class_names"] is None else tuple(text["class_names"])
    numbers = iter(note.arrays[7:])
    for name, (shape, strings) in text["values"].items():
        values = next(numbers) if strings is None else np.array([*strings, None], object)[:-1]
        file.values[name] = values.reshape(shape)
    return file


def _common_of(kind: list[Any]) -> dict[str, Any]:
    shape, dtype, file_dtype, storage, chunk_shape, filters, fill_value, obstacle = kind
    found = np.dtype(dtype)
    if found.name not in SUPPORTED_DTYPES:
        raise ValueError(f"the dtype {dtype}")
    return {
        "shape": tuple(shape),
        "dtype": found,
        "file_dtype": np.dtype(file_dtype),
        "storage": storage,
        "chunk_shape": None if chunk_shape is None else tuple(chunk_shape),
        "filters": tuple(Filter(int(n), name, tuple(params)) for n, name, params in filters),
        "fill_value": None
        if fill_value is None
        else np.frombuffer(bytes.fromhex(fill_value), found)[0],
        "obstacle": obstacle,
    }


def _check_tables(
    commons: list[dict[str, Any]],
    kinds: NDArray[np.int64],
    counts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    num_bytes: int,
) -> None:
    """Raises a ValueError if tables of chunks do not fit into the file, or to their datasets."""
    is_odd = (sizes < 0).any() or (offsets < -1).any() or (offsets > num_bytes).any()
    if is_odd or (counts < 0).any():
        raise ValueError("its chunks are not in the file")
    expected, exact, is_left_to_hdf5 = [], [], []
    for common in commons:
        itemsize = common["file_dtype"].itemsize
        chunks, num_chunks = common["chunk_shape"], 1
        if chunks is not None:
            axes = zip(common["shape"], chunks, strict=True)
            num_chunks = math.prod(-(-length // chunk) for length, chunk in axes)
        expected.append(num_chunks)
        is_left_to_hdf5.append(common["obstacle"] is not None)
        is_exact = not common["filters"]
        exact.append(math.prod(chunks or common["shape"]) * itemsize if is_exact else 0)
    is_listed = (counts > 0) | ~np.array(is_left_to_hdf5, np.bool_)[kinds]
    if (counts != np.array(expected, np.int64)[kinds])[is_listed].any():
        raise ValueError("a dataset has another number of chunks")
    needed = np.repeat(np.array(exact, np.int64)[kinds], counts)
    if ((sizes < needed) & (offsets >= 0)).any():
        raise ValueError("some chunks are too short")
