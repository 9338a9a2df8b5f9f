"""Places of data: URLs, paths of this machine, and what a user's own copying command takes for one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from picas.errors import InvalidInput

HTTP = {
    "http": "http",
    "https": "https",
    "dav": "http",
    "davs": "https",
    "webdav": "http",
    "webdavs": "https",
}
"""Schemes that are spoken to by HTTP, and which of its two it is: WebDAV has names of its own in grid tools."""

FILE = "file"
"""The scheme of paths of this machine."""

FOREIGN = ""
"""The scheme of what only a user's own command understands, such as ``remote:path`` of rclone."""

LONGEST = 8000
"""Characters that a URL may have: servers take no more."""

_PORTS = {"http": "80", "https": "443"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_OPTIONS = re.compile(r",[^/]*:")


@dataclass(frozen=True)
class Place:
    """Where something is.

    Attributes:
        url: as it is written.
        scheme: in small letters, `http` or `https` for all that is spoken to by HTTP; `FILE`; `FOREIGN`.
        host: host and port, in small letters; a bucket's name; "" for files of this machine.
        path: for `FILE` that of the file, else what follows the host, without a query.
    """

    url: str
    scheme: str
    host: str
    path: str

    @property
    def is_folder(self) -> bool:
        """Whether it is meant as a folder to put files in."""
        return self.url.endswith("/")

    @property
    def name(self) -> str:
        """The last part of its path."""
        last = self.path.rstrip("/").rsplit("/", 1)[-1]
        return last.rpartition(":")[2] if self.is_foreign else last if self.scheme == FILE else unquote(last)

    @property
    def is_foreign(self) -> bool:
        """Whether only a user's own command knows what it is."""
        return self.scheme == FOREIGN

    @property
    def is_http(self) -> bool:
        """Whether it is spoken to by HTTP."""
        return self.scheme in _PORTS

    @property
    def address(self) -> str:
        """The URL as HTTP has it, whatever grid tools call it."""
        return f"{self.scheme}://{self.url.partition('://')[2]}"


def parse(url: object, *, foreign: bool = False) -> Place:
    """Read a URL, or an absolute path of this machine.

    Args:
        foreign: anything else will do too, since a user's own command is to make sense of it.

    Raises:
        InvalidInput: it is none, or one with which something else than a file of that place could be reached.
    """
    if not isinstance(url, str) or not url:
        raise InvalidInput(f"{url!r} is no URL", "Write one such as https://host/path, or an absolute path.")
    if len(url) > LONGEST or not url.isprintable():
        raise InvalidInput(
            f"{shown(url)[:200]!r} is no URL", "It is too long, or has letters that none can have."
        )
    if url.startswith("-"):
        raise InvalidInput(
            f"'{shown(url)}' is no URL: it begins like an option", "Write one such as https://…"
        )
    place = _read(url, foreign=foreign)
    if "::" in url and not (foreign or place.is_http):  # fsspec has such
        raise InvalidInput(f"'{shown(url)}' is one URL within another", "Stage the file itself.")
    written = url.partition("?")[0] if place.is_http else url  # for all others it is part of a name
    if ".." in unquote(written).replace("\\", "/").split("/"):
        raise InvalidInput(f"'{shown(url)}' has '..' in it", "Write the whole path.")
    return place


def _read(url: str, *, foreign: bool) -> Place:
    if url.startswith("/"):
        return Place(url, FILE, "", os.path.normpath(url))
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        if foreign:
            return Place(url, FOREIGN, "", url)
        raise InvalidInput(
            f"'{shown(url)}' is no URL", "Write one such as https://host/path, or an absolute path."
        )
    scheme = scheme.lower()
    if scheme == FILE:
        path = unquote(rest.partition("/")[2])
        if rest.partition("/")[0] not in ("", "localhost"):
            raise InvalidInput(f"'{shown(url)}' is of another machine", "Write file:/// and the whole path.")
        if "\0" in path:
            raise InvalidInput(f"'{shown(url)}' is no file's URL")
        return Place(url, FILE, "", os.path.normpath(f"/{path}") + ("/" if path.endswith("/") else ""))
    try:
        parts = urlsplit(f"//{rest}", allow_fragments=False)
        host, port = (parts.hostname or ""), parts.port
    except ValueError:
        raise InvalidInput(f"'{shown(url)}' is no URL", "Look at its host and its port.") from None
    scheme = HTTP.get(scheme, scheme)
    if scheme in _PORTS and (
        not host or "\\" in url
    ):  # which some libraries take for a slash, and others not
        raise InvalidInput(f"'{shown(url)}' has no host", "Write it as https://host/path.")
    name = f"[{host}]" if ":" in host else host
    default = _PORTS.get(scheme)
    return Place(url, scheme, name if port is None or str(port) == default else f"{name}:{port}", parts.path)


def is_within(place: Place, site: Place) -> bool:
    """Whether a place is at a site: the same server, and there the same path or below it."""
    if (place.scheme, place.host) != (site.scheme, site.host):
        return False
    inner, outer = unquote(place.path), unquote(site.path)
    if place.is_foreign and outer.endswith(":"):
        return inner.startswith(outer)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def shown(url: str) -> str:
    """A URL as it may be printed and kept: without a login, and without a query, where keys and tokens stand."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _OPTIONS.sub(
            ":", url.split("?", maxsplit=1)[0]
        )  # rclone has options of a remote before its colon
    rest = rest.split("?")[0].split("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def without_secrets(text: str) -> str:
    """A text of another program with each URL in it as it may be printed."""
    return _URL.sub(lambda found: shown(found[0]), text)
