"""Pictures as rows of one shape: what they are delivered as, and those that do not fit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from picture_helpers import GREY, PALETTE, RGB, jpegs, png, save, smooth
from PIL import Image

from h5video_data.storage.pictures.codecs import (
    PictureError,
    decode_picture,
    encode_picture,
    read_header,
    reduction,
)
from h5video_data.storage.pictures.forms import PictureDecoder, PictureForm, form_of
from h5video_data.storage.pictures.resizing import Interpolation, resize_into

PIXELS = smooth()
AS_RGB, AS_GREY = encode_picture(PIXELS, "png"), encode_picture(PIXELS[..., 0], "png")
AS_RGB16 = encode_picture(PIXELS.astype(np.uint16) * 257, "png")
LARGER = encode_picture(smooth(90, 120), "png")


TOO_LARGE = (
    "PNG of 90 x 120 pixels (rows x columns), where the others have 60 x 83; "
    "`image_size=(60, 83)` resizes all to one size"
)
TOO_FEW_CHANNELS = (
    "PNG with 1 channels, where the others have 3; `color_mode` ('grayscale', 'rgb' or 'rgba') "
    "makes them alike"
)


def delivered(form, data):
    out = np.full(form.shape, 7, form.dtype)
    form.decode_into(data, out)
    return out


def test_the_form_is_that_of_the_first_picture():
    form = form_of(read_header(AS_RGB))
    assert form == PictureForm(60, 83, 3, np.dtype("uint8"))
    np.testing.assert_array_equal(delivered(form, AS_RGB), PIXELS)


def test_pictures_of_several_codecs_are_one_form():
    form = form_of(read_header(AS_RGB))
    assert abs(delivered(form, jpegs()["444"]).astype(int) - PIXELS).mean() < 12


@pytest.mark.parametrize(
    ("color_mode", "channels"), [(None, 3), ("grayscale", 1), ("rgb", 3), ("rgba", 4)]
)
@pytest.mark.parametrize("data", [AS_RGB, AS_RGB16], ids=["8", "16"])
def test_form_in_a_color_mode(data, color_mode, channels):
    form = form_of(read_header(data), image_size=(20, 30), color_mode=color_mode)
    assert form.shape == (20, 30, channels)
    assert form.dtype == read_header(data).dtype
    assert delivered(form, data).shape == form.shape


def test_a_color_mode_makes_pictures_alike():
    """Grey, palette and RGB pictures are one dataset's."""
    form = form_of(read_header(AS_GREY), color_mode="rgb")
    np.testing.assert_array_equal(delivered(form, AS_GREY), np.repeat(PIXELS[..., :1], 3, -1))
    np.testing.assert_array_equal(delivered(form, AS_RGB), PIXELS)
    indices = PIXELS[..., :1] >> 6
    palette = np.array([[1, 2, 3], [40, 50, 60], [100, 90, 80], [255, 0, 7]])
    of_palette = png(indices, PALETTE, 2, palette=palette)
    np.testing.assert_array_equal(delivered(form, of_palette), palette[indices[..., 0]])


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("color_mode", [None, "grayscale"])
def test_a_picture_is_resized_after_it_is_decoded(interpolation, color_mode):
    header = read_header(AS_RGB)
    form = form_of(header, image_size=(24, 30), interpolation=interpolation, color_mode=color_mode)
    whole = delivered(form_of(header, color_mode=color_mode), AS_RGB)
    wanted = np.empty(form.shape, np.uint8)
    resize_into(whole, wanted, interpolation)
    np.testing.assert_array_equal(delivered(form, AS_RGB), wanted)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "lanczos3"])
def test_only_means_are_taken_of_a_reduced_picture(interpolation):
    data = encode_picture(smooth(96, 80))
    header = read_header(data)
    form = form_of(header, image_size=(24, 20), interpolation=interpolation)
    wanted = np.empty(form.shape, np.uint8)
    resize_into(delivered(form_of(header), data), wanted, interpolation)
    np.testing.assert_array_equal(delivered(form, data), wanted)


def test_means_are_those_of_a_picture_that_was_reduced_as_it_was_decoded():
    """By 2 here, as the third divides the height; and values stay near to the means of all."""
    data = encode_picture(smooth(100, 84))
    header = read_header(data)
    assert reduction(header, 24, 30) == 2
    form = form_of(header, image_size=(24, 30), interpolation="area")
    wanted, near = np.empty((2, *form.shape), np.uint8)
    reduced = np.empty((50, 42, 3), np.uint8)
    decode_picture(data, header, reduced)
    resize_into(reduced, wanted, "area")
    np.testing.assert_array_equal(delivered(form, data), wanted)
    resize_into(delivered(form_of(header), data), near, "area")
    assert 0 < np.abs(wanted.astype(int) - near).mean() < 1
    half = form_of(header, image_size=(50, 42), interpolation="area")
    np.testing.assert_array_equal(delivered(half, data), reduced)


def test_pictures_of_several_sizes():
    form = form_of(read_header(AS_RGB), image_size=(60, 83), interpolation="nearest")
    np.testing.assert_array_equal(delivered(form, AS_RGB), PIXELS)  # as it is
    wanted = np.empty((60, 83, 3), np.uint8)
    resize_into(smooth(90, 120), wanted, "nearest")
    np.testing.assert_array_equal(delivered(form, LARGER), wanted)


def test_pictures_of_several_sizes_by_turns():
    """The working memory of a larger one does not show in a smaller one."""
    form = form_of(read_header(AS_RGB), image_size=(30, 40))
    first = delivered(form, AS_RGB)
    delivered(form, LARGER)
    np.testing.assert_array_equal(delivered(form, AS_RGB), first)


