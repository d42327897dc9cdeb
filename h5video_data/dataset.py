"""`video_dataset_from_hdf5`, and the documentation of its arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from .epoch_order import draw_seed
from .loader import VideoLoader
from .open_set import open_set
from .opening import Paths, reusable
from .options import LoaderArguments, Side, lists_options, options_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .loader import VideoDataset


@overload
def video_dataset_from_hdf5(
    path: Paths, *, subset: Literal["both"], **options: Unpack[LoaderArguments]
) -> tuple[VideoDataset, VideoDataset]: ...


@overload
def video_dataset_from_hdf5(
    path: Paths, *, subset: Side | None = None, **options: Unpack[LoaderArguments]
) -> VideoDataset: ...


@lists_options
def video_dataset_from_hdf5(  # noqa: D417 - documents what `**options` may be
    path: Paths, **options: Any
) -> VideoDataset | tuple[VideoDataset, VideoDataset]:
    """Creates a `tf.data.Dataset` of the samples in HDF5 files.

    It follows `keras.utils.image_dataset_from_directory` wherever the two mean the same thing.

        train, val = video_dataset_from_hdf5(
            "video_data.h5", batch_size=32, validation_split=0.3, subset="both", seed=0)
        model.fit(train, validation_data=val, epochs=100, shuffle=False)  # it is shuffled already

    Args:
        path: A path, a glob (its matches sorted), or an iterable of these: a list, an array, a
            pandas Series. Also URLs that fsspec opens (s3://, gs://, https://), with the packages
            of `h5video_data[remote]`; virtual datasets and links to other files are not followed
            there. Several files are one set, in the order given; those of a set or of an
            iterator, such as `Path.glob`, whose order says nothing, are sorted. If a file has the
            attribute `sample_count`, that many samples of it are used, else all; its datasets may
            then have more rows. For `x="train/X"`, the attribute of the nearest group above it is
            used, wherever y is; that of the file is not, if x has fewer samples. With a dict for x,
            its first name counts.
        x: Name of the dataset of samples, of shape (samples, ...), such as
            (samples, frames, channels, rows, columns); `"group/X"` for a nested one, and
            `"frames.h5:X"` for one of another file, or of several (a glob), whose rows are the
            samples of the whole set, in order. Or a dict of names: x is then a dict of tensors.
        y: Name of the dataset of labels, (samples, classes) if one-hot, (samples,) if class
            numbers or strings. Strings become class numbers, int32, in the order of the sorted
            names of all samples, of which the empty string may be one; or in that of the attribute
            `class_names` of the files, if it has all of them. Or an array of such labels,
            (samples, ...), in the order of the samples of the set: of NumPy or pandas, a tensor, a
            list of numbers. Or a dict of names and arrays. None: elements are x alone.
        sample_weight: Name of the dataset of weights, (samples,), or of any shape that Keras takes,
            or an array. Elements are then (x, y, sample_weight).
        windows: A `Windows`, or a number n for `Windows(n)`: the rows of the datasets are frames of
            recordings, and a sample is a window of one. Names may then have a `*` for each
            recording, such as `"data/*/obs/rgb"`; y may be an attribute of them, `"@task"`, or
            `"inferred"`: the class is what the first `*`, of the name or of `path`, stands for.
            None: each row is a sample.
        clip: A `Clip`: only these frames of each sample of x are read, and of y, where it has a
            mask or an image for each frame. None: all frames.
        decode: Which rows are decoded as pictures, uint8 (rows, columns, channels), or uint16 from
            PNG of 16 bit. `"auto"`: bytes of variable length, opaque values and byte strings that
            begin as JPEG or PNG do. `"image"`: also rows of uint8 or int8, (rows, bytes), padded to
            the longest. None: none. A row is then a picture in all respects: of stacked samples, or
            a frame of recordings.
        image_size: (rows, columns) that pictures are resized to, where their sizes differ. None:
            all must have the same size.
        interpolation: How they are resized: `"bilinear"`, `"nearest"`, `"bicubic"`, `"area"`,
            `"lanczos3"`, `"lanczos5"`, `"gaussian"` or `"mitchellcubic"`, as `tf.image.resize`
            does, and rounded. With `"area"`, large JPEGs are decoded at a half, quarter or eighth
            of their size where that divides it: within a level, on average.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`: the channels of pictures. None: those that
            are stored, which must be the same for all.
        batch_size: Samples in a batch. None: elements are single samples; map functions still get
            batches, of no static size.
        drop_remainder: Whether to leave out a smaller last batch.
        shuffle: True: a uniform permutation of all samples, drawn anew each epoch. `"blocks"`:
            whole chunks in random order, their samples mixed in a window of 64 MiB, of at least
            four chunks: for files whose chunks hold many samples. Each chunk is then decoded once
            an epoch, with memory for one window whatever `read_ahead_bytes` is; but samples of one
            chunk come near each other. `"balanced"`: as many samples as there are, drawn with
            replacement, each class of the labels y with the same probability. False: the order of
            the files, or of `indices`. Or a `samplers.Sampler`.
        seed: Seed of the split, of the orders of the epochs, and of random map functions, a whole
            number from 0. None: drawn from NumPy's global generator, as in Keras: no two runs are
            alike, unless `keras.utils.set_random_seed` or `numpy.random.seed` was called.
        validation_split: Fraction of the samples for validation, between 0 and 1.
        subset: `"training"`, `"validation"`, or `"both"` for a pair of datasets, of which the
            validation side is in the order of the files, or of `indices`, as in Keras.
        split_by: None: split at random. `"label"`: each class in the same proportion. Or the name
            of a dataset, or an array (samples,), of group ids: no group is on both sides. The split
            depends on `seed`, `validation_split`, what it goes by, and which samples `indices` has.
            With `windows`, None is `"recording"`: those of a recording are on one side. Ids, and
            classes of `stratify_by`, may then be one a recording or a row (a dataset), or one a
            recording or a window (an array); those of a recording must be the same.
        stratify_by: Name of a dataset, or an array (samples,), of classes: each in the same
            proportion on both sides. Whole numbers, strings, or one-hot (samples, classes); need
            not be y. `split_by="label"` is the same for y. Not together with `split_by`.
        indices: Which samples of the files to use, before any split: for folds, subsets, or sets of
            your own making. Their numbers, integers (n,), each once, which count through all files;
            or a boolean mask (samples,). None: all. `shuffle=False` keeps their order. Arrays for
            `split_by` and `stratify_by` still have a value for every sample of the files.
        map_fn: A function on batches, or several, each a parallel map stage of its own. It gets the
            parts of an element: (x, y), or x. Or a dict of these by side of the split,
            `{"training": ..., "validation": ...}`: a side that it lacks has none. If a function has
            a keyword-only parameter `seeds`, it also gets an int32 tensor (batch, 2), which depends
            on the seed, the epoch, the sample, how often that came before in the epoch, and the
            number of the stage, and on nothing else. See `transforms`. With `subset="both"`,
            functions that are not in a dict run on both sides.
        return_indices: Whether elements end with the numbers of their samples, int64 (batch,):
            (x, y, indices), or (x, indices) without y. Map functions get them as the last part, and
            may move or leave them out. In `fit`, Keras would take a third part as sample weights,
            and a second one as labels: use them in a loop of your own, or have a map function move
            them into x.
        on_error: What to do with a sample that cannot be read or decoded. `"raise"`: an error.
            `"skip"`: leave it out of its batch, log a warning, and list it in
            `dataset.loader.skipped`; batches then have no static size.
        read_ahead_bytes: Memory for batches being read, buffers for reuse, and samples decoded
            together with others, beyond what TensorFlow holds. At least one batch is always being
            read. Default: 192 batches, at most 512 MiB, or 64 MiB a thread if that is more; 1 GiB
            if chunks hold many samples.
        num_threads: Number of threads that read and decode. Default: the number of CPUs that this
            process may use; 8 if that is more and `path` has URLs, for they wait for answers.
        num_parallel_calls: Number of parallel calls of each map stage. Default: `num_threads`.
        input_context: A `tf.distribute.InputContext`, as `distribute_datasets_from_function` passes
            it: only this worker's shard of every global batch is read. `batch_size` is then the
            global one, a multiple of the number of replicas, and each element is one replica's
            part. `seed` must be given if there are several workers. A smaller last batch is divided
            as evenly as possible; if it has fewer samples than there are replicas, some of them
            come twice, so that all replicas have the same number of steps.
        device: A device, such as `"/GPU:0"`, to which the last stage copies elements ahead: the
            training step then finds them there. For one GPU; stages of your own cannot follow.
        pin_memory: Whether batches lie in pinned memory, from which a GPU of NVIDIA's copies at the
            full rate of its bus. None: if TensorFlow sees such a GPU, and no map function makes
            something else of the batches. True: also for a `VideoLoader` that is iterated over
            without TensorFlow; an error if there is no such GPU. The memory is what
            `read_ahead_bytes` says, and what TensorFlow holds.
        allow_external: Whether files may lead to others outside of their folders: by links, virtual
            datasets, or external storage. False: a file may only name others in its own folder or
            below, so that one from elsewhere cannot pass off other files of this machine as
            samples. What a symbolic link there leads to, or `HDF5_EXT_PREFIX`, `HDF5_VDS_PREFIX` or
            `HDF5_EXTFILE_PREFIX` names, is allowed in any case.
        storage_options: For URLs in `path`, the arguments of the file system of fsspec that opens
            them: `{"anon": True}` or `{"key": ..., "secret": ...}` for s3://, say. They are shown
            nowhere, nor saved in a state. None: what its library finds by itself, in files and in
            variables of the environment.
        remote_options: For URLs in `path`, how requests are sent, as a dict. `"max_requests"`: how
            many at once, 128; those of HDF5 itself are counted apart. What fails is sent again,
            after a pause that grows from `"first_pause_seconds"`, 0.1, to `"max_pause_seconds"`, 5;
            half of each is drawn at random. It is given up after `"deadline_seconds"`, 60, or after
            `"max_retries"` times: None, as often as there is time. One without an answer counts as
            failed after `"timeout_seconds"`, 20, and more where much is being read.
        index: For URLs in `path`, and for recordings on the disk, a file that
            `VideoLoader.save_index` wrote: what is read when the set is opened is then taken from
            there. An error if a file has changed since. None: it is read.
        cache_dir: For URLs in `path`, a folder in which what was read is kept, in blocks of 256
            KiB, for later epochs, runs and other processes of this machine. None: each epoch
            requests its samples anew.
        cache_bytes: Bytes that files in `cache_dir` may take, all together. Blocks that are not
            used any more make room for new ones. Default: 80 % of what is free on its disk.

    Returns:
        A `tf.data.Dataset`, or a pair (training, validation) for `subset="both"`. Its elements have
        the stored dtypes, in native byte order: uint8 stays uint8, so cast late. Shapes are static,
        except for the batch size if the last batch is smaller. Its `cardinality()` is known, except
        for single samples of which some may be skipped.

        Each iterator over it is the next epoch, also after one that was not finished; see
        `VideoLoader`. Its attribute `loader` is the `VideoLoader` behind it. If a file has an
        attribute `class_names`, the dataset has it too, as a list.

    Raises:
        VideoFileNotFoundError: There is no such file.
        NotHDF5Error: A file is not an HDF5 file, or is truncated.
        FileInUseError: A file is open for writing elsewhere.
        DatasetNotFoundError: A file has no dataset of that name.
        FileFormatError: Shapes, lengths or `sample_count` do not fit together, or there are no
            samples.
        UnsupportedDtypeError: A dataset holds something other than numbers.
        ExternalFileError: A file leads to one outside of its folder; see `allow_external`.
        MissingFilterError: A dataset needs a filter that is not installed.
        ArgumentError: The value of an argument is not valid.
        TypeError: There is no such argument.
        tf.errors.OpError: While iterating: has the error of a reader, a sampler or a map function,
            with its traceback, as text.
    """
    checked = options_of("video_dataset_from_hdf5", options)
    path = reusable(path)
    video_set = open_set(path, checked)
    if checked.subset != "both":
        return VideoLoader._of_set(path, video_set, checked).dataset()
    training = replace(checked, subset="training")
    validation = replace(checked, subset="validation", shuffle=False)
    drawn_seed = draw_seed() if checked.seed is None else None
    return (
        VideoLoader._of_set(path, video_set, training, drawn_seed).dataset(),
        VideoLoader._of_set(path, video_set, validation, drawn_seed).dataset(),
    )
