"""`channel_statistics` against NumPy: each sample of a split once, and exact sums."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader
from h5video_data.errors import ArgumentError, ReadError
from h5video_data.testing import write_video_file
from h5video_data.transforms.statistics import channel_statistics

NUM = 22
SHAPE = (NUM, 3, 2, 5, 4)
DTYPES = ["uint8", "int8", "bool", "uint16", "int16", "int32", "uint64"]
DTYPES += ["float16", "float32", "float64"]


def values(dtype, shape=SHAPE):
    """Clips over the range of a dtype (of 32 bits at the most), another one in each channel."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        clips = rng.normal([[[3]], [[-40]]], [[[0.5]], [[8]]], shape)
    elif dtype == "bool":
        clips = rng.random(shape) < [[[0.1]], [[0.7]]]
    else:
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -(2**31)), min(limits.max, 2**31 - 1)
        clips = rng.integers([[[low]], [[high // 2]]], high, shape, endpoint=True)
    return clips.astype(dtype)


def write(path, clips, name="X", **options):
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=clips, **options)
        if "Y" not in file:
            file["Y"] = np.eye(4, dtype=np.float32)[np.arange(len(clips)) % 4]
    return path


def expected(clips, axes=(0, 1, 3, 4)):
    wide = clips.astype(np.float64)
    return wide.mean(axis=axes), wide.std(axis=axes)


def check(found, clips, axes=(0, 1, 3, 4), rtol=1e-12):
    mean, std = expected(clips, axes)
    assert found.mean.dtype == found.std.dtype == np.float64
    np.testing.assert_allclose(found.mean, mean, rtol=rtol)
    np.testing.assert_allclose(found.std, std, rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [4, 100, None], ids=str)
def test_against_numpy(tmp_path, dtype, batch_size):
    clips = values(dtype)
    with h5v.VideoLoader(write(tmp_path / "f.h5", clips), batch_size=batch_size) as loader:
        check(channel_statistics(loader), clips)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_channels_last(tmp_path, dtype):
    clips = values(dtype).transpose(0, 1, 3, 4, 2)
    with h5v.VideoLoader(write(tmp_path / "f.h5", clips)) as loader:
        check(channel_statistics(loader, data_format="channels_last"), clips, axes=(0, 1, 2, 3))


def test_channels_that_are_last_without_a_word(tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (NUM, 3, 6, 5, 2), np.uint8)
    with h5v.VideoLoader(write(tmp_path / "f.h5", clips)) as loader:
        with pytest.raises(
            ArgumentError, match=r"data_format=\"channels_last\".*\(None, 3, 6, 5, 2\)"
        ):
            channel_statistics(loader)
        check(channel_statistics(loader, data_format="channels_first"), clips)
    with (
        h5v.VideoLoader(write(tmp_path / "g.h5", clips.transpose(0, 1, 4, 2, 3))) as loader,
        pytest.raises(ArgumentError, match="leave `data_format` out"),
    ):
        channel_statistics(loader, data_format="channels_last")


def test_y_and_names_that_are_not_there(tmp_path):
    clips, masks = values("uint8"), values("float32", (NUM, 2, 2, 3, 3))
    path = write(write(tmp_path / "f.h5", clips), masks, name="M")
    with h5v.VideoLoader(path, y="M") as loader:
        check(channel_statistics(loader, key="x"), clips)
        check(channel_statistics(loader, key="y"), masks, rtol=1e-9)
        with pytest.raises(ArgumentError, match=r"\['x', 'y'\].*key='X'"):
            channel_statistics(loader, key="X")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"chunks": (1, 3, 2, 5, 4), "compression": "gzip"}, id="one sample a chunk"),
        pytest.param({"chunks": (8, 2, 1, 5, 4), "compression": "lzf"}, id="many samples a chunk"),
        pytest.param({"dtype": ">i2"}, id="what HDF5 reads"),
    ],
)
def test_layouts(tmp_path, options):
    clips = values("uint8")
    with h5v.VideoLoader(write(tmp_path / "f.h5", clips, **options)) as loader:
        check(channel_statistics(loader), clips)


class Twice:
    """A sampler that repeats some samples and leaves others out."""

    def epoch(self, _):
        return np.array([0, 0, 0, 1, 2])


@pytest.mark.parametrize("subset", ["training", "validation"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"batch_size": 4}, id="a last batch that is smaller"),
        pytest.param({"batch_size": 4, "drop_remainder": True}, id="a last batch that is dropped"),
        pytest.param({"batch_size": 3, "shuffle": Twice()}, id="a sampler of its own"),
        pytest.param({"shuffle": "blocks"}, id="blocks"),
        pytest.param({"map_fn": lambda x, y: (x + 1, y)}, id="a map function"),
        pytest.param({"indices": np.arange(NUM)[::-1]}, id="an order of its own"),
    ],
)
def test_each_sample_of_the_split_counts_once(tmp_path, subset, options):
    clips = values("uint8")
    path = write(tmp_path / "f.h5", clips)
    with h5v.VideoLoader(
        path, validation_split=0.4, subset=subset, split_by="label", seed=1, **options
    ) as loader:
        assert 4 < loader.num_samples < NUM
        check(channel_statistics(loader), clips[loader.sample_indices])


