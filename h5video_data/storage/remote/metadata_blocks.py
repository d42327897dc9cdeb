"""What of objects HDF5 has read of late, and what it will read next: few requests, large ones.

HDF5 reads metadata in pieces of a few hundred bytes, one after the other, and a request takes as
long for a megabyte. So whole blocks are read; where they follow each other, as in a chunk table,
more and more of them at once. Nodes of a B-tree, the default index of chunks, lie all over a file:
when HDF5 reads one, those below it are requested together. HDF5 itself interprets them all.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Hashable

# A block takes about as long as its request at 50 ms and 20 MB/s.
BLOCK_BYTES = 1 << 20
# Of all objects of a store together, those used last.
MAX_BLOCKS = 64
# Blocks of one request, where blocks follow each other.
MAX_BLOCKS_AT_ONCE = 8
# Nodes of B-trees that are held, and requested ahead.
MAX_NODE_BYTES = 32 << 20
# Between two nodes that one request reads.
MAX_NODE_GAP_BYTES = 64 << 10

Read = Callable[[list[int], list[int]], list[bytes]]
"""Reads byte ranges, from their first bytes and their ends."""


class MetadataBlocks:
    """Blocks of the objects of a store. Its callers hold h5py's lock.

    Attributes:
        last: What was read last: the offset of its first block, and the bytes of its blocks.
    """

    def __init__(self) -> None:
        self.last = (0, b"")
        self._blocks: OrderedDict[tuple[Hashable, int], bytes] = OrderedDict()

    def read(self, owner: Hashable, start: int, stop: int, num_bytes: int, read: Read) -> bytes:
        """Returns bytes of an object, of at most a few blocks.

        Args:
            owner: Stands for the object, in one version.
            start: First byte.
            stop: End.
            num_bytes: Size of the object.
            read: Reads what is missing.
        """
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        found = {number: self._known(owner, number) for number in range(first, last + 1)}
        missing = [number for number, block in found.items() if block is None]
        if missing:
            begin, end = missing[0], missing[-1] + 1
            # As many as lie before it: the whole is read by a number of requests that grows slowly.
            while end - begin < MAX_BLOCKS_AT_ONCE and (owner, 2 * begin - end) in self._blocks:
                end += 1
            end = min(end, -(-num_bytes // BLOCK_BYTES))
            (data,) = read([begin * BLOCK_BYTES], [min(end * BLOCK_BYTES, num_bytes)])
            for number in range(begin, end):
                skip = (number - begin) * BLOCK_BYTES
                block = data[skip : skip + BLOCK_BYTES]
                self._blocks[owner, number] = block
                if number in found:
                    found[number] = block
            while len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)
        joined = b"".join(block or b"" for block in found.values())
        skip = start - first * BLOCK_BYTES
        self.last = first * BLOCK_BYTES, joined
        return joined[skip : skip + stop - start]

    def put(self, owner: Hashable, number: int, block: bytes) -> None:
        """Keeps a block that was read elsewhere."""
        self._blocks[owner, number] = block

    def _known(self, owner: Hashable, number: int) -> bytes | None:
        block = self._blocks.get((owner, number))
        if block is not None:
            self._blocks.move_to_end((owner, number))
        return block


class NodesAhead:
    """Nodes of the chunk index of a file that HDF5 will read next. Its callers hold h5py's lock.

    These are B-trees of version 1 (HDF5 File Format Specification, III.A.1), whose keys are chunks.
    If a node is not what it seems to be, something is read in vain, and HDF5 does not get to see it
    in place of something else: each node is kept by where it is.

    Args:
        read: Reads what is missing.
        num_bytes: Size of the file.

    Attributes:
        base: Where the addresses of the file begin: after its userblock.
    """

    def __init__(self, read: Read, num_bytes: int) -> None:
        self._read = read
        self._num_bytes = num_bytes
        self.base = 0
        self._nodes: dict[int, bytes] = {}
        self._waiting: list[int] = []  # nodes above leaves, whose leaves were not requested yet

    def take(self, start: int, stop: int) -> bytes | None:
        """Returns a node that was read ahead, which HDF5 reads once; None: there is none."""
        node = self._nodes.pop(start, None)
        return node if node is not None and len(node) == stop - start else None

    def clear(self) -> None:
        """Forgets the nodes that HDF5 did not read."""
        self._nodes.clear()
        self._waiting.clear()

    def look(self, start: int, found: bytes) -> None:
        """Requests what lies below a node that HDF5 is given, at `start`, if it is one."""
        children = [self.base + child for child in children_of(found)]
        if not children or not all(0 < child < self._num_bytes for child in children):
            return
        if level_of(found) == 1:
            # Together with the leaves of those nodes that HDF5 will read after this one.
            while self._waiting and self._waiting[0] != start:
                del self._waiting[0]
            for node in self._waiting[1:]:
                more = children_of(self._nodes.get(node, b""))
                if not more or (len(children) + len(more)) * len(found) > MAX_NODE_BYTES:
                    break
                children += [self.base + child for child in more]
        fetched = self._fetch(children, len(found))
        if level_of(found) == 2 and fetched:
            self._waiting = children

    def _fetch(self, places: list[int], size: int) -> bool:
        new = sorted(place for place in places if place not in self._nodes)
        new = [place for place in new if place + size <= self._num_bytes]
        groups: list[list[int]] = []
        for place in new:
            last = groups[-1] if groups else None
            is_near = last is not None and place - last[-1] <= MAX_NODE_GAP_BYTES
            if last is not None and is_near and place + size - last[0] <= BLOCK_BYTES:
                last.append(place)
            else:
                groups.append([place])
        spans = self._read([g[0] for g in groups], [g[-1] + size for g in groups])
        for group, data in zip(groups, spans, strict=True):
            for place in group:
                self._nodes[place] = data[place - group[0] :][:size]
        return bool(new)


def level_of(node: bytes) -> int:
    """Returns the level of a node of a B-tree, 0 for a leaf; -1: it is none."""
    return node[5] if node[:5] == b"TREE\x01" and len(node) > 24 else -1


def children_of(node: bytes) -> list[int]:
    """Returns the offsets of the nodes below a node of a chunk index; none below a leaf.

    A node has 24 bytes, then keys and children in turn, room for 2K + 1 and 2K of them; K is 32
    unless the superblock says otherwise, and what cannot be is taken for no node.
    """
    if level_of(node) < 1:
        return []
    (count,) = struct.unpack_from("<H", node, 6)
    room = len(node) - 24 - 64 * 8
    if room <= 0 or room % 65 or count > 64:
        return []
    step = room // 65 + 8
    return [struct.unpack_from("<Q", node, 16 + (i + 1) * step)[0] for i in range(count)]
