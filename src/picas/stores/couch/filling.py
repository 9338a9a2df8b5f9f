"""Taking turns to fill a CouchDB database.

CouchDB keeps ids unique and nothing else, so that no two pushes add the same line is seen to by looking push
keys up in an index. To wait for that index at every batch makes a large push several times slower. So large
pushes take turns: a document says who has the turn and until when, by the server's clock, and is written by
compare-and-set. Whoever has it needs to look only once what there was before.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from picas.errors import PicasError, PoolUnavailable
from picas.stores.couch import bulk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from picas.payload import Payload
    from picas.stores.couch.http import Server
    from picas.tokens import Token

    Files = Mapping[str, Sequence[Payload]]
    Insert = Callable[[Sequence[Token], Files], list[Token | None]]

TURN = "picas_turn"
"""The document."""

LEASE_SECONDS = 60.0
"""A turn that was not prolonged for so long is over: whoever had it is gone."""

PROLONG_SECONDS = 20.0
"""It is prolonged when this much of it is over."""

POLL_SECONDS = (0.3, 1.0)
"""Shortest and longest time between two looks of somebody who waits for a turn."""

UNSURE = 20
"""So often a turn is tried for that nobody has, without a quorum of a cluster or against others who try."""


class Turn:
    """One turn; a context manager that waits for it on entering.

    Args:
        database: the database's name, quoted.
        on_wait: called once with who has the turn, if it is to be waited for.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def __init__(self, server: Server, database: str, on_wait: Callable[[str], object] | None) -> None:
        self._server = server
        self._path = f"{database}/{TURN}"
        self._database = database
        self._on_wait = on_wait
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        self._revision: str | None = None
        self._prolonged = 0.0
        self._lost = False
        self._lock = threading.Lock()

    def __enter__(self) -> Turn:
        try:
            self._take()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        # If the server is away the turn ends by itself, and what is raised already says so.
        with suppress(PicasError):
            found = self._found()
            if found.get("holder") == self._holder:
                self._revision = found["_rev"]
                self._write(0.0)

    def keep(self) -> bool:
        """Prolong the turn if it is time to; whether nobody else can have had it meanwhile."""
        # By the server's clock: ours stands still while the machine sleeps.
        with self._lock:
            if abs(self._server.now() - self._prolonged) < PROLONG_SECONDS:
                return not self._lost
            if not self._write(self._server.now() + LEASE_SECONDS):
                self._take()
                self._lost = True
            return not self._lost

    def _take(self) -> None:
        told = False
        unsure = 0
        while True:
            found = self._found()
            self._revision = found.get("_rev")
            now = self._server.now()
            if found.get("holder") == self._holder or not _is_running(found.get("until"), now):
                if self._write(now + LEASE_SECONDS):
                    return
                unsure += 1
                if unsure == UNSURE:
                    raise PoolUnavailable(
                        f"{self._server.url} takes no large push now: nodes of its cluster are away, or its "
                        "answers are lost",
                        "Push again when it is well.",
                    )
            elif not told and self._on_wait is not None:
                self._on_wait(str(found.get("holder")))
                told = True
            time.sleep(random.uniform(*POLL_SECONDS))  # noqa: S311 - spreads those who wait

    def _found(self) -> dict[str, Any]:
        answer = self._server.request("GET", self._path, expect=(404,))
        return answer.value if answer.status != 404 else {}

    def _write(self, until: float) -> bool:
        """Have the turn until then; whether it is ours."""
        document: dict[str, Any] = {"_id": TURN, "type": "picas", "holder": self._holder, "until": until}
        if self._revision is not None:
            document["_rev"] = self._revision
        written = bulk.write(self._server, self._database, [bulk.Write(document)])[0]
        if written.refused is not None:
            raise written.refused
        self._revision = written.revision or self._revision
        self._prolonged = self._server.now()
        return written.revision is not None and written.quorum


def _is_running(until: Any, now: float) -> bool:
    return isinstance(until, (int, float)) and now < until <= now + 2 * LEASE_SECONDS


class CouchFilling:
    """Adding many tokens while one has the turn; a `picas.stores.base.Filling`. Several threads may insert.

    Args:
        known: which of these push keys tokens carry, by an index that may lag behind if so wished.
        add: adds tokens without a look at their push keys.
        insert: the same with one.
    """

    at_once = 3
    """While one is being stored, another is on its way and a third is put together."""

    def __init__(
        self,
        turn: Turn,
        known: Callable[[Collection[str], bool], set[str]],
        add: Insert,
        insert: Insert,
    ) -> None:
        self._turn = turn
        self._known = known
        self._add = add
        self._insert = insert
        self._looked = False  # the index knows all that was there before this turn

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        """See `picas.stores.base.Store.known_push_keys`; what was added in this turn is left out."""
        found = self._known(keys, self._looked and self._turn.keep())
        self._looked = True
        return found

    def insert(self, tokens: Sequence[Token], files: Files | None = None) -> list[Token | None]:
        """See `picas.stores.base.Store.insert`."""
        return (self._add if self._turn.keep() else self._insert)(tokens, files or {})
