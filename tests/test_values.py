"""Values read by h5py: with the plugins that they need, and only from unchanged files."""

import os
import sys

import h5py
import numpy as np
import pytest
from odd_types import nine_bits

import h5video_data as h5v
from h5video_data import VideoLoader, opening, set_values
from h5video_data.errors import FileChangedError, FileFormatError, ReadError
from h5video_data.reading import fingerprint as state
from h5video_data.storage import values
from h5video_data.storage.hdf5_files import open_file
from h5video_data.storage.hdf5_names import find_dataset
from h5video_data.testing import sample_values, write_video_file

ONE = (1, 4, 3, 8, 8)

# --------------------------------------------------------------------------- plugins


def test_no_fingerprint_of_samples_that_cannot_be_read(tmp_path):
    path = write_video_file(tmp_path / "a.h5", chunks=ONE, compression="gzip")
    with h5py.File(path) as file:
        chunks = [file["X"].id.get_chunk_info(i) for i in range(20)]
    with open(path, "r+b") as file:
        for chunk in chunks:
            file.seek(chunk.byte_offset)
            file.write(b"\xff" * chunk.size)
    with (
        VideoLoader(path, seed=0, on_error="skip") as loader,
        pytest.raises(ReadError, match=r"a.h5: dataset '/X', sample 0"),
    ):
        loader.state_dict(epoch=0, step=0)


def test_a_damaged_index_of_chunks_whose_filter_is_not_installed(tmp_path):
    # h5py raises a RuntimeError when it looks whether any chunk went through the filter.
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        rows = np.zeros((9, 200), np.uint8)
        file.create_dataset("X", data=rows, chunks=(2, 200), compression="gzip")
    content = path.read_bytes()
    corner = np.array([0, 0, 0], "<u8").tobytes()
    place = content.index(corner, content.index(b"TREE\1") + 32)
    filters = b"\1\0\x08\0\1\0\1\0deflate"
    assert content.count(filters) == 1
    content = content[:place] + b"\1" + content[place + 1 :]
    path.write_bytes(content.replace(filters, b"\1\x10" + filters[2:]))
    with pytest.raises(ReadError, match=r"a.h5: dataset '/X': .*bad coordinate offset"):
        VideoLoader(path, y=None, decode="image")
    with pytest.raises(FileFormatError, match=r"a.h5: dataset '/X' has a damaged chunk index"):
        VideoLoader(path, y=None)


# --------------------------------------------------------------------------- replaced files


def write_set(path, first=0):
    write_video_file(path, first=first)
    with h5py.File(path, "a") as file:
        data = sample_values(np.arange(first, first + 20))
        file.create_dataset("odd", data=data, dtype=nine_bits(file))
        file["film"] = np.arange(20) // 4
    return path


