"""Encoded pictures, read and decoded: as their library decodes what h5py gives, or an error."""

from __future__ import annotations

import io
import json
import os
import re

import h5py
import numpy as np
import pytest
from conftest import Order, resident_nbytes, tf
from picture_rows_helpers import (
    FORMS,
    PICTURE_SCHEMAS,
    SIZE,
    STORAGES,
    UINT8_ROWS,
    as_padded,
    as_strings,
    as_variable,
    decoded,
    jpeg,
    picture,
    png,
    row_bytes,
    write,
    written_pictures,
)

from h5video_data import VideoLoader, Windows
from h5video_data.errors import (
    ArgumentError,
    FileChangedError,
    FileFormatError,
    ReadError,
    StateError,
)
from h5video_data.reading import byte_sources
from h5video_data.storage.pictures.resizing import resize_into

WHOLE = (*SIZE, 3)
ROWS = [jpeg(i) for i in range(23)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


@pytest.fixture(autouse=True)
def poisoned(poisoned_buffers):
    """What is not written shows."""


def samples(loader):
    """Number and arrays of each sample of an epoch, as they come."""
    return [
        (number, [array[i].copy() for array in arrays])
        for _, numbers, arrays in loader.batches()
        for i, number in enumerate(numbers.tolist())
    ]


def check(path, expected, **arguments):
    """Compares two epochs; the second goes into used buffers."""
    given = {"x": "video", "y": None, "seed": 0, "batch_size": 4, "num_threads": 2, **arguments}
    with VideoLoader(path, **given) as loader:
        for _ in range(2):
            found = samples(loader)
            for number, (x, *_) in found:
                assert (x.shape, x.dtype) == (expected[number].shape, expected[number].dtype)
                np.testing.assert_array_equal(x, expected[number])
        return [number for number, _ in found], loader.stats


# --------------------------------------------------------------------------- every storage


@pytest.mark.parametrize("userblock", [0, 1024])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("form", FORMS)
def test_values_are_those_of_the_bytes_that_h5py_gives(path, form, storage, userblock):
    write(path, ROWS, form, userblock=userblock, **STORAGES[storage])
    expected = written_pictures(path)
    order = np.random.default_rng(1).permutation(23)
    for shuffle in (False, Order(order)):
        numbers, stats = check(path, expected, shuffle=shuffle, decode="image")
        assert numbers == (order if shuffle else np.arange(23)).tolist()
    assert stats.num_samples == 46
    assert stats.read_bytes > 0 < stats.decode_seconds


def as_pillow(data):
    image_module = pytest.importorskip("PIL.Image")
    found = np.asarray(image_module.open(io.BytesIO(data)))
    return found if found.ndim == 3 else found[..., np.newaxis]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encode", [jpeg, png])
def test_values_are_those_of_pillow(path, form, encode, channels):
    rows = [encode(i, (37, 51), channels) for i in range(6)]
    write(path, rows, form)
    check(path, [as_pillow(row) for row in rows], decode="image")


@pytest.mark.tf
def test_values_are_those_of_tensorflow(path):
    rows = [jpeg(i, (37, 51)) for i in range(4)] + [png(4, (37, 51))]
    write(path, rows)
    expected = [
        tf.io.decode_jpeg(row, dct_method="INTEGER_ACCURATE").numpy() for row in rows[:4]
    ] + [tf.io.decode_png(rows[4]).numpy()]
    check(path, expected)
    for method in ("nearest", "bilinear", "area"):
        resized = [tf.image.resize(item, (20, 70), method).numpy() for item in expected]
        with VideoLoader(
            path, x="video", y=None, image_size=(20, 70), interpolation=method, shuffle=False
        ) as loader:
            (found,) = loader
        np.testing.assert_allclose(found, np.rint(np.clip(resized, 0, 255)), atol=1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=str)
def test_signed_bytes(path, dtype):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("video", (5,), h5py.vlen_dtype(np.dtype(dtype)))
        for i in range(5):
            dataset[i] = np.frombuffer(ROWS[i], dtype)
    check(path, [decoded(row) for row in ROWS[:5]])


def test_png_of_16_bits(path):
    rows = [png(i, dtype=np.uint16) for i in range(5)]
    write(path, rows)
    expected = [picture(i, dtype=np.uint16) for i in range(5)]
    assert max(item.max() for item in expected) > 255
    check(path, expected)
    with pytest.raises(ReadError, match=r"sample 5.*uint8.*uint16"):
        check(write(path, [*rows, png(5)]), expected)


@pytest.mark.parametrize("form", ["strings", "padded"])
def test_rows_in_several_chunks(path, form):
    """Bytes of a row in chunks of their own: of uint8 alone."""
    longest = max(map(len, ROWS))
    with h5py.File(path, "w") as file:
        data = np.stack([np.frombuffer(row.ljust(longest, b"\0"), np.uint8) for row in ROWS])
        if form == "padded":
            file.create_dataset("video", data=data, chunks=(4, 100), compression="gzip")
        else:
            as_strings(file, "video", ROWS, chunks=(23,), compression="lzf")
    check(path, [decoded(row) for row in ROWS], decode="image")


def test_rows_in_turns_with_others(path):
    """Two cameras and sounds in the same collections of the heap."""
    with h5py.File(path, "w") as file:
        cameras = [file.create_dataset(name, (23,), UINT8_ROWS) for name in ("video", "other")]
        words = file.create_dataset("words", (23,), h5py.string_dtype())
        for i, row in enumerate(ROWS):
            cameras[0][i] = np.frombuffer(row, np.uint8)
            words[i] = "word" * i
            cameras[1][i] = np.frombuffer(png(i), np.uint8)
        cameras[0][5] = np.frombuffer(jpeg(500), np.uint8)  # longer or shorter, elsewhere
    expected = written_pictures(path)
    np.testing.assert_array_equal(expected[5], decoded(jpeg(500)))
    check(path, expected)
    check(path, written_pictures(path, "other"), x="other")


def virtual(path, form):
    with h5py.File(f"{path}.source", "w") as file:
        FORMS[form](file, "video", ROWS)
        dtype = file["video"].dtype
    layout = h5py.VirtualLayout((23,), dtype)
    layout[:] = h5py.VirtualSource(f"{path}.source", "video", (23,), dtype)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("video", layout)


def external(path, form):
    """Bytes of a row in a file beside; for rows of variable length, HDF5 has no such storage."""
    rows = np.array(ROWS, f"{'S' if form == 'strings' else 'V'}{max(map(len, ROWS))}")
    rows.tofile(f"{path}.raw")
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "video", rows.shape, rows.dtype, external=[(f"{path}.raw", 0, rows.nbytes)]
        )


