"""A web server of the test's own that does what servers do on a bad day."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


PATIENCE = 120.0
"""Seconds for which an answer is held back at the most."""


@dataclass
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Site:
    """What is on the server, and how it behaves.

    Attributes:
        faults: for each method and path, what the next answers do: ``{"status": 503}``, ``{"cut": 1000}`` bytes and then
            nothing more, ``{"keep": 10}`` bytes of what was sent, ``{"hold": event}`` until then.
        asked: all requests so far.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/"})
    faults: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    ranges: bool = True
    marks: bool = True
    replaces: bool = True
    digests: bool = True
    login: str = ""

    def fail(self, method: str, path: str, *faults: dict[str, Any]) -> None:
        self.faults.setdefault((method, path), []).extend(faults)

    def of(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]


def digest(data: bytes) -> str:
    sha = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return f"adler32={zlib.adler32(data):x},SHA-256={sha}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def fault(self) -> dict[str, Any]:
        self.site.asked.append(Asked(self.command, self.path, dict(self.headers)))
        waiting = self.site.faults.get((self.command, urlsplit(self.path).path))
        fault = waiting.pop(0) if waiting else {}
        if "hold" in fault:
            fault["hold"].wait(PATIENCE)
        return fault

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refused(self, fault: dict[str, Any]) -> bool:
        """Answer by a fault that is an answer, or a want of credentials."""
        if "status" in fault:
            self.answer(fault["status"], b"no", **fault.get("headers", {}))
            return True
        if self.site.login and self.headers.get("Authorization") != self.site.login:
            self.answer(401)
            return True
        return False

    def do_GET(self) -> None:
        fault = self.fault()
        if self.refused(fault):
            return
        path = unquote(urlsplit(self.path).path)
        data = fault.get("data", self.site.files.get(path))
        if data is None:
            self.answer(404, b"nothing here")
            return
        mark = f'"{zlib.adler32(data):x}"'
        headers = {"ETag": mark} if self.site.marks else {}
        if self.site.digests and "Want-Digest" in self.headers:
            headers["Digest"] = fault.get("digest", digest(data))
        status, begin = 200, 0
        wanted = self.headers.get("Range", "")
        if wanted and self.site.ranges and self.headers.get("If-Range") in (None, mark):
            begin = int(wanted.partition("=")[2].rstrip("-"))
            if begin >= len(data):
                self.answer(416, Content_Range=f"bytes */{len(data)}")
                return
            begin += fault.get("shift", 0)
            status = 206
            headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        rest = data[begin:]
        cut = fault.get("cut")
        self.answer(status, rest[:cut], Content_Length=str(len(rest)), **headers)
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        fault = self.fault()
        length = int(self.headers["Content-Length"])
        if "cut" in fault:
            self.rfile.read(min(length, fault["cut"]))
            self.close_connection = True
            self.connection.shutdown(2)
            return
        data = self.rfile.read(length)
        if self.refused(fault):
            return
        path = unquote(urlsplit(self.path).path)
        if path.rpartition("/")[0] + "/" not in self.site.folders:
            self.answer(409)
        elif path in self.site.files and not self.site.replaces:
            self.answer(403)
        else:
            self.site.files[path] = data[: fault.get("keep")]
            self.answer(201)

    def do_MKCOL(self) -> None:
        if self.refused(self.fault()):
            return
        folder = unquote(self.path).rstrip("/") + "/"
        if folder in self.site.folders:
            self.answer(405)
        elif folder.rstrip("/").rpartition("/")[0] + "/" not in self.site.folders:
            self.answer(409)
        else:
            self.site.folders.add(folder)
            self.answer(201)


def serve(site: Site, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    """Begin to serve; by https with this context."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"site": site}))
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def site() -> Iterator[Site]:
    """A server that behaves, until it is told otherwise."""
    site = Site()
    server = serve(site)
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Site]:
    """Another server."""
    site = Site()
    server = serve(site)
    yield site
    server.shutdown()
    server.server_close()
