from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5video_data.errors import ArgumentError
from h5video_data.tools.pack import pack
from h5video_data.tools.repack import repack
from h5video_data.tools.repacking.links import linked_files


def write(path, **datasets):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in {"X": np.zeros((3, 2), "u1"), **datasets}.items():
            file[name] = values
    return path


def virtual(path, *sources):
    """A virtual dataset beside the samples."""
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((3 * len(sources), 2), "u1")
        for number, source in enumerate(sources):
            layout[3 * number : 3 * number + 3] = h5py.VirtualSource(source, "X", (3, 2))
        file.create_virtual_dataset("g/all", layout)


def external(path, name, values):
    """A dataset beside the samples whose bytes are in another file."""
    with h5py.File(path, "a") as file:
        data = file.create_dataset("raw", values.shape, values.dtype, external=[(name, 0, 6)])
        data[...] = values


def link(path, filename):
    with h5py.File(path, "a") as file:
        file["g/link"] = h5py.ExternalLink(filename, "/X")


def pattern(path):
    with h5py.File(path, "a") as file:
        unlimited = h5py.h5s.UNLIMITED
        here = h5py.h5s.create_simple((9, 2), (unlimited, 2))
        here.select_hyperslab((0, 0), (unlimited, 1), (3, 2), (3, 2))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.VIRTUAL)
        source = h5py.h5s.create_simple((3, 2))
        plist.set_virtual(here, b"part%b.h5", b"X", source)
        h5py.h5d.create(file.id, b"parts", h5py.h5t.NATIVE_UINT8, here, plist)


# How the set `in/a.h5` leads to the file that is to be kept.
CASES = {
    "source of a virtual dataset": (lambda a: virtual(a, "b.h5", "c.h5"), "in/c.h5"),
    "source by a pattern": (pattern, "in/part2.h5"),
    "raw file": (lambda a: external(a, "raw.bin", np.full((3, 2), 7, "u1")), "raw.bin"),
    "target of a link": (lambda a: link(a, "../b.h5"), "b.h5"),
    "link to a link": (
        lambda a: (link(write(a.parent / "c.h5"), "d.h5"), link(a, "c.h5")),
        "in/d.h5",
    ),
    "link to a virtual one": (
        lambda a: (virtual(write(a.parent / "c.h5"), "d.h5"), link(a, "c.h5")),
        "in/d.h5",
    ),
    "absolute, but moved": (lambda a: link(a, "/nowhere/b.h5"), "in/b.h5"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("kind", ["itself", "symlink", "hard link"])
def test_no_file_that_is_led_to_is_replaced(tmp_path, monkeypatch, case, kind):
    monkeypatch.chdir(tmp_path)
    lead, name = case
    kept = tmp_path / name
    path = write(tmp_path / "in/a.h5")
    lead(path)
    if not kept.exists():
        write(kept)
    out = kept
    if kind != "itself":
        out = tmp_path / "other.h5"
        (out.symlink_to if kind == "symlink" else out.hardlink_to)(kept)
    before = kept.read_bytes()
    with pytest.raises(
        ArgumentError, match=r"`out` must not be a file that is read.*Received: out"
    ):
        repack(path, out, overwrite=True)
    assert kept.read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))


def test_linked_files(tmp_path):
    path = write(tmp_path / "a.h5")
    for name in ("b", "c", "d"):
        write(tmp_path / f"{name}.h5")
    link(path, "b.h5")
    virtual(path, "c.h5", "gone.h5")
    link(tmp_path / "b.h5", "a.h5")  # in a circle
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "a") as file:
        file["pipe"] = h5py.ExternalLink("pipe", "/")
        file["text"] = h5py.ExternalLink("text", "/")
        file["g/again"] = file["/"]
    (tmp_path / "text").write_text("no HDF5")
    names = {os.path.relpath(name, tmp_path.resolve()) for name in linked_files(os.fspath(path))}
    assert names == {"a.h5", "b.h5", "c.h5", "text"}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("tool", [repack, pack])
def test_only_files_are_replaced(tmp_path, kind, tool):
    path = write(tmp_path / "a.h5")
    out = tmp_path / "out"
    {
        "pipe": lambda: os.mkfifo(out),
        "device": lambda: out.symlink_to("/dev/null"),
        "folder": out.mkdir,
    }[kind]()
    (tmp_path / "videos/class").mkdir(parents=True)
    with pytest.raises(ArgumentError, match=r"`out` must be a file, and is a .*Received: out="):
        tool(path if tool is repack else tmp_path / "videos", out, overwrite=True)
    assert Path("/dev/null").is_char_device()


def test_x_in_a_group_of_another_file(tmp_path):
    write(tmp_path / "in/b.h5")
    with h5py.File(tmp_path / "in/a.h5", "w") as file:
        file["g"] = h5py.ExternalLink("b.h5", "/")
    (tmp_path / "out").mkdir()
    for out in ("in/c.h5", "out/c.h5"):
        with pytest.raises(ArgumentError, match=r"'g/X' is in a group .*b\.h5: repack that file"):
            repack(tmp_path / "in/a.h5", tmp_path / out, x="g/X")
        assert not (tmp_path / out).exists()
