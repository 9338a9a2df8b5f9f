"""What a server answers, or that it does not, as one of our errors: with its name, and what to do.

What may pass by itself (no answer, 429, 5xx, a page of somebody else's in place of an answer that came before)
is `PoolUnavailable`; what repeating makes worse, as a wrong password, or cannot mend is `PoolRefused`.
"""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.exceptions import SSLError as Urllib3SSLError

from picas.errors import InvalidInput, PicasError, PoolError, PoolRefused, PoolUnavailable, TokenTooLarge
from picas.settings.credentials import without_login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.settings.credentials import Login

MAY_PASS = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that say to come back later."""

MAX_RETRY_AFTER_SECONDS = 600.0
"""A server that wants to be left alone for longer is asked again after this time all the same."""

SHOWN_BYTES = 80
"""How much is shown of an answer that is not the database's."""

_SERVER_LOG = "If it goes on, whoever runs the server finds the reason in its log."

_SPEAKS_TLS = "Does that port speak TLS? If not, write http:// for it."

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure", "UNKNOWN_PROTOCOL")
"""What OpenSSL, in its several versions, says of a server that answers its greeting with something else."""


class NotSent(PoolUnavailable):
    """The request did not get as far as the database: sending it again does nothing twice."""


# --- No answer ---------------------------------------------------------------------------------------


def no_answer(url: str, what: str, error: Exception, proxy: str | None, *, spoke: bool) -> PicasError:
    """The error for a request that got no whole answer.

    Args:
        url: the server.
        what: the request, such as ``GET /database``.
        error: urllib3's.
        proxy: the proxy on the way, if there is one.
        spoke: this server has answered as a database does before, so that its address is right.
    """
    reason = _innermost(error)
    if isinstance(reason, ProxyError):
        return _proxy_error(url, without_login(proxy or ""), str(reason.original_error))
    if isinstance(reason, (ssl.SSLError, Urllib3SSLError)):
        return _tls_error(url, str(reason), spoke=spoke)
    if isinstance(reason, (NewConnectionError, ConnectTimeoutError)):
        return _no_connection(url, reason)
    if isinstance(reason, ReadTimeoutError):
        if not spoke and url.startswith("https:"):
            # CouchDB's port without TLS takes a greeting for the beginning of a request, and waits for its end.
            return NotSent(f"no secure connection to {url}: it takes too long to answer", _SPEAKS_TLS)
        return PoolUnavailable(
            f"{url} takes too long to answer {what}",
            f"It is overloaded, stuck, or building an index of a large pool. {_SERVER_LOG}",
        )
    if isinstance(reason, RemoteDisconnected) or not isinstance(reason, (BadStatusLine, IncompleteRead)):
        advice = "" if spoke else "Is that its port, and does it speak http there, not https?"
        return PoolUnavailable(f"{url} gave no whole answer to {what} ({last_part(str(reason))})", advice)
    if isinstance(reason, IncompleteRead):
        return PoolUnavailable(f"{url} ended the connection in the middle of its answer to {what}")
    return _no_http(url, str(reason.args[0]), spoke=spoke)


