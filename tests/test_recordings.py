"""Windows of recordings in files of each kind, compared with NumPy on the whole arrays."""

from __future__ import annotations

import dataclasses
import itertools
import logging

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import h5video_data as h5v
from h5video_data import VideoLoader, Windows
from h5video_data.errors import (
    ArgumentError,
    DatasetNotFoundError,
    FileFormatError,
    MissingFilterError,
)
from h5video_data.opening import components
from h5video_data.storage.hdf5_files import open_file

FRAME = (4, 5, 3)
LENGTHS = (9, 12, 3, 7, 20, 5, 8, 6, 11, 10, 4)


def frames(number, length):
    """The frames of a recording: each value says where it belongs."""
    rng = np.random.default_rng([1, number])
    return rng.integers(0, 256, (length, *FRAME), np.uint8)


def actions(number, length):
    return np.stack([np.full(length, number), np.arange(length)], axis=1).astype(np.float32)


def write_flat(folder, lengths=LENGTHS, bounds="starts", **options):
    path = folder / "flat.h5"
    ends = np.cumsum(lengths)
    forms = {
        "starts": ends - lengths,
        "lengths": np.array(lengths),
        "ends": ends,
        "ids": np.repeat(np.arange(len(lengths)) * 3 + 5, lengths),
    }
    with h5py.File(path, "w") as file:
        data = np.concatenate([frames(i, n) for i, n in enumerate(lengths)])
        file.create_dataset("pixels", data=data, **options)
        file["action"] = np.concatenate([actions(i, n) for i, n in enumerate(lengths)])
        file["ep"] = forms[bounds]
        file["label"] = np.arange(len(lengths)) % 3
        file["name"] = [f"class {i % 3}" for i in range(len(lengths))]
    return {"path": str(path), "x": "pixels", "y": "action"}, {"bounds": "ep"}


def write_groups(folder, lengths=LENGTHS, **options):
    path = folder / "groups.h5"
    with h5py.File(path, "w") as file:
        for i, n in enumerate(lengths):
            group = file.create_group(f"data/demo_{i}")
            group.create_dataset("obs/rgb", data=frames(i, n), **options)
            group["actions"] = actions(i, n)
            group["label"] = i % 3
            group.attrs["task"] = f"class {i % 3}"
    return {"path": str(path), "x": "data/*/obs/rgb", "y": "data/*/actions"}, {}


def write_files(folder, lengths=LENGTHS, **options):
    paths = []
    for i, n in enumerate(lengths):
        paths.append(str(folder / f"episode_{i}.h5"))
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("observations/top", data=frames(i, n), **options)
            file["action"] = actions(i, n)
            file["label"] = [i % 3]
            file["observations/top"].attrs["task"] = f"class {i % 3}"
    return {"path": paths, "x": "observations/top", "y": "action"}, {}


# Chunks may then have more rows than a recording.
GROWING = {"maxshape": (None, *FRAME)}
LAYOUTS: dict[str, dict] = {
    "contiguous": {},
    "a frame a chunk": {"chunks": (1, *FRAME), "compression": "gzip"},
    "four frames a chunk": {"chunks": (4, *FRAME), "compression": "lzf", **GROWING},
}
KINDS = {"flat": write_flat, "groups": write_groups, "files": write_files}


def expected(windows, lengths=LENGTHS):
    """(recording, anchor) of each window, in order."""
    lowest, highest = windows.reach
    found = []
    for number, length in enumerate(lengths):
        if windows.pad:
            rows = range(0, length, windows.hop)
        else:
            rows = range(-lowest, length - highest, windows.hop)
        found += [(number, row) for row in rows]
    return found


def of_window(values, number, anchor, offsets, length, pad=None):
    rows = anchor + np.asarray(offsets)
    found = values(number, length)[np.clip(rows, 0, length - 1)]
    if pad == "zeros":
        found[(rows < 0) | (rows >= length)] = 0
    return found


