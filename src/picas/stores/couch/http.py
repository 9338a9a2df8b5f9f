"""Requests to a CouchDB server: the one place in PiCaS that speaks HTTP.

Every answer that is no success becomes one of our errors here, with the server's name and what to do. What
may pass by itself (no answer, 429, 5xx) is `PoolUnavailable`; what repeating makes worse (a wrong password
locks the account and the address out after five tries) is `PoolRefused`.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, LocationParseError

from picas._version import __version__
from picas.errors import ConfigError, PicasError, PoolRefused, PoolUnavailable
from picas.settings.config import Access
from picas.settings.credentials import Login, split_login, without_login
from picas.stores.couch import session
from picas.stores.couch.http_errors import misshapen, no_answer, no_json, proxy_refusal, redirection, refusal
from picas.stores.couch.patience import FIRST_SECONDS, persist
from picas.stores.couch.shapes import fits
from picas.stores.couch.transport import make_connections, proxy_of
from picas.text import deepjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONNECT_SECONDS = 10.0
"""How long a connection may take to come about."""

ANSWER_SECONDS = 120.0
"""How long a server may think; a large view that is being built answers only when it is."""

LOST_SECONDS = 30
"""A connection on which the server's machine confirms nothing for so long is lost, however long it may think."""

CONNECTIONS = 8
"""Connections kept open for the threads of one pilot."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))

_READS = re.compile(r"/_(?:all_docs|find|changes|bulk_get|view/[^/]+)$")
"""Paths at which a POST changes nothing."""


@dataclass(frozen=True)
class Answer:
    """What the server said: the status and the JSON it came with."""

    status: int
    value: Any


class Server:
    """One database server.

    Args:
        url: ``http(s)://host:port`` with an optional path prefix, without credentials.
        login: who asks; None for nobody.
        access: how to say who asks, and how certificates are checked.
        patience: for how many seconds a request that finds no server is repeated; see `picas.stores.couch.patience`.

    Raises:
        ConfigError: the URL, a certificate file or the environment's proxy cannot be used.
    """

    def __init__(
        self, url: str, login: Login | None = None, access: Access | None = None, patience: float = 0.0
    ) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self.login = login
        self._access = access or Access()
        self._headers = {"Accept": "application/json", "User-Agent": f"picas/{__version__}"}
        self._authentication = self._authenticate_by(self._access.auth)
        self._refused: PoolRefused | None = None
        self._spoke = False  # it has answered as a database does: the address is right
        self._answered = False  # and once to what it was asked
        self._http = self._open()
        self._ahead = 0.0  # how far the server's clock is ahead of ours, seconds
        self._ahead_known_to = 0.0  # and how exactly: it is somewhere in the so many seconds after that

    def _open(self) -> urllib3.PoolManager:
        self._pid = os.getpid()
        return make_connections(
            self.url,
            self._access,
            maxsize=CONNECTIONS,
            retries=False,
            timeout=_timeout(ANSWER_SECONDS),
            socket_options=_socket_options(),
        )

    def _authenticate_by(self, way: str) -> session.Authentication:
        if self.login is None:
            return session.Constant({})
        if way == "session":
            return session.Session(self._log_in)
        return session.bearer(self.login) if way == "jwt" else session.basic(self.login)

    def _log_in(self) -> list[str]:
        """Ask for a session; the cookies that come with it."""
        assert self.login is not None
        body = json.dumps({"name": self.login.username, "password": self.login.password}).encode()
        headers = {**self._headers, "Content-Type": "application/json"}
        response = self._exchange("POST", f"{self.url}/_session", body, headers)
        found = self._json(response, "POST", "_session")
        if response.status >= 300:
            raise self._error("POST", "_session", response, found)
        return response.headers.getlist("Set-Cookie")

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._http.clear()

    @property
    def is_refused(self) -> bool:
        """Whether the server has refused the login, so that no request of ours is sent any more."""
        return self._refused is not None

    def now(self) -> float:
        """The time by the server's clock, Unix seconds, as well as whole seconds in its answers tell it."""
        return time.time() + self._ahead + self._ahead_known_to / 2

    def request(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        expect: Iterable[int] = (),
        seconds: float | None = None,
    ) -> Answer:
        """Send a request with a JSON body, if there is a value, and read the JSON that answers it.

        Args:
            value: what the body says; bytes are JSON already.
            path: below the server's URL, quoted.
            query: parameters; values that are no strings are sent as JSON.
            expect: statuses over 299 that are no error to the caller.
            seconds: how long the server may think, for a request that is then not repeated.

        Raises:
            PoolUnavailable: no answer, half an answer, or one that says to come back later. A write may or
                may not have happened.
            PoolRefused: an answer that will be the same the next time.
            TokenTooLarge: 413.
            PoolError: any other answer that is no success.
        """
        body = (
            value
            if value is None or isinstance(value, bytes)
            else json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        )
        headers = {"Content-Type": "application/json"} if body else {}

        def ask() -> Answer:
            response = self._send(method, path, query, body, headers, seconds=seconds or ANSWER_SECONDS)
            found = self._json(response, method, path)
            if response.status < 300:
                return self._answer(method, path, response.status, found)
            if response.status in expect:
                return Answer(response.status, found)
            raise self._error(method, path, response, found)

        if seconds is not None:
            return ask()
        reads = method == "GET" or _READS.search(path) is not None
        return persist(ask, self._patience_left, repeatable=reads)

    def _answer(self, method: str, path: str, status: int, found: Any) -> Answer:
        if not fits(method, path, found):
            what = f"{method} /{path.partition('?')[0]}"
            raise misshapen(self.url, what, status, known=self._answered)
        self._answered = True
        return Answer(status, found)

    def _patience_left(self) -> float:
        return self.patience if self._spoke else min(self.patience, FIRST_SECONDS)

    def upload(self, path: str, chunks: Iterator[bytes], length: int, content_type: str) -> Answer:
        """PUT bytes that are never in memory as a whole; 409 is no error here.

        Raises:
            as `request`, and what iterating over the chunks raises.
        """
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        body = _Body(chunks)
        try:
            response = self._send("PUT", path, None, body, headers)
        except PoolUnavailable:
            if body.error is not None:
                raise body.error from None
            raise
        found = self._json(response, "PUT", path)
        if response.status < 300:
            return self._answer("PUT", path, response.status, found)
        if response.status == 409:
            return Answer(response.status, found)
        raise self._error("PUT", path, response, found)

    def download(self, path: str, chunk: int) -> Iterator[bytes] | None:
        """GET bytes piece by piece; None if there is nothing at that path.

        Raises:
            as `request`; also while iterating.
        """
        response = self._send("GET", path, None, None, {"Accept": "*/*"}, stream=True)
        if response.status == 404:
            response.drain_conn()
            return None
        if response.status >= 300:
            raise self._error("GET", path, response, self._json(response, "GET", path))
        return self._pieces(response, path, chunk)

    def _pieces(self, response: urllib3.BaseHTTPResponse, path: str, chunk: int) -> Iterator[bytes]:
        try:
            yield from response.stream(chunk, decode_content=True)
        except (HTTPError, OSError) as error:
            raise self._no_answer("GET", path, error) from error
        finally:
            response.release_conn()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes | _Body | None,
        headers: dict[str, str],
        *,
        stream: bool = False,
        seconds: float = ANSWER_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        target = f"{self.url}/{path}"
        if query:
            target += "?" + urlencode(
                {k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()}, quote_via=quote
            )
        if self._refused is not None:
            raise PoolRefused(self._refused.message, self._refused.advice)
        who = self._authentication.headers()
        options = {"preload_content": not stream, "timeout": _timeout(seconds)}
        response = self._exchange(method, target, body, {**self._headers, **who, **headers}, options)
        if response.status == 401 and self._authentication.renew(who):
            if isinstance(body, _Body):  # what was sent of it is gone
                raise PoolUnavailable(f"the session with {self.url} had run out", "It is tried again.")
            response.drain_conn()
            who = self._authentication.headers()
            response = self._exchange(method, target, body, {**self._headers, **who, **headers}, options)
        self._authentication.heed(response.headers.getlist("Set-Cookie"))
        return response

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | _Body | None,
        headers: dict[str, str],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> urllib3.BaseHTTPResponse:
        if self._pid != os.getpid():
            self._http = self._open()  # a parent's connections are the parent's
        sent = time.time()
        try:
            response = self._http.request(
                method, target, body=body, headers=headers, redirect=False, **options
            )
        except LocationParseError as error:
            raise ConfigError(f"{self.url} is not the address of a server") from error
        except (HTTPError, OSError) as error:
            path = target[len(self.url) + 1 :].partition("?")[0]
            raise self._no_answer(method, path, error) from error
        if response.status in _REDIRECTS:
            place = response.headers.get("Location", "")
            path = target[len(self.url) + 1 :].partition("?")[0]
            raise redirection(self.url, f"{method} /{path}", place, spoke=self._spoke)
        if response.status == 407:
            raise proxy_refusal(self.url, without_login(proxy_of(self.url) or "on the way"))
        self._read_clock(response.headers.get("Date"), sent, time.time())
        return response

    def _read_clock(self, date: str | None, sent: float, received: float) -> None:
        """Narrow down how far the server's clock is ahead: its Date is whole seconds, cut off."""
        try:
            told = parsedate_to_datetime(date).timestamp() if date else None
        except (TypeError, ValueError):
            told = None
        if told is None:
            return
        low, high = told - received, told + 1.0 - sent
        known_low, known_high = self._ahead, self._ahead + self._ahead_known_to
        if self._ahead_known_to and low <= known_high and high >= known_low:
            low, high = max(low, known_low), min(high, known_high)
        self._ahead, self._ahead_known_to = low, max(high - low, 1e-3)

    def _json(self, response: urllib3.BaseHTTPResponse, method: str, path: str) -> Any:
        data = response.data
        if not data:
            return None
        try:
            value = deepjson.loads(data)
        except ValueError as error:
            if response.status == 401:
                return None  # a web server before the database asks for the password: its page says no more
            what = f"{method} /{path}"
            raise no_json(
                self.url, what, response.status, response.headers, data, spoke=self._spoke
            ) from error
        self._spoke = True
        return value

    def _no_answer(self, method: str, path: str, error: Exception) -> PicasError:
        return no_answer(self.url, f"{method} /{path}", error, proxy_of(self.url), spoke=self._spoke)

    def _error(self, method: str, path: str, response: urllib3.BaseHTTPResponse, value: Any) -> PicasError:
        status = response.status
        error = refusal(self.url, f"{method} /{path}", status, response.headers, value, self.login)
        # A login that was refused is not sent again: a few tries lock its user and this address out.
        if status == 401 and self.login is not None and isinstance(error, PoolRefused):
            self._refused = error
        return error


