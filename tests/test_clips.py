"""Clips: the right frames of every sample, and no others read."""

import dataclasses
import re

import h5py
import numpy as np
import pytest
from conftest import tf
from hypothesis import given, settings
from hypothesis import strategies as st

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.errors import ArgumentError, ReadError, StateError
from h5video_data.sampling.clips import other_reading
from h5video_data.testing import sample_values, write_video_file

SHAPE = (11, 2, 6, 5)
FRAME_BYTES = 60

LAYOUTS = {
    "contiguous": {},
    "sample": {"chunks": (1, *SHAPE)},
    "frames": {"chunks": (1, 4, 2, 6, 5)},
    "frame": {"chunks": (1, 1, 2, 6, 5)},
    "channel": {"chunks": (1, 1, 1, 6, 5)},
    "rows": {"chunks": (1, 1, 1, 4, 5)},
    "sample_gzip": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "frames_gzip": {"chunks": (1, 4, 2, 6, 5), "compression": "gzip", "shuffle": True},
    "frame_gzip": {"chunks": (1, 1, 2, 6, 5), "compression": "gzip"},
    "channel_lzf": {"chunks": (1, 1, 1, 6, 5), "compression": "lzf"},
    "many_samples": {"chunks": (3, 4, 2, 6, 5)},
    "many_samples_frame": {"chunks": (3, 1, 2, 6, 5)},
    "many_samples_gzip": {"chunks": (3, 4, 2, 6, 5), "compression": "gzip"},
    "many_samples_whole_gzip": {"chunks": (3, *SHAPE), "compression": "gzip"},
    "through_rows": {"chunks": (2, 3, 1, 4, 2), "compression": "lzf"},
    "by_hdf5": {"chunks": (2, 3, 2, 6, 5), "scaleoffset": 0},
    "float": {"chunks": (1, 4, 2, 6, 5), "compression": "gzip", "dtype": np.float32},
}

CLIPS = [Clip(3, 4), Clip(4), Clip(11), Clip(4, 3), Clip(6, 2, "center")]
# All layouts with all of them take several seconds.
ANY_CLIP = [CLIPS[0], *(pytest.param(clip, marks=pytest.mark.slow) for clip in CLIPS[1:])]


def expected(loader, clip, epoch, indices, dtype=np.uint8, shape=SHAPE, earlier=None):
    """The clips, cut out of whole samples."""
    firsts = clip.first_frames(shape[0], loader.seed, epoch, indices, earlier)
    samples = sample_values(indices, shape, dtype)
    return np.stack(
        [
            sample[first : first + clip.span : clip.stride]
            for sample, first in zip(samples, firsts, strict=True)
        ]
    )


def check_epoch(loader, clip, dtype=np.uint8, shape=SHAPE):
    found = []
    for epoch, indices, (x, _) in loader.batches():
        np.testing.assert_array_equal(x, expected(loader, clip, epoch, indices, dtype, shape))
        found += indices.tolist()
    return found


@pytest.mark.parametrize("clip", ANY_CLIP, ids=str)
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_frames_are_right_in_every_layout(tmp_path, options, clip):
    path = write_video_file(tmp_path / "a.h5", num_samples=14, sample_shape=SHAPE, **options)
    for shuffle, memory in ((True, None), (False, 0)):
        with VideoLoader(
            path, batch_size=4, shuffle=shuffle, seed=3, clip=clip, read_ahead_bytes=memory
        ) as loader:
            for _ in range(2):
                found = check_epoch(loader, clip, options.get("dtype", np.uint8))
                assert sorted(found) == list(range(14))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_frames_are_right_in_any_layout(tmp_path_factory, data):
    shape = tuple(data.draw(st.integers(1, most)) for most in (9, 3, 4, 4))
    count = data.draw(st.integers(1, 9))
    options = {}
    if data.draw(st.booleans()):
        options["chunks"] = tuple(data.draw(st.integers(1, n)) for n in (count, *shape))
        options["compression"] = data.draw(st.sampled_from([None, "gzip", "lzf"]))
    num_frames = data.draw(st.integers(1, shape[0]))
    most = (shape[0] - 1) // (num_frames - 1) if num_frames > 1 else 5
    clip = Clip(num_frames, data.draw(st.integers(1, most)))
    path = tmp_path_factory.mktemp("clips") / "a.h5"
    write_video_file(path, num_samples=count, sample_shape=shape, dtype=np.int16, **options)
    with VideoLoader(path, batch_size=4, seed=data.draw(st.integers(0, 99)), clip=clip) as loader:
        assert sorted(check_epoch(loader, clip, np.int16, shape)) == list(range(count))


