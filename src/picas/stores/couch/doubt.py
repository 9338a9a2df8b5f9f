"""Claims of which it is not known whether they hold, and how that is found out.

On a single server only an answer that was lost leaves a claim in doubt, and what is stored then is what counts.
On a cluster a claim that too few nodes have confirmed (202) may be one of two, and one that was refused (409)
may still be stored on a node. Such a claim is not worked on. A moment later, when the nodes have told each other
what they have, all leaves of the document are read:

- It is the only claim there: its leaf is written once more. If a quorum confirms that, nobody else can claim
  the token any more; if then no other leaf is to be seen, nobody else has. And once more: if a quorum confirms
  that too, what was seen between the two was no view of a few nodes that had lost sight of the others. It holds.
- There is another one: it is given up for good, by a mark on its own leaf (see `picas.stores.couch.leaves`). It is
  neither made todo, which would offer a token that may be running, nor deleted, for if everybody did that
  the token would be gone.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from picas.errors import PoolUnavailable
from picas.stores.couch import bulk, conflicts, leaves
from picas.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from picas.stores.couch.http import Server

SETTLE_SECONDS = 0.25
"""How long nodes are given to tell each other what they have, before what they show is believed."""

LOOKS = (1.0, 5.0, 20.0, 60.0)
"""Seconds between the looks for a claim that is not to be found: the write may be on its way, its node away."""

MEND_SECONDS = 3.0
"""How often a process that finds nothing to claim looks for tokens that can be put right, on a cluster …"""

RARELY_SECONDS = 60.0
"""… and on a single server, where only replication makes conflicts."""

MENDED_AT_ONCE = 1000
"""And how many it deals with at a time."""


@dataclass
class _Doubt:
    token: Token
    due: float  # by the monotonic clock
    looks: tuple[float, ...]  # pauses that are left before it is forgotten
    unconfirmed: bool = False  # tried again, and a quorum was not there


class Doubts:
    """The claims of one process that are in doubt; for one thread at a time.

    Args:
        database: the database's name, quoted.
        to_mend: tells ids of tokens that `picas.stores.couch.conflicts.mend` should look at, so many at most.
        is_cluster: documents have more than one copy.
    """

    def __init__(
        self, server: Server, database: str, to_mend: Callable[[int], list[str]], *, is_cluster: bool
    ) -> None:
        self._server = server
        self._database = database
        self._to_mend = to_mend
        self._is_cluster = is_cluster
        self._doubts: list[_Doubt] = []
        self._held: list[Token] = []  # they hold, and nobody has been told yet
        self._mend_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._doubts or self._held)

    # --- What is put in doubt ---

    def unanswered(self, claims: Sequence[Token]) -> None:
        """These were sent, and no answer came."""
        self._add(claims, 0.0, LOOKS)

    def unconfirmed(self, claims: Sequence[Token]) -> None:
        """These were stored by too few nodes of a cluster."""
        self._add(claims, SETTLE_SECONDS, LOOKS)

    def refused(self, claims: Sequence[Token]) -> None:
        """These were too late, and may yet be stored on a node that did not know."""
        if claims and self._is_cluster:
            self._add(claims, SETTLE_SECONDS, ())

    def _add(self, claims: Sequence[Token], pause: float, looks: tuple[float, ...]) -> None:
        due = time.monotonic() + pause
        self._doubts += [_Doubt(claim, due, looks) for claim in claims]

    # --- What comes out ---

    def take(self, limit: int) -> list[Token]:
        """Up to ``limit`` claims that were in doubt and turned out to hold.

        Raises:
            PoolUnavailable: no answer, or too few nodes are there to be sure of any claim.
            PoolRefused: as requests do.
        """
        self._settle()
        taken, self._held = self._held[:limit], self._held[limit:]
        if not taken and any(doubt.unconfirmed for doubt in self._doubts):
            raise PoolUnavailable(
                f"{self._server.url}: too few nodes of the cluster are there to be sure of a claim",
                "It goes on when they are back, or find each other again.",
            )
        return taken

    def wait(self) -> None:
        """Until claims that were answered can be settled; not for one that was looked for in vain."""
        now = time.monotonic()
        due = [doubt.due - now for doubt in self._doubts if doubt.due - now <= SETTLE_SECONDS]
        time.sleep(max(0.0, *due, 0.0))

    def look_again(self) -> bool:
        """Before nothing is said to be left: whether claims hold, or tokens are free, that did not before.

        Raises:
            PoolUnavailable, PoolRefused: as `take`.
        """
        freed = False
        if self._doubts:
            self.wait()
            freed = self._settle()
        if time.monotonic() >= self._mend_at:
            pause = MEND_SECONDS if self._is_cluster else RARELY_SECONDS
            self._mend_at = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads pilots
            freed = self._mend(self._to_mend(MENDED_AT_ONCE)) or freed
        return freed or bool(self._held)

    def leave(self) -> list[Token]:
        """Give up what is still in doubt; the claims that hold and nobody was told of.

        Raises:
            PoolUnavailable, PoolRefused: as requests do.
        """
        if self._doubts:
            self.wait()
            self._settle()
            self._give_up()
        held, self._held = self._held, []
        return held

    # --- Finding out ---

    def _settle(self) -> bool:
        """Find out about those that it is time for; whether that has made tokens free."""
        now = time.monotonic()
        due = [doubt for doubt in self._doubts if doubt.due <= now]
        if not due:
            return False
        alone: list[tuple[_Doubt, Token]] = []
        beaten: list[Token] = []
        for doubt, found in zip(due, self._read([doubt.token for doubt in due])):
            mine = leaves.locked_by(found, doubt.token.claim_id)
            if mine is None:
                self._look_later(doubt)
            elif not self._is_cluster or _is_alone(mine, found):
                alone.append((doubt, mine))
            else:
                beaten.append(mine)
        held = self._confirm(alone) if self._is_cluster else [mine for _, mine in alone]
        self._held += held
        self._forget(held)
        return self._make_void(beaten)

    def _give_up(self) -> None:
        found = self._read([doubt.token for doubt in self._doubts])
        stored = [leaves.locked_by(each, doubt.token.claim_id) for doubt, each in zip(self._doubts, found)]
        self._make_void([mine for mine in stored if mine is not None])
        self._doubts = []

    def _make_void(self, claims: Sequence[Token]) -> bool:
        """Give these up for good, and mend their tokens as far as that goes; whether that made some free."""
        answers = self._write([leaves.void(mine) for mine in claims])
        # Where none of the nodes in reach takes it, the leaf is on another one, and comes back with that.
        given_up = [mine for mine, answer in zip(claims, answers) if answer.revision is not None]
        self._forget(given_up)
        left = {mine.claim_id for mine in claims}
        for doubt in self._doubts:
            if doubt.token.claim_id in left:
                doubt.due = time.monotonic() + SETTLE_SECONDS
        return self._mend([mine.id for mine in given_up])

    def _mend(self, ids: Sequence[str]) -> bool:
        if not ids:
            return False
        freed = conflicts.mend(self._server, self._database, ids, self._server.now()).freed
        if freed and self._is_cluster:
            time.sleep(SETTLE_SECONDS)  # an index may be built from another node's copy
        return bool(freed)

    def _forget(self, claims: Sequence[Token]) -> None:
        gone = {claim.claim_id for claim in claims}
        self._doubts = [doubt for doubt in self._doubts if doubt.token.claim_id not in gone]

    def _look_later(self, doubt: _Doubt) -> None:
        if not doubt.looks:
            self._doubts.remove(doubt)
            return
        doubt.due = time.monotonic() + doubt.looks[0]
        doubt.looks = doubt.looks[1:]

    def _confirm(self, candidates: Sequence[tuple[_Doubt, Token]]) -> list[Token]:
        """Those that hold; the others stay in doubt.

        A read does not tell how many nodes it has asked, a write does: so it is done between two writes.
        """
        first = self._write_again(candidates)
        found = self._read([mine for _, mine in first])
        alone = []
        for (doubt, mine), now_there in zip(first, found):
            leaf = leaves.locked_by(now_there, mine.claim_id)
            if leaf is not None and _is_alone(leaf, now_there):
                alone.append((doubt, leaf))
        return [mine for _, mine in self._write_again(alone)]

    def _write_again(self, candidates: Sequence[tuple[_Doubt, Token]]) -> list[tuple[_Doubt, Token]]:
        """Those whose leaf a quorum has taken once more, as they are then."""
        taken = []
        for (doubt, mine), answer in zip(candidates, self._write([mine for _, mine in candidates])):
            doubt.due = time.monotonic() + SETTLE_SECONDS
            doubt.unconfirmed = answer.revision is None or not answer.quorum
            if not doubt.unconfirmed:
                taken.append((doubt, Token(mine.id, mine.body, answer.revision, mine.attachments)))
        return taken

    def _read(self, claims: Sequence[Token]) -> list[list[Token]]:
        return leaves.read(self._server, self._database, [claim.id for claim in claims])

    def _write(self, claims: Sequence[Token]) -> list[bulk.Written]:
        writes = [bulk.Write(bulk.document(claim), claim.attachments) for claim in claims]
        return bulk.write(self._server, self._database, writes)


def _is_alone(mine: Token, found: Sequence[Token]) -> bool:
    """Whether nobody else holds the token, or did anything with it."""
    return all(leaf.claim_id == mine.claim_id or leaves.is_void(leaf) for leaf in found)
