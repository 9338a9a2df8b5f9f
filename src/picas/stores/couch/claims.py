"""Claiming in a CouchDB database: candidates from a walk over the index, locked in one write.

A claim holds only if the server confirms it with a quorum: on a cluster a write that is merely ``accepted``
may be one of two winners, so nothing is done with it until that is known (see `picas.stores.couch.doubt`). Every claim
has a random id, since two equal documents get the same revision and would both win; by it a claim whose answer was
lost is recognised.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from picas.backoff import Backoff
from picas.errors import InvalidInput, PoolError, PoolUnavailable, TokenTooLarge
from picas.stores.couch import bulk
from picas.stores.couch.map_view import fetch_documents
from picas.stores.couch.refused import RefusedClaims
from picas.stores.couch.walk import Walk
from picas.tokens import State, Token
from picas.transitions import awake

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.selection import Selection
    from picas.stores.couch.attached import Attached
    from picas.stores.couch.doubt import Doubts
    from picas.stores.couch.http import Server
    from picas.stores.couch.index import Read
    from picas.stores.couch.strangers import Strangers

ROUNDS = 20
"""How often a claim tries to win against others before it reports that it could not."""

LEAVE_SECONDS = 1.0
"""How long is waited, when all is over, for a claim that is under way in another thread."""

WAKE_SECONDS = 1.0
"""How often a claim that finds nothing looks for tokens whose next try is due, at the most, …"""

WAKE_BUSY_SECONDS = 30.0
"""… and how often one that finds others does: they are not to wait until nothing else is left."""

WOKEN = 200
"""Tokens that one claim sets free at the most."""

BACK_OFF_SECONDS = (0.01, 1.0)
"""Shortest and longest pause between two of these tries; not shorter than the first of them took."""


class Claims:
    """The claims of one process; one is made at a time.

    Args:
        database: the database's name, quoted.
        reader: what a walk reads that looks for tokens that fit; see `picas.stores.couch.index.Claimable`.
        attached: gets to know the attachments of what is read and written.
        doubts: what becomes of claims that are not sure to hold.
        strangers: tells whether claims have to outlast pilots of 1.x.
        due: when the time of tokens comes that wait for their next try, and their ids; see
            `picas.stores.couch.index.Claimable`.
    """

    def __init__(
        self,
        server: Server,
        database: str,
        reader: Callable[[Selection | None], Read],
        attached: Attached,
        doubts: Doubts,
        strangers: Strangers,
        due: Callable[[int], list[tuple[float, str]]],
    ) -> None:
        self._server = server
        self._database = database
        self._reader = reader
        self._attached = attached
        self._lock = threading.Lock()
        self._walks: dict[tuple[str, str], Walk] = {}
        self._doubts = doubts
        self._strangers = strangers
        self._refused = RefusedClaims()
        self._crowded = False
        self._due = due
        self._next_due: float | None = None  # as of the last look
        self._look_for_due = 0.0  # when to look again
        self._must_look_for_due = time.monotonic() + WAKE_BUSY_SECONDS

    @property
    def in_doubt(self) -> bool:
        """Whether the next claim may find that an earlier one holds."""
        return bool(self._doubts)

    def is_due(self, patience: float) -> bool:
        """Whether the time of a token has come for so many seconds that waited for its next try."""
        return self._next_due is not None and self._server.now() >= self._next_due + patience

    def expect_crowd(self) -> None:
        """Many others will claim at the same time as the next claim."""
        self._crowded = True

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        """See `picas.stores.base.Store.claim`."""
        with self._lock:
            must_last = self._strangers.about()
            while True:
                won = self._claim(take, limit, where, order)
                lasting = self._outlast(won) if must_last else won
                if lasting or not won:
                    return lasting

    def _claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        walk = self._walk(where, order)
        if self._crowded:
            self._crowded = False
            walk.scatter()
        pause: Backoff | None = None
        tries = 0
        while tries < ROUNDS:
            held = self._doubts.take(limit)
            if held:
                return held
            begun = time.monotonic()
            candidates = self._candidates(walk, limit)
            if not candidates:
                if self._doubts.look_again():
                    tries += 1
                    continue
                self._refused.tell()
                return []
            won, refused = self._write(take, candidates)
            walk.met_others(len(candidates) - refused, len(won))
            if won:
                self._won(walk, won)
                return won
            if refused < len(candidates):  # somebody was faster
                tries += 1
                if pause is None:  # the others take as long for theirs
                    took = time.monotonic() - begun
                    pause = Backoff(*(max(seconds, took) for seconds in BACK_OFF_SECONDS))
                time.sleep(pause.seconds())
        raise PoolUnavailable(f"{self._server.url}: others were faster {ROUNDS} times in a row")

    def _candidates(self, walk: Walk, limit: int) -> list[dict[str, Any]]:
        """Documents to be claimed; before none are found those are set free whose time has come."""
        if time.monotonic() >= self._must_look_for_due:
            self._wake()
        candidates = walk.candidates(limit)
        may_wake = time.monotonic() >= self._look_for_due or self.is_due(0.0)
        if not candidates and may_wake and self._wake():
            candidates = walk.candidates(limit)
        return candidates

    def _wake(self) -> bool:
        """Set free the tokens whose time has come; whether there were any.

        Others may do the same: they write the same version, and of two that are equal one is made.
        """
        now = self._server.now()
        due = self._due(WOKEN)
        begun = time.monotonic()
        self._look_for_due, self._must_look_for_due = begun + WAKE_SECONDS, begun + WAKE_BUSY_SECONDS
        self._next_due = next((when for when, _ in due if when > now), None)
        ids = [token_id for when, token_id in due if when <= now]
        found = map(self._attached.token, fetch_documents(self._server, self._database, ids))
        # The index may lag behind: what somebody has claimed meanwhile is left alone.
        waiting = [token for token in found if token.state is State.TODO and 0 < token.not_before <= now]
        woken = [awake(token) for token in waiting if bulk.can_be_written(token)]
        if woken:
            writes = [bulk.Write(bulk.document(token), token.attachments) for token in woken]
            bulk.write(self._server, self._database, writes)
        return bool(woken)

    def _outlast(self, won: list[Token]) -> list[Token]:
        try:
            lasting = self._strangers.outlast(won)
        except PoolError:
            self._doubts.unanswered(won)
            raise
        kept = {token.id for token in lasting}
        self._doubts.refused([token for token in won if token.id not in kept])
        return lasting

    def _walk(self, where: Selection | None, order: str) -> Walk:
        key = order, where.text if where else ""
        if key not in self._walks:
            self._walks[key] = Walk(self._reader(where), where, order, self._refused, self._server.now)
        return self._walks[key]

    def _won(self, walk: Walk, won: Sequence[Token]) -> None:
        self._refused.won()
        ids = {token.id for token in won}
        for other in self._walks.values():
            if other is not walk:
                other.forget(ids)

    def _write(
        self, take: Callable[[Token], Token], docs: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Token], int]:
        """Write the claims; those that hold, and how many can never hold."""
        before = len(self._refused)
        tokens, writes = [], []
        for doc in docs:
            free = self._attached.token(doc)
            token = take(free)
            try:
                writes.append(bulk.Write(bulk.document(token), token.attachments))
                tokens.append(token)
            except (InvalidInput, TokenTooLarge) as error:
                if isinstance(error, InvalidInput) and bulk.can_be_written(free):
                    raise  # it is the claim that is wrong, and no document
                self._refused.note(doc, error)
        try:
            answers = bulk.write(self._server, self._database, writes)
        except PoolError as error:
            self._doubts.unanswered(tokens)
            if not isinstance(error, PoolUnavailable):
                raise
            return [], 0
        return self._won_of(tokens, answers), len(self._refused) - before

    def _won_of(self, tokens: Sequence[Token], answers: Sequence[bulk.Written]) -> list[Token]:
        """The claims that hold by what the server said of them; the others are dealt with."""
        won, unconfirmed, late = [], [], []
        for token, written in zip(tokens, answers):
            if written.refused is not None:
                self._refused.note({"_id": token.id, "_rev": token.rev}, written.refused)
            elif written.revision is None:
                late.append(token)
            elif written.quorum:
                self._attached.remember(token.id, written.revision, token.attachments)
                won.append(Token(token.id, token.body, written.revision, token.attachments))
            else:
                unconfirmed.append(token)
        self._doubts.unconfirmed(unconfirmed)
        self._doubts.refused(late)
        if late:
            self._strangers.suspect()
        if unconfirmed and not won:
            self._doubts.wait()  # it may be that no claim is confirmed now: no more are made before that is known
        return won

    def leave(self) -> list[Token]:
        """Give up claims that are in doubt; those that hold, and that nobody was told of.

        None are while another thread is at it: it may be waiting for a server that is silent.
        """
        if not self._lock.acquire(timeout=LEAVE_SECONDS):
            return []
        try:
            return self._doubts.leave()
        finally:
            self._lock.release()
