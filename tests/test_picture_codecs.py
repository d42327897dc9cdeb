"""JPEG and PNG into arrays, against Pillow, TensorFlow and the values that were written."""

from __future__ import annotations

import io
import re
import tracemalloc

import numpy as np
import pytest
from conftest import tf
from picture_helpers import (
    GREY,
    GREY_ALPHA,
    JPEG_NAMES,
    PALETTE,
    RGB,
    RGBA,
    chunk,
    jpegs,
    png,
    save,
    smooth,
    with_jpeg_size,
    with_png_size,
)
from PIL import Image

from h5video_data.storage.pictures import jpeg
from h5video_data.storage.pictures.codecs import (
    CHANNELS,
    MAX_PICTURE_PIXELS,
    PictureError,
    decode_picture,
    encode_picture,
    picture_codec_of,
    read_header,
    reduction,
)
from h5video_data.storage.pictures.resizing import resize_into

RNG_VALUES = np.random.default_rng(5).integers(0, 1 << 16, (13, 11, 4), np.uint16)
MODES = [None, *CHANNELS]


def decode(data, color_mode=None):
    header = read_header(data)
    channels = header.channels if color_mode is None else CHANNELS[color_mode]
    out = np.full((header.rows, header.columns, channels), 7, header.dtype)
    decode_picture(data, header, out, color_mode)
    return out


# --------------------------------------------------------------------------- JPEG

COLOR_NAMES = [name for name in JPEG_NAMES if name not in ("rgb", "ycck") and "cmyk" not in name]
INK_NAMES = ["cmyk", "cmyk-no-adobe", "ycck"]


@pytest.mark.parametrize("name", COLOR_NAMES)
def test_jpeg_is_what_pillow_gives(name):
    data = jpegs()[name]
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data), pixels.reshape(60, 83, -1))
    assert abs(decode(data, "rgb").astype(int) - smooth()).mean() < 12 or name == "grey"


def test_jpeg_of_rgb_without_luma():
    assert abs(decode(jpegs()["rgb"]).astype(int) - smooth()).max() < 25


@pytest.mark.parametrize("name", ["cmyk", "ycck"])
def test_jpeg_of_inks_as_stored(name):
    """Pillow inverts them, as Adobe's programs do; libjpeg does not."""
    data = jpegs()[name]
    pillow = Image.open(io.BytesIO(data))
    assert pillow.mode == "CMYK"
    np.testing.assert_array_equal(decode(data), 255 - np.asarray(pillow))


@pytest.mark.parametrize("name", INK_NAMES)
@pytest.mark.parametrize("mode", CHANNELS)
def test_jpeg_of_inks_as_colors(name, mode):
    stored = decode(jpegs()[name]).astype(int)
    stored = 255 - stored if name == "cmyk-no-adobe" else stored  # Adobe stores 255 - ink
    colors = stored[..., :3] * stored[..., 3:] // 255
    if mode == "rgb":
        wanted = colors
    elif mode == "rgba":
        wanted = np.dstack([colors, np.full((60, 83), 255)])
    else:
        wanted = (colors @ [0.299, 0.587, 0.114])[..., None]
    assert abs(decode(jpegs()[name], mode) - wanted).max() <= (1.1 if mode == "grayscale" else 0)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in COLOR_NAMES for mode in (None, "grayscale", "rgb")]
    + [(name, "rgb") for name in ("rgb", *INK_NAMES)],  # of inks, TensorFlow makes nothing else
)
def test_jpeg_is_what_tensorflow_gives(name, mode):
    data = jpegs()[name]
    channels = CHANNELS.get(mode, 0)
    wanted = tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_array_equal(decode(data, mode), wanted)


@pytest.mark.parametrize("name", ["420", "grey"])
def test_jpeg_with_alpha(name):
    rgba = decode(jpegs()[name], "rgba")
    np.testing.assert_array_equal(rgba[..., :3], decode(jpegs()[name], "rgb"))
    assert (rgba[..., 3] == 255).all()


def test_exif_orientation_is_not_applied():
    data = jpegs()["exif"]
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert read_header(data).shape == (60, 83, 3)
    assert decode(data).shape == (60, 83, 3)


