"""Which datasets are decoded as pictures, what as, and what is said of the others."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
from picture_rows_helpers import FORMS, SIZE, as_strings, decoded, jpeg, png, write

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.callbacks.advice import Measurements, advise
from h5video_data.errors import (
    ArgumentError,
    FileFormatError,
    MissingFilterError,
    ReadError,
    UnsupportedDtypeError,
)
from h5video_data.storage import picture_rows
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.picture_rows import Decoding, StoredPictures, describe_pictures

ROWS = [jpeg(i) for i in range(7)]
WHOLE = (*SIZE, 3)


def opened(path, name="video", **arguments):
    """How a dataset is stored, as pictures; None: it is none of pictures."""
    with open_file(str(path)) as file:
        return describe_pictures(file[name], Decoding(**arguments))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


# --------------------------------------------------------------------------- what is decoded


@pytest.mark.parametrize("decode", ["auto", "image", None])
@pytest.mark.parametrize("form", FORMS)
def test_which_forms_are_decoded(path, form, decode):
    write(path, ROWS, form)
    is_decoded = decode == "image" or (decode == "auto" and not form.startswith("padded"))
    found = opened(path, decode=decode)
    assert isinstance(found, StoredPictures) is is_decoded
    if found is not None:
        assert (found.shape, found.dtype, found.codec) == ((7, *WHOLE), np.uint8, "jpeg")
        assert (found.fixed is None) is form.startswith("variable")
        assert (found.variable is None) is not form.startswith("variable")


CONTENTS = {
    "words": [b"walk" * 30, b"run" * 40],
    "begins a byte later": [b"\0" + ROWS[0]],
    "empty": [b"\0" * 100],
    "an mp4": [b"\0\0\0\x20ftypisom" + b"\0" * 100],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", CONTENTS)
def test_other_bytes_are_not_decoded(path, form, content):
    write(path, CONTENTS[content], form)
    assert opened(path, decode="image") is None


OTHERS = {
    "two axes of strings": np.array([ROWS[:2]], "S1200"),
    "two axes of opaque": np.array([ROWS[:2]], "V1200"),
    "an axis of bytes": np.frombuffer(ROWS[0], np.uint8),
    "three axes of bytes": np.frombuffer(ROWS[0][:600], np.uint8).reshape(1, 2, 300),
    "bool": np.ones((1, 500), bool),
    "uint16": np.frombuffer(ROWS[0][:600], np.uint16)[np.newaxis],
    "a scalar": np.void(ROWS[0]),
    "no rows": np.zeros((0, 500), np.uint8),
    "no rows of strings": np.zeros(0, "S500"),
    "a compound": np.zeros(3, [("a", "V300"), ("b", "V300")]),
    "numbers": np.zeros((5, 8, 8, 3), np.uint8),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_shapes_are_not_decoded(path, name):
    with h5py.File(path, "w") as file:
        file["video"] = OTHERS[name]
    assert opened(path, decode="image") is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cameras_in_a_second_axis_and_longer_elements_are_an_error(path, dtype):
    with h5py.File(path, "w") as file:
        shape = (2, 2) if dtype == np.uint8 else (2,)
        dataset = file.create_dataset("video", shape, h5py.vlen_dtype(dtype))
        for place in np.ndindex(shape):
            dataset[place] = np.frombuffer(ROWS[0].ljust(1000, b"\0"), dtype)
    with pytest.raises(UnsupportedDtypeError, match=r"pictures \(JPEG\).*shape \(rows,\)"):
        VideoLoader(path, x="video", y=None)


def test_strings_of_variable_length_are_not_decoded(path):
    with h5py.File(path, "w") as file:
        file["video"] = ["walk", "run"]
    assert opened(path, decode="image") is None


@pytest.mark.parametrize("form", ["strings", "opaque"])
def test_short_labels_are_not_looked_at(path, form, monkeypatch):
    write(path, [b"walk", b"run"], form)
    monkeypatch.setattr(picture_rows, "read_row", lambda *_: pytest.fail("a row was read"))
    assert opened(path) is None


def test_labels_that_are_strings_stay_class_numbers(path):
    with h5py.File(path, "w") as file:
        file["video"] = np.zeros((4, 6, 6, 3), np.uint8)
        file["long"] = np.array([b"walk" * 30, b"run" * 30] * 2)
        file["short"] = np.array([b"walk", b"run"] * 2)
    for name in ("long", "short"):
        with VideoLoader(path, x="video", y=name, shuffle=False) as loader:
            ((_, y),) = loader
            assert y.tolist() == [1, 0, 1, 0]


# --------------------------------------------------------------------------- the first picture


def test_the_first_picture_says_what_all_are(path):
    write(path, [b"", ROWS[0][:40], b"rubbish" * 30, png(3, (6, 8), 4), jpeg(4)])
    found = opened(path)
    assert (found.codec, found.shape, found.form.channels) == ("png", (5, 6, 8, 4), 4)


def test_no_more_than_some_rows_are_looked_at(path, monkeypatch):
    write(path, [b""] * 500)
    looked_at = []
    read_row = picture_rows.read_row
    monkeypatch.setattr(
        picture_rows, "read_row", lambda d, row: looked_at.append(row) or read_row(d, row)
    )
    assert opened(path) is None
    assert len(looked_at) == picture_rows.ROWS_LOOKED_AT
    assert (looked_at[0], looked_at[-1]) == (0, 499)


def test_no_whole_picture_is_an_error(path):
    write(path, [row[:40] for row in ROWS])
    with pytest.raises(FileFormatError, match=r"set.h5.*video.*no row that was looked at.*JPEG"):
        opened(path)


def test_rows_that_cannot_be_read_are_an_error(path):
    """Not a dataset of something else, of which the dtype would be at fault."""
    write(path, ROWS, "strings", chunks=(7,), fletcher32=True)
    with h5py.File(path) as file:
        offset = file["video"].id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as file:
        file.seek(offset + 50)
        file.write(b"\0\1\2\3")
    with pytest.raises(ReadError, match="video"):
        opened(path)


def test_a_filter_that_is_missing_is_named(path, monkeypatch):
    write(path, ROWS, "strings", chunks=(1,), compression="gzip")

    def refuse(_):
        raise MissingFilterError("no such filter")

    monkeypatch.setattr("h5video_data.storage.values.require_filters", refuse)
    with pytest.raises(MissingFilterError):
        opened(path)


def test_numbers_are_opened_without_their_filter(path, monkeypatch):
    """They are decoded here: to look whether they are pictures must not need HDF5's plugin."""
    write(path, ROWS, "padded", chunks=(1,), compression="gzip")
    real = picture_rows.read_row

    def read_row(dataset, row):
        if row == 0:
            raise MissingFilterError("no such filter")
        return real(dataset, row)

    monkeypatch.setattr(picture_rows, "read_row", read_row)
    with VideoLoader(path, x="video", y=None) as loader:
        assert next(iter(loader)).shape == (7, max(map(len, ROWS)))


