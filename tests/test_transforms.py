"""Properties of all map functions: elements, dtypes, axes, and what random choices depend on."""

from __future__ import annotations

import inspect

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import (
    CHANNELS,
    COLUMNS,
    FRAMES,
    LAST,
    ROWS,
    call,
    correlation,
    make_clips,
    make_seeds,
    noise,
)

import h5video_data as h5v
from h5video_data import testing, transforms
from h5video_data.errors import ArgumentError
from h5video_data.transforms import (
    channels_last,
    cutmix,
    draws,
    mixup,
    normalize,
    random_brightness,
    random_contrast,
    random_crop,
    random_erasing,
    random_flip,
    random_resized_crop,
    random_reverse,
    random_saturation,
    random_temporal_crop,
    resize,
    temporal_jitter,
    temporal_subsample,
    to_float,
)

WHOLE = (FRAMES, CHANNELS, ROWS, COLUMNS)
BYTES = (0, 255)

# How to make each of them, so that it changes every clip, and the shape of a clip that it returns.
FUNCTIONS = {
    "channels_last": (channels_last, {}, (FRAMES, ROWS, COLUMNS, CHANNELS)),
    "resize": (resize, {"height": 3, "width": 4}, (FRAMES, CHANNELS, 3, 4)),
    "to_float": (to_float, {"scale": 1 / 255}, WHOLE),
    "normalize": (normalize, {"mean": [1, 2, 3], "std": [2, 3, 4]}, WHOLE),
    "temporal_subsample": (temporal_subsample, {"num_frames": 1}, (1, *WHOLE[1:])),
    "temporal_subsample, the middle": (
        temporal_subsample,
        {"num_frames": 1, "position": "center"},
        (1, *WHOLE[1:]),
    ),
    "random_temporal_crop": (random_temporal_crop, {"num_frames": 1}, (1, *WHOLE[1:])),
    "temporal_jitter": (temporal_jitter, {"num_frames": 1}, (1, *WHOLE[1:])),
    "random_reverse": (random_reverse, {"probability": 1}, WHOLE),
    "random_flip": (random_flip, {"probability": 1}, WHOLE),
    "random_crop": (random_crop, {"height": 2, "width": 3}, (FRAMES, CHANNELS, 2, 3)),
    "random_resized_crop": (
        random_resized_crop,
        {"height": 3, "width": 4},
        (FRAMES, CHANNELS, 3, 4),
    ),
    "random_erasing": (
        random_erasing,
        {"probability": 1, "scale": (0.2, 0.6), "fill_value": 250},
        WHOLE,
    ),
    "random_brightness": (random_brightness, {"factor": (0.1, 0.3), "value_range": BYTES}, WHOLE),
    "random_contrast": (random_contrast, {"factor": (0.9, 0), "value_range": BYTES}, WHOLE),
    "random_saturation": (random_saturation, {"factor": (0.9, 0)}, WHOLE),
    "mixup": (mixup, {"alpha": 1}, WHOLE),
    "cutmix": (cutmix, {"alpha": 1}, WHOLE),
}
CHANGING_DTYPE = {"to_float", "normalize"}
MIXING = ("mixup", "cutmix")
# What leaves them a choice, for those that always do the same above.
CHOOSING = {
    "random_flip": {"probability": 0.5},
    "random_reverse": {"probability": 0.5},
    "random_erasing": {"probability": 0.5},
}


def build(name, **options):
    make, given, _ = FUNCTIONS[name]
    return make(**{**given, **options})


def has_order(name):
    return "data_format" in inspect.signature(FUNCTIONS[name][0]).parameters


def cases(names):
    return pytest.mark.parametrize("name", list(names))


every = cases(FUNCTIONS)
RANDOM = [name for name in FUNCTIONS if "seeds" in inspect.signature(build(name)).parameters]
ALONE = [name for name in RANDOM if name not in MIXING]


