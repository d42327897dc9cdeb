"""Versions of objects, few requests, workers, and what servers answer beside bytes."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import threading
import time
import traceback
import weakref
from collections import Counter
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from remote_server import RangeServer, Together

import h5video_data as h5v
from h5video_data.errors import FileChangedError, UnavailableError
from h5video_data.reading.range_errors import RangeError
from h5video_data.reading.remote_source import RemoteObject
from h5video_data.storage.hdf5_files import connect, handle_of
from h5video_data.storage.layout import describe
from h5video_data.storage.os_errors import ObjectChangedError
from h5video_data.storage.paths import expand_paths
from h5video_data.storage.remote import connection, files, metadata_blocks, reads
from h5video_data.storage.remote.metadata_blocks import MetadataBlocks, children_of, level_of
from h5video_data.storage.remote.paths import ask_ahead
from h5video_data.storage.remote.request_options import RequestOptions
from h5video_data.storage.remote.requests import wait_for
from h5video_data.storage.remote.store import open_filesystem

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

COUNT = 48
X = np.random.default_rng(0).integers(0, 255, (COUNT, 4, 64, 64, 3), np.uint8)
SECRET = "hunter2-do-not-show"


def content(shift=0):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["X"] = X + np.uint8(shift)
        file["Y"] = np.arange(COUNT)
        kind = h5py.h5t.NATIVE_INT16.copy()
        kind.set_precision(12)
        stored = h5py.h5d.create(file.id, b"bits", kind, h5py.h5s.create_simple((COUNT, 4000)))
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(COUNT * 4000).reshape(COUNT, -1) % 2000)
    return buffer.getvalue()


@pytest.fixture
def server(send_with):
    send_with(first_pause_seconds=0.01)
    found = RangeServer()
    found.put("/a.h5", content())
    yield found
    found.close()


def values_of(loader):
    return {
        number: values.copy()
        for _, numbers, (values, *_) in loader.batches()
        for number, values in zip(numbers.tolist(), values, strict=True)
    }


def check(found, shift=0):
    assert sorted(found) == list(range(COUNT))
    for number, values in found.items():
        np.testing.assert_array_equal(values, X[number] + np.uint8(shift))


def methods(server):
    return Counter(method for method, *_ in server.requests)


# --------------------------------------------------------------------------- versions


def test_each_read_asks_for_the_version(server):
    options = {"headers": {"X-Token": "t"}}
    with h5v.VideoLoader(f"{server.url}/a.h5", storage_options=options) as loader:
        server.requests.clear()
        check(values_of(loader))
        assert methods(server)["HEAD"] <= 2  # as the reader and the epoch begin
    for method, _, _, headers in server.requests:
        assert headers["X-Token"] == "t"
        assert method == "HEAD" or headers["If-Match"] == server.versions["/a.h5"]


@pytest.mark.parametrize("knows_conditions", [True, False])
@pytest.mark.parametrize("x", ["X", "bits"])
def test_an_object_that_is_replaced_between_two_reads_is_an_error(
    server, knows_conditions, x, monkeypatch
):
    monkeypatch.setattr(metadata_blocks, "MAX_BLOCKS", 0)
    monkeypatch.setattr(metadata_blocks, "BLOCK_BYTES", 4096)
    server.knows_conditions = knows_conditions
    url = f"{server.url}/a.h5"
    with h5v.VideoLoader(url, x=x, batch_size=4, num_threads=1, read_ahead_bytes=0) as loader:
        batches = loader.batches()
        next(batches)
        server.put("/a.h5", content(9))
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed.*version from"):
            list(batches)


def test_one_that_grows_and_keeps_its_etag_is_an_error(server):
    url = f"{server.url}/a.h5"
    with h5v.VideoLoader(url, batch_size=4, num_threads=1, read_ahead_bytes=0) as loader:
        batches = loader.batches()
        next(batches)
        server.objects["/a.h5"] += b"more"
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed.*size from"):
            list(batches)


@pytest.mark.parametrize(
    "say",
    [
        lambda method, version: version if method == "HEAD" else None,
        lambda method, version: version if method == "HEAD" else f'"{method}"',
        lambda _, version: f"W/{version}",
    ],
    ids=["none with bytes", "another with bytes", "weak"],
)
def test_a_server_whose_etags_say_nothing_is_asked_after_each_read(server, say):
    server.say_version = say
    with h5v.VideoLoader(f"{server.url}/a.h5", batch_size=4, num_threads=1) as loader:
        check(values_of(loader))
        server.requests.clear()
        check(values_of(loader))
        assert methods(server)["HEAD"] >= 4
        batches = loader.batches()
        next(batches)
        server.put("/a.h5", content(9))
        with pytest.raises(FileChangedError, match=r"a\.h5 was changed"):
            list(batches)


def test_one_that_refuses_the_condition_for_no_reason_is_read_without(server):
    server.fail = lambda *_: None
    url = f"{server.url}/a.h5"

    def answer(number, method, _):
        headers = server.requests[number - 1][3]
        return 412 if method == "GET" and "If-Match" in headers else None

    server.fail = answer
    with h5v.VideoLoader(url) as loader:
        check(values_of(loader))


def test_all_files_of_a_set_are_asked_at_once(server):
    together = Together(15)
    for number in range(20):
        server.put(f"/{number}.h5", content())
    server.fail = lambda *_: together()
    with h5v.VideoLoader([f"{server.url}/{number}.h5" for number in range(20)]) as loader:
        assert together.most >= 15
        assert methods(server)["HEAD"] == 20
        together.most = 0
        next(loader.batches())
    assert together.most >= 15


def test_the_beginnings_of_many_files_are_requested_at_once(server):
    together = Together(12)
    for number in range(30):
        server.put(f"/{number}.h5", content())
    paths = [f"{server.url}/{number}.h5" for number in range(30)]
    server.fail = lambda _, method, __: together() if method == "GET" else None
    with h5v.VideoLoader(paths) as loader:
        assert loader.num_samples == 30 * COUNT
    assert together.most >= 12
    # As for one: the beginning, and what HDF5 reads besides.
    assert methods(server) == {"HEAD": 30, "GET": 60}
    server.requests.clear()
    server.put("/1.h5", b"no HDF5 file")
    del server.objects["/2.h5"]
    with pytest.raises(h5v.errors.NotHDF5Error, match=r"/1\.h5 \(12 bytes\) is not an HDF5 file"):
        h5v.VideoLoader(paths)
    with pytest.raises(h5v.errors.VideoFileNotFoundError, match=r"No such file.*/2\.h5"):
        h5v.VideoLoader(paths[2:])


@pytest.mark.parametrize("cached", [False, True])
def test_many_small_files_are_read_at_once(server, tmp_path, cached, monkeypatch):
    monkeypatch.setattr(metadata_blocks, "BLOCK_BYTES", 4096)  # or opening reads all of them
    buffers = [io.BytesIO() for _ in range(COUNT)]
    for number, buffer in enumerate(buffers):
        with h5py.File(buffer, "w") as file:
            file["X"], file["Y"] = X[number : number + 1], [number]
        server.put(f"/set/{number:02}.h5", buffer.getvalue())
    together = Together(20)
    paths = [f"{server.url}/set/{number:02}.h5" for number in range(COUNT)]
    options = {"cache_dir": tmp_path} if cached else {}
    with h5v.VideoLoader(paths, batch_size=COUNT, num_threads=2, **options) as loader:
        batches = loader.batches()
        server.fail = lambda _, method, __: together() if method == "GET" else None
        _, numbers, (x, y) = next(batches)
        np.testing.assert_array_equal(x, X[numbers])
        np.testing.assert_array_equal(y, numbers)
    assert together.most >= 20  # of 24 for each thread


# --------------------------------------------------------------------------- by itself


def read_bytes(source, offsets, sizes):
    starts, target = np.cumsum(sizes) - sizes, np.zeros(sum(sizes), np.uint8)
    source.read_ranges(np.array(offsets), np.array(sizes), starts, target)
    return target.tobytes()


def test_ranges_that_were_not_announced_are_requested(server):
    (path,) = expand_paths(f"{server.url}/a.h5")
    source, whole = RemoteObject(path, path.identity()), server.objects["/a.h5"]
    source.announce(np.array([90_000]), np.array([100]))
    assert read_bytes(source, [90_010], [50]) == whole[90_010:90_060]
    assert methods(server)["GET"] == 1
    for offset in (10, 89_999, 90_090):  # before it, and in part
        assert read_bytes(source, [offset], [50]) == whole[offset : offset + 50]
    assert methods(server)["GET"] == 4


def test_ranges_beyond_the_end_are_not_requested(server):
    (path,) = expand_paths(f"{server.url}/a.h5")
    source, size = RemoteObject(path, path.identity()), len(server.objects["/a.h5"])
    source.announce(np.zeros(0, np.int64), np.zeros(0, np.int64))
    source.announce(np.array([0, size]), np.array([5, 1]))
    with pytest.raises(RangeError) as caught:
        read_bytes(source, [0, size - 1], [5, 4])
    assert caught.value.number == 1
    assert "3 bytes" in str(caught.value.__cause__)
    assert methods(server) == {"HEAD": 1}


def test_an_object_of_another_identity_is_not_read(server):
    (path,), (other,) = (expand_paths(f"{server.url}/a.h5") for _ in range(2))
    identity = path.identity()
    server.put("/a.h5", content(3))
    with pytest.raises(FileChangedError, match=r"a\.h5 was changed"):
        RemoteObject(other, identity)


def test_requests_that_are_cancelled_before_they_are_sent_are_not_sent(server):
    (path,) = expand_paths(f"{server.url}/a.h5")
    identity, held = path.identity(), threading.Event()
    path.store.connection.filesystem.loop.call_soon_threadsafe(held.wait, 60)
    first, second = path.begin([10, 20], [15, 25], identity)
    assert first.cancel()
    held.set()
    assert wait_for(second) == server.objects["/a.h5"][20:25]
    assert [span for method, _, span, _ in server.requests if method == "GET"] == ["bytes=20-24"]


def test_what_ends_a_request_reaches_who_waits_for_it(server):
    class Ended(BaseException):
        pass

    async def end():
        raise Ended

    (path,) = expand_paths(f"{server.url}/a.h5")
    (future,) = path.store.connection._begin([(end, 0)])
    with pytest.raises(Ended):
        wait_for(future)


def test_only_the_process_that_opened_a_loop_closes_it():
    loop = asyncio.new_event_loop()
    system = SimpleNamespace()  # nothing was requested: it has no session
    connection._close(system, loop, os.getpid() + 1)
    assert not loop.is_closed()
    assert connection._left_to_parent.pop() == (system, loop)
    connection._close(system, loop, os.getpid())
    assert loop.is_closed()


def test_a_lock_that_a_fork_has_left_behind_is_not_waited_for(server, monkeypatch):
    (path,) = expand_paths(f"{server.url}/a.h5")
    size = len(server.objects["/a.h5"])
    monkeypatch.setattr(path, "_lock", SimpleNamespace(acquire=lambda **_: False))
    assert path.identity().num_bytes == size
    assert not path._lock.locked()
    store = path.store
    of_parent = store.connection
    assert store._lock.acquire()
    monkeypatch.setattr(store, "_pid", -5)
    opened = []
    opening = threading.Thread(target=lambda: opened.append(store.connection), daemon=True)
    opening.start()
    opening.join(60)
    assert opened == [store.connection]
    assert opened != [of_parent]


def test_of_an_object_without_bytes_none_are_requested(server):
    server.put("/b.h5", b"")
    with pytest.raises(h5v.errors.NotHDF5Error, match=r"/b\.h5 \(0 bytes\)"):
        h5v.VideoLoader([f"{server.url}/{name}.h5" for name in "ab"])
    assert {path for method, path, *_ in server.requests if method == "GET"} == {"/a.h5"}


def test_an_object_is_asked_for_its_identity_once_ahead(server):
    server.put("/b.h5", content())
    both = [expand_paths(f"{server.url}/{name}.h5")[0] for name in "ab"]
    for _ in range(2):
        ask_ahead(both)
    sizes = [path.identity_once().num_bytes for path in both]
    ask_ahead(both)
    assert sizes == [len(server.objects["/a.h5"])] * 2
    assert methods(server) == {"HEAD": 2}


def test_a_server_that_does_not_say_how_large_an_object_is(server, monkeypatch):
    (path,) = expand_paths(f"{server.url}/a.h5")
    info = {"name": path.key, "type": "file", "size": None}
    monkeypatch.setattr(path.store.connection, "info", lambda _: info)
    with pytest.raises(UnavailableError, match=r"a\.h5: the server does not say how large it is"):
        path.identity()


# --------------------------------------------------------------------------- Google's store


class GoogleSystem:
    """As much of gcsfs as is called: one object, of a generation.

    Attributes:
        urls: Of the requests.
        generation: That the answers say.
    """

    __module__ = "gcsfs.core"
    async_impl, session_kwargs = True, {}

    def __init__(self, generation="7"):
        self.urls, self.generation = [], generation

    def url(self, key):
        return f"http://host/{key}?alt=media"

    async def _call(self, method, url, headers):
        self.urls.append(url)
        if self.generation is None:
            raise FileNotFoundError(url)
        assert (method, headers) == ("GET", {"Range": "bytes=2-4"})
        return {"X-Goog-Generation": self.generation}, b"abc"

    async def _request(self):
        return "not once"

    async def once(self):
        return "once"

    _request.__wrapped__ = once


def test_a_read_of_googles_store_is_of_a_generation():
    system = GoogleSystem()
    assert reads.compared_version(system) == "generation"
    for key in ("b/a.h5", "b/a.h5?x&generation=7"):
        assert asyncio.run(reads.read_range(system, key, 2, 5, "7")) == b"abc"
    assert system.urls == [
        "http://host/b/a.h5?alt=media&generation=7",
        "http://host/b/a.h5?x&generation=7?alt=media",
    ]
    for generation, message in (("8", "its generation is 8 now"), (None, "no generation 7 any")):
        with pytest.raises(ObjectChangedError, match=message):
            asyncio.run(reads.read_range(GoogleSystem(generation), "b/a.h5", 2, 5, "7"))


def test_gcsfs_does_not_send_a_request_again(monkeypatch):
    import fsspec.core

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_, **__: (GoogleSystem(), "a"))
    system = open_filesystem("gs://bucket/a", {}, 5)
    assert asyncio.run(system._request()) == "once"
    gone = weakref.ref(system)
    del system
    assert gone() is None


def test_gcsfs_has_a_client_in_the_loop_that_reads():
    opened = connection.Connection(lambda **_: GoogleSystem(), RequestOptions())
    system, loop = opened._own_system()
    assert system._session._loop is loop
    assert not system._session.closed
    session = system._session
    del opened, system
    assert session.closed
    assert loop.is_closed()


# --------------------------------------------------------------------------- metadata


def test_values_that_hdf5_reads_are_requested_in_parts(server, monkeypatch):
    for module in (files, metadata_blocks):
        monkeypatch.setattr(module, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(files, "MAX_REQUEST_BYTES", 150_000)
    with connect(expand_paths(f"{server.url}/a.h5")[0]) as file:
        file["bits"].shape  # noqa: B018
        server.requests.clear()
        np.testing.assert_array_equal(
            file["bits"][()], np.arange(COUNT * 4000).reshape(COUNT, -1) % 2000
        )
    spans = sorted(tuple(map(int, span[6:].split("-"))) for _, _, span, _ in server.requests)
    assert [last - first + 1 for first, last in spans] == [150_000, 150_000, 84_000]


def test_a_remote_file_ends_where_the_object_does(server):
    whole = server.objects["/a.h5"]
    with connect(expand_paths(f"{server.url}/a.h5")[0]) as file:
        found = bytearray(4)
        assert handle_of(file).read_at(memoryview(found), len(whole) - 3) == 3
        assert found == whole[-3:] + b"\0"
        for offset in (len(whole), len(whole) + 9):
            assert handle_of(file).read_at(memoryview(found), offset) == 0


@pytest.mark.parametrize("is_enabled", [True, False])
def test_garbage_is_collected_after_a_read_if_it_was_before(server, is_enabled):
    (gc.enable if is_enabled else gc.disable)()
    try:
        with connect(expand_paths(f"{server.url}/a.h5")[0]) as file:
            assert file["Y"][3] == 3
        assert gc.isenabled() is is_enabled
    finally:
        gc.enable()


def test_remote_files_are_closed_at_the_end_of_the_process_and_not_others(server, tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as local:
        opened = [connect(expand_paths(f"{server.url}/a.h5")[0]) for _ in range(2)]
        files._close_all()
        assert [bool(file) for file in opened] == [False, False]
        assert local


def spread(num_chunks, **options):
    """A file whose chunks have a B-tree, the nodes of which lie far from each other."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        data = file.create_dataset("X", (num_chunks, 32, 64), "u1", chunks=(1, 32, 64))
        for number in range(num_chunks):
            chunk = np.full((32, 64), number % 251, np.uint8)
            data.id.write_direct_chunk((number, 0, 0), chunk.tobytes())
        file["Y"] = np.arange(num_chunks)
    return buffer.getvalue()