# --------------------------------------------------------------------------- size, color, dtype


def test_sizes_and_channels(path):
    write(path, [png(0, (6, 8), 4)])
    assert opened(path, image_size=(3, 5)).shape == (1, 3, 5, 4)
    assert opened(path, image_size=(3, 5), color_mode="rgb").shape == (1, 3, 5, 3)
    assert opened(path, color_mode="grayscale").shape == (1, 6, 8, 1)
    assert opened(path, color_mode="rgba").row_nbytes == 6 * 8 * 4
    write(path, [png(0, (6, 8), 1, np.uint16)])
    found = opened(path)
    assert (found.shape, found.dtype, found.row_nbytes) == ((1, 6, 8, 1), np.uint16, 96)


def files_of(folder, rows_of_files, form="variable"):
    return [write(folder / f"{i}.h5", rows, form) for i, rows in enumerate(rows_of_files)]


DIFFERENT = {
    "size": ([jpeg(0)], [jpeg(1, (30, 32))], "image_size"),
    "channels": ([jpeg(0)], [jpeg(1, channels=1)], "color_mode"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_files_that_differ_are_an_error_that_says_what_helps(tmp_path, name):
    *rows, argument = DIFFERENT[name]
    paths = files_of(tmp_path, rows)
    with pytest.raises(FileFormatError, match=rf"must be alike.*{argument}"):
        VideoLoader(paths, x="video", y=None)
    given = {"image_size": {"image_size": (10, 12)}, "color_mode": {"color_mode": "rgb"}}[argument]
    with VideoLoader(paths, x="video", y=None, **given) as loader:
        assert next(iter(loader)).shape[:2] == (2, given.get("image_size", SIZE)[0])


def test_padded_rows_of_files_that_differ_in_length(tmp_path):
    paths = files_of(tmp_path, [ROWS[:2], [jpeg(1, quality=99)]], "padded")
    with pytest.raises(FileFormatError, match='decode="image"'):
        VideoLoader(paths, x="video", y=None)
    with VideoLoader(paths, x="video", y=None, decode="image", shuffle=False) as loader:
        (found,) = loader
    np.testing.assert_array_equal(found[2], decoded(jpeg(1, quality=99)))


@pytest.mark.parametrize(
    "arguments",
    [{"decode": "image"}, {"image_size": (4, 4)}, {"color_mode": "rgb"}],
    ids=lambda item: next(iter(item)),
)
def test_arguments_of_pictures_where_there_are_none(path, arguments):
    with h5py.File(path, "w") as file:
        file["video"] = np.zeros((3, 6, 6, 3), np.uint8)
    with pytest.raises(ArgumentError, match=r"encoded pictures.*video.*\(3, 6, 6, 3\)"):
        VideoLoader(path, x="video", y=None, **arguments)


def test_pictures_in_another_file_than_the_first(tmp_path):
    """Numbers of the same size in one file, pictures in the other."""
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["video"] = np.full((2, 10, 12, 3), 7, np.uint8)
    paths = [str(tmp_path / "0.h5"), write(tmp_path / "1.h5", ROWS)]
    with VideoLoader(paths, x="video", y=None, image_size=(10, 12), shuffle=False) as loader:
        (found,) = loader
    assert found.shape == (9, 10, 12, 3)
    assert (found[:2] == 7).all()
    assert (found[2:] != 7).any()


WRONG = {
    "decode": "jpeg",
    "image_size": (4, 0),
    "interpolation": "cubic",
    "color_mode": "bgr",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(path, name):
    write(path, ROWS)
    with pytest.raises(ArgumentError, match=f"`{name}`.*Received"):
        VideoLoader(path, x="video", y=None, **{name: WRONG[name]})


@pytest.mark.parametrize("size", [4, (4,), (4, 4, 3), (4.0, 4), "44"], ids=str)
def test_image_size_is_rows_and_columns(path, size):
    write(path, ROWS)
    with pytest.raises(ArgumentError, match="`image_size` must be"):
        VideoLoader(path, x="video", y=None, image_size=size)


# --------------------------------------------------------------------------- left as bytes


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if "pictures" in r.getMessage()]


def test_padded_pictures_stay_bytes_with_one_warning(tmp_path, caplog):
    rows = [ROWS, ROWS[::-1], ROWS]
    paths = files_of(tmp_path, rows, "padded")
    with VideoLoader(paths, x="video", y="number", shuffle=False) as loader:
        x, _ = next(iter(loader))
    length = max(map(len, ROWS))
    assert (x.shape, x.dtype) == ((21, length), np.uint8)
    for row, data in enumerate(ROWS):
        assert x[row].tobytes() == data.ljust(length, b"\0")
    (message,) = warnings_of(caplog)
    assert re.search(r"0\.h5.*'/video'.*decode=\"image\"", message)


def test_no_warning_where_it_is_no_news(path, tmp_path, caplog):
    write(path, ROWS, "padded")
    for decode in ("image", None):
        with VideoLoader(path, x="video", y=None, decode=decode):
            pass
    h5v.split_samples(path, 0.5, x="video", y="number")
    h5v.repack(path, tmp_path / "new.h5", x="video")
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("padded")])
def test_without_decoding_rows_are_no_tensor(path, form):
    write(path, ROWS, form)
    with pytest.raises(UnsupportedDtypeError, match=r"pictures \(JPEG\)"):
        VideoLoader(path, x="video", y="number", decode=None)


