"""Requests to a CouchDB server: the one place in PiCaS that speaks HTTP.

Every answer that is no success becomes one of our errors here, with the server's name and what to do. What
may pass by itself (no answer, 429, 5xx) is `PoolUnavailable`; what repeating makes worse (a wrong password
locks the account and the address out after five tries) is `PoolRefused`.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, NewConnectionError
from urllib3.exceptions import SSLError as Urllib3SSLError

from picas._version import __version__
from picas.errors import (
    ConfigError,
    InvalidInput,
    PicasError,
    PoolError,
    PoolRefused,
    PoolUnavailable,
    TokenTooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONNECT_SECONDS = 10.0
"""How long a connection may take to come about."""

ANSWER_SECONDS = 120.0
"""How long a server may think; a large view that is being built answers only when it is."""

CONNECTIONS = 8
"""Connections kept open for the threads of one pilot."""

_MAY_PASS = frozenset((408, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True)
class Login:
    """A name and a password; the password is in no message and no repr."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"


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
        ca: a file of certificates to trust beside the system's; only for https.
        verify: False to accept any certificate.

    Raises:
        ConfigError: the URL or the certificate file cannot be used.
    """

    def __init__(
        self, url: str, login: Login | None = None, *, ca: str | None = None, verify: bool = True
    ) -> None:
        self.url = url.rstrip("/")
        self._login = login
        headers = {"Accept": "application/json", "User-Agent": f"picas/{__version__}"}
        if login is not None:
            name_and_password = f"{login.username}:{login.password}"
            headers.update(urllib3.make_headers(basic_auth=name_and_password))
        options: dict[str, Any] = {}
        if urlsplit(url).scheme == "https":
            options["ssl_context"] = _tls(ca, verify=verify)
        self._headers = headers
        self._options = options
        self._http = self._open()
        self._ahead = 0.0  # how far the server's clock is ahead of ours, seconds
        self._ahead_known_to = 0.0  # and how exactly: it is somewhere in the so many seconds after that

    def _open(self) -> urllib3.PoolManager:
        self._pid = os.getpid()
        return urllib3.PoolManager(
            maxsize=CONNECTIONS,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
            **self._options,
        )

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._http.clear()

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
    ) -> Answer:
        """Send a request with a JSON body, if there is a value, and read the JSON that answers it.

        Args:
            path: below the server's URL, quoted.
            query: parameters; values that are no strings are sent as JSON.
            expect: statuses over 299 that are no error to the caller.

        Raises:
            PoolUnavailable: no answer, half an answer, or one that says to come back later. A write may or
                may not have happened.
            PoolRefused: an answer that will be the same the next time.
            TokenTooLarge: 413.
            PoolError: any other answer that is no success.
        """
        body = None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        response = self._send(method, path, query, body, {"Content-Type": "application/json"} if body else {})
        found = self._json(response, method, path)
        if response.status < 300 or response.status in expect:
            return Answer(response.status, found)
        raise self._error(method, path, response.status, found)

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
        if response.status < 300 or response.status == 409:
            return Answer(response.status, found)
        raise self._error("PUT", path, response.status, found)

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
            raise self._error("GET", path, response.status, self._json(response, "GET", path))
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
    ) -> urllib3.BaseHTTPResponse:
        target = f"{self.url}/{path}"
        if query:
            target += "?" + urlencode(
                {k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()}, quote_via=quote
            )
        if self._pid != os.getpid():
            self._http = self._open()  # a parent's connections are the parent's
        sent = time.time()
        try:
            response = self._http.request(
                method,
                target,
                body=body,
                headers={**self._headers, **headers},
                preload_content=not stream,
                redirect=False,
            )
        except LocationParseError as error:
            raise ConfigError(f"{self.url} is not the address of a server") from error
        except (HTTPError, OSError) as error:
            raise self._no_answer(method, path, error) from error
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
            return json.loads(data)
        except ValueError as error:
            what = f"{self.url} answered {response.status} to {method} /{path} with what is no JSON"
            if response.status in _MAY_PASS or (response.status < 300 and not data.lstrip().startswith(b"<")):
                raise PoolUnavailable(what, "It is tried again.") from error
            raise PoolRefused(
                f"{what}: {data[:80].decode('utf-8', 'replace')!r}",
                "Is it a CouchDB? A proxy or a login page may answer in its place; check the URL and the path.",
            ) from error

    # --- Errors ---

    def _no_answer(self, method: str, path: str, error: Exception) -> PicasError:
        reason: BaseException = error
        if isinstance(error, MaxRetryError) and error.reason is not None:
            reason = error.reason
        text = str(reason)
        if isinstance(reason, (ssl.SSLError, Urllib3SSLError)):
            return self._tls_error(text)
        if isinstance(reason, NewConnectionError):
            return PoolUnavailable(
                f"{self.url} cannot be reached ({_last_part(text)})",
                "Is the server running, are its name and port right, and is it reachable from this machine?",
            )
        return PoolUnavailable(f"{self.url} gave no whole answer to {method} /{path} ({_last_part(text)})")

    def _tls_error(self, text: str) -> PicasError:
        if "CERTIFICATE_VERIFY_FAILED" in text:
            why = (
                text.rsplit("certificate verify failed:", maxsplit=1)[-1]
                .split("(_ssl", maxsplit=1)[0]
                .strip(" )")
            )
            return PoolRefused(
                f"the certificate of {self.url} is not to be trusted: {why}",
                "Is the name in the URL the server's own? Give a certificate authority of your site by --ca FILE.",
            )
        if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text or "UNKNOWN_PROTOCOL" in text:
            return PoolRefused(
                f"{self.url} does not speak TLS", "Write http:// for it, or give its TLS port."
            )
        return PoolUnavailable(f"no secure connection to {self.url} ({_last_part(text)})")

    def _error(self, method: str, path: str, status: int, value: Any) -> PicasError:
        said = value if isinstance(value, dict) else {}
        what = f"{self.url} answered {status} to {method} /{path}"
        reason = said.get("reason") or said.get("error")
        if reason:
            what += f": {reason}"
        who = f"user {self._login.username}" if self._login else "nobody (no user name was given)"
        if status == 401:
            return PoolRefused(
                what,
                f"You are {who}. Check name and password; after five wrong tries the server locks you out.",
            )
        if status == 403:
            return PoolRefused(
                what,
                f"You are {who}. You lack the right, or are locked out for five minutes after wrong tries.",
            )
        if status == 404:
            return PoolRefused(what, "Check the name of the database in the URL.")
        if status == 400 or (status == 500 and said.get("reason") == "badarith"):
            # A document that JSON allows and CouchDB does not: half a surrogate pair, a number without end,
            # a field that begins with "_".
            return InvalidInput(what, "The database does not take this document.")
        if status == 413:
            return TokenTooLarge(what, "The document or the attachment is over the server's limit.")
        if status in _MAY_PASS:
            return PoolUnavailable(what)
        return PoolError(what)


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
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    prefix, _, database = parts.path.rstrip("/").rpartition("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or not database:
        raise ConfigError(
            f"'{_without_password(url)}' is not the address of a pool",
            "It is http(s)://host:port/database, with a path before the database if the server has one.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    server = f"{parts.scheme}://{host}{f':{port}' if port else ''}{prefix}"
    login = Login(unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return server, unquote(database), login


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _tls(ca: str | None, *, verify: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if ca is not None:
            context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates in {ca} cannot be read: {error}", "It must be a PEM file."
        ) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _last_part(text: str) -> str:
    """What is worth reading of an error of urllib3's, which begins with the object it happened to."""
    number = text.find("[Errno ")
    return text[number:] if number >= 0 else text.rpartition(">: ")[2].strip("() '\"") or text