def batches_of(loader):
    """The elements of an epoch by sample number."""
    found = {}
    for _, numbers, arrays in loader.batches():
        for i, number in enumerate(numbers.tolist()):
            assert number not in found
            found[number] = [array[i] for array in arrays]
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    "windows",
    [
        {"x": 3},
        {"x": 2, "stride": 3, "hop": 2},
        {"x": range(-2, 1), "y": range(4)},
        {"x": [0], "y": range(5), "pad": "zeros"},
        {"x": range(-3, 2), "y": [1], "pad": "edge", "hop": 3},
    ],
    ids=str,
)
def test_windows_are_those_of_the_arrays(tmp_path, kind, options, windows):
    arguments, more = KINDS[kind](tmp_path, **options)
    windows = Windows(**windows, **more)
    with VideoLoader(**arguments, windows=windows, batch_size=5, seed=0) as loader:
        wanted = expected(windows)
        assert loader.num_samples == len(wanted)
        for _ in range(2):
            found = batches_of(loader)
            for (number, anchor), (x, y) in zip(wanted, found, strict=True):
                length = LENGTHS[number]
                want = of_window(frames, number, anchor, windows.offsets("x"), length, windows.pad)
                np.testing.assert_array_equal(x, want)
                if windows.y is None:
                    np.testing.assert_array_equal(y, actions(number, length)[anchor])
                else:
                    offsets = windows.offsets("y")
                    want = of_window(actions, number, anchor, offsets, length, windows.pad)
                    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("bounds", ["starts", "lengths", "ends", "ids"])
def test_bounds(tmp_path, bounds):
    arguments, _ = write_flat(tmp_path, bounds=bounds)
    for form in ("ep", (bounds, "ep")):
        windows = Windows(4, bounds=form)
        with VideoLoader(**arguments, windows=windows) as loader:
            assert loader.num_samples == len(expected(windows))


def test_next_frame_prediction_has_one_dataset_in_x_and_y(tmp_path):
    arguments, more = write_groups(tmp_path)
    windows = Windows(range(3), range(3, 5), **more)
    arguments["y"] = arguments["x"]
    with VideoLoader(**arguments, windows=windows) as loader:
        for (number, anchor), (x, y) in zip(expected(windows), batches_of(loader), strict=True):
            whole = frames(number, LENGTHS[number])
            np.testing.assert_array_equal(x, whole[anchor : anchor + 3])
            np.testing.assert_array_equal(y, whole[anchor + 3 : anchor + 5])


LABELS = {
    "flat": [("label", False), ("name", True)],
    "groups": [("data/*/label", False), ("@task", True)],
    "files": [("label", False), ("@task", True)],
}


@pytest.mark.parametrize(("kind", "name", "is_text"), [(k, *v) for k in LABELS for v in LABELS[k]])
def test_labels_of_recordings(tmp_path, kind, name, is_text):
    arguments, more = KINDS[kind](tmp_path)
    windows = Windows(4, **more)
    dataset = h5v.video_dataset_from_hdf5(
        **{**arguments, "y": name}, windows=windows, shuffle=False, batch_size=7
    )
    y = np.concatenate([y for _, y in dataset])
    assert y.ravel().tolist() == [number % 3 for number, _ in expected(windows)]
    if is_text:
        assert dataset.class_names == ["class 0", "class 1", "class 2"]


def test_arrays_of_labels(tmp_path):
    arguments, more = write_groups(tmp_path)
    windows = Windows(4, **more)
    labels = np.arange(len(LENGTHS)) * 10
    rows = np.arange(sum(LENGTHS))
    starts = np.cumsum(LENGTHS) - LENGTHS
    for array, wanted in (
        (labels, [10 * number for number, _ in expected(windows)]),
        (rows, [starts[number] + anchor for number, anchor in expected(windows)]),
    ):
        with VideoLoader(**{**arguments, "y": array}, windows=windows) as loader:
            assert [int(y) for _, y in batches_of(loader)] == wanted
    with pytest.raises(ArgumentError, match="11 recordings, or for each of the 95 rows"):
        VideoLoader(**{**arguments, "y": labels[:4]}, windows=windows)