def test_only_the_frames_of_the_clip_are_read(tmp_path):
    shape = (300, 1, 16, 16)
    for name, options in (("contiguous", {}), ("chunked", {"chunks": (1, 50, 1, 16, 16)})):
        path = write_video_file(
            tmp_path / f"{name}.h5", num_samples=40, sample_shape=shape, **options
        )
        for clip in (Clip(16), Clip(16, 5)):
            with VideoLoader(path, y=None, batch_size=8, clip=clip, seed=0) as loader:
                for _ in loader.batches():
                    pass
                assert loader.stats.read_bytes == 40 * 16 * 256 == loader.stats.delivered_bytes


def test_only_the_chunks_of_the_clip_are_decoded(tmp_path):
    shape = (40, 1, 8, 8)
    path = write_video_file(
        tmp_path / "a.h5",
        num_samples=6,
        sample_shape=shape,
        chunks=(1, 4, 1, 8, 8),
        compression="gzip",
    )
    with VideoLoader(path, batch_size=3, clip=Clip(8, position="start"), seed=0) as loader:
        check_epoch(loader, Clip(8, position="start"), shape=shape)
        assert loader.stats.num_chunks == 6 * 2
    many = write_video_file(
        tmp_path / "b.h5",
        num_samples=6,
        sample_shape=shape,
        chunks=(3, 4, 1, 8, 8),
        compression="gzip",
    )
    with VideoLoader(many, batch_size=3, clip=Clip(8, position="start"), seed=0) as loader:
        check_epoch(loader, Clip(8, position="start"), shape=shape)
        assert loader.stats.num_chunks == 2 * 2


