"""The places that keep tokens: one module each, all behind the protocol in `picas.stores.base`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from picas.errors import ConfigError, PoolRefused
from picas.settings.config import POOL_FORMS, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.settings.config import Access
    from picas.stores.base import Store
    from picas.stores.couch.http import Server

PATIENCE_SECONDS = 15.0
"""A server that restarts, or a proxy with a hiccup, is back before this; nobody at a terminal waits for longer."""


OPTIONAL = ("_sqlite3", "_ssl")
"""Modules of Python itself that some builds of it lack."""


def open_store(url: str, access: Access | None = None, *, patience: float = 0.0) -> Store:
    """The store that a URL names.

    Args:
        url: ``sqlite:///PATH``, relative to the working directory unless PATH begins with ``/``, or
            ``http(s)://host:port/database``.
        access: how a server is reached, and as whom; if None, as the environment and the configuration file
            say.
        patience: for how many seconds to go on asking a server that does not answer.

    Raises:
        ConfigError: the URL names no kind of store that there is, or the access cannot be used.
        PoolRefused, PoolUnavailable: the store cannot be opened.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigError(f"'{url}' is not the address of a pool", POOL_FORMS)
    if scheme == "sqlite":
        path = path_of(url)
        with _told("a pool in a file"):
            from picas.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - only the store that is used is loaded

        return SqliteStore(path)
    if scheme in ("http", "https"):
        with _told("a pool on a server"):
            from picas.stores.couch.store import CouchStore  # noqa: PLC0415

        return CouchStore(*connect(url, access, patience=patience))
    raise ConfigError(f"there is no kind of pool called '{scheme}'", POOL_FORMS)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what a Python lacks that was built on a machine without the libraries for it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        raise PoolRefused(
            f"this Python has no module {error.name.lstrip('_')}, which {what} needs: {sys.executable}",
            "Use another Python; nothing was changed.",
        ) from None


def path_of(url: str) -> Path:
    """The file of an embedded pool, absolute.

    Raises:
        ConfigError: the URL names none, or is that of another kind of pool.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        raise ConfigError(f"there is no kind of pool called '{scheme}'", POOL_FORMS)
    if not rest.startswith("/") or rest == "/":
        raise ConfigError(f"'{url}' does not name a file", POOL_FORMS)
    return Path(unquote(rest[1:])).absolute()


def connect(url: str, access: Access | None = None, *, patience: float = 0.0) -> tuple[Server, str]:
    """The server of a pool on CouchDB, with the login that is found for it, and the database's name.

    Nothing is sent yet.

    Args:
        url: ``http(s)://[user:password@]host:port/database``.
        access, patience: as for `open_store`.

    Raises:
        ConfigError: the URL, a certificate or a file of passwords cannot be used.
    """
    from picas.settings.credentials import Source, find  # noqa: PLC0415 - an embedded pool has no use for this
    from picas.stores.couch.http import Server, split_url  # noqa: PLC0415

    if access is None:
        access = load(url).access
    server, database, login = split_url(url)
    sources = list(access.sources)
    if login is not None:
        sources.insert(0, Source(login.source, login.username, login.password))
    login = find(server, sources, named=access.auth != "jwt")
    return Server(server, login, access, patience), database