def _timeout(seconds: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)


def _socket_options() -> list[tuple[int, int, int]]:
    """A connection whose other end is gone, or forgotten by a firewall on the way, is noticed in half a minute."""
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", LOST_SECONDS // 2),
        ("TCP_KEEPINTVL", LOST_SECONDS // 6),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", LOST_SECONDS * 1000),  # milliseconds; what was sent and not acknowledged, tcp(7)
    ):
        if hasattr(socket, name):  # not on every system
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def segment(name: str) -> str:
    """A name as one part of a path: an id, or an attachment's name, which may be anything."""
    quoted = quote(name, safe="")
    # These mean a place elsewhere (RFC 3986, 5.2.4), and the client itself would go there.
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


class _Body:
    """Chunks for urllib3, which would take an error of ours for one of the connection's."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except Exception as error:
            self.error = error
            raise


def split_url(url: str) -> tuple[str, str, Login | None]:
    """The server's URL, the database's name and the login in a pool's URL.

    Raises:
        ConfigError: it is not ``http(s)://[user:password@]host[:port][/prefix]/database``.
    """
    bare, username, password = split_login(url)
    try:
        parts = urlsplit(bare)
        port = parts.port
    except ValueError:  # no number after the colon, or half a bracket
        parts, port = urlsplit(""), None
    prefix, _, database = parts.path.rstrip("/").rpartition("/")
    is_web = parts.scheme in ("http", "https")
    if not is_web or not parts.hostname or not database or parts.query or parts.fragment:
        raise ConfigError(
            f"'{without_login(url)}' is not the address of a pool",
            "It is http(s)://host:port/database, with a path before the database if the server has one.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    server = f"{parts.scheme}://{host}{f':{port}' if port else ''}{prefix}"
    return server, unquote(database), Login(username, password or "", "the URL") if username else None