def test_nodes_of_a_b_tree():
    raw = spread(8000)
    node = next(raw[i:] for i in places(raw) if raw[i + 5] == 2)
    # A key has the size and the mask of a chunk, and four offsets: rows, two axes, and bytes.
    size = 24 + 65 * (8 + 4 * 8) + 64 * 8
    children = children_of(node[:size])
    assert len(children) >= 2
    for child in children:
        assert level_of(raw[child : child + size]) == 1
        for leaf in children_of(raw[child : child + size]):
            assert level_of(raw[leaf : leaf + size]) == 0
    assert children_of(node[: size - 1]) == children_of(raw[:size]) == children_of(b"") == []


def places(raw):
    found = -1
    while (found := raw.find(b"TREE\x01", found + 1)) >= 0:
        yield found


@pytest.mark.parametrize("options", [{}, {"userblock_size": 512}], ids=["plain", "userblock"])
def test_nodes_are_requested_together(server, tmp_path, monkeypatch, options):
    monkeypatch.setattr(metadata_blocks, "BLOCK_BYTES", 16 << 10)  # of which a node is a part
    raw = spread(8000, **options)
    server.put("/s.h5", raw)
    (tmp_path / "s.h5").write_bytes(raw)
    together = Together(30)
    server.fail = lambda *_: together()
    with (
        connect(expand_paths(f"{server.url}/s.h5")[0]) as file,
        connect(str(tmp_path / "s.h5")) as local,
    ):
        found, expected = describe(file["X"]), describe(local["X"])
        assert together.most >= 30
        assert len(server.requests) < 200  # 140 leaves, each once
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        np.testing.assert_array_equal(found.sizes, expected.sizes)
        server.requests.clear()
        assert (file["X"][2000] == 2000 % 251).all()
        assert len(server.requests) <= 4  # one chunk needs one way down


