"""`VideoLoader`: which samples come when, as batches, and where in that to go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import check_whole_number, is_whole_number
from .element_form import Element, ElementForm
from .epoch_order import EpochOrder
from .errors import ArgumentError, StateError
from .open_set import Recording, open_set
from .opening import Paths, reusable
from .options import LoaderArguments, LoaderOptions, Side, lists_options, options_of
from .reading.batch import EpochPlan
from .reading.byte_sources import default_num_threads
from .reading.fingerprint import SavedState, check_fingerprint, make_state, read_state
from .reading.memory_budget import split_budget
from .reading.pinned_memory import CudaError
from .reading.prefetcher import Bundle, LoaderStats, Prefetcher
from .sampling.split_indices import chosen_samples
from .splits import class_counts
from .storage.external import allowing_external
from .summary import Described, NotAnArray, reading_rows
from .video_set import Place, VideoSet

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation
    from typing_extensions import Unpack

    from .tfdata.timestamps import Timestamps

    class VideoDataset(tf.data.Dataset):  # type: ignore[misc]
        """The `tf.data.Dataset` that a loader makes, for type checkers alone."""

        loader: VideoLoader
        """The loader behind it."""
        class_names: list[str]
        """The names of the classes of y, or the attribute of the files; missing if neither."""


class VideoLoader(Described, NotAnArray):
    """The object behind `video_dataset_from_hdf5`, for more control than its dataset gives.

    It takes the same arguments, except `subset="both"`. Iterating over it gives the batches of an
    epoch as NumPy arrays, without TensorFlow; `loader[i]` reads batch i of the epoch that comes
    next; `dataset()` gives a `tf.data.Dataset`.

    Each iterator of either is one epoch: the next one, unless `set_epoch` or `load_state_dict` set
    another. The epoch is assigned when the iterator is asked for its first element, and ends with
    the iterator: at the last batch, by `break`, `take(k)` or an error, or when it is deleted. An
    iterator of `dataset.repeat()` begins an epoch for each repetition, when the stage behind
    `repeat` asks for it.

    Several iterators may run at once, each in its own thread. The reading threads start with the
    first iterator, and end when the loader is closed, or collected together with its datasets.
    After a fork, the child process starts its own. As a context manager, the loader closes itself.

    Attributes:
        sample_indices: int64 (num_samples,), read-only, the numbers of its samples in the set,
            ascending; with `indices`, in their order.
        num_samples: Number of its samples.
        samples_per_epoch: Samples of an epoch, over all workers; a sampler may draw more or fewer
            than `num_samples`.
        steps_per_epoch: Elements of an epoch: batches, or samples if `batch_size` is None. With an
            `input_context`, this worker's elements: one for each of its replicas and global batch.
        batch_size: The argument.
        class_names: The names of the classes of y, a list, or a dict by the keys of y; or the
            attribute of the files; None: neither.
        global_batch_size: Samples of a batch, over all workers; without `batch_size`, of a read.
    """

    @lists_options
    def __init__(
        self, path: Paths, *, subset: Side | None = None, **options: Unpack[LoaderArguments]
    ) -> None:
        checked = options_of("VideoLoader.__init__", {"subset": subset, **options})
        checked.check_one_side()
        path = reusable(path)
        self._init(path, open_set(path, checked), checked)

    @classmethod
    def _of_set(
        cls, path: Paths, video_set: VideoSet, options: LoaderOptions, drawn_seed: int | None = None
    ) -> VideoLoader:
        """Returns a loader of an open set; the options that `open_set` takes have no effect."""
        loader = cls.__new__(cls)
        loader._init(path, video_set, options, drawn_seed)
        return loader

    def _init(
        self, path: Paths, video_set: VideoSet, options: LoaderOptions, drawn: int | None = None
    ) -> None:
        self._path = path
        self._set = video_set
        self._options = options
        self._form = ElementForm(video_set, options)
        with allowing_external(options.allow_external):  # ids of a split may be behind a link
            self._order = order = EpochOrder(video_set, options, drawn)
        self.sample_indices = order.sample_indices
        self.num_samples = len(order.sample_indices)
        self.samples_per_epoch = order.samples_per_epoch
        self.batch_size = options.batch_size
        self.class_names = self._form.class_names
        self.global_batch_size = order.global_batch_size
        self.steps_per_epoch = order.steps_per_epoch
        self._num_threads = options.num_threads or default_num_threads(video_set.paths)
        memory = split_budget(
            video_set, order.max_batch_size, order.num_batches, options.read_ahead_bytes,
            self._num_threads, min_cached_items=order.min_cached_items,
        )  # fmt: skip
        self._feed = Prefetcher(
            video_set,
            memory,
            batch_size=order.max_batch_size,
            num_threads=self._num_threads,
            skips_failed=options.on_error == "skip",
        )
        if options.pin_memory:
            try:
                self._feed.pin_buffers(0)
            except CudaError as error:
                text = f"`pin_memory=True` needs a GPU of NVIDIA's. Received: {error}"
                raise ArgumentError(text) from error
        self._timestamps: Timestamps | None = None  # of its datasets' pipelines

    @property
    def seed(self) -> int:
        """The seed in use; drawn at random if none was given."""
        return self._order.seed

    @property
    def stats(self) -> LoaderStats:
        """Seconds, bytes and counts of the reading so far: a copy, which does not change."""
        return self._feed.stats

    @property
    def skipped(self) -> dict[int, str]:
        """With `on_error="skip"`, the reason for each sample that was left out, by its number."""
        return self._feed.skipped

    @property
    def skipped_recordings(self) -> list[tuple[Place, int]]:
        """Recordings that are shorter than a window: where each begins, and its number of rows."""
        return self._set.skipped_recordings()

    def describe_samples(self, indices: ArrayLike, *, epoch: int | None = None) -> list[Place]:
        """Returns where samples are: (path, name, row), the lowest of its rows in that dataset.

        Args:
            indices: Integers (n,), numbers of samples, as `sample_indices` and `return_indices`
                give them.
            epoch: Number of the epoch, where windows are drawn anew in each: those of a sample's
                first use in it. None: the lowest rows that can be drawn.
        """
        check_whole_number("epoch", epoch, 0, or_none=True)
        numbers = chosen_samples(indices, self._set.num_samples, repeated=True)
        shifts = None if epoch is None else self._set.shifts(self.seed, epoch, numbers)
        return self._set.places(numbers, shifts)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iterator, from its beginning; later iterators follow on.

        Args:
            epoch: Number of the epoch, from 0.
        """
        check_whole_number("epoch", epoch, 0)
        self._feed.seek(epoch)

    def state_dict(self, *, epoch: int, step: int) -> dict[str, Any]:
        """Returns a position in the order, from which `load_state_dict` goes on, in any process.

        The caller says what it is: the loader cannot see how many of its batches were used, since
        some wait in the pipeline's prefetch stages. With `on_error="skip"`, batches of which no
        sample could be read were not delivered, but count here.

        Args:
            epoch: Number of the epoch, from 0.
            step: Number of (global) batches of that epoch that were used; of samples, if
                `batch_size` is None.

        Returns:
            A small dict that can be written as JSON. It is valid for any number of workers, any
            `batch_size`, and files that were moved; not for other samples, another split or another
            order, of which it has a fingerprint.
        """
        check_whole_number("step", step, 0)
        return self.state_at(
            epoch=epoch, samples=step * (1 if self.batch_size is None else self.global_batch_size)
        )

    def state_at(self, *, epoch: int, samples: int) -> dict[str, Any]:
        """Returns what `state_dict` returns, for a number of samples that were used.

        Args:
            epoch: Number of the epoch, from 0.
            samples: Number of samples of that epoch that were used.
        """
        check_whole_number("epoch", epoch, 0)
        check_whole_number("samples", samples, 0)
        if self._order.is_used_up(samples):
            epoch, samples = epoch + 1, 0
        return make_state(SavedState(epoch, samples, self.seed, self._order.fingerprint(epoch)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has the next iterator go on from a position, with the samples that were not used yet.

        A loader that was given no seed takes that of the state. If its batches are larger, and
        drop_remainder=True leaves none of them, the next epoch comes next.

        Args:
            state: A dict that `state_dict` returned.

        Raises:
            StateError: It is no such dict, or of other data, another split or another order.
        """
        saved = read_state(state)
        self._order.reseed(saved.seed)
        check_fingerprint(saved.fingerprint, self._order.fingerprint(saved.epoch))
        self._feed.forget_ahead()  # it may be of another seed, and is of the epoch's beginning
        if self._order.is_used_up(saved.samples):  # by larger batches than those of the state
            self._feed.seek(saved.epoch + 1)
        else:
            self._feed.seek(saved.epoch, saved.samples)

    def save_index(self, path: str | os.PathLike[str]) -> None:
        """Saves what is read of files to open the set, for the argument `index`.

            loader.save_index("set.h5i")
            h5v.video_dataset_from_hdf5("s3://bucket/set/*.h5", index="set.h5i")

        The files are opened anew. The index has chunk tables and small values, such as labels; no
        credentials. It is valid until a file changes. Of remote files, it has what HDF5 reads, also
        for other machines; on the disk, what was found of recordings (`windows`), for the same
        datasets: not of files that lead to others, nor of encoded pictures.

        Args:
            path: The file to write, which is replaced.

        Raises:
            ArgumentError: There is nothing to save, or the server does not tell versions of a file.
            UnavailableError: The file cannot be written, or the store does not answer.
            H5VideoError: A file cannot be opened any more.
        """
        recording = Recording()
        video_set = open_set(self._path, replace(self._options, index=None), recording)
        VideoLoader._of_set(self._path, video_set, self._options).close()
        recording.save(path)

    def batch_indices(self, *, epoch: int, step: int) -> NDArray[np.int64]:
        """Returns the samples of a batch, such as one on which a map function failed.

        Args:
            epoch: Number of the epoch, from 0; not one that went on from a saved position.
            step: Number of the batch in it, from 0; with an `input_context`, of this worker's
                element.

        Returns:
            int64 (batch,), their numbers in the set, in the order of the batch. With
            `on_error="skip"`, the batch may lack some of them.
        """
        check_whole_number("epoch", epoch, 0)
        check_whole_number("step", step, 0)
        plan = self._plan_epoch(epoch, 0)
        if step >= len(plan.stops):
            raise ArgumentError(
                f"`step` must be below {len(plan.stops)}, the batches of an epoch. Received: {step}"
            )
        return plan.batch(step).order

    def dataset(self) -> VideoDataset:
        """Returns a `tf.data.Dataset` of the elements: with the map functions, and prefetched.

        Its attribute `loader` is this loader; `class_names` are those of y, if they are known.
        """
        from .tfdata.pipeline import make_dataset
        from .tfdata.stream import ElementStream
        from .tfdata.timestamps import Timestamps

        stream = ElementStream(
            options=self._options,
            num_threads=self._num_threads,
            sample_specs=self._form.sample_specs,
            to_element=self._form.build,
            is_decoded=any(item.is_decoded for item in self._set.components),
            num_batches=self._order.num_batches,
            static_batch_size=self._order.static_batch_size,
            num_elements=self._order.num_elements,
            next_epoch=self._next_epoch,
            seeds_of=self._order.seeds_of,
            describe=lambda spec: f"<VideoDataset: {self._form.summary(spec, self.num_samples)}>",
            pin_buffers=self._feed.pin_buffers,
            release=self._feed.release,
        )
        self._timestamps = self._timestamps or Timestamps()
        dataset: VideoDataset = make_dataset(stream, self._timestamps)
        dataset.loader = self
        if self._set.class_names is not None:
            dataset.class_names = list(self._set.class_names)
        return dataset

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Element]:
        """Yields the elements of the next epoch as NumPy arrays, without the map functions."""
        for _, indices, arrays in self.batches():
            yield from self._form.elements(arrays, indices)

    def __getitem__(self, index: int) -> Element:
        """Reads one element of the epoch that comes next, for a look at it.

        It is what that epoch's iterator will give, without the map functions; the iterator still
        begins where it would have, and `stats` do not count it. Each call opens the files anew and
        plans the epoch: to read many elements, iterate.

        Args:
            index: Number of the element, from 0; a negative one counts from the end. With
                `on_error="skip"`, one without a sample that can be read has a number too.

        Raises:
            IndexError: The epoch has no such element.
            TypeError: It is no whole number, such as a slice.
            H5VideoError: As for an iterator.
        """
        if not is_whole_number(index):
            raise TypeError(
                f"loader[i] takes one number: for several elements, iterate. Received: {index!r}"
            )
        plan = self._plan_epoch(*self._feed.position)
        if self.batch_size is None:
            plan = plan.cut_into_samples()
        count = len(plan.stops)
        if not -count <= index < count:
            raise IndexError(
                f"The epoch that comes next has {count} elements. Received: loader[{index}]"
            )
        batch = self._feed.read(plan.batch(index % count))
        return next(self._form.elements(batch.arrays, batch.indices))

    def batches(self) -> Iterator[tuple[int, NDArray[np.int64], list[NDArray[Any]]]]:
        """Yields the batches of the next epoch with their samples' numbers.

        Yields:
            The epoch's number, the samples' numbers, int64 (batch,), and an array for each dataset
            that is read, in the order of x, y and sample_weight. The caller owns the arrays while
            it holds a reference to them, or to a view.

        Raises:
            ClosedError: The loader is closed.
            SamplerError: The sampler returned invalid positions.
            ReadError: A sample cannot be read, or a file has changed.
        """
        for bundle in self._feed.bundles(self._plan_epoch):
            for indices, arrays in bundle.batch.split():
                yield bundle.epoch, indices, arrays
                del indices, arrays
            del bundle

    def _next_epoch(self) -> Iterator[Bundle]:
        """Yields the batches of the next epoch, some at a time, for a dataset."""
        if self.batch_size is None and self._feed.used:
            raise StateError(
                "A dataset of single samples (batch_size=None) can only go on at the beginning of "
                f"an epoch. Received: a state with {self._feed.used} samples used"
            )
        return self._feed.bundles(self._plan_epoch)

    def _plan_epoch(self, epoch: int, used: int) -> EpochPlan:
        """Returns the plan of an epoch, without its first `used` samples."""
        return self._order.plan(
            epoch, used=used, batches_per_bundle=self._feed.memory.batches_per_bundle
        )

    def close(self) -> None:
        """Ends the threads and closes the files. Batches that were delivered stay valid."""
        self._feed.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A VideoLoader holds threads and open files: it cannot be copied or sent to another "
            "process. Create it there, with the same arguments and seed."
        )

    def __repr__(self) -> str:
        spec = self._form.element_spec(self._order.static_batch_size)
        return f"<VideoLoader: {self._form.summary(spec, self.num_samples)}>"

    def _details(self) -> list[tuple[str, str]]:
        """Returns what `str` and a notebook tell beyond `repr`: how it is read, and the classes."""
        counts = class_counts(self._set, self.sample_indices)
        return reading_rows(self._set.components, counts)

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
