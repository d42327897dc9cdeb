"""One random choice for several values of an element: clips and masks, colour and flow."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tensorflow as tf
from transform_helpers import call, make_seeds, noise

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.transforms import (
    channels_last,
    cutmix,
    mixup,
    random_brightness,
    random_contrast,
    random_crop,
    random_erasing,
    random_flip,
    random_resized_crop,
    random_reverse,
    random_temporal_crop,
    resize,
    temporal_jitter,
    temporal_subsample,
)

NUM = 40
SHAPE = (NUM, 6, 3, 12, 14)
NEAREST = {"interpolation": "nearest"}

# What moves pixels or frames, so that masks made of the result are the result of the masks.
MOVING = {
    "random_flip": (random_flip, {"vertical": True}),
    "random_crop": (random_crop, {"height": 5, "width": 6}),
    "random_resized_crop": (random_resized_crop, {"height": 5, "width": 6, **NEAREST}),
    "resize": (resize, {"height": 5, "width": 6, **NEAREST}),
    "random_erasing": (random_erasing, {}),
    "channels_last": (channels_last, {}),
    "temporal_subsample": (temporal_subsample, {"num_frames": 2}),
    "temporal_subsample, the middle": (
        temporal_subsample,
        {"num_frames": 2, "position": "center"},
    ),
    "random_temporal_crop": (random_temporal_crop, {"num_frames": 2, "stride": (1, 3)}),
    "temporal_jitter": (temporal_jitter, {"num_frames": 3}),
    "random_reverse": (random_reverse, {}),
    "cutmix": (cutmix, {}),
}
moving = pytest.mark.parametrize(("make", "options"), MOVING.values(), ids=MOVING)


def masks_of(clips, dtype="int32"):
    """Class numbers for each pixel, one channel: a function of the clips' first channel."""
    return (np.asarray(clips)[:, :, :1] // 64).astype(dtype)


def run(function, *element):
    return call(function, *element, seeds=make_seeds(NUM))


@moving
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32"])
def test_masks_fit_their_clips(make, options, dtype):
    clips = noise(SHAPE)
    masks = masks_of(clips, dtype)
    x, y = run(make(**options, key=("x", "y")), tf.constant(clips), tf.constant(masks))
    assert y.dtype == dtype
    alone = run(make(**options), tf.constant(clips))
    np.testing.assert_array_equal(x, alone)
    seen = np.moveaxis(x, -1, 2) if make is channels_last else x
    found = np.moveaxis(y, -1, 2) if make is channels_last else y
    np.testing.assert_array_equal(found, masks_of(seen, dtype))


@moving
def test_values_of_dicts(make, options):
    clips = noise(SHAPE)
    rgb, flow, masks = map(tf.constant, (clips, -clips[:, :, :2].astype("int16"), masks_of(clips)))
    audio, labels, weights = tf.range(NUM), tf.eye(NUM), tf.ones(NUM)
    x = {"rgb": rgb, "audio": audio, "flow": flow}
    y = {"mask": masks, "class": labels}
    function = make(**options, key=["flow", "mask", "rgb"])
    new_x, new_y, new_weights = run(function, x, y, weights)
    assert list(new_x) == list(x)
    assert list(new_y) == list(y)
    assert new_x["audio"] is audio
    np.testing.assert_array_equal(new_x["rgb"], run(make(**options), rgb))
    np.testing.assert_array_equal(new_x["flow"], run(make(**options), flow))
    np.testing.assert_array_equal(new_y["mask"], run(make(**options), masks))
    if make is cutmix:
        expected = run(make(), rgb, labels, weights)[1:]
        np.testing.assert_array_equal(new_y["class"], expected[0])
        np.testing.assert_array_equal(new_weights, expected[1])
    else:
        assert new_y["class"] is labels
        assert new_weights is weights
    assert x["rgb"] is rgb  # what was given is as it was
    assert y["mask"] is masks


@pytest.mark.parametrize(
    "name",
    [name for name in MOVING if name != "cutmix"],  # which mixes what else is in y as labels
)
def test_what_is_not_named_stays(name):
    make, options = MOVING[name]
    clips, weights = noise(SHAPE), tf.constant(noise(SHAPE, "float32"))
    masks = tf.constant(masks_of(clips))
    _, y, w = run(make(**options), tf.constant(clips), masks, weights)
    assert y is masks
    assert w is weights
    x, y, w = run(make(**options, key="y"), tf.constant(clips), tf.constant(clips), weights)
    np.testing.assert_array_equal(x, clips)
    np.testing.assert_array_equal(y, run(make(**options), tf.constant(clips)))
    _, y, w = run(make(**options, key=("x", "sample_weight")), tf.constant(clips), masks, weights)
    assert y is masks
    np.testing.assert_array_equal(w, run(make(**options), weights))


@moving
@pytest.mark.parametrize("key", ["video", "y", ("x", "video")], ids=str)
def test_a_key_although_x_is_no_dict(make, options, key):
    with pytest.raises(ArgumentError, match=r"`key` must be one of \['x'\], .*Received: key='"):
        run(make(**options, key=key), tf.constant(noise(SHAPE)))


def test_colours_of_several_are_changed_alike():
    clips = noise(SHAPE, "float32")
    for function in (random_brightness, random_contrast):
        x, y = run(function(0.3, key=("x", "y")), tf.constant(clips), tf.constant(clips))
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, run(function(0.3), tf.constant(clips)))
        masks = tf.constant(masks_of(noise(SHAPE)))
        assert run(function(0.3), tf.constant(clips), masks)[1] is masks


