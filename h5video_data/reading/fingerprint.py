"""Saved states, with fingerprints of the data, the split and the order that they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import FileChangedError, ReadError, StateError
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.hdf5_names import find_again
from h5video_data.storage.picture_rows import StoredPictures, read_row
from h5video_data.storage.values import Values
from h5video_data.video_set import Component, VideoSet

# Of what `state_dict` returns.
STATE_VERSION = 1

# How many samples' first bytes of each dataset count: enough to tell sets of equal shapes apart.
SAMPLES_LOOKED_AT = 8

# What a difference in each part of a fingerprint means.
_MEANINGS = {
    "datasets": "the datasets' names, shapes or dtypes",
    "num_samples": "the number of samples",
    "contents": "the samples themselves",
    "split": "which samples are used (indices, validation_split, subset, split_by, stratify_by, "
    "seed)",
    "order": "the order of the epoch (shuffle, seed)",
    "clip": "the clip",
}


class SavedState(NamedTuple):
    """What a state holds."""

    epoch: int
    samples: int
    """Samples of the epoch that were used."""
    seed: int
    fingerprint: dict[str, Any]


def make_state(state: SavedState) -> dict[str, Any]:
    """Returns a state as a dict that JSON can hold."""
    return {"version": STATE_VERSION, **state._asdict()}


def read_state(state: Mapping[str, Any]) -> SavedState:
    """Returns what a state holds, checked as far as it can be without the loader.

    Raises:
        StateError: It is no dict of `make_state`.
    """
    try:
        version, epoch, used = (int(state[key]) for key in ("version", "epoch", "samples"))
        seed, fingerprint = int(state["seed"]), dict(state["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"`state` must be a dict that `state_dict` returned. Received: {state!r}"
        ) from error
    if version != STATE_VERSION or epoch < 0 or used < 0:
        raise StateError(
            f"`state` must be of version {STATE_VERSION}, with `epoch` and `samples` of 0 or "
            f"more. Received: version={version}, epoch={epoch}, samples={used}"
        )
    return SavedState(epoch, used, seed, fingerprint)


def digest(values: NDArray[Any]) -> str:
    """Returns a short hash of an array's values."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)  # there may be gigabytes
    return hashlib.blake2b(data.data, digest_size=8).hexdigest()


def describe_set(video_set: VideoSet) -> dict[str, Any]:
    """Makes the part of a fingerprint that depends on the files' contents, wherever they lie.

    How they are stored does not count, except for the byte order of frames.
    """
    datasets: dict[str, Any] = {}
    for item in video_set.components:
        name = item.name_in_file or item.name
        while name in datasets:
            name = f":{name}"
        shape = (
            item.parts[0].shape
            if item.parts
            else (0,)
            if item.values is None
            else item.values.shape
        )
        datasets[name] = [list(shape[1:]), str(item.dtype)]
        if item.index.offsets is not None:
            datasets[name].append(item.index.offsets.tolist())
    hashed = hashlib.blake2b(digest_size=8)
    numbers = np.linspace(0, video_set.num_samples - 1, SAMPLES_LOOKED_AT).astype(np.int64)
    read = [item for item in video_set.components if item.parts]
    errors: list[list[ReadError]] = [[] for _ in read]
    numbers = np.unique(numbers)
    for number in numbers:
        for item, found in zip(read, errors, strict=True):
            parts, rows = item.index.rows(np.array([number]))
            try:
                value = _look_at(item, int(parts[0]), int(rows[0]))
            except FileChangedError:
                raise
            except ReadError as error:
                # With on_error="skip", a training goes on without it.
                value = b"unreadable"
                found.append(error)
            hashed.update(value)
    for item in video_set.components:
        if item.values is not None:
            hashed.update(item.values.tobytes() + repr(item.class_names).encode())
    for found in errors:
        if len(found) == len(numbers):
            # This would be the fingerprint of any set that cannot be read.
            raise found[0]
    windows = video_set.windows
    if windows is not None:
        # Which windows there are, and between which anchors of a recording one is drawn.
        index = windows.index
        for array in (index.anchors.run_rows, index.anchors.run_stops, index.choices):
            hashed.update(b"" if array is None else array.tobytes())
        hashed.update(repr((index.hop, index.anchors.step, index.anchors.pads_zeros)).encode())
    return {
        "datasets": datasets,
        "num_samples": video_set.num_samples,
        "contents": hashed.hexdigest(),
        "clip": _describe_clip(video_set),
    }


def _describe_clip(video_set: VideoSet) -> list[Any] | None:
    """Makes the part of a fingerprint that says which frames are read; None: all of them."""
    clip = next((item.clip for item in video_set.components if item.clip), None)
    if clip is None:
        return None
    found: list[Any] = [clip.num_frames, clip.stride, clip.position]
    if clip.axis:
        found.append(clip.axis)
    lengths = video_set.clip_lengths
    if lengths is not None and lengths.has_effect:
        found.append(digest(lengths.values.astype(np.float64)))
    return found


def _look_at(item: Component, part: int, row: int) -> bytes:
    """Reads the first frame of a row, its value if it has no frames, or the bytes of a picture."""
    stored = item.parts[part]
    with open_file(stored.path, stored.identity) as file:
        if isinstance(stored, StoredPictures):
            return read_row(find_again(file, stored.name), row).tobytes()
        values = Values(find_again(file, stored.name), int(item.index.num_rows[part]), stored)
        rank = values.dataset.ndim
        value = values.read(*[slice(row, row + 1), slice(0, 1)][:rank])
    is_array_type = value.ndim > rank
    if is_array_type:
        value = value[:, :1]
    if value.ndim <= 2 or is_array_type:
        value = value.astype(value.dtype.newbyteorder("="))
    # Frames count in the byte order of the file, as they do in states that were saved before.
    return value.tobytes()


def check_fingerprint(saved: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises a StateError that says what differs, if anything does."""
    different = [name for name in found if saved.get(name) != found[name]]
    if different:
        details = "; ".join(
            f"{_MEANINGS[name]}: {saved.get(name)!r} then, {found[name]!r} now"
            for name in different
        )
        raise StateError(f"The state was saved over other data or another order. {details}")