def test_several_files_and_a_sample_count(tmp_path):
    clips = values("uint8")
    first = write(tmp_path / "a.h5", clips[:9])
    second = write(tmp_path / "b.h5", clips[9:])
    with h5py.File(first, "a") as file:
        file.attrs["sample_count"] = 7
    with h5v.VideoLoader([first, second]) as loader:
        check(channel_statistics(loader), np.concatenate([clips[:7], clips[9:]]))


def test_a_dict_of_inputs(tmp_path):
    clips, others = values("uint8"), values("float32", (NUM, 2, 2, 3, 3))
    path = write(write(tmp_path / "f.h5", clips), others, name="flow")
    names = {"video": "X", "flow": "flow", "again": "X"}
    with h5v.VideoLoader(path, x=names, y=None) as loader:
        check(channel_statistics(loader, key="video"), clips)
        check(channel_statistics(loader, key="flow"), others, rtol=1e-9)
        check(channel_statistics(loader, key=["video"]), clips)
        with pytest.raises(ArgumentError, match=r"must be one name.*key=\['video', 'flow'\]"):
            channel_statistics(loader, key=["video", "flow"])
        for key in (None, "audio"):
            with pytest.raises(ArgumentError, match=rf"'again', 'flow', 'video'.*key={key!r}"):
                channel_statistics(loader, key=key)


def test_whole_numbers_are_summed_exactly(tmp_path):
    # The deviation is a billionth of the mean square: sums in float64 would lose it.
    clips = np.full((50, 2, 1, 64, 64), 65_000, np.uint16)
    clips[7, 1, 0, 3, 3] += 1
    with h5v.VideoLoader(write(tmp_path / "f.h5", clips)) as loader:
        found = channel_statistics(loader)
    count = clips.size
    assert found.mean[0] == (65_000 * count + 1) / count
    assert found.std[0] == pytest.approx(np.sqrt((count - 1) / count**2), rel=1e-15)


def test_large_floats_keep_their_deviation(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (30, 2, 1, 16, 16))
    clips = noise + 1e8 + np.arange(30).reshape(-1, 1, 1, 1, 1)
    with h5v.VideoLoader(write(tmp_path / "f.h5", clips)) as loader:
        found = channel_statistics(loader)
    np.testing.assert_allclose(found.std, (clips - 1e8).std(), rtol=1e-9)
    naive = (clips**2).mean() - clips.mean() ** 2
    assert not np.isclose(naive, found.std[0] ** 2, rtol=1e-3)  # what it is better than


NOT_FINITE = pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([np.nan], id="nan"),
        pytest.param([np.inf], id="inf"),
        pytest.param([np.inf, -np.inf, np.nan], id="all of them"),
    ],
)


@NOT_FINITE
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite(tmp_path, numbers, dtype):
    clips = values(dtype)
    clips[13, 0, 1, 0, : len(numbers)] = numbers
    clips[20, :, :, :, :] = numbers[0]
    first = write(tmp_path / "a.h5", clips[:9])
    second = write(tmp_path / "b.h5", clips[9:])
    with h5v.VideoLoader([first, second]) as loader:
        with pytest.raises(
            ReadError, match=r"b\.h5: dataset 'X', sample 4: .*nan_policy=\"omit\".*number 13 of"
        ):
            channel_statistics(loader)
        mean, std = channel_statistics(loader, nan_policy="omit")
    finite = np.where(np.isfinite(clips), clips, np.nan).astype(np.float64)
    np.testing.assert_allclose(mean, np.nanmean(finite, axis=(0, 1, 3, 4)), rtol=1e-12)
    np.testing.assert_allclose(std, np.nanstd(finite, axis=(0, 1, 3, 4)), rtol=1e-12)


def test_samples_of_the_other_side_may_hold_anything(tmp_path):
    clips = values("float32")
    path = write(tmp_path / "f.h5", clips)
    split = {"validation_split": 0.3, "seed": 0}
    with h5v.VideoLoader(path, subset="validation", **split) as loader:
        others = loader.sample_indices
    with h5py.File(path, "a") as file:
        file["X"][others[0]] = np.nan
    with h5v.VideoLoader(path, subset="training", **split) as loader:
        check(channel_statistics(loader), clips[loader.sample_indices], rtol=1e-9)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        pytest.param(np.nan, "no finite value in any", id="nothing is left"),
        pytest.param(1e200, "too large: the squares", id="squares that overflow"),
    ],
)
def test_channels_without_statistics(tmp_path, number, message):
    clips = values("float64")
    clips[:, :, 1] = number
    clips[0, :, 1] *= 2
    with (
        h5v.VideoLoader(write(tmp_path / "f.h5", clips)) as loader,
        pytest.raises(ReadError, match=message),
    ):
        channel_statistics(loader, nan_policy="omit")


