"""`VideoLoader`: which samples come when, as batches, and where in that to go on."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, StateError
from .opening import Names, Paths, open_video_set
from .reading.batch import EpochPlan
from .reading.buffers import keep_freed_blocks
from .reading.fingerprint import check_fingerprint, describe_set, digest
from .reading.memory_budget import small_samples_budget, split_budget
from .reading.prefetcher import Bundle, LoaderStats, Prefetcher
from .samplers import (
    BlockShuffleSampler,
    Sampler,
    SequentialSampler,
    ShuffleSampler,
    WeightedSampler,
    checked_positions,
    earlier_uses,
    sample_seeds,
)
from .sampling.clips import Clip
from .sampling.sharding import replica_shard
from .splits import SplitBy, check_split, is_one_of, split_set
from .video_set import VideoSet

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation

    from .tfdata.timestamps import Timestamps

# shuffle="blocks" mixes the samples of as many blocks as hold these many bytes, or of these many.
MIXED_BYTES = 64 << 20
MIN_BLOCKS_MIXED = 4

# Single samples (batch_size=None) are read in batches of about this many bytes.
SINGLES_BYTES = 8 << 20
MAX_SINGLES = 64

# Of what `state_dict` returns.
STATE_VERSION = 1

# Groups of batches of which it is known when they were handed over: more than a minute's.
NUM_HAND_OVERS = 4096


class HandOver(NamedTuple):
    """When a group of batches was given to TensorFlow, in seconds since 1970."""

    asked: float
    waited: float
    """Seconds from then on that it was waited for, until it was read."""
    given: float


class VideoLoader:
    """The object behind `video_dataset_from_hdf5`, for those who need more than its dataset.

    It takes the same arguments, see there, but `subset="both"`. Iterating over it gives the batches
    of an epoch as NumPy arrays, without TensorFlow; `dataset()` gives a `tf.data.Dataset`.

    Every iterator of either is one epoch: the next one, unless `set_epoch` said which. It takes it
    when it is asked for its first element. The epoch ends with it, however that ends: at the last
    batch, by `break`, `take(k)` or an error, or dropped. An iterator of `dataset.repeat()` takes an
    epoch for each repetition, when the stage behind `repeat` asks for it.

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
        device: As given.
        skips_failed: Whether samples that cannot be read are left out.
        input_context: As given.
        hand_overs: When groups of batches were given to TensorFlow, the last ones.
        stamps: When its datasets were asked for their last elements, and gave them; None before
            there is a dataset.
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
        check_split(validation_split, subset, split_by, shuffle is not False, seed)
        if not is_one_of(on_error, "raise", "skip"):
            raise ArgumentError(f'`on_error` must be "raise" or "skip". Received: {on_error!r}')
        if subset == "both":
            raise ArgumentError(
                'A loader is one side of the split. Received: subset="both", which '
                "video_dataset_from_hdf5 takes"
            )
        self.skips_failed = on_error == "skip"
        if isinstance(path, VideoSet):
            self._set = path
        else:
            # A sample that cannot be read is left out one by one, not with its whole dataset.
            budget = 0 if self.skips_failed else small_samples_budget(read_ahead_bytes)
            self._set = open_video_set(path, x, y, sample_weight, clip, budget_nbytes=budget)
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
        self.input_context = input_context
        self._share = replica_shard(input_context, batch_size)
        in_drawn_order = shuffle is not False and isinstance(shuffle, (bool, str)) and seed is None
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
            max(1, SINGLES_BYTES // self._set.sample_nbytes), MAX_SINGLES, self.samples_per_epoch
        )
        _, ends = self._cut_epoch(self.samples_per_epoch)
        sizes = np.unique(np.diff(ends, prepend=0))
        is_static = len(sizes) == 1 and not self.skips_failed
        self.static_batch_size = int(sizes[0]) if is_static else None
        self.num_elements = len(ends)
        self.steps_per_epoch = self.samples_per_epoch if batch_size is None else self.num_elements

        memory = split_budget(
            self._set, int(sizes[-1]), len(ends), read_ahead_bytes, self.num_threads
        )
        if isinstance(self._sampler, BlockShuffleSampler) and self._sampler is not shuffle:
            # What a window needs is kept in any case.
            needed = self._sampler.samples_per_window
            memory = replace(memory, cached_items=max(needed, memory.cached_items))
        self._feed = Prefetcher(
            self._set,
            memory,
            batch_size=int(sizes[-1]),
            num_threads=self.num_threads,
            skips_failed=self.skips_failed,
        )
        self.hand_overs: deque[HandOver] = deque(maxlen=NUM_HAND_OVERS)
        self.stamps: Timestamps | None = None
        self._set_fingerprint: dict[str, Any] | None = None
        self._order_digest = (-1, "")

    @property
    def is_first_worker(self) -> bool:
        """Whether it is the first of several workers, or the only one."""
        return self._share.first == 0

    @property
    def video_set(self) -> VideoSet:
        """The files and datasets that it reads."""
        return self._set

    def _make_sampler(self, shuffle: bool | str | Sampler) -> Sampler:
        if shuffle is True or is_one_of(shuffle, "exact"):
            return ShuffleSampler(self.num_samples, seed=self.seed)
        if shuffle is False:
            return SequentialSampler(self.num_samples)
        if isinstance(shuffle, str) and shuffle == "blocks":
            blocks, nbytes = self._set.chunk_rows()
            window = max(MIN_BLOCKS_MIXED, MIXED_BYTES // nbytes)
            return BlockShuffleSampler(blocks[self.sample_indices], window=window, seed=self.seed)
        if isinstance(shuffle, WeightedSampler) and len(shuffle.weights) != self.num_samples:
            raise ArgumentError(
                "`shuffle`: a sampler by weights or labels needs one for each sample of the "
                f"loader, which has {self.num_samples}; of one side of a split, those of its "
                f"`sample_indices`. Received: {type(shuffle).__name__} with {len(shuffle.weights)}"
            )
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
    def stats(self) -> LoaderStats:
        """What feeding cost so far: a copy, which does not change any more."""
        return self._feed.stats

    @property
    def skipped(self) -> dict[int, str]:
        """With `on_error="skip"`, the numbers of the samples that were left out, and why."""
        return self._feed.skipped

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iterator that epoch, from its beginning; those after it follow on.

        Args:
            epoch: Number of the epoch, from 0.
        """
        _check_at_least("epoch", epoch, 0)
        self._feed.seek(epoch)

    def state_dict(self, *, epoch: int, step: int) -> dict[str, Any]:
        """What `load_state_dict` takes, here or in another process, to go on from a position.

        The loader cannot see how many of the batches that it handed over were used: some wait in
        the pipeline's prefetch stages. Its caller can. With `on_error="skip"`, batches of which no
        sample could be read were not handed over, but count here.

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
        """Makes the next iterator go on from a position: the samples that were not used yet.

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
        # Read with another seed, or from the epoch's beginning.
        self._feed.forget_ahead()
        self._feed.seek(epoch, used)

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

    def batch_indices(self, *, epoch: int, step: int) -> NDArray[np.int64]:
        """Which samples a batch holds, such as one on which a map function failed.

        Args:
            epoch: Number of the epoch, from 0, not one that went on from a saved position.
            step: Number of the batch in it, from 0; with an `input_context`, of this worker's
                element.

        Returns:
            int64 (batch,), their numbers in the set, in the order of the batch. With
            `on_error="skip"`, some of them may have been left out.
        """
        _check_at_least("epoch", epoch, 0)
        _check_at_least("step", step, 0)
        plan = self._plan_epoch(epoch, 0)
        if step >= len(plan.stops):
            raise ArgumentError(
                f"`step` must be below {len(plan.stops)}, the batches of an epoch. Received: {step}"
            )
        begin = plan.stops[step - 1] if step else 0
        return plan.order[begin : plan.stops[step]]

    def dataset(self) -> tf.data.Dataset:
        """A `tf.data.Dataset` of the elements, with the map functions applied and prefetched."""
        from .tfdata.pipeline import make_dataset

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
        return self._feed.memory.batches_per_bundle

    def element_groups(self, *, with_seeds: bool) -> Iterator[Any]:
        """The batches of the next epoch as elements, group by group.

        Args:
            with_seeds: Whether each is a pair of the element and its samples' seeds, int32
                (batch, 2).

        Yields:
            (bounds, element): int64 (batches, 2), where each batch begins and ends; and what would
            be an element if all of them were one batch.
        """
        if self.batch_size is None and self._feed.used:
            raise StateError(
                "A dataset of single samples (batch_size=None) goes on at the beginning of an "
                f"epoch only. Received: a state with {self._feed.used} samples used"
            )
        if any(column.is_decoded for column in self._set.components):
            keep_freed_blocks()
        asked = time.time()
        for group in self._feed.bundles(self._plan_epoch):
            batch = group.batch
            bounds = np.stack([np.append(0, batch.stops[:-1]), batch.stops], axis=1)
            element = self._set.build(batch.arrays.__getitem__)
            if with_seeds:
                seeds = sample_seeds(self.seed, group.epoch, batch.indices, batch.earlier)
                element = element, seeds
            self.hand_overs.append(HandOver(asked, group.waited, time.time()))
            yield bounds, element
            # The buffers go back when nobody holds them, this frame included.
            del group, batch, element
            asked = time.time()

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
        for group in self._feed.bundles(self._plan_epoch):
            for indices, arrays in _batches_of(group):
                yield group.epoch, indices, arrays
                del indices, arrays
            del group

    def _plan_epoch(self, epoch: int, used: int) -> EpochPlan:
        """What an epoch reads, but for the samples that come first in it and were used already."""
        positions, ends = self._cut_epoch(self.samples_per_epoch - used)
        whole = self.sample_indices[self._positions(epoch)]
        order, earlier = whole[used:][positions], earlier_uses(whole)
        if earlier is not None:
            earlier = earlier[used:][positions]
        firsts = self._set.first_frames(self.seed, epoch, order, earlier)
        return EpochPlan(epoch, order, ends, self._feed.memory.batches_per_bundle, firsts, earlier)

    def release(self) -> None:
        """Lets go of threads, files and buffers; iterators that run keep theirs.

        The next iterator starts new ones. Takes no lock: a finalizer may call it at any point.
        """
        self._feed.release()

    def close(self) -> None:
        """Ends the threads and closes the files. Batches that were handed over stay valid."""
        self._feed.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "A VideoLoader holds threads and open files, and cannot be copied or sent to another "
            "process: make it anew there, with the same arguments and seed."
        )

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _batches_of(group: Bundle) -> Iterator[tuple[NDArray[np.int64], list[NDArray[Any]]]]:
    """The samples' numbers and the arrays of each batch of a group."""
    batch = group.batch
    for begin, end in itertools.pairwise([0, *batch.stops.tolist()]):
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


def function_name(function: Callable[..., Any]) -> str:
    """What people call a map function."""
    function = getattr(function, "func", function)  # of a functools.partial
    return str(getattr(function, "__name__", type(function).__name__))


def _check_at_least(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ArgumentError(
            f"`{name}` must be a whole number, {least} or more. Received: {name}={value!r}"
        )
