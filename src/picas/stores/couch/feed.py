"""Waiting for work in a CouchDB database: a few idle pilots listen, all others poll, and none slows the busy ones.

Each ``_changes`` feed is woken by every write, whatever its filter, so only those who hold a seat on the
`Board` have one, for half a second at a time; when one of them finds more than it takes itself it rings the
bell there. The others read the board, whose cost does not depend on what is written or on how many tokens
there are. Whoever listens looks at most every tenth of a second, less often while the busy ones write all the
time, and everybody tries to claim now and then anyhow. So a feed that is refused, cut, held back or silent, a board
that may not be written, listeners that died: each of them costs speed, and no work is missed.

A look asks for the number of free tokens. There is news when it has grown: tokens that stay free are not for
this pilot, which has tried to claim them.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from picas.backoff import Backoff
from picas.errors import PicasError
from picas.stores.couch.board import Board

if TYPE_CHECKING:
    import threading

    from picas.stores.couch.claims import Claims
    from picas.stores.couch.http import Server

LISTEN_SECONDS = 0.5
"""How long one request to the feed waits for a change; a pilot that has to go waits no longer than that for it."""

GRACE_SECONDS = 2.0
"""How much longer its answer may take before the feed counts as hung."""

QUIET_SECONDS = 0.3
"""A feed that waits for so long is worth asking; one that always answers sooner tells only that others write."""

GAP_SECONDS = (0.05, 1.0)
"""Shortest and longest time between two looks of one who listens."""

GAP_SHARE = 0.5
"""While others write all the time, it is so much of the time for which they have done so."""

BUSY_LOOKS = 4
"""So many looks follow each other without the feed while others write all the time."""

POLL_SECONDS = (1.1, 1.4)
"""Shortest and longest time between two visits to the board of one who does not listen."""

POLL_YIELD = 100
"""To this is added so many times what the visit took longer than the quickest one: a server that is busy …"""

POLL_YIELD_SECONDS = 0.5
"""… is visited less often, by a pause that is longer by so many seconds at the most."""

LOOK_SECONDS = (4.0, 6.0)
"""How often one who listens looks although nothing has changed, in an index that is brought up to date for it."""

CLAIM_SECONDS = (30.0, 60.0)
"""How often it is tried to claim although there is no news: a claim also mends what went wrong on a cluster, …"""

CLAIM_LEFT_SECONDS = (8.0, 12.0)
"""… while there are free tokens that this pilot could not get, …"""

CLAIM_DOUBT_SECONDS = (0.5, 1.5)
"""… and while it is not known whether an earlier claim holds."""

OFF_SECONDS = (30.0, 600.0)
"""How long a feed or a board that failed is left alone."""

FRESH, SOON = "true", "lazy"
"""How a look reads the index: brought up to date before, or after."""


class Feed:
    """The changes of one database, asked for one at a time.

    Args:
        database: the database's name, quoted.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._since: Any = None

    def mark(self) -> None:
        """From here on changes count."""
        answer = self._server.request("GET", self._database, seconds=GRACE_SECONDS)
        self._since = answer.value["update_seq"]

    def wait(self) -> bool:
        """Wait for a change since the mark; False if none came in `LISTEN_SECONDS`.

        Source: CouchDB's HTTP API, ``/{db}/_changes``, long polling. A request that ends soon passes
        through proxies that hold back what streams, or cut what lasts.

        Raises:
            PicasError: there is no feed for us, or none that works.
        """
        query = {
            "feed": "longpoll",
            "since": self._since,
            "limit": 1,
            "timeout": int(LISTEN_SECONDS * 1000),
        }
        answer = self._server.request(
            "GET", f"{self._database}/_changes", query=query, seconds=LISTEN_SECONDS + GRACE_SECONDS
        )
        return bool(answer.value["results"])


class News:
    """Whether a number of free tokens means that there may be work for this pilot.

    Attributes:
        free: how many there were when it was last told.
        grown: it has been told of more than before, and the others may not have been told yet.
    """

    def __init__(self) -> None:
        self.free = 0
        self.grown = False
        self._left: int | None = None  # how many stay free because they are not for this pilot
        self._tried = False

    def tried(self) -> None:
        """Note that the pilot has tried to claim and got nothing."""
        self._tried = True

    def told(self, free: int) -> bool:
        """Take note of how many tokens are free now; whether the pilot is to try to claim."""
        if self._tried:
            # These may have come after the claim. If as many were left after the last one too, they have not.
            news = free not in (0, self._left)
            self._left = free
            self._tried = False
        else:
            news = free > self.free
            self.grown = self.grown or news
            self._left = None if self._left is None else min(self._left, free)
        self.free = free
        return news


class Pace:
    """How long one who polls waits before the next time."""

    def __init__(self) -> None:
        self._quickest = float("inf")

    def pause(self, took: float) -> float:
        """Seconds to wait after an answer that took so many."""
        self._quickest = min(self._quickest, took)
        return _random(POLL_SECONDS) + min(POLL_YIELD * (took - self._quickest), POLL_YIELD_SECONDS)


class _Helper:
    """Something that makes waiting cheaper or faster, and is left alone for a while when it fails."""

    def __init__(self) -> None:
        self._pauses = Backoff(*OFF_SECONDS)
        self._off_until = 0.0

    @property
    def usable(self) -> bool:
        return time.monotonic() >= self._off_until

    def failed(self) -> None:
        self._off_until = time.monotonic() + self._pauses.seconds()

    def works(self) -> None:
        self._pauses.over()
        self._off_until = 0.0