def test_the_loader_goes_on_as_if_nothing_had_happened(tmp_path, new_threads):
    path = write_video_file(tmp_path / "f.h5", num_samples=20)
    with h5v.VideoLoader(path, batch_size=4, seed=3) as loader:
        expected = [x for x, _ in loader] + [x for x, _ in loader]
        loader.set_epoch(0)
        found = []
        for step, (x, _) in enumerate(loader):
            found.append(x)
            if step == 2:
                threads, stats = new_threads(), loader.stats
                channel_statistics(loader)
                assert new_threads() == threads
                assert loader.stats == stats
        found += [x for x, _ in loader]
    np.testing.assert_array_equal(found, expected)
    assert not new_threads()


def test_a_function_is_told_the_progress(tmp_path):
    path = write_video_file(tmp_path / "f.h5", num_samples=150)
    calls = []
    with h5v.VideoLoader(path, validation_split=0.1, subset="training", seed=0) as loader:
        channel_statistics(loader, progress=lambda done, total: calls.append((done, total)))
        done, totals = zip(*calls, strict=True)
        assert set(totals) == {135}
        assert len(done) > 1
        assert list(done) == sorted(set(done))
        assert done[-1] == 135


def test_progress_is_shown_on_stderr(tmp_path, capsys):
    with h5v.VideoLoader(write_video_file(tmp_path / "f.h5", num_samples=150)) as loader:
        channel_statistics(loader)
        assert capsys.readouterr() == ("", "")
        channel_statistics(loader, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("\r64 of 150 samples (43%)")
    assert err.endswith("\r150 of 150 samples (100%)\n")


def test_arguments_that_make_no_sense(tmp_path):
    path = write_video_file(tmp_path / "f.h5")
    with (
        h5v.VideoLoader(path) as loader,
        pytest.raises(ArgumentError, match="Received: data_format='NTHWC'"),
    ):
        channel_statistics(loader, data_format="NTHWC")
    with (
        h5v.VideoLoader(path) as loader,
        pytest.raises(ArgumentError, match="Received: nan_policy='skip'"),
    ):
        channel_statistics(loader, nan_policy="skip")
    with (
        h5v.VideoLoader(path, x="Y", y=None) as loader,
        pytest.raises(ArgumentError, match=r"'Y', samples of shape \(4,\)"),
    ):
        channel_statistics(loader)


def test_tensorflow_is_not_loaded(tmp_path):
    path = write_video_file(tmp_path / "f.h5")
    code = f"""
import sys
import h5video_data as h5v
from h5video_data.transforms.statistics import channel_statistics
print(channel_statistics(h5v.VideoLoader({path!r})).mean.shape, "tensorflow" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "(3,) False\n"


def test_normalize_takes_what_it_returns(tmp_path):
    path = write_video_file(tmp_path / "f.h5", num_samples=40)
    loader = h5v.VideoLoader(path, batch_size=7)
    scale = h5v.transforms.normalize(*h5v.channel_statistics(loader))
    dataset = h5v.video_dataset_from_hdf5(path, batch_size=7, map_fn=scale)
    clips = np.concatenate([x for x, _ in dataset.as_numpy_iterator()])
    np.testing.assert_allclose(clips.mean(axis=(0, 1, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(clips.std(axis=(0, 1, 3, 4)), 1, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("chunks", [(1, *SHAPE[1:]), (6, *SHAPE[1:])], ids=["single", "many"])
def test_padding_does_not_count(tmp_path, dtype, chunks):
    lengths, samples = np.arange(NUM) % 3 + 1, np.arange(NUM) % 5 != 2
    samples[lengths < 2] = False
    clips = values(dtype)
    for clip, length in zip(clips, lengths, strict=True):
        clip[length:] = 0
    path = write(tmp_path / "a.h5", clips, chunks=chunks)
    clip = h5v.Clip(1, stride=2, axis=0, lengths=lengths)
    video = [clip[:length] for clip, length in zip(clips, lengths, strict=True)]
    with h5v.VideoLoader(path, clip=clip, indices=samples, seed=0) as loader:
        chosen = np.concatenate([video[number] for number in np.flatnonzero(samples)])
        check(channel_statistics(loader), chosen, axes=(0, 2, 3))


def test_a_row_of_a_recording_that_is_not_finite_is_named(tmp_path):
    frames = np.ones((9, 2, 4, 4), np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in (2, 10):
            frames[5] = np.nan if number == 10 else 1
            file[f"demo_{number}/rgb"] = frames
    loader = VideoLoader(tmp_path / "a.h5", x="*/rgb", y=None, windows=3, seed=0)
    message = r"'/?demo_10/rgb', row 5: .*first such row of the recordings"
    with pytest.raises(ReadError, match=message):
        channel_statistics(loader)
