"""Looking at the way to a server step by step: its name, a connection, TLS. Requests of ours would go all at once."""

from __future__ import annotations

import socket
import ssl
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from picas.settings.credentials import without_login
from picas.stores.couch.http_errors import no_answer
from picas.stores.couch.transport import proxy_of, tls_context
from picas.stores.finding import FAILURE, OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.settings.config import Access

SECONDS = 10.0
"""How long each step may take."""

EXPIRY_DAYS = 14
"""A certificate that ends sooner is worth a warning."""

_PORTS = {"http": 80, "https": 443}


def look(url: str, access: Access) -> Iterator[Finding]:
    """Each step on the way to a server; the last one is a failure if it cannot be gone on.

    Args:
        url: the server, without credentials.

    Raises:
        ConfigError: a certificate file cannot be used.
    """
    proxy = proxy_of(url)
    first = urlsplit(proxy or url)
    host, port = first.hostname or "", first.port or _PORTS[first.scheme]
    found = _address(host, port, without_login(proxy) if proxy else "")
    yield found
    if found.level == FAILURE:
        return
    started = time.monotonic()
    try:
        connection = socket.create_connection((host, port), SECONDS)
    except OSError as error:
        yield _no_connection(host, port, error)
        return
    with connection:
        milliseconds = (time.monotonic() - started) * 1000
        yield Finding("connection", OK, f"port {port} of {host} answers after {milliseconds:.1f} ms")
        if urlsplit(url).scheme == "http":
            yield _open_way(urlsplit(url).hostname or "")
        elif proxy is None:  # through a proxy TLS begins behind it
            yield _tls(connection, url, host, access)


def _address(host: str, port: int, proxy: str) -> Finding:
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Finding(
            "address",
            FAILURE,
            f"the name {host} is not known here: {reason}",
            "Is it spelt right, and does this machine have a network and a name server?",
        )
    addresses = [*dict.fromkeys(str(place[4][0]) for place in places)]
    what = f"{host} is {', '.join(addresses)}" if addresses != [host] else f"{host} is an address itself"
    return Finding(
        "address",
        OK,
        f"by way of the proxy {proxy}; {what}" if proxy else what,
        data={"addresses": addresses, "proxy": proxy or None},
    )


def _no_connection(host: str, port: int, error: OSError) -> Finding:
    advice = "Is a firewall in between? Is the server's network reachable from this machine?"
    if isinstance(error, ConnectionRefusedError):
        advice = "Nothing listens at that port. Is the server running? CouchDB's own ports are 5984, and 6984 for https."
    return Finding(
        "connection", FAILURE, f"no connection to port {port} of {host}: {error.strerror or error}", advice
    )


def _open_way(host: str) -> Finding:
    if is_here(host):
        return Finding("encryption", OK, "none, and none is needed on this machine")
    return Finding(
        "encryption",
        WARNING,
        "none: passwords and tokens can be read by whoever is in between",
        "Use https://, if the server has it.",
    )


def is_here(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(connection: socket.socket, url: str, host: str, access: Access) -> Finding:
    try:
        with tls_context(access).wrap_socket(connection, server_hostname=host) as secured:
            version = secured.version()
            certificate = secured.getpeercert() or {}
    except socket.timeout:
        text = f"{url} did not begin TLS within {SECONDS:g} s"
        return Finding("encryption", FAILURE, text, "Does it speak http at that port? Then write http://.")
    except (OSError, ssl.SSLError) as error:
        told = no_answer(url, "a greeting", error, None, spoke=False)
        return Finding("encryption", FAILURE, told.message, told.advice)
    if access.insecure:
        return Finding(
            "encryption",
            WARNING,
            f"{version}, but the certificate is not checked",
            "Better than --insecure: save the server's certificate, and give the file by --ca.",
        )
    ends = str(certificate.get("notAfter", ""))
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400 if ends else None
    text = f"{version}; the certificate is good until {ends}"
    if days is not None and days < EXPIRY_DAYS:
        return Finding(
            "encryption", WARNING, text, "Whoever runs the server should renew it.", {"days_left": days}
        )
    return Finding("encryption", OK, text, data={"days_left": days})
