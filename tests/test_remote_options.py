"""`remote_options`: what each of them does to the requests, and what they may be."""

from __future__ import annotations

import io
import itertools
import re
import threading
import time
from collections import Counter

import h5py
import numpy as np
import pytest
from remote_server import RangeServer

import h5video_data as h5v
from h5video_data.errors import ArgumentError, UnavailableError
from h5video_data.storage.os_errors import RequestError
from h5video_data.storage.remote.request_options import RequestOptions, request_options
from h5video_data.storage.remote.requests import Attempts, check_length
from h5video_data.tools.cli import main

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

COUNT = 160
X = np.random.default_rng(0).integers(0, 255, (COUNT, 4, 32, 32, 3), np.uint8)


def content():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["X"], file["Y"] = X, np.arange(COUNT)
    return buffer.getvalue()


CONTENT = content()
OFFSET = CONTENT.index(X[0].tobytes())


@pytest.fixture
def server():
    found = RangeServer()
    found.put("/a.h5", CONTENT)
    yield found
    found.close()


class AtOnce:
    """Counts requests that are answered at once.

    Args:
        seconds: How long each takes.
        at_least: None is answered before there were so many at once; for a minute at most.

    Attributes:
        most: How many there were.
    """

    def __init__(self, seconds=0.05, at_least=0):
        self.most, self._now, self._lock, self._seconds = 0, 0, threading.Lock(), seconds
        self._at_least, self._are_enough = at_least, threading.Event()

    def __call__(self, *_):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self.most >= self._at_least:
                self._are_enough.set()
        self._are_enough.wait(60)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1


def read_samples(loader, count):
    """Reads every second sample, each by a request."""
    path, size = loader._set.paths[0], X[0].nbytes
    starts = [OFFSET + 2 * number * size for number in range(count)]
    found = path.read(starts, [begin + size for begin in starts], loader._set.identities[0])
    for number, data in enumerate(found):
        assert data == X[2 * number].tobytes()


# --------------------------------------------------------------------------- at once


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_requests_at_once(server, most):
    at_once = server.fail = AtOnce(0.02)
    options = {"batch_size": 8, "indices": range(40), "remote_options": {"max_requests": most}}
    with h5v.VideoLoader(f"{server.url}/a.h5", **options) as loader:
        for _, numbers, (x, _) in loader.batches():
            np.testing.assert_array_equal(x, X[numbers])
    assert at_once.most == most


def test_more_at_once_than_a_client_has_by_default(server):
    with h5v.VideoLoader(f"{server.url}/a.h5", remote_options={"max_requests": 70}) as loader:
        at_once = server.fail = AtOnce(0.2, at_least=70)
        read_samples(loader, 80)
    assert at_once.most == 70
    with h5v.VideoLoader(f"{server.url}/a.h5", remote_options={"max_requests": 200}) as loader:
        starts = [2 * number for number in range(120)]
        at_once = server.fail = AtOnce(at_least=106)
        loader._set.paths[0].read(starts, [n + 1 for n in starts], loader._set.identities[0])
    assert at_once.most > 105  # aiohttp's own limit is 100


def test_the_tools_send_no_more_at_once_either(server, tmp_path, capsys):
    urls = [f"{server.url}/{number}.h5" for number in range(6)]
    for number in range(6):
        server.put(f"/{number}.h5", CONTENT)

    def most_at_once(call):
        at_once = server.fail = AtOnce()
        call()
        return at_once.most

    out, split = tmp_path / "a.h5", {"validation_split": 0.5, "seed": 0}
    assert most_at_once(lambda: h5v.split_samples(urls, **split)) >= 6
    options = {"remote_options": {"max_requests": 2}}
    # What HDF5 reads itself is counted apart: here, one at once.
    assert most_at_once(lambda: h5v.split_samples(urls, **split, **options)) in (2, 3)
    assert most_at_once(lambda: h5v.repack(urls, out, **options)) in (2, 3)
    command = ["repack", *urls, str(out), "--overwrite", "--quiet"]
    flags = ["--remote-options", '{"max_requests": 2}']
    assert most_at_once(lambda: main([*command, *flags])) in (2, 3)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["X"][()], np.concatenate([X] * 6))
    url = urls[0]
    assert h5v.inspect(url, **options).problems == ()
    assert main(["inspect", url, *flags]) == 0
    capsys.readouterr()
    assert main(["inspect", url, "--remote-options", '{"max_requests": 0}']) == 1
    assert "max_requests" in capsys.readouterr().err


