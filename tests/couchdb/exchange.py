"""One HTTP/1.1 request on its way through the proxy, and its answer on the way back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CHUNK_BYTES = 65_536

HELD_BYTES = 4_000_000
"""A request's body up to this length is read before anything is done about it; a longer one streams."""

# What a client that comes by https says first
_TLS = b"\x16"


class Gone(ConnectionError):
    """The other side has closed its end in the middle of something."""


@dataclass(frozen=True)
class Request:
    """What a rule may look at."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    """None when it is long, or chunked."""


class Peer:
    """A connection and what has been read of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def read_head(self) -> bytes:
        """The lines up to the empty one, with it; nothing when the other side has gone.

        Raises:
            Gone: it went in the middle, or speaks TLS.
        """
        head = b""
        if self._file.peek(1)[:1] == _TLS:
            raise Gone
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline(CHUNK_BYTES)
            if not line:
                if head:
                    raise Gone
                return b""
            head += line
        return head

    def read_body(self, headers: Mapping[str, str], *, until_end: bool) -> Iterator[bytes]:
        """The body as it comes over the wire, chunks with their lengths.

        Args:
            until_end: without a length it lasts as long as the connection; otherwise there is none.

        Raises:
            Gone: it ended too early.
        """
        if "chunked" in headers.get("transfer-encoding", ""):
            yield from self._read_chunks()
        elif "content-length" in headers:
            yield from self._read(int(headers["content-length"]))
        elif until_end:
            yield from iter(lambda: self._file.read1(CHUNK_BYTES), b"")

    def _read_chunks(self) -> Iterator[bytes]:
        length = 1
        while length:
            line = self._line()
            yield line
            length = int(line.partition(b";")[0], 16)
            if length:
                yield from self._read(length)
                yield self._line()
        trailer = b""
        while trailer != b"\r\n":
            trailer = self._line()
            yield trailer

    def _line(self) -> bytes:
        line = self._file.readline(CHUNK_BYTES)
        if not line:
            raise Gone
        return line

    def _read(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._file.read1(min(length, CHUNK_BYTES))
            if not piece:
                raise Gone
            length -= len(piece)
            yield piece

    def wait_for_end(self) -> None:
        """Until the other side, or `shut`, ends it."""
        while self._file.read1(CHUNK_BYTES):
            pass

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def shut(self) -> None:
        """End it while another thread reads or writes; that one sees the end, and closes it."""
        with contextlib.suppress(OSError):
            # not that of an SSLSocket, which would have the other thread read the encrypted text
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def reset(self) -> None:
        """Close it so that the other side is told of an error (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Exchange:
    """The requests of one client's connection, one after the other, and the connection to the server."""

    def __init__(self, client: Peer, upstream: tuple[str, int]) -> None:
        self.client = client
        self.ended = threading.Event()
        self.request = Request("", "", {}, b"")
        self._head = b""
        self._upstream = upstream
        self._server: Peer | None = None
        self._answer_headers: dict[str, str] = {}
        self._status = 0
        self._body_read = True

    def read_request(self) -> bool:
        """The next request, as far as it is held; False when the client has no more."""
        self._head = self.client.read_head()
        if not self._head:
            return False
        line, headers = parse_head(self._head)
        method, target, _ = line.split(" ", 2)
        length = int(headers.get("content-length", 0))
        self._body_read = length <= HELD_BYTES and "transfer-encoding" not in headers
        body = b"".join(self._request_body(headers)) if self._body_read else None
        self.request = Request(method, target, headers, body)
        return True

    def _request_body(self, headers: Mapping[str, str]) -> Iterator[bytes]:
        return self.client.read_body(headers, until_end=False)

    def skip_request(self) -> None:
        """Read what is left of the request, so that closing is no error (RST) to the client."""
        for _ in self._rest():
            pass

    def _rest(self) -> Iterable[bytes]:
        if self._body_read:
            return ()
        self._body_read = True
        return self._request_body(self.request.headers)

    def forward(self) -> None:
        """Send the request to the server.

        Raises:
            OSError: the server is not there.
        """
        if self._server is None:
            connection = socket.create_connection(self._upstream)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server = Peer(connection)
            if self.ended.is_set():
                raise Gone
        self._server.send(self._head + (self.request.body or b""))
        for piece in self._rest():
            self._server.send(piece)

    def answer_head(self) -> bytes:
        """The server's answer up to the empty line.

        Raises:
            Gone: there is none.
        """
        assert self._server is not None
        head = self._server.read_head()
        if not head:
            raise Gone
        line, self._answer_headers = parse_head(head)
        self._status = int(line.split(" ", 2)[1])
        return head

    def answer_body(self) -> Iterator[bytes]:
        """The rest of the server's answer, piece by piece as it comes."""
        assert self._server is not None
        if self.request.method == "HEAD" or self._status in {204, 304}:
            return iter(())
        return self._server.read_body(self._answer_headers, until_end=True)

    def pass_answer(self, head: bytes) -> bool:
        """Send this head, and the server's body as it comes; whether the connection may be used again."""
        self.client.send(head)
        for piece in self.answer_body():
            self.client.send(piece)
        return self.lasts

    def swallow_answer(self) -> None:
        """Wait until the server has answered, and keep it to ourselves."""
        self.answer_head()
        for _ in self.answer_body():
            pass

    @property
    def lasts(self) -> bool:
        """Whether the connection may be used again after this answer."""
        connection = self._answer_headers.get("connection", "") + self.request.headers.get("connection", "")
        framed = {"content-length", "transfer-encoding"} & self._answer_headers.keys()
        return "close" not in connection.lower() and (bool(framed) or self._status in {204, 304})

    def shut(self) -> None:
        """End it from another thread than the one that deals with it."""
        self.ended.set()
        self.client.shut()
        if self._server is not None:
            self._server.shut()

    def close(self) -> None:
        """Close both sides."""
        self.client.close()
        if self._server is not None:
            self._server.close()


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line and the headers, with names in lower case.

    Raises:
        ValueError: this is no HTTP.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(line)
        headers[name.lower()] = value.strip()
    return first, headers
