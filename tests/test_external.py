"""What an HDF5 file may lead to: its own folder and below, unless more is allowed."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import ArgumentError, ExternalFileError, H5VideoError
from h5video_data.storage import external
from h5video_data.storage.external import LINK_PREFIX, allowing_external, may_lead_to
from h5video_data.storage.hdf5_files import HDF5_ERRORS
from h5video_data.tools.cli import main
from h5video_data.tools.repacking.links import linked_files

X = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
Y = np.arange(6, dtype=np.int64)


def write_plain(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["X"], file["Y"], file["in/X"] = X, Y, X
    return path


def values(path, **options):
    with h5v.VideoLoader(path, shuffle=False, batch_size=6, **options) as loader:
        ((x, *_),) = loader
    return x


def linked(path, target, name="X"):
    """Writes a file whose X is an external link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["Y"], file["X"] = Y, h5py.ExternalLink(target, name)
    return path


def soft(path, target):
    """Writes a file whose X is a soft link through an external link to a group."""
    with h5py.File(path, "w") as file:
        file["Y"], file["a/there"] = Y, h5py.ExternalLink(target, "/")
        file["a/here"] = h5py.SoftLink("there/in")
        file["X"] = h5py.SoftLink("/a/./here/X")
    return path


def virtual(path, target):
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(X.shape, X.dtype)
        layout[:3] = h5py.VirtualSource(target, "X", X.shape)[:3]
        layout[3:] = h5py.VirtualSource(target, "X", X.shape)[3:]
        file["Y"] = Y
        file.create_virtual_dataset("X", layout)
    return path


def growing(path, target):
    """Writes a virtual dataset that HDF5 measures by opening its source."""
    unlimited = h5py.h5s.UNLIMITED
    with h5py.File(path, "w") as file:
        file["Y"] = Y
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space = h5py.h5s.create_simple((6, 4), (unlimited, 4))
        source = h5py.h5s.create_simple((6, 4), (unlimited, 4))
        for item in (space, source):
            item.select_hyperslab((0, 0), (1, 1), block=(unlimited, 4))
        plist.set_virtual(space, os.fsencode(target), b"X", source)
        h5py.h5d.create(file.id, b"X", h5py.h5t.STD_U8LE, space, plist)
    return path


def raw(path, target):
    """Writes a dataset with external storage, in a file of bytes."""
    with h5py.File(path, "w") as file:
        file["Y"] = Y
        file.create_dataset("X", X.shape, X.dtype, external=[(target, 0, X.nbytes)])
    return path


WRITERS = [linked, soft, virtual, growing]


@pytest.mark.parametrize("write", WRITERS, ids=lambda item: item.__name__)
@pytest.mark.parametrize("is_absolute", [False, True], ids=["relative", "absolute"])
def test_a_file_of_another_folder_is_refused_and_may_be_allowed(tmp_path, write, is_absolute):
    other = write_plain(tmp_path / "raw/x.h5")
    (tmp_path / "set").mkdir()
    path = write(tmp_path / "set/a.h5", str(other) if is_absolute else "../raw/x.h5")
    with pytest.raises(ExternalFileError, match=r"a\.h5: .* (.*)raw/x\.h5, .*allow_external=True"):
        h5v.VideoLoader(path)
    np.testing.assert_array_equal(values(path, allow_external=True), X)
    with pytest.raises(ExternalFileError):  # it was not allowed for good
        h5v.VideoLoader(path)


@pytest.mark.parametrize("write", WRITERS, ids=lambda item: item.__name__)
def test_files_in_the_folder_and_below_are_read(tmp_path, write):
    write_plain(tmp_path / "x.h5")
    write_plain(tmp_path / "deep/er/x.h5")
    for name in ("x.h5", "deep/er/x.h5", str(tmp_path / "x.h5"), "deep/../x.h5"):
        np.testing.assert_array_equal(values(write(tmp_path / "a.h5", name)), X)


