"""`video_dataset_from_hdf5`: its arguments and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .loader import VideoLoader, as_functions
from .opening import Names, Paths, open_video_set
from .reading.memory_budget import small_samples_budget
from .samplers import Sampler
from .sampling.clips import Clip
from .splits import SplitBy, check_split

if TYPE_CHECKING:
    import tensorflow as tf  # noqa: TID251 - only for the annotation


def video_dataset_from_hdf5(
    path: Paths,
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
) -> Any:
    """Makes a `tf.data.Dataset` of the samples in HDF5 files.

    It follows `keras.utils.image_dataset_from_directory` wherever the two mean the same thing.

        train, val = video_dataset_from_hdf5(
            "video_data.h5", batch_size=32, validation_split=0.3, subset="both", seed=0)
        model.fit(train, validation_data=val, epochs=100, shuffle=False)  # it is shuffled already

    Args:
        path: A path, a list of paths, or a glob (its matches sorted). Several files are one set, in
            the order given. If a file has the attribute `sample_count`, that many samples of it are
            used, else all. For `x="train/X"`, the attribute of the nearest group above it counts,
            wherever y is; the file's own does not if x has fewer samples. Of a dict, the first name
            decides.
        x: Name of the dataset of samples, of shape (samples, ...), such as
            (samples, frames, channels, rows, columns); `"group/X"` for a nested one. Or a dict of
            names: x is then a dict of tensors.
        y: Name of the dataset of labels, (samples, classes) if one-hot, (samples,) if class
            numbers. Or a dict of names. None: elements are x alone.
        sample_weight: Name of the dataset of weights, (samples,). Elements are then
            (x, y, sample_weight).
        batch_size: Samples in a batch. None: elements are single samples; map functions then see
            groups of samples whose size is not said.
        shuffle: True or `"exact"`: a uniform permutation of all samples, drawn anew each epoch.
            `"blocks"`: whole chunks in random order, their samples mixed in a window of 64 MiB, of
            four chunks at the least: for files whose chunks hold many samples. Each chunk is then
            decoded once an epoch, with memory for one window whatever `read_ahead_bytes` is; but
            samples of one chunk come near each other. False: the order of the files. Or a
            `samplers.Sampler`.
        seed: Seed of the split, of the orders of the epochs, and of random map functions. None:
            drawn at random, so that no two runs are alike.
        validation_split: Fraction of the samples for validation, between 0 and 1.
        subset: `"training"`, `"validation"`, or `"both"` for the pair of them. For `"both"`, the
            validation side comes in the order of the files, as in Keras.
        split_by: How to split: None (at random), `"label"` (each class in the same proportion), or
            the name of a dataset, or an array (samples,), of group ids: no group comes on both
            sides. The split depends on (seed, split_by, validation_split) alone.
        clip: A `Clip`: only these frames of each sample of x. None: all frames.
        map_fn: A function on batches, or several, each a parallel map stage of its own. It gets
            what an element is made of: (x, y), or x. If it has a keyword-only parameter `seeds`, it
            gets an int32 tensor (batch, 2) as well, which depends on the seed, the epoch, the
            sample, how often that came before in the epoch (and on which stage it is) and on
            nothing else. See `transforms`. With
            `subset="both"`, they run on both sides: to augment the training side only, make the two
            with two calls, `subset="training"` and `subset="validation"`, and the same seed.
        drop_remainder: Whether to leave out a last batch that would be smaller.
        on_error: What to do with a sample that cannot be read or decoded: `"raise"`, or `"skip"`:
            leave it out of its batch, log it as a warning, and list it in `dataset.loader.skipped`.
            Batches then have no static size.
        read_ahead_bytes: Memory that the feed may hold beyond what TensorFlow holds: batches being
            read, buffers for their next turn, and samples decoded together with others. At least
            one batch is always being read. Default: 96 batches, 512 MiB at most; 1 GiB if chunks
            hold many samples.
        num_threads: Threads that read and decode, and calls of a map stage at once. Default: the
            processors that this process may use.
        input_context: A `tf.distribute.InputContext`, as `distribute_datasets_from_function` gives
            it: only this worker's share of every global batch is read. `batch_size` is then the
            global one, a multiple of the number of replicas, and each element is one replica's
            part. `seed` must be given if there are several workers. A last batch that is not whole
            is divided as evenly as it can be; if it has fewer samples than there are replicas, some
            of them come twice, so that all have as many steps.
        device: A device, such as `"/GPU:0"`, to which the last stage copies elements ahead.

    Returns:
        A `tf.data.Dataset`, or a pair (training, validation) for `subset="both"`. Its elements have
        the stored dtypes, in the machine's byte order: uint8 stays uint8, so cast late. Shapes are
        static, but for the batch's size if the last batch is smaller. Its `cardinality()` is known,
        but for single samples of which some may be skipped.
        Every iterator over it is the next epoch, after one that was broken off as well; see
        `VideoLoader`. Its attribute `loader` is the `VideoLoader` behind it. If a file has an
        attribute `class_names`, so has the dataset.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: A file is not an HDF5 file, or its end is missing.
        FileInUseError: A file is open for writing elsewhere.
        DatasetNotFoundError: A file has no dataset of that name.
        FileFormatError: Shapes, lengths or `sample_count` do not fit together; no samples.
        UnsupportedDtypeError: A dataset holds something other than numbers.
        MissingFilterError: A dataset needs a filter that is not installed.
        ArgumentError: An argument makes no sense.
        tf.errors.OpError: While iterating: carries what a reader, a sampler or a map function
            raised, with its traceback, as text.
    """
    check_split(validation_split, subset, split_by, shuffle is not False, seed)
    map_fns = as_functions(map_fn)
    budget = 0 if on_error == "skip" else small_samples_budget(read_ahead_bytes)
    video_set = open_video_set(path, x, y, sample_weight, clip, budget_nbytes=budget)

    def load(side: str | None, order: bool | str | Sampler) -> tf.data.Dataset:
        return VideoLoader(
            video_set,
            batch_size=batch_size,
            shuffle=order,
            seed=seed,
            validation_split=validation_split,
            subset=side,
            split_by=split_by,
            map_fn=map_fns,
            drop_remainder=drop_remainder,
            on_error=on_error,
            read_ahead_bytes=read_ahead_bytes,
            num_threads=num_threads,
            input_context=input_context,
            device=device,
        ).dataset()

    if subset == "both":
        return load("training", shuffle), load("validation", False)
    return load(subset, shuffle)
