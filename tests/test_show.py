"""`show`: which samples, in which form, with which labels; and what it leaves alone."""

import struct
import zlib

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.testing import recording_values, write_recordings, write_video_file
from h5video_data.tools.showing.frames import as_frames, as_pixels, resized, value_range
from h5video_data.tools.showing.labels import class_of, label_text
from h5video_data.tools.showing.lettering import written
from h5video_data.tools.showing.png import encode_png


def decoded(png):
    """Decodes a PNG that `encode_png` wrote, or the first picture of a moving one."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, size, kinds = 8, b"", None, []
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        crc = struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        assert crc == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        data += body if kind == b"IDAT" else b""
        kinds.append(kind)
        at += 12 + length
    columns, rows = size
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(rows, 1 + 3 * columns)
    pixels = np.add.accumulate(lines[:, 1:], axis=0, dtype=np.uint8)
    return pixels.reshape(rows, columns, 3), kinds


def test_png():
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8))
    pixels, kinds = decoded(encode_png(frames[:1]))
    np.testing.assert_array_equal(pixels, frames[0])
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    pixels, kinds = decoded(encode_png(frames))
    np.testing.assert_array_equal(pixels, frames[0])
    assert kinds[1:-1] == [b"acTL", b"fcTL", b"IDAT", b"fcTL", b"fdAT", b"fcTL", b"fdAT"]


def test_png_of_another_decoder():
    imagecodecs = pytest.importorskip("imagecodecs")
    frame = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(imagecodecs.png_decode(encode_png([frame])), frame)


def test_letters():
    text = written("I")
    assert text.shape == (8, 6)
    assert text[:7, 2].all()
    assert not text[:, 0].any()
    assert written("", 2).shape == (16, 0)
    np.testing.assert_array_equal(written("\u00e9"), written("?"))
    assert len({written(chr(code)).tobytes() for code in range(32, 127)}) == 95


FORMS = {
    "channels first": ((4, 3, 8, 9), None, None, (4, 8, 9, 3)),
    "channels last": ((4, 8, 9, 3), None, None, (4, 8, 9, 3)),
    "grey": ((4 + 2, 8, 9), None, None, (6, 8, 9, 1)),
    "an image": ((8, 9, 3), None, None, (1, 8, 9, 3)),
    "an image, channels first": ((3, 8, 9), None, None, (1, 8, 9, 3)),
    "three grey frames": ((3, 8, 9), None, 0, (3, 8, 9, 1)),
    "said": ((4, 3, 8, 3), "channels_last", None, (4, 3, 8, 3)),
    "a grey image": ((8, 9), None, None, (1, 8, 9, 1)),
    "frames last": ((8, 9, 6), None, 2, (6, 8, 9, 1)),
}


@pytest.mark.parametrize(("shape", "form", "axis", "expected"), FORMS.values(), ids=FORMS)
def test_axes(shape, form, axis, expected):
    assert as_frames(np.zeros(shape), form, axis).shape == expected


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 8, 3), 'either axis may be the channels: pass data_format="channels_first" or'),
        ((4, 9, 8, 9), "no axis of 1 to 4 channels"),
        ((5,), "Samples must be"),
        ((4, 2, 3, 8, 8), "Samples must be"),
    ],
)
def test_axes_that_cannot_be_told(shape, message):
    with pytest.raises(ArgumentError, match=message):
        as_frames(np.zeros(shape))


def test_frames_of_too_many_channels():
    message = r"1 to 4 channels\. Received: .*\(4, 8, 9, 7\), data_format='channels_last'"
    with pytest.raises(ArgumentError, match=message):
        as_frames(np.zeros((4, 8, 9, 7)), "channels_last")


def test_flow_has_a_third_channel_that_does_not_change():
    frames = np.arange(24, dtype=np.uint8).reshape(1, 3, 4, 2)
    pixels = as_pixels(frames, (0.0, 255.0))
    np.testing.assert_array_equal(pixels[..., :2], frames)
    assert (pixels[..., 2] == 128).all()


def test_nothing_but_nan():
    frames = np.full((1, 2, 2, 1), np.nan, np.float32)
    assert value_range([frames]) == (0.0, 1.0)
    assert (as_pixels(frames, (0.0, 1.0)) == 0).all()


def test_large_frames_are_means_and_small_ones_repeated():
    frames = np.arange(48, dtype=np.uint8).reshape(1, 6, 8, 1)
    small = resized(frames, 3)
    expected = frames[0, ..., 0].reshape(3, 2, 4, 2).astype(int)
    by_rows = expected.sum(axis=1) // 2
    np.testing.assert_array_equal(small[0, ..., 0], by_rows.sum(axis=2) // 2)
    large = resized(frames, 12)
    np.testing.assert_array_equal(large, frames.repeat(2, axis=1).repeat(2, axis=2))
    wide = resized(frames[:, :1], 1)
    np.testing.assert_array_equal(wide, frames[:, :1])
    (uneven,) = resized(np.arange(5, dtype=np.uint8).reshape(1, 5, 1, 1), 2)
    assert uneven.ravel().tolist() == [0, 3]  # the means of 0, 1 and of 2, 3, 4


VALUES = {
    "uint8": (np.uint8([0, 100, 255]), [0, 100, 255]),
    "a mask": (np.uint8([0, 0, 1]), [0, 0, 255]),
    "0 to 1": (np.float32([0, 0.2, 0.6]), [0, 51, 153]),
    "-1 to 1": (np.float32([-1, 0, 0.6]), [0, 128, 204]),
    "other": (np.float64([-300, 0, 300]), [0, 128, 255]),
    "not all numbers": (np.float32([np.nan, 0, 1]), [0, 0, 255]),
    "bool": (np.array([False, True, True]), [0, 255, 255]),
    "int16": (np.int16([0, 1000, 2000]), [0, 128, 255]),
}


@pytest.mark.parametrize(("values", "expected"), VALUES.values(), ids=VALUES)
def test_values(values, expected):
    frames = values.reshape(1, 1, 3, 1)
    pixels = as_pixels(frames, value_range([frames]))
    assert pixels[0, 0, :, 0].tolist() == expected


LABELS = {
    "one-hot": (np.float32([0, 1, 0]), "b"),
    "number": (np.int64(2), "c"),
    "column": (np.int64([2]), "c"),
    "beyond the names": (np.int64(7), "7"),
    "probabilities": (np.float32([0.2, 0.1, 0.7]), "c 70%"),
    "several": (np.float32([1, 1, 0]), "a, b"),
    "actions": (np.float32([0.5, -2, 3, 4, 5]), "0.5, -2, 3, 4, ... (5,)"),
    "a string": (b"walk", "walk"),
    "a dict": ({"z": np.int64(1)}, "z: 1"),
}


@pytest.mark.parametrize(("value", "expected"), LABELS.values(), ids=LABELS)
def test_labels(value, expected):
    assert label_text(value, ["a", "b", "c"]) == expected


def test_classes():
    assert class_of(np.int64([2])) == 2
    assert class_of(np.float32([0.1, 0.9])) == 1
    for no_class in (np.zeros((2, 3)), [0.5, np.nan], np.array([b"a", b"b"]), 0.5, [0.2, 0.3]):
        assert class_of(no_class, ["a", "b"]) is None


def test_a_file(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)
    with h5py.File(file, "a") as opened:
        opened.attrs["class_names"] = ["w", "x", "y", "z"]
    grid = h5v.show(file, shuffle=False, num_samples=3)
    with h5py.File(file) as opened:
        x = np.moveaxis(opened["X"][1], 1, -1)
        label = "wxyz"[opened["Y"][1].argmax()]
    assert [cell.caption for cell in grid.cells][1] == f"#1 {label}"
    np.testing.assert_array_equal(grid.cells[1].frames[:, ::8, ::8], x)  # each pixel 8 times
    assert "3 samples of 4 frames" in repr(grid)
    grid.save(tmp_path / "a.png")
    pixels, _ = decoded((tmp_path / "a.png").read_bytes())
    assert pixels.shape[1] == 4 * 64 + 3 * 4 + 2 * 4
    grid.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text().count("data:image/png") == 3
    with pytest.raises(ArgumentError, match=r"must end in \.png or \.html"):
        grid.save(tmp_path / "a.gif")


def test_recordings(tmp_path):
    path = write_recordings(tmp_path / "a.h5", [9, 9], layout="groups", frame_shape=(16, 16, 3))
    (cell,) = h5v.show(path, num_samples=1, shuffle=False).cells
    rows = np.arange(9)
    expected = recording_values(np.zeros(9, int), rows, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(cell.frames[:, ::4, ::4], expected)


def test_three_grey_frames_of_a_window_are_no_image(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["f"] = np.zeros((9, 32, 32), np.uint8)
    (cell,) = h5v.show(tmp_path / "a.h5", x="f", y=None, windows=3, num_samples=1).cells
    assert cell.frames.shape == (3, 64, 64, 3)


def test_the_loader_goes_on_as_if_nobody_had_looked(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)
    options = {"batch_size": 4, "seed": 0}
    plain, looked_at = h5v.VideoLoader(file, **options), h5v.VideoLoader(file, **options)
    for _ in range(2):
        captions = [cell.caption.split()[0] for cell in h5v.show(looked_at, num_samples=6).cells]
        numbers = np.concatenate([item for _, item, _ in plain.batches()])
        assert captions == [f"#{number}" for number in numbers[:6]]
        np.testing.assert_array_equal(
            np.concatenate([item for _, item, _ in looked_at.batches()]), numbers
        )


def test_predictions(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=8)
    loader = h5v.VideoLoader(file, batch_size=4, shuffle=False)
    guesses = np.eye(4)[[0, 1, 2, 2, 0, 1, 2, 3]]
    grid = h5v.show(loader, num_samples=6, predictions=guesses)
    truth = np.concatenate([y for _, y in loader]).argmax(axis=1)[:6]
    assert [c.is_wrong for c in grid.cells] == (truth != guesses.argmax(axis=1)[:6]).tolist()
    by_model = h5v.show(loader, num_samples=1, predictions=lambda x: guesses[: len(x)])
    assert by_model.cells[0].caption == grid.cells[0].caption
    with pytest.raises(ArgumentError, match="a row for each of the 8 samples"):
        h5v.show(loader, predictions=guesses[:6])
    drawn = h5v.VideoLoader(file, batch_size=4, seed=0)
    with pytest.raises(ArgumentError, match="drawn anew each epoch"):
        h5v.show(drawn, predictions=guesses)


def test_predictions_of_several_outputs_and_a_note_below(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.linspace(-3, 5, 4 * 2 * 8 * 8 * 3).reshape(4, 2, 8, 8, 3).astype("f4")
    loader = h5v.VideoLoader(tmp_path / "a.h5", y=None, batch_size=4, shuffle=False)
    predictions = {"a": np.arange(4), "b": np.full((4, 1), 0.5)}
    grid = h5v.show(loader, num_samples=2, predictions=lambda _: predictions)
    assert [cell.caption for cell in grid.cells] == ["#0 -> a: 0, b: 0.5", "#1 -> a: 1, b: 0.5"]
    assert "<p>Black is -3, white is 0.9974.</p>" in grid.html(is_moving=False)


def test_a_dict_and_pictures_as_y(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pose"], file["rgb"] = np.zeros((4, 7)), np.zeros((4, 5, 32, 32, 3), np.uint8)
        file["mask"] = np.ones((4, 5, 32, 32, 1), np.uint8)
    loader = h5v.VideoLoader(
        tmp_path / "a.h5", x={"pose": "pose", "rgb": "rgb"}, y="mask", batch_size=4
    )
    cell = h5v.show(loader, num_samples=1).cells[0]
    assert cell.frames.shape == (5, 64, 128, 3)
    assert cell.frames[..., 64:, :].min() == 255
    with pytest.raises(ArgumentError, match="`key` must be one of x: 'pose'"):
        h5v.show(loader, key="depth")


@pytest.mark.parametrize(("num_y", "shape", "how"), [
    (5, (5, 64, 128, 3), "x | y"), (1, (5, 64, 128, 3), "x | y"), (3, (8, 64, 64, 3), "x, then y"),
])  # fmt: skip
def test_pictures_of_x_beside_those_of_y(tmp_path, num_y, shape, how):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.full((4, 5, 32, 32, 3), 50, np.uint8)
        file["y"] = np.full((4, num_y, 16, 16, 3), 200, np.uint8)  # of another size
    cell = h5v.show(tmp_path / "a.h5", x="x", y="y", num_samples=1, shuffle=False).cells[0]
    assert cell.caption == f"#0 {how}"
    assert cell.frames.shape == shape
    first, last = cell.frames[0, 0, 0], cell.frames[-1, 0, -1]
    assert (first[0], last[0]) == (50, 200)


def test_limits_are_those_of_both_and_sizes_those_of_x(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.full((4, 5, 32, 32, 3), 60, np.uint8)
        file["y"] = np.full((4, 5, 128, 96, 3), 80, np.uint8)
    options = {"x": "x", "y": "y", "num_samples": 1, "shuffle": False}
    (cell,) = h5v.show(tmp_path / "a.h5", limits=(0, 100), **options).cells
    assert cell.frames.shape == (5, 64, 64 + 48, 3)
    assert (cell.frames[0, 0, 0, 0], cell.frames[0, 0, -1, 0]) == (153, 204)
    (cell,) = h5v.show(tmp_path / "a.h5", **options).cells
    assert (cell.frames[0, 0, 0, 0], cell.frames[0, 0, -1, 0]) == (60, 80)


def test_single_samples(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=8)
    batches = h5v.show(h5v.VideoLoader(file, batch_size=4, seed=3), num_samples=5).cells
    single = h5v.show(h5v.VideoLoader(file, batch_size=None, seed=3), num_samples=5).cells
    assert [cell.caption for cell in single] == [cell.caption for cell in batches]
    for found, expected in zip(single, batches, strict=True):
        np.testing.assert_array_equal(found.frames, expected.frames)
    both = h5v.VideoLoader(file, x={"a": "X"}, batch_size=None, seed=3)
    np.testing.assert_array_equal(h5v.show(both, num_samples=1).cells[0].frames, single[0].frames)


def test_samples_that_cannot_be_read_leave_the_others_without_numbers(tmp_path):
    file = write_video_file(
        tmp_path / "a.h5", num_samples=4, chunks=(1, 4, 3, 8, 8), compression="gzip"
    )
    with h5py.File(file, "a") as opened:
        opened["X"].id.write_direct_chunk((1, 0, 0, 0, 0), b"no zlib stream")
    loader = h5v.VideoLoader(file, batch_size=4, shuffle=False, on_error="skip")
    assert [cell.caption.startswith("#") for cell in h5v.show(loader).cells] == [False] * 3


def test_what_goes_with_what(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=8)
    loader = h5v.VideoLoader(file, batch_size=4, shuffle=False)
    with pytest.raises(ArgumentError, match=r"`key` goes with a dict for x\. Received: key='a'"):
        h5v.show(loader, key="a")
    message = r"a row for each of the 4 samples of a batch\. Received: shape \(3, 4\)"
    with pytest.raises(ArgumentError, match=message):
        h5v.show(loader, predictions=lambda _: np.zeros((3, 4)))


def test_other_sources(tmp_path):
    with pytest.raises(ArgumentError, match="`source` must be a dataset"):
        h5v.show([1])
    file = write_video_file(tmp_path / "a.h5")
    with pytest.raises(ArgumentError, match=r"go with a path\. Received: 'clip'"):
        h5v.show(h5v.VideoLoader(file), clip=3)


@pytest.mark.tf
def test_datasets_with_their_map_functions(tmp_path):
    file = write_video_file(tmp_path / "a.h5", num_samples=20)

    def numbers(dataset):
        return [y.numpy().tolist() for _, y in dataset]

    def make(**options):
        return h5v.video_dataset_from_hdf5(file, batch_size=4, seed=0, **options)

    expected, plain = numbers(make()), make()
    h5v.show(plain)
    assert numbers(plain) == expected
    inverted = make(map_fn=lambda x, y: (255 - x, y))
    shown, dark = h5v.show(inverted).cells, h5v.show(make()).cells
    np.testing.assert_array_equal(shown[0].frames, 255 - dark[0].frames)
    assert numbers(inverted) == expected
    as_dict = make(map_fn=lambda x, y: ({"video": 255 - x}, y))
    for found, wanted in zip(h5v.show(as_dict).cells, shown, strict=True):
        np.testing.assert_array_equal(found.frames, wanted.frames)
    train = make()
    derived = train.map(lambda x, y: (x, y)).repeat().prefetch(2)
    h5v.show(derived)
    assert numbers(train) == expected
