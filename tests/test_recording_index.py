"""`save_index` of recordings on the disk: what opening found in them, kept for the next run."""

from __future__ import annotations

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import ArgumentError, FileChangedError, FileFormatError
from h5video_data.opening import recording_files, recording_index
from h5video_data.storage.remote.index import Index, Recording

LENGTHS = (7, 5, 9, 2)
FRAMES = np.random.default_rng(0).integers(0, 255, (sum(LENGTHS), 6, 4, 3), np.uint8)
STARTS = np.cumsum(LENGTHS) - LENGTHS
# How the frames of each group are stored.
STORED = {
    "demo_0": {},
    "demo_2": {"chunks": (1, 6, 4, 3), "compression": "gzip", "shuffle": True},
    "demo_10": {"chunks": (4, 4, 4, 3), "fillvalue": 7},
    "demo_11": {"chunks": (2, 4, 4, 3), "fillvalue": 7},
}
OPENINGS = {
    "numbers": {"x": {"a": "data/*/obs/rgb", "b": "data/*/state"}, "y": "data/*/actions"},
    "text": {"y": "data/*/task"},
    "attribute": {"y": "@kind"},
    "inferred": {"y": "inferred"},
    "each": {"y": "labels"},
    "padded": {"y": "data/*/actions", "windows": h5v.Windows(3, range(4), pad="edge")},
    "drawn": {"y": None, "windows": h5v.Windows(2, per_recording=2)},
    "bounds": {"x": "flat", "y": "text", "windows": h5v.Windows(3, bounds="starts")},
    "split": {"y": "labels", "split_by": "ids", "validation_split": 0.5, "subset": "training"},
}


def write(path, number=0):
    with h5py.File(path, "w") as file:
        for i, (name, options) in enumerate(STORED.items()):
            frames = FRAMES[STARTS[i] :][: LENGTHS[i]] + np.uint8(number)
            group = file.create_group(f"data/{name}")
            group.attrs["kind"] = i % 2
            if "fillvalue" in options:
                shape = (LENGTHS[i], 6, 4, 3)
                group.create_dataset("obs/rgb", shape, "u1", **options)[:1] = frames[:1]
            else:
                group.create_dataset("obs/rgb", data=frames, **options)
            group["state"] = np.arange(LENGTHS[i] * 2, dtype=">f8").reshape(-1, 2) + number
            group["actions"] = np.arange(LENGTHS[i], dtype="i2") + 100 * i
            group["task"] = f"täsk {i % 2}"
        file["labels"], file["ids"] = np.arange(4) % 2, np.arange(4) // 2 + 10 * number
        file.create_dataset("flat", data=FRAMES + np.uint8(number), chunks=(8, 6, 4, 3))
        file["starts"] = STARTS
        file["text"] = ["one", "two"] * 2
        file.attrs["class_names"] = ["a", "b"]
    return str(path)


@pytest.fixture
def paths(tmp_path):
    return [write(tmp_path / f"{number}.h5", number) for number in range(2)]


def loader_of(paths, **options):
    given = {"x": "data/*/obs/rgb", "y": None, "windows": 2, "seed": 5, "batch_size": 4, **options}
    return h5v.VideoLoader(paths, **given)


def saved_index(paths, path, **options):
    with loader_of(paths, **options) as loader:
        loader.save_index(path)
    return path


def epoch(loader):
    with loader:
        found = [(indices, *arrays) for _, indices, arrays in loader.batches()]
        return found, loader.class_names, loader.describe_samples(range(loader.num_samples))


def assert_same(one, other):
    for batch, expected in zip(one[0], other[0], strict=True):
        for values, others in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(values, others)
            assert getattr(values, "dtype", None) == getattr(others, "dtype", None)
    assert one[1:] == other[1:]


@pytest.fixture
def no_opening(monkeypatch):
    """Has an error raised where the recordings of a file would be looked for."""

    def opened(path, *_):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(recording_files, "_read_file", opened)


@pytest.mark.parametrize("how", OPENINGS)
def test_samples_are_the_same_and_the_recordings_are_not_looked_for(paths, tmp_path, how, request):
    options = OPENINGS[how]
    index = saved_index(paths, tmp_path / "set.h5i", **options)
    expected = epoch(loader_of(paths, **options))
    assert len(expected[0]) > 1
    if how != "split":  # of which the values of the split are read as always
        request.getfixturevalue("no_opening")
    assert_same(epoch(loader_of(paths, index=index, **options)), expected)


def test_it_serves_a_part_of_its_files_and_others_are_opened(paths, tmp_path):
    index = saved_index(paths[:1], tmp_path / "set.h5i")
    assert_same(epoch(loader_of(paths, index=index)), epoch(loader_of(paths)))
    assert_same(epoch(loader_of(paths[0], index=index)), epoch(loader_of(paths[0])))
    with pytest.raises(ArgumentError, match=r"`index` is of other files than .*1\.h5"):
        loader_of(paths[1], index=index)


def test_other_datasets_are_looked_for_in_the_file(paths, tmp_path, caplog):
    index = saved_index(paths, tmp_path / "set.h5i")
    found = epoch(loader_of(paths, index=index, y="data/*/actions"))
    assert_same(found, epoch(loader_of(paths, y="data/*/actions")))
    assert "is of other datasets of" in caplog.text
    caplog.clear()
    epoch(loader_of(paths, index=index, windows=3))  # of the same rows
    assert "is of other datasets of" not in caplog.text


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_file_that_was_changed_is_an_error(paths, tmp_path, keeps_time):
    index = saved_index(paths, tmp_path / "set.h5i", y="labels")
    before = os.stat(paths[1])
    with h5py.File(paths[1], "r+") as file:
        file["labels"][:] = [1, 1, 0, 0]
    if keeps_time:
        os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    message = r"1\.h5 was changed.*(modification time|last change).*save_index\('set\.h5i'\)"
    with pytest.raises(FileChangedError, match=message):
        loader_of(paths, index=index, y="labels")
    assert loader_of(paths[0], index=index, y="labels").num_samples  # the other one was not