def test_public_names():
    expected = {name.partition(",")[0] for name in FUNCTIONS}
    expected |= {"channel_statistics", "ChannelStatistics", "one_hot"}
    assert set(transforms.__all__) == expected - {"temporal_subsample"}  # an alias, not shown
    assert sorted(transforms.__all__) == transforms.__all__ == dir(transforms)
    for name in expected:
        assert getattr(transforms, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'random_crops'"):
        _ = transforms.random_crops


# What they make of an element


@cases(name for name in FUNCTIONS if name not in MIXING)
def test_labels_and_weights_are_handed_on(name):
    clips, labels, weights = tf.constant(make_clips(4)), tf.range(4), tf.ones(4)
    alone = call(build(name), clips)
    assert not np.array_equal(alone, clips)
    for rest in ((labels,), (labels, weights)):
        x, *others = call(build(name), clips, *rest)
        np.testing.assert_array_equal(x, alone)
        assert len(others) == len(rest)
        assert all(a is b for a, b in zip(others, rest, strict=True))


@every
def test_the_key_says_which_value_of_a_dict_is_meant(name):
    clips, mel = tf.constant(make_clips(4)), tf.range(4)
    labels = {"what": tf.eye(4)}
    given = {"video": clips, "mel": mel}
    alone = call(build(name, key="video"), given)
    x, others = call(build(name, key="video"), given, labels)
    for result in (alone, x):
        assert result.keys() == given.keys()
        np.testing.assert_array_equal(result["video"], call(build(name), clips))
        assert result["mel"] is mel
    assert others.keys() == labels.keys()
    assert given["video"] is clips  # what was given is as it was


@every
@pytest.mark.parametrize("key", [None, "vidoe"])
def test_a_key_that_is_not_there(name, key):
    with pytest.raises(
        ArgumentError, match=rf"one of \['mel', 'video'\], the clips. Received: key={key!r}"
    ):
        call(build(name, key=key), {"video": tf.constant(make_clips(4)), "mel": tf.range(4)})


@every
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64"])
def test_clips_keep_their_dtype(name, dtype):
    result = call(build(name), tf.constant(make_clips(4, dtype)))
    assert result.dtype == ("float32" if name in CHANGING_DTYPE else dtype)
    assert result.shape == (4, *FUNCTIONS[name][2])


@every
def test_a_graph_of_any_batch_size(name):
    clips, labels = make_clips(4), np.eye(4, dtype=np.float32)
    expected, expected_labels = call(build(name), tf.constant(clips), tf.constant(labels))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *clips.shape[1:]), tf.uint8),
            tf.TensorSpec((None, 4), tf.float32),
            tf.TensorSpec((None, 2), tf.int32),
        ]
    )
    def graph(x, y, seeds):
        return call(build(name), x, y, seeds=seeds)

    x, y = graph(clips, labels, make_seeds(4))
    if name in CHANGING_DTYPE:  # a graph may multiply by 1 / 3 instead of dividing by 3
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(x, expected)
    np.testing.assert_allclose(y, expected_labels, rtol=1e-6)
    assert graph.get_concrete_function().structured_outputs[0].shape[1:] == FUNCTIONS[name][2]


@every
@pytest.mark.parametrize("batch_size", [5, None], ids=["all batches alike", "a last one smaller"])
def test_shapes_stay_static(tmp_path, name, batch_size):
    path = testing.write_video_file(tmp_path / "f.h5", num_samples=10, sample_shape=WHOLE)
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=batch_size or 4, map_fn=build(name))
    shape = FUNCTIONS[name][2]
    assert dataset.element_spec[0].shape.as_list() == [batch_size, *shape]
    assert dataset.element_spec[1].shape.as_list() == [batch_size, 4]
    assert next(iter(dataset))[0].shape[1:] == shape


