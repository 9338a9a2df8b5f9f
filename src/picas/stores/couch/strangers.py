"""Pilots of picasclient 1.x in the same database, which may take a token from us in the moment after our claim.

1.x takes an id from a view, reads the document, and writes its lock over whatever lock is there by then. A token
that we claim in between is locked once more, and would run twice. Nothing in a document can keep 1.x from it, but
the moment is short: where 1.x is about, a claim counts only once it has lasted for longer than that.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Callable

from picas.stores import design

if TYPE_CHECKING:
    from collections.abc import Sequence

    from picas.stores.couch.http import Server
    from picas.tokens import Token

OUTLAST_SECONDS = 1.0
"""How long a claim must last. 1.x needs two requests from its look at the view to its lock."""

LATELY_SECONDS = 7 * 86_400.0
"""A pilot of 1.x that has locked a token this long ago may still be at work on it, and claim another one."""

LOOK_SECONDS = 10.0
"""How often is looked whether 1.x has come."""


class Strangers:
    """What a process does about pilots of 1.x; for one thread at a time.

    Args:
        database: the database's name, quoted.
        last_lock: when a pilot that is not ours last locked a token, Unix seconds; None for never.
    """

    def __init__(self, server: Server, database: str, last_lock: Callable[[], float | None]) -> None:
        self._server = server
        self._database = database
        self._last_lock = last_lock
        self._about = False
        self._look_at = -math.inf
        self._set_up_by_1x: bool | None = None

    def about(self) -> bool:
        """Whether pilots of 1.x may be at work here.

        A database whose classic views are not of our making was set up for 1.x; elsewhere 1.x shows by its locks.

        Raises:
            PoolUnavailable, PoolRefused: as requests do.
        """
        if self._set_up_by_1x is None:
            path = f"{self._database}/_design/{design.CLASSIC}"
            answer = self._server.request("GET", path, expect=(404,))
            self._set_up_by_1x = answer.status != 404 and not design.judge(design.CLASSIC, answer.value).ours
        if not self._set_up_by_1x and time.monotonic() >= self._look_at:
            last = self._last_lock()
            self._about = last is not None and self._server.now() - last < LATELY_SECONDS
            self._look_at = time.monotonic() + LOOK_SECONDS
        return self._set_up_by_1x or self._about

    def suspect(self) -> None:
        """Look again at the next claim: somebody was faster, and it may have been 1.x."""
        self._look_at = -math.inf

    def outlast(self, claims: Sequence[Token]) -> list[Token]:
        """Those of our claims that still hold when 1.x can undo them no more.

        Raises:
            PoolUnavailable, PoolRefused: as requests do; which of them hold is then not known.
        """
        if not claims:
            return []
        time.sleep(OUTLAST_SECONDS)
        keys = {"keys": [token.id for token in claims]}
        rows = self._server.request("POST", f"{self._database}/_all_docs", keys).value["rows"]
        return [token for token, row in zip(claims, rows) if row.get("value", {}).get("rev") == token.rev]
