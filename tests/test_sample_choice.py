"""Parts of files that `repack` writes: one side of a split, some samples, shards."""

import h5py
import numpy as np
import pytest
from pack_helpers import contents, files_in
from repack_helpers import GZIP

import h5video_data as h5v
from h5video_data.errors import ArgumentError, FileFormatError
from h5video_data.testing import sample_values, write_video_file
from h5video_data.tools.cli import main

COUNTS = (20, 11, 30)


@pytest.fixture
def files(tmp_path):
    """Three files; of the last, some samples are not in use."""
    for number, count in enumerate(COUNTS):
        path = tmp_path / f"part_{number}.h5"
        write_video_file(path, num_samples=count, first=100 * number)
        with h5py.File(path, "a") as file:
            numbers = 100 * number + np.arange(count)
            file["id"] = numbers
            file["name"] = [f"{n}" for n in numbers]
            file.create_dataset("more", data=numbers, chunks=(7,), **GZIP)
            file["group"] = numbers // 4
            file["camera"] = [1, 2]
            if number == 2:
                file.attrs["sample_count"] = 25
    return tmp_path / "part_?.h5"


NUMBERS = np.array([*range(20), *range(100, 111), *range(200, 225)])


def check(path, numbers, x=sample_values):
    """Compares a new file with the numbers of the samples that it should have."""
    data, attributes = contents(path)
    np.testing.assert_array_equal(data["X"], x(numbers))
    for name in ("id", "more"):
        assert data[name].tolist() == numbers.tolist()
    assert [name.decode() for name in data["name"]] == [f"{n}" for n in numbers]
    assert data["camera"].tolist() == [1, 2]
    assert attributes["sample_count"] == len(numbers)
    assert len(data["Y"]) == len(numbers)


@pytest.mark.parametrize("subset", ["training", "validation"])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("split_by", [None, "group", "label"])
def test_a_side_of_a_split_is_that_of_a_loader(files, tmp_path, subset, compression, split_by):
    split = {"validation_split": 0.3, "subset": subset, "seed": 5, "split_by": split_by}
    with h5v.VideoLoader(files, **split, shuffle=False) as loader:
        samples = loader.sample_indices
    out = tmp_path / "out.h5"
    report = h5v.repack(files, out, compression=compression, **split)
    assert report.num_samples == len(samples) < 50
    check(out, NUMBERS[samples])


@pytest.mark.parametrize(
    "indices",
    [[3], [55, 0, 20], np.arange(56) % 3 == 0, range(20, 31), range(31, 56), range(56)],
    ids=["one", "unsorted", "mask", "a file", "the last file", "all"],
)
def test_some_samples(files, tmp_path, indices):
    report = h5v.repack(files, tmp_path / "out.h5", indices=indices)
    chosen = np.asarray(indices)
    chosen = np.flatnonzero(chosen) if chosen.dtype == bool else np.sort(chosen)
    assert report.num_samples == len(chosen)
    check(tmp_path / "out.h5", NUMBERS[chosen])


@pytest.mark.parametrize("options", [{}, {"compression": "lzf"}, {"layout": "sample-chunks"}])
def test_shards(files, tmp_path, options):
    (tmp_path / "out").mkdir()
    h5v.repack(files, tmp_path / "out/all.h5", shards=5, **options)
    names = [f"all-{number:05}-of-00005.h5" for number in range(5)]
    assert files_in(tmp_path / "out") == names
    for name, numbers in zip(names, np.array_split(NUMBERS, 5), strict=True):
        check(tmp_path / "out" / name, numbers)
    with h5v.VideoLoader(tmp_path / "out/all-*.h5", shuffle=False, batch_size=100) as loader:
        ((x, _),) = loader
    np.testing.assert_array_equal(x, sample_values(NUMBERS))


def test_shards_of_a_split(files, tmp_path):
    split = {"validation_split": 0.5, "subset": "training"}
    samples, _ = h5v.split_samples(files, 0.5)
    h5v.repack(files, tmp_path / "out.h5", shards=2, **split)
    for number, part in enumerate(np.array_split(NUMBERS[samples], 2)):
        check(tmp_path / f"out-{number:05}-of-00002.h5", part)


