"""How requests say who asks: a password or a bearer token each time, or the cookie of a session.

The protocol is CouchDB's: https://docs.couchdb.org/en/stable/api/server/authn.html
"""

from __future__ import annotations

import base64
import threading
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Callable, Protocol

from picas.errors import ConfigError, PoolRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from picas.settings.credentials import Login

COOKIE = "AuthSession"


class Authentication(Protocol):
    """What is sent along to say who asks."""

    def headers(self) -> dict[str, str]:
        """The headers of the next request."""

    def heed(self, cookies: Iterable[str]) -> None:
        """Take note of the ``Set-Cookie`` headers of an answer."""

    def renew(self, used: dict[str, str]) -> bool:
        """After a 401 to a request with these headers: whether there are others now, worth one more try."""


class Constant:
    """The same headers each time."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def headers(self) -> dict[str, str]:
        return self._headers

    def heed(self, cookies: Iterable[str]) -> None:
        pass

    def renew(self, used: dict[str, str]) -> bool:
        return False


class Session:
    """A cookie: got with the password once, renewed by the server, got again when it has run out.

    Args:
        log_in: sends the password; the ``Set-Cookie`` headers of the answer. It raises `PoolRefused` if the
            server does not know user and password.
    """

    def __init__(self, log_in: Callable[[], Iterable[str]]) -> None:
        self._log_in = log_in
        self._cookie = ""
        self._lock = threading.Lock()

    def headers(self) -> dict[str, str]:
        if not self._cookie:
            self.renew({})
        return {"Cookie": self._cookie}

    def heed(self, cookies: Iterable[str]) -> None:
        for text in cookies:
            try:
                found = SimpleCookie(text).get(COOKIE)
            except CookieError:
                continue
            if found is not None and found.value:
                self._cookie = f"{COOKIE}={found.value}"

    def renew(self, used: dict[str, str]) -> bool:
        with self._lock:  # of several threads whose cookie has run out, one logs in
            if self._cookie == used.get("Cookie", ""):
                self._cookie = ""
                self.heed(self._log_in())
                if not self._cookie:
                    raise PoolRefused(
                        "the server took the password but gave no session",
                        'A proxy may hold back its cookies: set auth = "basic" in place of "session".',
                    )
        return True


def basic(login: Login) -> Constant:
    """Name and password in each request.

    Raises:
        ConfigError: the name has a colon, which would end it.
    """
    if ":" in login.username:
        raise ConfigError(
            f"the user name {login.username} has a colon in it", 'Such a name needs auth = "session".'
        )
    return Constant({"Authorization": basic_value(login.username, login.password)})


def basic_value(username: str, password: str) -> str:
    """What basic authentication (RFC 7617) sends, in UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def bearer(login: Login) -> Constant:
    """A token, such as a JWT, in each request: it takes the place of the password."""
    return Constant({"Authorization": f"Bearer {login.password}"})