def compact(path, form):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    rows = np.array(ROWS, f"{'S' if form == 'strings' else 'V'}{max(map(len, ROWS))}")
    with h5py.File(path, "w") as file:
        kind = h5py.h5t.py_create(rows.dtype, logical=True)
        space = h5py.h5s.create_simple(rows.shape)
        dataset = h5py.h5d.create(file.id, b"video", kind, space, dcpl=plist)
        h5py.Dataset(dataset)[...] = rows


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (virtual, "variable"),
        (virtual, "strings"),
        (virtual, "opaque"),
        (external, "strings"),
        (external, "opaque"),
        (compact, "strings"),
    ],
    ids=lambda item: getattr(item, "__name__", item),
)
def test_what_only_h5py_can_read(path, make, form):
    make(path, form)
    expected = written_pictures(path)
    for threads in (1, 3):
        check(path, expected, shuffle=Order([3, 3, 20, 0, 22, 7]), num_threads=threads)


def test_links(path, tmp_path):
    write(tmp_path / "real.h5", ROWS)
    with h5py.File(path, "w") as file:
        file["video"] = h5py.ExternalLink(str(tmp_path / "real.h5"), "video")
        file["again"] = h5py.SoftLink("/video")
    check(path, [decoded(row) for row in ROWS])
    check(path, [decoded(row) for row in ROWS], x="again")


