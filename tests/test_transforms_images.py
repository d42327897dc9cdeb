"""Images, of 4 dimensions: as clips of one frame, and never video without channels by mistake."""

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

NUM = 24
SHAPE = (NUM, 3, 12, 14)

SPATIAL = {
    "random_flip": (random_flip, {"vertical": True}),
    "random_crop": (random_crop, {"height": 5, "width": 6}),
    "random_resized_crop": (random_resized_crop, {"height": 5, "width": 6}),
    "resize": (resize, {"height": 5, "width": 6}),
    "random_erasing": (random_erasing, {"fill_value": [1, 2, 3]}),
    "cutmix": (cutmix, {}),
    "normalize": (normalize, {"mean": [1, 2, 3], "std": [4, 5, 6]}),
    "random_contrast": (random_contrast, {"factor": 0.5}),
    "random_saturation": (random_saturation, {"factor": 0.5}),
}
ANY_ORDER = {
    "random_brightness": (random_brightness, {"factor": 0.3}),
    "mixup": (mixup, {"alpha": 1.0}),
    "to_float": (to_float, {}),
}
OF_TIME = {
    "random_reverse": (random_reverse, {}),
    "random_temporal_crop": (random_temporal_crop, {"num_frames": 2}),
    "temporal_jitter": (temporal_jitter, {"num_frames": 2}),
    "temporal_subsample": (temporal_subsample, {"num_frames": 2, "position": "center"}),
}


def run(function, *element):
    return call(function, *element, seeds=make_seeds(NUM))


def each(functions):
    return pytest.mark.parametrize(("make", "options"), functions.values(), ids=functions)


@each({**SPATIAL, **ANY_ORDER})
@pytest.mark.parametrize("data_format", [None, "channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_are_clips_of_one_frame(make, options, data_format, dtype):
    images = noise(SHAPE, dtype)
    if make is to_float:
        options = {"scale": 2}
    if data_format == "channels_last":
        images = images.transpose(0, 2, 3, 1)
    if make not in (random_brightness, mixup, to_float):
        options = {**options, "data_format": data_format}
    found = run(make(**options), tf.constant(images))
    clips = run(make(**options), tf.constant(images[:, np.newaxis]))
    assert found.shape == (*clips.shape[:1], *clips.shape[2:])
    np.testing.assert_array_equal(found, clips[:, 0])
    assert not np.array_equal(found, images)


def test_channels_last():
    images = noise(SHAPE)
    np.testing.assert_array_equal(
        channels_last()(tf.constant(images)), images.transpose(0, 2, 3, 1)
    )
    with pytest.raises(ArgumentError, match="channels last already"):
        channels_last()(tf.constant(images.transpose(0, 2, 3, 1)))


@each({**SPATIAL, **ANY_ORDER, "channels_last": (channels_last, {})})
def test_shapes_are_static(make, options):
    options = {"scale": 2} if make is to_float else options

    def changed(x, seeds):
        return call(make(**options), x, seeds=seeds)

    graph = tf.function(changed, autograph=False).get_concrete_function(
        tf.TensorSpec((None, 3, 12, 14), tf.float32), tf.TensorSpec((None, 2), tf.int32)
    )
    images = noise(SHAPE, "float32")
    expected = run(make(**options), tf.constant(images)).shape
    # The seeds have the batch's size, by which boxes are cut.
    assert graph.output_shapes[1:] == expected[1:]


@each({**SPATIAL, "channels_last": (channels_last, {})})
@pytest.mark.parametrize("frames", [2, 5, 16])
def test_video_without_channels_is_no_image(make, options, frames):
    clips = tf.constant(noise((NUM, frames, 12, 14)))
    with pytest.raises(ArgumentError, match=r"1, 3 or 4 channels.*expand_dims\(x, 2\).*Received: "):
        run(make(**options), clips)
    # Two frames look like the channels of flow, and are an error for that.
    if make is not channels_last and frames > 2:
        with pytest.raises(ArgumentError, match=r"-1 for channels last.*data_format='channels_las"):
            run(make(**options, data_format="channels_last"), clips)


@each({name: SPATIAL[name] for name in SPATIAL if name not in ("random_saturation", "normalize")})
@pytest.mark.parametrize("frames", [2, 3, 4, 5])
def test_grey_video_taken_for_images_is_changed_alike(make, options, frames):
    """Whoever says that frames are channels has the same pixels moved."""
    clips = noise((NUM, frames, 12, 14))
    options = {**options, "data_format": "channels_first"}
    options.pop("fill_value", None)
    found = run(make(**options), tf.constant(clips))
    np.testing.assert_array_equal(
        found, run(make(**options), tf.constant(clips[:, :, None]))[:, :, 0]
    )


@pytest.mark.parametrize("name", ["random_flip", "resize", "normalize"])
def test_images_of_the_other_order(name):
    make, options = SPATIAL[name]
    images = noise(SHAPE)
    with pytest.raises(ArgumentError, match=r'last: pass data_format="channels_last"'):
        run(make(**options), tf.constant(images.transpose(0, 2, 3, 1)))
    with pytest.raises(ArgumentError, match="first: leave `data_format` out"):
        run(make(**options, data_format="channels_last"), tf.constant(images))


def test_statistics_must_be_of_the_channels():
    images = tf.constant(noise(SHAPE))
    for numbers, data_format in (([1, 2], None), ([1] * 12, None), ([1] * 14, "channels_first")):
        with pytest.raises(ArgumentError, match="one for each of the 3 channels"):
            normalize(numbers, 1, data_format=data_format)(images)


@each(OF_TIME)
@pytest.mark.parametrize("shape", [(NUM, 3, 12, 14), (NUM, 12, 12, 3), (NUM, 12, 12, 1)], ids=str)
def test_what_has_no_frames(make, options, shape):
    with pytest.raises(
        ArgumentError, match=r"axis of frames.*look like images.*Received: clips of"
    ):
        run(make(**options), tf.constant(noise(shape)))


@each(OF_TIME)
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((NUM, 4, 12, 12), id="stacked grey frames"),
        pytest.param((NUM, 16, 12, 12), id="grey video"),
        pytest.param((NUM, 16, 17, 3), id="joints"),
        pytest.param((NUM, 3, 17), id="features"),
    ],
)
def test_what_has_frames_and_four_dimensions(make, options, shape):
    clips = noise(shape)
    found = run(make(**options), tf.constant(clips))
    padded = clips.reshape(*shape, *[1] * (5 - len(shape)))
    expected = run(make(**options), tf.constant(padded)).numpy()
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


