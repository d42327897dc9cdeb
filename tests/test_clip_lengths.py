"""Clips of padded videos: of the frames that are video, and of no others."""

import json
import re

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import Clip, VideoLoader
from h5video_data.errors import ArgumentError, FileFormatError, H5VideoError, StateError
from h5video_data.sampling.clip_lengths import ClipLengths
from h5video_data.testing import sample_values

SHAPE = (12, 2, 6, 5)
NUM = 20
LENGTHS = np.random.default_rng(0).integers(5, 12, NUM, endpoint=True)

LAYOUTS = {
    "contiguous": {},
    "frames": {"chunks": (1, 4, 2, 6, 5)},
    "frames gzip": {"chunks": (1, 4, 2, 6, 5), "compression": "gzip"},
    "many samples": {"chunks": (3, 4, 2, 6, 5)},
    "many samples gzip": {"chunks": (3, 4, 2, 6, 5), "compression": "gzip"},
    "by h5py": {"chunks": (2, 3, 2, 6, 5), "scaleoffset": 0},
}


def write(path, num=NUM, first=0, *, axis=0, lengths=LENGTHS, **options):
    """Samples whose padding is zeros; their values are not."""
    values = sample_values(np.arange(first, first + num), SHAPE, np.int16) % 250 + 1
    for sample, length in zip(values, lengths[first : first + num], strict=True):
        sample[length:] = 0
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.moveaxis(values, 1, axis + 1), **options)
        file["n"] = lengths[first : first + num]
        file["Y"] = np.arange(first, first + num)
    return path


def firsts_of(clip, seed, epoch, indices, lengths=LENGTHS, earlier=None):
    """The first frames, drawn for one sample after the other."""
    comings = np.zeros(len(indices), np.int64) if earlier is None else earlier
    return [
        int(clip.first_frames(int(lengths[i]), seed, epoch, np.array([i]), np.array([coming]))[0])
        for i, coming in zip(indices, comings, strict=True)
    ]


def check_epochs(loader, clip, values, axis=0, epochs=2):
    count = 0
    for _ in range(epochs):
        for epoch, indices, (x, *_) in loader.batches():
            assert (x > 0).all()
            for sample, number, first in zip(
                x, indices, firsts_of(clip, loader.seed, epoch, indices), strict=True
            ):
                frames = np.arange(clip.num_frames) * clip.stride + first
                np.testing.assert_array_equal(sample, np.take(values[number], frames, axis))
                count += 1
    return count


@pytest.mark.parametrize(
    "clip",
    [Clip(3, 2), Clip(5), Clip(4, position="center"), Clip(2, 4, "start")],
    ids=str,
)
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_clips_are_video(tmp_path, options, clip):
    path = write(tmp_path / "a.h5", **options)
    with h5py.File(path) as file:
        values = file["X"][:]
    for lengths in ("n", LENGTHS):
        wanted = Clip(clip.num_frames, clip.stride, clip.position, lengths=lengths)
        for memory in (0, None):
            with VideoLoader(
                path, batch_size=6, seed=3, clip=wanted, read_ahead_bytes=memory
            ) as loader:
                assert check_epochs(loader, clip, values) == 2 * NUM


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("chunks", [None, (1, 2, 6, 5, 12), (3, 1, 6, 5, 4)], ids=str)
def test_along_the_last_axis_and_over_several_files(tmp_path, chunks, on_error):
    options = {} if chunks is None else {"chunks": chunks, "compression": "gzip"}
    paths = [
        write(tmp_path / f"{i}.h5", num, first, axis=3, **options)
        for i, (first, num) in enumerate([(0, 5), (5, 3), (8, 12)])
    ]
    values = []
    for path in paths:
        with h5py.File(path) as file:
            values.append(file["X"][:])
    clip = Clip(3, 2, axis=-1, lengths="n")
    with VideoLoader(paths, batch_size=6, seed=3, clip=clip, on_error=on_error) as loader:
        assert check_epochs(loader, Clip(3, 2), np.concatenate(values), axis=3) == 2 * NUM


