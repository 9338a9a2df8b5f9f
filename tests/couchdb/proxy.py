"""A proxy on the loopback interface that does to chosen requests what bad networks and busy servers do.

    with FaultProxy(server.origin) as proxy:
        url = proxy.through(database)
        rule = proxy.fault(LoseAnswer(), method="POST", path="/_bulk_docs", count=2)
        ...
        assert rule.hits == 2
        assert proxy.count("POST", "/_bulk_docs") == 3

What can go wrong is in `faults`; what no rule is for, passes.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.couchdb.exchange import Exchange, Peer, Request
from tests.couchdb.faults import Fault, Pass
from tests.couchdb.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

_HOST = "127.0.0.1"

# The accepting thread looks this often whether it shall go on.
_POLL_SECONDS = 0.05


class Rule:
    """Which requests meet a fault, and how many did so far."""

    def __init__(
        self,
        fault: Fault,
        method: str | None,
        path: str | None,
        where: Callable[[Request], bool] | None,
        count: int | None,
        skip: int,
    ) -> None:
        self.fault = fault
        self.hits = 0
        self._method = method
        self._path = re.compile(path or "")
        self._where = where
        self._count = count
        self._skip = skip

    def takes(self, request: Request) -> bool:
        """Whether the fault is this request's; the caller has the lock."""
        if self._count is not None and self.hits >= self._count:
            return False
        if self._method not in {None, request.method} or not self._path.search(request.target):
            return False
        if self._where is not None and not self._where(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True


class FaultProxy:
    """Passes requests to one server, and has what it is told go wrong. Used as a context.

    Args:
        origin: the server, ``http://host:port``.
        tls: for clients that come by https; the server is asked by http all the same.
    """

    def __init__(self, origin: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(origin)
        assert parts.scheme == "http", "the proxy asks by http only"
        assert parts.hostname is not None
        self.upstream = (parts.hostname, parts.port or 80)
        self.port = free_port()
        self._tls = tls
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._on_connect: list[Rule] = []
        self._seen: list[tuple[str, str]] = []
        self._exchanges: set[Exchange] = set()
        self._threads: list[threading.Thread] = []
        self._listening = threading.Event()
        self._accepting: threading.Thread | None = None

    @property
    def origin(self) -> str:
        """The URL of the proxy, without credentials."""
        return f"{'https' if self._tls else 'http'}://{_HOST}:{self.port}"

    def through(self, url: str) -> str:
        """The same URL, credentials and path included, by way of the proxy."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        scheme, _, netloc = self.origin.partition("://")
        return parts._replace(scheme=scheme, netloc=login + at + netloc).geturl()

    # what goes wrong

    def fault(
        self,
        fault: Fault,
        method: str | None = None,
        path: str | None = None,
        *,
        where: Callable[[Request], bool] | None = None,
        count: int | None = 1,
        skip: int = 0,
    ) -> Rule:
        """From now on, have this happen to requests; the first rule that fits a request counts.

        Args:
            fault: what happens.
            method: ``"PUT"``; None for any.
            path: a regular expression that is found in the path and query; None for any.
            where: says yes or no to what method and path fit, e.g. by the body.
            count: to how many of them; None for all until `clear`.
            skip: how many of them pass before.
        """
        rule = Rule(fault, method, path, where, count, skip)
        with self._lock:
            self._rules.append(rule)
        return rule

    def fault_on_connect(self, fault: Fault, count: int | None = 1) -> Rule:
        """The same for connections that are accepted: before TLS and before a request (Drop, Reset, Hang)."""
        rule = Rule(fault, None, None, None, count, 0)
        with self._lock:
            self._on_connect.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules: everything passes."""
        with self._lock:
            self._rules.clear()
            self._on_connect.clear()

    def refuse(self) -> None:
        """Refuse connections, as where nothing listens; those that are open stay (see `cut`)."""
        self._listening.clear()
        if self._accepting is not None:
            self._accepting.join()
            self._accepting = None

    def listen(self) -> None:
        """Accept connections, again, on the same port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, self.port))
            listener.listen(512)
        except BaseException:
            listener.close()
            raise
        listener.settimeout(_POLL_SECONDS)
        self._listening.set()
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """End all open connections, wherever they are in a request."""
        with self._lock:
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.shut()

    # what was seen

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method, and path with query, of every request so far, in the order in which they came."""
        with self._lock:
            return list(self._seen)

    def count(self, method: str | None = None, path: str | None = None) -> int:
        """How many requests had this method and a path, with query, in which this expression is found."""
        return sum(
            method in {None, seen} and re.search(path or "", target) is not None
            for seen, target in self.requests
        )

    def forget(self) -> None:
        """Count from nothing."""
        with self._lock:
            self._seen.clear()

    # at work

    def __enter__(self) -> FaultProxy:
        self.listen()
        return self

    def __exit__(self, *exc: object) -> None:
        self.refuse()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while self._listening.is_set():
                try:
                    connection, _ = listener.accept()
                except socket.timeout:
                    continue
                connection.settimeout(None)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads = [t for t in self._threads if t.is_alive()] + [thread]
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # Bad networks raise all over here, and so does the end of the proxy: either ends the connection.
        with contextlib.suppress(OSError, ValueError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            rule = self._rule_for(Request("", "", {}, b""), on_connect=True)
            if rule is not None:
                with self._exchange(connection) as exchange:
                    rule.fault.happen(exchange)
                return
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            with self._exchange(connection) as exchange:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                while exchange.read_request() and self._deal_with(exchange):
                    pass

    @contextlib.contextmanager
    def _exchange(self, connection: socket.socket) -> Iterator[Exchange]:
        with contextlib.closing(Exchange(Peer(connection), self.upstream)) as exchange:
            with self._lock:
                self._exchanges.add(exchange)
            try:
                yield exchange
            finally:
                with self._lock:
                    self._exchanges.discard(exchange)

    def _deal_with(self, exchange: Exchange) -> bool:
        request = exchange.request
        with self._lock:
            self._seen.append((request.method, request.target))
        rule = self._rule_for(request)
        return (Pass() if rule is None else rule.fault).happen(exchange)

    def _rule_for(self, request: Request, *, on_connect: bool = False) -> Rule | None:
        with self._lock:
            rules = self._on_connect if on_connect else self._rules
            return next((rule for rule in rules if rule.takes(request)), None)