def test_nodes_that_lead_nowhere_do_no_harm(server, tmp_path):
    raw = bytearray(spread(8000))
    node = next(i for i in places(raw) if raw[i + 5] == 1)
    raw[node + 24 + 40 : node + 24 + 48] = (1 << 40).to_bytes(8, "little")
    server.put("/s.h5", bytes(raw))
    (tmp_path / "s.h5").write_bytes(raw)
    for path in (f"{server.url}/s.h5", tmp_path / "s.h5"):
        with pytest.raises(h5v.errors.H5VideoError, match="damaged chunk index"):
            h5v.VideoLoader(path, on_error="skip")


def test_blocks_that_follow_each_other_are_requested_by_growing_requests():
    size = 40 * metadata_blocks.BLOCK_BYTES + 7
    data = np.random.default_rng(0).integers(0, 255, size, np.uint8).tobytes()
    spans = []

    def read(starts, stops):
        spans.extend(zip(starts, stops, strict=True))
        return [data[a:b] for a, b in zip(starts, stops, strict=True)]

    blocks = MetadataBlocks()
    for start in range(0, size, 300_000):
        stop = min(start + 300_000, size)
        assert blocks.read("a", start, stop, size, read) == data[start:stop]
    assert len(spans) <= 10
    assert sum(stop - start for start, stop in spans) == size
    assert len(blocks._blocks) <= metadata_blocks.MAX_BLOCKS
    spans.clear()
    blocks.read("a", size - 10, size, size, read)
    assert not spans
    blocks.read("b", size - 10, size, size, read)
    assert len(spans) == 1