# --------------------------------------------------------------------------- orders, batches


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("storage", ["contiguous", "gzip, chunks of rows"])
def test_any_order_with_repeats(path, form, storage):
    write(path, ROWS, form, **STORAGES[storage])
    expected = written_pictures(path)
    for seed in range(4):
        order = np.random.default_rng(seed).integers(0, 23, 60)
        numbers, _ = check(
            path, expected, shuffle=Order(order), batch_size=17, num_threads=3, decode="image"
        )
        assert numbers == order.tolist()


@pytest.mark.parametrize("at_once", [1, 2000, 5000])
@pytest.mark.parametrize("form", FORMS)
def test_some_rows_at_a_time(path, form, at_once, monkeypatch):
    """However many are read before they are decoded."""
    monkeypatch.setattr(byte_sources, "BYTES_AT_ONCE", at_once)
    for storage in ("contiguous", "gzip, chunks of rows"):
        path.unlink(missing_ok=True)
        write(path, ROWS, form, **STORAGES[storage])
        check(path, written_pictures(path), batch_size=23, num_threads=1, decode="image")


@pytest.mark.parametrize("shuffle", [False, True, "blocks"])
def test_orders_and_the_numbers_of_samples(path, shuffle):
    write(path, ROWS)
    expected = [decoded(row) for row in ROWS]
    numbers, _ = check(path, expected, shuffle=shuffle)
    assert sorted(numbers) == list(range(23))
    assert (numbers == sorted(numbers)) is (shuffle is False)
    with VideoLoader(path, x="video", y="number", shuffle=shuffle, return_indices=True) as loader:
        for x, y, at in loader:
            assert y.tolist() == at.tolist()
            np.testing.assert_array_equal(x, np.stack([expected[i] for i in at]))


def test_single_samples(path):
    write(path, ROWS)
    with VideoLoader(path, x="video", y="number", batch_size=None, seed=3) as loader:
        for x, y in loader:
            np.testing.assert_array_equal(x, decoded(ROWS[y]))


@pytest.mark.parametrize("form", ["variable", "strings"])
def test_several_files_and_a_split(tmp_path, form):
    paths, expected = [], []
    for i, count in enumerate((5, 9, 3, 12)):
        rows = [jpeg(100 * i + j) for j in range(count)]
        paths.append(write(tmp_path / f"{i}.h5", rows, form, userblock=512 * (i % 2)))
        expected += [decoded(row) for row in rows]
    with h5py.File(paths[1], "a") as file:
        file.attrs["sample_count"] = 7
    del expected[12:14]
    found = []
    for subset in ("training", "validation"):
        numbers, _ = check(paths, expected, validation_split=0.3, subset=subset)
        found += numbers
    assert sorted(found) == list(range(27))


@pytest.mark.parametrize("windows", [None, Windows(3)])
def test_the_rest_of_an_epoch_from_every_step(path, windows):
    write(path, ROWS)

    def make():
        return VideoLoader(path, x="video", y="number", windows=windows, batch_size=4, seed=1)

    with make() as reference:
        epochs = [samples(reference) for _ in range(3)]
        states = [
            reference.state_dict(epoch=1, step=i) for i in range(reference.steps_per_epoch + 1)
        ]
    for step, state in enumerate(states):
        with make() as loader:
            loader.load_state_dict(json.loads(json.dumps(state)))
            wanted = epochs[1][4 * step :] or epochs[2]
            found = samples(loader)
            assert [number for number, _ in found] == [number for number, _ in wanted]
            for (_, arrays), (_, others) in zip(found, wanted, strict=True):
                for array, other in zip(arrays, others, strict=True):
                    np.testing.assert_array_equal(array, other)


