"""Connections to a server: TLS, certificates and proxies. What is sent over them is `picas.stores.couch.http`'s."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.exceptions import InsecureRequestWarning

from picas.errors import ConfigError
from picas.settings.credentials import without_login
from picas.stores.couch.session import basic_value

if TYPE_CHECKING:
    from picas.settings.config import Access


def make_connections(url: str, access: Access, **options: Any) -> urllib3.PoolManager:
    """The connections to a server, by way of a proxy where the environment names one.

    Args:
        options: for urllib3's pool manager.

    Raises:
        ConfigError: a certificate file or the proxy's address cannot be used.
    """
    address, proxied = proxy_options(url)
    if urlsplit(url).scheme == "https":
        options["ssl_context"] = tls_context(access)
        if access.insecure:  # said once, by whoever allowed it, rather than in each request
            urllib3.disable_warnings(InsecureRequestWarning)
    if address is None:
        return urllib3.PoolManager(**options)
    return urllib3.ProxyManager(address, **proxied, **options)


def proxy_options(url: str) -> tuple[str | None, dict[str, Any]]:
    """The address of the proxy to a server, None for the direct way, and what urllib3 is to be told of it.

    Raises:
        ConfigError: it cannot be used.
    """
    proxy = proxy_of(url)
    if proxy is None:
        return None, {}
    address = without_login(proxy)
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"the proxy {address} cannot be used", "HTTP_PROXY and HTTPS_PROXY name one as http://host:port."
        )
    headers = {}
    if parts.username:
        login = basic_value(unquote(parts.username), unquote(parts.password or ""))
        headers = {"Proxy-Authorization": login}
    return address, {"proxy_headers": headers}


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a server, with its credentials; None for the direct way.

    ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in capitals or not, as other programs
    read them. A server on this machine is no exception unless ``NO_PROXY`` makes it one.
    """
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    host = parts.hostname or ""
    netloc = parts.netloc.rpartition("@")[2]
    if any(proxy_bypass(name) for name in (host, netloc, f"[{host}]")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def tls_context(access: Access) -> ssl.SSLContext:
    """How certificates are checked, and which one is shown.

    Raises:
        ConfigError: a file cannot be read.
    """
    file = folder = None
    if access.ca is not None:
        file, folder = (None, access.ca) if Path(access.ca).is_dir() else (access.ca, None)
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates in {access.ca} cannot be read: {error}", "It must be a PEM file."
        ) from error
    if access.ca is not None:
        # Home-made authorities lack extensions that Python 3.13 demands, and a server's own certificate
        # may be given in place of its authority's.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.client_cert is not None:
        try:
            context.load_cert_chain(access.client_cert, access.client_key, _no_password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the client certificate {access.client_cert} cannot be used: {error}",
                "Certificate and key must be PEM files that belong together, the key without a pass phrase.",
            ) from error
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal for the pass phrase of a key, in the middle of a batch job."""
    return ""