# --------------------------------------------------------------------------- failures


@pytest.mark.parametrize(("retries", "message"), [(0, "503"), (2, "503, also the last of 3 times")])
def test_a_request_is_sent_again_so_many_times(server, retries, message):
    options = {"max_retries": retries, "first_pause_seconds": 0.01}
    with h5v.VideoLoader(f"{server.url}/a.h5", remote_options=options) as loader:
        server.fail = lambda *_: 503
        server.requests.clear()
        with pytest.raises(RequestError, match=f"^the server answered {message}$"):
            loader._set.paths[0].read([0], [10], loader._set.identities[0])
        assert Counter(method for method, *_ in server.requests) == {"GET": retries + 1}
        server.fail = lambda number, *_: 503 if number % (retries + 1) else None
        server.requests.clear()
        read_samples(loader, 1)  # the last time succeeds
        server.fail = lambda *_: 503
        with pytest.raises(UnavailableError, match=r"a\.h5.*503"):
            next(loader.batches())


@pytest.mark.parametrize("fault", [503, "reset", "hang"])
def test_the_deadline_ends_it(server, fault):
    options = {"deadline_seconds": 0.6, "first_pause_seconds": 0.05, "max_pause_seconds": 0.05}
    with h5v.VideoLoader(f"{server.url}/a.h5", remote_options=options) as loader:
        server.fail = lambda *_: fault
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match=r"a\.h5"):
            next(loader.batches())
        assert 0.4 < time.monotonic() - begin < 20
    assert fault == "hang" or len(server.requests) > 10


def test_to_wait_for_others_is_not_to_fail(server):
    options = {"max_requests": 1, "deadline_seconds": 0.5, "timeout_seconds": 0.5}
    with h5v.VideoLoader(f"{server.url}/a.h5", remote_options=options) as loader:
        server.delay = 0.1
        read_samples(loader, 15)


def test_one_without_an_answer_is_sent_again(server):
    options = {"timeout_seconds": 0.3, "first_pause_seconds": 0.01}
    with h5v.VideoLoader(f"{server.url}/a.h5", remote_options=options) as loader:
        asked = itertools.count()
        server.fail = lambda *_: "hang" if next(asked) == 0 else None
        begin = time.monotonic()
        read_samples(loader, 2)  # neighbours are one request
        assert 0.25 < time.monotonic() - begin < 15


def test_pauses_grow_and_half_of_each_is_drawn():
    options = RequestOptions(first_pause_seconds=1, max_pause_seconds=6, deadline_seconds=1e6)
    found = []
    for _ in range(200):
        attempts = Attempts(options)
        attempts.begin()
        found.append([attempts.pause_after(ConnectionResetError(104, "reset")) for _ in range(6)])
    pauses = np.array(found)
    for column, most in zip(pauses.T, [1, 2, 4, 6, 6, 6], strict=True):
        assert most / 2 <= column.min() < 0.6 * most
        assert 0.9 * most < column.max() <= most


def failed(name, module="botocore.exceptions", text="", base=Exception, **attributes):
    """An error of a library that may not be installed."""
    error = type(name, (base,), {"__module__": module})(text)
    error.__dict__.update(attributes)
    return error


FAILURES = {
    "as told before": (RequestError("fsspec cannot open it"), "fsspec cannot open it", False),
    "permission": (PermissionError(13, "secret"), "permission denied", False),
    "forbidden": (OSError("Forbidden: secret"), "permission denied", False),
    "no credentials": (
        failed("NoCredentialsError", text="secret"),
        "no valid credentials (NoCredentialsError)",
        False,
    ),
    "token": (
        failed("RefreshError", "google.auth.exceptions", "secret"),
        "no valid credentials (RefreshError)",
        False,
    ),
    "token, not reached": (
        failed("TransportError", "google.auth.exceptions", "secret"),
        "no valid credentials (TransportError)",
        True,
    ),
    "token, later": (
        failed("RefreshError", "google.auth.exceptions", "secret", retryable=True),
        "no valid credentials (RefreshError)",
        True,
    ),
}


