"""What files hold of recordings: values that could be of rows, counts, what is not alike."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from odd_types import write_long_integers

import h5video_data as h5v
from h5video_data import VideoLoader, Windows
from h5video_data.errors import ArgumentError, FileFormatError, ReadError, UnsupportedDtypeError
from h5video_data.opening import small_values

LENGTHS = (5, 1, 3)


@pytest.fixture
def paths(tmp_path):
    """A recording a file, the second of one row."""
    found = []
    for i, n in enumerate(LENGTHS):
        found.append(str(tmp_path / f"{i}.h5"))
        with h5py.File(found[-1], "w") as file:
            file["frames"] = np.full((n, 4, 4), i, np.uint8)
            file["label"] = [i]
            file["name"] = [f"class {i}"]
            file["of_rows"] = np.arange(n) + 10 * i
            file["texts"] = [f"{i} {row}" for row in range(n)]
    return found


@pytest.fixture
def groups(tmp_path):
    path = tmp_path / "groups.h5"
    with h5py.File(path, "w") as file:
        for i, n in enumerate(LENGTHS):
            group = file.create_group(f"e{i}")
            group["frames"] = np.zeros((n, 4, 4), np.uint8 if i < 2 else np.int16)
            group["other"] = np.zeros((n, 4, 4 + i), np.uint8)
            group["good"] = np.zeros((n, 4, 4), np.uint8)
            group["mixed"] = 3 if i else "three"
            group["shapes"] = np.zeros((1, i + 1))
            group.attrs["mixed"] = 3 if i else "three"
            group.attrs["text"] = "three"
    return path


def labels_of(path, windows=1, **arguments):
    arguments = {"x": "frames", "shuffle": False, **arguments}
    dataset = h5v.video_dataset_from_hdf5(path, windows=windows, **arguments)
    return np.concatenate([y for _, y in dataset]).tolist(), getattr(dataset, "class_names", None)


def test_a_recording_of_one_row_has_values_as_the_others_have(paths):
    expected = np.repeat(range(3), LENGTHS).tolist()
    for order in (1, -1):
        wanted = expected[::order]
        assert labels_of(paths[::order], y="label")[0] == wanted
        numbers, names = labels_of(paths[::order], y="name")
        assert [names[number] for number in numbers] == [f"class {i}" for i in wanted]
    assert labels_of(paths, y="of_rows")[0] == [0, 1, 2, 3, 4, 10, 20, 21, 22]
    assert labels_of(paths[1], y="of_rows")[0] == [10]


def test_a_string_for_each_row(paths):
    numbers, names = labels_of(paths, Windows(1, hop=2), y="texts")
    assert [names[number] for number in numbers] == ["0 0", "0 2", "0 4", "1 0", "2 0", "2 2"]
    with pytest.raises(UnsupportedDtypeError, match="has the dtype string"):
        VideoLoader(paths, x="frames", y="texts", windows=Windows(1, 1))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x": "*/frames"}, "uint8 of shape (4, 4) in {}: '/e0/frames', int16 of shape (4, 4)"),
        ({"x": "*/other"}, "rows of '*/other' must be alike in all recordings"),
        ({"y": "*/mixed"}, "all recordings. Received: numbers of shape (), strings of shape ()"),
        ({"y": "@mixed"}, "'@mixed' must be alike"),
        ({"y": "*/shapes"}, "Received: numbers of shape (1,), numbers of shape (2,)"),
        ({"sample_weight": "@text", "y": "@mixed"}, "'@mixed' must be alike"),
        ({"sample_weight": "@text", "y": "*/good"}, "'@text' must be numbers: strings are read as"),
    ],
)  # fmt: skip
def test_recordings_that_are_not_alike(groups, arguments, text):
    with pytest.raises(FileFormatError) as caught:
        VideoLoader(groups, **{"x": "*/good", "y": None, "windows": 1, **arguments})
    assert text.format(groups) in str(caught.value)


def test_as_many_rows_as_recordings_some_of_which_are_empty(tmp_path):
    for i, n in enumerate((2, 1, 0)):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["frames"] = np.zeros((n, 4, 4), np.uint8)
            file["label"] = [i]
            file.attrs["label"] = i
    for y in ("label", "@label"):
        found, _ = labels_of([str(tmp_path / f"{i}.h5") for i in range(3)], y=y)
        assert np.ravel(found).tolist() == [0, 0, 1]
    with pytest.raises(ArgumentError, match="3 values: as many as 'frames' has rows, and as there"):
        labels_of([str(tmp_path / f"{i}.h5") for i in range(3)], y=np.arange(3))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"y": "@"}, '`y` must name a dataset, or an attribute such as "@label"'),
        ({"y": "inferred", "windows": Windows(1, 1)}, "inferred has no frames"),
        ({"y": "*/good", "sample_weight": "inferred"}, 'only y may be "inferred"'),
    ],
)
def test_names_that_recordings_cannot_have(groups, arguments, text):
    with pytest.raises(ArgumentError) as caught:
        VideoLoader(groups, **{"x": "*/good", "windows": 1, **arguments})
    assert text in str(caught.value)


def test_datasets_of_other_files(groups, paths):
    name = f"{paths[0]}:label"
    with pytest.raises(ArgumentError, match="a value for each of the 3 recordings"):
        VideoLoader(groups, x="*/good", y=name, windows=1)


def write_preallocated(path, count, **datasets):
    with h5py.File(path, "w") as file:
        file["frames"] = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
        for name, values in datasets.items():
            file[name] = values
        file.attrs["sample_count"] = count
    return path


@pytest.mark.parametrize(
    ("bounds", "values"),
    [(None, [0]), ("ends", [4, 7]), ("lengths", [4, 3]), ("starts", [0, 4]),
     ("ids", [5, 5, 5, 5, 6, 6, 6, 0, 0, 0])],
)  # fmt: skip
def test_rows_beyond_the_sample_count_are_in_no_window(tmp_path, bounds, values):
    path = write_preallocated(tmp_path / "a.h5", 7, bounds=values)
    windows = Windows(2, bounds=bounds and (bounds, "bounds"))
    found = [*VideoLoader(path, x="frames", y=None, windows=windows, shuffle=False)]
    rows = np.concatenate(found)[:, :, 0, 0].tolist()
    assert rows == [[i, i + 1] for i in range(6) if bounds is None or i != 3]


def test_a_sample_count_may_be_that_of_recordings(tmp_path):
    path = write_preallocated(tmp_path / "a.h5", 2, bounds=[0, 4])
    windows = Windows(2, bounds=("starts", "bounds"))
    assert VideoLoader(path, x="frames", y=None, windows=windows).num_samples == 3 + 5
    path = write_preallocated(tmp_path / "b.h5", 6, bounds=[0, 7])
    with pytest.raises(FileFormatError, match="`sample_count` is 6, and there are 10 rows: the bo"):
        VideoLoader(path, x="frames", y=None, windows=windows)
    path = write_preallocated(
        tmp_path / "c.h5", 3, **{f"e/{i}": np.zeros((4, 2, 2), np.uint8) for i in range(2)}
    )
    with pytest.raises(FileFormatError, match="is 3, and there are 2 recordings with 8 rows"):
        VideoLoader(path, x="e/*", y=None, windows=2)
    with h5py.File(path, "a") as file:
        file.attrs["sample_count"] = 2
    assert VideoLoader(path, x="e/*", y=None, windows=2).num_samples == 6


def test_other_files_tell_whether_values_are_of_rows_or_of_recordings(tmp_path):
    paths = []
    for i, lengths in enumerate(([2, 0], [3, 1])):
        paths.append(str(tmp_path / f"{i}.h5"))
        with h5py.File(paths[-1], "w") as file:
            file["frames"] = np.zeros((sum(lengths), 4, 4), np.uint8)
            file["length"] = lengths
            file["each"] = [10 * i, 10 * i + 1]
            file["row"] = np.arange(sum(lengths)) + 10 * i
    windows = Windows(1, bounds=("lengths", "length"))
    assert labels_of(paths, windows, y="each")[0] == [0, 0, 10, 10, 10, 11]
    assert labels_of(paths, windows, y="row")[0] == [0, 1, 10, 11, 12, 13]
    for name in ("each", "row"):
        with pytest.raises(FileFormatError, match="as many rows as there are frames, and as"):
            labels_of(paths[0], windows, y=name)


def test_each_dataset_is_opened_few_times(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i in range(200):
            file[f"e/{i}/obs/frames"] = np.zeros((3, 64, 64), np.uint8)
            file[f"e/{i}/action"] = np.zeros((3, 2), np.float32)
            file[f"e/{i}"].attrs["task"] = "lift"
    opened, at_once = 0, []
    original = h5py.h5o.open

    def counted(*args, **kwargs):
        nonlocal opened
        opened += 1
        if opened % 100 == 0:
            at_once.append(h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_DATASET))
        return original(*args, **kwargs)

    monkeypatch.setattr(h5py.h5o, "open", counted)  # h5py calls this for every object
    loader = VideoLoader(path, x="e/*/obs/frames", y="e/*/action", windows=2)
    assert 2 * 200 <= opened <= 2 * 200 + 20
    assert max(at_once) <= 10
    opened = 0
    next(iter(loader))
    assert opened <= 20  # the actions, which are kept, are read without HDF5
    opened = 0
    VideoLoader(path, x="e/*/obs/frames", y="@task", windows=2)
    assert 2 * 200 <= opened <= 2 * 200 + 20


def test_recordings_that_only_one_name_has(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i in range(3000):
            file[f"e/{i}/frames"] = [0]
            file[f"e/{i + 3}/action"] = [0]
    with pytest.raises(FileFormatError, match="3000 and 3000; 6 in one of them alone"):
        VideoLoader(path, x="e/*/frames", y="e/*/action", windows=1)


def test_bounds_that_were_hardly_written(tmp_path, monkeypatch):
    monkeypatch.setattr(small_values, "MAX_UNWRITTEN_CHUNKS", 100)
    # HDF5 looks at each chunk: with a damaged shape, for minutes, and with gigabytes.
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((9, 4, 4), np.uint8)
        options = {"chunks": (2,), "maxshape": (None,)}
        file.create_dataset("ep_len", (202,), "i8", **options)[:3] = 5, 1, 3
    with pytest.raises(FileFormatError, match=r"a.h5: 'ep_len' has the shape \(202,\), and few"):
        VideoLoader(path, x="frames", y=None, windows=Windows(2, bounds="ep_len"))
    with h5py.File(path, "a") as file:
        file["ep_len"].resize((199,))
    loader = VideoLoader(path, x="frames", y=None, windows=Windows(2, bounds="ep_len"))
    assert loader.batch_indices(epoch=0, step=0).size == 4 + 0 + 2


@pytest.mark.parametrize("name", ["bounds", "label", "one"])
def test_small_values_of_a_dtype_that_numpy_has_not(tmp_path, name):
    path = tmp_path / "a.h5"
    values = {"bounds": [4, 5], "label": [1, 2], "one": 3}
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((9, 4, 4), np.uint8)
        write_long_integers(file, name, np.shape(values.pop(name)))
        for other, value in values.items():
            file[other] = value
    message = f"a.h5: dataset '/{name}' has a dtype that h5py does not support: .*<i16"
    windows = Windows(2, bounds=None if name == "one" else "bounds")
    with pytest.raises(FileFormatError, match=message):
        VideoLoader(path, x="frames", y=None if name == "bounds" else name, windows=windows)


def test_one_value_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((9, 4, 4), np.uint8)
        file["one"] = "a class"
        place = file["one"].id.get_offset() + 4  # of the address of the heap that has it
    content = path.read_bytes()
    beyond = (1 << 40).to_bytes(8, "little")
    path.write_bytes(content[:place] + beyond + content[place + 8 :])
    with pytest.raises(ReadError, match=r"a.h5: dataset '/one': "):
        VideoLoader(path, x="frames", y="one", windows=2)


def damage_tree(path, place, data):
    """Changes bytes at a place in the only B-tree of chunks of a file (HDF5 file format, III.A.1).

    The number of its entries is at 6; at 24, its first chunk's size, mask and corner.
    """
    content = path.read_bytes()
    assert content.count(b"TREE\1") == 1
    place += content.index(b"TREE\1")
    path.write_bytes(content[:place] + data + content[place + len(data) :])


def test_bounds_and_values_whose_index_is_damaged(tmp_path):
    # HDF5 finds no chunk at 0, and gives zeros: of lengths, 0, 0 and 4 could be starts.
    path = tmp_path / "a.h5"
    names = {"ep_len": [2, 3, 4], "number": [1, 2, 3], "name": np.array([b"a", b"b", b"c"])}
    for name, values in names.items():
        with h5py.File(path, "w") as file:
            file["frames"] = np.zeros((9, 4, 4), np.uint8)
            file["starts"] = [0, 2, 5]
            file.create_dataset(name, data=values, chunks=(2,))
        damage_tree(path, 24 + 8, b"\x02\x02\x02")
        y, bounds = (None, name) if name == "ep_len" else (name, "starts")
        with pytest.raises(FileFormatError, match=rf"a.h5: dataset '/{name}' has a damaged chunk"):
            VideoLoader(path, x="frames", y=y, windows=Windows(2, bounds=bounds))


@pytest.mark.parametrize("is_written", [False, True])
def test_bounds_of_which_none_is_written(tmp_path, is_written):
    # If a damaged index has no chunks, lengths are zeros, which could be starts.
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((9, 4, 4), np.uint8)
        file["one"] = [0]
        file.create_dataset("ids", (9,), "i8")
        values = [0, 0, 0] if is_written else [2, 3, 4]
        file.create_dataset("bounds", data=values, chunks=(2,), maxshape=(None,))
    windows = {name: Windows(2, bounds=name) for name in ("bounds", "one", "ids")}
    for name in ("one", "ids", *(["bounds"] if is_written else [])):
        loader = VideoLoader(path, x="frames", y=None, windows=windows[name])
        assert loader.batch_indices(epoch=0, step=0).size == 8
    damage_tree(path, 6, b"\0")
    with pytest.raises(FileFormatError, match=r"a.h5: no values of the bounds 'bounds' were writ"):
        VideoLoader(path, x="frames", y=None, windows=windows["bounds"])


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ([1, 2], [1, 2, 3, 4, 5], "the rows of the recordings in {}1.h5, and a value for each"),
        ([1, 2], [1.5, 2.5], "alike in all files. Received: "),
    ],
    ids=["of rows in another file", "of another dtype"],
)
def test_values_that_are_not_the_same_in_all_files(tmp_path, first, second, text):
    for name, values in {"0.h5": first, "1.h5": second}.items():
        with h5py.File(tmp_path / name, "w") as file:
            file["frames"] = np.zeros((5, 4, 4), np.uint8)
            file["length"] = [2, 3]
            file["label"] = values
    windows = Windows(1, bounds=("lengths", "length"))
    with pytest.raises(FileFormatError) as caught:
        VideoLoader(tmp_path / "?.h5", x="frames", y="label", windows=windows)
    assert "'label' must be " in str(caught.value)
    assert text.format(f"{tmp_path}/") in str(caught.value)


def test_windowed_values_need_the_rows_of_the_frames(paths):
    with pytest.raises(FileFormatError) as caught:
        VideoLoader(paths, x="frames", y="label", windows=Windows(2, 1))
    received = "'frames' has 5, 'label' has 1"
    message = f"{paths[0]}: 'label' must have as many rows as 'frames'. Received: {received}"
    assert str(caught.value) == message


def test_frames_without_pixels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = np.zeros((5, 0, 4), np.uint8)
    with pytest.raises(FileFormatError, match=r"'frames' are empty. Received: shape \(5, 0, 4\)"):
        VideoLoader(tmp_path / "a.h5", x="frames", y=None, windows=2)


def test_bounds_of_several_datasets(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i in range(2):
            file[f"e/{i}/frames"] = np.full((5, 4, 4), i, np.uint8)
            file[f"e/{i}/ends"] = [2, 5]
    windows = Windows(2, bounds=("ends", "e/*/ends"))
    arguments = {"x": "e/*/frames", "y": None, "windows": windows, "shuffle": False}
    with VideoLoader(path, **arguments) as loader:
        assert loader.num_samples == 2 * (1 + 2)
    with h5py.File(path, "a") as file:
        file.attrs["sample_count"] = 3  # neither the rows nor the recordings
    with pytest.raises(FileFormatError, match="is 3, and there are 10 rows: the bounds 'e/"):
        VideoLoader(path, **arguments)
    with h5py.File(path, "a") as file:
        del file["e/1/ends"]
    with pytest.raises(FileFormatError, match=r"each of the 2 datasets .*Received: 1$"):
        VideoLoader(path, **arguments)


def test_inferred_classes_that_no_name_tells(tmp_path):
    path = tmp_path / "one" / "]a.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((5, 4, 4), np.uint8)
    arguments = {"x": "frames", "y": "inferred", "windows": 2}
    with pytest.raises(ArgumentError, match=r'y="inferred" needs a `\*` in .*Received: path='):
        VideoLoader(path, **arguments)
    with pytest.raises(ArgumentError, match=r"the first `\*` of .* stands for in .*/one/\]a\.h5"):
        VideoLoader(f"{tmp_path}/*/[]]a.h5", **arguments)
    assert VideoLoader(f"{tmp_path}/*/?a.h5", **arguments).class_names == ["one"]


def test_values_of_recordings_that_are_too_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(small_values, "MAX_VALUES_NBYTES", 15)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = np.zeros((9, 4, 4), np.uint8)
        file["ends"] = np.array([4, 9])
    with pytest.raises(FileFormatError, match="'ends' has 16 bytes, too many for values"):
        VideoLoader(tmp_path / "a.h5", x="frames", y=None, windows=Windows(2, bounds="ends"))
