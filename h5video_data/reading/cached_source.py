"""Reads byte ranges of an object of a store through the cache on the local disk."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from h5video_data.errors import VideoFileNotFoundError
from h5video_data.planning.requests import plan_requests
from h5video_data.storage.file_identity import FileIdentity, check_identity
from h5video_data.storage.os_errors import ObjectChangedError, RequestError
from h5video_data.storage.remote.disk_cache import BLOCK_BYTES, DiskCache
from h5video_data.storage.remote.paths import RemotePath
from h5video_data.storage.remote.requests import wait_for

from .range_errors import RangeError
from .remote_source import MAX_REQUEST_BYTES, RemoteObject

# Blocks that a thread requests ahead of those that it reads; it holds them until they are read.
BLOCKS_AHEAD = 16

Ranges = NDArray[np.int64]


@dataclass(eq=False)
class _Run:
    """Blocks that one request brings."""

    numbers: range
    future: Future[bytes] | None


@dataclass(eq=False)
class _Ahead:
    """What a thread has announced."""

    waiting: deque[int] = field(default_factory=deque)
    """Blocks that were not requested yet, in the order in which they are read."""
    runs: dict[int, _Run] = field(default_factory=dict)
    """By their blocks, the requests whose blocks were not written to the cache yet."""


class CachedObject(RemoteObject):
    """An object whose blocks are kept on the local disk. See `RemoteObject`.

    While there is room, whole blocks are requested. When the cache is full, of what is not there,
    only what is needed.

    Args:
        path: The object.
        identity: Its identity.
        cache: The cache.
        key: What stands for the object there.
    """

    def __init__(
        self, path: RemotePath, identity: FileIdentity, cache: DiskCache, key: str
    ) -> None:
        super().__init__(path, identity)
        self._cache = cache
        self._key = key

    def identity(self) -> FileIdentity:
        """Returns the identity of what was read: its own, if all of that was in the cache."""
        if getattr(self._of_thread, "has_requested", False):
            self._of_thread.has_requested = False
            return super().identity()
        self._give_up()
        return self._identity

    def announce(self, offsets: Ranges, sizes: Ranges) -> None:
        """Begins to read what is not in the cache. See `RemoteObject.announce`."""
        if self._is_announced(offsets, sizes):
            return
        self._give_up()
        if self._is_beyond(offsets, sizes).any():
            return
        if self._cache.is_full:
            is_missing = self._is_missing(offsets, sizes)
            self._of_thread.has_requested = bool(is_missing.any())
            super().announce(offsets[is_missing], sizes[is_missing])
            self._of_thread.ranges = offsets, sizes
            return
        numbers = dict.fromkeys(n for o, s in _pairs(offsets, sizes) for n in _blocks(o, s))
        missing = [n for n in numbers if not self._cache.has(self._key, n)]
        ahead = self._of_thread.ahead = _Ahead(deque(missing))
        self._of_thread.ranges = offsets, sizes
        self._request(ahead, [])

    def _give_up(self) -> None:
        super()._give_up()
        ahead: _Ahead | None = getattr(self._of_thread, "ahead", None)
        if ahead is not None:
            self._of_thread.ahead = None
            for run in ahead.runs.values():
                if run.future is not None:
                    run.future.cancel()

    def read_ranges(
        self, offsets: Ranges, sizes: Ranges, starts: Ranges, target: NDArray[np.uint8]
    ) -> None:
        """Reads them from the disk, and what is not there by requests. See `RemoteObject`."""
        self._check_size(offsets, sizes)
        chosen = np.arange(len(offsets))
        if self._cache.is_full:
            is_missing = self._is_missing(offsets, sizes)
            others, chosen = chosen[is_missing], chosen[~is_missing]
            if len(others):
                self._of_thread.has_requested = True
                try:
                    super().read_ranges(offsets[others], sizes[others], starts[others], target)
                except RangeError as error:
                    raise RangeError(int(others[error.number])) from error.__cause__
        ahead: _Ahead = getattr(self._of_thread, "ahead", None) or _Ahead()
        if len(chosen) > 1 and not ahead.runs and not ahead.waiting:
            pairs = _pairs(offsets[chosen], sizes[chosen])
            numbers = dict.fromkeys(n for o, s in pairs for n in _blocks(o, s))
            ahead.waiting.extend(n for n in numbers if not self._cache.has(self._key, n))
        out = target.data
        for number in chosen.tolist():
            offset, size, place = int(offsets[number]), int(sizes[number]), int(starts[number])
            try:
                for block in _blocks(offset, size):
                    first = block * BLOCK_BYTES
                    begin, end = max(offset, first), min(offset + size, first + BLOCK_BYTES)
                    part = out[place + begin - offset : place + end - offset]
                    self._read(ahead, block, begin - first, part)
            except (VideoFileNotFoundError, ObjectChangedError):
                check_identity(self._path, self._identity)  # says how it changed
                raise RangeError(number) from RequestError("it changed, and is as it was again")
            except (RequestError, MemoryError) as error:
                raise RangeError(number) from error

    def _read(self, ahead: _Ahead, block: int, begin: int, target: memoryview) -> None:
        """Fills `target` with bytes of a block, from `begin` on."""
        if block not in ahead.runs:
            if self._cache.read_into(target, self._key, block, begin, self._size_of(block)):
                return
            self._request(ahead, [block])
        run = ahead.runs[block]
        if ahead.waiting and len(ahead.runs) <= BLOCKS_AHEAD // 2:
            self._request(ahead, [])
        content = self._content(run)
        for number in run.numbers:
            skip = (number - run.numbers[0]) * BLOCK_BYTES
            self._cache.write(self._key, number, content[skip : skip + BLOCK_BYTES])
            ahead.runs.pop(number, None)
        skip = (block - run.numbers[0]) * BLOCK_BYTES
        target[:] = memoryview(content)[skip + begin : skip + begin + len(target)]

    def _content(self, run: _Run) -> bytes:
        if run.future is not None:
            with contextlib.suppress(ObjectChangedError):  # reading it anew tells whether it is
                return wait_for(run.future)
        (content,) = self._path.read(*self._span(run.numbers), self._identity)
        return content

    def _request(self, ahead: _Ahead, needed: list[int]) -> None:
        """Begins to read blocks, and those that are read after them."""
        while ahead.waiting and len(needed) + len(ahead.runs) < BLOCKS_AHEAD:
            block = ahead.waiting.popleft()
            if block not in needed and block not in ahead.runs:
                needed.append(block)
        if needed:
            self._of_thread.has_requested = True
        numbers = np.array(sorted(needed), np.int64)
        most = MAX_REQUEST_BYTES // BLOCK_BYTES
        firsts, stops = plan_requests(numbers, np.ones(len(numbers), np.int64), 0, most)
        for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
            blocks = range(first, stop)
            futures = self._path.begin(*self._span(blocks), self._identity)
            run = _Run(blocks, futures[0] if futures else None)
            ahead.runs.update(dict.fromkeys(blocks, run))

    def _span(self, blocks: range) -> tuple[list[int], list[int]]:
        end = min(blocks.stop * BLOCK_BYTES, self._identity.num_bytes)
        return [blocks.start * BLOCK_BYTES], [end]

    def _size_of(self, block: int) -> int:
        return min(BLOCK_BYTES, self._identity.num_bytes - block * BLOCK_BYTES)

    def _is_missing(self, offsets: Ranges, sizes: Ranges) -> NDArray[np.bool_]:
        """Tells which ranges are not in the cache."""
        found = [
            not all(self._cache.has(self._key, number) for number in _blocks(offset, size))
            for offset, size in _pairs(offsets, sizes)
        ]
        return np.array(found, np.bool_)


def _pairs(offsets: Ranges, sizes: Ranges) -> Iterable[tuple[int, int]]:
    return zip(offsets.tolist(), sizes.tolist(), strict=True)


def _blocks(offset: int, size: int) -> range:
    """Returns the numbers of the blocks that a range has bytes in."""
    return range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES) if size else 0)