def test_a_state_is_of_these_pictures_and_sizes(tmp_path):
    path = write(tmp_path / "a.h5", ROWS)
    other = write(tmp_path / "b.h5", [jpeg(i + 50) for i in range(23)])
    with VideoLoader(path, x="video", y="number", seed=1) as loader:
        state = loader.state_dict(epoch=0, step=0)
    for given in ({"path": other}, {"image_size": (8, 8)}, {"color_mode": "grayscale"}):
        arguments = {"path": path, "x": "video", "y": "number", "seed": 1, **given}
        with VideoLoader(**arguments) as loader, pytest.raises(StateError):
            loader.load_state_dict(state)


# --------------------------------------------------------------------------- x, y, size, color


def test_cameras_and_a_picture_as_y(path):
    with h5py.File(path, "w") as file:
        as_variable(file, "high", ROWS)
        as_strings(file, "low", [jpeg(100 + i, (10, 12)) for i in range(23)])
        as_variable(file, "mask", [png(i, (10, 12), 1) for i in range(23)])
        file["state"] = np.arange(46, dtype=np.float32).reshape(23, 2)
    x = {"high": "high", "low": "low", "state": "state"}
    with VideoLoader(path, x=x, y="mask", batch_size=5, seed=0, return_indices=True) as loader:
        for found, y, numbers in loader:
            for i, number in enumerate(numbers.tolist()):
                np.testing.assert_array_equal(found["high"][i], decoded(ROWS[number]))
                np.testing.assert_array_equal(
                    found["low"][i], decoded(jpeg(100 + number, (10, 12)))
                )
                np.testing.assert_array_equal(y[i], picture(number, (10, 12), 1))
                assert found["state"][i].tolist() == [2 * number, 2 * number + 1]


def test_the_same_dataset_as_x_and_y(path):
    write(path, ROWS)
    with VideoLoader(path, x="video", y="video", seed=0) as loader:
        for x, y in loader:
            np.testing.assert_array_equal(x, y)


def resized(array, size, interpolation):
    out = np.empty((*size, array.shape[2]), array.dtype)
    resize_into(array, out, interpolation)
    return out


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "gaussian", "bicubic"])
def test_sizes_that_differ_in_a_file_and_between_files(tmp_path, interpolation):
    sizes = [(24, 32), (30, 20), (48, 64), (7, 5), (12, 16)]
    files = [[jpeg(10 * i + j, sizes[(i + j) % 5]) for j in range(6)] for i in range(3)]
    paths = [write(tmp_path / f"{i}.h5", rows) for i, rows in enumerate(files)]
    rows = [row for rows in files for row in rows]
    expected = [
        decoded(row)
        if decoded(row).shape[:2] == (12, 16)
        else resized(decoded(row), (12, 16), interpolation)
        for row in rows
    ]
    check(paths, expected, image_size=(12, 16), interpolation=interpolation)


def test_a_grey_picture_among_others(path):
    rows = [jpeg(0), jpeg(1, channels=1), png(2), png(3, channels=4), png(4, channels=1)]
    write(path, rows)
    with pytest.raises(ReadError, match=r"sample 1: JPEG with 1 channels.*color_mode"):
        check(path, [decoded(row) for row in rows], shuffle=False)
    with VideoLoader(path, x="video", y=None, color_mode="rgb", shuffle=False) as loader:
        (found,) = loader
    assert found.shape == (5, *WHOLE)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(found[i], np.broadcast_to(decoded(row)[..., :3], WHOLE))
    for mode, channels in {"grayscale": 1, "rgba": 4}.items():
        with VideoLoader(path, x="video", y=None, color_mode=mode, shuffle=False) as loader:
            (found,) = loader
        assert found.shape == (5, *SIZE, channels)
        np.testing.assert_array_equal(found[4][..., 0], decoded(rows[4])[..., 0])
    np.testing.assert_array_equal(found[3], decoded(rows[3]))
    assert (found[[0, 1, 2, 4], ..., 3] == 255).all()


# --------------------------------------------------------------------------- recordings

LENGTHS = (9, 12, 3, 7, 20)


