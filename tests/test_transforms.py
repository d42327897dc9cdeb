"""The map functions of `transforms` against NumPy, and what their random choices depend on."""

from __future__ import annotations

import inspect

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import h5video_data as h5v
from h5video_data import testing, transforms
from h5video_data.errors import ArgumentError
from h5video_data.samplers import sample_seeds
from h5video_data.transforms import (
    channels_last,
    random_crop,
    random_flip,
    temporal_subsample,
    to_float,
)

FRAMES, CHANNELS, ROWS, COLUMNS = 3, 2, 5, 8
LAST = (0, 1, 3, 4, 2)

data_formats = pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
dtypes = pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float16"])


def make_clips(num, dtype="uint8"):
    """Clips, channels first, in each of which no value comes twice."""
    size = FRAMES * CHANNELS * ROWS * COLUMNS
    values = (np.arange(num)[:, np.newaxis] * 7 + np.arange(size)) % 241
    return values.reshape(num, FRAMES, CHANNELS, ROWS, COLUMNS).astype(dtype)


def make_seeds(num, epoch=0):
    return tf.constant(sample_seeds(0, epoch, np.arange(num)))


def apply(function, clips, data_format="channels_first", **options):
    """Calls a map function on clips in either order; the result has the channels first again."""
    if data_format == "channels_first":
        return function(tf.constant(clips), **options).numpy()
    result = function(tf.constant(clips.transpose(LAST)), **options).numpy()
    return result.transpose(0, 1, 4, 2, 3)


def flips_of(clips, flipped):
    """(n, 2): whether the rows, and whether the columns, of each clip are in reverse order."""
    found = []
    for clip, result in zip(clips, flipped, strict=True):
        matches = [
            (rows, columns)
            for rows in (False, True)
            for columns in (False, True)
            if np.array_equal(result, clip[:, :, :: 1 - 2 * rows, :: 1 - 2 * columns])
        ]
        assert len(matches) == 1
        found += matches
    return np.array(found)


def places_of(clips, cropped):
    """(n, 2): the row and the column where the window of each clip begins."""
    height, width = cropped.shape[-2:]
    found = []
    for clip, result in zip(clips, cropped, strict=True):
        _, _, row, column = (int(i[0]) for i in np.nonzero(clip == result[0, 0, 0, 0]))
        window = clip[:, :, row : row + height, column : column + width]
        np.testing.assert_array_equal(result, window)  # in all frames and channels
        found.append((row, column))
    return np.array(found)


def correlation(first, second):
    return abs(np.corrcoef(first, second)[0, 1])


# Each against NumPy


@dtypes
def test_channels_last(dtype):
    clips = make_clips(4, dtype)
    result = channels_last()(tf.constant(clips))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, clips.transpose(LAST))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, lambda clips: clips / np.float32(255), id="0 to 1"),
        pytest.param(
            {"scale": 2 / 255, "offset": -1}, lambda clips: clips / 127.5 - 1, id="-1 to 1"
        ),
        pytest.param(
            {"scale": 1, "dtype": "float64"}, lambda clips: clips.astype(float), id="float64"
        ),
        pytest.param({"dtype": "bfloat16"}, lambda clips: clips / 255, id="bfloat16"),
    ],
)
@pytest.mark.parametrize("stored", ["uint8", "int32", "float64"])
def test_to_float(options, expected, stored):
    clips = make_clips(4, stored)
    result = to_float(**options)(tf.constant(clips))
    assert result.dtype.name == options.get("dtype", "float32")
    tolerance = 1e-2 if result.dtype == tf.bfloat16 else 1e-6
    np.testing.assert_allclose(
        tf.cast(result, tf.float64), expected(clips), rtol=tolerance, atol=1e-6
    )


@data_formats
@dtypes
def test_random_flip(data_format, dtype):
    clips = make_clips(64, dtype)
    result = apply(
        random_flip(vertical=True, data_format=data_format),
        clips,
        data_format,
        seeds=make_seeds(64),
    )
    assert result.dtype == dtype
    assert len(np.unique(flips_of(clips, result), axis=0)) == 4