@pytest.mark.parametrize("decode", ["auto", "image", None])
@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("padded")])
@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_a_picture_for_each_recording_is_no_class(path, form, decode, codec):
    """Each would be a class of its own."""
    with h5py.File(path, "w") as file:
        for i in range(4):
            file[f"ep_{i}/frames"] = np.zeros((6, 5, 5, 3), np.uint8)
            FORMS[form](file, f"ep_{i}/thumbnail", [jpeg(i) if codec == "jpeg" else png(i)])
    with pytest.raises(FileFormatError, match=r"thumbnail.*pictures"):
        VideoLoader(path, x="ep_*/frames", y="ep_*/thumbnail", windows=3, decode=decode)


def test_opaque_values_of_recordings_are_an_error(path):
    with h5py.File(path, "w") as file:
        for i in range(2):
            file[f"ep_{i}/frames"] = np.zeros((6, 5, 5, 3), np.uint8)
            file[f"ep_{i}/tag"] = np.void(b"ab" * (i + 1))
    with pytest.raises(FileFormatError, match=r"tag.*numbers or strings"):
        VideoLoader(path, x="ep_*/frames", y="ep_*/tag", windows=3)


def test_pictures_of_each_row_are_no_class_if_not_decoded(path):
    with h5py.File(path, "w") as file:
        for i in range(2):
            file[f"ep_{i}/frames"] = np.zeros((7, 5, 5, 3), np.uint8)
            as_strings(file, f"ep_{i}/rgb", ROWS)
    with pytest.raises(FileFormatError, match=r"rgb.*pictures"):
        VideoLoader(path, x="ep_*/frames", y="ep_*/rgb", windows=3, decode=None)