def test_external_storage(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/x.raw").write_bytes(X.tobytes())
    (tmp_path / "secret").write_bytes(X.tobytes())
    monkeypatch.chdir(tmp_path / "set")  # where HDF5 looks for it
    np.testing.assert_array_equal(values(raw(tmp_path / "set/a.h5", "x.raw")), X)
    for target in ("../secret", str(tmp_path / "secret")):
        path = raw(tmp_path / "set/b.h5", target)
        with pytest.raises(ExternalFileError, match=r"'/X' has values in .*/secret, which is out"):
            h5v.VideoLoader(path)
        np.testing.assert_array_equal(values(path, allow_external=True), X)


def test_a_chain_of_files_stays_in_the_folder(tmp_path):
    write_plain(tmp_path / "x.h5")
    linked(tmp_path / "set/b.h5", "../x.h5")
    path = linked(tmp_path / "set/a.h5", "b.h5")
    with pytest.raises(ExternalFileError, match=r"set/b\.h5: the link '/X' leads to .*/x\.h5"):
        h5v.VideoLoader(path)
    virtual(tmp_path / "set/b.h5", "../x.h5")
    with pytest.raises(ExternalFileError, match=r"set/b\.h5: the dataset '/X' has values in"):
        h5v.VideoLoader(path)
    with pytest.raises(ExternalFileError, match=r"set/b\.h5: the dataset '/X' has values in"):
        h5v.VideoLoader(virtual(tmp_path / "set/a.h5", "b.h5"))
    # By another file and back: that one was not to be opened, either.
    linked(tmp_path / "b.h5", "set/c.h5")
    write_plain(tmp_path / "set/c.h5")
    with pytest.raises(ExternalFileError, match=r"set/a\.h5: the link 'X' leads to .*/b\.h5"):
        h5v.VideoLoader(linked(tmp_path / "set/a.h5", "../b.h5"))
    np.testing.assert_array_equal(values(tmp_path / "set/a.h5", allow_external=True), X)


def test_symbolic_links_are_the_users_own(tmp_path):
    write_plain(tmp_path / "disk/raw/x.h5")
    virtual(tmp_path / "disk/a.h5", "raw/x.h5")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a.h5").symlink_to(tmp_path / "disk/a.h5")  # of the file
    np.testing.assert_array_equal(values(tmp_path / "home/a.h5"), X)
    (tmp_path / "set").symlink_to(tmp_path / "disk")  # of its folder
    for folder in ("set", "disk"):
        virtual(tmp_path / "disk/b.h5", str(tmp_path / folder / "raw/x.h5"))
        for path in ("set/b.h5", "disk/b.h5"):
            np.testing.assert_array_equal(values(tmp_path / path), X)
    (tmp_path / "home/raw").symlink_to(tmp_path / "disk/raw")  # of what it leads to
    np.testing.assert_array_equal(values(virtual(tmp_path / "home/c.h5", "raw/x.h5")), X)


def test_no_way_out_behind_a_symbolic_link(tmp_path):
    write_plain(tmp_path / "disk/secret.h5")
    write_plain(tmp_path / "disk/raw/x.h5")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/raw").symlink_to(tmp_path / "disk/raw")
    for write in (linked, virtual):
        with pytest.raises(ExternalFileError):  # home/secret.h5, by its name
            h5v.VideoLoader(write(tmp_path / "home/a.h5", "raw/../secret.h5"))


def test_folders_with_a_common_beginning_are_others(tmp_path):
    write_plain(tmp_path / "set-2/x.h5")
    with pytest.raises(ExternalFileError):
        h5v.VideoLoader(linked(tmp_path / "set/a.h5", "../set-2/x.h5"))
    assert may_lead_to("/a.h5", "/b/c.h5", LINK_PREFIX)


def test_a_prefix_of_the_environment_is_the_users_own(tmp_path, monkeypatch):
    write_plain(tmp_path / "raw/x.h5")
    path = linked(tmp_path / "set/a.h5", "x.h5")
    monkeypatch.setenv("HDF5_EXT_PREFIX", str(tmp_path / "raw"))
    np.testing.assert_array_equal(values(path), X)
    write_plain(tmp_path / "y.h5")
    with pytest.raises(ExternalFileError):
        h5v.VideoLoader(linked(tmp_path / "set/a.h5", "../y.h5"))


def test_the_working_directory_is_no_folder_of_the_file(tmp_path, monkeypatch):
    write_plain(tmp_path / "home/x.h5")
    monkeypatch.chdir(tmp_path / "home")
    for write in (linked, virtual):
        with pytest.raises(ExternalFileError, match="home/x"):
            h5v.VideoLoader(write(linked(tmp_path / "set/a.h5", "z"), "x.h5"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("folder", ["", "../"], ids=["inside", "outside"])
@pytest.mark.parametrize("is_allowed", [False, True])
@pytest.mark.timeout(60)
def test_a_link_to_a_pipe_does_not_wait(tmp_path, folder, is_allowed):
    path = linked(tmp_path / "set/a.h5", f"{folder}pipe")
    os.mkfifo(tmp_path / "set" / folder / "pipe")
    with pytest.raises(H5VideoError, match="pipe"):
        h5v.VideoLoader(path, allow_external=is_allowed)
    assert "pipe" in " ".join(h5v.inspect(path, allow_external=is_allowed).problems)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["data/*/X", "data/*/*", "*", "data/1/X", "soft/X", "/soft//X"])
@pytest.mark.timeout(60)
def test_recordings_behind_a_link_to_a_pipe_do_not_wait(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/0/X"] = X
        file["data/1"] = h5py.ExternalLink("pipe", "/in")
        file["soft"] = h5py.SoftLink("/data/1")
    with pytest.raises(ExternalFileError, match="pipe, which is not a regular file"):
        h5v.VideoLoader(tmp_path / "a.h5", x=name, y=None, windows=2)


def test_hdf5_follows_external_links_only_where_they_were_checked(tmp_path):
    write_plain(tmp_path / "x.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own/X"] = X
        file["soft"], file["again"] = h5py.SoftLink("/own"), file["own"]
        for number, target in enumerate(("x.h5", "a.h5", "none.h5")):
            file[f"other/{number}"] = h5py.ExternalLink(target, "/own")
    with h5py.File(tmp_path / "a.h5") as file:
        for name in (b"own/X", b"soft/X", b"again/X"):
            assert external.open_checked(file, name)[1]
        assert external.open_checked(file, b"other/1/X")[1] is False
        for name in (b"other/0/X", b"other/1/X", b"other/2/X"):
            with pytest.raises(HDF5_ERRORS):
                h5py.h5o.open(file.id, name, lapl=external._no_external_links())


@pytest.mark.parametrize("userblock", [0, 512, 1024])
def test_an_offset_is_told_from_none(tmp_path, userblock):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=userblock) as file:
        file["contiguous"] = X
        file.create_dataset("chunked", data=X, chunks=True)
        file.create_virtual_dataset("virtual", h5py.VirtualLayout((2,), "u1"))
        file.create_dataset("unwritten", (5,), "u1")
        found = {name: external.is_an_offset(item.id.get_offset()) for name, item in file.items()}
    assert found.pop("contiguous")
    assert not any(found.values())


def test_recordings_behind_links(tmp_path):
    write_plain(tmp_path / "raw/x.h5")
    path = tmp_path / "set/a.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["data/0/X"], file["length"] = X, [2, 4]
        file["data/1"] = h5py.ExternalLink("../raw/x.h5", "/in")
        file["bounds"] = h5py.ExternalLink("../raw/x.h5", "/Y")
    for name in ("data/*/X", "data/1/X"):
        with pytest.raises(ExternalFileError):  # not: left out
            h5v.VideoLoader(path, x=name, y=None, windows=2)
        with h5v.VideoLoader(path, x=name, y=None, windows=2, allow_external=True) as loader:
            assert loader.num_samples == (10 if "*" in name else 5)
    windows = h5v.Windows(2, bounds="bounds")
    with pytest.raises(ExternalFileError):
        h5v.VideoLoader(path, x="data/0/X", y=None, windows=windows)
    with pytest.raises(ExternalFileError):
        h5v.VideoLoader(path, x="data/0/X", y="bounds", windows=2)


def test_ids_of_a_split_and_labels_behind_links(tmp_path):
    write_plain(tmp_path / "raw/x.h5")
    path = write_plain(tmp_path / "set/a.h5")
    with h5py.File(path, "a") as file:
        file["id"] = h5py.ExternalLink("../raw/x.h5", "/Y")
    split = {"validation_split": 0.5, "split_by": "id"}
    with pytest.raises(ExternalFileError, match="'id'"):
        h5v.VideoLoader(path, seed=0, subset="training", **split)
    with pytest.raises(ExternalFileError, match="'id'"):
        h5v.split_samples(path, **split)
    with pytest.raises(ExternalFileError, match="'id'"):
        h5v.VideoLoader(path, y="id")
    with h5v.VideoLoader(path, seed=0, subset="training", allow_external=True, **split) as loader:
        numbers = loader.sample_indices
    found, _ = h5v.split_samples(path, **split, allow_external=True)
    np.testing.assert_array_equal(found, numbers)
    # A file that the call names is its own choice.
    assert h5v.VideoLoader(path, y=f"{tmp_path}/raw/x.h5:Y").num_samples == 6


def test_inspect_says_it_and_goes_on_if_allowed(tmp_path, capsys):
    write_plain(tmp_path / "raw/x.h5")
    path = linked(tmp_path / "set/a.h5", "../raw/x.h5")
    report = h5v.inspect(path)
    (problem,) = report.problems
    assert "the link 'X' leads to" in problem
    assert "use allow_external=True" in problem
    assert [item.name for item in report.datasets] == ["Y"]
    report = h5v.inspect(path, allow_external=True)
    assert not report.problems
    assert {item.name for item in report.datasets} == {"X", "Y"}
    assert report.sample_call.endswith('a.h5", allow_external=True)')
    assert report.class_counts == tuple((str(number), 1) for number in range(6))
    (problem,) = h5v.inspect(virtual(path, "../raw/x.h5")).problems
    assert "has values in" in problem
    assert "use allow_external=True" in problem
    assert main(["inspect", str(path)]) == 1
    assert "use --allow-external" in capsys.readouterr().out
    assert main(["inspect", str(path), "--allow-external"]) == 0


def test_repack_refuses_and_may_be_allowed(tmp_path, capsys):
    write_plain(tmp_path / "raw/x.h5")
    path = linked(tmp_path / "set/a.h5", "../raw/x.h5")
    out = tmp_path / "out.h5"
    assert main(["repack", str(path), str(out)]) == 1
    assert "use --allow-external" in capsys.readouterr().err
    assert not out.exists()
    assert main(["repack", str(path), str(out), "--allow-external"]) == 0
    np.testing.assert_array_equal(values(out), X)
    # Beside the samples: a link stays one; values are those of another file.
    path = write_plain(tmp_path / "set/b.h5")
    with h5py.File(path, "a") as file:
        file["beside"] = h5py.ExternalLink("../raw/x.h5", "/X")
    h5v.repack(path, out, overwrite=True)
    with h5py.File(out) as file:
        assert file.get("beside", getlink=True).filename == "raw/x.h5"
    with pytest.raises(ExternalFileError):  # its rows would be left out, too
        h5v.repack(path, out, overwrite=True, indices=[0, 1])
    h5v.repack(path, out, overwrite=True, indices=[0, 1], allow_external=True)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["beside"], X[:2])
    with h5py.File(virtual(path, "../raw/x.h5"), "a") as file:
        file["seen"], file["X"] = file["X"], file.pop("X") and X
    with pytest.raises(ExternalFileError):
        h5v.repack(path, out, overwrite=True)


def test_frames_that_are_datasets(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(6)))
    path, out = tmp_path / "set/a.h5", tmp_path / "out.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        place = [(str(tmp_path / "secret"), 0, 6)]
        file.create_dataset("frame0", (6,), "u1", external=place)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_external(os.fsencode(tmp_path / "secret"), 0, 6)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5d.create(file.id, b"label", h5py.h5t.STD_U8LE, space, plist)
        file["X"] = X
    options = {"x": "frame*", "layout": "recordings"}
    with pytest.raises(ExternalFileError, match="secret"):
        h5v.repack(path, out, **options)
    with pytest.raises(ExternalFileError, match="secret"):
        h5v.VideoLoader(path, y="label", windows=2)
    h5v.repack(path, out, **options, allow_external=True)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["X"], [range(6)])
    os.truncate(tmp_path / "secret", 3)  # HDF5 would give zeros
    with pytest.raises(h5v.errors.FileFormatError, match="truncated"):
        h5v.repack(path, out, **options, allow_external=True, overwrite=True)