@data_formats
@pytest.mark.parametrize(
    ("horizontal", "vertical"), [(True, False), (False, True), (True, True), (False, False)]
)
def test_random_flip_swaps_only_what_it_should(data_format, horizontal, vertical):
    clips = make_clips(8)
    function = random_flip(
        horizontal=horizontal, vertical=vertical, probability=1, data_format=data_format
    )
    result = apply(function, clips, data_format, seeds=make_seeds(8))
    assert (flips_of(clips, result) == (vertical, horizontal)).all()


@data_formats
@dtypes
@pytest.mark.parametrize(
    ("height", "width"), [(2, 3), (ROWS, 1), (1, COLUMNS), (ROWS, COLUMNS)], ids=str
)
def test_random_crop(data_format, dtype, height, width):
    clips = make_clips(64, dtype)
    function = random_crop(height, width, data_format=data_format)
    result = apply(function, clips, data_format, seeds=make_seeds(64))
    assert result.dtype == dtype
    assert result.shape == (64, FRAMES, CHANNELS, height, width)
    rows, columns = places_of(clips, result).T
    assert set(rows) == set(range(ROWS - height + 1))
    assert set(columns) == set(range(COLUMNS - width + 1))


def frames_of(num, frames=7):
    """Clips (num, frames, 1, 1, 2) that hold the number of the frame."""
    return np.broadcast_to(np.arange(frames).reshape(1, -1, 1, 1, 1), (num, frames, 1, 1, 2))


@pytest.mark.parametrize(
    ("num_frames", "stride", "start", "center"),
    [
        pytest.param(3, 1, [0, 1, 2], [2, 3, 4], id="neighbours"),
        pytest.param(2, 3, [0, 3], [1, 4], id="one to spare on either side"),
        pytest.param(3, 3, [0, 3, 6], [0, 3, 6], id="they just fit"),
        pytest.param(1, 9, [0], [3], id="a single one"),
        pytest.param(7, 1, [*range(7)], [*range(7)], id="all"),
    ],
)
def test_temporal_subsample(num_frames, stride, start, center):
    clips = tf.constant(frames_of(200))
    for position, expected in (("start", start), ("center", center)):
        result = temporal_subsample(num_frames, stride, position=position)(clips)
        np.testing.assert_array_equal(result, frames_of(200)[:, expected])
    result = temporal_subsample(num_frames, stride)(clips, seeds=make_seeds(200)).numpy()
    first = result[:, 0, 0, 0, 0]
    # The frames of a clip, each whole; starts that cover all the room there is.
    offsets = np.arange(num_frames) * stride
    np.testing.assert_array_equal(
        result, np.broadcast_to((first[:, None] + offsets)[..., None, None, None], result.shape)
    )
    assert set(first) == set(range(7 - (num_frames - 1) * stride))


# What they make of an element

FUNCTIONS = {
    "channels_last": lambda **key: channels_last(**key),
    "to_float": lambda **key: to_float(**key),
    "temporal_subsample": lambda **key: temporal_subsample(2, **key),
    "temporal_subsample center": lambda **key: temporal_subsample(2, position="center", **key),
    "random_flip": lambda **key: random_flip(probability=1, **key),
    "random_crop": lambda **key: random_crop(2, 3, **key),
}
functions = pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)


def call(function, *element):
    """Calls a map function as the dataset does."""
    takes_seeds = "seeds" in inspect.signature(function).parameters
    return function(*element, **({"seeds": make_seeds(4)} if takes_seeds else {}))


@functions
def test_labels_and_weights_are_handed_on(make):
    clips, labels, weights = tf.constant(make_clips(4)), tf.range(4), tf.ones(4)
    alone = call(make(), clips)
    assert not np.array_equal(alone, clips)
    for rest in ((labels,), (labels, weights)):
        x, *others = call(make(), clips, *rest)
        np.testing.assert_array_equal(x, alone)
        assert len(others) == len(rest)
        assert all(a is b for a, b in zip(others, rest, strict=True))


@functions
def test_the_key_says_which_value_of_a_dict_is_meant(make):
    clips, mel = tf.constant(make_clips(4)), tf.range(4)
    given = {"video": clips, "mel": mel}
    alone = call(make(key="video"), given)
    x, labels = call(make(key="video"), given, {"what": mel})
    for result in (alone, x):
        assert result.keys() == given.keys()
        np.testing.assert_array_equal(result["video"], call(make(), clips))
        assert result["mel"] is mel
    assert labels == {"what": mel}
    assert given["video"] is clips  # what was given is as it was


