"""`inspect` says how to open a file of recordings, and takes no stacked samples for them."""

import json
import re

import h5py
import numpy as np
import pytest
from schema_helpers import SCHEMAS

import h5video_data as h5v
from h5video_data.errors import FileFormatError
from h5video_data.sampling.windows import Windows
from h5video_data.testing import write_recordings, write_video_file
from h5video_data.tools.schemas import Rows, recordings_opening

# What each file is opened by, after its path; None: no windows of rows.
CALLS = {
    "act": 'x="observations/images/top", y="action", windows=h5v.Windows(16)',
    "rdt": 'x="observations/images/cam_high", y="action", windows=h5v.Windows(16)',
    "robomimic": 'x="data/*/obs/agentview_image", y="data/*/actions", windows=h5v.Windows(16)',
    "libero": 'x="data/*/obs/agentview_rgb", y="data/*/actions", windows=h5v.Windows(16)',
    "stable_worldmodel": 'x="pixels", y="action", windows=h5v.Windows(16, bounds="ep_offset")',
    "video_gpt": 'x="train_data", y=None, windows=h5v.Windows(16, bounds="train_idx")',
    "sevir": None,
    "the_well": None,
    "mtts_can": None,
    "deep_interpolation": 'x="data", y=None, windows=h5v.Windows(16)',
    "moseq": 'x="frames", y=None, windows=h5v.Windows(16)',
    "nwb": 'x="acquisition/TwoPhotonSeries/data", y=None, windows=h5v.Windows(16)',
    "zea": 'x="data/image", y=None, windows=h5v.Windows(16)',
    "zea_values": 'x="data/image/values", y=None, windows=h5v.Windows(16)',
    "stacked_clips": None,
    "ragged_features": None,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_files_of_public_projects(tmp_path, name):
    written = SCHEMAS[name](tmp_path)
    for path in written.paths:
        report = h5v.inspect(path)
        assert report.problems == ()
        call = CALLS[name] and f'h5v.video_dataset_from_hdf5("{path}", {CALLS[name]})'
        assert report.call == call
        assert json.loads(json.dumps(report.to_dict()))["call"] == call
        lines = str(report).splitlines()
        assert lines[1:3] == ["recordings, to be opened by", f"  {call}"] or call is None
        assert ("recordings" in str(report)) == (call is not None)


@pytest.mark.parametrize(
    ("layout", "call"),
    {
        "flat": 'x="pixels", y="action", windows=h5v.Windows(11, bounds="ep_offset")',
        "groups": 'x="data/*/obs/agentview_rgb", y="data/*/actions", windows=h5v.Windows(11)',
        "files": 'x="observations/images/top", y="action", windows=h5v.Windows(11)',
    }.items(),
)
def test_a_window_fits_into_a_typical_recording(tmp_path, layout, call):
    paths = write_recordings(
        tmp_path / "a", [11] if layout == "files" else [5, 11, 30], layout=layout
    )
    path = paths[0] if layout == "files" else paths
    assert h5v.inspect(path).call == f'h5v.video_dataset_from_hdf5("{path}", {call})'


# --------------------------------------------------------------------------- no recordings


def test_stacked_samples_are_no_recordings(tmp_path):
    write_video_file(tmp_path / "a.h5")
    write_video_file(tmp_path / "b.h5", sample_shape=(12, 12, 3))
    for name in ("a.h5", "b.h5"):
        assert h5v.inspect(tmp_path / name).call is None
        with h5py.File(tmp_path / name, "a") as file:
            del file.attrs["sample_count"]
        assert h5v.inspect(tmp_path / name).call is None


@pytest.mark.parametrize("group", ["/", "set"])
def test_sample_count_says_that_rows_are_samples(tmp_path, group):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["set/images"] = np.zeros((40, 12, 12, 3), np.uint8)
    assert 'x="set/images"' in h5v.inspect(tmp_path / "a.h5").call
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file[group].attrs["sample_count"] = 30
    assert h5v.inspect(tmp_path / "a.h5").call is None


def found(datasets, values=()):
    """The arguments of the call for datasets of these shapes and dtypes; which were read."""
    reads = []

    def read(name):
        reads.append(name)
        return np.asarray(dict(values)[name])

    rows = []
    for name, (shape, *others) in datasets.items():
        dtype = others[0] if others else "uint8"
        rows.append(Rows(name, shape, dtype, int(np.prod(shape)), dtype != "string"))
    opening = recordings_opening(rows, read)
    call = opening and opening.call("f.h5")
    head, tail = 'h5v.video_dataset_from_hdf5("f.h5", ', ")"
    return call and call.removeprefix(head).removesuffix(tail), reads


FRAMES = ((90, 24, 32, 3),)
NONE = {
    "nothing": {},
    "X": {"X": FRAMES},
    "images with labels": {"images": FRAMES, "labels": ((90,), "int64")},
    "images with one-hot labels": {"images": FRAMES, "class_ids": ((90, 5), "float32")},
    "MNIST": {
        "x_train": ((90, 28, 28),),
        "y_train": ((90,),),
        "x_test": ((30, 28, 28),),
        "y_test": ((30,),),
    },
    "sets in groups": {"train/images": FRAMES, "val/images": FRAMES, "test/images": FRAMES},
    "folds": {f"fold_{i}/x": ((20 + i, 24, 32, 3),) for i in range(5)} | {"fold_0/y": ((20,),)},
    "clips with masks": {"clips": ((90, 8, 24, 32, 3),), "masks": ((90, 24, 32),)},
    "clips, channels first": {"clips": ((90, 8, 3, 24, 32),), "flow": ((90, 24, 32),)},
    "a dataset a frame": {f"images/image{i:09}": ((24, 32, 3),) for i in range(30)},
    "frames and targets": {f"frame_{i}_{side}": ((24, 32, 3),) for i in range(9) for side in "xy"},
    "one picture": {"image": ((3, 24, 32),), "mask": ((1, 24, 32),)},
    "one row": {"image": ((1, 24, 32, 3),)},
    "features": {"features": ((90, 10, 3), "float32")},
    "labels of pixels": {"volume": ((90, 24, 32), "int64")},
    "names with a star": {"im*ages": FRAMES},
    "scalars and strings": {"a": ((),), "b": ((90,), "string"), "c": ((90, 24, 32, 3), "string")},
}


@pytest.mark.parametrize("datasets", NONE.values(), ids=NONE)
def test_no_false_alarm(datasets):
    assert found(datasets) == (None, [])


# --------------------------------------------------------------------------- recordings

WINDOWS = "windows=h5v.Windows(16"
FOUND = {
    "channels first": ({"video": ((90, 3, 24, 32),)}, f'x="video", y=None, {WINDOWS})'),
    "gray, 16 bits": ({"a/b/c": ((90, 24, 32), "uint16")}, f'x="a/b/c", y=None, {WINDOWS})'),
    "the picture and not its mask": (
        {"mask": FRAMES, "next_image": FRAMES, "image": FRAMES, "depth": FRAMES},
        f'x="image", y=None, {WINDOWS})',
    ),
    "the plainest action": (
        {"frames": FRAMES, "base_action": ((90, 2),), "actions": ((90, 7),), "action": ((80,),)},
        f'x="frames", y="actions", {WINDOWS})',
    ),
    "what is per row, called a target": (
        {"frames": FRAMES, "target_position": ((90, 3),), "centroid_y": ((90,),)},
        f'x="frames", y=None, {WINDOWS})',
    ),
    "cameras in groups": (
        {f"cam_{name}/rgb": FRAMES for name in ("left", "right", "top")},
        f'x="cam_top/rgb", y=None, {WINDOWS})',
    ),
    "numbered cameras in groups": (
        {f"camera{i}/rgb": FRAMES for i in range(3)},
        f'x="camera0/rgb", y=None, {WINDOWS})',
    ),
    "numbered pictures of a recording": (
        {f"image_{i}": FRAMES for i in range(3)},
        f'x="image_0", y=None, {WINDOWS})',
    ),
    "8 bits": (
        {"a": (FRAMES[0], "float32"), "b": FRAMES, "c": (FRAMES[0], "uint16")},
        f'x="b", y=None, {WINDOWS})',
    ),
    "parts of a recording in groups": (
        {f"{name}/data": FRAMES for name in ("b", "a", "c")},
        f'x="a/data", y=None, {WINDOWS})',
    ),
    "groups of equal length": (
        {f"ep{i}/rgb": FRAMES for i in range(12)},
        f'x="*/rgb", y=None, {WINDOWS})',
    ),
    "groups with any name": (
        {f"{name}/rgb": ((20 + i, 24, 32),) for i, name in enumerate(["run", "jump", "walk"])},
        f'x="*/rgb", y=None, {WINDOWS})',
    ),
    "groups of groups": (
        {f"{a}/{b}/rgb": ((20 + b, 24, 32),) for a in ("run", "walk") for b in range(4)}
        | {f"{a}/{b}/act": ((20 + b, 2),) for a in ("run", "walk") for b in range(4)},
        f'x="*/*/rgb", y="*/*/act", {WINDOWS})',
    ),
    "one set of groups": (
        {f"{a}/v{b}/rgb": ((20 + b, 24, 32),) for a in ("train", "test") for b in range(4)},
        f'x="train/*/rgb", y=None, {WINDOWS})',
    ),
    "a dataset a recording": (
        {f"videos/v{i}": ((20 + i, 24, 32, 3),) for i in range(4)},
        f'x="videos/*", y=None, {WINDOWS})',
    ),
    "an action that one group lacks": (
        {f"ep{i}/rgb": FRAMES for i in range(3)} | {f"ep{i}/action": ((90,),) for i in range(2)},
        f'x="*/rgb", y=None, {WINDOWS})',
    ),
}


@pytest.mark.parametrize(("datasets", "call"), FOUND.values(), ids=FOUND)
def test_recordings_without_bounds(datasets, call):
    assert found(datasets) == (call, [])


STARTS, LENGTHS, ENDS = [0, 20, 50], [20, 30, 40], [20, 50, 90]
IDS = np.repeat([3, 1, 2], LENGTHS)
STEPS = np.concatenate([np.arange(length) for length in LENGTHS])
BOUNDS = {
    "starts": ({"ep_start": STARTS}, '"ep_start"'),
    "lengths": ({"lengths": LENGTHS}, '"lengths"'),
    "ends": ({"meta/episode_ends": ENDS}, '"meta/episode_ends"'),
    "ids": ({"episode_id": IDS, "step": STEPS}, '"episode_id"'),
    "ids that are strings": ({"video": np.repeat(["b", "c", "a"], LENGTHS)}, '"video"'),
    "a column": ({"ep_len": np.array(LENGTHS)[:, np.newaxis]}, '"ep_len"'),
    "starts first": ({"ep_len": LENGTHS, "ep_end": ENDS, "ep_offset": STARTS}, '"ep_offset"'),
    "the ones of this dataset": ({"frames_idx": [0, 50], "a_idx": [0, 30, 60]}, '"frames_idx"'),
    "what fits": ({"a_len": [1, 2], "ep_start": [1, 20], "z_ends": ENDS}, '"z_ends"'),
    "first frames": ({"length": [40, 50], "start_frame": [0, 0]}, '"length"'),
    "two readings": ({"ep_len": [0, 31, 59]}, '("lengths", "ep_len")'),
    "two other readings": ({"ep_offset": [0, 31, 59]}, '("starts", "ep_offset")'),
    "a row each": ({"trial_id": np.arange(5), "video_id": np.arange(90)}, None),
    "one recording": ({"ep_len": [90], "episode_id": np.zeros(90, int)}, None),
    "the group of the frames": ({"meta/ep_start": [0, 30, 60], "ep_len": LENGTHS}, '"ep_len"'),
    "rewards and labels": ({"dones": np.arange(90) // 89, "label_counts": LENGTHS}, None),
    "times": ({"start_time": [0.0, 1.5], "timestamps": np.arange(90)}, None),
    "counts of something else": ({"num_points": [5, 9, 11]}, None),
}


@pytest.mark.parametrize(("values", "bounds"), BOUNDS.values(), ids=BOUNDS)
def test_bounds(values, bounds):
    arrays = {name: np.asarray(item) for name, item in values.items()}
    others = {
        name: (item.shape, "string" if item.dtype.kind == "U" else item.dtype.name)
        for name, item in arrays.items()
    }
    call, reads = found({"a": ((77, 24, 32),), "frames": FRAMES, **others}, arrays)
    end = f", bounds={bounds})" if bounds else ")"
    assert call == f'x="frames", y=None, {WINDOWS}{end}'
    assert not {"a", "frames"} & {*reads}


@pytest.mark.parametrize(
    ("others", "y"),
    [
        ({"labels": ((3,), "int64")}, '"labels"'),  # of a recording
        ({"labels": ((90, 5), "float32")}, '"labels"'),  # of a frame
        ({"labels": ((90,), "int64"), "action": ((90, 2), "float32")}, '"action"'),
        ({"labels": ((4,), "int64"), "action": ((3, 2), "float32")}, "None"),
    ],
)
def test_what_goes_with_recordings_that_follow_each_other(others, y):
    datasets = {"frames": FRAMES, "ep_len": ((3,), "int32"), **others}
    call, _ = found(datasets, {"ep_len": LENGTHS})
    assert call == f'x="frames", y={y}, {WINDOWS}, bounds="ep_len")'


def test_work_is_bounded():
    many = {f"data/demo_{i}/rgb": ((20 + i % 9, 24, 32),) for i in range(100_000)}
    assert found(many) == (f'x="data/*/rgb", y=None, {WINDOWS})', [])
    others = {f"a{i}": ((90,), "float32") for i in range(20_000)}
    assert found({**others, "frames": FRAMES}) == (None, [])
    bounds = {f"ep_len{i}": ((3,), "int64") for i in range(1000)}
    call, reads = found({"frames": FRAMES, **bounds}, {name: [1, 2, 3] for name in bounds})
    assert call == f'x="frames", y=None, {WINDOWS})'
    assert len(reads) == 8
    huge = {"frames": ((10**8, 24, 32, 3),), "ep_id": ((10**8,), "int64")}
    assert found(huge) == (f'x="frames", y=None, {WINDOWS})', [])
    pictures = {f"run_{'xyz'[i % 3]}{i:05}": ((90, 24, 32),) for i in range(3000)}
    counts = {f"ep_len{i}": ((3,), "int64") for i in range(3000)}
    call, reads = found({**pictures, **counts}, {name: [1, 2, 3] for name in counts})
    assert len(reads) == 8


# --------------------------------------------------------------------------- odd files


def test_bounds_that_cannot_be_read_are_left_out():
    def read(name):
        raise FileFormatError(name)

    rows = [
        Rows("frames", *FRAMES, "uint8", 0, True),
        Rows("ep_len", (3,), "int64", 24, True),
    ]
    call = recordings_opening(rows, read).call("f.h5")
    assert call.endswith('x="frames", y=None, windows=h5v.Windows(16))')


class Names:
    """What a call needs to be evaluated."""

    @staticmethod
    def video_dataset_from_hdf5(path, **others):
        return {"path": path, **others, "windows": others["windows"].x}

    Windows = Windows


def test_names_can_be_pasted(tmp_path):
    path = tmp_path / 'it\'s a "file".h5'
    with h5py.File(path, "w") as file:
        file['a "b"'] = np.zeros((20, 12, 12), np.uint8)
        file.create_dataset(b"c\xb0", data=np.zeros(20))
    call = h5v.inspect(path).call
    arguments = eval(call, {"h5v": Names})
    assert arguments == {"path": str(path), "x": 'a "b"', "y": None, "windows": 16}


def test_links_are_second_names(tmp_path):
    path = write_recordings(tmp_path / "a.h5", [20, 30])
    with h5py.File(path, "a") as file:
        file["a_pixels"] = h5py.SoftLink("/pixels")
    assert 'x="pixels"' in h5v.inspect(path).call
    with h5py.File(tmp_path / "links.h5", "w") as file:
        for name in ("pixels", "ep_offset"):
            file[name] = h5py.ExternalLink("a.h5", name)
    call = h5v.inspect(tmp_path / "links.h5").call
    assert call.endswith('x="pixels", y=None, windows=h5v.Windows(16, bounds="ep_offset"))')


def test_a_virtual_dataset_of_bounds_without_its_source(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pixels"] = np.zeros((50, 12, 12, 3), np.uint8)
        layout = h5py.VirtualLayout((2,), "i8")
        layout[:] = h5py.VirtualSource("gone.h5", "ep_len", (2,))
        file.create_virtual_dataset("ep_len", layout)
        file["episode"] = np.array([b"a", b"b"], dtype=object).repeat(25)
    report = h5v.inspect(tmp_path / "a.h5")
    assert 'bounds="episode"' in report.call


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_files_hold_what_their_writers_say(tmp_path, name):
    written = SCHEMAS[name](tmp_path)
    assert {written.x, written.y} <= {*written.recordings, None}
    for key, recordings in written.recordings.items():
        stored = [values for path in written.paths for values in matching(path, key)]
        if len(stored) == 1 and len(recordings) > 1:  # end to end, or stacked
            (whole,) = stored
            stops = np.cumsum([len(item) for item in recordings]) if written.bounds else []
            stored = np.split(whole, stops[:-1]) if written.bounds else list(whole)
        assert len(stored) == len(recordings)
        for found, expected in zip(stored, recordings, strict=True):
            assert found.dtype == np.asarray(expected).dtype
            np.testing.assert_array_equal(found, expected)


def matching(path, name):
    """The values of the datasets with a name that may have stars, in the order of the numbers."""
    form, names = re.compile(name.replace("*", "[^/]+")), []
    with h5py.File(path) as file:
        file.visit(names.append)
        names = sorted(filter(form.fullmatch, names), key=lambda key: (key[0], numbers(key)))
        return [file[key][()] for key in names]


def numbers(name):
    return [int(number) for number in re.findall("[0-9]+", name)]