@cases(filter(has_order, FUNCTIONS))
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_both_orders_give_the_same(name, dtype):
    clips, labels = make_clips(4, dtype), np.eye(4, dtype=np.float32)
    first, first_labels = call(build(name), tf.constant(clips), tf.constant(labels))
    last, last_labels = call(
        build(name, data_format="channels_last"),
        tf.constant(clips.transpose(LAST)),
        tf.constant(labels),
    )
    np.testing.assert_allclose(last, first.numpy().transpose(LAST), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(last_labels, first_labels)


@cases(filter(has_order, FUNCTIONS))
def test_an_order_that_is_none(name):
    with pytest.raises(
        ArgumentError,
        match=r'"channels_first" or "channels_last"\. Received: data_format=\'NTHWC\'',
    ):
        build(name, data_format="NTHWC")


@cases(filter(has_order, FUNCTIONS))
def test_clips_of_another_order_than_the_default(name):
    last = make_clips(4).transpose(LAST)
    with pytest.raises(
        ArgumentError,
        match=r'pass data_format="channels_last" \("channels_first", if they really are 5 channels '
        r"of 8 x 3 pixels\)\. Received: clips of shape \(4, 2, 5, 8, 3\)",
    ):
        call(build(name), tf.constant(last))
    with pytest.raises(
        ArgumentError, match=r"first: leave `data_format` out.*\(4, 2, 3, 5, 8\).*channels_last'"
    ):
        call(build(name, data_format="channels_last"), tf.constant(make_clips(4)))


@pytest.mark.parametrize("name", ["random_flip", "resize", "random_contrast"])
@pytest.mark.parametrize("data_format", ["channels_first", None])
def test_clips_that_may_be_of_either_order_are_taken_for_channels_first(name, data_format):
    # Eight channels of three columns look like channels last, but for who says that they are not.
    columns = 3 if data_format else 2 * 8
    clips = noise((4, 2, 8, 16, columns))
    expected = [call(build(name), tf.constant(clips[:, :, i : i + 1])) for i in range(8)]
    found = call(build(name, data_format=data_format), tf.constant(clips))
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=2))


def test_the_order_is_checked_when_the_pipeline_is_made(tmp_path):
    path = testing.write_video_file(tmp_path / "f.h5", sample_shape=(4, 16, 16, 3))
    for function in (random_flip(), resize(8, 8), channels_last(), normalize([1, 2, 3], 1)):
        with pytest.raises(ArgumentError, match=r"channels last.*shape \(20, 4, 16, 16, 3\)"):
            h5v.video_dataset_from_hdf5(path, map_fn=function)


@cases(name for name in FUNCTIONS if has_order(name) or name == "channels_last")
def test_clips_without_channels(name):
    # A mask of rank 5 would silently make (batch, batch, frames, rows, columns) of these.
    with pytest.raises(ArgumentError, match=r"Received: .*\(4, 2, 5, 8\)"):
        call(build(name), tf.constant(make_clips(4)[:, :, 0]))


WITHOUT_LENGTHS = ["resize", "to_float", "random_brightness", "random_contrast", "mixup"]


def graph_of_unknown_lengths(name):
    return tf.function(
        lambda x, seeds: call(build(name), x, seeds=seeds),
        input_signature=[
            tf.TensorSpec((None,) * 5, tf.uint8),
            tf.TensorSpec((None, 2), tf.int32),
        ],
        autograph=False,
    )


@cases(WITHOUT_LENGTHS)
def test_what_needs_no_lengths_works_without_them(name):
    clips = make_clips(4)
    found = graph_of_unknown_lengths(name)(clips, make_seeds(4))
    np.testing.assert_allclose(found, call(build(name), tf.constant(clips)), rtol=1e-6)


@cases(name for name in FUNCTIONS if name not in WITHOUT_LENGTHS)
def test_lengths_that_are_needed(name):
    with pytest.raises(ArgumentError, match=r"call `set_shape` or .*\. Received: .* shape "):
        graph_of_unknown_lengths(name).get_concrete_function()


# Their random choices