def test_classes_that_are_inferred(tmp_path):
    paths = []
    for name, number in (("run", 0), ("jump", 1), ("run", 2)):
        (tmp_path / name).mkdir(exist_ok=True)
        paths.append(tmp_path / name / f"{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            file["frames"] = frames(number, 6)
    dataset = h5v.video_dataset_from_hdf5(
        str(tmp_path / "*" / "*.h5"), x="frames", y="inferred", windows=4, shuffle=False
    )
    assert dataset.class_names == ["jump", "run"]
    assert np.concatenate([y for _, y in dataset]).tolist() == [0] * 3 + [1] * 6
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        for name in ("walk", "sit", "wave"):
            file[f"{name}/a/video"] = frames(0, 5)
    dataset = h5v.video_dataset_from_hdf5(
        tmp_path / "groups.h5", x="*/*/video", y="inferred", windows=4, shuffle=False
    )
    assert dataset.class_names == ["sit", "walk", "wave"]
    assert np.concatenate([y for _, y in dataset]).tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ArgumentError, match=r"needs a `\*` in the name of x or in `path`"):
        VideoLoader(paths, x="frames", y="inferred", windows=4)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*/?.h5", ("jump", "run")),
        ("[jr]u*/*.h5", ("mp", "n")),
        ("[!x]u*/[0-9].h5", ("mp", "n")),
        ("**/r*/*.h5", ("un",)),
    ],
)
def test_what_the_first_star_of_a_path_stands_for(tmp_path, pattern, names):
    for name in ("run", "jump"):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "0.h5", "w") as file:
            file["frames"] = frames(0, 6)
    loader = VideoLoader(str(tmp_path / pattern), x="frames", y="inferred", windows=4)
    assert tuple(loader._set.class_names) == names


def test_a_dict_with_a_mask(tmp_path):
    arguments, more = write_groups(tmp_path)
    windows = Windows({"image": [-1, 0]}, range(6), pad="zeros", mask="is_pad", **more)
    x = {"image": arguments["x"], "now": arguments["y"], "task": "data/*/label"}
    dataset = h5v.video_dataset_from_hdf5(
        arguments["path"], x=x, y=arguments["y"], windows=windows, shuffle=False, batch_size=9
    )
    found = list(dataset.unbatch())
    assert len(found) == len(expected(windows)) == sum(LENGTHS)
    for (number, anchor), (x, y) in zip(expected(windows), found, strict=True):
        length = LENGTHS[number]
        assert set(x) == {"image", "now", "task", "is_pad"}
        np.testing.assert_array_equal(x["is_pad"], anchor + np.arange(6) >= length)
        np.testing.assert_array_equal(x["now"], actions(number, length)[anchor])
        assert int(x["task"]) == number % 3
        want = of_window(frames, number, anchor, [-1, 0], length, "zeros")
        np.testing.assert_array_equal(x["image"], want)
        np.testing.assert_array_equal(
            y, of_window(actions, number, anchor, range(6), length, "zeros")
        )


def test_some_windows_of_each_recording(tmp_path):
    arguments, more = write_files(tmp_path)
    windows = Windows(3, per_recording=2, **more)
    with VideoLoader(**arguments, windows=windows, seed=0) as loader:
        assert loader.num_samples == 2 * len(LENGTHS)
        anchors = []
        for _ in range(4):
            for place, (x, y) in enumerate(batches_of(loader)):
                number = place // 2
                assert y[0] == number
                anchor = int(y[1])
                anchors.append(anchor)
                whole = frames(number, LENGTHS[number])
                np.testing.assert_array_equal(x, whole[anchor : anchor + 3])
        per_epoch = np.split(np.array(anchors), 4)
        assert (per_epoch[0] != per_epoch[1]).any()
    with VideoLoader(**arguments, windows=windows, seed=0, batch_size=3) as again:
        again.set_epoch(2)
        assert [int(y[1]) for _, y in batches_of(again)] == per_epoch[2].tolist()


def test_a_state_is_of_the_same_windows(tmp_path):
    """Of as many, with the same values."""
    path = tmp_path / "still.h5"
    with h5py.File(path, "w") as file:
        file["pixels"] = np.zeros((20, *FRAME), np.uint8)
        file["one"], file["other"] = [8, 12], [12, 8]
    loaders = [
        VideoLoader(path, x="pixels", y=None, windows=Windows(3, bounds=name), seed=0)
        for name in ("one", "one", "other")
    ]
    assert {loader.num_samples for loader in loaders} == {16}
    state = loaders[0].state_dict(epoch=0, step=0)
    loaders[1].load_state_dict(state)
    with pytest.raises(h5v.errors.StateError):
        loaders[2].load_state_dict(state)


