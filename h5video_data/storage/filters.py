"""Decodes and encodes one chunk through HDF5 filters, outside the GIL and HDF5's own lock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import ArgumentError, MissingDependencyError

from .chunk_runs import RunCodec, can_decode
from .codecs import CODECS, COMPRESSIONS
from .decoders import Bytes, Data, wrong_size
from .layout import Filter
from .scratch import scratch

_MAX_CHUNK_BYTES = 2**32 - 1  # HDF5 file format, section IV.A.2.i: chunk sizes are 32-bit


def undecodable(filters: Sequence[Filter]) -> list[Filter]:
    """Returns the filters among these that `decode_chunk` leaves to HDF5."""
    # `decode_chunk` has to know the number of bytes between two steps. Permutations and checksums
    # add a fixed number of bytes; so one filter may add any number, in any place.
    found = []
    is_compressed = False
    for item in filters:
        codec = CODECS.get(item.id)
        compresses = codec is None or codec.added_nbytes(item.params) is None
        if codec is None or not codec.is_valid(item.params) or (compresses and is_compressed):
            found.append(item)
        is_compressed |= compresses
    return found


def decode_chunk(filters: Sequence[Filter], mask: int, stored: Data, out: Bytes) -> None:
    """Decodes a chunk. As in HDF5, bytes beyond those that the chunk has are ignored.

    Args:
        filters: The dataset's filter pipeline, in the order of writing, none of them `undecodable`.
        mask: The chunk's filter mask: bit i set means that filter i was not applied.
        stored: The chunk's bytes in the file.
        out: Bytes of the whole chunk in memory, which this fills. Contiguous.

    Raises:
        ValueError: The bytes are corrupt: a checksum differs, or they decode to another number
            of bytes than `out` has.
    """
    applied = filters if not mask else [f for i, f in enumerate(filters) if not mask >> i & 1]
    data: Data = stored
    for number in range(len(applied) - 1, -1, -1):
        item = applied[number]
        codec = CODECS[item.id]
        size = len(data)
        if codec.added_nbytes(item.params) != 0:
            size = len(out)
            for before in applied[:number]:  # as a checksum, of which this filter's input is longer
                size += CODECS[before.id].added_nbytes(before.params) or 0
        # All steps but the last one need a buffer of their own for their result. (Not two in turns:
        # fletcher32 returns a view of its input.)
        is_last = not number and size == len(out)
        target = out if is_last else scratch(f"filter{number}", size)
        try:
            data = codec.decode(item.params, data, target)
        except (RuntimeError, ValueError) as error:  # RuntimeError: all errors of imagecodecs
            raise ValueError(f"{item.name}: {error}") from error
    if len(data) < len(out):
        raise wrong_size(len(data), len(out))
    if data is not out:
        out[:] = np.frombuffer(data, np.uint8)[: len(out)]


def run_codec(filters: Sequence[Filter]) -> RunCodec | None:
    """Returns what decodes many chunks with these filters in one call; None: nothing here does."""
    codec = _run_codec(filters)
    return codec if codec is not None and can_decode(codec) else None


def lacks_run_codec(filters: Sequence[Filter]) -> bool:
    """Returns whether it is the compiled helper that is missing for that."""
    codec = _run_codec(filters)
    return codec is not None and not can_decode(codec)


def _run_codec(filters: Sequence[Filter]) -> RunCodec | None:
    codec = CODECS.get(filters[0].id) if len(filters) == 1 else None
    return None if codec is None else codec.run


def sample_chunks(
    sample_shape: tuple[int, ...],
    item_size: int,
    compression: str | None,
    level: int | None = None,
) -> dict[str, Any]:
    """Returns the arguments of h5py's `create_dataset` for a dataset with one sample per chunk.

    Args:
        sample_shape: The shape of a sample.
        item_size: Bytes of one value; larger ones are shuffled before they are compressed.
        compression: A key of `COMPRESSIONS`, or None.
        level: The codec's level of compression; None: its default.

    Raises:
        ArgumentError: A sample is too large, or there is no such level.
        MissingDependencyError: hdf5plugin encodes it, and is not installed.
    """
    nbytes = math.prod(sample_shape) * item_size
    if nbytes > _MAX_CHUNK_BYTES:
        raise ArgumentError(
            f"A sample in a chunk of its own must be smaller than 4 GiB, and has {nbytes} bytes: "
            f"shape {sample_shape}. Received: compression={compression!r}"
        )
    options: dict[str, Any] = {"chunks": (1, *sample_shape)}
    codec = None if compression is None else COMPRESSIONS[compression]
    levels = range(0) if codec is None else codec.levels
    if level is not None and level not in levels:
        known = f"from {levels[0]} to {levels[-1]}" if levels else "None: it has no levels"
        raise ArgumentError(
            f"`level` of {compression or 'no compression'} must be {known}. "
            f"Received: level={level!r}, compression={compression!r}"
        )
    if codec is None:
        return options
    chosen = {} if level is None else {codec.level_name: level}
    if not codec.shuffles:
        options["shuffle"] = item_size > 1
    if codec.plugin is None:
        options |= {**codec.options, **chosen}
    else:
        try:
            import hdf5plugin
        except ImportError as error:
            raise MissingDependencyError(
                f"hdf5plugin encodes {codec.plugin}, and cannot be imported ({error}). "
                "Install it with: pip install 'h5video_data[filters]'"
            ) from error
        options |= getattr(hdf5plugin, codec.plugin)(**chosen)
    return options


def encode_chunk(
    compression: str, values: NDArray[Any], level: int | None = None
) -> tuple[Data, int]:
    """Encodes a chunk as HDF5's `shuffle` (if its values have more than one byte) and a codec do.

    Args:
        compression: Name of a codec that has an `encode`.
        values: The chunk's values, C-contiguous.
        level: Its level; None: the default one.

    Returns:
        The bytes to store, and their filter mask: a codec that makes them no smaller is left out.
    """
    encode = COMPRESSIONS[compression].encode
    if encode is None:
        raise ValueError(f"HDF5 has to encode {compression}")
    is_shuffled = values.itemsize > 1
    data = np.ascontiguousarray(values.reshape(-1, 1).view(np.uint8).T).reshape(-1)
    encoded = encode(data, level)
    return (encoded, 0) if len(encoded) < values.nbytes else (data, 1 << is_shuffled)
