"""Files of public projects are opened as they are, and give what is in them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from schema_helpers import SCHEMAS, STACKED, values

import h5video_data as h5v
from h5video_data import VideoLoader, Windows, samplers
from h5video_data.errors import FileFormatError

OFFSETS = (0, 2, 4)
HOP = 3
DIFFERENT_SIZES = ("zea", "zea_values")  # a file has its own rows and columns
RECORDINGS = [name for name in SCHEMAS if name not in (*STACKED, *DIFFERENT_SIZES, "mtts_can")]


def windows_of(recordings, offsets=OFFSETS, hop=HOP):
    """(recording, anchor) of each window that fits, in order."""
    return [
        (number, anchor)
        for number, rows in enumerate(recordings)
        for anchor in range(0, len(rows) - max(offsets), hop)
    ]


def samples_of(loader):
    """The arrays of each sample of an epoch, in order."""
    found = {}
    for _, numbers, arrays in loader.batches():
        for i, number in enumerate(numbers.tolist()):
            assert number not in found
            found[number] = [array[i] for array in arrays]
    assert sorted(found) == list(range(loader.num_samples))
    return [found[number] for number in sorted(found)]


def check(paths, names, written, bounds=None, of=slice(None)):
    """Compares all windows of datasets with what was written."""
    windows = Windows(dict.fromkeys(names, OFFSETS), hop=HOP, bounds=bounds)
    x = {name: name for name in names}
    with VideoLoader(paths, x=x, y=None, windows=windows, batch_size=7, seed=0) as loader:
        recordings = {name: written.recordings[name][of] for name in names}
        wanted = windows_of(recordings[names[0]])
        assert len(wanted) > 2
        for (number, anchor), arrays in zip(wanted, samples_of(loader), strict=True):
            for name, array in zip(names, arrays, strict=True):
                want = recordings[name][number][anchor + np.array(OFFSETS)]
                assert array.dtype == want.dtype
                np.testing.assert_array_equal(array, want, err_msg=name)


def have_same_rows(one, other):
    return [len(rows) for rows in one] == [len(rows) for rows in other]


@pytest.mark.parametrize("name", RECORDINGS)
def test_all_that_a_recording_has(tmp_path, name):
    written = SCHEMAS[name](tmp_path)
    frames = written.recordings[written.x]
    names = [key for key, rows in written.recordings.items() if have_same_rows(rows, frames)]
    assert {written.x, written.y or written.x} <= {*names}
    check(written.paths, names, written, written.bounds)


@pytest.mark.parametrize("name", DIFFERENT_SIZES)
def test_files_of_different_sizes_one_at_a_time(tmp_path, name):
    written = SCHEMAS[name](tmp_path)
    for number, path in enumerate(written.paths):
        check(path, [written.x], written, of=slice(number, number + 1))
    with pytest.raises(FileFormatError, match="shape"):
        VideoLoader(written.paths, x=written.x, y=None, windows=4)


def test_the_other_set_of_a_file(tmp_path):
    written = SCHEMAS["video_gpt"](tmp_path)
    check(written.paths, ["test_data"], written, "test_idx")


@pytest.mark.parametrize("name", RECORDINGS)
def test_frames_and_what_follows(tmp_path, name):
    """x and y in one call: the frames, and what goes with the anchor or comes after it."""
    written = SCHEMAS[name](tmp_path)
    y = written.y or written.x
    with VideoLoader(
        written.paths,
        x=written.x,
        y=y,
        windows=Windows(range(-2, 1), range(1, 4), bounds=written.bounds),
        batch_size=16,
        seed=1,
    ) as loader:
        found = samples_of(loader)
    frames, others = written.recordings[written.x], written.recordings[y]
    wanted = [
        (rows[anchor - 2 : anchor + 1], after[anchor + 1 : anchor + 4])
        for rows, after in zip(frames, others, strict=True)
        for anchor in range(2, len(rows) - 3)
    ]
    assert len(found) == len(wanted)
    for arrays, sides in zip(found, wanted, strict=True):
        for array, side in zip(arrays, sides, strict=True):
            np.testing.assert_array_equal(array, side)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_call_that_inspect_prints(tmp_path, name):
    """It runs as it is printed, and gives windows of 16 rows and the anchor's action."""
    written = SCHEMAS[name](tmp_path)
    call = h5v.inspect(written.paths[0]).call
    if name in (*STACKED, "mtts_can", "ragged_features"):
        assert call is None
        return
    dataset = eval(call, {"h5v": h5v})
    # It is of the one file, which holds the first recording, or all of them.
    count = 1 if len(written.paths) > 1 else None
    frames = written.recordings[written.x][:count]
    actions = written.recordings[written.y][:count] if written.y else None
    wanted = windows_of(frames, range(16), 1)
    found = {}
    loader = dataset.loader
    numbers = [loader.batch_indices(epoch=0, step=i) for i in range(loader.steps_per_epoch)]
    for batch, element in zip(numbers, dataset, strict=True):
        x, y = element if actions else (element, None)
        for i, number in enumerate(batch.tolist()):
            found[number] = (x[i].numpy(), None if y is None else y[i].numpy())
    assert sorted(found) == list(range(len(wanted)))
    for number, (recording, anchor) in enumerate(wanted):
        x, y = found[number]
        np.testing.assert_array_equal(x, frames[recording][anchor : anchor + 16])
        if actions:
            np.testing.assert_array_equal(y, actions[recording][anchor])