def test_a_look_at_windows_that_are_drawn(tmp_path):
    arguments, more = write_files(tmp_path)
    windows = Windows(3, per_recording=2, **more)
    with VideoLoader(**arguments, windows=windows, seed=0, batch_size=5) as loader:
        loader.set_epoch(1)
        looks = [loader[step] for step in range(len(loader))]
        for look, batch in zip(looks, loader, strict=True):
            for one, other in zip(look, batch, strict=True):
                np.testing.assert_array_equal(one, other)


def test_recordings_that_are_too_short_are_left_out(tmp_path, caplog):
    arguments, more = write_groups(tmp_path)
    with caplog.at_level(logging.WARNING):
        loader = VideoLoader(**arguments, windows=Windows(6, **more))
    (record,) = caplog.records
    assert "3 of 11 recordings" in record.getMessage()
    assert "window (6 rows)" in record.getMessage()
    skipped = loader.skipped_recordings
    assert [(place.name, rows) for place, rows in skipped] == [
        ("/data/demo_2/obs/rgb", 3), ("/data/demo_5/obs/rgb", 5), ("/data/demo_10/obs/rgb", 4),
    ]  # fmt: skip
    with pytest.raises(
        FileFormatError, match=r"takes 21 rows. Received: 11 recordings of up to 20"
    ):
        VideoLoader(**arguments, windows=Windows(21, **more))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_can_be_found_again(tmp_path, kind):
    arguments, more = KINDS[kind](tmp_path)
    windows = Windows(range(-1, 3), **more)
    with VideoLoader(**arguments, windows=windows) as loader:
        places = loader.describe_samples(np.arange(loader.num_samples))
        for (number, anchor), place in zip(expected(windows), places, strict=True):
            with h5py.File(place.path) as file:
                stored = file[place.name][place.row : place.row + 4]
            np.testing.assert_array_equal(
                stored, frames(number, LENGTHS[number])[anchor - 1 : anchor + 3]
            )


@pytest.mark.parametrize("kind", KINDS)
def test_splits_never_share_a_recording(tmp_path, kind):
    arguments, more = KINDS[kind](tmp_path)
    windows = Windows(3, **more)
    numbers = np.array([number for number, _ in expected(windows)])
    split = {"validation_split": 0.3, "subset": "both", "seed": 3}
    sides = h5v.video_dataset_from_hdf5(**arguments, windows=windows, **split)
    train, val = (set(numbers[side.loader.sample_indices].tolist()) for side in sides)
    assert train | val == set(range(len(LENGTHS)))
    assert not train & val
    assert 0.15 < sides[1].loader.num_samples / len(numbers) < 0.45
    name = LABELS[kind][0][0]
    sides = h5v.video_dataset_from_hdf5(
        **{**arguments, "y": name}, windows=windows, split_by="label", **split
    )
    train, val = (set(numbers[side.loader.sample_indices].tolist()) for side in sides)
    assert not train & val
    assert {number % 3 for number in val} == {0, 1, 2}


def test_resume_at_every_step(tmp_path):
    arguments, more = write_groups(tmp_path, chunks=(4, *FRAME), compression="gzip", **GROWING)
    windows = Windows(3, per_recording=3, **more)
    make = lambda: VideoLoader(**arguments, windows=windows, seed=1, batch_size=4)  # noqa: E731
    with make() as loader:
        whole = [(n, [a.copy() for a in arrays]) for _, n, arrays in loader.batches()]
        for step in range(len(whole)):
            with make() as again:
                again.load_state_dict(loader.state_dict(epoch=0, step=step))
                rest = [(n, [a.copy() for a in arrays]) for _, n, arrays in again.batches()]
            assert len(rest) == len(whole) - step
            for (n, arrays), (m, others) in zip(whole[step:], rest, strict=True):
                assert n.tolist() == m.tolist()
                for one, other in zip(arrays, others, strict=True):
                    np.testing.assert_array_equal(one, other)
    other = VideoLoader(
        **arguments, windows=Windows(3, per_recording=3, hop=2), seed=1, batch_size=4
    )
    with pytest.raises(h5v.errors.StateError):
        other.load_state_dict(loader.state_dict(epoch=0, step=1))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_generated_recordings(tmp_path, data):
    lengths = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))
    kind = data.draw(st.sampled_from(list(KINDS)))
    # Otherwise it cannot be told what y has a value of.
    assume(kind != "flat" or sum(lengths) != len(lengths))
    distances = st.lists(st.integers(-3, 6), min_size=1, max_size=4)
    options = data.draw(
        st.sampled_from(
            [
                {},
                {"chunks": (1, *FRAME), **GROWING},
                {"chunks": (3, *FRAME), "compression": "lzf", **GROWING},
            ]
        )
    )
    bounds = {"bounds": "lengths"} if kind == "flat" else {}
    arguments, more = KINDS[kind](tmp_path, lengths, **bounds, **options)
    windows = Windows(
        data.draw(distances),
        data.draw(st.none() | distances),
        hop=data.draw(st.integers(1, 3)),
        pad=data.draw(st.sampled_from([None, "edge", "zeros"])),
        bounds=("lengths", "ep") if more else None,
    )
    wanted = expected(windows, lengths)
    if not wanted:
        with pytest.raises(FileFormatError, match="No recording in"):
            VideoLoader(**arguments, windows=windows)
        return
    batch_size = data.draw(st.integers(1, 9))
    with VideoLoader(**arguments, windows=windows, batch_size=batch_size, seed=0) as loader:
        for (number, anchor), (x, y) in zip(wanted, batches_of(loader), strict=True):
            length = lengths[number]
            want = of_window(frames, number, anchor, windows.offsets("x"), length, windows.pad)
            np.testing.assert_array_equal(x, want)
            offsets = [0] if windows.y is None else windows.offsets("y")
            want = of_window(actions, number, anchor, offsets, length, windows.pad)
            np.testing.assert_array_equal(y, want[0] if windows.y is None else want)