def test_random_clips_begin_everywhere_and_come_again(tmp_path):
    path = write_video_file(tmp_path / "a.h5", num_samples=30, sample_shape=SHAPE)
    clip = Clip(3, 2)

    def firsts(epoch, seed=0):
        return clip.first_frames(11, seed, epoch, np.arange(30_000))

    counts = np.bincount(firsts(0))
    assert len(counts) == 7  # frames 0 to 6
    # Seven standard deviations of a fair draw.
    assert abs(counts - 30_000 / 7).max() < 7 * np.sqrt(30_000 * 6) / 7
    assert (firsts(0) == firsts(0)).all()
    for other in (firsts(1), firsts(0, seed=1)):
        assert 0.1 < (firsts(0) == other).mean() < 0.2  # a seventh by chance

    def clips(num_threads):
        with VideoLoader(path, batch_size=7, seed=5, clip=clip, num_threads=num_threads) as loader:
            return [x.copy() for _ in range(2) for _, _, (x, _) in loader.batches()]

    for one, other in zip(clips(1), clips(3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_center_and_start():
    numbers = np.arange(3)
    assert Clip(4, position="start").first_frames(11, 0, 0, numbers).tolist() == [0, 0, 0]
    assert Clip(4, 2, "center").first_frames(11, 0, 0, numbers).tolist() == [2, 2, 2]
    assert Clip(11, position="center").first_frames(11, 0, 0, numbers).tolist() == [0, 0, 0]


def comings(order):
    """Counts the earlier uses of each sample, one by one."""
    return np.array([order[:place].count(number) for place, number in enumerate(order)])


@pytest.mark.parametrize("memory", [0, 500, None])
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_each_coming_of_a_sample_has_a_clip_of_its_own(tmp_path, options, memory):
    path = write_video_file(tmp_path / "a.h5", num_samples=6, sample_shape=SHAPE, **options)
    sampler = h5v.samplers.WeightedSampler([1, 2, 1, 9, 1, 4], num_samples=40, seed=0)
    settings = {"batch_size": 9, "seed": 0, "shuffle": sampler, "clip": Clip(3, 2)}
    dtype = options.get("dtype", np.uint8)
    with VideoLoader(path, read_ahead_bytes=memory, **settings) as loader:
        for epoch in range(2):
            batches = list(loader.batches())
            order = [i for _, indices, _ in batches for i in indices.tolist()]
            found = np.concatenate([x for _, _, (x, _) in batches])
            assert order == sampler.epoch(epoch).tolist()
            earlier = comings(order)
            wanted = expected(loader, Clip(3, 2), epoch, np.array(order), dtype, earlier=earlier)
            np.testing.assert_array_equal(found, wanted)
            of_one = found[np.array(order) == 3]
            assert 4 < len(np.unique(of_one, axis=0)) <= 7 < len(of_one)
        # From the middle of the epoch on, and for a worker, they count from the epoch's beginning.
        loader.load_state_dict(loader.state_dict(epoch=1, step=3))
        np.testing.assert_array_equal(
            np.concatenate([x for _, _, (x, _) in loader.batches()]), found[27:]
        )
    parts = []
    for worker in range(3):
        context = tf.distribute.InputContext(3, worker, 3)
        with VideoLoader(path, input_context=context, **settings) as loader:
            loader.set_epoch(1)
            parts.append([x for _, _, (x, _) in loader.batches()])
    together = np.concatenate([part for step in zip(*parts, strict=True) for part in step])
    np.testing.assert_array_equal(together, found)


def test_the_first_coming_has_the_clip_that_it_always_had():
    first = Clip(16).first_frames(200, 7, 3, np.arange(6))
    assert first.tolist() == [97, 53, 159, 151, 178, 181]
    earlier = np.array([0, 1, 0, 0, 2, 0])
    again = Clip(16).first_frames(200, 7, 3, np.arange(6), earlier)
    assert (again == first).tolist() == (earlier == 0).tolist()


@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("clip", [Clip(4), Clip(4, 3), Clip(12), Clip(3, 2, "start")], ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 12), -1), ((6, 5, 12), -1), ((2, 12, 6, 5), 1)], ids=str
)
def test_frames_along_another_axis(tmp_path, shape, axis, clip, memory):
    values = sample_values(np.arange(14), shape, np.int16)
    whole = (1, *shape)
    some = (3, *((n + 1) // 2 for n in shape))
    layouts = {
        "contiguous": {},
        "sample": {"chunks": whole},
        "sample gzip": {"chunks": whole, "compression": "gzip"},
        "many samples": {"chunks": some},
        "many samples lzf": {"chunks": some, "compression": "lzf"},
        "through the sample": {"chunks": (1, *some[1:]), "compression": "gzip"},
        "by HDF5": {"chunks": some, "scaleoffset": 0},
    }
    clip = dataclasses.replace(clip, axis=axis)
    sampler = h5v.samplers.WeightedSampler(np.arange(14), num_samples=30, seed=0)
    for name, layout in layouts.items():
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("X", data=values, **layout)
        with VideoLoader(
            path,
            y=None,
            batch_size=4,
            seed=3,
            clip=clip,
            shuffle=sampler,
            read_ahead_bytes=memory,
        ) as loader:
            batches = list(loader.batches())
        order = np.concatenate([indices for _, indices, _ in batches])
        firsts = clip.first_frames(12, 3, 0, order, comings(order.tolist()))
        wanted = [
            np.take(values[number], range(first, first + clip.span, clip.stride), axis)
            for number, first in zip(order, firsts, strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate([x for _, _, (x,) in batches]), wanted)
    dataset = h5v.video_dataset_from_hdf5(
        path, y=None, clip=clip, drop_remainder=True, batch_size=7
    )
    assert dataset.element_spec.shape == (7, *np.stack(wanted).shape[1:])


def test_a_damaged_sample_is_skipped_along_another_axis(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5",
        num_samples=9,
        sample_shape=(6, 5, 12),
        chunks=(1, 6, 5, 12),
        compression="gzip",
    )
    with h5py.File(path) as file:
        found = file["X"].id.get_chunk_info_by_coord((6, 0, 0, 0))
    with open(path, "r+b") as file:
        file.seek(found.byte_offset)
        file.write(b"\xff" * found.size)
    with VideoLoader(path, shuffle=False, clip=Clip(5, axis=-1), on_error="skip") as loader:
        ((x, _),) = list(loader)
        assert x.shape == (8, 6, 5, 5)
        assert list(loader.skipped) == [6]
        assert "sample 6" in loader.skipped[6]


COULD_BE = {
    (8, 9): "(rows, columns)",
    (8, 9, 1): "(rows, columns, channels)",
    (8, 9, 3): "(rows, columns, channels)",
    (8, 9, 4): "(rows, columns, channels)",
    (8, 8, 9): "(rows, columns, frames)",
    (3, 8, 9, 9): "(channels, frames, rows, columns)",
}


@pytest.mark.parametrize(("shape", "could_be"), COULD_BE.items(), ids=str)
def test_what_else_samples_could_be(shape, could_be):
    assert other_reading(shape) == could_be
    with pytest.raises(ArgumentError, match=f"'X' .* also be {re.escape(could_be)}\\."):
        Clip(2).of_samples("X", shape)
    assert Clip(2, axis=0).of_samples("X", shape).axis == 0


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_samples_do_not_have(axis):
    with pytest.raises(ArgumentError, match=r"from -3 to 2\. Received: clip="):
        Clip(2, axis=axis).of_samples("X", (8, 9, 10))


@pytest.mark.parametrize(("shape", "could_be"), COULD_BE.items(), ids=str)
def test_samples_whose_first_axis_may_not_be_frames(tmp_path, shape, could_be):
    path = write_video_file(tmp_path / "a.h5", sample_shape=shape)
    with pytest.raises(ArgumentError, match=re.escape(could_be)) as caught:
        h5v.video_dataset_from_hdf5(path, clip=Clip(2, 2))
    for said in ("Clip(2, axis=0)", "'X'", str(shape), "Received: clip=Clip("):
        assert said in str(caught.value)
    x, _ = next(iter(VideoLoader(path, batch_size=2, clip=Clip(2, axis=0), shuffle=False)))
    assert x.shape == (2, 2, *shape[1:])


@pytest.mark.parametrize(
    "shape",
    [
        (8, 9, 10),
        (8, 3, 9, 9),
        (8, 9, 9, 3),
        (4, 9, 9, 3),
        (4, 1, 4, 4),
        (3, 2, 9, 9),
        (8, 9, 9, 1),
    ],
    ids=str,
)
def test_samples_whose_first_axis_is_frames(tmp_path, shape):
    path = write_video_file(tmp_path / "a.h5", sample_shape=shape)
    x, _ = next(iter(VideoLoader(path, batch_size=2, clip=Clip(2, position="start"))))
    assert x.shape == (2, 2, *shape[1:])


def test_the_state_knows_the_axis(tmp_path):
    path = write_video_file(tmp_path / "a.h5", sample_shape=(6, 5, 12))
    state = VideoLoader(path, seed=0, clip=Clip(5, axis=-1)).state_dict(epoch=0, step=0)
    VideoLoader(path, seed=0, clip=Clip(5, axis=2)).load_state_dict(state)
    with pytest.raises(
        StateError, match=r"the clip: \[5, 1, 'random', 2\] then, \[5, 1, 'random'\]"
    ):
        VideoLoader(path, seed=0, clip=Clip(5, axis=0)).load_state_dict(state)


def test_as_a_dataset_over_several_files(tmp_path):
    paths = [
        write_video_file(
            tmp_path / f"{i}.h5",
            num_samples=10,
            first=10 * i,
            sample_shape=SHAPE,
            **({"chunks": (4, 3, 2, 6, 5), "compression": "gzip"} if i == 1 else {}),
        )
        for i in range(3)
    ]
    clip = Clip(4, 2)
    dataset = h5v.video_dataset_from_hdf5(
        paths, batch_size=5, seed=2, clip=clip, drop_remainder=True
    )
    assert dataset.element_spec[0] == tf.TensorSpec((5, 4, 2, 6, 5), tf.uint8)
    with VideoLoader(paths, batch_size=5, seed=2, clip=clip) as loader:
        for (x, _), (_, indices, _) in zip(dataset, loader.batches(), strict=True):
            np.testing.assert_array_equal(x, expected(loader, clip, 0, indices))
    singles = h5v.video_dataset_from_hdf5(paths, batch_size=None, seed=2, clip=clip)
    assert singles.element_spec[0] == tf.TensorSpec((4, 2, 6, 5), tf.uint8)
    assert sum(1 for _ in singles) == 30


def test_several_videos_have_the_same_frames(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["rgb"] = sample_values(np.arange(12), (11, 3, 4, 4))
        file["flow"] = sample_values(np.arange(12), (11, 2, 4, 4), np.float32)
        file["age"] = np.arange(24.0).reshape(12, 2)
        file["Y"] = np.arange(12)
    names = {"rgb": "rgb", "flow": "flow", "age": "age"}
    with VideoLoader(path, x=names, batch_size=5, seed=0, clip=Clip(3)) as loader:
        for epoch, indices, (rgb, flow, age, _) in loader.batches():
            for clips, shape, dtype in ((rgb, (11, 3, 4, 4), "u1"), (flow, (11, 2, 4, 4), "f4")):
                wanted = expected(loader, Clip(3), epoch, indices, dtype, shape)
                np.testing.assert_array_equal(clips, wanted)
            np.testing.assert_array_equal(age, np.arange(24.0).reshape(12, 2)[indices])
    with pytest.raises(ArgumentError, match="needs samples with a frame axis"):
        VideoLoader(path, x={"a": "age"}, clip=Clip(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "`num_frames` must be a whole number, 1 or more"),
        ((2.5,), "`num_frames` must be"),
        ((True,), "`num_frames` must be"),
        ((4, 0), "`stride` must be"),
        ((4, 1, "end"), '`position` must be "random", "center" or "start"'),
        ((4, 1, "start", 0.5), "`axis` must be the number of an axis"),
        ((4, 1, "start", True), "`axis` must be the number of an axis"),
    ],
)
def test_what_is_no_clip(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Clip(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": 1}, "`y` must be None, True or False"),
        ({"lengths": 3}, r"`lengths` must be the name of a dataset, or an array .*shape \(\)"),
        ({"lengths": [True, False]}, "whole numbers. Received: bool"),
        ({"lengths": ["8", "9"]}, "whole numbers. Received: <U1"),
        ({"lengths": [[8, 9]]}, r"Received: int64 of shape \(1, 2\)"),
        ({"lengths": [[8], [9, 9]]}, r"`lengths` must be an array \(samples,\)"),
    ],
    ids=str,
)
def test_lengths_and_y_that_are_none(options, message):
    with pytest.raises(ArgumentError, match=message):
        Clip(4, **options)


def test_clips_are_equal_by_value():
    lengths = np.array([[8.0], [9.0]])
    clip = Clip(4, lengths=lengths)
    assert clip == Clip(4, lengths=[8, 9]) != Clip(4, lengths=[8, 8])
    assert hash(clip) == hash(Clip(4, lengths=[8, 9]))
    lengths[:] = 1
    assert clip == Clip(4, lengths=[8, 9])
    with pytest.raises(ValueError, match="read-only"):
        clip.lengths[0] = 1
    assert Clip(4) == Clip(4, 1) != Clip(4, y=True) != Clip(4, lengths="n")
    assert Clip(4) != 4


def test_a_clip_that_does_not_fit_is_an_error_at_opening(tmp_path):
    path = write_video_file(tmp_path / "a.h5", sample_shape=SHAPE)
    with pytest.raises(ArgumentError, match=r"have 11 frames.*which takes 13"):
        h5v.video_dataset_from_hdf5(path, clip=Clip(5, 3))
    for axis in (4, -5):
        with pytest.raises(
            ArgumentError, match=r"`axis` must be .*: from -4 to 3\. Received: clip="
        ):
            h5v.video_dataset_from_hdf5(path, clip=Clip(2, axis=axis))
    with pytest.raises(ArgumentError, match=r"have 2 frames along axis 1; .*which takes 5"):
        h5v.video_dataset_from_hdf5(path, clip=Clip(5, axis=1))
    with pytest.raises(ArgumentError, match="must be a Clip"):
        h5v.video_dataset_from_hdf5(path, clip=16)


def test_an_error_names_the_sample(tmp_path):
    path = write_video_file(
        tmp_path / "a.h5",
        num_samples=9,
        sample_shape=SHAPE,
        chunks=(1, 4, 2, 6, 5),
        compression="gzip",
    )
    with h5py.File(path) as file:
        found = file["X"].id.get_chunk_info_by_coord((6, 4, 0, 0, 0))
    with open(path, "r+b") as file:
        file.seek(found.byte_offset)
        file.write(b"\xff" * found.size)
    with (
        VideoLoader(path, batch_size=4, shuffle=False, clip=Clip(6, position="start")) as loader,
        pytest.raises(ReadError, match="sample 6"),
    ):
        list(loader.batches())
    with VideoLoader(path, batch_size=4, shuffle=False, clip=Clip(4, position="start")) as loader:
        assert len(list(loader.batches())) == 3


@pytest.mark.parametrize("stride", [1, 2])
def test_compressed_chunks_of_one_frame_that_cut_it_into_unequal_parts(tmp_path, stride):
    path = tmp_path / "a.h5"
    values = sample_values(range(4), (6, 2, 5, 7))
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=values, chunks=(1, 1, 1, 2, 7), compression="gzip")
    clip = Clip(2, stride=stride, position="start")
    with VideoLoader(path, y=None, shuffle=False, clip=clip) as loader:
        np.testing.assert_array_equal(next(iter(loader)), values[:, : 2 * stride : stride])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_clip_is_cut_along_its_axis(axis):
    sample = np.arange(42).reshape(6, 7)
    found = Clip(2, 3, axis=axis).cut(sample, 1)
    np.testing.assert_array_equal(found, np.take(sample, [1, 4], axis or 0))
    assert Clip(2, 3, axis=axis).shape_of(sample.shape) == found.shape
