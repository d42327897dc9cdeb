"""Decodes and encodes one chunk through HDF5 filters, outside the interpreter's lock and HDF5's.

imagecodecs releases the interpreter's lock in all the codecs used here, and NumPy in its copies.
On image-like bytes, two threads on two cores decoded 1.8 (deflate), 1.7 (lzf) and 2.0 (fletcher32)
times as fast as one.

Left to HDF5: scale-offset, nbit, szip, and whatever else has a plugin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# By name: imagecodecs imports a codec when it is first asked for, which should not happen in many
# threads at once, nor while another thread forks.
from imagecodecs import (
    bitshuffle_decode,
    blosc2_decode,
    blosc_decode,
    deflate_decode,
    deflate_encode,
    h5checksum_fletcher32,
    lz4_decode,
    lz4h5_decode,
    lzf_decode,
    lzf_encode,
    zstd_decode,
)
from numpy.typing import NDArray

from .buffers import scratch
from .layout import Filter

Bytes = NDArray[np.uint8]
Data = bytes | Bytes

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


# The place of each in a pipeline of the usual kind. In another order, or twice, what is between two
# steps has another size than the chunk.
_PLACES = {
    SHUFFLE: 0,
    BITSHUFFLE: 0,
    DEFLATE: 1,
    LZF: 1,
    BLOSC: 1,
    BLOSC2: 1,
    LZ4: 1,
    ZSTD: 1,
    FLETCHER32: 2,
}


def undecodable(filters: Sequence[Filter]) -> list[Filter]:
    """The filters among these that `decode_chunk` does not know, or not in their place."""
    last = -1
    found = []
    for item in filters:
        place = _PLACES.get(item.id, -1)
        if place <= last:
            found.append(item)
        last = max(last, place)
    return found


def decode_chunk(filters: Sequence[Filter], mask: int, stored: Data, out: Bytes) -> None:
    """Decodes a chunk.

    Args:
        filters: The dataset's filter pipeline, in the order of writing, all known here.
        mask: The chunk's filter mask: bit i set means that filter i was not applied.
        stored: The chunk's bytes in the file.
        out: Bytes of the whole chunk in memory, which this fills. Contiguous.

    Raises:
        ValueError: The bytes are corrupt: a checksum differs, or they decode to another number
            of bytes than `out` has.
    """
    applied = [item for i, item in enumerate(filters) if not mask >> i & 1]
    data: Data = stored
    for position, item in enumerate(reversed(applied)):
        # All steps but the last one need a place of their own for their result.
        target = out if position == len(applied) - 1 else scratch("filter", len(out))
        try:
            data = _DECODERS[item.id](item, data, target)
        except RuntimeError as error:  # what all errors of imagecodecs derive from
            raise ValueError(f"{item.name}: {error}") from error
    if len(data) != len(out):
        raise ValueError(f"decoded to {len(data)} bytes instead of {len(out)}")
    if data is not out:
        out[:] = np.frombuffer(data, np.uint8)


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


def _decoded(result: Bytes, target: Bytes) -> Bytes:
    return target if len(result) == len(target) else result


def _view(data: Data) -> memoryview:
    return np.frombuffer(data, np.uint8).data


def _deflate(item: Filter, data: Data, target: Bytes) -> Data:
    return _decoded(deflate_decode(data, out=target), target)


def _lzf(item: Filter, data: Data, target: Bytes) -> Data:
    return _decoded(lzf_decode(data, header=False, out=target), target)


def _zstd(item: Filter, data: Data, target: Bytes) -> Data:
    return _decoded(zstd_decode(data, out=target), target)


def _lz4(item: Filter, data: Data, target: Bytes) -> Data:
    return _decoded(lz4h5_decode(data, out=target), target)


def _blosc(item: Filter, data: Data, target: Bytes) -> Data:
    # One thread: the reader's own threads decode other chunks meanwhile.
    return _decoded(blosc_decode(data, numthreads=1, out=target), target)


def _blosc2(item: Filter, data: Data, target: Bytes) -> Data:
    # The format of contiguous frames, c-blosc2's README_CFRAME_FORMAT.rst: a header in big-endian
    # MessagePack, of which the first fields lie where they always do, then the chunk, then the
    # chunk's offset, itself compressed.
    frame = _view(data)
    if bytes(frame[2:9]) != b"b2frame":
        raise ValueError("not a frame of Blosc2")
    header_size, stored_size, item_size = (
        int.from_bytes(frame[start:stop], "big") for start, stop in ((11, 15), (39, 47), (48, 52))
    )
    header, body = bytes(frame[:header_size]), frame[header_size:]
    if not stored_size:
        offset = int.from_bytes(blosc2_decode(body, numthreads=1), "little")
        if offset >> 56 != _ALL_ZEROS:
            raise ValueError("a special chunk that is not all zeros")
        target[:] = 0
        return target
    place = header.find(b"\xa4b2nd\xd2")
    if place < 0:
        return _decoded(blosc2_decode(body, numthreads=1, out=target), target)
    # README_B2ND_METALAYER.rst: the version, the number of dimensions, then the shapes of the
    # array, of a chunk and of a block. The blocks of a chunk stand one after another, those at its
    # ends are filled up.
    place = int.from_bytes(header[place + 6 : place + 10], "big") + 5  # a bin32's head
    rank = header[place + 2]
    chunk_at = place + 4 + 9 * rank
    chunk, block = (
        [int.from_bytes(header[i : i + 4], "big") for i in range(start, start + 5 * rank, 5)]
        for start in (chunk_at + 2, chunk_at + 3 + 5 * rank)
    )
    grid = [-(-whole // part) for whole, part in zip(chunk, block, strict=True)]
    size = math.prod(grid) * math.prod(block) * item_size
    if math.prod(chunk) * item_size != len(target):
        raise ValueError(f"a chunk of shape {chunk} instead of {len(target)} bytes")
    blocks = scratch("blocks", size)
    if len(blosc2_decode(body, numthreads=1, out=blocks)) != size:
        raise ValueError("its blocks decode to another size")
    if chunk[1:] == block[1:]:
        target[:] = blocks[: len(target)]
        return target
    # (grid..., block..., bytes of an item) -> (grid, block, grid, block, ..., bytes of an item)
    axes = [axis for pair in zip(range(rank), range(rank, 2 * rank), strict=True) for axis in pair]
    apart = blocks.reshape(*grid, *block, item_size).transpose(*axes, 2 * rank)
    if all(whole % part == 0 for whole, part in zip(chunk, block, strict=True)):
        target.reshape(apart.shape)[...] = apart
        return target
    joined = apart.reshape(*(g * b for g, b in zip(grid, block, strict=True)), item_size)
    target.reshape(*chunk, item_size)[...] = joined[tuple(map(slice, chunk))]
    return target


# What the highest byte of a chunk's offset is if nothing is stored for it (frame.c).
_ALL_ZEROS = 0x81


def _fletcher32(item: Filter, data: Data, target: Bytes) -> Data:
    # The checksum stands behind the bytes as the filter before left them.
    if len(data) < 4:
        raise ValueError(f"too short for a checksum: {len(data)} bytes")
    body, checksum = data[:-4], int.from_bytes(bytes(data[-4:]), "little")
    computed = h5checksum_fletcher32(body)
    # HDF5 before 1.6.3 swapped the bytes of each half on little-endian machines (H5Zfletcher32.c).
    swapped = (computed & 0x00FF00FF) << 8 | computed >> 8 & 0x00FF00FF
    if checksum not in (computed, swapped):
        raise ValueError("the fletcher32 checksum is wrong")
    return body


def _shuffle(item: Filter, data: Data, target: Bytes) -> Data:
    # H5Zshuffle.c: byte k of all items stands together; the bytes beyond whole items are left as
    # they are. A column at a time is three times as fast in NumPy as one transposed copy.
    shuffled = np.frombuffer(data, np.uint8)
    if len(shuffled) != len(target):
        raise ValueError(f"shuffled bytes are {len(shuffled)} instead of {len(target)}")
    item_size = item.params[0]
    count = len(shuffled) // item_size
    body = count * item_size
    columns = target[:body].reshape(count, item_size)
    for k in range(item_size):
        columns[:, k] = shuffled[k * count : (k + 1) * count]
    target[body:] = shuffled[body:]
    return target


def _bitshuffle(item: Filter, data: Data, target: Bytes) -> Data:
    # bshuf_h5filter.c: the parameters are two numbers of its version, the size of an item, the
    # items of a block (0: the default), and the blocks' codec (0: none, 2: LZ4, 3: Zstandard).
    item_size, block_items = item.params[2], (*item.params, 0, 0)[3]
    codec = _BLOCK_CODECS[(*item.params, 0, 0)[4]]
    if codec is None:
        shuffled = _view(data)
    else:
        if int.from_bytes(bytes(data[:8]), "big") != len(target):
            raise ValueError("the size in its header is not that of the chunk")
        block_bytes = int.from_bytes(bytes(data[8:12]), "big")
        block_items = block_bytes // item_size
        whole = scratch("blocks", len(target))
        shuffled = whole.data
        _bitshuffle_blocks(codec, _view(data)[12:], whole, block_bytes, 8 * item_size)
    if not block_items:
        # bitshuffle_core.c, bshuf_default_block_size
        block_items = max(8192 // item_size // 8 * 8, 128)
    decoded = bitshuffle_decode(shuffled, itemsize=item_size, blocksize=block_items, out=target)
    return _decoded(decoded, target)


def _bitshuffle_blocks(
    codec: Callable[..., Any], data: memoryview, out: Bytes, block_bytes: int, unit: int
) -> None:
    """Decodes the blocks; the bytes beyond a multiple of eight items are stored as they are."""
    whole = len(out) // unit * unit
    begin = 0
    for start in range(0, whole, block_bytes):
        size = int.from_bytes(data[begin : begin + 4], "big")
        stop = min(start + block_bytes, whole)
        if len(codec(data[begin + 4 : begin + 4 + size], out=out[start:stop])) != stop - start:
            raise ValueError("a block of it decodes to another size")
        begin += 4 + size
    out[whole:] = np.frombuffer(data[begin:], np.uint8)[: len(out) - whole]


_BLOCK_CODECS: dict[int, Callable[..., Any] | None] = {
    0: None,
    2: lz4_decode,
    3: zstd_decode,
}

_DECODERS: dict[int, Callable[[Filter, Data, Bytes], Data]] = {
    DEFLATE: _deflate,
    SHUFFLE: _shuffle,
    FLETCHER32: _fletcher32,
    LZF: _lzf,
    BLOSC: _blosc,
    BLOSC2: _blosc2,
    LZ4: _lz4,
    BITSHUFFLE: _bitshuffle,
    ZSTD: _zstd,
}


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
