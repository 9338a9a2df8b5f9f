"""The proxy does to requests what the names of its faults say."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import urllib3
from tests.couchdb import certificates
from tests.couchdb.faults import (
    Answer,
    Delay,
    Drop,
    Garbage,
    Hang,
    Headers,
    LoseAnswer,
    Reset,
    Truncate,
    Twice,
    error_page,
)
from tests.couchdb.proxy import FaultProxy
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Answers each request with its method, path and the length of its body; remembers those it saw."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def answer(self) -> None:
        length = 0
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            length = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.seen.append(f"{self.command} {self.path}")
        text = f"{self.command} {self.path} {length}".encode()
        self.send_response(200)
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))
        elif self.path.startswith("/until-end"):
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(text)
        else:
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_HEAD = answer  # noqa: N815 - the base class wants these names

    def log_message(self, *args: object) -> None:
        """Not on the screen."""


@pytest.fixture(scope="module")
def origin() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def stored() -> list[str]:
    """What the server saw."""
    Handler.seen = []
    return Handler.seen


@pytest.fixture
def proxy(origin: ThreadingHTTPServer, stored: list[str]) -> Iterator[FaultProxy]:
    with FaultProxy(f"http://127.0.0.1:{origin.server_port}") as proxy:
        yield proxy


@pytest.fixture
def client() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False, timeout=5) as client:
        yield client


class TestPass:
    @pytest.mark.parametrize("path", ["/length", "/chunked", "/until-end"])
    def test_an_answer_comes_as_the_server_gave_it(
        self, proxy: FaultProxy, client: urllib3.PoolManager, path: str
    ) -> None:
        for _ in range(3):
            assert client.request("PUT", proxy.origin + path, body=b"12345").data == f"PUT {path} 5".encode()
        assert proxy.count("PUT", path) == 3

    def test_a_long_body_streams(self, proxy: FaultProxy, client: urllib3.PoolManager) -> None:
        answer = client.request("PUT", proxy.origin + "/a", body=b"x" * 20_000_000)
        assert answer.data == b"PUT /a 20000000"
        pieces = (b"y" * 1_000_000 for _ in range(6))
        assert client.request("POST", proxy.origin + "/b", body=pieces).data == b"POST /b 6000000"

    def test_a_connection_is_kept(self, proxy: FaultProxy, client: urllib3.PoolManager) -> None:
        for _ in range(5):
            client.request("GET", proxy.origin + "/")
            assert client.request("HEAD", proxy.origin + "/").status == 200
        assert client.connection_from_url(proxy.origin).num_connections == 1


class TestRules:
    def test_only_so_many_requests_of_a_method_and_path_meet_a_fault(
        self, proxy: FaultProxy, client: urllib3.PoolManager
    ) -> None:
        rule = proxy.fault(Answer(503), "PUT", r"/_bulk", count=2, skip=1)
        asked = ["GET /_bulk", "PUT /_bulk", "PUT /a", "PUT /_bulk", "PUT /_bulk?x=1", "PUT /_bulk"]
        statuses = [
            client.request(*request.replace("/", proxy.origin + "/").split()).status for request in asked
        ]
        assert statuses == [200, 200, 200, 503, 503, 200]
        assert rule.hits == 2
        assert proxy.count("PUT", "/_bulk") == 4
        assert proxy.requests[0] == ("GET", "/_bulk")

    def test_a_request_may_be_chosen_by_its_body(
        self, proxy: FaultProxy, client: urllib3.PoolManager
    ) -> None:
        proxy.fault(Answer(500), where=lambda request: b"done" in (request.body or b""), count=None)
        bodies = [b"todo", b"done", b"done"]
        assert [client.request("PUT", proxy.origin, body=body).status for body in bodies] == [200, 500, 500]
        proxy.clear()
        assert client.request("PUT", proxy.origin, body=b"done").status == 200


class TestFaults:
    def test_delay(self, proxy: FaultProxy, client: urllib3.PoolManager, stored: list[str]) -> None:
        proxy.fault(Delay(0.3))
        began = time.monotonic()
        assert client.request("GET", proxy.origin).status == 200
        assert time.monotonic() - began >= 0.3

    def test_delay_of_the_answer(
        self, proxy: FaultProxy, client: urllib3.PoolManager, stored: list[str]
    ) -> None:
        proxy.fault(Delay(60, stored=True))
        with pytest.raises(ReadTimeoutError):
            client.request("GET", proxy.origin + "/a", timeout=0.5)
        assert stored == ["GET /a"]

    @pytest.mark.parametrize("fault", [Drop(), Reset(), Garbage(), LoseAnswer(), LoseAnswer(reset=True)])
    def test_no_answer(
        self, proxy: FaultProxy, client: urllib3.PoolManager, stored: list[str], fault: object
    ) -> None:
        proxy.fault(fault)
        with pytest.raises(ProtocolError) as caught:
            client.request("PUT", proxy.origin + "/a", body=b"x")
        cause = caught.value.args[1]
        resets = isinstance(fault, Reset) or getattr(fault, "reset", False)
        if isinstance(fault, Garbage):
            assert isinstance(cause, http.client.BadStatusLine)
        elif resets:
            assert type(cause) is ConnectionResetError
        else:
            assert type(cause) is http.client.RemoteDisconnected
        assert stored == (["PUT /a"] if isinstance(fault, LoseAnswer) else [])
        assert client.request("GET", proxy.origin).status == 200

    def test_hang(self, proxy: FaultProxy, client: urllib3.PoolManager, stored: list[str]) -> None:
        proxy.fault(Hang())
        with pytest.raises(ReadTimeoutError):
            client.request("GET", proxy.origin, timeout=0.5)
        assert stored == []

    def test_half_an_answer(self, proxy: FaultProxy, client: urllib3.PoolManager, stored: list[str]) -> None:
        proxy.fault(Truncate(after_bytes=4))
        with pytest.raises(ProtocolError, match="4 bytes read"):
            client.request("GET", proxy.origin + "/a")
        proxy.fault(Truncate(after_bytes=4, hang=True))
        with pytest.raises(ReadTimeoutError):
            client.request("GET", proxy.origin + "/a", timeout=0.5)
        assert stored == ["GET /a"] * 2

    def test_an_answer_that_comes_twice(self, proxy: FaultProxy, stored: list[str]) -> None:
        proxy.fault(Twice())
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
            connection.sendall(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n")
            answers = b"".join(iter(lambda: connection.recv(1000), b""))
        assert answers.count(b"HTTP/1.1 200") == answers.count(b"GET /a 0") == 2
        assert stored == ["GET /a"]

    def test_an_answer_of_ones_own(
        self, proxy: FaultProxy, client: urllib3.PoolManager, stored: list[str]
    ) -> None:
        proxy.fault(Answer(429, {"error": "busy"}, {"Retry-After": "1"}))
        busy = client.request("PUT", proxy.origin, body=b"x")
        assert (busy.status, busy.json(), busy.headers["Retry-After"]) == (429, {"error": "busy"}, "1")
        assert stored == []
        proxy.fault(Answer(504, stored=True))
        assert client.request("PUT", proxy.origin + "/a", body=b"x").status == 504
        assert stored == ["PUT /a"]
        proxy.fault(error_page(200))
        page = client.request("GET", proxy.origin)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")

    def test_other_headers(self, proxy: FaultProxy, client: urllib3.PoolManager) -> None:
        date = "Thu, 01 Jan 1970 00:00:00 GMT"
        proxy.fault(Headers({"date": date}))
        answer = client.request("GET", proxy.origin + "/a")
        assert answer.headers.getlist("Date") == [date]
        assert answer.data == b"GET /a 0"

    def test_refused_and_back_on_the_same_port(self, proxy: FaultProxy, client: urllib3.PoolManager) -> None:
        assert client.request("GET", proxy.origin).status == 200
        proxy.refuse()
        assert client.request("GET", proxy.origin).status == 200  # on the connection that it has
        proxy.cut()
        with pytest.raises((NewConnectionError, ProtocolError)):
            client.request("GET", proxy.origin)
        with pytest.raises(NewConnectionError):
            client.request("GET", proxy.origin)
        proxy.listen()
        assert client.request("GET", proxy.origin).status == 200

    @pytest.mark.parametrize("fault", [Drop(), Reset(), Hang()])
    def test_connections_that_come_to_nothing(
        self, proxy: FaultProxy, client: urllib3.PoolManager, fault: object
    ) -> None:
        rule = proxy.fault_on_connect(fault)
        with pytest.raises((NewConnectionError, ProtocolError, ReadTimeoutError)):
            client.request("GET", proxy.origin, timeout=0.5)
        assert rule.hits == 1
        assert client.request("GET", proxy.origin).status == 200

    def test_the_end_of_the_proxy_ends_what_hangs(self, origin: ThreadingHTTPServer) -> None:
        failed = []

        def ask(client: urllib3.PoolManager, url: str) -> None:
            try:
                client.request("GET", url)
            except HTTPError as error:
                failed.append(error)

        with urllib3.PoolManager(retries=False, timeout=60, maxsize=2) as client:
            with FaultProxy(f"http://127.0.0.1:{origin.server_port}") as proxy:
                proxy.fault(Hang())
                proxy.fault(Delay(60))
                threads = [threading.Thread(target=ask, args=(client, proxy.origin)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                while proxy.count() < 2:
                    time.sleep(0.01)
            for thread in threads:
                thread.join(5)
        assert len(failed) == 2


@pytest.mark.skipif(not certificates.has_openssl(), reason="needs the openssl command")
class TestTls:
    def test_one_who_trusts_the_certificate_is_served(
        self, origin: ThreadingHTTPServer, stored: list[str], tmp_path: Path
    ) -> None:
        certificate = certificates.make_certificate(tmp_path / "good")
        with FaultProxy(f"http://127.0.0.1:{origin.server_port}", certificate.context()) as proxy:
            assert proxy.origin.startswith("https:")
            with urllib3.PoolManager(ca_certs=str(certificate.trust), retries=False, timeout=5) as client:
                assert client.request("PUT", proxy.origin + "/a", body=b"x" * 100_000).status == 200
                proxy.fault(LoseAnswer(), "PUT")
                with pytest.raises(ProtocolError):
                    client.request("PUT", proxy.origin + "/b", body=b"x")
            assert stored == ["PUT /a", "PUT /b"]
            with urllib3.PoolManager(retries=False, timeout=5) as client, pytest.raises(HTTPError):
                client.request("GET", proxy.origin.replace("https", "http"))

    @pytest.mark.parametrize(
        ("made", "trusted", "complaint"),
        [
            ({}, False, "self.signed certificate"),
            ({"end": "20200202000000Z"}, True, "certificate has expired"),
            ({"start": "20980101000000Z"}, True, "certificate is not yet valid"),
            ({"host": "DNS:example.org"}, True, "IP address mismatch"),
        ],
    )
    def test_a_bad_certificate_is_refused(
        self,
        origin: ThreadingHTTPServer,
        stored: list[str],
        tmp_path: Path,
        made: dict[str, str],
        trusted: bool,
        complaint: str,
    ) -> None:
        certificate = certificates.make_certificate(tmp_path / "bad", **made)
        context = ssl.create_default_context(cafile=str(certificate.trust) if trusted else None)
        with (
            FaultProxy(f"http://127.0.0.1:{origin.server_port}", certificate.context()) as proxy,
            urllib3.PoolManager(ssl_context=context, retries=False, timeout=5) as client,
            pytest.raises(HTTPError, match=complaint),
        ):
            client.request("GET", proxy.origin)
        assert stored == []

    def test_https_where_the_server_speaks_http(self, proxy: FaultProxy, client: urllib3.PoolManager) -> None:
        with pytest.raises(HTTPError):
            client.request("GET", proxy.origin.replace("http", "https"))