def test_what_does_not_fit(tmp_path):
    arguments, _ = write_groups(tmp_path)
    path = arguments["path"]
    with h5py.File(path, "a") as file:
        file["data/demo_3/short"] = np.zeros((6, 2))
        for i, n in enumerate(LENGTHS):
            if i != 3:
                file[f"data/demo_{i}/short"] = np.zeros((n, 2))
                file[f"data/demo_{i}/missing"] = np.zeros((n, 2))
        file["flat"] = np.zeros((50, 4, 4))
        file["nan"] = np.array([np.nan, 50])
    rgb = "data/*/obs/rgb"
    not_whole = {"x": "flat", "y": None, "windows": Windows(3, bounds="nan")}
    taken = Windows(3, pad="edge", mask="a")
    for options, error, text in [
        (
            {"x": rgb, "y": "data/*/short"},
            FileFormatError,
            "demo_3/obs/rgb' has 7, 'data/demo_3/short",
        ),
        (
            {"x": rgb, "y": "data/*/missing"},
            FileFormatError,
            "1 in one of them alone, such as demo_3",
        ),
        ({"x": rgb, "y": "data/*/none"}, DatasetNotFoundError, "no dataset matches 'data/*/none'"),
        ({"x": "flat", "y": rgb}, FileFormatError, "stands for 11 datasets, and 'flat' for one"),
        ({"x": rgb, "y": "flat"}, FileFormatError, "must have as many rows"),
        ({"x": rgb, "y": "@no"}, FileFormatError, "has the attribute 'no'"),
        (not_whole, FileFormatError, "not whole numbers"),
        ({"x": {"a": rgb}, "windows": Windows({"b": 3})}, ArgumentError, "must be keys of `x`"),
        ({"x": {"a": rgb}, "y": None, "windows": taken}, ArgumentError, "`mask` is a key in x"),
        ({"x": rgb, "y": np.zeros(11), "windows": Windows(3, 3)}, ArgumentError, "be windowed"),
        ({"x": rgb, "y": None, "clip": h5v.Clip(2)}, ArgumentError, "`clip` and `windows`"),
        ({"x": rgb, "y": None, "windows": "3"}, ArgumentError, "`windows` must be"),
        ({"x": rgb, "y": None, "windows": None}, ArgumentError, "pass `windows`"),
    ]:
        with pytest.raises(error) as caught:
            VideoLoader(path, **{"windows": 3, **options})
        assert text in str(caught.value), options


@pytest.mark.parametrize("shape", [(6, 8, 9), (6, 8, 9, 1), (6, 8, 9, 3), (6, 8, 9, 4)])
def test_a_clip_of_rows_that_look_like_frames_is_an_error_that_names_windows(tmp_path, shape):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["pixels"] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with pytest.raises(ArgumentError, match="a frame of a recording, pass windows=5 instead of"):
        VideoLoader(path, x="pixels", y=None, clip=h5v.Clip(5))
    with VideoLoader(path, x="pixels", y=None, clip=h5v.Clip(5, axis=0)) as loader:
        assert next(iter(loader)).shape == (6, 5, *shape[2:])