def replace_with_another(path):
    """Replaces a file by another one of the same length and modification time."""
    stat = os.stat(path)
    if not os.path.exists(f"{path}.new"):
        write_set(f"{path}.new", first=5)
    os.utime(f"{path}.new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(f"{path}.new", path)


def write_in_place(path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


HOOKS = {
    "opened": ("h5video_data.storage.hdf5_files.h5py.File", "before"),
    "open": ("h5video_data.storage.hdf5_files.h5py.File", "after"),
    "identity known": ("h5video_data.storage.hdf5_files.file_identity", "after"),
    "dataset found": ("h5video_data.opening.file_groups.find_dataset", "after"),
    "described": ("h5video_data.opening.file_groups.describe", "after"),
    "class names read": ("h5video_data.opening.file_groups.read_class_names", "after"),
    "set opened": ("h5video_data.open_set.open_video_set", "after"),
    "split": ("h5video_data.epoch_order.split_set", "after"),
    "opened for labels": ("h5video_data.set_values.open_descriptor", "before"),
    "open for labels": ("h5video_data.set_values.open_descriptor", "after"),
    "labels read": ("h5video_data.reading.batch_reader.read_rows", "after"),
    "opened for reading": ("h5video_data.reading.byte_sources.open_descriptor", "before"),
    "open for reading": ("h5video_data.reading.byte_sources.open_descriptor", "after"),
    "opened by h5py for reading": ("h5video_data.reading.hdf5_source.connect", "before"),
    "open by h5py for reading": ("h5video_data.reading.hdf5_source.connect", "after"),
}


@pytest.mark.parametrize("name", ["X", "odd"])
@pytest.mark.parametrize("change", [replace_with_another, write_in_place])
@pytest.mark.parametrize(("hook", "moment"), HOOKS.values(), ids=HOOKS)
def test_a_file_that_changes_while_it_is_opened(tmp_path, monkeypatch, hook, moment, change, name):
    path = write_set(tmp_path / "a.h5")
    write_set(f"{path}.new", first=5)
    original = _resolve(hook)
    changed = []

    def hooked(*arguments, **options):
        if moment == "before" and not changed:
            changed.append(change(path))
        result = original(*arguments, **options)
        if moment == "after" and not changed:
            changed.append(change(path))
        return result

    monkeypatch.setattr(hook, hooked)
    options = {"validation_split": 0.3, "subset": "training", "split_by": "film", "seed": 0}
    try:
        loader = VideoLoader(path, x=name, **options)
        batches = [(indices, x) for _, indices, (x, _) in loader.batches()]
    except FileChangedError:
        assert changed
    else:
        # An open file outlives its name; or the change came after the last read.
        for indices, x in batches:
            np.testing.assert_array_equal(x, sample_values(indices))
        if changed:
            with pytest.raises(FileChangedError, match=r"a.h5 was changed or replaced"):
                list(loader)


def _resolve(name):
    module, _, attribute = name.rpartition(".")
    if module.endswith(".h5py"):
        return h5py.File
    return getattr(sys.modules[module], attribute)


def test_labels_of_another_file_than_the_samples(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    opened = opening.open_video_set(path)
    replace_with_another(path)
    with pytest.raises(FileChangedError, match=r"a.h5 was changed or replaced"):
        set_values.read_values(opened, "Y")
    with pytest.raises(FileChangedError, match=r"a.h5 was changed or replaced"):
        state.describe_set(opened)


def test_a_linked_file_that_is_replaced(tmp_path):
    path = write_video_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "links.h5", "w") as file:
        for name in "XY":
            file[name] = h5py.ExternalLink("a.h5", name)
    opened = opening.open_video_set(tmp_path / "links.h5")
    replace_with_another(path)
    with pytest.raises(FileChangedError, match=r"a.h5 was changed or replaced"):
        set_values.read_values(opened, "Y")


# --------------------------------------------------------------------------- external files


@pytest.fixture
def external(tmp_path):
    """A dataset of 10 samples of 6 bytes in two external files."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        segments = [(str(tmp_path / "1.raw"), 0, 30), (str(tmp_path / "2.raw"), 4, 30)]
        file.create_dataset("X", (10, 2, 3), "u1", external=segments)[...] = 7
    return tmp_path / "a.h5"


def test_external_files_are_read(external):
    ((x),) = VideoLoader(external, y=None)
    assert (x == 7).all()
    assert h5v.inspect(external).problems == ()


def test_an_external_file_that_is_cut_short(external, tmp_path):
    os.truncate(tmp_path / "2.raw", 4 + 12)
    message = "a.h5: dataset '/X': the external file .*2.raw .* 34 bytes for 10 .*Received: 16"
    with pytest.raises(FileFormatError, match=message):
        VideoLoader(external, y=None)
    assert "2.raw is truncated" in h5v.inspect(external).problems[0]
    with h5py.File(external, "a") as file:
        file.attrs["sample_count"] = 7  # the samples that are there
    (x,) = VideoLoader(external, y=None)
    assert x.shape == (7, 2, 3)
    assert (x == 7).all()
    assert h5v.inspect(external).problems == ()


def test_an_external_file_that_goes_or_changes(external, tmp_path):
    loader = VideoLoader(external, y=None, batch_size=2, read_ahead_bytes=0, shuffle=False)
    batches = iter(loader)
    next(batches)
    write_in_place(tmp_path / "2.raw")
    with pytest.raises(FileChangedError, match=r"2\.raw was changed"):
        list(batches)
    os.remove(tmp_path / "2.raw")
    with pytest.raises(FileNotFoundError, match=r"2\.raw no longer exists"):
        list(loader)
    with pytest.raises(FileNotFoundError, match=r"'/X': the external file .*2\.raw does not"):
        VideoLoader(external, y=None)


def test_an_external_file_that_may_not_be_opened_is_no_bad_sample(external, monkeypatch):
    with open_file(str(external)) as file:
        stored = values.Values(find_dataset(file, "X"))

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("os.open", refuse)
        with (
            pytest.raises(
                h5v.errors.UnavailableError, match=r"cannot open .*a.h5: permission denied"
            ),
            stored.reading((slice(3, 4),)),
        ):
            raise OSError("unable to open external raw data file")