@functions
@pytest.mark.parametrize("key", [None, "vidoe"])
def test_a_key_that_is_not_there(make, key):
    with pytest.raises(
        ArgumentError, match=rf"one of \['mel', 'video'\], the clips. Received: key={key!r}"
    ):
        call(make(key=key), {"video": tf.constant(make_clips(4)), "mel": tf.range(4)})


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(channels_last, (FRAMES, ROWS, COLUMNS, CHANNELS), id="channels_last"),
        pytest.param(to_float, (FRAMES, CHANNELS, ROWS, COLUMNS), id="to_float"),
        pytest.param(random_flip, (FRAMES, CHANNELS, ROWS, COLUMNS), id="random_flip"),
        pytest.param(lambda: random_crop(2, 3), (FRAMES, CHANNELS, 2, 3), id="random_crop"),
        pytest.param(
            lambda: temporal_subsample(2), (2, CHANNELS, ROWS, COLUMNS), id="temporal_subsample"
        ),
        pytest.param(
            lambda: temporal_subsample(2, position="start"),
            (2, CHANNELS, ROWS, COLUMNS),
            id="temporal_subsample, the first ones",
        ),
    ],
)
@pytest.mark.parametrize("batch_size", [5, None], ids=["all batches alike", "a last one smaller"])
def test_shapes_stay_static(tmp_path, make, shape, batch_size):
    path = testing.write_video_file(
        tmp_path / "f.h5", num_samples=10, sample_shape=(FRAMES, CHANNELS, ROWS, COLUMNS)
    )
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=batch_size or 4, map_fn=make())
    assert dataset.element_spec[0].shape.as_list() == [batch_size, *shape]
    assert next(iter(dataset))[0].shape[1:] == shape


# Their errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda: temporal_subsample(0), "1 or more. Received: num_frames=0", id="no frames"
        ),
        pytest.param(lambda: temporal_subsample(2, -1), "stride=-1", id="a negative stride"),
        pytest.param(
            lambda: temporal_subsample(2, position="middle"),
            '"random", "center" or "start". Received: \'middle\'',
            id="no such position",
        ),
        pytest.param(
            lambda: random_flip(data_format="last"), "Received: 'last'", id="flip: no such order"
        ),
        pytest.param(
            lambda: random_crop(2, 2, data_format="NTHWC"),
            "Received: 'NTHWC'",
            id="crop: no such order",
        ),
        pytest.param(lambda: random_crop(0, 2), "height=0", id="an empty window"),
        pytest.param(lambda: random_crop(2.5, 3), "height=2.5", id="half a row"),
        pytest.param(lambda: temporal_subsample(2.5), "num_frames=2.5", id="half a frame"),
        pytest.param(lambda: random_flip(probability=2), "Received: 2", id="too probable"),
        pytest.param(lambda: random_flip(probability=float("nan")), "Received: nan", id="nan"),
        pytest.param(lambda: to_float(dtype="int32"), "Received: 'int32'", id="no float"),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(
            temporal_subsample(2, 3), "span 4. Received: clips of 3 frames", id="too few frames"
        ),
        pytest.param(temporal_subsample(4, position="center"), "span 4", id="too few for center"),
        pytest.param(temporal_subsample(4, position="start"), "span 4", id="too few for start"),
        pytest.param(
            random_crop(ROWS + 1, 2), r"6 x 2 does not fit .* \(4, 3, 2, 5, 8\)", id="too high"
        ),
        pytest.param(random_crop(2, COLUMNS + 1), "2 x 9 does not fit", id="too wide"),
    ],
)
def test_clips_that_are_too_small(function, message):
    with pytest.raises(ArgumentError, match=message):
        call(function, tf.constant(make_clips(4)))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(channels_last(), id="channels_last"),
        pytest.param(random_flip(), id="random_flip"),
        pytest.param(random_flip(data_format="channels_last"), id="random_flip, channels last"),
        pytest.param(random_flip(horizontal=False, vertical=True), id="random_flip, vertical"),
        pytest.param(random_crop(2, 3), id="random_crop"),
    ],
)
def test_clips_without_channels(function):
    # A mask of rank 5 would silently make (batch, batch, frames, rows, columns) of these.
    with pytest.raises(ArgumentError, match=r"Received: .*\(4, 3, 5, 8\)"):
        call(function, tf.constant(make_clips(4)[:, :, 0]))