def test_what_may_not_be_led_to_is_not_overwritten(tmp_path):
    other = write_plain(tmp_path / "raw/x.h5")
    path = linked(tmp_path / "set/a.h5", "../raw/x.h5")
    linked(other, "../y.h5")
    write_plain(tmp_path / "y.h5")
    assert linked_files(str(path)) == {str(path), str(other)}
    with allowing_external(True):
        assert linked_files(str(path)) == {str(path), str(other), str(tmp_path / "y.h5")}


def test_a_circle_of_links_ends(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = h5py.SoftLink("X"), h5py.ExternalLink("a.h5", "Y")
    for name in ("X", "Y"):
        with pytest.raises(H5VideoError):
            h5v.VideoLoader(tmp_path / "a.h5", x=name, y=None)


def test_the_argument_is_checked(tmp_path):
    path = write_plain(tmp_path / "x.h5")
    for function in (h5v.VideoLoader, h5v.inspect):
        with pytest.raises(ArgumentError, match="`allow_external` must be True or False"):
            function(path, allow_external="yes")


KEPT = """
import ctypes, sys
import h5py
from h5video_data.storage import external

with h5py.File(sys.argv[1]) as file:
    external.open_checked(file, b"X")
kept = external._no_external_links  # beyond the end of the interpreter, as TensorFlow keeps modules
ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
"""


def test_the_process_ends_well_if_modules_are_kept(tmp_path):
    path = write_plain(tmp_path / "a.h5")
    run = [sys.executable, "-c", KEPT, path]
    assert subprocess.run(run, check=False, timeout=100).returncode == 0
