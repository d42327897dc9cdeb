"""`VideoLoader`: epochs, their order, the window of batches read ahead, and statistics."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .clips import Clip
from .columns import Names, Paths, VideoSet, open_video_set
from .errors import ArgumentError, ClosedError, StateError
from .memory import share_out
from .reader import EpochPlan, EpochReader, PendingBatch, Reader
from .samplers import (
    BlockShuffleSampler,
    Sampler,
    SequentialSampler,
    ShuffleSampler,
    checked_positions,
    sample_seeds,
)
from .sharding import share_of
from .sources import ReadStats
from .state import check_fingerprint, describe_set, digest
from .subsets import SplitBy, check_split, split_set

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation

# shuffle="blocks" mixes the samples of as many blocks as hold these many bytes, or of these many.
MIXED_BYTES = 64 << 20
MIN_BLOCKS_MIXED = 4

# Single samples (batch_size=None) are read in batches of about this many bytes.
SINGLES_BYTES = 8 << 20
MAX_SINGLES = 64


_log = logging.getLogger(__name__)

# Of what `state_dict` returns.
STATE_VERSION = 1


@dataclass
class FeedStats(ReadStats):
    """What feeding cost since the loader was made: seconds, bytes and counts."""

    wait_seconds: float = 0.0
    """Time that whoever takes the batches waited for one to be read."""
    delivered_bytes: int = 0
    """Bytes of the batches handed over."""
    num_batches: int = 0
    num_samples: int = 0


class VideoLoader:
    """The object behind `video_dataset_from_hdf5`, for those who need more than its dataset.

    It takes the same arguments, see there, but `subset="both"`. Iterating over it gives the batches
    of an epoch as NumPy arrays, without TensorFlow; `dataset()` gives a `tf.data.Dataset`. Every
    `iter()` of either is the next epoch, unless `set_epoch` said which.

    Several iterators may run at once, each in a thread of its own. The threads that read start with
    the first iterator; they end when the loader is closed, or collected together with its datasets.
    After a fork, the child starts threads of its own. As a context manager, it closes itself.

    Attributes:
        sample_indices: int64 (num_samples,), the numbers of its samples in the set, ascending.
        num_samples: How many those are.
        steps_per_epoch: Elements of an epoch: batches, or samples if `batch_size` is None. With an
            `input_context`, this worker's elements: one for each of its replicas and global batch.
        num_elements: Batches of an epoch that are handed to TensorFlow; it makes single samples of
            them if `batch_size` is None.
        seed: The seed in use; drawn at random if none was given.
        samples_per_epoch: Samples of an epoch, of all workers.
        batch_size: As given.
        global_batch_size: Samples of a batch, of all workers; if `batch_size` is None, of what is
            read together.
        drop_remainder: Whether a last batch that is not whole is left out.
        static_batch_size: The size of all batches, or None if the last one is smaller.
        map_fns: The map functions.
        num_threads: Threads that read and decode.
        skipped: With `on_error="skip"`, the numbers of the samples that were left out, and why.
        input_context: As given.
    """

    def __init__(
        self,
        path: Paths | VideoSet,
        *,
        x: Names = "X",
        y: Names | None = "Y",
        sample_weight: str | None = None,
        batch_size: int | None = 32,
        shuffle: bool | str | Sampler = True,
        seed: int | None = None,
        validation_split: float | None = None,
        subset: str | None = None,
        split_by: SplitBy = None,
        clip: Clip | None = None,
        map_fn: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        drop_remainder: bool = False,
        on_error: str = "raise",
        read_ahead_bytes: int | None = None,
        num_threads: int | None = None,
        input_context: tf.distribute.InputContext | None = None,
        device: str | None = None,
    ) -> None:
        _check_at_least("batch_size", batch_size, 1)
        _check_at_least("seed", seed, 0)
        _check_at_least("read_ahead_bytes", read_ahead_bytes, 0)
        _check_at_least("num_threads", num_threads, 1)
        check_split(validation_split, subset, split_by, bool(shuffle), seed)
        if on_error not in ("raise", "skip"):
            raise ArgumentError(f'`on_error` must be "raise" or "skip". Received: {on_error!r}')
        if subset == "both":
            raise ArgumentError(
                'A loader is one side of the split. Received: subset="both", which '
                "video_dataset_from_hdf5 takes"
            )
        self._set = (
            path if isinstance(path, VideoSet) else open_video_set(path, x, y, sample_weight, clip)
        )
        if validation_split is None:
            self.sample_indices = np.arange(self._set.num_samples, dtype=np.int64)
        else:
            training, validation = split_set(self._set, validation_split, seed, split_by)
            self.sample_indices = training if subset == "training" else validation
        self.num_samples = len(self.sample_indices)
        self.seed = secrets.randbits(32) if seed is None else seed
        self.batch_size = batch_size
        self.map_fns = as_functions(map_fn)
        self.num_threads = num_threads or len(os.sched_getaffinity(0))
        self.device = device
        self._skips_failed = on_error == "skip"
        self.skipped: dict[int, str] = {}
        self.input_context = input_context
        self._share = share_of(input_context, batch_size)
        in_drawn_order = shuffle and isinstance(shuffle, (bool, str)) and seed is None
        if in_drawn_order and self._share.is_one_of_several:
            raise ArgumentError(
                "Workers divide the batches of one order: `seed` must be given, the same on all of "
                "them. Received: seed=None with an input_context of several workers"
            )

        self._shuffle = shuffle
        self._is_seed_given = seed is not None
        self._sampler = self._make_sampler(shuffle)
        self.samples_per_epoch = (
            self.num_samples
            if self._sampler is not shuffle  # one of ours, over all samples
            else len(checked_positions(self._sampler, 0, self.num_samples))
        )
        self.drop_remainder = drop_remainder and batch_size is not None
        if self.drop_remainder and batch_size is not None and batch_size > self.samples_per_epoch:
            raise ArgumentError(
                "drop_remainder=True leaves no batch at all. Received: "
                f"batch_size={batch_size} for {self.samples_per_epoch} samples"
            )
        self.global_batch_size = batch_size or min(
            max(1, SINGLES_BYTES // self._set.row_nbytes), MAX_SINGLES, self.samples_per_epoch
        )
        _, ends = self._cut_epoch(self.samples_per_epoch)
        sizes = np.unique(np.diff(ends, prepend=0))
        is_static = len(sizes) == 1 and not self._skips_failed
        self.static_batch_size = int(sizes[0]) if is_static else None
        self.num_elements = len(ends)
        self.steps_per_epoch = self.samples_per_epoch if batch_size is None else self.num_elements

        self._memory = share_out(
            self._set, int(sizes[-1]), len(ends), read_ahead_bytes, self.num_threads
        )
        self._largest_group = int(sizes[-1]) * self._memory.group

        if isinstance(self._sampler, BlockShuffleSampler) and self._sampler is not shuffle:
            # What a window needs is kept in any case, and the eighth that is not for keeping.
            needed = -(-self._sampler.samples_per_window * 8 // 7)
            self._memory = replace(
                self._memory, kept_samples=max(needed, self._memory.kept_samples)
            )

        self._lock = threading.Lock()
        self._next_epoch = 0
        # Where to go on in an epoch that was begun elsewhere: its number, and samples used.
        self._resume: tuple[int, int] | None = None
        self._has_ended_early = False
        self._set_fingerprint: dict[str, Any] | None = None
        self._order_digest = (-1, "")
        self._stats = FeedStats()
        self._reader: Reader | None = None
        # The next epoch, whose first batches were read at the end of the one before.
        self._ahead: EpochReader | None = None
        self._is_closed = False

    @property
    def is_first_worker(self) -> bool:
        """Whether it is the first of several workers, or the only one."""
        return self._share.first == 0

    @property
    def video_set(self) -> VideoSet:
        """The files and datasets that it reads."""
        return self._set

    def _make_sampler(self, shuffle: bool | str | Sampler) -> Sampler:
        if shuffle is True or shuffle == "exact":
            return ShuffleSampler(self.num_samples, seed=self.seed)
        if shuffle is False:
            return SequentialSampler(self.num_samples)
        if isinstance(shuffle, str) and shuffle == "blocks":
            blocks, nbytes = self._set.blocks()
            window = max(MIN_BLOCKS_MIXED, MIXED_BYTES // nbytes)
            return BlockShuffleSampler(blocks[self.sample_indices], window=window, seed=self.seed)
        if isinstance(shuffle, Sampler) and not isinstance(shuffle, type):
            return shuffle
        raise ArgumentError(
            '`shuffle` must be True, "exact", "blocks", False, or a Sampler, an object with a '
            f"method `epoch`. Received: shuffle={shuffle!r}"
        )

    def _cut_epoch(self, num_samples: int) -> tuple[NDArray[np.int64] | slice, NDArray[np.int64]]:
        """This worker's positions in the order of an epoch of so many samples, and their ends."""
        return self._share.cut(
            num_samples, self.global_batch_size, drop_remainder=self.drop_remainder
        )

    @property
    def stats(self) -> FeedStats:
        """What feeding cost so far: a copy, which does not change any more."""
        with self._lock:
            return copy.copy(self._stats)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next `iter()` that epoch, from its beginning; those after it follow on.

        Args:
            epoch: Number of the epoch, from 0.
        """
        _check_at_least("epoch", epoch, 0)
        with self._lock:
            self._next_epoch = epoch
            self._resume = None
            self._has_ended_early = False

    def state_dict(self, *, epoch: int, step: int) -> dict[str, Any]:
        """What `load_state_dict` takes, here or in another process, to go on from a position.

        The loader cannot see how many of the batches that it handed over were used: some wait in
        the pipeline's prefetch stages. Its caller can.

        Args:
            epoch: Number of the epoch, from 0.
            step: How many (global) batches of that epoch were used; samples, if `batch_size` is
                None.

        Returns:
            A small dict that can be written as JSON. It holds for any number of workers and any
            `batch_size`, and wherever the files lie; but not for other samples, another split or
            another order, of which it has a fingerprint.
        """
        _check_at_least("step", step, 0)
        return self.state_at(
            epoch=epoch, samples=step * (1 if self.batch_size is None else self.global_batch_size)
        )

    def state_at(self, *, epoch: int, samples: int) -> dict[str, Any]:
        """The same as `state_dict`, by the number of samples of the epoch that were used."""
        _check_at_least("epoch", epoch, 0)
        _check_at_least("samples", samples, 0)
        left = max(0, self.samples_per_epoch - samples)
        if not len(self._cut_epoch(left)[1]):
            epoch, samples = epoch + 1, 0
        return {
            "version": STATE_VERSION,
            "epoch": epoch,
            "samples": samples,
            "seed": self.seed,
            "fingerprint": self._fingerprint(epoch),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next `iter()` go on from a position: the samples that were not used yet.

        If no seed was given to this loader, it takes that of the state.

        Args:
            state: What `state_dict` returned.

        Raises:
            StateError: It was saved over other data, another split or another order.
        """
        try:
            version, epoch, used = (int(state[key]) for key in ("version", "epoch", "samples"))
            seed, fingerprint = int(state["seed"]), dict(state["fingerprint"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"`state` must be what `state_dict` returned. Received: {state!r}"
            ) from error
        if version != STATE_VERSION or epoch < 0 or used < 0:
            raise StateError(
                f"`state` must be of version {STATE_VERSION}, with an epoch and a number of "
                f"samples from 0. Received: {version}, {epoch}, {used}"
            )
        if not self._is_seed_given and seed != self.seed:
            self.seed = seed
            self._sampler = self._make_sampler(self._shuffle)
        check_fingerprint(fingerprint, self._fingerprint(epoch))
        with self._lock:
            self._next_epoch = epoch
            self._resume = (epoch, used) if used else None
            self._has_ended_early = False
            # Read with another seed, or from the epoch's beginning.
            ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.reader.pid == os.getpid():
            ahead.cancel()

    def _fingerprint(self, epoch: int) -> dict[str, Any]:
        """What tells this loader's data, split and order of an epoch from others."""
        if self._set_fingerprint is None:
            self._set_fingerprint = {
                **describe_set(self._set),
                "split": digest(self.sample_indices),
            }
        number, order = self._order_digest
        if number != epoch:
            order = digest(self._positions(epoch))
            self._order_digest = (epoch, order)
        return {**self._set_fingerprint, "order": order}

    def _positions(self, epoch: int) -> NDArray[np.int64]:
        """The order of an epoch, as positions in `sample_indices`."""
        return checked_positions(self._sampler, epoch, self.num_samples, self.samples_per_epoch)

    def dataset(self) -> tf.data.Dataset:
        """A `tf.data.Dataset` of the elements, with the map functions applied and prefetched."""
        from .dataset import make_dataset

        return make_dataset(self)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        """The elements of the next epoch, without the map functions, as NumPy arrays."""
        for _, _, arrays in self.batches():
            if self.batch_size is not None:
                yield self._set.build(arrays.__getitem__)
                continue
            for row in range(len(arrays[0])):
                yield self._set.build([array[row] for array in arrays].__getitem__)

    @property
    def batches_per_group(self) -> int:
        """How many batches are read, and handed to TensorFlow, together."""
        return self._memory.group

    def element_groups(self, *, with_seeds: bool) -> Iterator[Any]:
        """The batches of the next epoch as elements, group by group.

        Args:
            with_seeds: Whether each is a pair of the element and its samples' seeds, int32
                (batch, 2).

        Yields:
            (count, element, element, ...): how many elements there are, and `batches_per_group`
            elements, of which those beyond `count` are to be dropped.
        """
        if self._has_ended_early:
            # The pipeline asks what comes after an epoch that had fewer elements than it knows of.
            self._has_ended_early = False
            return
        if self.batch_size is None and self._resume is not None:
            raise StateError(
                "A dataset of single samples (batch_size=None) goes on at the beginning of an "
                f"epoch only. Received: a state with {self._resume[1]} samples used"
            )
        num_elements = 0
        for epoch, batch in self._groups():
            elements = []
            for indices, arrays in _elements_of(batch):
                element = self._set.build(arrays.__getitem__)
                seeds = sample_seeds(self.seed, epoch, indices) if with_seeds else None
                elements.append((element, seeds) if with_seeds else element)
            count = len(elements)
            num_elements += count
            yield count, *elements, *elements[:1] * (self.batches_per_group - count)
        self._has_ended_early = num_elements < self.num_elements

    def batches(self) -> Iterator[tuple[int, NDArray[np.int64], list[NDArray[Any]]]]:
        """The batches of the next epoch, column by column.

        Yields:
            The epoch's number, the samples' numbers (batch,), and an array for each column. The
            arrays are the caller's for as long as he holds them, or a view of them.

        Raises:
            ClosedError: The loader is closed.
            SamplerError: The sampler broke its promise.
            ReadError: A sample cannot be read, or a file has changed.
        """
        for epoch, batch in self._groups():
            for indices, arrays in _elements_of(batch):
                yield epoch, indices, arrays

    def _groups(self) -> Iterator[tuple[int, PendingBatch]]:
        """The next epoch's number and its groups, read."""
        current = self._next_epoch_reader()
        following: EpochReader | None = None
        is_following_known = False
        window = self._memory.window
        try:
            current.fill(window)
            while (batch := current.take()) is not None:
                if current.reader.pid != os.getpid():
                    raise ClosedError("Threads do not cross a fork: iterate anew in the child.")
                if self._is_closed:
                    raise ClosedError("The loader was closed while it was iterated.")
                self._wait(batch)
                if batch.failed:
                    self._report(batch.failed)
                    batch = batch.without_failed()
                current.fill(window)
                if len(current) < window and not is_following_known:
                    # The epoch draws to its end: the threads go on with the next one.
                    is_following_known = True
                    following = self._epoch_reader_or_none(current.reader, self._next_epoch)
                if following is not None:
                    following.fill(window - len(current))
                if not len(current):
                    # Nobody may ask for what comes after the last group.
                    following = self._keep_ahead(current, following)
                if len(batch.indices):
                    yield current.plan.number, batch
                # The buffers go back when nobody holds them, this frame included.
                del batch
            if self._reader is None:  # released at this very moment
                self._ahead = None
        except (CancelledError, RuntimeError) as error:
            if self._is_closed:
                raise ClosedError("The loader was closed while it was iterated.") from error
            raise
        finally:
            for reader in (current, following):
                if reader is not None and reader.reader.pid == os.getpid():
                    reader.cancel()

    def _keep_ahead(
        self, current: EpochReader, following: EpochReader | None
    ) -> EpochReader | None:
        """Keeps what was read of the next epoch for its turn; returns what is to be cancelled."""
        with self._lock:
            # Unless it was closed or released, or another iterator had that epoch meanwhile.
            if (
                following is not None
                and following.plan.number == self._next_epoch
                and self._resume is None
                and self._reader is current.reader
            ):
                self._ahead, following = following, self._ahead
        return following

    def _next_epoch_reader(self) -> EpochReader:
        """What reads the next epoch: it may have begun at the end of the one before."""
        reader = self._open_reader()
        with self._lock:
            epoch = self._next_epoch
            self._next_epoch += 1
            used = self._resume[1] if self._resume and self._resume[0] == epoch else 0
            self._resume = None
            ahead, self._ahead = self._ahead, None
        if ahead is not None and (ahead.plan.number != epoch or ahead.reader is not reader or used):
            if ahead.reader.pid == os.getpid():
                ahead.cancel()
            ahead = None
        reader.check_files()
        return self._epoch_reader(reader, epoch, used) if ahead is None else ahead

    def _epoch_reader_or_none(self, reader: Reader, epoch: int) -> EpochReader | None:
        """The same, but an error of the sampler waits until it is that epoch's turn."""
        try:
            return self._epoch_reader(reader, epoch)
        except Exception:
            return None

    def _epoch_reader(self, reader: Reader, epoch: int, used: int = 0) -> EpochReader:
        """What reads an epoch, but for the samples that come first in it and were used already."""
        positions, ends = self._cut_epoch(self.samples_per_epoch - used)
        order = self.sample_indices[self._positions(epoch)[used:][positions]]
        firsts = self._set.first_frames(self.seed, epoch, order)
        return reader.epoch(EpochPlan(epoch, order, ends, self._memory.group, firsts))

    def _wait(self, batch: PendingBatch) -> None:
        begin = time.perf_counter()
        cost = batch.wait()
        waited = time.perf_counter() - begin
        with self._lock:
            self._stats.add(cost)
            self._stats.wait_seconds += waited
            self._stats.delivered_bytes += sum(array.nbytes for array in batch.arrays)
            self._stats.num_batches += len(batch.ends)
            self._stats.num_samples += len(batch.indices)

    def _report(self, failed: Mapping[int, str]) -> None:
        """Takes note of samples that are left out, and logs those that are new."""
        for sample, reason in sorted(failed.items()):
            if sample not in self.skipped:
                self.skipped[sample] = reason
                _log.warning("Sample %d is skipped: %s", sample, reason)

    def _open_reader(self) -> Reader:
        with self._lock:
            if self._is_closed:
                raise ClosedError("The loader is closed and cannot be iterated any more.")
            reader = self._reader  # which `release` may set to None at any time
            if reader is None or reader.pid != os.getpid():
                reader = self._reader = Reader(
                    self._set,
                    num_threads=self.num_threads,
                    batch_size=self._largest_group,
                    max_kept=self._memory.reserve,
                    kept_samples=self._memory.kept_samples,
                    tasks_per_batch=-(-self.num_threads // self._memory.window),
                    skips_failed=self._skips_failed,
                )
            return reader

    def release(self) -> None:
        """Lets go of threads, files and buffers; iterators that run keep theirs.

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

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _elements_of(
    batch: PendingBatch,
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[Any]]]]:
    """The samples' numbers and the arrays of each element of a group."""
    for begin, end in itertools.pairwise([0, *batch.ends.tolist()]):
        yield batch.indices[begin:end], [array[begin:end] for array in batch.arrays]


def as_functions(
    map_fn: Callable[..., Any] | Sequence[Callable[..., Any]] | None,
) -> tuple[Callable[..., Any], ...]:
    """What `map_fn` stands for: no function, one, or several."""
    if map_fn is None:
        return ()
    functions = (map_fn,) if callable(map_fn) or not isinstance(map_fn, Iterable) else (*map_fn,)
    for function in functions:
        if not callable(function):
            raise ArgumentError(
                f"`map_fn` must be a function or a list of functions. Received: {function!r}"
            )
    return functions


def _check_at_least(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ArgumentError(
            f"`{name}` must be a whole number, {least} or more. Received: {name}={value!r}"
        )
