"""`EpochOrder`: which samples of a set come when, and in which batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError
from .options import LoaderOptions
from .reading.batch import EpochPlan
from .reading.fingerprint import describe_set, digest
from .reading.prefetcher import Bundle
from .samplers import (
    BalancedSampler,
    BlockShuffleSampler,
    Sampler,
    SequentialSampler,
    ShuffleSampler,
    WeightedSampler,
    checked_positions,
    earlier_uses,
    sample_seeds,
)
from .sampling.sharding import replica_shard
from .sampling.split_indices import chosen_samples, is_whole, squeeze_column
from .splits import label_values, split_set
from .video_set import VideoSet

# shuffle="blocks" mixes the samples of as many blocks as hold these many bytes, or of these many.
MIXED_BYTES = 64 << 20
MIN_BLOCKS_MIXED = 4

# Single samples (batch_size=None) are read in batches of about this many bytes.
SINGLES_BYTES = 8 << 20
MAX_SINGLES = 64


class EpochOrder:
    """The samples of a loader, their order in each epoch, and this worker's batches of it.

    It is a function of the options, the seed and the number of the epoch alone.

    Args:
        video_set: The files.
        options: The loader's arguments.
        drawn_seed: The seed, if the options have none. None: drawn by `draw_seed`.

    Attributes:
        seed: The seed in use; drawn at random if none was given.
        sample_indices: int64 (samples,), read-only, the numbers of the samples in the set,
            ascending; with `indices`, in their order.
        samples_per_epoch: Samples of an epoch, over all workers.
        global_batch_size: Samples of a batch, over all workers; of those that are read together if
            elements are single samples.
        drop_remainder: Whether a smaller last batch is left out.
        num_batches: This worker's batches of an epoch.
        max_batch_size: Samples of this worker's largest batch.
        static_batch_size: Samples of every batch; None if they differ.
        steps_per_epoch: This worker's elements of an epoch: batches, or samples.
        num_elements: The same; None if it is not known, since some samples may be left out.
        is_first_worker: Whether it is the first of several workers, or the only one.

    Raises:
        ArgumentError: An argument does not fit the files, or the other workers.
    """

    def __init__(
        self, video_set: VideoSet, options: LoaderOptions, drawn_seed: int | None = None
    ) -> None:
        self._set = video_set
        self._options = options
        if options.seed is not None:
            self.seed = options.seed
        else:
            self.seed = draw_seed() if drawn_seed is None else drawn_seed
        self._labels: NDArray[Any] | None = None
        self.sample_indices = _sample_indices(video_set, options).view()
        # Others would not follow a change: the fingerprint, the samplers.
        self.sample_indices.flags.writeable = False
        video_set.check_samples(self.sample_indices)
        self._shard = replica_shard(options.input_context, options.batch_size)
        self.is_first_worker = self._shard.first == 0
        if options.is_order_drawn and options.seed is None and self._shard.is_one_of_several:
            raise ArgumentError(
                "Workers divide the batches of one order: `seed` must be given, the same on all of "
                "them. Received: seed=None with an input_context of several workers"
            )
        self.sampler = self._make_sampler()
        self.samples_per_epoch = (
            len(checked_positions(self.sampler, 0, len(self.sample_indices)))
            if self.sampler is options.shuffle
            else len(self.sample_indices)
        )
        self.drop_remainder = options.drop_remainder and options.batch_size is not None
        if self.drop_remainder and (options.batch_size or 0) > self.samples_per_epoch:
            raise ArgumentError(
                "drop_remainder=True leaves no batch at all. Received: "
                f"batch_size={options.batch_size} for {self.samples_per_epoch} samples"
            )
        self.global_batch_size = options.batch_size or min(
            max(1, SINGLES_BYTES // video_set.sample_nbytes), MAX_SINGLES, self.samples_per_epoch
        )
        _, stops = self._cut(self.samples_per_epoch)
        sizes = np.unique(np.diff(stops, prepend=0))
        self.num_batches = len(stops)
        self.max_batch_size = int(sizes[-1])
        is_static = len(sizes) == 1 and options.on_error != "skip"
        self.static_batch_size = self.max_batch_size if is_static else None
        of_batches = options.batch_size is not None
        self.steps_per_epoch = self.num_batches if of_batches else self.samples_per_epoch
        has_length = of_batches or options.on_error != "skip"
        self.num_elements = self.steps_per_epoch if has_length else None
        self._digest = (-1, "")
        self._set_fingerprint: dict[str, Any] | None = None

    @property
    def min_cached_items(self) -> int:
        """Samples that must be cached for later batches, however little memory there is."""
        is_own = self.sampler is self._options.shuffle
        if isinstance(self.sampler, BlockShuffleSampler) and not is_own:
            return self.sampler.samples_per_window
        return 0

    @property
    def _uses_all(self) -> bool:
        """Whether `sample_indices` are the numbers of all samples, in order."""
        return self._options.indices is None and self._options.validation_split is None

    @property
    def _may_repeat(self) -> bool:
        """Whether samples may come several times in an epoch."""
        once = (SequentialSampler, ShuffleSampler, BlockShuffleSampler)
        return self.sampler is self._options.shuffle or not isinstance(self.sampler, once)

    def reseed(self, seed: int) -> None:
        """Takes the orders of another seed, unless a seed was given."""
        if self._options.seed is None and seed != self.seed:
            self.seed = seed
            self.sampler = self._make_sampler()
            self._digest = (-1, "")

    def plan(self, epoch: int, *, used: int, batches_per_bundle: int) -> EpochPlan:
        """Returns the plan of an epoch for this worker.

        Args:
            epoch: Number of the epoch.
            used: Number of samples at its beginning that were used before, and are left out.
            batches_per_bundle: Number of batches that are read together.
        """
        positions, stops = self._cut(self.samples_per_epoch - used)
        whole = self._positions(epoch)
        if not self._uses_all:
            whole = self.sample_indices[whole]
        elif self.sampler is self._options.shuffle:
            whole = whole.copy()  # its array may change
        order = whole[used:][positions]
        earlier = earlier_uses(whole) if self._may_repeat else None
        if earlier is not None:
            earlier = earlier[used:][positions]
        first_frames = self._set.first_frames(self.seed, epoch, order, earlier)
        shifts = self._set.shifts(self.seed, epoch, order, earlier)
        return EpochPlan(epoch, order, stops, batches_per_bundle, first_frames, earlier, shifts)

    def seeds_of(self, bundle: Bundle) -> NDArray[np.int32]:
        """Returns the seeds (samples, 2) of a bundle's samples, for random map functions."""
        batch = bundle.batch
        return sample_seeds(self.seed, bundle.epoch, batch.indices, batch.earlier)

    def is_used_up(self, samples: int) -> bool:
        """Whether no batch is left of an epoch after so many samples."""
        return not len(self._cut(max(0, self.samples_per_epoch - samples))[1])

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """Returns digests that tell the data, the split and the order of an epoch from others."""
        if self._set_fingerprint is None:
            self._set_fingerprint = {
                **describe_set(self._set),
                "split": digest(self.sample_indices),
            }
        return {**self._set_fingerprint, "order": self.digest(epoch)}

    def digest(self, epoch: int) -> str:
        """Returns a digest of an epoch's order."""
        number, found = self._digest
        if number != epoch:
            found = digest(self._positions(epoch))
            self._digest = (epoch, found)
        return found

    def _positions(self, epoch: int) -> NDArray[np.int64]:
        """Returns the order of an epoch, over all workers, as positions in `sample_indices`."""
        return checked_positions(
            self.sampler, epoch, len(self.sample_indices), self.samples_per_epoch
        )

    def _cut(self, num_samples: int) -> tuple[NDArray[np.int64] | slice, NDArray[np.int64]]:
        """Returns this worker's positions in an epoch of so many samples, and its batches' ends."""
        return self._shard.cut(
            num_samples, self.global_batch_size, drop_remainder=self.drop_remainder
        )

    def _make_sampler(self) -> Sampler:
        shuffle, num_samples = self._options.shuffle, len(self.sample_indices)
        if shuffle is False:
            return SequentialSampler(num_samples)
        if isinstance(shuffle, str) and shuffle == "blocks":
            blocks, nbytes = self._set.chunk_rows()
            window = max(MIN_BLOCKS_MIXED, MIXED_BYTES // nbytes)
            return BlockShuffleSampler(blocks[self.sample_indices], window=window, seed=self.seed)
        if isinstance(shuffle, str) and shuffle == "balanced":
            return BalancedSampler(self._own_labels(), seed=self.seed)
        if isinstance(shuffle, (bool, str)):
            return ShuffleSampler(num_samples, seed=self.seed)
        if isinstance(shuffle, WeightedSampler) and len(shuffle.weights) != num_samples:
            raise ArgumentError(
                "`shuffle`: a sampler by weights or labels needs one for each sample of the "
                f"loader, which has {num_samples}; for one side of a split, those of its "
                '`sample_indices`, as shuffle="balanced" takes them. '
                f"Received: {type(shuffle).__name__} with {len(shuffle.weights)}"
            )
        return shuffle

    def _own_labels(self) -> NDArray[Any]:
        """Returns the labels of `sample_indices`, for shuffle="balanced"."""
        if self._labels is None:
            labels = squeeze_column(
                label_values(
                    self._set,
                    'shuffle="balanced"',
                    "Or pass a BalancedSampler with your own labels.",
                )
            )
            if labels.ndim == 1 and labels.dtype.kind == "f" and not is_whole(labels).all():
                raise ArgumentError(
                    'shuffle="balanced" needs labels that are classes. Received: '
                    f"{labels.dtype} labels of shape {labels.shape}, not all of them whole numbers"
                )
            self._labels = labels[self.sample_indices]
        return self._labels


def draw_seed() -> int:
    """Draws a seed from NumPy's global generator, which `keras.utils.set_random_seed` seeds."""
    return int(np.random.randint(1 << 32, dtype=np.int64))  # noqa: NPY002 - the one that it seeds


def _sample_indices(video_set: VideoSet, options: LoaderOptions) -> NDArray[np.int64]:
    """Returns the numbers of the chosen samples on the options' side of the split."""
    if options.validation_split is None:
        return chosen_samples(options.indices, video_set.num_samples)
    training, validation = split_set(
        video_set,
        options.validation_split,
        options.seed,
        options.split_by,
        options.stratify_by,
        options.indices,
    )
    return training if options.subset == "training" else validation
