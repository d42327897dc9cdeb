"""Versions of objects, few requests, workers, and what servers answer beside bytes."""

from __future__ import annotations

import io
import time
import traceback
from collections import Counter
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from remote_server import RangeServer, Together

import h5video_data as h5v
from h5video_data.errors import FileChangedError, UnavailableError
from h5video_data.storage.hdf5_files import connect
from h5video_data.storage.layout import describe
from h5video_data.storage.paths import expand_paths
from h5video_data.storage.remote import metadata_blocks
from h5video_data.storage.remote.metadata_blocks import MetadataBlocks, children_of, level_of

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


# --------------------------------------------------------------------------- metadata


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