def _innermost(error: BaseException) -> BaseException:
    """What lies under urllib3's wrapping."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return _innermost(error.reason)
    if isinstance(error, ProtocolError):
        inner = [part for part in error.args if isinstance(part, BaseException)]
        return _innermost(inner[0]) if inner else error
    return error


def _no_connection(url: str, reason: Exception) -> NotSent:
    if isinstance(reason, NameResolutionError):
        return NotSent(
            f"there is no server called {urlsplit(url).hostname}, or this machine cannot look up names",
            "Check the name in the address of the pool.",
        )
    if isinstance(reason, NewConnectionError):
        return NotSent(
            f"{url} cannot be reached ({last_part(str(reason))})",
            "Is the server running, are its name and port right, and is it reachable from this machine?",
        )
    return NotSent(
        f"{url} cannot be reached: nothing answers there",
        "Are its name and port right? It may be down, or a firewall on the way closed.",
    )


def _proxy_error(url: str, proxy: str, text: str) -> PicasError:
    """An error between us and the proxy, or one that the proxy has told us of."""
    if "Tunnel connection failed: 407" in text:
        return proxy_refusal(url, proxy)
    if "Tunnel connection failed: 4" in text:
        return PoolRefused(
            f"the proxy {proxy} does not let us through to {url} ({last_part(text)})",
            "If the server can be reached without it, put its name into NO_PROXY; else ask who runs the proxy.",
        )
    return NotSent(
        f"{url} cannot be reached by way of the proxy {proxy} ({last_part(text)})",
        "HTTP_PROXY and HTTPS_PROXY name the proxy, NO_PROXY the servers that need none.",
    )


def proxy_refusal(url: str, proxy: str) -> PoolRefused:
    """The error for a proxy that wants other credentials than it got."""
    return PoolRefused(
        f"the proxy {proxy} before {url} wants a user name and password (407)",
        "Write them into HTTPS_PROXY or HTTP_PROXY: http://user:password@host:port.",
    )


def _tls_error(url: str, text: str, *, spoke: bool) -> PicasError:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = text.rsplit("certificate verify failed:", maxsplit=1)[-1].split("(_ssl", maxsplit=1)[0]
        why = why.strip(" )")
        return PoolRefused(f"the certificate of {url} is not to be trusted: {why}", _tls_advice(url, why))
    if any(mark in text for mark in _NO_TLS):
        return PoolRefused(f"{url} does not speak TLS", "Write http:// for it, or give its TLS port.")
    return NotSent(f"no secure connection to {url} ({last_part(text)})", "" if spoke else _SPEAKS_TLS)


def _tls_advice(url: str, why: str) -> str:
    if "expired" in why or "not yet valid" in why:
        now = time.strftime("%Y-%m-%d %H:%M")
        return f"Is it {now}, as this machine's clock has it? Then whoever runs the server must renew it."
    if "mismatch" in why or "not valid for" in why:
        return f"It is for another server than {urlsplit(url).hostname}: check the name in the address of the pool."
    return "Give the certificate authority of your site, a PEM file, by --ca FILE."


def _no_http(url: str, line: str, *, spoke: bool) -> PicasError:
    if line.startswith(("\x15\x03", "\x16\x03")):  # RFC 8446, 5.1: an alert, or a handshake message
        return PoolRefused(f"{url} expects TLS", "Write https:// for it.")
    what = f"{url} answers with what is no HTTP: {line.strip()[:SHOWN_BYTES]!r}"
    if spoke:
        return PoolUnavailable(what)
    return PoolRefused(what, "Check the port: something else than CouchDB listens there.")


def last_part(text: str) -> str:
    """What is worth reading of an error of urllib3's, which begins with the object it happened to."""
    number = text.find("[Errno ")
    return text[number:] if number >= 0 else text.rpartition(">: ")[2].strip("() '\"") or text


# --- Answers that are not the database's -------------------------------------------------------------


def redirection(url: str, what: str, place: str, *, spoke: bool) -> PicasError:
    """The error for an answer that sends us elsewhere; see `no_answer`."""
    parts = urlsplit(without_login(place))
    # Neither a query nor a fragment: what a login page wants to know is nobody else's business.
    shown = f" to {parts.scheme}://{parts.netloc}{parts.path}" if parts.netloc else " elsewhere"
    advice = "A login page? Give the address at which CouchDB itself answers."
    if parts.scheme == "https" and parts.hostname == urlsplit(url).hostname and url.startswith("http:"):
        advice = "Write https:// for it."
    return (PoolUnavailable if spoke else PoolRefused)(f"{url} sends {what} on{shown}", advice)


def no_json(
    url: str, what: str, status: int, headers: Mapping[str, str], data: bytes, *, spoke: bool
) -> PicasError:
    """The error for an answer that is no JSON: something on the way has answered in the database's place.

    Args:
        data: the answer; for the rest see `no_answer`.
    """
    if b"HTTPS port" in data:  # nginx: "The plain HTTP request was sent to HTTPS port"
        return PoolRefused(f"{url} expects TLS", "Write https:// for it.")
    if data.lstrip().startswith(b"<"):
        message = f"{url} answered {status} to {what} with a web page: {_title(data)}"
        advice = (
            "A proxy or a login page answers in place of CouchDB: check the address, its port and path, and "
            "this machine's proxy settings."
        )
        if spoke:
            advice = f"A proxy answers in place of CouchDB, which may be down or restarting. {_SERVER_LOG}"
    else:
        message = f"{url} answered {status} to {what} with what is no JSON: {_shown(data)}"
        advice = "Is it a CouchDB? Check the address, its port and path."
    if status == 413:
        return TokenTooLarge(message, "A proxy before the server takes no more in one request.")
    if spoke or status in MAY_PASS:
        return PoolUnavailable(message, advice, after=retry_after(headers))
    return PoolRefused(message, advice)