class CouchWatch:
    """A `picas.stores.base.Watch` on a CouchDB database.

    Args:
        database: the database's name, quoted.
        count: how many tokens are free, by an index that is read as the argument says (``update=``).
        claims: what claims in this store; told when everybody else who waits is about to claim as well.
        view: what that index lists; "" for all tokens.
    """

    def __init__(
        self,
        server: Server,
        database: str,
        count: Callable[[str], int],
        claims: Claims,
        view: str = "",
    ) -> None:
        self._board = Board(server, database, view)
        self._feed = Feed(server, database)
        self._count = count
        self._claims = claims
        self._news = News()
        self._board_state = _Helper()
        self._feed_state = _Helper()
        self._pace = Pace()
        self._look_at = 0.0
        self._begun = self._patience = 0.0
        self._busy_since: float | None = None  # others have written all the time
        self._looks_without_feed = 0

    @property
    def how(self) -> str:
        if not self._seated:
            return f"looking every {sum(POLL_SECONDS) / 2:.1f} s"
        return "listening for changes" if self._feed_state.usable else f"looking every {GAP_SECONDS[1]:g} s"

    @property
    def _seated(self) -> bool:
        return self._board.seated and self._board_state.usable

    def begin(self) -> None:
        self._news.tried()
        self._begun = time.monotonic()
        self._patience = random.random()  # noqa: S311 - spreads pilots
        if self._seated or self._news.grown:
            self._look_at = 0.0

    def wait(self, ended: threading.Event) -> bool:
        began = time.monotonic()
        if (
            began >= self._begun + self._longest()
            or self._claims.is_due(self._patience)
            or self._visit_board()
        ):
            return True
        if self._seated:
            return self._listen(ended)
        if (not self._look_at or not self._board_state.usable) and self._look(SOON):
            return True
        ended.wait(self._pace.pause(time.monotonic() - began))
        return False

    def _longest(self) -> float:
        """After how many seconds it is tried to claim although there is no news."""
        if self._claims.in_doubt:
            seconds = CLAIM_DOUBT_SECONDS
        else:
            seconds = CLAIM_LEFT_SECONDS if self._news.free else CLAIM_SECONDS
        return seconds[0] + self._patience * (seconds[1] - seconds[0])

    def close(self) -> None:
        if self._board_state.usable:
            # If it fails the seat runs out, and whoever sits down next looks.
            with suppress(PicasError):
                self._board.leave()
                if self._news.grown and self._count(FRESH):
                    self._board.ring()
        self._news.grown = False
        self._look_at = 0.0

    def _visit_board(self) -> bool:
        """See to the seat; whether the bell has rung for one who has none."""
        seated = self._seated
        if not self._board_state.usable or (seated and time.monotonic() < self._board.visit_at):
            return False
        try:
            rung = self._board.visit()
        except PicasError:
            self._board_state.failed()
            return False
        self._board_state.works()
        if self._seated and not seated:
            self._look_at = 0.0
        if rung and not seated:
            self._claims.expect_crowd()
            return True
        return False

    def _listen(self, ended: threading.Event) -> bool:
        """Wait for a change, or for a moment, and look; whether there is news."""
        if time.monotonic() >= self._look_at:
            return self._look_from_here()
        if self._looks_without_feed or not self._feed_state.usable:
            self._looks_without_feed = max(0, self._looks_without_feed - 1)
            ended.wait(GAP_SECONDS[1])
            if self._looks_without_feed or not self._feed_state.usable:
                return self._look(SOON)
            return self._look_from_here()
        began = time.monotonic()
        try:
            changed = self._feed.wait()
        except PicasError:
            self._feed_state.failed()
            return False
        waited = time.monotonic() - began
        if waited >= QUIET_SECONDS:
            self._busy_since = None
            return changed and self._look_from_here()
        if self._busy_since is None:
            self._busy_since = began
        gap = GAP_SHARE * (began - self._busy_since)
        if gap >= GAP_SECONDS[1]:
            self._looks_without_feed = BUSY_LOOKS
        ended.wait(min(max(gap, GAP_SECONDS[0]), GAP_SECONDS[1]) - waited)
        return self._look_from_here()

    def _look_from_here(self) -> bool:
        """Look, and have the feed tell next of what this look cannot have seen."""
        if self._feed_state.usable:
            try:
                self._feed.mark()
            except PicasError:
                self._feed_state.failed()
        return self._look(FRESH)

    def _look(self, update: str) -> bool:
        try:
            free = self._count(update)
        except PicasError:
            # It is the server that fails: the others are not to blame.
            self._board_state.works()
            self._feed_state.works()
            raise
        self._look_at = time.monotonic() + _random(LOOK_SECONDS)
        grown = self._news.grown
        news = self._news.told(free)
        if grown:  # what the pilot did not get of it is for others
            self._news.grown = False
            if free and self._board_state.usable:
                self._ring()
        return news

    def _ring(self) -> None:
        try:
            self._board.ring()
        except PicasError:
            self._board_state.failed()


def _random(seconds: tuple[float, float]) -> float:
    return random.uniform(*seconds)  # noqa: S311 - spreads pilots
