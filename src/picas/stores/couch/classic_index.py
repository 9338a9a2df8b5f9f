"""The index where there are only the classic views and we may write none of our own: slower, and it works.

Claims go over snapshots of what `Monitor` lists as todo. Where tokens of several states are wanted, all
documents are read. Order by age holds among `WINDOW` tokens at a time, which is all of a pool that has no more.
"""

from __future__ import annotations

import json
import time
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from picas.stores.couch.changes import PushKeys, progress_of_changes
from picas.stores.couch.index import PAGE, STATES, age_of
from picas.stores.couch.map_view import MapView, fetch_documents
from picas.stores.couch.snapshot import Snapshot
from picas.stores.couch.tallies import tally_of
from picas.stores.design import CLASSIC, TOTALS
from picas.tokens import TOKEN_TYPE, State, state_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from picas.selection import Selection
    from picas.stores.base import Progress, Tally
    from picas.stores.couch.http import Server
    from picas.stores.couch.index import Document, Read

WINDOW = 20_000
"""Ids that are ordered by age at a time."""


class ViewClaims:
    """Claims of those tokens alone that a map view lists; a `picas.stores.couch.index.Claimable`.

    Args:
        database: the database's name, quoted.
    """

    def __init__(self, server: Server, database: str, view: MapView) -> None:
        self._server = server
        self._database = database
        self._view = view
        self._snapshots: dict[str, Snapshot] = {}

    def reader(self, where: Selection | None) -> Read:
        snapshot = Snapshot(self._server, self._database, self._view, where)
        self._snapshots[where.text if where else ""] = snapshot
        return snapshot.rows

    def free_count(self, update: str) -> int:
        return self._view.total(update)

    def due(self, limit: int) -> list[tuple[float, str]]:
        # As far as the last claims have seen: to look for all would be to read all that the view lists.
        found = (snapshot.first_due for snapshot in self._snapshots.values())
        return sorted({first for first in found if first is not None})[:limit]

    def next_due(self, where: Selection | None) -> float | None:
        known = {token_id: when for when, token_id in self.due(PAGE)}
        for doc in fetch_documents(self._server, self._database, list(known)):
            if where is None or where.matches(doc["_id"], doc):
                return known[doc["_id"]]
        return None


class ClassicIndex(ViewClaims):
    """The `picas.stores.couch.index.Index` of the classic design document."""

    def __init__(self, server: Server, database: str) -> None:
        super().__init__(server, database, MapView(server, database, CLASSIC, State.TODO.value))
        self._push_keys: PushKeys | None = None

    def documents(self, states: Collection[State | None]) -> Iterator[Document]:
        wanted = set(states)
        for ids in _windows(self._ids(wanted), WINDOW):
            ids.sort(key=lambda token_id: (age_of(token_id), token_id))
            for start in range(0, len(ids), PAGE):
                for doc in fetch_documents(self._server, self._database, ids[start : start + PAGE]):
                    if doc.get("type") == TOKEN_TYPE and state_of(doc) in wanted:
                        yield doc

    def _ids(self, states: set[State | None]) -> Iterator[str]:
        """The ids of tokens in these states, and maybe of others, each once."""
        if len(states) == 1:
            state = next(iter(states))
            view = MapView(self._server, self._database, CLASSIC, state.value) if state else None
            if view is not None and view.exists():
                for ids in view.ids():
                    yield from ids
                return
        query: dict[str, Any] = {"limit": WINDOW}
        last = None
        while states:
            rows = self._server.request("GET", f"{self._database}/_all_docs", query=query).value["rows"]
            yield from (row["id"] for row in rows if row["id"] != last and row["id"][:8] != "_design/")
            if len(rows) < WINDOW:
                return
            last = rows[-1]["id"]  # it may be gone when the next are read, so it is not skipped
            query.update(startkey=json.dumps(last))

    def counts(self) -> dict[State | None, int]:
        counted: dict[State | None, int] = dict.fromkeys(STATES, 0)
        totals = self._totals()
        for state in State:
            if totals is not None:
                counted[state] = totals.get(state.value, 0)
            else:
                view = MapView(self._server, self._database, CLASSIC, state.value)
                counted[state] = view.total() if view.exists() else 0
        return counted

    def _totals(self) -> dict[str, int] | None:
        """What the view of totals says; None if there is none that can be read."""
        path = f"{self._database}/_design/{CLASSIC}/_view/{TOTALS}"
        answer = self._server.request("GET", path, query={"group": True}, expect=(400, 404))
        rows = answer.value.get("rows") if answer.status < 300 else None
        if not isinstance(rows, list):
            return None
        totals = {str(row.get("key")): row.get("value") for row in rows}
        # A reduce function that fails gives a row with an error in it.
        if not all(isinstance(count, (int, float)) for count in totals.values()):
            return None
        return {name: int(count) for name, count in totals.items()}

    def tally(self, fields: Sequence[Sequence[str]], now: float) -> list[Tally]:
        # Of one state at a time: of several all documents are read.
        found = chain(self.documents([State.TODO]), self.documents([State.LOCKED]))
        return tally_of(found, fields, now)

    def latest(self, limit: int) -> list[Document]:
        return list(islice(self.documents([State.DONE]), limit))

    def to_mend(self, limit: int) -> list[str]:
        return []  # none is known: the classic views say nothing of conflicts

    def last_stranger(self) -> float | None:
        return time.time()  # nothing tells that there are none, and the classic views are what they work by

    def progress(self, now: float, seconds: float) -> Progress:
        return progress_of_changes(self._server, self._database, now, seconds)

    def push_keys(self, keys: Collection[str], lagging: bool = False) -> set[str]:  # noqa: FBT001, FBT002
        if self._push_keys is None:
            self._push_keys = PushKeys(self._server, self._database)
        return self._push_keys.known(keys)


def _windows(ids: Iterator[str], size: int) -> Iterator[list[str]]:
    window: dict[str, None] = {}
    for token_id in ids:
        window[token_id] = None
        if len(window) == size:
            yield list(window)
            window = {}
    yield list(window)