def misshapen(url: str, what: str, status: int, *, known: bool) -> PoolError:
    """The error for an answer that is JSON, and not what the database answers to such a question.

    Args:
        known: this server has answered as a database does before.
    """
    if known:
        return PoolUnavailable(
            f"{url} answered {status} to {what} with something else than CouchDB does",
            "Does something on the way answer in its place?",
        )
    return PoolRefused(
        f"what answers at {url} to {what} is no CouchDB", "Check the address of the pool, its port and path."
    )


def _title(data: bytes) -> str:
    """A page's title, else its beginning."""
    title = data[:4096].partition(b"<title>")[2].partition(b"</title>")[0]
    return _shown(title.strip() or data)


def _shown(data: bytes) -> str:
    return repr(data[:SHOWN_BYTES].decode("utf-8", "replace").strip())


# --- Answers that are no success ---------------------------------------------------------------------


def refusal(
    url: str, what: str, status: int, headers: Mapping[str, str], value: Any, login: Login | None
) -> PicasError:
    """The error for an answer of the database's that is no success.

    Args:
        url: the server.
        what: the request, such as ``GET /database``.
        value: the JSON that came with it.
        login: who asked.
    """
    said = value if isinstance(value, dict) else {}
    error, reason = str(said.get("error") or ""), str(said.get("reason") or "")
    message = f"{url} answered {status} to {what}" + (f": {reason or error}" if reason or error else "")
    if status == 401 or (status == 400 and what.startswith("GET") and login and not login.username):
        cause = "Check name and password; after five wrong tries the server locks you out."
        if login is not None and not login.username:
            cause = "Check the token; it may have run out."
        return PoolRefused(message, f"You are {_who(login)}. {cause}")
    if status == 403:
        return PoolRefused(message, f"You are {_who(login)}. {_of_rights(reason)}")
    if status == 404 or error == "illegal_database_name":
        return PoolRefused(message, "Check the name of the database in the URL.")
    if status == 400 or (status == 500 and reason == "badarith"):
        # A document that JSON allows and CouchDB does not: half a surrogate pair, a number without end,
        # a field that begins with "_".
        return InvalidInput(message, "The database does not take this document.")
    if status == 413:
        return _too_large(url, error, reason)
    if status in MAY_PASS:
        return PoolUnavailable(message, _what_to_do(status, error), after=retry_after(headers))
    return PoolError(message, _SERVER_LOG)


def _of_rights(reason: str) -> str:
    """What to do about a 403, by what CouchDB says: its words have been the same for years."""
    if "not allowed to access" in reason:
        return "Ask whoever runs the database to make you a member of it."
    if "locked" in reason:
        return "You are locked out for five minutes. Correct the password before you try again."
    return "You lack the right, or are locked out for five minutes after wrong tries."


def _too_large(url: str, error: str, reason: str) -> TokenTooLarge:
    """The error for a 413: CouchDB tells whether it is an attachment, a document or all of the request."""
    advice = "Whoever runs the server can raise its limit: [couchdb] max_attachment_size, max_document_size."
    if error == "attachment_too_large":
        return TokenTooLarge(f"{url} takes no file as large as {reason} (413)", advice, reason)
    what = "document" if error == "document_too_large" else "request"
    return TokenTooLarge(f"{url} takes no {what} as large as this (413)", advice)


def _what_to_do(status: int, error: str) -> str:
    if status == 429:
        return "It has too much to do at the moment."
    if error in ("os_process_error", "timeout"):
        return (
            "Its JavaScript failed: a map function in a design document never ends, or a document is nested too "
            "deep for it."
        )
    return _SERVER_LOG


def retry_after(headers: Mapping[str, str]) -> float:
    """How many seconds an answer asks us to wait; 0 where it does not.

    Source: RFC 9110, 10.2.3: a number of seconds, or a date.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


def _who(login: Login | None) -> str:
    if login is None:
        return "nobody (no user name was given)"
    source = f" from {login.source}" if login.source else ""
    if not login.username:
        return f"the bearer of the token{source}"
    return f"user {login.username}" + (f", with the password{source}" if source else "")
