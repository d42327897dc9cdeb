"""Decodes one chunk through its HDF5 filters, outside the interpreter's lock and HDF5's.

imagecodecs releases the interpreter's lock in all the codecs used here, and NumPy in its copies.
On image-like bytes, two threads on two cores decoded 1.8 (deflate), 1.7 (lzf) and 2.0 (fletcher32)
times as fast as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# By name: imagecodecs imports a codec when it is first asked for, which should not happen in many
# threads at once, nor while another thread forks.
from imagecodecs import (
    DeflateError,
    LzfError,
    deflate_decode,
    h5checksum_fletcher32,
    lzf_decode,
)
from numpy.typing import NDArray

from .layout import Filter

Bytes = NDArray[np.uint8]

# Registered numbers: HDF5's H5Zpublic.h, and the list of registered filter plugins.
DEFLATE = 1
SHUFFLE = 2
FLETCHER32 = 3
LZF = 32000

# The place of each in a pipeline of the usual kind. In another order, or twice, what is between two
# steps has another size than the chunk.
_PLACES = {SHUFFLE: 0, DEFLATE: 1, LZF: 1, FLETCHER32: 2}


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


def decode_chunk(filters: Sequence[Filter], mask: int, stored: bytes, out: Bytes) -> None:
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
    data: bytes | Bytes = stored
    for position, item in enumerate(reversed(applied)):
        is_last = position == len(applied) - 1
        if item.id == FLETCHER32:
            data = _verified(data)
            continue
        # All steps but the last one need a place of their own for their result.
        target = out if is_last else np.empty_like(out)
        if item.id == SHUFFLE:
            _unshuffle(np.frombuffer(data, np.uint8), item.params[0], target)
            data = target
        else:
            data = _decompressed(item, data, target)
    if len(data) != len(out):
        raise ValueError(f"decoded to {len(data)} bytes instead of {len(out)}")
    if data is not out:
        out[:] = np.frombuffer(data, np.uint8)


def _verified(data: bytes | Bytes) -> bytes | Bytes:
    # The checksum is over the bytes as the next filter left them, behind which it stands.
    if len(data) < 4:
        raise ValueError(f"too short for a checksum: {len(data)} bytes")
    body, checksum = data[:-4], int.from_bytes(data[-4:], "little")
    computed = h5checksum_fletcher32(body)
    # HDF5 before 1.6.3 swapped the bytes of each half on little-endian machines (H5Zfletcher32.c).
    swapped = (computed & 0x00FF00FF) << 8 | computed >> 8 & 0x00FF00FF
    if checksum not in (computed, swapped):
        raise ValueError("the fletcher32 checksum is wrong")
    return body


def _decompressed(item: Filter, data: bytes | Bytes, target: Bytes) -> Bytes:
    try:
        if item.id == DEFLATE:
            result: Bytes = deflate_decode(data, out=target)
        else:
            result = lzf_decode(data, header=False, out=target)
    except (DeflateError, LzfError) as error:
        raise ValueError(f"{item.name}: {error}") from error
    return target if len(result) == len(target) else result


def _unshuffle(data: Bytes, item_size: int, target: Bytes) -> None:
    # H5Zshuffle.c: byte k of all items stands together; the bytes beyond whole items are left as
    # they are. A column at a time is three times as fast in NumPy as one transposed copy.
    if len(data) != len(target):
        raise ValueError(f"shuffled bytes are {len(data)} instead of {len(target)}")
    count = len(data) // item_size
    body = count * item_size
    columns = target[:body].reshape(count, item_size)
    for k in range(item_size):
        columns[:, k] = data[k * count : (k + 1) * count]
    target[body:] = data[body:]