@cases(ALONE)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_choices_come_from_the_seeds_alone(name, dtype, data_format):
    options = {"data_format": data_format} if has_order(name) else {}
    function = build(name, **CHOOSING.get(name, {}), **options)
    clips, seeds = make_clips(1, dtype).repeat(50, axis=0), make_seeds(50)
    if data_format == "channels_last":
        clips = clips.transpose(LAST)
    first = function(tf.constant(clips), seeds=seeds).numpy()
    np.testing.assert_array_equal(function(tf.constant(clips), seeds=seeds), first)
    # A clip of another place in another batch gets what its seeds say.
    np.testing.assert_array_equal(
        function(tf.constant(clips[:7]), seeds=seeds[::-1][:7]), first[::-1][:7]
    )
    assert len(np.unique(first, axis=0)) > 1
    other = function(tf.constant(clips), seeds=make_seeds(50, epoch=1))
    assert not np.array_equal(other, first)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Clips of noise, of six frames."""
    path = tmp_path_factory.mktemp("data") / "noise.h5"
    with h5py.File(path, "w") as file:
        file["X"] = noise((22, 6, 3, 12, 14))
        file["Y"] = np.eye(22, dtype=np.float32)
    return path


def epochs(path, functions, count=2, first=0, **options):
    """The x and y of some epochs, each in one piece."""
    loader = h5v.VideoLoader(path, map_fn=functions, seed=4, **options)
    loader.set_epoch(first)
    dataset = loader.dataset()
    return [
        [np.concatenate(parts) for parts in zip(*dataset.as_numpy_iterator(), strict=True)]
        for _ in range(count)
    ]


def test_results_do_not_depend_on_threads_or_batches_or_where_it_goes_on(path):
    functions = [
        random_temporal_crop(4, (1, 1)),
        random_reverse(),
        random_resized_crop(8, 10),
        random_flip(),
        random_brightness(0.2),
        random_contrast(0.4),
        random_saturation(0.4),
        random_erasing(),
        temporal_jitter(2),
        random_crop(7, 7),
    ]
    expected = epochs(path, functions, batch_size=4, num_threads=1, shuffle=False)
    found = epochs(path, functions, batch_size=5, num_threads=4, shuffle=False)
    for (x, y), (other_x, other_y) in zip(expected, found, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)
    ((x, _),) = epochs(path, functions, count=1, first=1, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(x, expected[1][0])
    assert not np.array_equal(x, expected[0][0])


@cases(MIXING)
def test_mixing_does_not_depend_on_threads_or_where_it_goes_on(path, name):
    expected = epochs(path, build(name), batch_size=4, num_threads=1)
    found = epochs(path, build(name), batch_size=4, num_threads=4)
    later = epochs(path, build(name), batch_size=4, count=1, first=1)
    for (x, y), (other_x, other_y) in zip([*expected, expected[1]], [*found, *later], strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)
    assert ((expected[0][1] > 0).sum(axis=1) == 2).mean() > 0.8  # samples are mixed


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """A file of 4000 clips that are all alike: one frame of one row, from 0 to 7."""
    path = tmp_path_factory.mktemp("data") / "ramps.h5"
    with h5py.File(path, "w") as file:
        file["X"] = np.tile(np.arange(8, dtype=np.uint8), (4000, 1)).reshape(4000, 1, 1, 1, 8)
    return path


def run(path, *functions):
    dataset = h5v.video_dataset_from_hdf5(path, y=None, batch_size=500, seed=1, map_fn=functions)
    return np.concatenate([x[:, 0, 0, 0] for x in dataset]).astype(int)


def test_choices_of_two_stages_are_independent(ramps):
    first, second, *_ = run(ramps, random_flip(), random_crop(1, 4)).T
    flipped = second < first
    start = np.where(flipped, 7 - first, first)
    assert set(start) == set(range(5))
    assert correlation(flipped, start) < 0.05
    # The same function twice: a second stage with the same choices would undo the first.
    twice = run(ramps, random_flip(), random_flip())[:, 0] == 7
    assert twice.mean() == pytest.approx(0.5, abs=0.04)
    once = run(ramps, random_flip())[:, 0] == 7
    assert correlation(once, twice) < 0.05
    starts = run(ramps, random_crop(1, 5), random_crop(1, 2))[:, 0]  # the sum of 0..3 and 0..3
    expected = np.array([1, 2, 3, 4, 3, 2, 1]) * 4000 / 16
    assert (abs(np.bincount(starts) - expected) < 6 * np.sqrt(expected)).all()


def test_a_stages_choices_differ_from_epoch_to_epoch(ramps):
    dataset = h5v.video_dataset_from_hdf5(
        ramps, y=None, batch_size=500, shuffle=False, seed=1, map_fn=random_flip()
    )
    epochs = [np.concatenate([x[:, 0, 0, 0, 0] for x in dataset]) for _ in range(2)]
    assert correlation(*epochs) < 0.05


# The numbers that they are drawn from


def mixed(value):
    """The finaliser of MurmurHash3, in Python's own whole numbers."""
    value ^= value >> 16
    value = value * 0x85EBCA6B % 2**32
    value ^= value >> 13
    value = value * 0xC2B2AE35 % 2**32
    return value ^ value >> 16


