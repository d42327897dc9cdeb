"""Decoders of HDF5 filters, each for the bytes of one chunk. No decoder trusts its input.

Some libraries read beyond their input, or allocate as much memory as a header asks for. So the
sizes in a header are compared with those of the chunk before a library sees the bytes.

A decoder has the signature `decode(params, data, target)`: the filter's parameters, the encoded
bytes, and a buffer as long as the decoded bytes should be. It returns the buffer, filled, or other
bytes if the decoded bytes have another length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# By name: imagecodecs imports a codec on first access, which must not happen in many threads at
# once, nor while another thread forks.
from imagecodecs import (
    bitshuffle_decode,
    deflate_decode,
    h5checksum_fletcher32,
    lz4_decode,
    lz4h5_decode,
    lzf_decode,
    zstd_decode,
)
from numpy.typing import NDArray

from .scratch import scratch

Bytes = NDArray[np.uint8]
Data = bytes | Bytes
Params = tuple[int, ...]

# Length of the checksum that fletcher32 appends.
CHECKSUM_NBYTES = 4
# A deflate stream may decode to this many bytes more than twice the bytes of its chunk.
_MORE_BYTES = 1 << 16
# Up to this item size, copying column by column is three times as fast as one transposed copy.
_MAX_COLUMNS = 16
# Of the blocks of bitshuffle, by number (bshuf_h5filter.c); 0: not compressed.
_BLOCK_CODECS: dict[int, Callable[..., Any] | None] = {0: None, 2: lz4_decode, 3: zstd_decode}


def wrong_size(found: int, expected: int) -> ValueError:
    """Returns the error for a chunk that decodes to another number of bytes than its shape has."""
    fate = "leaves the others undefined" if found < expected else "uses the first ones"
    return ValueError(f"decoded to {found} bytes instead of {expected}; h5py {fate}")


def unpack(layout: struct.Struct, data: Data | memoryview, offset: int = 0) -> tuple[Any, ...]:
    """Returns the fields of a header."""
    if len(data) < offset + layout.size:
        raise ValueError(f"too short for its header: {len(data)} bytes")
    buffer: Any = data
    return layout.unpack_from(buffer, offset)


def view(data: Data | memoryview) -> memoryview:
    """Returns the bytes as a memoryview, which slices without a copy."""
    return np.frombuffer(data, np.uint8).data


def decoded(result: Bytes, target: Bytes) -> Bytes:
    """Returns `target` if a library filled it, else the library's own result."""
    return target if len(result) == len(target) else result


def deflate(params: Params, data: Data, target: Bytes) -> Data:
    """Decodes a zlib stream, HDF5's own compression."""
    try:
        if len(deflate_decode(data, out=target)) == len(target):
            return target
    except RuntimeError:
        pass
    # Another number of bytes than expected, perhaps more: HDF5 accepts any number (H5Zdeflate.c).
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(view(data), 2 * len(target) + _MORE_BYTES)
    except zlib.error as error:
        raise ValueError(error) from error
    if not stream.eof:
        raise ValueError(f"incomplete, or decodes to more than {len(found)} bytes")
    return found


def lzf(params: Params, data: Data, target: Bytes) -> Data:
    """Decodes LZF, h5py's own compression."""
    return decoded(lzf_decode(data, header=False, out=target), target)


def zstd(params: Params, data: Data, target: Bytes) -> Data:
    """Decodes a Zstandard frame that states its content size."""
    # RFC 8878, section 3.1.1.1.1: without a content size, these three bits of the fifth byte are 0.
    # HDF5's filter rejects such a frame.
    if len(data) > 4 and not data[4] & 0b11100000:
        raise ValueError("its header does not say how many bytes it holds")
    return decoded(zstd_decode(data, out=target), target)


# H5Zlz4.c: decoded bytes of the chunk, of a block; then each block behind its stored bytes.
_LZ4_HEADER = struct.Struct(">QI")