def elsewhere_link(file, other):
    file["data/demo_12"] = h5py.ExternalLink(os.path.basename(other), "/data/demo_0")


def elsewhere_label(file, other):
    del file["labels"]
    file["labels"] = h5py.ExternalLink(os.path.basename(other), "/labels")


def elsewhere_virtual(file, other):
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(os.path.basename(other), "labels", (4,))
    del file["labels"]
    file.create_virtual_dataset("labels", layout)


def elsewhere_external(file, other):
    np.arange(4).tofile(os.path.join(os.path.dirname(other), "labels.bin"))
    del file["labels"]
    file.create_dataset("labels", (4,), "i8", external=[("labels.bin", 0, 32)])


@pytest.mark.parametrize(
    "change", [elsewhere_link, elsewhere_label, elsewhere_virtual, elsewhere_external]
)
def test_a_file_that_leads_to_another_is_not_saved(paths, tmp_path, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File(paths[0], "r+") as file:
        change(file, paths[1])
    is_label = change is not elsewhere_link
    options = {"y": "labels" if is_label else None}
    with loader_of(paths[0], **options) as loader:
        expected = loader.num_samples
        with pytest.raises(ArgumentError, match="lead to other files"):
            loader.save_index(tmp_path / "a.h5i")
    assert not (tmp_path / "a.h5i").exists()
    # Of several files, it is opened as always.
    index = saved_index(paths, tmp_path / "set.h5i", **options)
    assert [*Index(index).notes] == [paths[1]]
    assert loader_of(paths[0:], index=index, **options).num_samples > expected


def test_frames_with_values_in_another_file_are_not_saved(paths, tmp_path):
    layout = h5py.VirtualLayout(FRAMES.shape, "u1")
    layout[:] = h5py.VirtualSource("0.h5", "flat", FRAMES.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("flat", layout)
    index = saved_index([paths[0], tmp_path / "virtual.h5"], tmp_path / "a.h5i", x="flat")
    assert [*Index(index).notes] == [paths[0]]


def test_rows_that_are_samples_need_none(paths, tmp_path):
    loader, message = h5v.VideoLoader(paths, x="flat", y=None), "those of this set are on the disk"
    with loader, pytest.raises(ArgumentError, match=message):
        loader.save_index(tmp_path / "a.h5i")


def changed(note, name, value):
    return note._replace(text={**note.text, name: value})


def changed_kind(note, place, value):
    kinds = [list(kind) for kind in note.text["kinds"]]
    for kind in kinds:
        kind[place] = value
    return changed(note, "kinds", kinds)


def changed_array(note, number, change):
    arrays = [*note.arrays]
    arrays[number] = change(arrays[number].copy())
    return note._replace(arrays=tuple(arrays))


DAMAGES = {
    "beyond the file": lambda note: changed_array(note, 2, lambda a: a + (1 << 40)),
    "a negative offset": lambda note: changed_array(note, 2, lambda a: a - (1 << 40)),
    "a negative size": lambda note: changed_array(note, 3, lambda a: -a - 1),
    "a size too small": lambda note: changed_array(note, 3, lambda a: a // 8),
    "a chunk less": lambda note: changed_array(note, 2, lambda a: a[:-1]),
    "a dataset without chunks": lambda note: changed_array(note, 1, lambda a: a * 0),
    "a kind that is not there": lambda note: changed_array(note, 0, lambda a: a + 9),
    "a dtype of objects": lambda note: changed_kind(note, 1, "|O"),
    "another shape": lambda note: changed_kind(note, 0, [40, 6, 4, 3]),
    "no names": lambda note: changed(note, "parts", {"data/*/obs/rgb": []}),
    "no shape": lambda note: changed_kind(note, 0, None),
    "no kinds": lambda note: changed(note, "kinds", 3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_that_cannot_be_is_an_error(paths, tmp_path, damage):
    index = Index(saved_index(paths[0], tmp_path / "set.h5i"))
    recording = Recording()
    recording.notes = [DAMAGES[damage](index.notes[paths[0]][0])]
    recording.save(tmp_path / "set.h5i")
    with pytest.raises(FileFormatError, match=r"set\.h5i is damaged: what it has of .*0\.h5"):
        loader_of(paths[0], index=tmp_path / "set.h5i")


def test_all_fields_of_a_stored_dataset_are_kept(paths):
    what = [["data/*/obs/rgb"], ["data/*/obs/rgb"], [], None, {}]
    with recording_index.using_index(None, Recording()):
        file = recording_files._read_file(
            paths[0], what[0], {*what[1]}, set(), None, h5v.opening.Decoding()
        )
    note = recording_index._encoded(file, what, 0)
    found = recording_index._decoded(paths[0], file.identity, note)
    for one, other in zip(found.parts[what[0][0]], file.parts[what[0][0]], strict=True):
        for name in type(other).__dataclass_fields__:
            value, expected = getattr(one, name), getattr(other, name)
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(value, expected)
                assert value.dtype == expected.dtype
            else:
                assert value == expected, name
                assert type(value) is type(expected), name
    assert replace(found, parts={}, edges=[]).matches == file.matches