def test_each_thread_has_its_own_working_memory():
    form = form_of(read_header(AS_RGB), image_size=(30, 40), color_mode="grayscale")
    pictures = [encode_picture(smooth(*size)) for size in ((400, 500), (500, 400))]
    wanted = [delivered(form, data) for data in pictures]
    equal = []

    def work(number):
        data = pictures[number % 2]
        equal.extend(np.array_equal(delivered(form, data), wanted[number % 2]) for _ in range(40))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(equal) == 240
    assert all(equal)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (LARGER, {}, TOO_LARGE),
        (save(Image.fromarray(smooth(90, 120))), {}, "JPEG of 90 x 120 pixels (rows x columns)"),
        (AS_GREY, {}, TOO_FEW_CHANNELS),
        (jpegs()["cmyk"], {}, "JPEG with 4 channels, where the others have 3"),
        (AS_GREY, {"image_size": (9, 9)}, "PNG with 1 channels"),
        (AS_RGB16, {}, "PNG of dtype uint16, where the others have uint8"),
        (AS_RGB16, {"color_mode": "rgb", "image_size": (9, 9)}, "PNG of dtype uint16"),
        (AS_RGB[:-5], {}, "PNG: cut short"),
        (b"GIF89a", {}, "neither a JPEG nor a PNG"),
        (b"", {}, "not a picture"),
    ],
    ids=["size", "jpeg-size", "channels", "inks", "channels-resized", "dtype", "dtype-resized",
         "cut", "gif", "empty"],
)  # fmt: skip
def test_a_picture_that_does_not_fit(data, options, message):
    form = form_of(read_header(AS_RGB), **options)
    with pytest.raises(PictureError, match="^" + re.escape(message)):
        delivered(form, data)


def test_a_picture_that_does_not_fit_touches_nothing():
    """Its size is compared before a byte of it is decoded."""
    out = np.full(PIXELS.shape, 7, np.uint8)
    with pytest.raises(PictureError):
        form_of(read_header(AS_RGB)).decode_into(LARGER, out)
    assert (out == 7).all()


@pytest.mark.parametrize("shape", [(60, 83), (60, 84, 3), (3, 60, 83), (60, 83, 4)], ids=str)
@pytest.mark.parametrize("image_size", [None, (60, 83), (30, 40)])
def test_an_array_of_another_shape_is_the_callers_mistake(shape, image_size):
    form = form_of(read_header(AS_RGB), image_size=image_size)
    with pytest.raises(ValueError, match=r"out.*Received"):
        form.decode_into(AS_RGB, np.empty(shape, np.uint8))


def test_an_array_that_is_not_contiguous_is_the_callers_mistake():
    form = form_of(read_header(AS_RGB))
    wide = np.empty((60, 166, 3), np.uint8)
    with pytest.raises(ValueError, match=r"must be a C-contiguous uint8 .*strides"):
        form.decode_into(AS_RGB, wide[:, ::2])


def test_an_array_of_another_dtype_is_the_callers_mistake():
    form = form_of(read_header(AS_RGB))
    with pytest.raises(ValueError, match=r"uint8.*Received: uint16"):
        form.decode_into(AS_RGB, np.empty(form.shape, np.uint16))


def test_rows_of_a_batch_are_written_in_place():
    form = form_of(read_header(AS_GREY))
    batch = np.full((3, *form.shape), 7, np.uint8)
    form.decode_into(png(PIXELS[..., :1], GREY), batch[1])
    np.testing.assert_array_equal(batch[1], PIXELS[..., :1])
    assert (batch[[0, 2]] == 7).all()
    assert read_header(png(PIXELS, RGB)).shape == PIXELS.shape


@pytest.mark.slow
def test_changed_pictures_end_in_an_error_or_a_picture():
    script = Path(__file__).with_name("fuzz_pictures.py")
    command = [sys.executable, str(script), "0", "2000"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(output)
    assert result["errors"] == result["died"] == []
    assert 100 < result["decoded"] < 1900
    assert result["MiB"] < 150


# Several of a batch: what is known of one holds for those that begin like it, and for no other.


def batch_of(form, pictures):
    out = np.full((len(pictures), *form.shape), 7, form.dtype)
    decoder = PictureDecoder(form, out)
    for place, data in enumerate(pictures):
        decoder.decode(np.frombuffer(data, np.uint8), place)
    return out


def test_each_picture_of_a_batch_is_decoded_by_its_own_header():
    others = {name: data for name, data in jpegs().items() if read_header(data).channels == 3}
    pictures = [data for other in others.values() for data in (others["444"], other, AS_RGB)]
    pictures += [LARGER, others["420"], encode_picture(smooth(90, 120)), others["420"]]
    for options in ({}, {"interpolation": "area"}, {"color_mode": "grayscale"}):
        form = form_of(read_header(AS_RGB), image_size=(60, 83), **options)
        alone = [delivered(form, data) for data in pictures]
        np.testing.assert_array_equal(batch_of(form, pictures), alone)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (encode_picture(smooth(90, 120)), "JPEG of 90 x 120 pixels"),
        (jpegs()["grey"], "JPEG with 1 channels"),
        (jpegs()["444"][:2000], "remature end|cut short"),
        (b"\xff\xd8\xff" + bytes(40), "JPEG: damaged"),
        (bytes(40), "not a picture"),
        (b"", "not a picture"),
    ],
)
def test_a_picture_after_another_is_checked_like_the_first(second, message):
    form = form_of(read_header(jpegs()["444"]))
    with pytest.raises(PictureError, match=message):
        batch_of(form, [jpegs()["444"], second])
