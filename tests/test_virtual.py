"""Virtual datasets: a missing source is an error that names it, unmapped parts are fill values."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data import VideoLoader, opening, set_values
from h5video_data.errors import (
    DatasetNotFoundError,
    FileChangedError,
    FileFormatError,
    NotHDF5Error,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.storage.values import Values
from h5video_data.storage.virtual import UnopenedSources, find_source_files

SAMPLE = (5, 6)
UNLIMITED = h5py.h5s.UNLIMITED


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with files of 4 samples: all ones, all twos, all threes."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        write(number)
    return tmp_path


def write(number, samples=4, path=None):
    with h5py.File(path or f"{number}.h5", "w") as file:
        data = np.full((samples, *SAMPLE), number, "u1")
        file.create_dataset("data", data=data, maxshape=(None, *SAMPLE))


def write_virtual(*sources, path="v.h5", **options):
    """A virtual dataset of 4 samples from each source, a file and a dataset."""
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((4 * len(sources), *SAMPLE), "u1")
        for i, (name, dataset) in enumerate(sources):
            layout[4 * i : 4 * i + 4] = h5py.VirtualSource(name, dataset, (4, *SAMPLE))
        file.create_virtual_dataset("X", layout, **options)


def link(name, file, dataset="/data"):
    with h5py.File("v.h5", "a") as opened:
        opened[name] = h5py.ExternalLink(file, dataset) if file else h5py.SoftLink(dataset)


def write_pattern(file_name, dataset):
    """A virtual dataset of as many blocks of 4 samples as there are sources."""
    space = h5py.h5s.create_simple((4, *SAMPLE), (UNLIMITED, *SAMPLE))
    space.select_hyperslab((0, 0, 0), (UNLIMITED, 1, 1), (4, *SAMPLE), (4, *SAMPLE))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    block = h5py.h5s.create_simple((4, *SAMPLE))
    properties.set_virtual(space, file_name.encode(), dataset.encode(), block)
    with h5py.File("v.h5", "a") as file:
        whole = h5py.h5s.create_simple((4, *SAMPLE), (UNLIMITED, *SAMPLE))
        h5py.h5d.create(file.id, b"X", h5py.h5t.STD_U8LE, whole, properties)


def write_growing(*paths):
    """A virtual dataset with the samples of files beside each other, as many as there are."""
    with h5py.File("v.h5", "w") as file:
        shape = (1, 5, 6 * len(paths))
        layout = h5py.VirtualLayout(shape, "u1", maxshape=(None, *shape[1:]))
        for i, path in enumerate(paths):
            source = h5py.VirtualSource(path, "data", (1, *SAMPLE), maxshape=(None, *SAMPLE))
            layout[0:UNLIMITED, :, 6 * i : 6 * i + 6] = source[0:UNLIMITED]
        file.create_virtual_dataset("X", layout)


def missing_file():
    write_virtual(("1.h5", "data"), ("gone.h5", "data"))


def missing_dataset():
    write_virtual(("1.h5", "data"), ("2.h5", "nodata"))


def behind_an_external_link():
    link("here", "1.h5")
    link("there", "gone.h5")
    write_virtual((".", "here"), (".", "there"))


def behind_an_external_link_without_dataset():
    link("there", "1.h5", "/nodata")
    write_virtual((".", "there"))


def behind_a_soft_link():
    link("soft", None, "/nowhere")
    write_virtual((".", "soft"))


def behind_a_link_of_the_source():
    with h5py.File("links.h5", "w") as file:
        file["data"] = h5py.ExternalLink("gone.h5", "/data")
    write_virtual(("links.h5", "data"))


def nested():
    write_virtual(("1.h5", "data"), ("gone.h5", "data"), path="inner.h5")
    write_virtual(("inner.h5", "X"))


def of_itself():
    write_virtual((".", "X"))


def of_itself_through_another():
    write_virtual(("inner.h5", "X"))
    write_virtual(("v.h5", "X"), path="inner.h5")


def cut_short():
    write(1, samples=3)
    write_virtual(("1.h5", "data"))


def cut_short_behind_a_selection():
    write(1, samples=6)
    with h5py.File("v.h5", "w") as file:
        layout = h5py.VirtualLayout((4, *SAMPLE), "u1")
        layout[...] = h5py.VirtualSource("1.h5", "data", (8, *SAMPLE))[4:]
        file.create_virtual_dataset("X", layout)


def of_other_dimensions():
    with h5py.File("1.h5", "w") as file:
        file["data"] = np.ones((8, 30), "u1")
    with h5py.File("v.h5", "w") as file:
        layout = h5py.VirtualLayout((4, *SAMPLE), "u1")
        layout[...] = h5py.VirtualSource("1.h5", "data", (8, *SAMPLE))[4:]
        file.create_virtual_dataset("X", layout)


def cut_short_behind_parts_that_do_not_repeat():
    write(1, samples=6)
    space = h5py.h5s.create_simple((9, *SAMPLE))
    space.select_none()
    for first, count in ((0, 1), (5, 3)):
        space.select_hyperslab((first, 0, 0), (count, *SAMPLE), op=h5py.h5s.SELECT_OR)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    whole = h5py.h5s.create_simple((4, *SAMPLE))
    properties.set_virtual(whole, b"1.h5", b"data", space)
    with h5py.File("v.h5", "w") as file:
        h5py.h5d.create(file.id, b"X", h5py.h5t.STD_U8LE, whole, properties)


def of_different_lengths():
    write(2, samples=3)
    write_growing("1.h5", "2.h5")


def not_hdf5():
    Path("2.h5").write_bytes(b"something else" * 99)
    write_virtual(("1.h5", "data"), ("2.h5", "data"))


def a_pipe():
    os.remove("2.h5")
    os.mkfifo("2.h5")
    write_virtual(("1.h5", "data"), ("2.h5", "data"))


def a_gap_between_files():
    write(7, path="part0.h5")
    write(9, path="part2.h5")
    write_pattern("part%b.h5", "data")


def a_gap_between_datasets():
    with h5py.File("parts.h5", "w") as file:
        for number in (0, 1, 3):
            file[f"in/part{number}"] = np.full((4, *SAMPLE), number, "u1")
    write_pattern("parts.h5", "/in/part%b")


def no_dataset_in_a_part():
    write(7, path="part0.h5")
    write(8, path="part1.h5")
    write_pattern("part%b.h5", "data")
    with h5py.File("part1.h5", "a") as file:
        del file["data"]
    write(9, path="part2.h5")


WRONG = [
    (
        missing_file,
        VideoFileNotFoundError,
        "v.h5: dataset '/X' maps to the source file 'gone.h5', which",
    ),
    (
        missing_dataset,
        DatasetNotFoundError,
        "'nodata': .*2.h5 has no dataset 'nodata'. It contains",
    ),
    (behind_an_external_link, DatasetNotFoundError, "'there'.* leads to '/data' in 'gone.h5'"),
    (
        behind_an_external_link_without_dataset,
        DatasetNotFoundError,
        "'there'.* leads to '/nodata' in '1.h5'",
    ),
    (
        behind_a_soft_link,
        DatasetNotFoundError,
        "'soft'.* leads to '/nowhere', which does not exist",
    ),
    (behind_a_link_of_the_source, DatasetNotFoundError, "links.h5 .* '/data' in 'gone.h5'"),
    (nested, VideoFileNotFoundError, "inner.h5: dataset '/X' maps to .* 'gone.h5'"),
    (of_itself, FileFormatError, "v.h5: dataset '/X' .* maps to itself"),
    (of_itself_through_another, FileFormatError, "v.h5: dataset '/X' .* maps to itself"),
    (cut_short, FileFormatError, "1.h5: dataset '/data', which is too small. .* 120 .*3, 5, 6"),
    (cut_short_behind_a_selection, FileFormatError, r"1.h5: .*\(8, 5, 6\) .*shape \(6, 5, 6\)"),
    (of_other_dimensions, FileFormatError, r"1.h5: .*\(8, 5, 6\) or larger.*shape \(8, 30\)"),
    (
        cut_short_behind_parts_that_do_not_repeat,
        FileFormatError,
        r"1.h5: .*\(8, 5, 6\) or larger.*shape \(6, 5, 6\)",
    ),
    (of_different_lengths, FileFormatError, r"2.h5: .*\(4, 5, 6\) .*shape \(3, 5, 6\)"),
    (not_hdf5, NotHDF5Error, "2.h5 .* is not an HDF5 file"),
    (a_pipe, NotHDF5Error, "2.h5 is not a regular file"),
    (a_gap_between_files, VideoFileNotFoundError, "'part1.h5', .* 'part2.h5' does"),
    (no_dataset_in_a_part, DatasetNotFoundError, "'data': .*part1.h5 has no dataset 'data'"),
    (a_gap_between_datasets, VideoFileNotFoundError, "'in/part2', .* 'in/part3' does"),
]
NAMES = [make.__name__ for make, _, _ in WRONG]


@pytest.mark.parametrize(("make", "error", "message"), WRONG, ids=NAMES)
def test_what_is_missing_is_named(folder, make, error, message):
    make()
    with pytest.raises(error, match=message):
        VideoLoader(folder / "v.h5", y=None)
    report = h5v.inspect(folder / "v.h5")
    (dataset,) = (item for item in report.datasets if item.name == "X")
    assert (dataset.storage, dataset.path) == ("virtual", "none")
    assert any(re.search(message, problem) for problem in report.problems)


def read(path="v.h5"):
    (x,) = VideoLoader(path, y=None, shuffle=False)
    return x


def nothing_missing():
    write_virtual(("1.h5", "data"), ("2.h5", "data"), ("3.h5", "data"))
    return [1, 2, 3]


def nested_and_whole():
    write_virtual(("1.h5", "data"), ("2.h5", "data"), path="inner.h5")
    with h5py.File("v.h5", "w") as file:
        layout = h5py.VirtualLayout((8, *SAMPLE), "u1")
        layout[...] = h5py.VirtualSource("inner.h5", "X", (8, *SAMPLE))
        file.create_virtual_dataset("X", layout)
    return [1, 2]


def behind_links():
    link("external", "2.h5")
    link("soft", None, "external")
    write_virtual((".", "external"), (".", "soft"))
    return [2, 2]


def not_mapped():
    with h5py.File("v.h5", "w") as file:
        layout = h5py.VirtualLayout((12, *SAMPLE), "u1")
        layout[4:8] = h5py.VirtualSource("1.h5", "data", (4, *SAMPLE))
        file.create_virtual_dataset("X", layout, fillvalue=9)
    return [9, 1, 9]


def longer_than_needed():
    write(1, samples=7)
    write_virtual(("1.h5", "data"))
    return [1]


def growing():
    write_growing("1.h5", "1.h5")
    return [1]


def of_a_pattern():
    for number in range(3):
        write(number + 4, path=f"100%_{number}.h5")
    write_pattern("100%%_%b.h5", "data")
    return [4, 5, 6]


def of_a_pattern_of_folders():
    for number in range(2):
        os.mkdir(f"part{number}")
        write(number + 4, path=f"part{number}/a.h5")
    write_pattern("part%b/a.h5", "data")
    return [4, 5]


def of_a_pattern_of_datasets():
    with h5py.File("parts.h5", "w") as file:
        for number in range(3):
            file[f"part{number}"] = np.full((4, *SAMPLE), number, "u1")
    write_pattern("parts.h5", "part%b")
    return [0, 1, 2]


RIGHT = [
    nothing_missing,
    nested_and_whole,
    behind_links,
    not_mapped,
    longer_than_needed,
    growing,
    of_a_pattern,
    of_a_pattern_of_folders,
    of_a_pattern_of_datasets,
]


@pytest.mark.parametrize("make", RIGHT, ids=lambda make: make.__name__)
def test_what_is_there_is_read(folder, make):
    expected = np.repeat(make(), 4)[:, np.newaxis, np.newaxis]
    x = read(folder / "v.h5")
    assert len(x) == len(expected)
    assert (x == expected).all()
    assert h5v.inspect(folder / "v.h5").problems == ()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["1.h5", "2.h5", "inner.h5"])
@pytest.mark.parametrize("change", ["removed", "replaced", "written to"])
def test_a_source_that_goes_or_changes(name, change):
    write_virtual(("1.h5", "data"), ("2.h5", "data"), path="inner.h5")
    with h5py.File("v.h5", "w") as file:
        layout = h5py.VirtualLayout((8, *SAMPLE), "u1")
        layout[...] = h5py.VirtualSource("inner.h5", "X", (8, *SAMPLE))
        file.create_virtual_dataset("X", layout)
    loader = VideoLoader("v.h5", y=None, batch_size=1, read_ahead_bytes=0, shuffle=False)
    batches = iter(loader)
    next(batches)
    if change == "removed":
        os.remove(name)
    elif change == "replaced":
        write(5, path="new.h5")
        os.replace("new.h5", name)
    else:
        os.utime(name, ns=(0, 0))
    with pytest.raises((FileChangedError, VideoFileNotFoundError), match=name):
        list(batches)
    with pytest.raises((FileChangedError, VideoFileNotFoundError), match=name):
        list(loader)


@pytest.mark.usefixtures("folder")
def test_a_source_of_labels_that_changed():
    write_virtual(("1.h5", "data"), ("2.h5", "data"))
    opened = opening.open_video_set("v.h5", y=None)
    os.utime("2.h5", ns=(0, 0))
    with pytest.raises(FileChangedError, match=r"2\.h5 was changed"):
        set_values.read_values(opened, "X")


FEW_DESCRIPTORS = """
import os, resource, sys
import h5video_data as h5v
options = {"shuffle": False, "batch_size": 12, "on_error": "skip", "num_threads": 1}
loader = h5v.VideoLoader("v.h5", y=None, **options)
few = len(os.listdir("/proc/self/fd")) + int(sys.argv[1])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
try:
    (x,) = loader
    print(x[:, 0, 0].tolist(), loader.skipped)