def test_as_a_dataset_with_the_lengths_in_x(tmp_path):
    path = write(tmp_path / "a.h5")
    dataset = h5v.video_dataset_from_hdf5(
        path, x={"video": "X", "n": "n"}, seed=0, batch_size=4, clip=Clip(5, lengths="n")
    )
    for x, y in dataset:
        assert x["video"].shape == (4, 5, 2, 6, 5)
        assert (x["video"].numpy() > 0).all()
        np.testing.assert_array_equal(x["n"], LENGTHS[y.numpy()])


def test_every_place_that_there_is_is_drawn_alike():
    lengths = np.repeat([5, 7, 12], 20_000)
    drawn = Clip(3, 2).first_frames(lengths, 1, 0, np.arange(60_000))
    for length in (5, 7, 12):
        counts = np.bincount(drawn[lengths == length])
        assert len(counts) == length - 4
        assert abs(counts - 20_000 / len(counts)).max() < 7 * np.sqrt(20_000)


@pytest.mark.parametrize("position", ["random", "center", "start"])
def test_lengths_of_all_frames_change_nothing(tmp_path, position):
    path = write(tmp_path / "a.h5", lengths=np.full(NUM, 12))
    found, states = [], []
    for lengths in (None, "n"):
        clip = Clip(3, 2, position, lengths=lengths)
        with VideoLoader(path, batch_size=6, seed=3, clip=clip) as loader:
            found.append(np.concatenate([x for x, _ in loader]))
            states.append(loader.state_dict(epoch=1, step=1))
    np.testing.assert_array_equal(*found)
    assert states[0] == states[1]


def test_the_state_knows_the_lengths(tmp_path):
    path = write(tmp_path / "a.h5")
    other = LENGTHS.copy()
    other[7] = 5 + (other[7] == 5)

    def loader(lengths, position="random"):
        return VideoLoader(path, seed=0, clip=Clip(3, 2, position, lengths=lengths))

    state = json.loads(json.dumps(loader("n").state_dict(epoch=0, step=0)))
    for lengths in ("n", LENGTHS, LENGTHS.astype(float), LENGTHS[:, np.newaxis]):
        loader(lengths).load_state_dict(state)
    for lengths in (None, other):
        with pytest.raises(StateError, match="the clip: "):
            loader(lengths).load_state_dict(state)
    # Clips from the beginning are the same ones.
    state = loader("n", "start").state_dict(epoch=0, step=0)
    loader(None, "start").load_state_dict(state)


def test_samples_that_are_too_short(tmp_path):
    lengths = np.array([5, 9, 6, 12, 3, 4, 2, 1, 4, 12])
    path = write(tmp_path / "a.h5", 10, lengths=lengths)
    message = (
        "it takes 7 frames, and 7 of 10 samples have fewer. Read fewer frames, or leave these "
        "samples out: indices=np.flatnonzero(lengths >= 7). Received: lengths='n' with "
        "5 for sample 0, 6 for sample 2, 3 for sample 4, 4 for sample 5, 2 for sample 6, ..."
    )
    with pytest.raises(ArgumentError, match=re.escape(message)):
        h5v.video_dataset_from_hdf5(path, clip=Clip(3, 3, lengths="n"))
    with pytest.raises(ArgumentError, match=r"Received: `lengths` with 5 for sample 0"):
        VideoLoader(path, clip=Clip(3, 3, lengths=lengths))


@pytest.mark.parametrize("bad", [0.0, -1.0, 13.0, 2.5, np.nan, np.inf], ids=str)
def test_samples_that_are_not_in_use_may_have_any_length(tmp_path, bad):
    training, validation = h5v.split_samples(write(tmp_path / "a.h5"), 0.3, seed=0)
    lengths = LENGTHS.astype(np.float64)
    lengths[validation[1]] = bad
    options = {"validation_split": 0.3, "seed": 0, "clip": Clip(3, lengths=lengths)}
    with VideoLoader(tmp_path / "a.h5", subset="training", **options) as loader:
        check_epochs(loader, Clip(3), sample_values_of(tmp_path / "a.h5"))
        assert len(loader.sample_indices) == len(training)
    message = rf"`lengths` must be whole numbers from 1 to 12.*{bad} for sample {validation[1]}$"
    with pytest.raises(ArgumentError, match=message):
        VideoLoader(tmp_path / "a.h5", subset="validation", **options)
    with pytest.raises(ArgumentError, match=message):
        h5v.video_dataset_from_hdf5(tmp_path / "a.h5", subset="both", **options)


