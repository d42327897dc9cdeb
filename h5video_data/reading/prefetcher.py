"""Prefetches epochs: keeps batches in flight, and begins the next epoch before one ends."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TypeAlias

from h5video_data.errors import ClosedError, ReadError
from h5video_data.video_set import VideoSet

from .batch import EpochPlan, PendingBatch
from .batch_reader import BatchReader, EpochReader
from .memory_budget import MemoryBudget
from .one_pass import read_together
from .pinned_memory import PinnedMemory
from .read_stats import ReadStats
from .threads import is_process_ending

_log = logging.getLogger(__name__)

PlanEpoch: TypeAlias = Callable[[int, int], EpochPlan]
"""Plans an epoch, from its number and how many of its samples were used before."""


@dataclass
class LoaderStats(ReadStats):
    """Seconds, bytes and counts since the loader was made."""

    wait_seconds: float = 0.0
    """Time that the consumer waited for batches to be read."""
    delivered_bytes: int = 0
    """Bytes of the batches handed over."""
    num_batches: int = 0
    num_samples: int = 0


@dataclass(frozen=True, eq=False)
class Bundle:
    """Batches that were read together."""

    epoch: int
    batch: PendingBatch
    waited: float
    """Seconds that the consumer waited for them."""


class Prefetcher:
    """Reads the epochs of a set, one after the other; several at once if there are more iterators.

    The threads that read start with the first iterator, and again in the child of a fork.

    Args:
        video_set: The set.
        memory: How much may be held of what.
        batch_size: Samples of the largest batch.
        num_threads: Threads that read and decode.
        skips_failed: Whether a sample that cannot be read is left out, instead of an error.

    Attributes:
        memory: As given.
        skipped: The numbers of the samples that were left out, and why.
    """

    def __init__(
        self,
        video_set: VideoSet,
        memory: MemoryBudget,
        *,
        batch_size: int,
        num_threads: int,
        skips_failed: bool,
    ) -> None:
        self.memory = memory
        self.skipped: dict[int, str] = {}
        self._set = video_set
        self._batch_size = batch_size
        self._num_threads = num_threads
        self._skips_failed = skips_failed
        self._lock = threading.Lock()
        self._stats = LoaderStats()
        self._next_epoch = 0
        # How many samples of the next epoch were used before: it was begun elsewhere.
        self._used = 0
        # Goes up when what was planned is not valid any more.
        self._version = 0
        self._pinned: PinnedMemory | None = None
        self._reader: BatchReader | None = None
        # The next epoch, whose first batches were read at the end of the one before.
        self._ahead: EpochReader | None = None
        self._is_closed = False

    @property
    def stats(self) -> LoaderStats:
        """A copy of the figures so far, which does not change any more."""
        with self._lock:
            return copy.copy(self._stats)

    @property
    def used(self) -> int:
        """The number of samples of the next epoch that were used before, and are left out of it."""
        return self._used

    @property
    def position(self) -> tuple[int, int]:
        """The number of the next epoch, and how many of its samples are left out of it."""
        with self._lock:
            return self._next_epoch, self._used

    def seek(self, epoch: int, used: int = 0) -> None:
        """Makes the next iteration that epoch; those after it follow on.

        Args:
            epoch: Number of the epoch.
            used: How many of its samples to leave out, the first ones.
        """
        with self._lock:
            self._next_epoch = epoch
            self._used = used

    def forget_ahead(self) -> None:
        """Discards what was read of the next epoch: its plan has changed."""
        with self._lock:
            self._version += 1
            ahead, self._ahead = self._ahead, None
        _cancel(ahead)

    def pin_buffers(self, gpu: int) -> None:
        """Has batches of further iterators lie in pinned memory, from which a GPU copies faster.

        Args:
            gpu: Number of a GPU among those that CUDA shows to this process.

        Raises:
            CudaError: There is no NVIDIA driver or no such GPU.
        """
        if self._pinned is None:
            self._pinned = PinnedMemory(gpu)
            self.release()

    def bundles(self, plan_epoch: PlanEpoch) -> Iterator[Bundle]:
        """Reads the batches of the next epoch, bundle by bundle.

        Args:
            plan_epoch: Plans an epoch.

        Raises:
            ClosedError: It is closed.
            SamplerError: The sampler returned invalid positions.
            ReadError: A sample cannot be read, or a file has changed.
        """
        current = self._next_epoch_reader(plan_epoch)
        following: EpochReader | None = None
        is_following_known = False
        version = self._version
        in_flight = self.memory.bundles_in_flight
        try:
            current.fill(in_flight)
            while (batch := current.take()) is not None:
                if current.reader.pid != os.getpid():
                    raise ClosedError(
                        "An iterator cannot be used after a fork: make another one in the child."
                    )
                if self._is_closed:
                    raise ClosedError("The loader was closed during iteration.")
                waited = self._wait(batch)
                if batch.failed:
                    self._report(
                        {int(batch.indices[place]): why for place, why in batch.failed.items()}
                    )
                    batch = batch.without_failed()
                current.fill(in_flight)
                if len(current) < in_flight and not is_following_known:
                    # The epoch draws to its end: the threads go on with the next one.
                    is_following_known = True
                    version = self._version
                    following = self._following_epoch(current.reader, plan_epoch)
                if following is not None:
                    following.fill(in_flight - len(current))
                if not len(current):
                    # Nobody may ask for what comes after the last bundle.
                    following = self._keep_ahead(current, following, version)
                if len(batch.indices):
                    yield Bundle(current.plan.number, batch, waited)
                # The buffers go back when nobody holds them, this frame included.
                del batch
            if self._reader is None:  # released at this very moment
                self._ahead = None
        except CancelledError as error:
            if self._is_closed:
                raise ClosedError("The loader was closed during iteration.") from error
            if is_process_ending():
                # A thread that is left alone then ends without a word by a SystemExit.
                is_main = threading.current_thread() is threading.main_thread()
                kind = ClosedError if is_main else SystemExit
                raise kind("The process is ending during iteration.") from error
            raise
        finally:
            _cancel(current)
            _cancel(following)

    def read(self, plan: EpochPlan) -> PendingBatch:
        """Reads a plan of one batch, by threads that end with it. `stats` do not count it.

        Raises:
            ClosedError: It is closed.
            ReadError: A sample cannot be read (if they are skipped: none can), or a file has
                changed.
        """
        if self._is_closed:
            raise ClosedError("The loader is closed.")
        batch = read_together(
            self._set,
            plan,
            num_threads=self._num_threads,
            skips_failed=self._skips_failed,
        )
        if batch.failed:
            failed = {int(batch.indices[place]): why for place, why in batch.failed.items()}
            self._report(failed)
            batch = batch.without_failed()
            if not len(batch.indices):
                raise ReadError(
                    f"No sample of the batch can be read. Sample {min(failed)}: "
                    f"{failed[min(failed)]}"
                )
        return batch

    def _keep_ahead(
        self, current: EpochReader, following: EpochReader | None, version: int
    ) -> EpochReader | None:
        """Keeps what was read of the next epoch for its turn; returns what is to be cancelled."""
        with self._lock:
            # Unless it was closed or released, or another iterator had that epoch meanwhile.
            if (
                following is not None
                and following.plan.number == self._next_epoch
                and not self._used
                and version == self._version
                and self._reader is current.reader
            ):
                self._ahead, following = following, self._ahead
        return following

    def _next_epoch_reader(self, plan_epoch: PlanEpoch) -> EpochReader:
        """Begins the next epoch, or takes the one that was begun at the end of the one before."""
        reader = self._open_reader()
        with self._lock:
            epoch, used, ahead = self._next_epoch, self._used, self._ahead
            self._next_epoch, self._used, self._ahead = epoch + 1, 0, None
        reader.check_files()
        if ahead is not None and ahead.plan.number == epoch and ahead.reader is reader and not used:
            return ahead
        _cancel(ahead)
        return reader.epoch(plan_epoch(epoch, used))

    def _following_epoch(self, reader: BatchReader, plan_epoch: PlanEpoch) -> EpochReader | None:
        """Prepares the epoch after this one; an error of its sampler waits for its turn."""
        try:
            return reader.epoch(plan_epoch(self._next_epoch, 0))
        except Exception:
            return None

    def _wait(self, batch: PendingBatch) -> float:
        """Waits for a batch; returns how long that took, in seconds."""
        begin = time.perf_counter()
        cost = batch.wait()
        waited = time.perf_counter() - begin
        with self._lock:
            self._stats.add(cost)
            self._stats.wait_seconds += waited
            self._stats.delivered_bytes += sum(array.nbytes for array in batch.arrays)
            self._stats.num_batches += len(batch.stops)
            self._stats.num_samples += len(batch.indices)
        return waited

    def _report(self, failed: Mapping[int, str]) -> None:
        """Records samples that are left out, and logs those that are new."""
        for sample, reason in sorted(failed.items()):
            if sample not in self.skipped:
                self.skipped[sample] = reason
                _log.warning("Sample %d is skipped: %s", sample, reason)

    def _open_reader(self) -> BatchReader:
        with self._lock:
            if self._is_closed:
                raise ClosedError("The loader is closed.")
            reader = self._reader  # which `release` may set to None at any time
            if reader is None or reader.pid != os.getpid():
                reader = self._reader = BatchReader(
                    self._set,
                    num_threads=self._num_threads,
                    bundle_size=self._batch_size * self.memory.batches_per_bundle,
                    max_kept=self.memory.spare_bundles,
                    cached_items=self.memory.cached_items,
                    tasks_per_bundle=self.memory.tasks_per_bundle(self._num_threads),
                    skips_failed=self._skips_failed,
                    pinned=self._pinned,
                )
            return reader

    def release(self) -> None:
        """Releases threads, files and buffers; running iterators keep theirs.

        The next iterator starts new ones. Takes no lock: a finalizer may call it at any point.
        """
        self._reader = self._ahead = None

    def close(self) -> None:
        """Ends the threads and closes the files. Batches that were handed over stay valid."""
        with self._lock:
            self._is_closed = True
            reader, self._reader, self._ahead = self._reader, None, None
        if reader is not None and reader.pid == os.getpid():
            reader.close()


def _cancel(epoch: EpochReader | None) -> None:
    """Cancels what is being read of an epoch; its threads do not cross a fork."""
    if epoch is not None and epoch.reader.pid == os.getpid():
        epoch.cancel()
