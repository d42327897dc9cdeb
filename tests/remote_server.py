"""A web server on loopback that reads byte ranges, and fails as it is told."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import struct
import threading
import time


class RangeServer(http.server.ThreadingHTTPServer):
    """Serves objects from memory.

    Attributes:
        objects: Their contents, by path: "/a.h5".
        versions: Their ETags, by path; None: the server says none.
        delay: Seconds before each answer.
        requests: (method, path, range or None, headers) of all requests.
        fail: Called with (number of the request, method, path); returns what goes wrong: None, a
            status, or one with headers and a body, "reset", "short", "whole" (ranges are not read)
            or "hang".
        needs: Headers without which requests are answered by 403.
        knows_conditions: Whether `If-Match` is heeded.
        say_version: Called with (method, ETag); returns what it says in its place.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects, self.versions, self.requests = {}, {}, []
        self.delay, self.fail, self.needs = 0.0, lambda *_: None, {}
        self.knows_conditions, self.say_version = False, lambda _, version: version
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, path, content):
        self.objects[path] = content
        self.versions[path] = f'"{len(self.requests)}-{hash(content)}"'

    def handle_error(self, *_):
        """Says nothing of a client that has gone."""

    def close(self):
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Is quiet."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        server, method = self.server, self.command
        path, span = self.path.partition("?")[0], self.headers.get("Range")
        server.requests.append((method, path, span, dict(self.headers)))
        time.sleep(server.delay)
        fault = server.fail(len(server.requests), method, path)
        if any(self.headers.get(name) != value for name, value in server.needs.items()):
            fault = 403
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if fault == "hang":
            time.sleep(30)
            return
        wished = self.headers.get("If-Match")
        if server.knows_conditions and wished and wished != server.versions.get(path):
            fault = 412
        if isinstance(fault, (int, tuple)) or path not in server.objects:
            status, headers, body = fault if isinstance(fault, tuple) else (fault or 404, {}, b"")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if method == "GET":
                self.wfile.write(body)
            return
        content = server.objects[path]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", span or "")
        body = content
        if found and fault != "whole":
            body = content[int(found[1]) : int(found[2]) + 1]
        self.send_response(200 if body is content else 206)
        if body is not content:
            last = int(found[1]) + len(body) - 1
            self.send_header("Content-Range", f"bytes {found[1]}-{last}/{len(content)}")
        version = server.say_version(method, server.versions[path])
        if version:
            self.send_header("ETag", version)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method == "GET":
            with contextlib.suppress(OSError):
                self.wfile.write(body[: len(body) // 2] if fault == "short" else body)
        if fault == "short":
            self.close_connection = True


class Together:
    """Counts requests that are answered at once: each waits for others, or two seconds.

    Args:
        num: How many are waited for; when there were so many, none waits any more.

    Attributes:
        most: How many there were at once.
    """

    def __init__(self, num):
        self._num, self._now, self.most = num, 0, 0
        self._change = threading.Condition()

    def __call__(self):
        with self._change:
            self._now += 1
            self.most = max(self.most, self._now)
            self._change.notify_all()
            self._change.wait_for(lambda: self.most >= self._num, 2)
            self._now -= 1
