"""The board of idle pilots in a CouchDB database: who listens for changes, and a bell for all the others.

It is one ``_local/`` document, which costs little to read and to write: it is in no index, is not replicated
and wakes no listener. It is no lock. Two who write at the same moment both succeed, and what one of them
wrote is gone; so a seat counts once it was read back, and nothing but speed hangs on it.
"""

from __future__ import annotations

import random
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from picas.stores.couch.http import Server

DOCUMENT = "_local/picas-idle"
"""``{"bell": <changes when there is work>, "seats": {<who listens>: <until when, Unix seconds>}}``."""

SEATS = 3
"""So many pilots listen at the most: every write to the database wakes each of them."""

SEAT_SECONDS = 15.0
"""A seat of one who died is free after so long."""

RENEW_SECONDS = 5.0
"""How often one who listens says that it still does."""

CONFIRM_SECONDS = 0.3
"""How soon a seat that was just taken is read back: others may have written at the same moment."""

TRIES = 3
"""How often something is written again that others, who write at the same moment, have undone."""

ANSWER_SECONDS = 10.0
"""How long the document may take to come."""


class Board:
    """The board as one idle pilot sees and uses it; for one thread at a time.

    Args:
        database: the database's name, quoted.
        view: what the pilots look at that share the board; "" for all tokens.

    Attributes:
        seated: this pilot is one of those that listen.
        visit_at: when one who listens is to look at the board again, by the monotonic clock.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def __init__(self, server: Server, database: str, view: str = "") -> None:
        self._server = server
        self._path = f"{database}/{DOCUMENT}" + (f"-{quote(view, safe='')}" if view else "")
        self._me = secrets.token_hex(6)
        self._bell: Any = None  # as it was at the last visit; None before the first
        self.seated = False
        self.visit_at = 0.0

    def visit(self) -> bool:
        """Look whether the bell has rung since the last visit; keep one's seat, or take a free one."""
        board = self._read()
        bell = board.get("bell", "")
        rung = self._bell is not None and bell != self._bell
        self._bell = bell
        seats = self._live_seats(board)
        mine = self._me in seats
        self.seated = mine or len(seats) < SEATS
        if self.seated and (not mine or time.monotonic() >= self.visit_at):
            self._sit(board, seats, RENEW_SECONDS if mine else CONFIRM_SECONDS)
        return rung

    def ring(self) -> None:
        """Tell those who do not listen that there is work."""
        for _ in range(TRIES):
            board = self._read()
            self._bell = secrets.token_hex(4)
            if self._write({**board, "bell": self._bell}, self._live_seats(board)):
                break

    def leave(self) -> None:
        """Give the seat back, if one is held."""
        for _ in range(TRIES if self.seated else 0):
            board = self._read()
            seats = self._live_seats(board)
            if seats.pop(self._me, None) is None:
                break
            self._write(board, seats)
        self.seated = False
        self._bell = None

    def _sit(self, board: dict[str, Any], seats: dict[str, float], seconds: float) -> None:
        seats[self._me] = self._server.now() + SEAT_SECONDS
        self._write(board, seats)
        self.visit_at = time.monotonic() + seconds * random.uniform(0.7, 1.0)  # noqa: S311

    def _live_seats(self, board: dict[str, Any]) -> dict[str, float]:
        seats = board.get("seats")
        now = self._server.now()
        found = seats if isinstance(seats, dict) else {}
        # One that goes on for longer than anybody takes one for was written by the clock of another server.
        return {
            who: until
            for who, until in found.items()
            if isinstance(until, (int, float)) and now < until <= now + 2 * SEAT_SECONDS
        }

    def _read(self) -> dict[str, Any]:
        answer = self._server.request("GET", self._path, expect=(404,), seconds=ANSWER_SECONDS)
        found = answer.value if answer.status != 404 else {}
        return dict(found) if isinstance(found, dict) else {}

    def _write(self, board: dict[str, Any], seats: dict[str, float]) -> bool:
        """Whether it was written: PouchDB's server, other than CouchDB, compares revisions here too."""
        changed = {**board, "seats": seats}
        answer = self._server.request("PUT", self._path, changed, expect=(409,), seconds=ANSWER_SECONDS)
        return answer.status != 409