@pytest.mark.parametrize(("error", "message", "is_transient"), FAILURES.values(), ids=FAILURES)
def test_only_what_may_pass_is_sent_again(error, message, is_transient):
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        Attempts(RequestOptions(max_retries=0)).pause_after(error)
    attempts = Attempts(RequestOptions())
    if is_transient:
        assert attempts.pause_after(error) > 0
    else:
        with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
            attempts.pause_after(error)


def test_answers_of_another_length():
    assert check_length(b"abc", 3) == b"abc"
    for expected, message, is_transient in (
        (4, "3 bytes came of 4", True),
        (2, "the server does not read byte ranges: 3 bytes came instead of 2", False),
    ):
        with pytest.raises(Exception, match=f"^{message}$") as caught:
            check_length(b"abc", expected)
        with pytest.raises(RequestError, match=f"^{message}$"):
            Attempts(RequestOptions(max_retries=0)).pause_after(caught.value)
        if is_transient:
            assert Attempts(RequestOptions()).pause_after(caught.value) > 0


@pytest.mark.parametrize(("wished", "pause"), [("40", 40), ("Fri, 27 Nov 2026", 0.1)])
def test_an_object_store_that_asks_to_wait_is_not_asked_before(wished, pause):
    about = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": wished}}
    error = failed("ClientError", response={"Error": {}, "ResponseMetadata": about})
    options = RequestOptions(first_pause_seconds=0.2, deadline_seconds=1000)
    assert pause <= Attempts(options).pause_after(error) <= 2 * pause


def test_much_that_is_being_read_takes_longer():
    attempts = Attempts(RequestOptions(timeout_seconds=3, deadline_seconds=5))
    assert attempts.begin() == pytest.approx(3)
    assert attempts.begin(64 << 20) == pytest.approx(67, abs=0.1)  # at 1 MiB/s
    attempts = Attempts(RequestOptions(timeout_seconds=3, deadline_seconds=2))
    assert attempts.begin() == pytest.approx(2, abs=0.1)


# --------------------------------------------------------------------------- what they may be


def test_defaults_and_what_is_given():
    assert request_options(None) == request_options({}) == RequestOptions()
    found = request_options({"max_requests": np.int64(3), "deadline_seconds": 5})
    assert found == RequestOptions(max_requests=3, deadline_seconds=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([("max_requests", 1)], r"must be a dict with keys of max_requests, .*Received: a list"),
        ({"max_request": 1}, r"has the keys max_requests, .*fsspec.*Received: the key 'max_req"),
        ({1: 1}, r"Received: the key 1"),
        ({"max_requests": 0}, r"max_requests.*must be a whole number, 1 or more.*=0"),
        ({"max_requests": True}, r"max_requests.*must be a whole number"),
        ({"max_requests": None}, r"max_requests.*must be a whole number"),
        ({"max_retries": -1}, r"max_retries.*must be a whole number, 0 or more"),
        ({"deadline_seconds": 0}, r"deadline_seconds.*seconds, more than 0. Received: 0"),
        ({"deadline_seconds": float("nan")}, r"deadline_seconds.*more than 0. Received: nan"),
        ({"timeout_seconds": float("inf")}, r"timeout_seconds.*Received: inf"),
        ({"timeout_seconds": "20"}, r"timeout_seconds.*Received: '20'"),
        ({"first_pause_seconds": -1}, r"first_pause_seconds.*Received: -1"),
        ({"max_pause_seconds": True}, r"max_pause_seconds.*Received: True"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ArgumentError, match=message):
        h5v.VideoLoader("http://127.0.0.1:9/a.h5", remote_options=options)


def test_they_are_of_urls(tmp_path):
    path = h5v.testing.write_video_file(tmp_path / "a.h5")
    for call in (h5v.VideoLoader, h5v.inspect):
        with pytest.raises(ArgumentError, match="`remote_options` needs URLs in `path`"):
            call(path, remote_options={"max_requests": 1})


def test_a_password_that_went_astray_is_not_shown():
    with pytest.raises(ArgumentError) as caught:
        h5v.VideoLoader("http://127.0.0.1:9/a.h5", remote_options={"secret": "hunter2"})
    assert "hunter2" not in str(caught.value)
