"""What servers are told of who asks, and how they are trusted.

Credentials are looked for where other tools look: a bearer token in ``BEARER_TOKEN``, or in the file that
``BEARER_TOKEN_FILE`` names (WLCG Bearer Token Discovery); a proxy certificate in the file that ``X509_USER_PROXY`` names; a
password in the URL or in ``~/.netrc``. Only the sites that the pilot's owner has named get them, but for what stands in
a URL itself. Certificate authorities are the system's, those of ``SSL_CERT_FILE``, and the grid's in ``X509_CERT_DIR``.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import urllib3

from picas.errors import ConfigError
from picas.settings.credentials import from_netrc, split_login
from picas.stores.couch.session import basic_value
from picas.stores.couch.transport import proxy_options

if TYPE_CHECKING:
    from collections.abc import Mapping

GRID_AUTHORITIES = "/etc/grid-security/certificates"
"""Where sites of the grid have the certificates of its authorities, if nothing else is said."""

BLOCK_BYTES = 1 << 18
"""How much of a file is sent at a time."""


class Access:
    """The credentials of this process's user, and connections that are kept for the next file.

    Args:
        environ: where they are named.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._pools: dict[tuple[bool, str | None], urllib3.PoolManager] = {}

    def plain(self, url: str) -> str:
        """The URL as it is asked for: a login in it goes into a header."""
        return urlunsplit(urlsplit(split_login(url)[0])._replace(fragment=""))

    def headers(self, url: str, *, known: bool) -> dict[str, str]:
        """What says who asks.

        Args:
            known: the server is one that may be told.

        Raises:
            ConfigError: a file of credentials cannot be used.
        """
        server, username, password = split_login(url)
        if username:
            return {"Authorization": basic_value(username, password or "")}
        if not known:
            return {}
        token = self._bearer()
        if token:
            return {"Authorization": f"Bearer {token}"}
        login = from_netrc(server, None, self._environ)
        return {"Authorization": basic_value(login.username, login.password)} if login else {}

    def _bearer(self) -> str:
        token = self._environ.get("BEARER_TOKEN", "").strip()
        path = self._environ.get("BEARER_TOKEN_FILE", "")
        if token or not path:
            return token
        try:
            return Path(path).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file that BEARER_TOKEN_FILE names cannot be read: {error}") from error

    def connections(self, url: str, *, known: bool) -> urllib3.PoolManager:
        """Connections to a server, by way of a proxy where the environment names one.

        Raises:
            ConfigError: a certificate or a proxy cannot be used.
        """
        address, options = proxy_options(url)
        key = known, address
        if key not in self._pools:
            options["ssl_context"] = self._tls(known=known)
            options["blocksize"] = BLOCK_BYTES
            self._pools[key] = (
                urllib3.ProxyManager(address, **options) if address else urllib3.PoolManager(**options)
            )
        return self._pools[key]

    def _tls(self, *, known: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authorities = self._environ.get("X509_CERT_DIR") or GRID_AUTHORITIES
        if Path(authorities).is_dir():
            context.load_verify_locations(capath=authorities)
            # Some of the grid's authorities lack extensions that Python 3.13 demands.
            context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        proxy = self._environ.get("X509_USER_PROXY")
        if known and proxy:
            try:
                context.load_cert_chain(proxy)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"the certificate that X509_USER_PROXY names cannot be used: {error}", "Make a new one."
                ) from error
        return context