def recordings(form):
    """Encoded rows of each recording."""
    encode = png if form == "opaque" else jpeg
    return [[encode(100 * i + j) for j in range(n)] for i, n in enumerate(LENGTHS)]


def write_layout(folder, layout, form, rows):
    if layout == "flat":
        path = write(folder / "flat.h5", [row for part in rows for row in part], form)
        with h5py.File(path, "a") as file:
            file["ep_len"] = LENGTHS
        return path, "video", "ep_len"
    if layout == "groups":
        with h5py.File(folder / "groups.h5", "w") as file:
            for i, part in enumerate(rows):
                FORMS[form](file, f"ep_{i}/video", part)
        return folder / "groups.h5", "ep_*/video", None
    return [write(folder / f"{i}.h5", part, form) for i, part in enumerate(rows)], "video", None


WINDOWS = {
    "in a row": ({"x": 3}, range(3)),
    "stride": ({"x": 3, "stride": 2}, [0, 2, 4]),
    "hop": ({"x": 2, "hop": 3}, range(2)),
    "offsets": ({"x": [-2, 0, 3]}, [-2, 0, 3]),
    "backwards": ({"x": [1, 0, 0]}, [1, 0, 0]),
}


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("form", ["variable", "strings", "padded", "padded int8", "opaque"])
@pytest.mark.parametrize("layout", ["flat", "groups", "files"])
def test_windows(tmp_path, layout, form, kind):
    rows = recordings(form)
    path, name, bounds = write_layout(tmp_path, layout, form, rows)
    given, offsets = WINDOWS[kind]
    hop = given.get("hop", 1)
    whole = [np.stack([decoded(row) for row in part]) for part in rows]
    expected = [
        part[anchor + np.array(offsets)]
        for part in whole
        for anchor in range(max(0, -min(offsets)), len(part) - max(offsets), hop)
    ]
    windows = Windows(**given, bounds=bounds)
    numbers, _ = check(path, expected, x=name, windows=windows, decode="image")
    assert sorted(numbers) == list(range(len(expected)))


@pytest.mark.parametrize("pad", ["edge", "zeros"])
@pytest.mark.parametrize("layout", ["flat", "groups"])
def test_padded_windows_and_their_mask(tmp_path, layout, pad):
    rows = recordings("variable")
    path, name, bounds = write_layout(tmp_path, layout, "variable", rows)
    windows = Windows({"frames": range(-2, 3)}, pad=pad, mask="pad", bounds=bounds)
    with VideoLoader(path, x={"frames": name}, y=None, windows=windows, seed=0) as loader:
        found = dict(samples(loader))
    places = [(i, at) for i, part in enumerate(rows) for at in range(len(part))]
    assert sorted(found) == list(range(len(places)))
    for number, (i, at) in enumerate(places):
        frames, mask = found[number]
        wanted = np.arange(at - 2, at + 3)
        is_pad = (wanted < 0) | (wanted >= len(rows[i]))
        assert mask.tolist() == is_pad.tolist()
        for frame, row, is_beyond in zip(frames, wanted, is_pad, strict=True):
            whole = decoded(rows[i][np.clip(row, 0, len(rows[i]) - 1)])
            np.testing.assert_array_equal(frame, whole * (pad == "edge" or not is_beyond))


def test_windows_that_are_drawn_and_the_next_picture_as_y(tmp_path):
    rows = recordings("variable")
    path, name, _ = write_layout(tmp_path, "groups", "variable", rows)
    windows = Windows([0, 1], [2], per_recording=3)
    with VideoLoader(path, x=name, y=name, windows=windows, seed=0) as loader:
        for epoch in range(2):
            found = samples(loader)
            numbers = [number for number, _ in found]
            places = loader.describe_samples(numbers, epoch=epoch)
            for place, (_, (x, y)) in zip(places, found, strict=True):
                part = rows[int(re.search(r"ep_(\d+)", place.name)[1])]
                for frame, at in zip([*x, *y], range(3), strict=True):
                    np.testing.assert_array_equal(frame, decoded(part[place.row + at]))


