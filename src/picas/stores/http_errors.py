"""What a server answers, or that it does not, as one of our errors: with its name, and what to do."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import MaxRetryError, NewConnectionError, ProxyError
from urllib3.exceptions import SSLError as Urllib3SSLError

from picas.credentials import without_login
from picas.errors import InvalidInput, PicasError, PoolError, PoolRefused, PoolUnavailable, TokenTooLarge

if TYPE_CHECKING:
    from picas.credentials import Login

MAY_PASS = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that say to come back later."""


# --- No answer ---------------------------------------------------------------------------------------


def no_answer(url: str, what: str, error: Exception, proxy: str | None) -> PicasError:
    """The error for a request that got no whole answer.

    Args:
        url: the server.
        what: the request, such as ``GET /database``.
        error: urllib3's.
        proxy: the proxy on the way, if there is one.
    """
    reason: BaseException = error
    if isinstance(reason, MaxRetryError) and reason.reason is not None:
        reason = reason.reason
    if isinstance(reason, ProxyError):
        return _proxy_error(url, without_login(proxy or ""), str(reason.original_error))
    text = str(reason)
    if isinstance(reason, (ssl.SSLError, Urllib3SSLError)):
        return _tls_error(url, text)
    if isinstance(reason, NewConnectionError):
        return PoolUnavailable(
            f"{url} cannot be reached ({last_part(text)})",
            "Is the server running, are its name and port right, and is it reachable from this machine?",
        )
    return PoolUnavailable(f"{url} gave no whole answer to {what} ({last_part(text)})")


def _proxy_error(url: str, proxy: str, text: str) -> PicasError:
    """An error between us and the proxy, or one that the proxy has told us of."""
    if "Tunnel connection failed: 407" in text:
        return proxy_refusal(url, proxy)
    if "Tunnel connection failed: 4" in text:
        return PoolRefused(
            f"the proxy {proxy} does not let us through to {url} ({last_part(text)})",
            "If the server can be reached without it, put its name into NO_PROXY; else ask who runs the proxy.",
        )
    return PoolUnavailable(
        f"{url} cannot be reached by way of the proxy {proxy} ({last_part(text)})",
        "HTTP_PROXY and HTTPS_PROXY name the proxy, NO_PROXY the servers that need none.",
    )


def proxy_refusal(url: str, proxy: str) -> PoolRefused:
    """The error for a proxy that wants other credentials than it got."""
    return PoolRefused(
        f"the proxy {proxy} on the way to {url} wants a user name and password (407)",
        "Write them into HTTPS_PROXY or HTTP_PROXY: http://user:password@host:port.",
    )


def _tls_error(url: str, text: str) -> PicasError:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = (
            text.rsplit("certificate verify failed:", maxsplit=1)[-1]
            .split("(_ssl", maxsplit=1)[0]
            .strip(" )")
        )
        return PoolRefused(
            f"the certificate of {url} is not to be trusted: {why}",
            "Is the name in the URL the server's own? Give a certificate authority of your site by --ca FILE.",
        )
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text or "UNKNOWN_PROTOCOL" in text:
        return PoolRefused(f"{url} does not speak TLS", "Write http:// for it, or give its TLS port.")
    return PoolUnavailable(f"no secure connection to {url} ({last_part(text)})")


def last_part(text: str) -> str:
    """What is worth reading of an error of urllib3's, which begins with the object it happened to."""
    number = text.find("[Errno ")
    return text[number:] if number >= 0 else text.rpartition(">: ")[2].strip("() '\"") or text


# --- Answers that are no success ---------------------------------------------------------------------


def refusal(url: str, what: str, status: int, value: Any, login: Login | None) -> PicasError:
    """The error for an answer that is no success.

    Args:
        url: the server.
        what: the request, such as ``GET /database``.
        value: the JSON that came with it.
        login: who asked.
    """
    said = value if isinstance(value, dict) else {}
    message = f"{url} answered {status} to {what}"
    reason = said.get("reason") or said.get("error")
    if reason:
        message += f": {reason}"
    if status == 401:
        return PoolRefused(
            message,
            f"You are {_who(login)}. Check name and password; after five wrong tries the server locks you out.",
        )
    if status == 403:
        return PoolRefused(
            message,
            f"You are {_who(login)}. You lack the right, or are locked out for five minutes after wrong tries.",
        )
    if status == 404:
        return PoolRefused(message, "Check the name of the database in the URL.")
    if status == 400 and said.get("error") == "illegal_database_name":
        return PoolRefused(message, "Check the name of the database in the URL.")
    if status == 400 or (status == 500 and said.get("reason") == "badarith"):
        # A document that JSON allows and CouchDB does not: half a surrogate pair, a number without end,
        # a field that begins with "_".
        return InvalidInput(message, "The database does not take this document.")
    if status == 413:
        return TokenTooLarge(message, "The document or the attachment is over the server's limit.")
    if status in MAY_PASS:
        return PoolUnavailable(message)
    return PoolError(message)


def _who(login: Login | None) -> str:
    if login is None:
        return "nobody (no user name was given)"
    source = f", with the password from {login.source}" if login.source else ""
    return f"user {login.username or 'of a token'}{source}"
