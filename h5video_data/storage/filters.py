"""Decodes and encodes one chunk through HDF5 filters, outside the interpreter's lock and HDF5's.

imagecodecs releases the interpreter's lock in all the codecs used here, and NumPy in its copies.
On image-like bytes, two threads on two cores decoded 1.8 (deflate), 1.7 (lzf) and 2.0 (fletcher32)
times as fast as one.

Left to HDF5: scale-offset, nbit, szip, and whatever else has a plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from imagecodecs import deflate_encode, lzf_encode
from numpy.typing import NDArray

from . import blosc
from . import codecs as decoders
from .codecs import BLOCK_CODECS, CHECKSUM_NBYTES, Bytes, Data, bitshuffle_params, wrong_size
from .layout import Filter
from .scratch import scratch

# Registered numbers: HDF5's H5Zpublic.h, and the HDF Group's list of registered filter plugins.
DEFLATE = 1
SHUFFLE = 2
FLETCHER32 = 3
LZF = 32000
BLOSC = 32001
LZ4 = 32004
BITSHUFFLE = 32008
ZSTD = 32015
BLOSC2 = 32026


def undecodable(filters: Sequence[Filter]) -> list[Filter]:
    """The filters among these that `decode_chunk` leaves to HDF5.

    It has to know how many bytes there are between two steps. Checksums add a fixed number,
    shuffling adds none; so one filter may do anything else, in any place.
    """
    found = []
    is_compressed = False
    for item in filters:
        compresses = item.id != FLETCHER32 and not _keeps_size(item)
        if not _is_decodable(item) or (compresses and is_compressed):
            found.append(item)
        is_compressed |= compresses
    return found


def decode_chunk(filters: Sequence[Filter], mask: int, stored: Data, out: Bytes) -> None:
    """Decodes a chunk.

    As in HDF5, the first bytes are used if there are more than the chunk has; but then most codecs
    refuse.

    Args:
        filters: The dataset's filter pipeline, in the order of writing, none of them `undecodable`.
        mask: The chunk's filter mask: bit i set means that filter i was not applied.
        stored: The chunk's bytes in the file.
        out: Bytes of the whole chunk in memory, which this fills. Contiguous.

    Raises:
        ValueError: The bytes are corrupt: a checksum differs, or they decode to another number
            of bytes than `out` has.
    """
    applied = [item for i, item in enumerate(filters) if not mask >> i & 1]
    data: Data = stored
    while applied:
        item = applied.pop()
        size = len(data)
        if not _keeps_size(item):
            # Each checksum that was added before made its input longer.
            checksums = sum(before.id == FLETCHER32 for before in applied)
            size = len(out) + CHECKSUM_NBYTES * checksums
        # All steps but the last one need a place of their own for their result. (Not two in turns:
        # without its checksum, what was checked stays where it is.)
        is_last = not applied and size == len(out)
        target = out if is_last else scratch(f"filter{len(applied)}", size)
        try:
            data = _DECODERS[item.id](item, data, target)
        except (RuntimeError, ValueError) as error:  # RuntimeError: all errors of imagecodecs
            raise ValueError(f"{item.name}: {error}") from error
    if len(data) < len(out):
        raise wrong_size(len(data), len(out))
    if data is not out:
        out[:] = np.frombuffer(data, np.uint8)[: len(out)]


def _is_decodable(item: Filter) -> bool:
    """Whether there is a decoder here for a filter with such parameters.

    What HDF5 makes of other ones, it knows best: an error in nearly all cases.
    """
    check = _PARAMS_CHECKS.get(item.id)
    return item.id in _DECODERS and (check is None or check(item.params))


def _keeps_size(item: Filter) -> bool:
    """Whether a filter leaves the number of bytes as it is."""
    return item.id == SHUFFLE or (item.id == BITSHUFFLE and not bitshuffle_params(item)[2])


_DECODERS: dict[int, Callable[[Filter, Data, Bytes], Data]] = {
    DEFLATE: decoders.deflate,
    SHUFFLE: decoders.shuffle,
    FLETCHER32: decoders.fletcher32,
    LZF: decoders.lzf,
    BLOSC: blosc.blosc,
    BLOSC2: blosc.blosc2,
    LZ4: decoders.lz4,
    BITSHUFFLE: decoders.bitshuffle,
    ZSTD: decoders.zstd,
}


def _are_bitshuffle_params(params: tuple[int, ...]) -> bool:
    item_size, block_items, codec = bitshuffle_params(Filter(BITSHUFFLE, "", params))
    # imagecodecs has only these sizes. At 0, HDF5's filter ends the process: an error of ours.
    return item_size in (0, 1, 2, 4, 8) and block_items % 8 == 0 and codec in BLOCK_CODECS


# What HDF5's filters ask of their parameters, where they matter for decoding.
_PARAMS_CHECKS: dict[int, Callable[[tuple[int, ...]], bool]] = {
    DEFLATE: lambda params: len(params) == 1 and params[0] <= 9,
    SHUFFLE: lambda params: len(params) == 1 and params[0] > 0,
    BITSHUFFLE: _are_bitshuffle_params,
    BLOSC2: lambda params: len(params) >= 4 and (len(params) < 8 or len(params) >= 8 + params[7]),
}


# HDF5's LZ4 puts this before a chunk of one block. A block that would not shrink is stored as is.
RAW_PREFIX = np.dtype([("chunk_nbytes", ">u8"), ("block_nbytes", ">u4"), ("stored_nbytes", ">u4")])


def may_be_raw(
    filters: Sequence[Filter], masks: NDArray[np.uint32], sizes: NDArray[np.int64], nbytes: int
) -> NDArray[np.bool_]:
    """Which chunks may hold their values as they are, behind a `RAW_PREFIX`.

    Args:
        filters: The dataset's filter pipeline.
        masks: uint32 (n,), the chunks' filter masks.
        sizes: int64 (n,), their bytes in the file.
        nbytes: The bytes of a chunk in memory.

    Returns:
        bool (n,).
    """
    if [item.id for item in filters] != [LZ4]:
        return np.zeros(len(masks), np.bool_)
    may_be: NDArray[np.bool_] = (masks == 0) & (sizes == nbytes + RAW_PREFIX.itemsize)
    return may_be


def are_raw(prefixes: NDArray[np.void], nbytes: int) -> NDArray[np.bool_]:
    """Which chunks of those that `may_be_raw` do, bool (n,), by their `RAW_PREFIX`, (n,)."""
    are: NDArray[np.bool_] = (
        (prefixes["chunk_nbytes"] == nbytes)
        & (prefixes["stored_nbytes"] == nbytes)
        & (prefixes["block_nbytes"] >= nbytes)
    )
    return are


def encode_chunk(compression: str, values: NDArray[Any]) -> tuple[Data, int]:
    """Encodes a chunk as HDF5's `shuffle` (if its values have more than one byte) and a codec do.

    Args:
        compression: "gzip" or "lzf".
        values: The chunk's values, C-contiguous.

    Returns:
        The bytes to store, and their filter mask: a codec that makes them no smaller is left out.
    """
    data: Data = values.reshape(-1).view(np.uint8)
    is_shuffled = values.itemsize > 1
    if is_shuffled:
        data = np.frombuffer(data, np.uint8).reshape(-1, values.itemsize).T.tobytes()
    encoded = _ENCODERS[compression](data)
    return (encoded, 0) if len(encoded) < values.nbytes else (data, 1 << is_shuffled)


# The level of the deflate filter, 1 to 9. On image-like bytes, imagecodecs' deflate at 4 is 2.4
# times as fast as HDF5's, and its result smaller.
DEFLATE_LEVEL = 4

_ENCODERS: dict[str, Callable[[Data], bytes]] = {
    "gzip": lambda data: deflate_encode(data, level=DEFLATE_LEVEL),
    "lzf": lambda data: lzf_encode(data, header=False),
}