# --------------------------------------------------------------------------- public projects


def compare(paths, recordings, names, windows, **arguments):
    """Compares windows of two rows of each dataset with what was written."""
    x = {name: name for name in names}
    with VideoLoader(paths, x=x, y=None, windows=windows, seed=0, **arguments) as loader:
        found = dict(samples(loader))
    parts = [recordings[name] for name in names]
    expected = [
        [np.stack([decoded(row) for row in part[i][at : at + 2]]) for part in parts]
        for i in range(len(parts[0]))
        for at in range(len(parts[0][i]) - 1)
    ]
    assert sorted(found) == list(range(len(expected)))
    for number, arrays in enumerate(expected):
        for array, wanted in zip(found[number], arrays, strict=True):
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize(
    "name", ["aloha_compressed", "robotwin", "rdt_compressed", "sleap", "sleap_io"]
)
def test_files_of_public_projects(tmp_path, name):
    written = PICTURE_SCHEMAS[name](tmp_path)
    decode = "image" if name in ("aloha_compressed", "sleap_io") else "auto"
    cameras = [*written.recordings]
    compare(
        written.paths, written.recordings, cameras, Windows(dict.fromkeys(cameras, 2)),
        decode=decode,
    )  # fmt: skip


def test_lengths_of_aloha_are_not_needed(tmp_path):
    """Zeros follow the pictures, whose own end counts; `compress_len` is beside them."""
    written = PICTURE_SCHEMAS["aloha_compressed"](tmp_path)
    with h5py.File(written.paths[0]) as file:
        for number, name in enumerate(written.recordings):
            for row, length in enumerate(file["compress_len"][number].astype(int)):
                data = file[name][row]
                assert not data[length:].any()
                assert data[:length].tobytes() == written.recordings[name][0][row]


def test_minari_has_an_observation_more_than_actions(tmp_path):
    written = PICTURE_SCHEMAS["minari"](tmp_path)
    (name,) = written.recordings
    compare(written.paths, written.recordings, [name], Windows({name: 2}))
    with pytest.raises(FileFormatError, match="actions"):
        VideoLoader(written.paths, x=name, y="episode_*/actions", windows=2)


def test_videos_of_3d_resnets_differ_in_size(tmp_path):
    written = PICTURE_SCHEMAS["resnets_3d"](tmp_path)
    with pytest.raises(FileFormatError, match="image_size"):
        VideoLoader(written.paths, x="video", y=None, windows=2)
    with VideoLoader(
        str(tmp_path / "*" / "*.hdf5"),
        x="video",
        y="inferred",
        windows=4,
        image_size=(16, 16),
        seed=0,
    ) as loader:
        found = samples(loader)
        places = loader.describe_samples([number for number, _ in found])
    assert len(found) == sum(len(rows) - 3 for rows in written.recordings["video"])
    for place, (_, (x, y)) in zip(places, found, strict=True):
        rows = written.recordings["video"][written.paths.index(place.path)]
        assert y == ("walk" in place.path)
        for frame, row in zip(x, rows[place.row : place.row + 4], strict=True):
            np.testing.assert_array_equal(frame, resized(decoded(row), (16, 16), "bilinear"))


@pytest.mark.parametrize("windows", [None, 4])
@pytest.mark.parametrize("name", ["env/cam0_video/frame0", "env/cam0_video/frame*"])
def test_the_bytes_of_one_picture_are_no_recording(tmp_path, name, windows):
    """RoboNet's `frame<t>`: a picture is a dataset, and its rows are bytes."""
    written = PICTURE_SCHEMAS["robonet"](tmp_path)
    if "*" in name and windows is None:
        with pytest.raises(ArgumentError, match="windows"):
            VideoLoader(written.paths, x=name, y=None, windows=windows)
        return
    for path, old in zip(written.paths, (False, True), strict=True):
        message = "is one encoded picture" if windows or old else "must have the shape"
        with pytest.raises(FileFormatError, match=message):
            VideoLoader(path, x=name, y=None, windows=windows)
        if windows:
            with VideoLoader(path, x=name, y=None, windows=4, decode=None) as loader:
                assert next(iter(loader)).shape[1:] == ((4, 1) if old else (4,))


