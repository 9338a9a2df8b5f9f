"""What stands between a client and a server at many sites: a forward proxy, or a web server with a path prefix."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


class Relay(ThreadingHTTPServer):
    """Passes on what it is asked to, and remembers it in `seen`.

    Args:
        origin: where paths lead; URLs lead where they say, as a forward proxy has it.
        prefix: what the server's paths begin with here.
        login: ``user:password`` that it wants of those who use it as a proxy.
        host: where it listens; an IPv6 address if it has a colon.
    """

    daemon_threads = True

    def __init__(self, origin: str = "", prefix: str = "", login: str = "", host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)
        self.origin = origin
        self.prefix = prefix
        self.wanted = "Basic " + base64.b64encode(login.encode()).decode() if login else ""
        self.seen: list[str] = []
        self.refused = 0

    @property
    def netloc(self) -> str:
        host = self.server_address[0]
        return f"[{host!s}]:{self.server_port}" if ":" in str(host) else f"{host!s}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def _is_let_in(self) -> bool:
        if self.server.wanted in ("", self.headers.get("Proxy-Authorization")):
            return True
        self.server.refused += 1
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="relay"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(f"{self.command} {self.path}")
        is_proxy = self.path.startswith("http://")
        if is_proxy and not self._is_let_in():
            return
        target = self.path if is_proxy else self.server.origin + self.path.removeprefix(self.server.prefix)
        if not is_proxy and not self.path.startswith(self.server.prefix + "/"):
            self.send_error(404)
            return
        parts = urlsplit(target)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name not in ("Proxy-Authorization", "Connection")
        }
        with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
            connection.request(
                self.command, parts._replace(scheme="", netloc="").geturl(), body or None, headers
            )
            answer = connection.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name not in ("Transfer-Encoding", "Content-Length", "Date", "Server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - the base class wants these names

    def do_CONNECT(self) -> None:
        self.server.seen.append(f"CONNECT {self.path}")
        if not self._is_let_in():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as other:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                self._pump(other)
        self.close_connection = True

    def _pump(self, other: socket.socket) -> None:
        ways = {self.connection: other, other: self.connection}
        while True:
            for source in select.select([*ways], [], [])[0]:
                data = source.recv(65_536)
                if not data:
                    return
                ways[source].sendall(data)

    def log_message(self, *_: Any) -> None:
        """Not on the screen."""


@contextlib.contextmanager
def relay(**settings: str) -> Iterator[Relay]:
    """A relay at work. See `Relay`."""
    with Relay(**settings) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