except h5v.errors.UnavailableError as error:
    print(error)
"""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("room", range(1, 9))
def test_too_few_descriptors_for_the_sources(room):
    # HDF5 takes a source that it cannot open for one that is missing, and gives zeros.
    write_virtual(("1.h5", "data"), ("2.h5", "data"), ("3.h5", "data"))
    run = [sys.executable, "-c", FEW_DESCRIPTORS, str(room)]
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=250)
    whole = f"{np.repeat([1, 2, 3], 4).tolist()} {{}}\n"
    if room > 6:
        assert done.stdout == whole, done.stderr
    else:
        assert done.stdout == whole or "with `ulimit -n`" in done.stdout, done.stderr


def test_a_source_that_hdf5_could_not_open(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["X"] = np.arange(24, dtype="u1").reshape(4, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 6), "u1")
        layout[2:] = h5py.VirtualSource("source.h5", "X", (4, 6))[2:]
        file.create_virtual_dataset("X", layout, fillvalue=9)
    with h5py.File(tmp_path / "a.h5") as file:
        values = Values(file["X"])
        monkeypatch.setattr("h5video_data.storage.virtual.open_identities", set)
        assert (values.read(slice(0, 2)) == 9).all()
        with pytest.raises(UnavailableError, match=r"HDF5 could not open .*source\.h5"):
            values.read(slice(1, 3))


@pytest.mark.usefixtures("folder")
def test_a_source_that_is_gone_where_the_open_files_are_not_known(monkeypatch):
    write_virtual(("1.h5", "data"), ("2.h5", "data"))
    monkeypatch.setattr("h5video_data.storage.virtual.open_identities", lambda: None)
    with h5py.File("v.h5") as file:
        values = Values(file["X"])
        assert (values.read(slice(0, 4)) == 1).all()
        os.remove("2.h5")
        with pytest.raises(VideoFileNotFoundError, match=r"2\.h5 no longer exists"):
            values.read(slice(3, 5))


@pytest.mark.usefixtures("folder")
def test_a_selection_of_no_values_needs_no_source(monkeypatch):
    write_virtual(("1.h5", "data"))
    with h5py.File("v.h5") as file:
        unopened = UnopenedSources(find_source_files(file["X"]).mappings)
        monkeypatch.setattr("h5video_data.storage.virtual.open_identities", set)
        unopened.check(file["X"], [(slice(0, 4), slice(2, 2))])
        assert unopened._is_unopened.all()
        with pytest.raises(UnavailableError, match=r"HDF5 could not open .*1\.h5"):
            unopened.check(file["X"], [(slice(0, 4), slice(2, 3))])
