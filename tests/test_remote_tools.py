"""Tools on files of web servers: `inspect`, `repack`, `split_samples`, `show`, the command line."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import traceback
from pathlib import Path

import h5py
import numpy as np
import pytest
from remote_server import RangeServer

import h5video_data as h5v
from h5video_data.errors import ArgumentError
from h5video_data.tools.cli import main
from h5video_data.tools.repacking import sample_batches
from h5video_data.tools.repacking.contiguous_file import ContiguousFile

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

COUNT = 24
X = np.random.default_rng(0).integers(0, 255, (COUNT, 4, 8, 8, 3), np.uint8)
Y = np.arange(COUNT) % 3
TOKEN = "hunter2-do-not-show"


def content(part=slice(None), **more):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("X", data=X[part], chunks=(4, 4, 8, 8, 3), compression="gzip")
        file["Y"] = Y[part]
        file.attrs["class_names"] = ["a", "b", "c"]
        file["beside"] = np.arange(5)
        for name, value in more.items():
            file[name] = value
    return buffer.getvalue()


@pytest.fixture
def server():
    """A server that answers those with the token only."""
    found = RangeServer()
    found.put("/a.h5", content())
    found.put("/part0.h5", content(slice(10)))
    found.put("/part1.h5", content(slice(10, None)))
    found.needs = {"X-Token": TOKEN}
    yield found
    found.close()


OPTIONS = {"headers": {"X-Token": TOKEN}}


def test_inspect(server, tmp_path):
    (tmp_path / "a.h5").write_bytes(content())
    expected = h5v.inspect(tmp_path / "a.h5")
    report = h5v.inspect(f"{server.url}/a.h5", storage_options=OPTIONS, html=tmp_path / "a.html")
    assert report.path == f"{server.url}/a.h5"
    assert report.nbytes == expected.nbytes
    assert report.class_names == ("a", "b", "c")
    assert report.class_counts == expected.class_counts
    for item, other in zip(report.datasets, expected.datasets, strict=True):
        assert (item.name, item.shape, item.path) == (other.name, other.shape, other.path)
    page = (tmp_path / "a.html").read_text()
    assert "cannot be shown" not in page
    assert TOKEN not in page + repr(report)


def test_the_call_that_inspect_prints_has_a_place_for_the_options(server):
    report = h5v.inspect(f"{server.url}/a.h5", storage_options=OPTIONS)
    assert report.sample_call.endswith("storage_options={...})")


def test_probe(server):
    report = h5v.inspect(f"{server.url}/a.h5", storage_options=OPTIONS, probe=True)
    assert report.samples_per_second > 0


@pytest.mark.memory_limit(-1)
def test_the_advice_is_true(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options.json").write_text(json.dumps(OPTIONS))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("X", data=X, chunks=(1, 1, 2, 8, 3), compression="gzip")
        file["Y"] = Y
    server.put("/a.h5", buffer.getvalue())
    report = h5v.inspect(f"{server.url}/a.h5", storage_options=OPTIONS)
    (command,) = (item.command for item in report.advice if item.command)
    words = shlex.split(command)
    assert words[:2] == ["h5video-data", "repack"]
    words[words.index("{...}")] = "@options.json"
    assert main(words[1:]) == 0
    with h5py.File(tmp_path / "a_fast.h5") as file:
        np.testing.assert_array_equal(file["X"][()], X)
        assert file["X"].chunks is None


def test_repack(server, tmp_path):
    h5v.repack(f"{server.url}/a.h5", tmp_path / "out.h5", storage_options=OPTIONS)
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["X"][()], X)
        np.testing.assert_array_equal(file["Y"][()], Y)
        assert list(file.attrs["class_names"]) == ["a", "b", "c"]
        np.testing.assert_array_equal(file["beside"][()], np.arange(5))


@pytest.mark.parametrize("arguments", [{"compression": "gzip"}, {"chunks": "sample"}])
def test_repack_of_several_with_chunks(server, tmp_path, arguments):
    paths = [f"{server.url}/part{number}.h5" for number in range(2)]
    h5v.repack(paths, tmp_path / "out.h5", storage_options=OPTIONS, **arguments)
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["X"][()], X)
        np.testing.assert_array_equal(file["Y"][()], Y)


def test_repack_to_shards_and_sides(server, tmp_path):
    paths = [f"{server.url}/part{number}.h5" for number in range(2)]
    h5v.repack(paths, tmp_path / "out.h5", storage_options=OPTIONS, shards=3)
    found = []
    for number in range(3):
        with h5py.File(tmp_path / f"out-{number:05}-of-00003.h5") as file:
            found.append((file["X"][()], file["Y"][()]))
    for values, expected in zip(zip(*found, strict=True), (X, Y), strict=True):
        np.testing.assert_array_equal(np.concatenate(values), expected)
    arguments = {"validation_split": 0.25, "seed": 3, "split_by": "label"}
    training, validation = h5v.split_samples(paths, storage_options=OPTIONS, **arguments)
    for samples, subset in ((training, "training"), (validation, "validation")):
        out = tmp_path / f"{subset}.h5"
        h5v.repack(paths, out, storage_options=OPTIONS, subset=subset, **arguments)
        with h5py.File(out) as file:
            np.testing.assert_array_equal(file["X"][()], X[samples])


KILLED = """
import json, os, sys
import h5video_data as h5v
from h5video_data.tools.repacking import sample_batches
from h5video_data.tools.repacking.contiguous_file import ContiguousFile
sample_batches.BATCH_BYTES = int(sys.argv[3])
append = ContiguousFile.append
def appended(self, batch):
    if self.num_rows == 12:
        os._exit(9)
    append(self, batch)