def test_encoded_images(tmp_path):
    frames = np.repeat(np.arange(30, dtype=np.uint8), 8 * 9).reshape(30, 8, 9)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = frames, np.arange(30)
    samples, _ = h5v.split_samples(tmp_path / "a.h5", 0.4, seed=1)
    split = {"validation_split": 0.4, "subset": "training", "seed": 1}
    h5v.repack(tmp_path / "a.h5", tmp_path / "b.h5", codec="png", shards=2, **split)
    with h5v.VideoLoader(tmp_path / "b-*.h5", shuffle=False, batch_size=30) as loader:
        ((x, y),) = loader
    np.testing.assert_array_equal(x[..., 0], frames[samples])
    assert y.tolist() == samples.tolist()


CASES = {
    "no fraction": ({"subset": "training"}, "given together.*subset='training'"),
    "no subset": ({"validation_split": 0.5}, "given together.*subset=None"),
    "both": ({"subset": "both", "validation_split": 0.5}, "subset='both'"),
    "seed alone": ({"seed": 3}, "`seed` and `split_by` are those of a split.*seed=3"),
    "no shard": ({"shards": 0}, "shards=0"),
    "too many shards": ({"shards": 57}, "number of samples, 56. Received: shards=57"),
    "no such sample": ({"indices": [56]}, "from 0 to 55"),
    "twice": ({"indices": [3, 3]}, "each sample once"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_arguments(files, tmp_path, case):
    options, message = case
    with pytest.raises(ArgumentError, match=message):
        h5v.repack(files, tmp_path / "out.h5", **options)
    assert len(files_in(tmp_path)) == 3


@pytest.mark.parametrize(
    "options", [{"shards": 2}, {"indices": [1]}, {"subset": "training", "validation_split": 0.5}]
)
def test_recordings_are_not_torn(tmp_path, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["length"] = np.zeros((30, 8, 9), np.uint8), [10, 20]
        file["pixels"] = np.zeros((30, 12, 16, 3), np.uint8)  # which `inspect` opens
    with pytest.raises(ArgumentError, match=r"frames of recordings.*windows=h5v\.Windows\(15"):
        h5v.repack(tmp_path / "a.h5", tmp_path / "out.h5", **options)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["sample_count"] = 30
    h5v.repack(tmp_path / "a.h5", tmp_path / "out.h5", **options)


@pytest.mark.parametrize(("x", "y", "count"), [(12, 14, 10), (10, 12, 10), (12, 10, 10)])
def test_labels_that_cannot_be_chosen_from(tmp_path, x, y, count):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = np.zeros((x, 2, 3, 8, 9), np.uint8), np.arange(y)
        file.attrs["sample_count"] = count
    with pytest.raises(FileFormatError, match=rf"'/Y' must have as many rows as 'X' has, {x}"):
        h5v.repack(tmp_path / "a.h5", tmp_path / "out.h5", indices=[3, 5])
    h5v.repack(tmp_path / "a.h5", tmp_path / "out.h5", indices=[0, 1])  # the first ones
    with h5v.VideoLoader(tmp_path / "out.h5", shuffle=False) as loader:
        assert [y.tolist() for _, y in loader] == [[0, 1]]


def test_the_command_line(files, tmp_path, capsys):
    paths = [str(path) for path in sorted(tmp_path.glob("part_?.h5"))]
    out = str(tmp_path / "out.h5")
    split = ["--subset", "validation", "--validation-split", "0.3", "--split-by", "label"]
    assert main(["repack", *paths, out, *split, "--seed", "5", "--shards", "2"]) == 0
    _, samples = h5v.split_samples(files, 0.3, seed=5, split_by="label")
    assert f"{len(samples)} samples of X" in capsys.readouterr().out
    check(tmp_path / "out-00000-of-00002.h5", NUMBERS[samples][: -(-len(samples) // 2)])
    assert main(["repack", *paths, out, "--subset", "training"]) == 1
    assert "--validation-split and --subset must be given together" in capsys.readouterr().err
