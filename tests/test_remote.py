"""Files of web servers and object stores: the same batches, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import logging
import subprocess
import sys
import textwrap
import threading
import time
import traceback

import h5py
import numpy as np
import pytest
from h5py._objects import phil
from picture_helpers import smooth
from remote_server import RangeServer

import h5video_data as h5v
from h5video_data.errors import (
    ArgumentError,
    FileChangedError,
    FileFormatError,
    MissingDependencyError,
    NotHDF5Error,
    UnavailableError,
    VideoFileNotFoundError,
)
from h5video_data.options import LoaderOptions
from h5video_data.storage.hdf5_files import connect, handle_of
from h5video_data.storage.paths import expand_paths
from h5video_data.storage.pictures.codecs import encode_picture
from h5video_data.storage.remote import metadata_blocks
from h5video_data.storage.remote.paths import RemotePath, is_url, shown_url
from h5video_data.storage.remote.store import Store

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

NUM_SAMPLES = 60
SHAPE = (4, 8, 8, 3)
X = np.random.default_rng(0).integers(0, 255, (NUM_SAMPLES, *SHAPE), np.uint8)
SECRET = "hunter2-do-not-show"


def content():
    """The bytes of a file with a dataset of each kind."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["contiguous"] = X
        file.create_dataset("gzip", data=X, chunks=(1, *SHAPE), compression="gzip", shuffle=True)
        file.create_dataset("rows", data=X, chunks=(8, 2, *SHAPE[1:]), compression="gzip")
        file.create_dataset("raw", data=X, chunks=(8, *SHAPE))
        kind = h5py.h5t.NATIVE_INT16.copy()
        kind.set_precision(12)
        space = h5py.h5s.create_simple((NUM_SAMPLES, 5))
        stored = h5py.h5d.create(file.id, b"twelve_bits", kind, space)
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(NUM_SAMPLES * 5).reshape(-1, 5) % 2000)
        pictures = file.create_dataset("pictures", NUM_SAMPLES, h5py.vlen_dtype(np.uint8))
        for number in range(NUM_SAMPLES):
            data = encode_picture(np.roll(smooth(), number, 0), "jpeg")
            pictures[number] = np.frombuffer(data, np.uint8)
        file["Y"] = np.arange(NUM_SAMPLES)
        file["ends"] = np.array([20, 45, NUM_SAMPLES])
    return buffer.getvalue()


CONTENT = content()


@pytest.fixture
def server(send_with):
    send_with(first_pause_seconds=0.01)
    found = RangeServer()
    found.put("/a.h5", CONTENT)
    yield found
    found.close()


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def memory():
    """Puts objects into fsspec's file system in memory."""
    system = fsspec.filesystem("memory")
    yield lambda name, data=CONTENT: system.pipe_file(f"/set/{name}", data)
    system.rm("/set", recursive=True)


def epoch(path, **options):
    with h5v.VideoLoader(path, **{"seed": 3, "batch_size": 16, **options}) as loader:
        return [(indices, *arrays) for _, indices, arrays in loader.batches()]


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for batch, other in zip(found, expected, strict=True):
        for array, values in zip(batch, other, strict=True):
            assert array.dtype == values.dtype
            np.testing.assert_array_equal(array, values)