ContiguousFile.append = appended
h5v.repack(sys.argv[1], sys.argv[2], storage_options=json.loads(sys.argv[4]))
"""


def test_repack_goes_on_where_it_was(server, tmp_path, monkeypatch):
    url, out, nbytes = f"{server.url}/a.h5", tmp_path / "out.h5", X[:4].nbytes
    env = {**os.environ, "PYTHONPATH": str(Path(h5v.__file__).parents[1])}
    run = [sys.executable, "-c", KILLED, url, str(out), str(nbytes), json.dumps(OPTIONS)]
    assert subprocess.run(run, env=env, timeout=250).returncode == 9
    monkeypatch.setattr(sample_batches, "BATCH_BYTES", nbytes)
    lengths = []

    def append(self, batch, old=ContiguousFile.append):
        lengths.append(len(batch[0]))
        old(self, batch)

    monkeypatch.setattr(ContiguousFile, "append", append)
    h5v.repack(url, out, storage_options=OPTIONS)
    assert sum(lengths) == len(X) - 12
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["X"][()], X)


def test_repack_of_frames_that_are_datasets(server, tmp_path):
    for number in range(2):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for frame in range(3):
                file[f"images/image{frame}"] = X[number, frame]
            file["other"] = np.arange(number + 2)
        server.put(f"/r{number}.h5", buffer.getvalue())
    paths = [f"{server.url}/r{number}.h5" for number in range(2)]
    out = tmp_path / "out.h5"
    arguments = {"x": "images/image*", "layout": "recordings", "storage_options": OPTIONS}
    h5v.repack(paths, out, **arguments)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["X"][()], X[:2, :3].reshape(-1, 8, 8, 3))
        assert file["length"][()].tolist() == [3, 3]
        np.testing.assert_array_equal(file["r1.h5/other"][()], np.arange(3))


def test_what_leads_to_other_files_is_not_copied(server, tmp_path):
    layout = h5py.VirtualLayout((COUNT, 2), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "Y", (COUNT, 2))
    buffer = io.BytesIO(content(linked=h5py.ExternalLink("other.h5", "X")))
    with h5py.File(buffer, "r+") as file:
        file.create_virtual_dataset("virtual", layout)
    server.put("/l.h5", buffer.getvalue())
    report = h5v.repack(f"{server.url}/l.h5", tmp_path / "out.h5", storage_options=OPTIONS)
    reasons = {item.name: item.reason for item in report.skipped}
    assert "another file, 'other.h5'" in " ".join(
        reason for name, reason in reasons.items() if "linked" in name
    )
    assert "another file, 'other.h5'" in " ".join(
        reason for name, reason in reasons.items() if "virtual" in name
    )
    with h5py.File(tmp_path / "out.h5") as file:
        assert "linked" not in file
        assert "virtual" not in file


def test_show(server):
    grid = h5v.show(f"{server.url}/a.h5", num_samples=3, storage_options=OPTIONS)
    assert len(grid.cells) == 3


def test_command_line(server, tmp_path, capsys):
    text = json.dumps(OPTIONS)
    assert main(["inspect", f"{server.url}/a.h5", "--storage-options", text]) == 0
    out = tmp_path / "out.h5"
    assert main(["repack", f"{server.url}/a.h5", str(out), "--storage-options", text]) == 0
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["X"][()], X)
    shown = capsys.readouterr()
    assert f"{server.url}/a.h5" in shown.out
    assert TOKEN not in shown.out + shown.err
    signed = f"{server.url.replace('//', f'//me:{TOKEN}@')}/a.h5?sig={TOKEN}"
    wrong = json.dumps({"headers": {"X-Token": f"not {TOKEN}"}})
    for arguments, message in (
        (["inspect", f"{server.url}/b.h5", "--storage-options", text], "No such file"),
        (["inspect", "/a.h5", "--storage-options", text], "--storage-options needs URLs"),
        (["repack", f"{server.url}/a.h5", f"{server.url}/b.h5"], "OUT.h5 must be a file of this"),
        (["inspect", signed], "answered 403"),
        (["repack", signed, str(tmp_path / "b.h5"), "--storage-options", wrong], "answered 403"),
        (["--debug", "inspect", signed, "--storage-options", wrong], "answered 403"),
    ):
        try:
            assert main(arguments) == 1
            shown = capsys.readouterr().err
        except h5v.errors.H5VideoError as error:
            shown = "".join(traceback.format_exception(error))
        assert message in shown
        assert TOKEN not in shown
    for value in (text[:-1], f'["{TOKEN}"]', f"@{tmp_path}/none.json"):
        with pytest.raises(SystemExit):
            main(["inspect", f"{server.url}/a.h5", "--storage-options", value])
        shown = capsys.readouterr().err
        assert "--storage-options: " in shown
        assert TOKEN not in shown


def test_arguments_that_do_not_fit(tmp_path):
    system = fsspec.filesystem("memory")
    for name in "ab":
        system.pipe_file(f"/set/{name}.h5", content())
    try:
        with pytest.raises(ArgumentError, match=r"`path` must be one file, and 2 match"):
            h5v.inspect("memory://set/*.h5")
        assert h5v.inspect("memory://set/a*.h5").path == "memory://set/a.h5"
        for call in (
            lambda: h5v.inspect("memory://set/a.h5", storage_options=[TOKEN]),
            lambda: h5v.repack("memory://set/a.h5", tmp_path / "a.h5", storage_options=[TOKEN]),
            lambda: h5v.split_samples("memory://set/a.h5", 0.5, storage_options=[TOKEN]),
        ):
            with pytest.raises(ArgumentError, match=r"must be a dict.*Received: a list"):
                call()
    finally:
        system.rm("/set", recursive=True)


def test_a_local_file_takes_no_options(tmp_path):
    (tmp_path / "a.h5").write_bytes(content())
    with pytest.raises(ArgumentError, match="`storage_options` needs URLs"):
        h5v.inspect(tmp_path / "a.h5", storage_options={"anon": True})