def sample_values_of(path):
    with h5py.File(path) as file:
        return file["X"][:]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.arange(1, 20), FileFormatError, r"shape \(samples,\).*20 samples of '/X'.* \(19,\)"),
        (np.arange(1, 22), FileFormatError, r"Received: shape \(21,\)"),
        (np.ones((20, 2), int), FileFormatError, r"Received: shape \(20, 2\)"),
        (5, FileFormatError, r"Received: shape \(\)"),
        (np.ones(20, bool), ArgumentError, "whole number for each of the 20.*lengths='m', bool"),
        (["5"] * 20, H5VideoError, "lengths='m', object"),
        (None, H5VideoError, "no dataset 'm'"),
    ],
    ids=str,
)
def test_datasets_that_are_no_lengths(tmp_path, value, error, message):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        if value is not None:
            file["m"] = value
    with pytest.raises(error, match=message):
        h5v.video_dataset_from_hdf5(path, clip=Clip(3, lengths="m"))


def test_lengths_as_matlab_writes_them(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["m"] = LENGTHS.astype(">f8")[:, np.newaxis]
    with VideoLoader(path, seed=0, clip=Clip(3, lengths="m")) as loader:
        assert check_epochs(loader, Clip(3), sample_values_of(path)) == 2 * NUM


def test_an_array_of_another_number_of_lengths(tmp_path):
    path = write(tmp_path / "a.h5")
    with pytest.raises(ArgumentError, match=r"each of the 20 samples.*int64 of shape \(19,\)"):
        VideoLoader(path, clip=Clip(3, lengths=LENGTHS[:19]))


def test_lengths_that_are_masked():
    with pytest.raises(ArgumentError, match="`lengths` must have no masked values"):
        Clip(3, lengths=np.ma.array(LENGTHS, mask=np.arange(NUM) == 7))


def test_files_of_which_some_rows_are_in_use(tmp_path):
    paths = [write(tmp_path / f"{i}.h5") for i in range(2)]
    with h5py.File(paths[0], "a") as file:
        file.attrs["sample_count"] = 3
    with VideoLoader(paths, seed=0, clip=Clip(3, lengths="n")) as loader:
        found = [
            (number, first)
            for epoch, indices, (x, _) in loader.batches()
            for number, first in zip(indices, x[:, 0, 0, 0, 0], strict=True)
        ]
    values = np.concatenate([sample_values_of(paths[0])[:3], sample_values_of(paths[1])])
    lengths = np.append(LENGTHS[:3], LENGTHS)
    numbers = np.array([number for number, _ in found])
    firsts = firsts_of(Clip(3), 0, 0, numbers, lengths)
    assert [value for _, value in found] == values[numbers, firsts, 0, 0, 0].tolist()


def test_small_integers_do_not_overflow():
    lengths = ClipLengths(np.array([200, 255], np.uint8), "n", Clip(3), 300)
    lengths.check(np.arange(2))
    assert lengths.of_samples(np.array([1])).tolist() == [255]
    assert lengths.of_samples(np.array([1])).dtype == np.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 4, 4], r"from 1 to 9.* with 0 for sample 0$"),
        ([4, 10, 4], r"from 1 to 9.* with 10 for sample 1$"),
        ([4, 4.5, 4], r"from 1 to 9.* with 4.5 for sample 1$"),
        ([4, np.nan, -1], r"from 1 to 9.* with nan for sample 1, -1.0 for sample 2$"),
        ([0] * 5, r"with (0 for sample \d, ){4}0 for sample 4$"),
        ([0] * 6, r"with (0 for sample \d, ){5}\.\.\.$"),
        ([3, 2, 3, 1], r"2 of 4 samples have fewer.* with 2 for sample 1, 1 for sample 3$"),
    ],
)
def test_lengths_that_are_none(values, message):
    lengths = ClipLengths(np.array(values), "lengths='n'", Clip(3), 9)
    with pytest.raises(ArgumentError, match=message):
        lengths.check(np.arange(len(values)))


def test_only_samples_in_use_have_lengths():
    lengths = ClipLengths(np.array([0, 1.0, 9.0, np.nan]), "lengths='n'", Clip(1), 9)
    lengths.check(np.array([2, 1]))
    found = lengths.of_samples(np.array([2, 1]))
    assert (found.tolist(), found.dtype) == ([9, 1], np.int64)