# Their random choices


@pytest.mark.parametrize(
    "function",
    [random_flip(), random_crop(2, 3), temporal_subsample(1)],
    ids=["flip", "crop", "subsample"],
)
def test_choices_come_from_the_seeds_alone(function):
    clips, seeds = make_clips(1).repeat(50, axis=0), make_seeds(50)
    first = function(tf.constant(clips), seeds=seeds).numpy()
    np.testing.assert_array_equal(function(tf.constant(clips), seeds=seeds), first)
    # A clip of another place in another batch gets what its seeds say.
    np.testing.assert_array_equal(
        function(tf.constant(clips[:7]), seeds=seeds[::-1][:7]), first[::-1][:7]
    )
    assert len(np.unique(first, axis=0)) > 1
    other = function(tf.constant(clips), seeds=make_seeds(50, epoch=1))
    assert not np.array_equal(other, first)


@pytest.mark.parametrize("probability", [0, 0.1, 0.5, 0.9, 1])
def test_flips_are_as_frequent_as_asked_for(probability):
    num = 20_000
    clips = np.broadcast_to(np.arange(4).reshape(1, 1, 1, 2, 2), (num, 1, 1, 2, 2))
    function = random_flip(vertical=True, probability=probability)
    result = function(tf.constant(clips), seeds=make_seeds(num)).numpy()
    corner = result[:, 0, 0, 0, 0]
    rows, columns = corner // 2, corner % 2
    for flipped in (rows, columns):
        assert flipped.mean() == pytest.approx(
            probability, abs=0 if probability in (0, 1) else 0.02
        )
    if 0 < probability < 1:
        assert correlation(rows, columns) < 0.03


def test_windows_are_spread_evenly():
    num = 24_000
    clips = np.broadcast_to(np.arange(48).reshape(1, 1, 1, 6, 8), (num, 1, 1, 6, 8))
    result = random_crop(1, 1)(tf.constant(clips), seeds=make_seeds(num)).numpy()
    counts = np.bincount(result.ravel(), minlength=48)
    assert counts.min() > 375  # 500 and six standard deviations of 22
    assert counts.max() < 625
    assert correlation(result.ravel() // 8, result.ravel() % 8) < 0.03


def test_starts_are_spread_evenly():
    num = 7000
    result = temporal_subsample(1)(tf.constant(frames_of(num)), seeds=make_seeds(num))
    counts = np.bincount(result[:, 0, 0, 0, 0], minlength=7)
    assert (abs(counts - 1000) < 180).all()


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
        found = transforms._uniform(tf.constant(seeds, tf.int32), draw)
        np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_uniform_numbers_are_uniform():
    num = 100_000
    draws = [transforms._uniform(make_seeds(num), draw).numpy() for draw in (1, 2, 3)]
    draws += [transforms._uniform(make_seeds(num, epoch=1), 1).numpy()]
    for draw in draws:
        assert draw.dtype == np.float32
        assert draw.min() >= 0
        assert draw.max() < 1
        assert draw.mean() == pytest.approx(1 / 2, abs=0.005)
        assert draw.var() == pytest.approx(1 / 12, abs=0.002)
        assert np.bincount((draw * 10).astype(int)) == pytest.approx(
            np.full(10, num / 10), rel=0.05
        )
        assert correlation(draw[1:], draw[:-1]) < 0.015  # of neighbours
    for i, first in enumerate(draws):
        assert all(correlation(first, second) < 0.015 for second in draws[:i])


def test_the_largest_draw_is_still_a_start_that_fits(monkeypatch):
    largest = np.float32(1 - 2**-24)
    monkeypatch.setattr(transforms, "_uniform", lambda *_: tf.constant([largest]))
    for spare in [*range(300), 2**16 - 2, 2**16 - 1, 2**16, 100_000]:
        assert transforms._random_starts(None, 1, spare).numpy().tolist() == [spare]


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