def test_time_may_be_the_last_axis(tmp_path):
    path = tmp_path / "vil.h5"
    vil = np.random.default_rng(0).integers(0, 256, (3, 384, 384, 49), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("vil", data=vil, chunks=(1, 384, 384, 49), compression="lzf")
    clip = h5v.Clip(5, stride=2, position="start", axis=-1)
    with VideoLoader(path, x="vil", y=None, clip=clip, shuffle=False) as loader:
        np.testing.assert_array_equal(next(iter(loader)), vil[..., :9:2])
    with pytest.raises(ArgumentError, match="must say which axis holds the frames"):
        VideoLoader(path, x="vil", y=None, clip=h5v.Clip(5))


@pytest.mark.parametrize(
    "windows", [{"x": 3}, {"x": 4, "pad": "zeros"}, {"x": 2, "per_recording": 1}]
)
def test_channel_statistics_are_those_of_the_rows(tmp_path, windows):
    arguments, _ = write_groups(tmp_path)
    split = {"validation_split": 0.3, "subset": "training", "seed": 0}
    with VideoLoader(**arguments, windows=Windows(**windows), **split) as loader:
        mean, std = h5v.channel_statistics(loader, data_format="channels_last")
        numbers = [int(y[0]) for _, y in batches_of(loader)]
    used = np.unique(numbers)
    assert 5 < len(used) < len(LENGTHS)
    rows = np.concatenate([frames(i, LENGTHS[i]) for i in used]).reshape(-1, 3)
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(std, rows.std(axis=0))


# Values of other files


@pytest.mark.parametrize("write", [write_flat, write_groups, write_files])
@pytest.mark.parametrize("form", ["recordings", "rows", "strings", "two files"])
def test_labels_of_another_file(tmp_path, write, form):
    arguments, more = write(tmp_path)
    labels = np.arange(len(LENGTHS)) * 7 % 5
    written = {
        "recordings": labels,
        "rows": np.repeat(labels, LENGTHS),
        "strings": [f"class {label}" for label in labels],
        "two files": labels,
    }[form]
    cuts = [0, 4, len(LENGTHS)] if form == "two files" else [0, None]
    for i, (begin, stop) in enumerate(itertools.pairwise(cuts)):
        with h5py.File(tmp_path / f"labels_{i}.hdf5", "w") as file:
            file["class"] = written[begin:stop]
    name = f"{tmp_path}/labels_*.hdf5:class"
    windows = Windows(3, **more)
    arguments["y"] = name
    with VideoLoader(**arguments, windows=windows, shuffle=False) as loader:
        found = np.concatenate([y for _, y in loader])
        wanted = [labels[number] for number, _ in expected(windows)]
        np.testing.assert_array_equal(found, wanted)
        assert loader.class_names == (
            [f"class {i}" for i in range(5)] if form == "strings" else None
        )
        state = loader.state_dict(epoch=0, step=1)
    with VideoLoader(**arguments, windows=windows, shuffle=False) as loader:
        loader.load_state_dict(state)
    options = {"windows": windows, "x": arguments["x"], "y": None, "seed": 1}
    train, val = h5v.split_samples(arguments["path"], 0.4, split_by=name, **options)
    wanted = np.array(wanted)
    assert not {*wanted[train].tolist()} & {*wanted[val].tolist()}


def test_labels_of_another_file_that_do_not_fit(tmp_path):
    arguments, more = write_groups(tmp_path)
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["class"] = np.arange(len(LENGTHS) - 1)
    arguments["y"] = f"{tmp_path}/labels.h5:class"
    with pytest.raises(ArgumentError, match=r"each of the 11 recordings, or .*\(10,\)"):
        VideoLoader(**arguments, windows=Windows(3, **more))
    with pytest.raises(ArgumentError, match="frames are those of the recordings' own files"):
        VideoLoader(**arguments, windows=Windows(3, 3, **more))


def test_a_recording_has_its_own_number_of_rows_in_use(tmp_path):
    arguments, more = write_groups(tmp_path)
    used = [max(1, n - 2) for n in LENGTHS]
    with h5py.File(arguments["path"], "a") as file:
        for i, n in enumerate(used):
            file[f"data/demo_{i}"].attrs["sample_count"] = n
            file[f"data/demo_{i}"].attrs["num_samples"] = n
    with VideoLoader(**arguments, windows=Windows(3, **more), shuffle=False) as loader:
        found = np.concatenate([y for _, y in loader])
    wanted = [(i, row) for i, n in enumerate(used) for row in range(n - 2)]
    np.testing.assert_array_equal(found, wanted)


def test_the_group_of_a_single_demo(tmp_path):
    arguments, _ = write_groups(tmp_path)
    with h5py.File(arguments["path"], "a") as file:
        file["data/demo_1"].attrs["sample_count"] = 10
    arguments |= {"x": "data/demo_1/obs/rgb", "y": "data/demo_1/actions"}
    with VideoLoader(**arguments, windows=3, shuffle=False) as loader:
        np.testing.assert_array_equal(loader[0][1], [(1, row) for row in range(8)])


def write_filtered(group, name, values, mask):
    """Writes numbers as they are in chunks of a filter that nobody has, which `mask` may skip."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(values.shape)
    plist.set_filter(60000, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(group.id, name, h5py.h5t.py_create(values.dtype), space, plist)
    dataset.write_direct_chunk((0,) * values.ndim, values.tobytes(), mask)


def test_filters_are_looked_for_once_for_all_recordings(tmp_path, monkeypatch):
    opened = []

    def counted(path, *arguments):
        opened.append(path)
        return open_file(path, *arguments)

    monkeypatch.setattr(components, "open_file", counted)
    options = {"x": "*/x", "y": "*/y", "windows": 2, "shuffle": False}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(20):
            file[f"{number}/x"] = np.zeros((3, 4, 4), np.uint8)
            values = np.arange(3) + number
            file.create_dataset(f"{number}/y", data=values, chunks=(2,), compression="gzip")
    with VideoLoader(tmp_path / "a.h5", **options) as loader:
        assert len(opened) == 1
        y = np.concatenate([y for _, _, (_, y) in loader.batches()])
    assert y.tolist() == [number + row for number in range(20) for row in (0, 1)]


@pytest.mark.parametrize("skipping", [0, 1])
def test_a_missing_filter_that_only_some_recordings_went_through(tmp_path, skipping):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(2):
            file[f"{number}/x"] = np.zeros((3, 4, 4), np.uint8)
            write_filtered(file[f"{number}"], b"y", np.arange(3), int(number == skipping))
    with pytest.raises(MissingFilterError, match=f"'/{1 - skipping}/y' needs an HDF5 filter"):
        VideoLoader(tmp_path / "a.h5", x="*/x", y="*/y", windows=2)


def test_the_same_frames_by_two_keys_are_one_component(tmp_path):
    arguments, more = write_flat(tmp_path)
    keys = {"a": "pixels", "b": "pixels", "c": "action"}
    windows = Windows(3, **more)
    with VideoLoader(**{**arguments, "x": keys, "y": None}, windows=windows, seed=0) as loader:
        assert [item.name for item in loader._set.components] == ["pixels", "action"]
        x = next(iter(loader))
    np.testing.assert_array_equal(x["a"], x["b"])
    assert x["a"].shape[1:] == (3, *FRAME)


def test_weights_are_no_classes(tmp_path):
    arguments, more = write_flat(tmp_path)
    arguments |= {"y": "name", "sample_weight": "label", "windows": Windows(2, **more)}
    with VideoLoader(**arguments, shuffle=False, batch_size=500) as loader:
        ((_, y, weight),) = loader
        assert loader.class_names == ["class 0", "class 1", "class 2"]
    np.testing.assert_array_equal(y, weight)


def test_a_mask_of_windows_that_differ(tmp_path):
    arguments, more = write_flat(tmp_path)
    arguments |= {"x": {"a": "pixels", "b": "action"}, "y": None}
    windows = Windows({"a": 2, "b": 3}, pad="zeros", mask="is_there", **more)
    with pytest.raises(ArgumentError, match="all windows of x must have the same frames"):
        VideoLoader(**arguments, windows=windows)
    with VideoLoader(**arguments, windows=dataclasses.replace(windows, x=2)) as loader:
        assert next(iter(loader))["is_there"].shape == (32, 2)
