"""Which datasets are clipped together: streams of different length, and y with a value a frame."""

import dataclasses
import itertools
import re

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.errors import ArgumentError
from h5video_data.sampling.clipped_datasets import clips_of_datasets
from h5video_data.testing import sample_values

NUM = 14
CLIPS = [Clip(3), Clip(3, 4), Clip(5, 2, "center"), Clip(4, position="start")]


def layouts(shape):
    """Ways to store samples of a shape."""
    some = tuple((n + 1) // 2 for n in shape)
    return {
        "contiguous": {},
        "plain": {"chunks": (1, *some[:1], *shape[1:])},
        "gzip": {"chunks": (1, *some[:1], *shape[1:]), "compression": "gzip"},
        "many samples": {"chunks": (3, *some), "compression": "gzip"},
        "by h5py": {"chunks": (2, *some), "scaleoffset": 0},
    }


def check(loader, stored, clip, num_frames, axes, seed=0):
    """Compares two epochs with what h5py gives, cut here."""
    for _ in range(2):
        for epoch, indices, arrays in loader.batches():
            firsts = clip.first_frames(num_frames, seed, epoch, indices)
            for name, array in zip(stored, arrays, strict=True):
                for sample, number, first in zip(array, indices, firsts, strict=True):
                    wanted = stored[name][number]
                    if axes[name] is not None:
                        frames = range(first, first + clip.span, clip.stride)
                        wanted = np.take(wanted, frames, axes[name])
                    np.testing.assert_array_equal(sample, wanted)


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("layout", layouts((1, 1)))
def test_streams_of_different_length(tmp_path, layout, clip):
    stored = {
        "rgb": sample_values(np.arange(NUM), (13, 3, 6, 5)),
        "flow": sample_values(np.arange(NUM), (12, 2, 6, 5), np.int16),
        "Y": np.arange(NUM),
    }
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in stored.items():
            options = layouts(values.shape[1:])[layout] if values.ndim > 1 else {}
            file.create_dataset(name, data=values, **options)
    axes = {"rgb": 0, "flow": 0, "Y": None}
    for names in (("rgb", "flow"), ("flow", "rgb")):
        x = {name: name for name in names}
        in_order = {name: stored[name] for name in (*names, "Y")}
        for memory in (0, None):
            with VideoLoader(
                path, x=x, seed=0, clip=clip, batch_size=4, read_ahead_bytes=memory
            ) as loader:
                check(loader, in_order, clip, 12, axes)


def test_a_clip_that_fits_into_the_longer_stream_only():
    shapes = {"rgb": (13, 3, 6, 5), "flow": (12, 2, 6, 5)}
    assert set(clips_of_datasets(Clip(12), shapes, [*shapes], [])) == {"rgb", "flow"}
    with pytest.raises(ArgumentError, match=r"have 12 frames along axis 0; .* which takes 13"):
        clips_of_datasets(Clip(13), shapes, [*shapes], [])
    shapes = {"depth": (13, 3, 6, 5), "flow": (12, 2, 6, 5)}
    with pytest.raises(ArgumentError, match="have 12 frames along axis 0; "):
        clips_of_datasets(Clip(13), shapes, [*shapes], [])


@pytest.mark.parametrize(
    ("one", "other"), [*((13, other) for other in (6, 7, 1, 25, 26, 100)), (5, 3)]
)
def test_streams_of_another_rate(one, other):
    shapes = {"rgb": (one, 3, 6, 5), "audio": (other, 2, 6, 5)}
    said = f"frame rates.*'rgb' with {one}, 'audio' with {other}"
    with pytest.raises(ArgumentError, match=said):
        clips_of_datasets(Clip(1), shapes, [*shapes], [])


@pytest.mark.parametrize("pose", [(12, 2), (14, 3)], ids=str)
def test_features_are_not_a_shorter_stream(pose):
    """Twelve joints, perhaps: only what looks like video may be short by some frames."""
    shapes = {"rgb": (13, 3, 6, 5), "flow": (12, 2, 6, 5), "pose": pose}
    clip = Clip(3, axis=0)
    assert len(clips_of_datasets(clip, {**shapes, "pose": (13, 2)}, [*shapes], [])) == 3
    del shapes["flow"]
    with pytest.raises(ArgumentError, match=rf"no frames along this axis.*'pose' with {pose[0]}"):
        clips_of_datasets(clip, shapes, [*shapes], [])
    with pytest.raises(ArgumentError, match="'audio' with 11, 'pose' with"):
        clips_of_datasets(clip, {"audio": (11, 2), "pose": pose}, ["audio", "pose"], [])


@pytest.mark.parametrize(("one", "other"), [(13, 8), (2, 1), (3, 2), (24, 13)])
def test_streams_that_are_short_by_some_frames(one, other):
    for frame in ((2, 6, 5), (6, 5)):
        shapes = {"rgb": (one, 3, 6, 5), "other": (other, *frame)}
        assert len(clips_of_datasets(Clip(1), shapes, [*shapes], [])) == 2


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("layout", layouts((1, 1)))
def test_masks_have_the_frames_of_their_videos(tmp_path, layout, clip, on_error):
    stored = {
        "X": sample_values(np.arange(NUM), (13, 3, 6, 5)),
        "M": sample_values(np.arange(NUM), (13, 6, 5), np.int16),
        "depth": sample_values(np.arange(NUM), (13, 1, 6, 5), np.int16),
        "label": np.eye(NUM, 13, dtype=np.float32),
        "image": sample_values(np.arange(NUM), (3, 6, 5)),
        "frame_class": sample_values(np.arange(NUM), (13,)),
    }
    paths = [tmp_path / f"{i}.h5" for i in range(2)]
    for i, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            for name, values in stored.items():
                options = layouts(values.shape[1:])[layout] if values.ndim > 3 else {}
                file.create_dataset(name, data=values[7 * i : 7 * i + 7], **options)
    y = {name: name for name in stored if name != "X"}
    axes = {**dict.fromkeys(stored), "X": 0, "M": 0, "depth": 0}
    options = {"y": y, "seed": 0, "batch_size": 4, "on_error": on_error}
    with VideoLoader(paths, clip=clip, **options) as loader:
        check(loader, stored, clip, 13, axes)
    with VideoLoader(paths, clip=dataclasses.replace(clip, y=False), **options) as loader:
        check(loader, stored, clip, 13, {**dict.fromkeys(stored), "X": 0})
    del stored["label"], y["label"]
    with VideoLoader(paths, clip=dataclasses.replace(clip, y=True), **options) as loader:
        check(loader, stored, clip, 13, {**axes, "frame_class": 0})


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("shape", [(13,), (13, 4), (1500,)], ids=str)
@pytest.mark.parametrize("layout", layouts((1, 1)))
def test_a_value_for_each_frame(tmp_path, layout, shape, clip):
    """Class numbers and classes a frame: in memory, if they are small, or not."""
    stored = {
        "X": sample_values(np.arange(NUM), (shape[0], 2, 3, 2)),
        "Y": sample_values(np.arange(NUM), shape, np.int32),
    }
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["X"] = stored["X"]
        file.create_dataset("Y", data=stored["Y"], **layouts(shape)[layout])
    with VideoLoader(path, seed=0, clip=dataclasses.replace(clip, y=True), batch_size=4) as loader:
        kind = loader._set.components[1].accesses[0].kind
        assert (kind == "memory") == (shape == (13,))
        check(loader, stored, clip, shape[0], {"X": 0, "Y": 0})
    dataset = h5v.video_dataset_from_hdf5(path, clip=dataclasses.replace(clip, y=True))
    assert dataset.element_spec[1].shape == (NUM, clip.num_frames, *shape[1:])
    with VideoLoader(path, seed=0, clip=clip, batch_size=4) as loader:
        check(loader, stored, clip, shape[0], {"X": 0, "Y": None})


@pytest.mark.parametrize("layout", layouts((1, 1)))
def test_masks_along_the_last_axis(tmp_path, layout):
    stored = {
        "X": sample_values(np.arange(NUM), (2, 6, 5, 13)),
        "Y": sample_values(np.arange(NUM), (6, 5, 13), np.int16),
    }
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in stored.items():
            file.create_dataset(name, data=values, **layouts(values.shape[1:])[layout])
    for clip in CLIPS:
        clip = dataclasses.replace(clip, axis=-1)
        with VideoLoader(path, seed=0, clip=clip, batch_size=4) as loader:
            check(loader, stored, clip, 13, {"X": 3, "Y": 2})


def test_masks_of_padded_videos(tmp_path):
    lengths = np.arange(NUM) % 8 + 5
    stored = {
        "X": sample_values(np.arange(NUM), (13, 3, 6, 5)),
        "Y": sample_values(np.arange(NUM), (13, 6, 5)),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in stored.items():
            file[name] = values
    with VideoLoader(tmp_path / "a.h5", seed=0, clip=Clip(4, lengths=lengths)) as loader:
        ((_, indices, (x, y)),) = loader.batches()
    firsts = Clip(4).first_frames(lengths[indices], 0, 0, indices)
    assert (firsts + 4 <= lengths[indices]).all()
    for i, (number, first) in enumerate(zip(indices, firsts, strict=True)):
        np.testing.assert_array_equal(x[i], stored["X"][number, first : first + 4])
        np.testing.assert_array_equal(y[i], stored["Y"][number, first : first + 4])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_datasets_of_any_layout(tmp_path_factory, data):
    """Padded streams of different length, and masks, over several files, by every way to read."""
    folder = tmp_path_factory.mktemp("clips")
    frames, axis = data.draw(st.integers(2, 9)), data.draw(st.sampled_from([0, -1]))
    counts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    num, short = sum(counts), frames - data.draw(st.integers(0, 1))
    shapes = {}
    for name, length in (("a", frames), ("b", short), ("mask", frames), ("number", frames)):
        rank = 0 if name == "number" else data.draw(st.integers(2, 3))
        shape = [data.draw(st.integers(1, 4)) for _ in range(rank)]
        shape.insert(0 if axis == 0 else len(shape), length)
        shapes[name] = tuple(shape)
    stored = {
        name: sample_values(np.arange(num), shape, data.draw(st.sampled_from(["u1", ">i2", "f4"])))
        for name, shape in shapes.items()
    }
    lengths = np.array(data.draw(st.lists(st.integers(1, short), min_size=num, max_size=num)))
    num_frames = data.draw(st.integers(1, int(lengths.min())))
    most = (int(lengths.min()) - 1) // (num_frames - 1) if num_frames > 1 else 3
    clip = Clip(
        num_frames,
        data.draw(st.integers(1, most)),
        data.draw(st.sampled_from(["random", "center", "start"])),
        axis=axis,
        lengths=data.draw(st.sampled_from(["n", lengths])),
        y=True,
    )
    starts = np.cumsum([0, *counts])
    for i, (start, stop) in enumerate(itertools.pairwise(starts)):
        with h5py.File(folder / f"{i}.h5", "w") as file:
            file["n"] = lengths[start:stop]
            for name, values in stored.items():
                part, options = values[start:stop], {}
                if data.draw(st.booleans()):
                    options["chunks"] = tuple(data.draw(st.integers(1, n)) for n in part.shape)
                    options["compression"] = data.draw(st.sampled_from([None, "gzip", "lzf"]))
                file.create_dataset(name, data=part, **options)
    with VideoLoader(
        sorted(folder.iterdir()),
        x={"a": "a", "b": "b"},
        y={"mask": "mask", "number": "number"},
        clip=clip,
        seed=7,
        batch_size=data.draw(st.integers(1, 6)),
        on_error=data.draw(st.sampled_from(["raise", "skip"])),
        read_ahead_bytes=data.draw(st.sampled_from([0, 500, None])),
    ) as loader:
        for _ in range(2):
            for epoch, indices, arrays in loader.batches():
                firsts = clip.first_frames(lengths[indices], 7, epoch, indices)
                for name, array in zip(stored, arrays, strict=True):
                    for sample, number, first in zip(array, indices, firsts, strict=True):
                        frames = range(first, first + clip.span, clip.stride)
                        wanted = np.take(stored[name][number], frames, axis)
                        np.testing.assert_array_equal(sample, wanted)
                assert (firsts + clip.span <= lengths[indices]).all()


@pytest.mark.parametrize(
    ("y", "options", "could_be"),
    [
        ((64, 48, 3), {}, "(rows, columns, channels)"),
        ((64, 48, 2), {}, "(rows, columns, channels)"),
        ((64, 64, 9), {}, "(rows, columns, frames)"),
        ((64, 64, 3), {"axis": 0}, "(rows, columns, channels)"),
        ((3, 64, 48), {"axis": 1}, "without frames"),
        ((32, 64, 3), {"axis": 2}, "(rows, columns, channels)"),
    ],
    ids=str,
)
def test_y_that_may_have_no_frames(y, options, could_be):
    """As many rows as x has frames: one image for each sample, perhaps."""
    x = {1: (2, 64, 64, 48), 2: (32, 64, 3, 2)}.get(options.get("axis"), (64, 3, 64, 48))
    shapes = {"X": x, "Y": y}
    clip = Clip(2, **options)
    with pytest.raises(ArgumentError, match=re.escape(could_be)) as caught:
        clips_of_datasets(clip, shapes, ["X"], ["Y"])
    for said in (f"'Y' have the shape {y}", "y=True", "y=False", "Received: clip=Clip("):
        assert said in str(caught.value)
    for answer in (True, False):
        found = clips_of_datasets(dataclasses.replace(clip, y=answer), shapes, ["X"], ["Y"])
        assert ("Y" in found) == answer


def test_y_without_the_axis_of_the_frames():
    shapes = {"X": (2, 6, 5, 13), "Y": (13, 6, 5)}
    assert [*clips_of_datasets(Clip(3, axis=3), shapes, ["X"], ["Y"])] == ["X"]


@pytest.mark.parametrize(("y", "axis", "found"), [((13,), 2, 0), ((4, 13), -1, 1)])
def test_classes_of_frames_along_the_last_axis(y, axis, found):
    shapes = {"X": (6, 5, 13), "Y": y}
    clips = clips_of_datasets(Clip(3, axis=axis, y=True), shapes, ["X"], ["Y"])
    assert clips["Y"].axis == found


def test_the_first_axis_counted_from_the_last():
    shapes = {"X": (13, 6, 7), "Y": (13, 6, 7)}
    found = clips_of_datasets(Clip(3, axis=-3), shapes, ["X"], ["Y"])
    assert {name: clip.axis for name, clip in found.items()} == {"X": 0, "Y": 0}


def test_three_frames_or_three_channels():
    shapes = {"X": (3, 3, 64, 48), "Y": (3, 64, 48)}
    with pytest.raises(ArgumentError, match=re.escape("(channels, rows, columns)")):
        clips_of_datasets(Clip(2), shapes, ["X"], ["Y"])


@pytest.mark.parametrize(
    ("clip", "shapes", "message"),
    [
        (Clip(3, y=True), {"X": (13, 3, 6, 5), "Y": (7,)}, r"with as many frames as x, 13, .*'Y'"),
        (Clip(3, y=True), {"X": (13, 3, 6, 5)}, "Received: y=None"),
        (Clip(3, y=False), {"X": (13, 3, 6, 5)}, "Received: 'X' in x and y"),
    ],
    ids=str,
)
def test_what_cannot_be_done_for_y(clip, shapes, message):
    others = ["X"] if clip.y is False else [name for name in shapes if name != "X"]
    with pytest.raises(ArgumentError, match=message):
        clips_of_datasets(clip, shapes, ["X"], others)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("kind", ["masks", "classes", "words"])
@pytest.mark.parametrize("is_array", [False, True], ids=["dataset", "array"])
def test_arrays_and_strings_are_clipped_as_datasets_are(tmp_path, kind, is_array, axis):
    x = sample_values(np.arange(NUM), (9, 6, 5, 9))
    values = {
        "masks": sample_values(np.arange(NUM), (9, 7, 9), np.int16),
        "classes": np.arange(NUM * 9).reshape(NUM, 9),
        "words": np.array([f"w{i:03}" for i in range(NUM * 9)], "S").reshape(NUM, 9),
    }[kind]
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["X"], file["Y"] = x, values
    clip = Clip(3, 2, axis=axis, y=None if kind == "masks" and axis else True)
    numbers = np.arange(NUM * 9).reshape(NUM, 9) if kind == "words" else values
    axes = {"X": axis % 4, "Y": axis % numbers[0].ndim}
    stored = {"X": x, "Y": numbers}
    with VideoLoader(
        path, y=values if is_array else "Y", seed=0, clip=clip, batch_size=4
    ) as loader:
        check(loader, stored, clip, 9, axes)
        assert loader[0][1].shape[1 + axes["Y"]] == 3


def test_an_autoencoder_has_the_same_clips(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = sample_values(np.arange(NUM), (13, 3, 6, 5))
    for clip in (Clip(3), Clip(3, y=True)):
        for x, y in VideoLoader(tmp_path / "a.h5", y="X", clip=clip):
            assert x.shape[1] == 3
            np.testing.assert_array_equal(x, y)


def test_the_order_of_blocks_is_the_same_whether_y_is_clipped(tmp_path):
    """The largest chunk rows count: of y, as it is stored."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = sample_values(np.arange(40), (13, 1, 6, 5))
        file.create_dataset("X", data=values, chunks=(5, 13, 1, 6, 5), compression="gzip")
        file.create_dataset("Y", data=values, chunks=(3, 13, 1, 6, 5), compression="gzip")
    orders = []
    for clip in (Clip(3, y=False), Clip(3)):
        with VideoLoader(tmp_path / "a.h5", seed=0, shuffle="blocks", clip=clip) as loader:
            orders.append(loader.batch_indices(epoch=0, step=0).tolist())
    assert orders[0] == orders[1]


def test_the_state_does_not_know_whether_y_is_clipped(tmp_path):
    """It says which samples come next, and those are the same."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = sample_values(np.arange(NUM), (13, 3, 6, 5))
        file["Y"] = sample_values(np.arange(NUM), (13, 6, 5))
    path = tmp_path / "a.h5"
    state = VideoLoader(path, seed=0, clip=Clip(3, y=False)).state_dict(epoch=0, step=0)
    VideoLoader(path, seed=0, clip=Clip(3)).load_state_dict(state)