def test_a_set_of_one_file_is_opened_by_few_requests(server):
    server.requests.clear()
    with h5v.VideoLoader(f"{server.url}/a.h5"):
        pass
    assert methods(server) == {"HEAD": 1, "GET": 2}


# --------------------------------------------------------------------------- workers


def test_each_worker_requests_its_share(server):
    found, spans = [], []
    for worker in range(3):
        context = SimpleNamespace(
            num_input_pipelines=3, input_pipeline_id=worker, num_replicas_in_sync=3
        )
        url = f"{server.url}/a.h5"
        with h5v.VideoLoader(url, batch_size=12, seed=1, input_context=context) as loader:
            server.requests.clear()
            for _, numbers, (x, _) in loader.batches():
                np.testing.assert_array_equal(x, X[numbers])
                found += numbers.tolist()
        ranges = [span[6:].split("-") for method, _, span, _ in server.requests if method == "GET"]
        spans.append(sum(int(last) + 1 - int(first) for first, last in ranges))
        assert methods(server)["HEAD"] <= 2  # this epoch, and the next, which is begun
    assert sorted(found) == list(range(COUNT))
    # The next epoch's first batches are requested too: twice the share at most, not three times.
    assert max(spans) <= 2.2 * X.nbytes / 3


# --------------------------------------------------------------------------- faults


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_to_wait_is_not_asked_before(server, status):
    with h5v.VideoLoader(f"{server.url}/a.h5", num_threads=1) as loader:
        times = []

        def answer(_, method, __):
            times.append((method, time.monotonic()))
            gets = [when for kind, when in times if kind == "GET"]
            return (status, {"Retry-After": "1"}, b"") if len(gets) == 1 else None

        server.fail = answer
        loader._set.paths[0].read([0], [10], loader._set.identities[0])
    first, second = (when for method, when in times if method == "GET")
    assert 0.9 < second - first < 30