# One random choice for several values


MOVING = {
    name: SPATIAL[name]
    for name in ("random_flip", "random_crop", "random_resized_crop", "random_erasing", "cutmix")
}


@each(MOVING)
@pytest.mark.parametrize("data_format", [None, "channels_last"])
def test_masks_fit_their_images(make, options, data_format):
    options = {**options, "key": ("x", "y"), "data_format": data_format}
    if make is random_resized_crop:
        options["interpolation"] = "nearest"
    options.pop("fill_value", None)
    images = noise(SHAPE)
    if data_format:
        images = images.transpose(0, 2, 3, 1)
    first = (Ellipsis, slice(1)) if data_format else (slice(None), slice(1))
    masks = images[first] // 64
    x, y = run(make(**options), tf.constant(images), tf.constant(masks))
    assert x.shape.rank == y.shape.rank == 4
    np.testing.assert_array_equal(y, x.numpy()[first] // 64)
    assert not np.array_equal(x, images)


@each({**MOVING, "channels_last": (channels_last, {})})
def test_masks_without_channels_beside_clips(make, options):
    """Three frames of masks must not be taken for three channels."""
    clips = noise((NUM, 3, 3, 12, 14))
    with pytest.raises(ArgumentError, match=r"expand_dims\(y, 1\).*expand_dims\(y, 2\).*shapes"):
        run(make(**options, key=("x", "y")), tf.constant(clips), tf.constant(clips[:, :, 0]))


# Through the whole pipeline


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
def test_images_of_a_file(tmp_path, order):
    images = noise((NUM, 3, 16, 16))
    if order == "channels_last":
        images = images.transpose(0, 2, 3, 1)
    channel = (slice(None), slice(1)) if order == "channels_first" else (Ellipsis, slice(1))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["X"] = images
        file["M"] = images[channel] // 64
    options = {"key": ("x", "y"), "data_format": order}
    loader = h5v.VideoLoader(tmp_path / "f.h5", y="M")
    mean, std = h5v.channel_statistics(loader, data_format=order)
    axes = (0, 2, 3) if order == "channels_first" else (0, 1, 2)
    np.testing.assert_allclose(mean, images.mean(axis=axes))
    np.testing.assert_allclose(std, images.std(axis=axes))
    dataset = h5v.video_dataset_from_hdf5(
        tmp_path / "f.h5",
        y="M",
        batch_size=7,
        seed=0,
        map_fn=[
            random_crop(6, 8, **options),
            random_flip(vertical=True, **options),
            normalize(mean, std, data_format=order),
        ],
    )
    shape = (3, 6, 8) if order == "channels_first" else (6, 8, 3)
    assert dataset.element_spec[0] == tf.TensorSpec((None, *shape), tf.float32)
    for x, y in dataset:
        per_channel = (slice(None), None, None) if order == "channels_first" else slice(None)
        stored = np.rint(x.numpy() * std[per_channel] + mean[per_channel])
        np.testing.assert_array_equal(y, stored[channel] // 64)