def test_labels_are_no_picture(path):
    with h5py.File(path, "w") as file:
        file["video"] = np.zeros((100, 5, 5, 3), np.uint8)
        file["label"] = np.frombuffer(b"\xff\xd8\xff" + b"\1" * 97, np.uint8)
    with VideoLoader(path, x="video", y="label") as loader:
        assert len(list(loader)) == 4


# --------------------------------------------------------------------------- damaged pictures

DAMAGED = {
    "cut short": (ROWS[5][:-30], r"JPEG: cut short: \d+ bytes, and no end-of-image marker"),
    "cut short before its values": (ROWS[5][:400], "JPEG: (cut short|damaged)"),
    "empty": (b"", "not a picture"),
    "another size": (jpeg(5, (30, 32)), r"JPEG of 30 x 32 pixels.*24 x 32.*image_size"),
    "no picture": (b"rubbish" * 30, "neither a JPEG nor a PNG"),
    "zeros": (b"\0" * 200, "none of them other than 0"),
    "huge": (
        ROWS[5].replace(b"\x08\x00\x18\x00\x20", b"\x08\xea\x60\xea\x60", 1),
        "60000 x 60000",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_picture_is_an_error_or_left_out(path, form, kind):
    data, message = DAMAGED[kind]
    rows = [*ROWS[:5], data, *ROWS[6:9]]
    write(path, rows, form)
    expected = [None if i == 5 else decoded(row) for i, row in enumerate(rows)]
    arguments = {"x": "video", "y": "number", "decode": "image", "batch_size": 4}
    where = rf"set\.h5: dataset '/video', sample 5: .*{message}"
    with VideoLoader(path, shuffle=False, **arguments) as loader:
        batches = loader.batches()
        next(batches)
        with pytest.raises(ReadError, match=where):
            next(batches)
    for threads in (1, 3):
        with VideoLoader(path, on_error="skip", seed=0, num_threads=threads, **arguments) as loader:
            found = samples(loader)
            assert sorted(number for number, _ in found) == [0, 1, 2, 3, 4, 6, 7, 8]
            for number, (x, y) in found:
                assert y == number
                np.testing.assert_array_equal(x, expected[number])
            assert [*loader.skipped] == [5]
            assert re.search(where, loader.skipped[5])


def test_windows_with_a_damaged_frame_are_left_out(path):
    rows = [*ROWS[:5], ROWS[5][:400], *ROWS[6:12]]
    write(path, rows)
    with VideoLoader(
        path, x="video", y=None, windows=3, on_error="skip", batch_size=4, seed=0
    ) as loader:
        found = samples(loader)
        assert sorted(loader.skipped) == [3, 4, 5]
    assert sorted(number for number, _ in found) == [0, 1, 2, 6, 7, 8, 9]
    for number, (x,) in found:
        wanted = np.stack([decoded(row) for row in rows[number : number + 3]])
        np.testing.assert_array_equal(x, wanted)


def test_a_damaged_heap_is_left_out_too(path):
    write(path, [row.ljust(5000, b"\0") for row in ROWS])
    data = path.read_bytes()
    at = data.index(ROWS[7])
    with open(path, "r+b") as file:
        file.seek(at - 16)  # the header of the object
        file.write(b"\xff" * 8)
    with VideoLoader(path, x="video", y="number", on_error="skip", seed=0) as loader:
        found = samples(loader)
        assert 7 in loader.skipped
        assert "'/video'" in loader.skipped[7]
    for number, (x, _) in found:
        np.testing.assert_array_equal(x, decoded(ROWS[number]))


@pytest.mark.parametrize("rows_in_chunk", [1, 5])
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_chunk_is_all_that_is_left_out(path, form, rows_in_chunk):
    """Of rows of variable length, it holds where they are."""
    write(path, ROWS, form, chunks=(rows_in_chunk,), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["video"].id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(b"\xff" * min(20, chunk.size // 3))
    gone = [*range(2 * rows_in_chunk, 3 * rows_in_chunk)]
    arguments = {"x": "video", "y": "number", "decode": "image", "batch_size": 4}
    with (
        VideoLoader(path, shuffle=False, **arguments) as loader,
        pytest.raises(ReadError, match=rf"'/video', sample {gone[0]}: "),
    ):
        list(loader)
    with VideoLoader(path, on_error="skip", seed=0, **arguments) as loader:
        found = samples(loader)
        assert sorted(loader.skipped) == gone
    assert sorted([number for number, _ in found] + gone) == [*range(23)]
    for number, (x, _) in found:
        np.testing.assert_array_equal(x, decoded(ROWS[number]))


# --------------------------------------------------------------------------- files, processes


@pytest.mark.parametrize("change", ["replaced", "truncated", "written to"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_changes_in_mid_epoch(path, tmp_path, form, change):
    write(path, ROWS, form)
    with VideoLoader(
        path, x="video", y=None, decode="image", batch_size=1, shuffle=False, read_ahead_bytes=0,
        on_error="skip",
    ) as loader:  # fmt: skip
        batches = loader.batches()
        next(batches)
        if change == "replaced":
            write(tmp_path / "new.h5", [jpeg(i + 100) for i in range(23)], form)
            os.replace(tmp_path / "new.h5", path)
        elif change == "truncated":
            os.truncate(path, path.stat().st_size // 2)
        else:
            with h5py.File(path, "r+") as file:
                file["video"][22] = file["video"][0]
        if change == "replaced":  # the one that is open is still there
            for number, (_, _, (x,)) in enumerate(batches, 1):
                np.testing.assert_array_equal(x[0], decoded(ROWS[number]))
            batches = loader.batches()
        with pytest.raises(FileChangedError):
            list(batches)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("form", ["variable", "strings"])
def test_a_forked_child_reads_the_same(path, form):
    write(path, ROWS, form)
    expected = [decoded(row) for row in ROWS]
    with VideoLoader(path, x="video", y="number", seed=0) as loader:
        list(loader)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                (batch,) = loader
                are_right = [(x == expected[y]).all() for x, y in zip(*batch, strict=True)]
                code = 0 if len(are_right) == 23 and all(are_right) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_it_costs_is_counted(path):
    write(path, ROWS)
    with VideoLoader(path, x="video", y=None, seed=0) as loader:
        list(loader)
        stats = loader.stats
    encoded = sum(map(len, ROWS))
    assert encoded <= stats.read_bytes <= os.path.getsize(path)
    assert stats.num_chunks == stats.num_samples == 23
    assert stats.delivered_bytes == 23 * np.prod(WHOLE)
    assert 0 < stats.num_reads <= 23


def test_memory_does_not_grow_with_the_bytes_of_a_batch(path):
    """Encoded bytes are read about 1 MiB at a time."""
    rows = [jpeg(i, (16, 16)).ljust(2 << 20, b"\0") for i in range(2)]
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("video", (60,), UINT8_ROWS)
        for i in range(60):
            dataset[i] = np.frombuffer(rows[i % 2], np.uint8)
    with VideoLoader(path, x="video", y=None, batch_size=60, num_threads=1) as loader:
        before = resident_nbytes()
        assert len(samples(loader)) == 60
        assert resident_nbytes() - before < 60 << 20  # of 120


def test_row_bytes_of_the_helper(path):
    for form in FORMS:
        write(path, ROWS, form)
        with h5py.File(path) as file:
            assert [row_bytes(file["video"], i).rstrip(b"\0") for i in range(23)] == ROWS
        path.unlink()
    with h5py.File(path, "w") as file:
        as_padded(file, "video", ROWS, chunks=(1,))
        assert file["video"].chunks == (1, max(map(len, ROWS)))