def test_recordings_of_one_row(path):
    """As many pictures as recordings: they are still the pictures of rows."""
    with h5py.File(path, "w") as file:
        for i in range(3):
            file[f"ep_{i}/state"] = np.full((1, 2), i)
            as_strings(file, f"ep_{i}/rgb", [jpeg(i)])
    with VideoLoader(path, x="ep_*/state", y="ep_*/rgb", windows=1, shuffle=False) as loader:
        ((x, y),) = loader
    for i in range(3):
        assert x[i].tolist() == [[i, i]]
        np.testing.assert_array_equal(y[i], decoded(jpeg(i)))


# --------------------------------------------------------------------------- clips


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_clips_of_pictures_are_an_error(path, axis):
    """They would be rows of pixels."""
    write(path, ROWS)
    with pytest.raises(ArgumentError, match=r"one encoded picture.*windows"):
        VideoLoader(path, x="video", y=None, clip=Clip(4, axis=axis))


def test_pictures_beside_clips_stay_whole(path):
    """Although they have as many rows of pixels as x has frames."""
    with h5py.File(path, "w") as file:
        frames = np.arange(7 * 24).reshape(7, 24, 1, 1, 1) % 251
        file["X"] = np.broadcast_to(frames, (7, 24, 5, 5, 3)).astype(np.uint8)
        as_strings(file, "picture", ROWS)
    for names in ({"x": "X", "y": "picture"}, {"x": {"X": "X", "picture": "picture"}, "y": None}):
        with VideoLoader(path, clip=Clip(4, position="start"), shuffle=False, **names) as loader:
            (found,) = loader
        clips, pictures = found.values() if isinstance(found, dict) else found
        np.testing.assert_array_equal(clips[:, :, 0, 0, 0], frames[:, :4, 0, 0, 0])
        np.testing.assert_array_equal(pictures, np.stack([decoded(row) for row in ROWS]))
    with pytest.raises(ArgumentError, match="as many frames as x"):
        VideoLoader(path, x="X", y="picture", clip=Clip(4, y=True))


# --------------------------------------------------------------------------- other tools


@pytest.mark.parametrize("form", FORMS)
def test_inspect_says_what_the_rows_are(path, form):
    write(path, ROWS, form)
    (report,) = (item for item in h5v.inspect(path).datasets if item.name == "video")
    assert report.path == "pictures"
    assert report.shape[1:] == (24, 32, 3)
    assert report.is_padded == form.startswith("padded")
    assert "JPEG, of 24 x 32 pixels" in str(report)


def test_inspect_of_pictures_of_which_none_is_whole(path):
    write(path, [row[:40] for row in ROWS])
    (report,) = (item for item in h5v.inspect(path).datasets if item.name == "video")
    assert report.path == "none"


