"""Files of Google Cloud Storage: gcsfs, with a server on loopback that speaks its JSON API."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import time
import traceback
import zlib
from http import server as http_server
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import h5py
import numpy as np
import pytest

import h5video_data as h5v
from h5video_data.errors import FileChangedError, UnavailableError, VideoFileNotFoundError

# It would ask by gRPC what kind of bucket this is, for up to a minute: no server here speaks that.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
gcsfs = pytest.importorskip("gcsfs")
credentials = pytest.importorskip("google.oauth2.credentials")

pytestmark = [
    # Of gcsfs and the libraries of Google.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:GCS project not set"),
]

X = np.random.default_rng(0).integers(0, 255, (60, 4, 32, 32, 3), np.uint8)
SECRET = "hunter2-do-not-show"
OBJECT = re.compile(r"(/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?")


def content(number):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["X"] = X[number * 20 :][:20]
        file.create_dataset(
            "gzip", data=file["X"][()], chunks=(1, *X.shape[1:]), compression="gzip"
        )
        file["Y"] = np.arange(20) + 100 * number
    return buffer.getvalue()


class Storage(http_server.ThreadingHTTPServer):
    """Serves objects of one bucket, `films`.

    Attributes:
        objects: Contents and generation of each, by name.
        metageneration: A number that each change of metadata makes larger.
        requests: (path, query, range or None) of all requests.
        fail: Called with whether bytes are asked for; returns None, or a status and a message.
        knows_generations: Whether it reads the generation that was asked for, and says which it is.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects, self.requests, self.metageneration = {}, [], 1
        self.fail, self.knows_generations, self.token = lambda *_: None, True, SECRET
        self._thread = Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def put(self, name, data):
        self.objects[name] = data, self.objects.get(name, (b"", 1700000000000000))[1] + 1

    def resource(self, name):
        data, generation = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": "films",
            "size": str(len(data)),
            "generation": str(generation),
            "metageneration": str(self.metageneration),
            "etag": f"C{generation}E{self.metageneration}=",
            "updated": "2026-01-01T00:00:00.000Z",
        }

    def handle_error(self, *_):
        """Says nothing of a client that has gone."""

    def close(self):
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(http_server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Is quiet."""

    def _send(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_error(self, status, message):
        error = {"error": {"code": status, "message": message}}
        self._send(status, json.dumps(error).encode(), Content_Type="application/json")

    def do_GET(self):
        store, url = self.server, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        span = self.headers.get("Range")
        store.requests.append((url.path, query, span))
        is_read, bucket, name = OBJECT.fullmatch(url.path).groups()
        name = unquote(name or "")
        if self.headers.get("Authorization") != f"Bearer {store.token}":
            self._send_error(401, f"Invalid Credentials {SECRET}")
        elif (fault := store.fail(bool(is_read))) is not None:
            self._send_error(*fault)
        elif bucket != "films" or (name and name not in store.objects):
            self._send_error(404, "Not Found")
        elif not name:
            prefix = query.get("prefix", "")
            found = [store.resource(item) for item in sorted(store.objects)]
            found = {"items": [item for item in found if item["name"].startswith(prefix)]}
            self._send(200, json.dumps(found if "/o" in url.path else {"name": bucket}).encode())
        elif not is_read:
            self._send(200, json.dumps(store.resource(name)).encode())
        else:
            data, generation = store.objects[name]
            wished = query.get("generation", str(generation))
            if store.knows_generations and wished != str(generation):
                self._send_error(404, "No such generation")
                return
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", span).groups())
            said = {"X_Goog_Generation": str(generation)} if store.knows_generations else {}
            self._send(206, data[first : last + 1], **said)


@pytest.fixture
def store(send_with):
    send_with(first_pause_seconds=0.01)
    found = Storage()
    for number in range(3):
        found.put(f"set/{number}.h5", content(number))
    yield found
    found.close()


@pytest.fixture
def options(store):
    token = credentials.Credentials(SECRET)
    return {"token": token, "project": "p", "endpoint_url": f"http://127.0.0.1:{store.server_port}"}


def epoch(path, **more):
    with h5v.VideoLoader(path, seed=3, batch_size=16, **more) as loader:
        return [
            (indices, *(array.copy() for array in arrays))
            for _, indices, arrays in loader.batches()
        ]


def assert_same(found, expected):
    assert len(found) == len(expected) == 4
    for batch, other in zip(found, expected, strict=True):
        for array, values in zip(batch, other, strict=True):
            np.testing.assert_array_equal(array, values)


@pytest.fixture
def local(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.h5").write_bytes(content(number))
    return tmp_path / "*.h5"


@pytest.mark.parametrize("name", ["X", "gzip"])
def test_values_are_those_of_the_local_files(store, options, local, name):
    expected = epoch(local, x=name)
    for path in ("gs://films/set/*.h5", [f"gs://films/set/{number}.h5" for number in range(3)]):
        assert_same(epoch(path, x=name, storage_options=options), expected)
    generations = {store.objects[item][1] for item in store.objects}
    for path, query, span in store.requests:
        if path.startswith("/download"):
            assert span is not None
            assert int(query["generation"]) in generations


def test_the_tools_read_them(tmp_path, options):
    report = h5v.inspect("gs://films/set/1.h5", storage_options=options)
    assert [item.name for item in report.datasets] == ["X", "Y", "gzip"]
    h5v.repack("gs://films/set/*.h5", tmp_path / "a.h5", storage_options=options)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["X"][()], X)


@pytest.mark.parametrize("knows_generations", [True, False])
def test_an_object_that_changes_is_an_error(store, options, knows_generations):
    store.knows_generations = knows_generations
    with h5v.VideoLoader("gs://films/set/*.h5", storage_options=options, x="gzip") as loader:
        next(loader.batches())
        store.put("set/1.h5", content(2))
        with pytest.raises(FileChangedError, match=r"gs://films/set/1\.h5 was changed.*generation"):
            [*loader.batches()]


def test_other_metadata_of_the_same_contents_are_no_change(store, options):
    with h5v.VideoLoader("gs://films/set/*.h5", storage_options=options, seed=3) as loader:
        next(loader.batches())
        store.metageneration = 2
        assert sum(len(numbers) for _, numbers, _ in loader.batches()) == 60


def test_one_that_is_deleted_is_an_error(store, options):
    url = "gs://films/set/1.h5"
    arguments = {"storage_options": options, "batch_size": 2, "num_threads": 1}
    with h5v.VideoLoader(url, read_ahead_bytes=0, **arguments) as loader:
        batches = loader.batches()
        next(batches)
        del store.objects["set/1.h5"]
        with pytest.raises(h5v.errors.H5VideoError, match=r"set/1\.h5 no longer exists"):
            list(batches)


def test_index_and_cache(store, tmp_path, options):
    arguments = {"x": "gzip", "shuffle": False, "storage_options": options}
    with h5v.VideoLoader("gs://films/set/*.h5", **arguments) as loader:
        loader.save_index(tmp_path / "set.h5i")
    local = {"index": tmp_path / "set.h5i", "cache_dir": tmp_path / "cache"}
    with h5v.VideoLoader("gs://films/set/*.h5", **arguments, **local) as loader:
        for _ in range(2):
            for _, numbers, (x, _) in loader.batches():
                np.testing.assert_array_equal(x, X[numbers])
    for path in (tmp_path / "set.h5i", *(tmp_path / "cache").rglob("*-*")):
        raw = path.read_bytes()
        body = zlib.decompress(raw.partition(b"\n")[2][32:]) if path.suffix == ".h5i" else raw
        assert SECRET.encode() not in body
    store.put("set/1.h5", content(1))
    with pytest.raises(FileChangedError, match=r"gs://films/set/1\.h5 was changed.*set\.h5i"):
        h5v.VideoLoader("gs://films/set/*.h5", storage_options=options, index=local["index"])


@pytest.mark.parametrize("status", [500, 503, 429, 408, 502])
def test_requests_that_fail_are_sent_again_soon(store, options, local, status):
    count = 0

    def fail(_):
        nonlocal count
        count += 1
        return (status, "later") if count % 5 == 1 else None

    store.fail = fail
    begin = time.monotonic()
    found = epoch("gs://films/set/*.h5", storage_options=options)
    assert time.monotonic() - begin < 20  # gcsfs would wait a second each time
    assert_same(found, epoch(local))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((401, "Invalid Credentials"), r"the server answered 401 \(not authorized\)"),
        ((403, "no storage.objects.get"), "permission denied"),
    ],
    ids=["401", "403"],
)
def test_credentials_that_expire_are_an_error_at_once(store, options, fault, message):
    arguments = {"storage_options": options, "on_error": "skip", "x": "gzip"}
    with h5v.VideoLoader("gs://films/set/*.h5", **arguments) as loader:
        store.fail = lambda is_read: fault if is_read else None
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match=rf"gs://films/set/\d\.h5.*{message}"):
            next(loader.batches())
        assert time.monotonic() - begin < 10
        store.fail = lambda _: None
        for _, numbers, (x, _) in loader.batches():  # with new ones, it goes on
            np.testing.assert_array_equal(x, X[numbers])


def test_a_token_that_cannot_be_renewed_is_an_error_at_once(store, options):
    options["token"].expiry = credentials.datetime(2020, 1, 1)
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no valid credentials \(RefreshError\)"):
        h5v.VideoLoader("gs://films/set/*.h5", storage_options=options)
    assert time.monotonic() - begin < 10
    assert not store.requests


def test_what_is_not_there(options):
    for path, message in (
        ("gs://films/set/none.h5", r"No such file.*gs://films/set/none\.h5"),
        ("gs://films/none/*.h5", r"No file matches.*gs://films/none/\*\.h5"),
        ("gs://nobody/none.h5", r"No such file"),
    ):
        with pytest.raises(VideoFileNotFoundError, match=message):
            h5v.VideoLoader(path, storage_options=options)


def test_credentials_are_shown_nowhere(store, options, caplog, capfd):
    caplog.set_level(logging.INFO)
    shown = []
    with h5v.VideoLoader("gs://films/set/*.h5", storage_options=options) as loader:
        shown += [repr(loader), str(loader), repr(loader._options), repr(loader._set.paths)]
        shown.append(json.dumps(loader.state_dict(epoch=0, step=1)))
        store.token = "another"
        with pytest.raises(UnavailableError) as caught:
            next(loader.batches())
        shown.append("".join(traceback.format_exception(caught.value)))
    for more in ({}, {"endpoint_url": "http://127.0.0.1:9"}, {"access": SECRET}):
        with pytest.raises(h5v.errors.H5VideoError) as caught:
            h5v.VideoLoader(
                "gs://films/set/*.h5",
                storage_options={**options, **more},
                remote_options={"deadline_seconds": 1},
            )
        shown.append("".join(traceback.format_exception(caught.value)))
    assert not [text for text in (*shown, caplog.text, *capfd.readouterr()) if SECRET in text]


def test_an_emulator(local, send_with):
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    send_with(deadline_seconds=20)
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="films")
    server.start()
    try:
        port = server._api._httpd.server_address[1]
        options = {"token": "anon", "endpoint_url": f"http://127.0.0.1:{port}"}
        system = gcsfs.GCSFileSystem(**options, skip_instance_cache=True)
        for number in range(3):
            system.pipe_file(f"films/set/{number}.h5", content(number))
        found = epoch("gs://films/set/*.h5", storage_options=options)
        assert_same(found, epoch(local))
        with h5v.VideoLoader("gs://films/set/*.h5", storage_options=options) as loader:
            next(loader.batches())
            system.pipe_file("films/set/1.h5", content(2))
            with pytest.raises(FileChangedError, match=r"gs://films/set/1\.h5 was changed"):
                [*loader.batches()]
    finally:
        server.stop()
