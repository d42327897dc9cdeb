"""Decoders of the HDF5 filters Blosc and Blosc2, with the signature of those in `decoders`."""

from __future__ import annotations

import math
import struct

import numpy as np
from imagecodecs import blosc2_decode, blosc_decode

from .decoders import Bytes, Data, Params, decoded, unpack, view, wrong_size
from .scratch import scratch

# c-blosc's README_CHUNK_FORMAT.rst, and c-blosc2's: the bytes of the chunk, of a block, and of all
# that is stored, header included.
_BLOSC_HEADER = struct.Struct("<4x3I")


def _check_blosc(data: Data | memoryview, size: int) -> None:
    """Checks that a chunk of Blosc or Blosc2 is whole, and decodes to that many bytes."""
    nbytes, _, stored_nbytes = unpack(_BLOSC_HEADER, data)
    if stored_nbytes > len(data):
        raise ValueError(f"cut short: {len(data)} bytes instead of {stored_nbytes}")
    if nbytes != size:
        raise wrong_size(nbytes, size)


def blosc(params: Params, data: Data, target: Bytes) -> Data:
    """Decodes a chunk of Blosc."""
    _check_blosc(data, len(target))
    # One thread: the reader's own threads decode other chunks at the same time.
    return decoded(blosc_decode(data, numthreads=1, out=target), target)


# The format of contiguous frames, c-blosc2's README_CFRAME_FORMAT.rst: a header in big-endian
# MessagePack, whose first fields have fixed offsets, then the chunk, then the chunk's offset,
# itself compressed. Here: the magic, and the bytes of the header, the frame, the decoded chunk, the
# stored chunk, an item.
_FRAME = struct.Struct(">2x8sxIxQ6xQxQxi")

# The highest byte of a chunk's offset if the chunk is all zeros and not stored (frame.c).
_ALL_ZEROS = 0x81
_MAX_RANK = 8  # B2ND_MAX_DIM in b2nd.h


def is_valid_blosc2(params: Params) -> bool:
    """Returns whether `blosc2` handles these parameters; the eighth is the rank of a shape."""
    return len(params) >= 4 and (len(params) < 8 or len(params) >= 8 + params[7])


def blosc2(params: Params, data: Data, target: Bytes) -> Data:
    """Decodes a frame of Blosc2 with one chunk in it."""
    magic, header_nbytes, frame_nbytes, nbytes, chunk_nbytes, item_size = unpack(_FRAME, data)
    if magic != b"b2frame\0":
        raise ValueError("not a frame of Blosc2")
    if frame_nbytes != len(data):
        raise ValueError(f"{len(data)} bytes instead of {frame_nbytes}")
    frame = view(data)
    body = frame[header_nbytes:]
    size = len(target)
    shapes = _b2nd_shapes(bytes(frame[:header_nbytes]), params, item_size, size)
    if shapes is not None:
        # All blocks, of which those at the ends are padded.
        axes = zip(*shapes, strict=True)
        size = math.prod(-(-whole // part) * part for whole, part in axes) * item_size
    if nbytes != size:
        raise wrong_size(nbytes, size)
    chunk, offset = body[:chunk_nbytes], np.empty(8, np.uint8)
    _check_blosc(body[chunk_nbytes:], len(offset))
    blosc2_decode(body[chunk_nbytes:], numthreads=1, out=offset)
    if not chunk_nbytes:
        if offset[-1] != _ALL_ZEROS:
            raise ValueError("a special chunk that is not all zeros")
        target[:] = 0
        return target
    if offset.any():
        raise ValueError("its chunk does not come first")
    _check_blosc(chunk, size)
    _check_flags(chunk)
    if shapes is None:
        return decoded(blosc2_decode(chunk, numthreads=1, out=target), target)
    blocks = scratch("blocks", size)
    if len(blosc2_decode(chunk, numthreads=1, out=blocks)) != size:
        raise ValueError("its blocks decode to another size")
    _join_blocks(blocks, *shapes, item_size, target)
    return target


def _check_flags(chunk: memoryview) -> None:
    """Checks that decoding writes every byte, and reads none that is not written yet."""
    # README_CHUNK_FORMAT.rst: there is an extended header only if these two flags are set.
    if chunk[2] & 0b101 != 0b101:
        return
    if len(chunk) < 32:
        raise ValueError(f"too short for its header: {len(chunk)} bytes")
    # Of the filters, in the order of writing, DELTA (3) must come first: it refers to the first
    # block in its final form. TRUNC_PREC (4) is not undone.
    found = [kind for kind in chunk[16:22] if kind not in (0, 4)]
    if 3 in found[1:]:
        raise ValueError(f"filters in an order that cannot be undone: {found}")
    # Without stored values, it may be all zeros (1), NaN (2) or one value (3), not uninitialized.
    if chunk[31] >> 4 & 7 > 3:
        raise ValueError("a special chunk without values")


def _b2nd_shapes(
    header: bytes, params: Params, item_size: int, size: int
) -> tuple[list[int], list[int]] | None:
    """Returns the shapes of an array, which is one chunk, and of its blocks; None: plain bytes."""
    found = header.find(b"\xa4b2nd\xd2")
    if found < 0:
        return None
    # README_B2ND_METALAYER.rst: the version, the number of dimensions, then the three shapes.
    (start,) = unpack(struct.Struct(">I"), header, found + 6)
    start += 5  # the head of a bin32
    rank = header[start + 2] if start + 2 < len(header) else 0
    start += 3
    shapes = []
    for kind in "qii":
        # A byte for the number of dimensions, and one for the type of each.
        shapes.append(list(unpack(struct.Struct(">x" + rank * f"x{kind}"), header, start)))
        start += 1 + rank * (1 + struct.calcsize(f">{kind}"))
    shape, chunk, block = shapes
    if shape != chunk:
        raise ValueError(f"an array of shape {shape} in chunks of shape {chunk}")
    # blosc2_filter.c: the shape follows the rank among the filter's parameters, if they are there.
    expected = list(params[8 : 8 + params[7]]) if len(params) > 7 else shape
    if not 0 < len(shape) <= _MAX_RANK or shape != expected:
        raise ValueError(f"an array of shape {shape} instead of {expected}")
    if not all(0 < part <= whole for part, whole in zip(block, shape, strict=True)):
        raise ValueError(f"blocks of shape {block} in an array of shape {shape}")
    if math.prod(shape) * item_size != size:
        raise wrong_size(math.prod(shape) * item_size, size)
    return shape, block


def _join_blocks(
    blocks: Bytes, shape: list[int], block: list[int], item_size: int, target: Bytes
) -> None:
    """Copies blocks, which follow each other, to their places in the array."""
    rank = len(shape)
    grid = [-(-whole // part) for whole, part in zip(shape, block, strict=True)]
    # (grid..., block..., bytes of an item) -> (grid, block, grid, block, ..., bytes of an item)
    axes = [axis for pair in zip(range(rank), range(rank, 2 * rank), strict=True) for axis in pair]
    apart = blocks.reshape(*grid, *block, item_size).transpose(*axes, 2 * rank)
    if len(blocks) == len(target):  # no block is padded
        target.reshape(apart.shape)[...] = apart
        return
    joined = apart.reshape(*(g * b for g, b in zip(grid, block, strict=True)), item_size)
    target.reshape(*shape, item_size)[...] = joined[tuple(map(slice, shape))]