@pytest.mark.parametrize("name", JPEG_NAMES)
@pytest.mark.parametrize("padding", [0, 3000])
def test_jpeg_cut_short(name, padding):
    data = jpegs()[name]
    for stop in [len(data) * i // 20 for i in range(1, 20)] + [len(data) - 2, len(data) - 1]:
        with pytest.raises(PictureError, match=r"^(JPEG: (cut short|damaged)|neither)"):
            decode(data[:stop] + bytes(padding))


@pytest.mark.parametrize("name", JPEG_NAMES)
@pytest.mark.parametrize("padding", [1, 2, 5000])
def test_jpeg_padded(name, padding):
    data = jpegs()[name]
    np.testing.assert_array_equal(decode(data + bytes(padding)), decode(data))


def test_jpeg_with_a_thumbnail_in_it():
    """Its end of image is that of the thumbnail: the segment's length leads past it."""
    data, thumbnail = jpegs()["420"], jpegs()["grey"]
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    np.testing.assert_array_equal(decode(whole), decode(data))
    with pytest.raises(PictureError, match="cut short"):
        decode(whole[: len(segment) + 700])


def test_jpeg_whose_restarts_are_out_of_order():
    data = jpegs()["restarts"]
    offset = data.index(b"\xff\xd3", data.index(b"\xff\xda"))
    damaged = data[: offset + 1] + b"\xd5" + data[offset + 2 :]
    with pytest.raises(PictureError, match="restart markers out of order"):
        decode(damaged)
    stop = data.index(b"\xff\xd4", offset)
    with pytest.raises(PictureError, match="restart markers out of order"):
        decode(data[:offset] + data[stop:])  # one interval is missing


def test_jpeg_with_a_stray_marker():
    data = bytearray(jpegs()["420"])
    offset = data.index(b"\xff\xda") + 200
    data[offset : offset + 2] = b"\xff\x00"
    decode(bytes(data))  # no marker: a value. Nothing can be seen of it.
    data[offset : offset + 2] = b"\xff\xc0"
    with pytest.raises(PictureError, match=r"^JPEG: (damaged|cut short)"):
        decode(bytes(data))


def test_jpeg_of_very_many_scans(monkeypatch):
    """Each takes time by the size of the picture: they are counted before they are decoded."""
    data = jpegs()["progressive-444"]
    start = data.rindex(b"\xff\xda")
    decode(data[:-2] + data[start:-2] * 400 + data[-2:])
    monkeypatch.setattr(jpeg, "decode_jpeg", None)  # would fail
    with pytest.raises(PictureError, match="JPEG: more than 500 scans are refused"):
        decode(data[:-2] + data[start:-2] * 500 + data[-2:])


@pytest.mark.parametrize(
    ("first", "message"),
    [(0xDA, "no frame header before the first scan"), (0xD9, "no scan before the end")],
)
def test_jpeg_without_a_part(first, message):
    """Its marker in place of the frame's, or of the scan's."""
    data = bytearray(jpegs()["420"])
    data[data.index(b"\xff\xc0" if first == 0xDA else b"\xff\xda") + 1] = first
    with pytest.raises(PictureError, match=f"JPEG: damaged: {message}"):
        read_header(bytes(data))


@pytest.mark.parametrize("left", [0, 1])
def test_jpeg_cut_short_where_its_values_begin(left):
    data = jpegs()["progressive-420"]
    scan = data.index(b"\xff\xda")
    data = data[: scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big") + left]
    header = read_header(jpegs()["progressive-420"])
    out = np.zeros(header.shape, header.dtype)
    with pytest.raises(PictureError, match=f"JPEG: cut short: {len(data)} bytes, and no end-of"):
        jpeg.decode(np.frombuffer(data, np.uint8), header, out, None)


def test_jpeg_with_fill_bytes():
    """Any number of 0xFF may precede a marker."""
    data = jpegs()["restarts"]
    start = data.index(b"\xff\xda")
    filled = data[:start] + re.sub(rb"\xff(?=[^\0])", b"\xff\xff\xff", data[start:])
    assert len(filled) > len(data) + 20
    np.testing.assert_array_equal(decode(filled), decode(data))


@pytest.mark.parametrize("name", ["420", "progressive-420"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_jpeg_of_two_frames(name, place):
    data = jpegs()[name]
    start = next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data)
    frame = with_jpeg_size(data, 200, 300)[start : start + 19]
    offset = data.index(b"\xff\xda") if place == "first" else len(data) - 2
    with pytest.raises(PictureError, match=r"^JPEG"):
        decode(data[:offset] + frame + data[offset:])


def test_jpeg_of_arithmetic_codes_may_be_small():
    data = bytearray(with_jpeg_size(jpegs()["420"], 11_000, 12_000))
    data[data.index(b"\xff\xc0") + 1] = 0xC9
    assert read_header(bytes(data)).shape == (11_000, 12_000, 3)


@pytest.mark.parametrize(
    ("marker", "bits", "channels"), [(0xC3, 8, 3), (0xC0, 12, 3), (0xC1, 8, 2)]
)
def test_jpeg_of_another_kind(marker, bits, channels):
    data = bytearray(jpegs()["420"])
    offset = data.index(b"\xff\xc0")
    data[offset + 1], data[offset + 4], data[offset + 9] = marker, bits, channels
    with pytest.raises(PictureError, match="JPEG: this kind is not decoded"):
        read_header(bytes(data))


# --------------------------------------------------------------------------- PNG


def png_cases():
    """Yields name, PNG and the values as stored: (rows, columns, channels)."""
    for channels, kind in ((1, GREY), (2, GREY_ALPHA), (3, RGB), (4, RGBA)):
        for bits in (8, 16):
            values = RNG_VALUES[..., :channels] >> (16 - bits)
            for interlaced in (False, True):
                name = f"{channels}x{bits}{'-interlaced' * interlaced}"
                yield name, png(values, kind, bits, interlaced=interlaced), values
    for bits in (1, 2, 4):
        values = RNG_VALUES[..., :1] >> (16 - bits)
        yield f"grey-{bits}-bits", png(values, GREY, bits), values * (255 // ((1 << bits) - 1))
    palette = RNG_VALUES.reshape(-1, 4)[:16, :3] >> 8
    alpha = np.array([0, 100, 200] + [255] * 13, np.uint8)  # those left out are opaque
    for bits in (1, 2, 4, 8):
        indices = RNG_VALUES[..., :1] >> (16 - min(bits, 4))
        used = palette[: 1 << bits]
        colors = palette[indices[..., 0]]
        yield f"palette-{bits}-bits", png(indices, PALETTE, bits, palette=used), colors
        visible = png(indices, PALETTE, bits, palette=used, transparent=alpha[:2].tobytes())
        alphas = np.where(indices < 2, alpha[np.minimum(indices, 1)], 255)
        yield f"palette-{bits}-bits-alpha", visible, np.dstack([colors, alphas])
    options = {"palette": used, "transparent": alpha.tobytes(), "interlaced": True}
    of_all = np.dstack([colors, np.append(alpha, np.full(240, 255))[indices[..., 0]]])
    yield "palette-interlaced-alpha", png(indices, PALETTE, **options), of_all
    values = RNG_VALUES >> 14
    key = png(values[..., :1] * 64, GREY, transparent=b"\0\x40")
    yield "grey-key", key, np.dstack([values[..., 0] * 64, (values[..., 0] != 1) * 255])
    key = png(values[..., :3], RGB, transparent=b"\0\1\0\1\0\1")
    is_key = (values[..., :3] == 1).all(-1)
    yield "rgb-key", key, np.dstack([values[..., :3], ~is_key * 255])


PNG_CASES = [pytest.param(data, values, id=name) for name, data, values in png_cases()]


@pytest.mark.parametrize(("data", "values"), PNG_CASES)
def test_png_is_what_was_written(data, values):
    header = read_header(data)
    assert header.shape == values.shape
    decoded = decode(data + bytes(9))
    assert decoded.dtype == header.dtype == (np.uint16 if data[24] == 16 else np.uint8)
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize(("data", "values"), PNG_CASES)
@pytest.mark.parametrize("mode", CHANNELS)
def test_png_in_a_color_mode(data, values, mode):
    stored, top = values.shape[2], 65535 if data[24] == 16 else 255
    colors = values[..., :3] if stored >= 3 else np.repeat(values[..., :1], 3, -1)
    alpha = values[..., -1] if stored in (2, 4) else np.full(values.shape[:2], top)
    if mode == "grayscale":
        wanted = colors.astype(float) @ [0.299, 0.587, 0.114]
        assert abs(decode(data, mode)[..., 0] - wanted).max() <= (1 if top == 255 else 4)
        return
    wanted = colors if mode == "rgb" else np.dstack([colors, alpha])
    np.testing.assert_array_equal(decode(data, mode), wanted)


@pytest.mark.tf
@pytest.mark.parametrize(("data", "values"), PNG_CASES)
@pytest.mark.parametrize("mode", MODES)
def test_png_is_what_tensorflow_gives(data, values, mode):
    channels, dtype = CHANNELS.get(mode, 0), read_header(data).dtype.name
    wanted = tf.io.decode_png(data, channels=channels, dtype=dtype).numpy()
    if mode == "rgba" and data[24] < 8 and values.shape[2] != 4:
        assert wanted[..., 3].max() < 255  # TensorFlow's mistake: opaque is 255
        wanted[..., 3] = 255
    decoded = decode(data, mode)
    if mode is None:  # TensorFlow leaves out the alpha that one transparent color makes
        decoded = decoded[..., : wanted.shape[2]]
    np.testing.assert_array_equal(decoded, wanted)


@pytest.mark.parametrize(("data", "values"), PNG_CASES[:3])
def test_png_cut_short(data, values):
    del values
    for stop in [len(data) * i // 20 for i in range(1, 20)] + [len(data) - 1]:
        for padding in (0, 3000):
            with pytest.raises(PictureError, match=r"^(PNG: |neither a JPEG nor a PNG)"):
                decode(data[:stop] + bytes(padding))


def test_png_with_a_damaged_byte():
    """Each chunk that values depend on has a checksum; libpng need not look at those of all."""
    data = png(RNG_VALUES[..., :3] >> 8, RGB)
    for offset in range(8, len(data)):
        damaged = data[:offset] + bytes([data[offset] ^ 0x20]) + data[offset + 1 :]
        with pytest.raises(PictureError, match=r"^PNG: "):
            decode(damaged)


def test_png_with_other_chunks(caplog):
    """They are not looked at, damaged or not; their color profiles are not applied."""
    values = RNG_VALUES[..., :3] >> 8
    profile = chunk(b"iCCP", b"nonsense")
    gamma = chunk(b"gAMA", (100000).to_bytes(4, "big"))
    damaged = gamma[:-1] + bytes([gamma[-1] ^ 1])
    for more in ([profile], [gamma], [damaged], [chunk(b"tEXt", b"Title\0x")]):
        np.testing.assert_array_equal(decode(png(values, RGB, more=more)), values)
    assert not caplog.records


@pytest.mark.parametrize("interlaced", [False, True])
def test_png_whose_data_end_early(interlaced):
    whole = png(RNG_VALUES[..., :3] >> 8, RGB, interlaced=interlaced)
    short = with_png_size(whole, 14, 11)  # a row more than there are
    with pytest.raises(PictureError, match=r"^PNG: "):
        decode(short)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_interlaced_png_without_a_warning(channels, caplog):
    values = RNG_VALUES[..., :channels] >> 8
    data = png(values, {1: GREY, 3: RGB, 4: RGBA}[channels], interlaced=True)
    np.testing.assert_array_equal(decode(data), values)
    assert not caplog.records  # libpng has one for each picture


@pytest.mark.parametrize("place", [26, 27, 28])
def test_png_of_an_unknown_method(place):
    data = png(RNG_VALUES[..., :3] >> 8, RGB)
    header = data[16:place] + b"\2" + data[place + 1 : 29]
    with pytest.raises(PictureError, match="PNG: damaged: unknown compression, filter or"):
        read_header(data[:8] + chunk(b"IHDR", header) + data[33:])


def test_png_with_a_kind_that_is_none():
    with pytest.raises(PictureError, match="PNG: damaged: color type 3 with 16 bits"):
        read_header(png(RNG_VALUES[..., :1], PALETTE, 16))


# --------------------------------------------------------------------------- both


@pytest.mark.parametrize("rows", [60_000, MAX_PICTURE_PIXELS // 60_000 + 1])
@pytest.mark.parametrize("codec", ["jpeg", "jpeg-progressive", "png"])
def test_too_many_pixels_are_refused_before_memory_is_taken(codec, rows):
    if codec == "png":
        data = with_png_size(png(RNG_VALUES[..., :3] >> 8, RGB), rows, 60_000)
    else:
        data = jpegs()["progressive-420" if "progressive" in codec else "420"]
        data = with_jpeg_size(data, rows, 60_000)
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=f"{rows} x 60000 pixels.*refused"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_a_size_that_so_few_bytes_cannot_hold(codec):
    data = png(RNG_VALUES[..., :3] >> 8, RGB) if codec == "png" else jpegs()["420"]
    claims = with_png_size if codec == "png" else with_jpeg_size
    with pytest.raises(PictureError, match="cut short: 11000 x 12000 pixels need more than"):
        read_header(claims(data, 11_000, 12_000))


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_no_pixels(codec):
    data = png(RNG_VALUES[..., :3] >> 8, RGB) if codec == "png" else jpegs()["420"]
    claims = with_png_size if codec == "png" else with_jpeg_size
    with pytest.raises(PictureError, match="0 x 83 pixels"):
        read_header(claims(data, 0, 83))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, none of them other than 0"),
        (bytes(64), "64 bytes, none of them other than 0"),
        (b"GIF89a" + bytes(20), "neither a JPEG nor a PNG: begins with b'GIF89a"),
    ],
    ids=["empty", "zeros", "gif"],
)
def test_not_a_picture(data, message):
    assert picture_codec_of(data) is None
    with pytest.raises(PictureError, match=re.escape(message)):
        read_header(data)


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, "u1")])
def test_bytes_of_several_types(view):
    data = jpegs()["420"]
    assert picture_codec_of(view(data)).name == "jpeg"
    np.testing.assert_array_equal(decode(view(data)), decode(data))


def test_what_is_not_bytes_has_no_codec():
    assert picture_codec_of("text") is None
    assert picture_codec_of(3) is None


# --------------------------------------------------------------------------- encoding


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_there_and_back(channels, dtype):
    values = RNG_VALUES[..., :channels].astype(dtype)
    data = encode_picture(values, "png")
    np.testing.assert_array_equal(decode(data), values)
    assert np.asarray(Image.open(io.BytesIO(data))).shape[:2] == values.shape[:2]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_there_and_back(channels):
    pixels = smooth(channels=channels)
    best, worst = (encode_picture(pixels, "jpeg", quality) for quality in (95, 10))
    assert len(worst) < len(best) / 3
    np.testing.assert_array_equal(
        decode(best)[..., :channels], np.asarray(Image.open(io.BytesIO(best))).reshape(60, 83, -1)
    )
    assert abs(decode(best).astype(int) - pixels).mean() < 6
    np.testing.assert_array_equal(
        decode(encode_picture(pixels[..., 0])), decode(encode_picture(pixels[..., :1]))
    )


@pytest.mark.parametrize(
    ("array", "codec"),
    [
        (np.zeros((4, 5, 3), np.float32), "png"),
        (np.zeros((4, 5, 3), np.uint16), "jpeg"),
        (np.zeros((4, 5, 4), np.uint8), "jpeg"),
        (np.zeros((4, 5, 5), np.uint8), "png"),
        (np.zeros((0, 5, 3), np.uint8), "png"),
        (np.zeros(4, np.uint8), "png"),
    ],
    ids=str,
)
def test_an_array_that_is_not_encoded(array, codec):
    message = re.escape(f"Received: {array.dtype} {array.shape}")
    with pytest.raises(PictureError, match=f"a {codec.upper()} holds .*{message}"):
        encode_picture(array, codec)


# --------------------------------------------------------------------------- damage inside a scan


def test_jpeg_cut_short_whose_end_was_mended():
    """Grey below the cut, for libraries that pass on no warning."""
    data = jpegs()["420"]
    mended = data[: len(data) // 2] + b"\xff\xd9"
    assert np.asarray(Image.open(io.BytesIO(mended))).shape == (60, 83, 3)
    with pytest.raises(PictureError, match="JPEG: Corrupt JPEG data: premature end"):
        decode(mended)


@pytest.mark.parametrize("name", ["420", "grey", "progressive-420"])
def test_jpegs_with_bytes_overwritten_are_mostly_noticed(name):
    """Nothing checks the codes; but most bytes that change leave too many or too few."""
    data, rng, noticed = jpegs()[name], np.random.default_rng(0), 0
    begin = data.find(b"\xff\xda") + 14
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.integers(begin, len(data) - 2, 3):
            changed[place] = rng.integers(0, 255)
        try:
            decode(bytes(changed))
        except PictureError:
            noticed += 1
    assert noticed > {"420": 100, "grey": 100, "progressive-420": 20}[name]


@pytest.mark.parametrize("count", [1, 3, 608])
@pytest.mark.parametrize("value", [0, 0x28])
def test_jpeg_filled_up_before_its_end(count, value):
    """As some cameras write them: libjpeg warns of extraneous bytes."""
    data = jpegs()["420"]
    filled = data[:-2] + bytes([value]) * count + data[-2:]
    np.testing.assert_array_equal(decode(filled), decode(data))


def test_jpeg_with_data_that_no_value_needs():
    data = jpegs()["420"]
    noise = bytes(range(1, 200))
    with pytest.raises(PictureError, match="extraneous bytes before marker 0xd9"):
        decode(data[:-2] + noise + data[-2:])


# --------------------------------------------------------------------------- reduced


@pytest.mark.parametrize("name", ["420", "444", "progressive-420", "grey", "rgb", "cmyk"])
@pytest.mark.parametrize("divisor", jpeg.REDUCTIONS)
@pytest.mark.parametrize("mode", [None, "grayscale"])
def test_reduced_jpeg_is_the_mean_of_its_pixels(name, divisor, mode):
    kinds = jpegs(64, 88)
    header, whole = read_header(kinds[name]), decode(kinds[name], mode)
    out = np.empty((64 // divisor, 88 // divisor, whole.shape[2]), np.uint8)
    wanted = np.empty_like(out)
    decode_picture(kinds[name], header, out, mode)
    resize_into(whole, wanted, "area")
    difference = np.abs(out.astype(int) - wanted)
    assert difference.mean() < 1
    assert difference.max() < 12


def test_reduced_jpeg_with_a_harmless_warning():
    data = jpegs(64, 88)["420"]
    out, wanted = np.empty((2, 16, 22, 3), np.uint8)
    decode_picture(data, read_header(data), wanted)
    filled = data[:-2] + bytes(608) + data[-2:]
    decode_picture(filled, read_header(filled), out)
    assert np.abs(out.astype(int) - wanted).mean() < 1


@pytest.mark.parametrize(
    ("size", "wanted", "divisor"),
    [
        ((64, 88), (8, 11), 8),
        ((64, 88), (9, 11), 4),
        ((64, 88), (32, 44), 2),
        ((64, 88), (33, 40), 1),
        ((60, 88), (5, 5), 4),
        ((63, 88), (5, 5), 1),
        ((64, 88), (64, 88), 1),
        ((64, 88), (100, 5), 1),
    ],
)
def test_reduction_leaves_what_is_wanted_and_no_part_of_a_pixel(size, wanted, divisor):
    data = encode_picture(smooth(*size))
    assert reduction(read_header(data), *wanted) == divisor
    assert reduction(read_header(encode_picture(smooth(*size), "png")), *wanted) == 1


def test_jpeg_of_one_pixel():
    """It is decoded whole: reduced, it is as large, but the mean of all that its block holds."""
    block = save(Image.fromarray(smooth(8, 8)), quality=95, subsampling="4:4:4")
    data = with_jpeg_size(block, 1, 1)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data), whole)
    assert (whole != np.asarray(Image.open(io.BytesIO(block))).mean((0, 1)).round()).any()


def test_a_decoder_that_sees_another_size_than_the_header(monkeypatch):
    real = jpeg.decode_jpeg
    monkeypatch.setattr(jpeg, "decode_jpeg", lambda *args, **options: real(*args, **options)[:-1])
    with pytest.raises(PictureError, match=r"JPEG: damaged: \(59, 83\) pixels where \(60, 83\)"):
        decode(jpegs()["420"])


# --------------------------------------------------------------------------- what is remembered


def test_jpegs_of_one_writer_are_parsed_once(monkeypatch):
    """Their first segments are the same bytes; the compressed data are looked at each time."""
    data = [save(Image.fromarray(smooth()[::step])) for step in (1, -1)]
    wanted = [np.asarray(Image.open(io.BytesIO(each))) for each in data]
    decode(data[0])
    monkeypatch.setattr(jpeg, "_read_frame", None)  # would fail
    for each, pixels in zip(data, wanted, strict=True):
        np.testing.assert_array_equal(decode(each), pixels)
    with pytest.raises(PictureError, match="cut short"):
        decode(data[1][:-2])


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6, 200, 5000])
@pytest.mark.parametrize("place", ["first", "last"])
def test_jpeg_with_the_marker_of_a_scan_in_a_segment(length, place):
    """Or what would be its marker, if the segments were not followed by their lengths."""
    data = jpegs()["420"]
    payload = (bytes(length) + b"\xff\xda") if place == "last" else (b"\xff\xda" + bytes(length))
    segment = b"\xff\xfe" + (len(payload) + 2).to_bytes(2, "big") + payload
    np.testing.assert_array_equal(decode(data[:2] + segment + data[2:]), decode(data))


def test_jpegs_of_two_writers_by_turns():
    names = ["420", "444", "grey", "cmyk", "cmyk-no-adobe", "exif"]
    wanted = {name: decode(jpegs()[name], "rgb") for name in names}
    for name in names * 2:
        np.testing.assert_array_equal(decode(jpegs()[name], "rgb"), wanted[name])
    assert (wanted["cmyk"] != wanted["cmyk-no-adobe"]).any()