def test_a_step_of_training(tmp_path):
    written = SCHEMAS["stable_worldmodel"](tmp_path)
    train, val = h5v.video_dataset_from_hdf5(
        written.paths,
        x="pixels",
        y="action",
        windows=Windows(4, 3, bounds="ep_offset"),
        batch_size=8,
        validation_split=0.3,
        subset="both",
        seed=0,
    )
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((4, 14, 14, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(6),
            layers.Reshape((3, 2)),
        ]
    )
    model.compile("sgd", "mse")
    steps = []
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)  # noqa: ARG005
    )
    history = model.fit(
        train, validation_data=val, epochs=1, shuffle=False, verbose=0, callbacks=[counter]
    )
    assert len(steps) == train.loader.steps_per_epoch
    assert train.loader.num_samples + val.loader.num_samples == len(
        windows_of(written.recordings["pixels"], range(4), 1)
    )
    assert np.isfinite(history.history["val_loss"]).all()


# --------------------------------------------------------------------------- stacked


def test_frames_along_the_last_axis(tmp_path):
    written = SCHEMAS["sevir"](tmp_path)
    clip = h5v.Clip(25, axis=-1, position="start")
    with VideoLoader(written.paths, x="vil", y=None, clip=clip, seed=0) as loader:
        for number, (x,) in enumerate(samples_of(loader)):
            want = np.moveaxis(values(number, 49, (12, 12)), 0, -1)[..., :25]
            np.testing.assert_array_equal(x, want)


def test_trajectories(tmp_path):
    written = SCHEMAS["the_well"](tmp_path)
    x = {"density": "t0_fields/density", "velocity": "t1_fields/velocity"}
    clip = h5v.Clip(5, position="center", axis=0)
    with VideoLoader(written.paths, x=x, y=None, clip=clip, seed=0) as loader:
        for number, (density, velocity) in enumerate(samples_of(loader)):
            for name, found in (("density", density), ("velocity", velocity)):
                want = written.recordings[x[name]][number][8:13]
                np.testing.assert_array_equal(found, want)


def test_many_parts_of_each_trajectory(tmp_path):
    written = SCHEMAS["the_well"](tmp_path)
    recordings = written.recordings["t0_fields/density"]
    count = len(recordings) * (21 - 4)
    shuffle = samplers.WeightedSampler(np.ones(len(recordings)), num_samples=count, seed=0)
    arguments = {"x": "t0_fields/density", "y": None, "clip": h5v.Clip(5, axis=0)}
    with VideoLoader(written.paths, **arguments, shuffle=shuffle, seed=0) as loader:
        drawn = set()
        for epoch in range(40):
            found = [
                (number, x)
                for _, numbers, (batch,) in loader.batches()
                for number, x in zip(numbers.tolist(), batch, strict=True)
            ]
            assert len(found) == count
            for number, x in found:
                parts = np.lib.stride_tricks.sliding_window_view(recordings[number], 5, axis=0)
                (first,) = np.flatnonzero((np.moveaxis(parts, -1, 1) == x).all(axis=(1, 2, 3)))
                drawn.add((number, int(first)))
            if not epoch:
                assert count / 2 < len(drawn) < count  # others in each use, with replacement
        assert len(drawn) == count  # every window comes
        expected = [x for _, x in found]
        loader.load_state_dict(loader.state_dict(epoch=39, step=1))
        rest = np.concatenate([batch for _, _, (batch,) in loader.batches()])
        np.testing.assert_array_equal(rest, expected[32:])


def test_stacked_clips(tmp_path):
    written = SCHEMAS["stacked_clips"](tmp_path)
    clip = h5v.Clip(8, stride=2, position="start")
    with VideoLoader(written.paths, x="videos", y="labels", clip=clip, seed=0) as loader:
        for number, (x, y) in enumerate(samples_of(loader)):
            np.testing.assert_array_equal(x, written.recordings["videos"][number][::2])
            assert y == number % 3