@pytest.mark.parametrize(
    ("name", "other", "what"),
    [
        pytest.param("random_crop", (NUM, 6, 1, 11, 14), "rows", id="crop: rows"),
        pytest.param("random_crop", (NUM, 6, 1, 12, 7), "columns", id="crop: columns"),
        pytest.param("random_resized_crop", (NUM, 6, 1, 6, 7), "rows", id="resized crop"),
        pytest.param("random_erasing", (NUM, 6, 1, 6, 7), "rows", id="erasing"),
        pytest.param("cutmix", (NUM, 6, 1, 6, 7), "rows", id="cutmix"),
        pytest.param("temporal_subsample", (NUM, 5, 1, 12, 14), "frames", id="subsample"),
        pytest.param(
            "temporal_subsample, the middle", (NUM, 5, 1, 12, 14), "frames", id="the middle"
        ),
        pytest.param("random_temporal_crop", (NUM, 7), "frames", id="temporal crop"),
        pytest.param("temporal_jitter", (NUM, 5, 4), "frames", id="jitter"),
    ],
)
def test_sizes_that_cannot_have_the_same_boxes_or_frames(name, other, what):
    make, options = MOVING[name]
    function = make(**options, key=("x", "y"))
    with pytest.raises(ArgumentError, match=f"the same number of {what}. Received: shapes "):
        run(function, tf.constant(noise(SHAPE)), tf.constant(noise(other)))


def test_masks_of_other_sizes_where_that_makes_no_difference():
    clips = noise(SHAPE)
    half = clips[..., ::2, ::2]
    x, y = run(random_flip(key=("x", "y")), tf.constant(clips), tf.constant(half))
    np.testing.assert_array_equal(y, run(random_flip(), tf.constant(half)))
    flipped = (x.numpy() != clips).any(axis=(1, 2, 3, 4))
    np.testing.assert_array_equal((y.numpy() != half).any(axis=(1, 2, 3, 4)), flipped)
    x, y = run(resize(6, 7, key=("x", "y"), **NEAREST), tf.constant(clips), tf.constant(half))
    assert x.shape[-2:] == y.shape[-2:] == (6, 7)


def test_frame_labels_go_with_their_frames():
    clips = np.broadcast_to(np.arange(9).reshape(1, 9, 1, 1, 1), (NUM, 9, 1, 1, 1))
    labels = np.broadcast_to(np.eye(9, dtype=np.float32), (NUM, 9, 9))
    function = random_temporal_crop(3, (1, 2), key=("x", "y"))
    x, y = run(function, tf.constant(clips), tf.constant(labels))
    np.testing.assert_array_equal(y, np.eye(9)[x.numpy()[..., 0, 0, 0]])


def test_masks_without_the_axis_of_channels():
    clips = noise(SHAPE)
    for name in ("random_flip", "resize", "random_crop", "random_erasing"):
        make, options = MOVING[name]
        with pytest.raises(ArgumentError, match=r"tf.expand_dims.*Received: .*\(40, 6, 12, 14\)"):
            run(make(**options, key=("x", "y")), tf.constant(clips), tf.constant(clips[:, :, 0]))


# Interpolation

STRETCHING = pytest.mark.parametrize("make", [resize, random_resized_crop])
EACH = {"x": "bilinear", "y": "nearest"}


