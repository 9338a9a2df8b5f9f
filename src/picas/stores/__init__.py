"""The places that keep tokens: one module each, all behind the protocol in `picas.stores.base`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from picas.config import POOL_FORMS
from picas.errors import ConfigError

if TYPE_CHECKING:
    from picas.stores.base import Store


def open_store(url: str) -> Store:
    """The store that a URL names: ``sqlite:///PATH``, relative to the working directory unless PATH begins with ``/``.

    Raises:
        ConfigError: the URL names no kind of store that there is.
        PoolRefused, PoolUnavailable: the store cannot be opened.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConfigError(f"'{url}' is not the address of a pool", POOL_FORMS)
    if scheme == "sqlite":
        if not rest.startswith("/") or rest == "/":
            raise ConfigError(f"'{url}' does not name a file", POOL_FORMS)
        from picas.stores.sqlite import SqliteStore  # noqa: PLC0415 - only the store that is used is loaded

        return SqliteStore(Path(unquote(rest[1:])).absolute())
    if scheme in ("http", "https"):
        from picas.stores.couchdb import CouchStore  # noqa: PLC0415
        from picas.stores.http import Login, Server, split_url  # noqa: PLC0415

        server, database, login = split_url(url)
        name = os.environ.get("PICAS_USERNAME")
        if login is None and name:
            login = Login(name, os.environ.get("PICAS_PASSWORD", ""))
        return CouchStore(Server(server, login), database)
    raise ConfigError(f"there is no kind of pool called '{scheme}'", POOL_FORMS)