KINDS = {
    "contiguous": {"x": "contiguous"},
    "gzip": {"x": "gzip"},
    "chunks_of_rows": {"x": "rows"},
    "raw_chunks": {"x": "raw"},
    "blocks": {"x": "rows", "shuffle": "blocks"},
    "clip": {"x": "gzip", "clip": h5v.Clip(2)},
    "h5py": {"x": "twelve_bits"},
    "pictures": {"x": "pictures"},
    "windows": {"x": "gzip", "windows": h5v.Windows(3, bounds="ends")},
    "windows_of_pictures": {"x": "pictures", "windows": h5v.Windows(3, bounds="ends")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_local_file(server, local, memory, kind):
    memory("a.h5")
    expected = epoch(local, **KINDS[kind])
    assert_same(epoch(f"{server.url}/a.h5", **KINDS[kind]), expected)
    assert_same(epoch("memory://set/a.h5", **KINDS[kind]), expected)


@pytest.mark.parametrize("fault", [500, 503, 429, "reset", "short"])
@pytest.mark.parametrize("kind", ["gzip", "h5py", "pictures"])
def test_requests_that_fail_are_sent_again(server, local, kind, fault):
    server.fail = lambda number, *_: fault if number % 3 == 1 else None
    assert_same(epoch(f"{server.url}/a.h5", **KINDS[kind]), epoch(local, **KINDS[kind]))


def test_one_that_hangs_is_given_up_and_sent_again(server, local, send_with):
    send_with(timeout_seconds=0.5)
    server.fail = lambda number, *_: "hang" if number == 9 else None
    assert_same(epoch(f"{server.url}/a.h5", x="gzip"), epoch(local, x="gzip"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (503, r"cannot access http://127\S+/a\.h5: the server answered 503, also the last of \d+"),
        (403, r"cannot access http://127\S+/a\.h5: the server answered 403 \(permission denied\)"),
        ("reset", r"cannot access http://127\S+/a\.h5: .*, also the last of \d+ times"),
    ],
)
def test_a_server_that_does_not_answer_is_an_error_at_opening(server, send_with, fault, message):
    send_with(deadline_seconds=0.3)
    server.fail = lambda *_: fault
    with pytest.raises(UnavailableError, match=message):
        h5v.VideoLoader(f"{server.url}/a.h5", x="gzip")


@pytest.mark.parametrize("kind", ["gzip", "contiguous", "rows", "twelve_bits", "pictures"])
def test_a_server_that_goes_away_is_an_error_and_not_skipped(server, monkeypatch, send_with, kind):
    send_with(deadline_seconds=0.3)
    monkeypatch.setattr(metadata_blocks, "MAX_BLOCKS", 0)  # or HDF5 needs no request
    with h5v.VideoLoader(f"{server.url}/a.h5", x=kind, on_error="skip") as loader:
        server.fail = lambda _, method, *__: 503 if method == "GET" else None
        with pytest.raises(UnavailableError, match=r"a\.h5.*: the server answered 503"):
            next(loader.batches())


def test_a_server_without_ranges_is_an_error(server):
    server.put("/a.h5", CONTENT + bytes(2 << 20))  # or it is one range
    server.fail = lambda *_: "whole"
    with pytest.raises(UnavailableError, match="the server does not read byte ranges"):
        h5v.VideoLoader(f"{server.url}/a.h5", x="gzip")


def test_what_is_not_there(server, memory):
    with pytest.raises(VideoFileNotFoundError, match=r"No such file.*http://127\S+/b\.h5"):
        h5v.VideoLoader(f"{server.url}/b.h5")
    memory("a.h5")
    with pytest.raises(VideoFileNotFoundError, match=r"No file matches.*memory://set/b\*\.h5"):
        h5v.VideoLoader("memory://set/b*.h5")
    with pytest.raises(NotHDF5Error, match=r"memory://set is a directory.*memory://set/\*\.h5"):
        h5v.VideoLoader("memory://set")


def test_no_hdf5_and_truncated(memory):
    memory("text.h5", b"no HDF5 file" * 100)
    with pytest.raises(NotHDF5Error, match=r"memory://set/text.h5 \(1200 bytes\) is not an HDF5"):
        h5v.VideoLoader("memory://set/text.h5")
    memory("cut.h5", CONTENT[:-5000])
    with pytest.raises(NotHDF5Error, match=r"memory://set/cut\.h5 is truncated"):
        h5v.VideoLoader("memory://set/cut.h5")


@pytest.mark.parametrize("kind", ["gzip", "rows", "twelve_bits", "pictures"])
def test_an_object_that_changes_is_an_error(server, kind):
    with h5v.VideoLoader(f"{server.url}/a.h5", x=kind, batch_size=4, num_threads=1) as loader:
        next(loader.batches())
        server.versions["/a.h5"] = '"another"'
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed.*version from '.*another"):
            next(loader.batches())


@pytest.mark.parametrize("kind", ["gzip", "rows", "twelve_bits", "pictures"])
def test_an_object_that_changes_within_an_epoch_is_an_error(server, kind):
    with h5v.VideoLoader(f"{server.url}/a.h5", x=kind, batch_size=4, num_threads=1) as loader:
        server.fail = lambda *_: server.versions.update({"/a.h5": f'"{len(server.requests)}"'})
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed"):
            [*loader.batches()]


def test_one_that_is_deleted_is_an_error(server):
    with h5v.VideoLoader(f"{server.url}/a.h5", x="gzip") as loader:
        del server.objects["/a.h5"]
        with pytest.raises(VideoFileNotFoundError, match=r"a\.h5 no longer exists"):
            next(loader.batches())


def test_one_that_changes_while_it_is_opened_is_an_error(server):
    server.fail = lambda *_: server.versions.update({"/a.h5": f'"{len(server.requests)}"'})
    with pytest.raises(FileChangedError, match=r"a\.h5 was changed"):
        h5v.VideoLoader(f"{server.url}/a.h5", x="gzip")


def test_globs_and_lists(memory, tmp_path):
    paths = []
    for number, name in enumerate(["b.h5", "a.h5", "c.h5"]):
        with h5py.File(tmp_path / name, "w") as file:
            file["X"], file["Y"] = X[number * 10 : number * 10 + 10], np.arange(10) + 100 * number
        memory(name, (tmp_path / name).read_bytes())
        paths.append(f"memory://set/{name}")
    assert_same(epoch("memory://set/*.h5"), epoch(tmp_path / "*.h5"))
    assert_same(epoch(paths), epoch([tmp_path / "b.h5", tmp_path / "a.h5", tmp_path / "c.h5"]))
    assert_same(
        epoch([tmp_path / "b.h5", *paths[1:]]),
        epoch([tmp_path / "b.h5", tmp_path / "a.h5", tmp_path / "c.h5"]),
    )


def test_classes_are_inferred_from_urls(memory, tmp_path):
    for name in ("cats/a.h5", "dogs/b.h5"):
        memory(name)
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(CONTENT)
    arguments = {"x": "gzip", "y": "inferred", "windows": h5v.Windows(3, bounds="ends")}
    for options in ({}, {"storage_options": {}}):
        found = epoch("memory://set/*/*.h5", **arguments, **options)
        assert_same(found, epoch(f"{tmp_path}/*/*.h5", **arguments))


def test_labels_of_another_remote_file(server, tmp_path):
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["z"] = np.arange(NUM_SAMPLES) * 3
    server.put("/labels.h5", (tmp_path / "labels.h5").read_bytes())
    (tmp_path / "a.h5").write_bytes(CONTENT)
    assert_same(
        epoch(f"{server.url}/a.h5", x="gzip", y=f"{server.url}/labels.h5:z"),
        epoch(tmp_path / "a.h5", x="gzip", y=f"{tmp_path}/labels.h5:z"),
    )


def test_links_and_sources_in_other_files_are_refused(memory, tmp_path):
    # HDF5 would take this very file for the other one.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["X"], file["Y"] = X, np.arange(NUM_SAMPLES)
        file["linked"] = h5py.ExternalLink("other.h5", "X")
        for name, source in {"virtual": "other.h5", "own": "."}.items():
            layout = h5py.VirtualLayout(X.shape, X.dtype)
            layout[:] = h5py.VirtualSource(source, "X", X.shape)
            file.create_virtual_dataset(name, layout)
        file.create_dataset(
            "external", X.shape, X.dtype, external=[(tmp_path / "x.raw", 0, X.nbytes)]
        )
    memory("a.h5", buffer.getvalue())
    with pytest.raises(FileFormatError, match=r"A link in a remote file leads to .*other\.h5"):
        h5v.VideoLoader("memory://set/a.h5", x="linked")
    for name in ("virtual", "external"):
        with pytest.raises(FileFormatError, match=r"has values in another file.*Copy the files"):
            h5v.VideoLoader("memory://set/a.h5", x=name)
    (tmp_path / "a.h5").write_bytes(buffer.getvalue())
    assert_same(epoch("memory://set/a.h5", x="own"), epoch(tmp_path / "a.h5", x="own"))


def test_opening_takes_few_requests_and_reading_merges_them(server):
    with h5v.VideoLoader(f"{server.url}/a.h5", x="gzip", batch_size=60) as loader:
        assert sum(method == "GET" for method, *_ in server.requests) <= 4
        server.requests.clear()
        [*itertools.islice(loader.batches(), 1)]
        # The samples lie near each other: a request or two for each task, and a check after it.
        assert len(server.requests) <= 40


def test_requests_are_sent_at_once(server, monkeypatch):
    from h5video_data.reading import remote_source

    monkeypatch.setattr(remote_source, "MAX_GAP_BYTES", -1)
    at_once, most = itertools.count(), []

    def count(*_):
        begun = next(at_once)
        time.sleep(0.1)
        most.append(next(at_once) - begun)

    with h5v.VideoLoader(f"{server.url}/a.h5", x="gzip", batch_size=32) as loader:
        server.fail = count
        next(loader.batches())
    assert max(most) >= 8  # others began or ended meanwhile


def test_hdf5_reads_while_fsspecs_thread_waits_for_h5pys_lock(server):
    # As it does if it collects garbage, among which is an open file.
    def wait():
        waiting.set()
        with phil:
            pass

    waiting = threading.Event()
    (path,) = expand_paths(f"{server.url}/a.h5")
    with connect(path) as file, phil:
        fsspec.asyn.get_loop().call_soon_threadsafe(wait)
        assert waiting.wait(60)
        assert file["twelve_bits"][3].tolist() == [15, 16, 17, 18, 19]
        handle_of(file).check(handle_of(file).identity())


def test_it_reads_within_a_loop_as_in_a_notebook(server, local):
    async def cell():
        return epoch(f"{server.url}/a.h5", x="twelve_bits")

    assert_same(asyncio.run(cell()), epoch(local, x="twelve_bits"))


# --------------------------------------------------------------------------- what is shown


def test_urls_show_no_credentials():
    assert shown_url("https://me:pw@host/a.h5") == "https://...@host/a.h5"
    assert shown_url("abfs://box@account/a.h5") == "abfs://box@account/a.h5"
    signed = shown_url(f"https://host/a.h5?X-Signature={SECRET}")
    assert signed.startswith("https://host/a.h5#")
    assert SECRET not in signed
    assert signed != shown_url("https://host/a.h5?X-Signature=other")
    assert [is_url(path) for path in ("s3://bucket/a", "C:/a.h5", "/a://b")] == [True, False, False]


def test_credentials_are_shown_nowhere(server, send_with, caplog):
    caplog.set_level(logging.DEBUG)
    send_with(deadline_seconds=0.2)
    options = {"headers": {"X-Token": SECRET}}
    url = f"{server.url.replace('//', f'//me:{SECRET}@')}/a.h5?sig={SECRET}"

    def loader_of(path, **arguments):
        return h5v.VideoLoader(path, storage_options=options, **arguments)

    shown = []
    with h5v.VideoLoader(url, x="gzip", storage_options=options) as loader:
        shown += [
            repr(loader),
            str(loader),
            loader._repr_html_(),
            json.dumps(loader.state_dict(epoch=0, step=1)),
        ]
        shown += [repr(loader._options), repr(loader.describe_samples([0, 1]))]
        shown += [repr(loader._set.paths), repr(loader._set.paths[0].store)]
        next(loader.batches())
        assert server.requests[-1][3]["X-Token"] == SECRET
        for fault in (503, 403, "reset", "short", "whole"):
            server.fail = lambda *_, fault=fault: fault
            for read in (lambda: h5v.VideoLoader(url, storage_options=options), loader.batches):
                with pytest.raises(h5v.errors.H5VideoError) as caught:
                    next(iter(read()))
                shown.append("".join(traceback.format_exception(caught.value)))
        server.fail = lambda *_: None
    server.put("/cut.h5", CONTENT)
    cut = url.replace("/a.h5", "/cut.h5")
    with loader_of(cut, x="gzip", on_error="skip", batch_size=2) as loader:
        server.objects["/cut.h5"] = CONTENT[: len(CONTENT) // 2]  # not noticed by its version
        with contextlib.suppress(h5v.errors.H5VideoError):
            shown.append(repr(list(loader.batches())))
        shown += [repr(loader.skipped), repr(loader.stats)]
    for call, message in (
        (lambda: LoaderOptions(storage_options=[SECRET]), "must be a dict"),
        (lambda: loader_of(f"{url}x"), "has no dataset 'X'"),
        (lambda: loader_of(url.replace("/a.h5", "/b.h5")), "No such file"),
        (lambda: loader_of(f"memory://a::{url}"), "not a chain"),
        (lambda: loader_of(f"simplecache::{url}"), "not a chain"),
        (lambda: loader_of("nothing://a/b"), "fsspec cannot open a nothing:// URL"),
        (lambda: loader_of(url, y="inferred", x="gzip", windows=2), r"needs a `\*`"),
        (lambda: loader_of({url, f"{url}2"}, x="gzip", indices=[0]), "has no order"),
        (lambda: loader_of([[[url]], 3]), "must be a path"),
        (lambda: loader_of(url, x="gzip", y=f"{url}:Y"), "must not have credentials"),
        (lambda: loader_of("/a.h5"), "needs URLs"),
    ):
        with pytest.raises(h5v.errors.H5VideoError, match=message) as caught:
            call()
        shown.append("".join(traceback.format_exception(caught.value)))
    # fsspec's own log of what it does, which is off unless one asks for it, has whole URLs.
    records = [r for r in caplog.records if r.name.partition(".")[0] != "fsspec" or r.levelno > 10]
    shown += [f"{record.getMessage()} {record.exc_text}" for record in records]
    lines = [line for text in shown for line in text.splitlines()]
    found = [line for line in lines if SECRET in line]
    assert not found


def test_options_that_do_not_fit(tmp_path):
    with pytest.raises(ArgumentError, match=r"`storage_options` must be a dict.*Received: a list"):
        LoaderOptions(storage_options=["a"])
    (tmp_path / "a.h5").write_bytes(CONTENT)
    with pytest.raises(ArgumentError, match="`storage_options` needs URLs in `path`"):
        h5v.VideoLoader(tmp_path / "a.h5", x="gzip", storage_options={"anon": True})


def test_without_fsspec(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install h5video_data\[remote\]"):
        h5v.VideoLoader("s3://bucket/a.h5")


def test_fsspec_is_not_imported_for_local_files(local):
    code = f"""
        import sys, h5video_data as h5v
        with h5v.VideoLoader({str(local)!r}, x="gzip") as loader:
            next(loader.batches())
        assert not [name for name in sys.modules if name.startswith(("fsspec", "aiohttp"))]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize("kind", ["gzip", "twelve_bits"])
def test_a_process_ends_with_files_open(server, kind):
    code = f"""
        import h5video_data as h5v
        loader = h5v.VideoLoader("{server.url}/a.h5", x={kind!r})
        next(loader.batches())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_a_path_that_goes_to_another_process_is_its_name(server):
    import pickle

    path = RemotePath(f"{server.url}/a.h5", Store("http://a", {"a": SECRET}), "a")
    assert SECRET.encode() not in pickle.dumps(path)
    assert pickle.loads(pickle.dumps(path)) == str(path)


def test_a_forked_child_reads_by_itself(server):
    code = f"""
        import os, h5video_data as h5v
        for x in ("gzip", "twelve_bits"):
            with h5v.VideoLoader("{server.url}/a.h5", x=x, seed=0) as loader:
                next(loader.batches())
                pid = os.fork()
                if not pid:
                    next(loader.batches())
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
                next(loader.batches())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
