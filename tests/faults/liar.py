"""A server on this machine that answers what a test wants it to, byte by byte."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
"""What it answers when it has nothing else to say any more."""

INFO = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 61\r\n"
    b"Date: Mon, 23 Nov 2026 00:00:00 GMT\r\n\r\n"
    b'{"db_name":"db","doc_count":3,"update_seq":"5-x","sizes":{}} '
)
"""What CouchDB says of a database."""

REQUEST_SECONDS = 20.0


class Liar(threading.Thread):
    """The server; each connection brings one answer.

    Attributes:
        url: of a database on it.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/db"
        self._answers: list[bytes] = []
        self._over = False

    def say(self, answers: Iterable[bytes]) -> None:
        """Answer so from now on, and then that it is busy."""
        self._answers = list(answers)

    def stop(self) -> None:
        """No more."""
        self._over = True
        with suppress(OSError):
            socket.create_connection(self._socket.getsockname()).close()
        self.join()
        self._socket.close()

    def run(self) -> None:
        """Serve one after the other."""
        while not self._over:
            connection, _ = self._socket.accept()
            with connection, suppress(OSError):
                connection.settimeout(REQUEST_SECONDS)
                if _heard(connection):
                    connection.sendall(self._answers.pop(0) if self._answers else BUSY)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # a reset would take the answer away
                    pass


def _heard(connection: socket.socket) -> bool:
    """Whether a whole request has come."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(lengths[0]) if lengths else 0
    while len(body) < wanted:
        more = connection.recv(65536)
        if not more:
            return False
        body += more
    return True