@pytest.mark.parametrize("form", FORMS)
def test_repack_decodes_pictures_of_x_alone(path, tmp_path, form):
    write(path, ROWS, form)
    new = tmp_path / "new.h5"
    if form.startswith("padded"):
        h5v.repack(path, new, x="video")
        with h5py.File(path) as one, h5py.File(new) as other:
            np.testing.assert_array_equal(one["video"][:], other["video"][:])
    else:
        h5v.repack(path, new, x="video")
        with h5py.File(new) as file:
            np.testing.assert_array_equal(file["video"][:], [decoded(row) for row in ROWS])
    with h5py.File(path, "a") as file:
        file["X"] = np.zeros((7, 4, 4, 3), np.uint8)
    h5v.repack(path, new, overwrite=True)
    with h5py.File(path) as one, h5py.File(new) as other:
        for row in range(7):
            assert np.asarray(one["video"][row]).tobytes() == (
                np.asarray(other["video"][row]).tobytes()
            )


def test_splits_need_no_alike_pictures(tmp_path):
    paths = files_of(tmp_path, [ROWS, [jpeg(i, (30, 20)) for i in range(5)]])
    training, validation = h5v.split_samples(paths, 0.25, x="video", y="number", seed=1)
    assert sorted([*training, *validation]) == list(range(12))
    with VideoLoader(
        paths, x="video", y="number", image_size=(8, 8), validation_split=0.25, subset="validation",
        seed=1,
    ) as loader:  # fmt: skip
        assert loader.sample_indices.tolist() == validation.tolist()


def test_splits_of_recordings_by_a_dataset_beside_them(tmp_path):
    """Which is read by itself, from files whose pictures differ in size."""
    paths = files_of(tmp_path, [ROWS, [jpeg(i, (30, 20)) for i in range(7)], ROWS, ROWS], "padded")
    for number, path in enumerate(paths):
        with h5py.File(path, "a") as file:
            file["subject"] = np.full(7, number % 2)
    arguments = {"x": "video", "y": None, "windows": h5v.Windows(3)}
    arguments |= {"split_by": "subject", "seed": 0}
    training, validation = h5v.split_samples(paths, 0.5, **arguments)
    assert len(training) == len(validation) == 10
    with VideoLoader(
        paths, validation_split=0.5, subset="validation", decode="image", image_size=(8, 8),
        **arguments,
    ) as loader:  # fmt: skip
        assert loader.sample_indices.tolist() == validation.tolist()


@pytest.mark.parametrize("rule", ["split_by", "stratify_by"])
@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_no_ids_of_recordings(path, form, rule):
    write(path, ROWS, form)
    with pytest.raises(ArgumentError, match=r"one value a row.*rows of shape \(24, 32, 3\)"):
        h5v.split_samples(path, 0.5, x="number", y=None, windows=h5v.Windows(1), **{rule: "video"})


def test_statistics_of_channels(path):
    write(path, ROWS)
    with VideoLoader(path, x="video", y=None) as loader:
        mean, std = h5v.channel_statistics(loader, data_format="channels_last")
    whole = np.stack([decoded(row) for row in ROWS])
    np.testing.assert_allclose(mean, whole.mean((0, 1, 2)))
    np.testing.assert_allclose(std, whole.std((0, 1, 2)))


@pytest.mark.parametrize(("limit", "says"), [("decode", "smaller pictures"), ("read", "HDF5")])
def test_advice_is_true_of_pictures(path, limit, says):
    """`repack` decodes none, and what only HDF5 reads is named."""
    write(path, ROWS)
    name = "video"
    if limit == "read":
        name, layout = "virtual", h5py.VirtualLayout((7,), h5py.vlen_dtype(np.uint8))
        layout[:] = h5py.VirtualSource(str(path), "video", (7,), h5py.vlen_dtype(np.uint8))
        with h5py.File(path, "a") as file:
            file.create_virtual_dataset("virtual", layout)
    shares = dict.fromkeys(("read", "decode", "map", "hand_over"), 0.0) | {limit: 0.5}
    with VideoLoader(path, x=name, y=None) as loader:
        list(loader)
        measured = Measurements(
            num_steps=10, num_samples=7, seconds=1.0, wait=0.5, first_wait=0.0, is_first=False,
            stats=loader.stats, **shares,
        )  # fmt: skip
        said = advise(measured, loader)
    assert says in said
    assert "lighter codec" not in said