def lz4(params: Params, data: Data, target: Bytes) -> Data:
    """Decodes LZ4 blocks, each behind its size."""
    size, block_nbytes = unpack(_LZ4_HEADER, data)
    if size != len(target):
        raise wrong_size(size, len(target))
    if not block_nbytes:
        raise ValueError("blocks of 0 bytes")
    blocks = _split_blocks(view(data)[_LZ4_HEADER.size :], -(-size // block_nbytes))
    if block_nbytes < size:
        for _ in blocks:  # imagecodecs reads beyond the end of a truncated chunk
            pass
        return decoded(lz4h5_decode(data, out=target), target)
    # imagecodecs rejects block sizes above 2 GiB, however short the chunk is.
    block = next(blocks)
    if len(block) != size:
        return decoded(lz4_decode(block, out=target), target)
    target[:] = block
    return target


def _split_blocks(data: memoryview, count: int) -> Iterator[memoryview]:
    """Yields blocks, each stored behind 4 bytes with its size, and then what follows them."""
    for _ in range(count):
        stop = 4 + int.from_bytes(data[:4], "big")
        if stop > len(data):
            raise ValueError(f"cut short by {stop - len(data)} bytes")
        yield data[4:stop]
        data = data[stop:]
    yield data


def fletcher32(params: Params, data: Data, target: Bytes) -> Data:
    """Verifies and removes the checksum behind the bytes."""
    if len(data) < CHECKSUM_NBYTES:
        raise ValueError(f"too short for a checksum: {len(data)} bytes")
    body, stored = data[:-CHECKSUM_NBYTES], data[-CHECKSUM_NBYTES:]
    checksum, computed = int.from_bytes(bytes(stored), "little"), h5checksum_fletcher32(body)
    # HDF5 before 1.6.3 swapped the bytes of each half on little-endian machines (H5Zfletcher32.c).
    swapped = (computed & 0x00FF00FF) << 8 | computed >> 8 & 0x00FF00FF
    if checksum not in (computed, swapped):
        raise ValueError("the checksum is wrong")
    return body


def shuffle(params: Params, data: Data, target: Bytes) -> Data:
    """Undoes H5Zshuffle.c: byte k of all items together, then the bytes beyond whole items."""
    shuffled = np.frombuffer(data, np.uint8)
    item_size = params[0]
    count = len(shuffled) // item_size
    body = count * item_size
    items = target[:body].reshape(count, item_size)
    planes = shuffled[:body].reshape(item_size, count)
    if item_size <= _MAX_COLUMNS:
        for k, plane in enumerate(planes):
            items[:, k] = plane
    else:
        items[...] = planes.T
    target[body:] = shuffled[body:]
    return target


def bitshuffle_params(params: Params) -> tuple[int, int, int]:
    """Returns the item size, the items of a block (0: the default), and the blocks' codec."""
    # bshuf_h5filter.c: two version numbers come first.
    item_size, block_items, codec = (*params[2:5], 0, 0, 0)[:3]
    return item_size, block_items, codec


def is_valid_bitshuffle(params: Params) -> bool:
    """Returns whether `bitshuffle` handles these parameters."""
    item_size, block_items, codec = bitshuffle_params(params)
    # imagecodecs has only these sizes. At 0, HDF5's filter ends the process: an error of ours.
    return item_size in (0, 1, 2, 4, 8) and block_items % 8 == 0 and codec in _BLOCK_CODECS


def bitshuffle(params: Params, data: Data, target: Bytes) -> Data:
    """Undoes bit shuffling: bit k of all items of a block together; blocks may be compressed."""
    item_size, block_items, codec_id = bitshuffle_params(params)
    if not item_size:
        raise ValueError("its parameters give no size of an item")
    if len(target) % item_size:
        raise ValueError(f"{len(target)} bytes are not a whole number of items of {item_size}")
    # bitshuffle_core.c, bshuf_default_block_size
    default_items = max(8192 // item_size // 8 * 8, 128)
    codec, shuffled = _BLOCK_CODECS[codec_id], view(data)
    if codec is not None:
        size, block_nbytes = unpack(_LZ4_HEADER, data)
        if size != len(target):
            raise wrong_size(size, len(target))
        block_items = block_nbytes // item_size
        if block_items % 8:
            raise ValueError(f"blocks of {block_items} items, which is no multiple of 8")
        block_nbytes = (block_items or default_items) * item_size
        # Bytes beyond a multiple of eight items are stored as they are.
        whole = len(target) // (8 * item_size) * 8 * item_size
        starts = range(0, whole, block_nbytes)
        blocks = _split_blocks(shuffled[_LZ4_HEADER.size :], len(starts))
        buffer = scratch("blocks", len(target))
        for start, block in zip(starts, blocks, strict=False):
            out = buffer[start : min(start + block_nbytes, whole)]
            if len(codec(block, out=out)) != len(out):
                raise ValueError("a block of it decodes to another size")
        rest = next(blocks)
        if len(rest) < len(target) - whole:
            raise ValueError("cut short")
        buffer[whole:] = rest[: len(target) - whole]
        shuffled = buffer.data
    block_items = block_items or default_items
    result = bitshuffle_decode(shuffled, itemsize=item_size, blocksize=block_items, out=target)
    return decoded(result, target)