@STRETCHING
def test_clips_are_blended_and_masks_are_not(make):
    clips = noise(SHAPE)
    masks = masks_of(clips)
    x, y = run(
        make(5, 6, key=("x", "y"), interpolation=EACH), tf.constant(clips), tf.constant(masks)
    )
    np.testing.assert_array_equal(x, run(make(5, 6), tf.constant(clips)))
    np.testing.assert_array_equal(y, run(make(5, 6, **NEAREST), tf.constant(masks)))
    assert y.dtype == tf.int32
    # Of the same pixels: what masks the nearest pixels' clips have.
    nearest = run(make(5, 6, **NEAREST), tf.constant(clips))
    np.testing.assert_array_equal(y, masks_of(nearest))


@STRETCHING
@pytest.mark.parametrize("key", ["y", ("x", "y")], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_integers_of_y_are_not_blended_unless_told(make, key, dtype):
    clips = tf.constant(noise(SHAPE))
    masks = tf.cast(clips, dtype)
    with pytest.raises(ArgumentError, match=r"interpolation=\{.*nearest.*Received: u?int(8|64) of"):
        run(make(5, 6, key=key), clips, masks)
    _, y = run(make(5, 6, key=key, interpolation="bilinear"), clips, masks)
    np.testing.assert_array_equal(y, run(make(5, 6), masks))


@STRETCHING
def test_floats_are_blended_without_a_word(make):
    clips = tf.constant(noise(SHAPE, "float32"))
    x, y = run(make(5, 6, key=("x", "y")), clips, clips)
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(x, run(make(5, 6), clips))


@STRETCHING
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"interpolation": EACH}, r"names of `key`.*key=None", id="no key"),
        pytest.param({"interpolation": EACH, "key": "x"}, r"key='x'", id="one too many"),
        pytest.param({"interpolation": {"x": "area"}, "key": ("x", "y")}, "area", id="too few"),
        pytest.param(
            {"interpolation": {"x": "area", "y": "cubic"}, "key": ("x", "y")},
            "\"area\", .*'cubic'",
            id="no such interpolation",
        ),
    ],
)
def test_interpolations_that_make_no_sense(make, options, message):
    with pytest.raises(ArgumentError, match=message):
        make(5, 6, **options)


# Mixing


def test_an_image_in_y_is_mixed_as_x_is():
    clips = tf.constant(noise(SHAPE, "float32"))
    weights = tf.constant(np.linspace(0, 1, NUM), tf.float32)
    x, y, w = run(mixup(0.5, key=("x", "y")), clips, clips * 2, weights)
    np.testing.assert_array_equal(x, run(mixup(0.5), clips))
    np.testing.assert_allclose(y, x * 2, rtol=1e-6)
    np.testing.assert_array_equal(w, run(mixup(0.5), clips, tf.eye(NUM), weights)[2])


@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_class_numbers_are_not_blended(dtype):
    clips = noise(SHAPE)
    masks = tf.constant(masks_of(clips, dtype))
    with pytest.raises(ArgumentError, match=rf"`cutmix`; for y=x, .* Received: {dtype} of shape"):
        run(mixup(key=("x", "y")), tf.constant(clips), masks)
    with pytest.raises(ArgumentError, match=r"labels: y must be floats of shape"):
        run(mixup(), tf.constant(clips), masks)


# Through the whole pipeline


def test_masks_of_a_file(tmp_path):
    clips = noise(SHAPE)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["X"] = clips
        file["M"] = masks_of(clips)
    both = ("x", "y")
    dataset = h5v.video_dataset_from_hdf5(
        tmp_path / "f.h5",
        y="M",
        batch_size=7,
        seed=0,
        map_fn=[
            random_temporal_crop(4, key=both),
            random_resized_crop(8, 8, key=both, **NEAREST),
            random_flip(vertical=True, key=both),
            random_crop(6, 6, key=both),
            channels_last(key=both),
        ],
    )
    assert dataset.element_spec[1] == tf.TensorSpec((None, 4, 6, 6, 1), tf.int32)
    for x, y in dataset:
        np.testing.assert_array_equal(y, x.numpy()[..., :1] // 64)


def test_an_autoencoder(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["X"] = noise(SHAPE)
    dataset = h5v.video_dataset_from_hdf5(
        tmp_path / "f.h5",
        y="X",
        seed=0,
        map_fn=[random_crop(6, 6, key=("x", "y")), random_flip(key=("x", "y"))],
    )
    for x, y in dataset:
        np.testing.assert_array_equal(x, y)
