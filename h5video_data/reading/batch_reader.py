"""Threads that fill batches ahead of their use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from h5video_data.errors import FileChangedError, ReadError
from h5video_data.planning.access import Access
from h5video_data.sampling.clips import Clip
from h5video_data.set_values import read_rows
from h5video_data.storage.picture_rows import StoredPictures
from h5video_data.video_set import Component, VideoSet

from .batch import EpochPlan, Filler, PendingBatch
from .batch_rows import rows_of_components
from .buffers import BufferPool
from .byte_sources import ByteSources
from .chunk_assembler import ChunkAssembler
from .chunk_decoder import ChunkRowDecoder
from .hdf5_source import Hdf5Files, Hdf5Source
from .picture_source import ChunkedRows, EncodedRows, FixedRows, Hdf5Rows, HeapRows, PictureSource
from .pinned_memory import PinnedMemory
from .row_filler import RowComponent, RowFiller
from .sample_sources import CutSource, DirectSource, MemorySource, Source
from .threads import Threads

_Readers: TypeAlias = tuple[Sequence[Source | None], Sequence[ChunkRowDecoder | None]]


class BatchReader:
    """Fills batches by a fixed number of threads.

    Tasks never wait for a buffer, nor for a task that was submitted after them, so nothing here can
    be a deadlock. The caller owns the arrays of a batch; their memory comes back to the reader when
    no reference to them is left.

    The threads end when the reader is closed or collected, and at the interpreter's exit. A reader
    must not cross a fork: threads don't.

    Args:
        video_set: What to read.
        num_threads: How many threads.
        bundle_size: The largest number of samples that are read together.
        max_kept: Bundles whose memory is kept for reuse at most.
        cached_items: Items of each component read by chunks to cache for later batches.
        tasks_per_bundle: How many tasks the rows of a bundle are cut into.
        skips_failed: Whether a sample that cannot be read is left out, instead of an error.
        pinned: Pins the memory of the batches, for copies to a GPU.
    """

    def __init__(
        self,
        video_set: VideoSet,
        *,
        num_threads: int,
        bundle_size: int,
        max_kept: int,
        cached_items: int,
        tasks_per_bundle: int,
        skips_failed: bool = False,
        pinned: PinnedMemory | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.bundle_size = bundle_size
        self._set = video_set
        self._cached_items = cached_items
        self._skips_failed = skips_failed
        self._byte_sources = ByteSources()
        self._hdf5_files = Hdf5Files()
        self.check_files()
        components = video_set.components
        self._rows = rows_of_components(components)
        # Datasets whose rows several components have are kept once.
        readers_of: dict[int, _Readers] = {}
        for item in components:
            if item.parts and id(item.accesses) not in readers_of:
                readers_of[id(item.accesses)] = self._readers(item)
        readers = [
            readers_of[id(rows.first.accesses)] if rows.first.parts else self._readers(rows.first)
            for rows in self._rows
        ]
        self._decoders = [decoders for _, decoders in readers]
        self._pools = [
            BufferPool(rows.nbytes(bundle_size), max_kept=max_kept, pinned=pinned)
            for rows in self._rows
        ]
        self._cache_pools = [
            BufferPool(rows.first.row_nbytes, max_kept=cached_items) for rows in self._rows
        ]
        self._threads = Threads(num_threads, "h5video_data")
        filled = [
            RowComponent(
                number,
                rows,
                sources,
                is_read_in_turns=all(access.kind == "h5py" for access in rows.first.accesses),
            )
            for number, (rows, (sources, _)) in enumerate(zip(self._rows, readers, strict=True))
        ]
        self._row_filler = RowFiller(filled, tasks_per_bundle, self._threads.submit)

    def _readers(self, item: Component) -> _Readers:
        """Makes what reads each part: a source for its rows, or a decoder for its chunk rows."""
        if item.is_mask:
            return [None] * len(item.index.num_rows), [None] * len(item.index.num_rows)
        if item.values is not None:
            return [MemorySource(item.values, item.clip)], [None]
        accesses = item.accesses
        if item.is_in_memory:
            try:
                rows = read_rows(item.parts, item.index.num_rows.tolist())
                kept = [MemorySource(values, item.clip) for values in rows]
                return kept, [None] * len(kept)
            except FileChangedError:
                raise
            except ReadError:
                # Perhaps the sample that cannot be read is not asked for.
                accesses = tuple(access.without_memory or access for access in accesses)
                if accesses == item.accesses:
                    raise
        sources = [self._source(access, item.clip) for access in accesses]
        decoders = [
            None
            if access.chunk_rows is None
            else ChunkRowDecoder(access.chunk_rows, item.clip, self._byte_sources)
            for access in accesses
        ]
        return sources, decoders

    def _source(self, access: Access, clip: Clip | None) -> Source | None:
        if access.chunk_rows is not None:
            return None
        if clip is not None and clip.axis:
            whole = self._source(access, None)
            return whole and CutSource(whole, access.stored, clip)
        if access.kind == "pictures":
            return self._picture_source(access)
        if access.ranges is not None:
            return DirectSource(access.ranges.of_clips(clip), self._byte_sources)
        return Hdf5Source(access.stored, clip, self._hdf5_files)

    def _picture_source(self, access: Access) -> Source:
        stored = access.stored
        assert isinstance(stored, StoredPictures)
        encoded: EncodedRows = Hdf5Rows(stored, self._hdf5_files)
        if stored.variable is not None:
            encoded = HeapRows(stored.variable, self._byte_sources)
        elif access.encoded is not None and access.encoded.ranges is not None:
            source = DirectSource(access.encoded.ranges, self._byte_sources)
            encoded = FixedRows(source, access.encoded.stored)
        elif access.encoded is not None and access.encoded.chunk_rows is not None:
            layout = access.encoded.chunk_rows
            encoded = ChunkedRows(ChunkRowDecoder(layout, None, self._byte_sources))
        return PictureSource(stored, encoded)

    def check_files(self) -> None:
        """Raises a FileChangedError if a file is not the one that was opened."""
        files = (file for item in self._set.components for file in item.files)
        self._byte_sources.check(dict.fromkeys(files))

    def epoch(self, plan: EpochPlan) -> EpochReader:
        """Prepares an epoch; nothing is read before it is asked for."""
        fillers: list[Filler] = [self._row_filler]
        for number, (rows, decoders) in enumerate(zip(self._rows, self._decoders, strict=True)):
            in_use = zip(decoders, rows.index.num_rows.tolist(), strict=True)
            if any(count and decoder is not None for decoder, count in in_use):
                fillers.append(
                    ChunkAssembler(
                        rows,
                        number,
                        decoders,
                        plan,
                        capacity=self._cached_items,
                        pool=self._cache_pools[number],
                        submit=self._threads.submit,
                    )
                )
        return EpochReader(self, plan, fillers)

    def start(self, plan: EpochPlan, batches: slice, fillers: Sequence[Filler]) -> PendingBatch:
        """Begins to read batches of an epoch together.

        Args:
            plan: The epoch.
            batches: Which of its batches.
            fillers: What fills them.
        """
        begin = int(plan.stops[batches.start - 1]) if batches.start else 0
        samples = slice(begin, int(plan.stops[batches.stop - 1]))
        indices = plan.order[samples]
        shifts = None if plan.shifts is None else plan.shifts[samples]
        memory = [
            pool.lend((rows.starts(len(indices))[-1], *rows.first.row_shape), rows.first.dtype)
            for pool, rows in zip(self._pools, self._rows, strict=True)
        ]
        arrays = {
            number: view
            for rows, array in zip(self._rows, memory, strict=True)
            for number, view in zip(rows.numbers, rows.views(array, len(indices)), strict=True)
        }
        batch = PendingBatch(
            indices=indices,
            stops=plan.stops[batches] - begin,
            arrays=[arrays[number] for number in range(len(arrays))],
            tasks=[],
            rows=memory,
            failed={} if self._skips_failed else None,
            first_frames=None if plan.first_frames is None else plan.first_frames[samples],
            earlier=None if plan.earlier is None else plan.earlier[samples],
            shifts=shifts,
            blanks={
                number: item.index.is_beyond(indices, shifts)
                for number, item in enumerate(self._set.components)
                if item.index.pads_zeros and item.index.offsets is not None and not item.is_mask
            },
        )
        for array, item in zip(batch.arrays, self._set.components, strict=True):
            if item.is_mask:
                array[...] = item.index.is_beyond(indices, shifts)
        for filler in fillers:
            batch.tasks.extend(filler.start(batch))
        return batch

    def close(self) -> None:
        """Ends the threads, waiting for what they have begun, and closes the files."""
        self._threads.close()
        self._byte_sources.close()
        self._hdf5_files.close()


class EpochReader:
    """The batches of one epoch that are being read. Driven by one thread at a time.

    Args:
        reader: Whose threads and buffers to use.
        plan: The epoch.
        fillers: What fills its batches.
    """

    def __init__(self, reader: BatchReader, plan: EpochPlan, fillers: list[Filler]) -> None:
        self.reader = reader
        self.plan = plan
        self._fillers = fillers
        self._next = iter(plan.bundles.tolist())
        self._num_begun = 0
        self._bundles: deque[PendingBatch] = deque()

    def __len__(self) -> int:
        """Returns the number of bundles that are being read."""
        return len(self._bundles)

    def fill(self, count: int) -> None:
        """Begins to read further bundles until `count` are being read, or there are no more."""
        while len(self._bundles) < count and (last := next(self._next, None)) is not None:
            batches = slice(self._num_begun, last + 1)
            self._bundles.append(self.reader.start(self.plan, batches, self._fillers))
            self._num_begun = last + 1

    def take(self) -> PendingBatch | None:
        """Takes the bundle that is next, to be waited for, or None at the end of the epoch."""
        return self._bundles.popleft() if self._bundles else None

    def cancel(self) -> None:
        """Cancels what is being read, and frees what is cached; nothing more can be read."""
        for bundle in self._bundles:
            bundle.cancel()
        self._bundles.clear()
        # The traceback of an error, which may be kept, holds this object. And what is cached holds
        # its tasks, one of which may hold the error: a cycle.
        self._next = iter(())
        self._fillers.clear()