def test_uniform_is_the_hash_that_it_says():
    edges = [0, 1, -1, 2**31 - 1, -(2**31), 0x1234567]
    seeds = [(first, second) for first in edges for second in edges]
    for draw in (0, 1, 2, 3):
        expected = [
            (mixed(mixed(first % 2**32 ^ draw * 0x9E3779B9 % 2**32) ^ second % 2**32) >> 8) / 2**24
            for first, second in seeds
        ]
        found = draws.uniform(tf.constant(seeds, tf.int32), draw)
        np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_uniform_numbers_are_uniform():
    num = 100_000
    found = [draws.uniform(make_seeds(num), draw).numpy() for draw in (1, 2, 3)]
    found += [draws.uniform(make_seeds(num, epoch=1), 1).numpy()]
    for draw in found:
        assert draw.dtype == np.float32
        assert draw.min() >= 0
        assert draw.max() < 1
        assert draw.mean() == pytest.approx(1 / 2, abs=0.005)
        assert draw.var() == pytest.approx(1 / 12, abs=0.002)
        assert np.bincount((draw * 10).astype(int)) == pytest.approx(
            np.full(10, num / 10), rel=0.05
        )
        assert correlation(draw[1:], draw[:-1]) < 0.015  # of neighbours
    for i, first in enumerate(found):
        assert all(correlation(first, second) < 0.015 for second in found[:i])


def test_the_largest_draw_is_still_a_start_that_fits(monkeypatch):
    largest = np.float32(1 - 2**-24)
    monkeypatch.setattr(draws, "uniform", lambda *_: tf.constant([largest]))
    for spare in [*range(300), 2**16 - 2, 2**16 - 1, 2**16, 100_000]:
        assert draws.random_starts(None, 1, spare).numpy().tolist() == [spare]


def test_several_draws_at_once_are_the_single_ones():
    seeds = make_seeds(9)
    together = draws.uniform(seeds, range(1, 5), -2, 3)
    for column, draw in enumerate(range(1, 5)):
        np.testing.assert_array_equal(together[:, column], draws.uniform(seeds, draw, -2, 3))
        np.testing.assert_allclose(together[:, column], draws.uniform(seeds, draw) * 5 - 2, 1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1, 4, 50])
def test_symmetric_beta(alpha):
    num = 40_000
    found = np.sort(draws.symmetric_beta(make_seeds(num), 1, alpha))
    expected = np.sort(np.random.default_rng(0).beta(alpha, alpha, 10 * num))
    compared = 0
    for quantile in np.linspace(0.01, 0.99, 99):
        value = expected[int(quantile * 10 * num)]
        if 1e-9 < value < 1 - 1e-9:  # as fine as the bisection is
            compared += 1
            # Kolmogorov and Smirnov: chance alone hardly ever reaches 2 / sqrt(num).
            fraction = np.searchsorted(found, value) / num
            assert fraction == pytest.approx(quantile, abs=2 / np.sqrt(num))
    assert compared > 60
    assert found.min() >= 0
    assert found.max() <= 1


# All together


def test_a_whole_pipeline_trains_a_model(tmp_path):
    path = testing.write_video_file(tmp_path / "f.h5", num_samples=12, sample_shape=(6, 3, 10, 12))
    train = h5v.video_dataset_from_hdf5(
        path,
        batch_size=5,
        seed=0,
        map_fn=[
            temporal_subsample(2, 2),
            random_crop(8, 8),
            random_flip(vertical=True),
            channels_last(),
            to_float(),
        ],
    )
    assert train.element_spec[0] == tf.TensorSpec((None, 2, 8, 8, 3), tf.float32)
    model = keras.Sequential(
        [keras.layers.Conv3D(2, (1, 3, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    model.compile("sgd", "mse")
    history = model.fit(train, epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.input_shape == (None, 2, 8, 8, 3)
