"""Servers that speak HTTP or WebDAV: dCache, StoRM, XRootD, ownCloud, plain web servers.

With urllib3 alone, so that it works on a bare node. A download that broke off goes on where it was if the server can do
that and the file is still the same. Redirects are followed, as grid storage sends its clients on to other machines; the
user's credentials are not.
"""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from picas.errors import PicasError
from picas.staging import places, sums
from picas.staging.transfer import CHUNK_BYTES, TransferError, check_room

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from picas.staging.access import Access
    from picas.staging.places import Place
    from picas.staging.plan import Item
    from picas.staging.transfer import Partial

CONNECT_SECONDS = 30.0
READ_SECONDS = 120.0
"""How long a server may be silent."""

STORE_SECONDS = 600.0
"""How long it may be silent after it got a file: some copy it or compute its checksum before they answer."""

MOST_REDIRECTS = 10

PASSING = frozenset((408, 423, 425, 429, 500, 502, 503, 504))
"""Answers that say that it may go better later."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_WANT = {"Want-Digest": "adler32,md5,sha-256", "Want-Repr-Digest": "sha-256=1"}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SAID = {
    401: "the server wants to know who asks (401)",
    403: "the server forbids it (403)",
    404: "there is no such file (404)",
    409: "the folder is not there, and the server makes none (409)",
    413: "the file is larger than the server takes (413)",
    416: "the server has another file there now (416)",
    507: "the server has no room for it (507)",
}


class Http:
    """Fetches by GET and brings by PUT.

    Args:
        access: the user's credentials, for the sites that may see them.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def get(self, place: Place, item: Item, partial: Partial) -> None:
        """Fetch a file or the rest of it; see `picas.staging.transfer.Carrier`."""
        begun = partial.size
        if begun and not (partial.mark or partial.wanted):
            partial.drop()  # nothing tells whether the rest is of the same file
            begun = 0
        headers = {"Accept-Encoding": "identity", **_WANT}
        if begun:
            headers["Range"] = f"bytes={begun}-"
            if partial.mark:
                headers["If-Range"] = partial.mark
        with self._answer("GET", place, item, headers) as answer:
            if begun and answer.status == 416:
                partial.drop()
                raise TransferError(_SAID[416], again=True)
            _check(answer, item)
            goes_on = answer.status == 206 and _range_of(answer)[0] == begun
            if answer.status == 206 and not goes_on:
                partial.drop()
                raise TransferError("the server sent another part of the file than was asked for", again=True)
            size = _size_of(answer)
            partial.mark = _mark_of(answer)
            partial.told = {} if answer.headers.get("Content-Encoding") else sums.told_by(answer.headers)
            if size is not None:
                check_room(partial.path.parent, size)
            with open(partial.path, "ab" if goes_on else "wb") as file:
                file.writelines(answer.stream(CHUNK_BYTES, decode_content=False))

    def put(self, place: Place, item: Item, source: Path) -> Mapping[str, str]:
        """Bring a file to a server, which makes its folder if it has to; see `picas.staging.transfer.Carrier`."""
        status = self._put(place, item, source)
        if status in (404, 409) and self._make_folders(place, item):
            status = self._put(place, item, source)
        told = self._look(place, item, source)
        if status >= 300 and not (told and _are_of(told, source)):
            # One that is there already, and that the server keeps from being replaced, is as good.
            raise _problem(status, "", item)
        return told

    def _put(self, place: Place, item: Item, source: Path) -> int:
        headers = {"Content-Length": str(source.stat().st_size), "Content-Type": "application/octet-stream"}
        with open(source, "rb") as body, self._answer("PUT", place, item, headers, body) as answer:
            if answer.status in PASSING:
                raise _problem(answer.status, answer.headers.get("Retry-After", ""), item)
            return int(answer.status)

    def _make_folders(self, place: Place, item: Item) -> bool:
        """Make the folders above a file; whether the last one is there now."""
        above = [at for at, letter in enumerate(place.path) if letter == "/"][1:]
        status = 0
        for end in above:
            folder = places.parse(f"{place.scheme}://{_authority(place)}{place.path[:end]}/")
            with self._answer("MKCOL", folder, item, {}) as answer:
                status = answer.status
        return status in (200, 201, 204, 405)

    def _look(self, place: Place, item: Item, source: Path) -> dict[str, str]:
        """The checksums that the server tells of what it has there now.

        Raises:
            TransferError: it has another size.
        """
        with self._answer("HEAD", place, item, {"Accept-Encoding": "identity", **_WANT}) as answer:
            length = answer.headers.get("Content-Length", "")
            if answer.status != 200 or answer.headers.get("Content-Encoding"):
                return {}  # it takes files, and does not show them
            size = source.stat().st_size
            if length.isdecimal() and int(length) != size:
                raise TransferError(f"{int(length):,} of its {size:,} bytes are there", again=True)
            return sums.told_by(answer.headers)

    # --- Requests ---

    @contextmanager
    def _answer(
        self, method: str, place: Place, item: Item, headers: Mapping[str, str], body: Any = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Ask, and go where the server sends us; what it says is read within the context.

        Raises:
            TransferError: there is no answer, or it broke off.
        """
        try:
            answer = self._follow(method, place, item, headers, body)
            try:
                yield answer
            finally:
                answer.drain_conn() if _is_short(answer) else answer.close()
        except (HTTPError, ssl.SSLError, ConnectionError, TimeoutError) as error:
            raise TransferError(*_reason(error), again=not _is_final(error)) from None
        except PicasError as error:
            raise TransferError(error.message, error.advice) from None

    def _follow(
        self, method: str, place: Place, item: Item, headers: Mapping[str, str], body: Any
    ) -> urllib3.BaseHTTPResponse:
        url, at_home = place.address, item.known
        for _ in range(MOST_REDIRECTS):
            if body is not None:
                body.seek(0)
            answer = self._access.connections(url, known=at_home).request(
                method,
                self._access.plain(url),
                headers={**headers, **self._access.headers(url, known=at_home)},
                body=body,
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(
                    connect=CONNECT_SECONDS, read=STORE_SECONDS if body is not None else READ_SECONDS
                ),
            )
            target = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not target:
                return answer
            answer.close()
            url, before = urljoin(url, target), url
            if urlsplit(url).scheme not in ("http", "https") or "\\" in url or not url.isprintable():
                raise TransferError("the server sends us on to what is no web address")
            at_home = at_home and _origin(url) == _origin(before)
        raise TransferError("the server sends us on and on")


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _authority(place: Place) -> str:
    return place.url.partition("://")[2].partition("/")[0]


def _check(answer: urllib3.BaseHTTPResponse, item: Item) -> None:
    """Raise our error for an answer that brings no file."""
    if answer.status not in (200, 206):
        raise _problem(answer.status, answer.headers.get("Retry-After", ""), item)


def _problem(status: int, after: str, item: Item) -> TransferError:
    advice = ""
    if status in (401, 403) and not item.known:
        advice = "Credentials are only for places that the pilot's owner has named: --stage-site."
    elif status in (401, 403):
        advice = "Are BEARER_TOKEN, X509_USER_PROXY or ~/.netrc there for this server, and still good?"
    message = _SAID.get(status, f"the server answered {status}")
    seconds = float(after) if after.strip().isdecimal() else 0.0
    return TransferError(message, advice, again=status in PASSING, after=seconds)


def _range_of(answer: urllib3.BaseHTTPResponse) -> tuple[int, int | None]:
    """Where the part begins that an answer brings, −1 if it does not say; and the size of all, if it does."""
    found = _RANGE.match(answer.headers.get("Content-Range", ""))
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _size_of(answer: urllib3.BaseHTTPResponse) -> int | None:
    """How many bytes an answer brings, if it says so."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _mark_of(answer: urllib3.BaseHTTPResponse) -> str:
    """By which the server tells whether a file is still the same; weak tags are no such mark (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _are_of(told: Mapping[str, str], source: Path) -> bool:
    return all(sums.of_file(source, name) == checksum for name, checksum in told.items())


def _is_short(answer: urllib3.BaseHTTPResponse) -> bool:
    """Whether what is left of an answer is worth reading, so that its connection serves again."""
    size = _size_of(answer)
    return size is not None and size <= CHUNK_BYTES


def _reason(error: Exception) -> tuple[str, str]:
    """What went wrong, in our words: those of the library may have the whole URL in them."""
    if isinstance(error, ProxyError):
        return "the proxy does not answer", "HTTP_PROXY, HTTPS_PROXY and NO_PROXY say which one is used."
    if isinstance(error, NameResolutionError):
        return "the name of its host is not known", ""
    if isinstance(error, NewConnectionError):
        return "nobody answers there", ""
    if isinstance(error, (HTTPTimeoutError, TimeoutError)):
        return "the server does not answer in time", ""
    if isinstance(error, (SSLError, ssl.SSLError)):
        return (
            f"the secure connection failed: {error}",
            "X509_CERT_DIR or SSL_CERT_FILE name the authorities to trust.",
        )
    if isinstance(error, (ProtocolError, IncompleteRead, ConnectionError)):
        return "the connection broke off", ""
    return f"it cannot be asked for ({type(error).__name__})", ""


def _is_final(error: Exception) -> bool:
    """Whether asking again would change nothing."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