def s3_error(status, code, **headers):
    body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()
    return status, {"Content-Type": "application/xml", **headers}, body


@pytest.fixture
def s3_options(server):
    pytest.importorskip("s3fs")
    server.put("/films/a.h5", content())
    return {
        "key": "me",
        "secret": SECRET,
        "endpoint_url": server.url,
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }


s3 = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@s3
@pytest.mark.parametrize(
    "fault",
    [
        s3_error(503, "SlowDown", **{"Retry-After": "0"}),
        s3_error(500, "InternalError"),
        s3_error(429, "Throttling"),
        "reset",
        "short",
    ],
    ids=["slow down", "internal", "throttling", "reset", "short"],
)
def test_an_object_store_that_fails_now_and_then(server, s3_options, fault):
    with h5v.VideoLoader("s3://films/a.h5", storage_options=s3_options) as loader:
        server.fail = lambda number, method, _: fault if method == "GET" and number % 3 else None
        check(values_of(loader))
        assert all(
            headers["If-Match"] == server.versions["/films/a.h5"]
            for method, _, span, headers in server.requests
            if method == "GET" and span
        )


@s3
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (s3_error(400, "ExpiredToken"), r"the server answered 400 \(ExpiredToken\)"),
        (s3_error(403, "AccessDenied"), r"the server answered 403 \(AccessDenied\)"),
        (s3_error(403, "InvalidAccessKeyId"), r"the server answered 403 \(InvalidAccessKeyId\)"),
    ],
    ids=["expired", "denied", "unknown key"],
)
def test_credentials_that_expire_are_an_error_at_once_and_not_skipped(
    server, s3_options, fault, message
):
    options = {"storage_options": s3_options, "on_error": "skip"}
    with h5v.VideoLoader("s3://films/a.h5", **options) as loader:
        server.fail = lambda _, method, __: fault if method == "GET" else None
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match=message) as caught:
            next(loader.batches())
        assert time.monotonic() - begin < 30
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        server.fail = lambda *_: None
        check(values_of(loader))  # with new ones, it goes on
