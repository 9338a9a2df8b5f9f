"""The index that our own design documents make: lean views, of which every answer is one small request."""

from __future__ import annotations

import time
from heapq import merge
from typing import TYPE_CHECKING, Any

from picas.errors import PoolUnavailable
from picas.stores import design
from picas.stores.base import Progress, Tally
from picas.stores.couch import groups
from picas.stores.couch.changes import PushKeys
from picas.stores.couch.index import DUE, LATER, MEND, OTHER, PAGE, STATES
from picas.stores.couch.tallies import tally_of
from picas.stores.couch.walk import FREE, LAGGING
from picas.stores.design import MAIN, PUSH
from picas.tokens import State, state_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from picas.selection import Selection
    from picas.stores.couch.designs import Designs
    from picas.stores.couch.http import Server
    from picas.stores.couch.index import Document, Read, Row

    Place = tuple[Any, ...]

BUILDING_SECONDS = 30.0
"""Where no answer has come for so long it is looked whether an index is being built."""

MOST_DUE = 1000
"""Of so many tokens that wait for their next try is looked which ones fit a condition."""

MANY_PRIORITIES = 100
"""So many different priorities are listed one by one; with more, order by age is only kept within each."""


KNOWN_PARTS = 2
"""Of the keys of `fields.js`: what stands in them before the fields."""


class OwnIndex:
    """The `picas.stores.couch.index.Index` of our own design documents.

    Args:
        database: the database's name, quoted.
        designs: the design documents, of which `MAIN` is there.
    """

    def __init__(self, server: Server, database: str, designs: Designs) -> None:
        self._server = server
        self._database = database
        self._designs = designs
        self._push_keys: PushKeys | None = None  # where there is no view of them
        self._push_view = False  # there is

    def _view(
        self,
        name: str,
        view: str,
        query: Mapping[str, Any],
        body: Any = None,
        wanted: Document | None = None,
    ) -> list[Row]:
        path = f"{self._database}/_design/{name}/_view/{view}"
        method = "GET" if body is None else "POST"
        begun = time.monotonic()
        try:
            answer = self._server.request(method, path, body, query=query, expect=(404,))
            if answer.status == 404:  # somebody has removed the design document
                if not self._designs.ensure(name, wanted):
                    raise self._designs.not_allowed()
                answer = self._server.request(method, path, body, query=query)
        except PoolUnavailable as error:
            if time.monotonic() - begun > BUILDING_SECONDS and (building := self._designs.building(name)):
                raise building from error
            raise
        rows: list[Row] = answer.value["rows"]
        return rows

    def _rows(self, query: Mapping[str, Any]) -> list[Row]:
        rows = self._view(MAIN, "tokens", query)
        if rows and not _is_key(rows[0].get("key")):
            raise self._designs.unusable(MAIN)
        return rows

    def reader(self, where: Selection | None) -> Read:
        return self._free_rows

    def _free_rows(self, query: Mapping[str, Any]) -> list[Row]:
        rows = self._rows(query)
        if not rows and query.get("update") != "false":
            # A view that somebody has just edited has no such rows either: that is not an empty pool.
            self._designs.ensure(MAIN)
        return rows

    def free_count(self, update: str) -> int:
        rows = self._rows({**FREE, "reduce": True, "group_level": 1, "update": update})
        return int(rows[0]["value"]) if rows else 0

    def documents(self, states: Collection[State | None]) -> Iterator[Document]:
        last: Place = ()
        for place, state, doc in merge(*self._streams(states), key=lambda item: item[0]):
            # What moved to another state meanwhile has been seen in the one before.
            if place > last and state_of(doc) is state:
                last = place
                yield doc

    def _streams(
        self, states: Collection[State | None]
    ) -> list[Iterator[tuple[Place, State | None, Document]]]:
        """For each state, and each priority in it, its documents by age."""
        groups = self._rows({"group_level": 2})
        names = {state.value if state else None: state for state in states}
        if State.TODO in states:
            names[LATER] = State.TODO
        found = [row["key"] for row in groups if row["key"][0] in names]
        if len(found) > MANY_PRIORITIES:
            return [self._stream([name], state) for name, state in names.items()]
        return [self._stream(key, names[key[0]]) for key in found]

    def _stream(
        self, start: list[Any], state: State | None
    ) -> Iterator[tuple[Place, State | None, Document]]:
        for place, doc in self._aged(start):
            yield place, state, doc

    def _aged(self, start: list[Any]) -> Iterator[tuple[Place, Document]]:
        """The documents whose rows begin with this, in order, each with its place in that order; some twice."""
        query: dict[str, Any] = {"startkey": start, "endkey": [*start, {}], "reduce": False}
        query.update(include_docs=True, limit=PAGE)
        while True:
            rows = self._rows(query)
            for row in rows:
                if row.get("doc"):
                    yield (*row["key"][len(start) :], row["id"]), row["doc"]
            if len(rows) < PAGE:
                return
            # That row again, if it is still there: to skip one would skip another if it is not.
            query.update(startkey=rows[-1]["key"], startkey_docid=rows[-1]["id"])

    def counts(self) -> dict[State | None, int]:
        counted: dict[State | None, int] = dict.fromkeys(STATES, 0)
        for row in self._rows({"group_level": 1}):
            name = row["key"][0]
            if name not in (MEND, OTHER, DUE):
                name = State.TODO if name == LATER else name
                counted[State(name) if name else None] += row["value"]
        return counted

    def due(self, limit: int) -> list[tuple[float, str]]:
        rows = self._rows({**_DUE, "limit": limit})
        return [(float(row["key"][2]), row["id"]) for row in rows]

    def next_due(self, where: Selection | None) -> float | None:
        if where is None:
            first = self.due(1)
            return first[0][0] if first else None
        for row in self._rows({**_DUE, "include_docs": True, "limit": MOST_DUE}):
            if where.matches(row["id"], row.get("doc") or {}):
                return float(row["key"][2])
        return None

    def tally(self, fields: Sequence[Sequence[str]], now: float) -> list[Tally]:
        name, wanted = design.by_fields(fields)
        if not self._designs.ensure(name, wanted):
            return tally_of(self.documents((State.TODO, State.LOCKED)), fields, now)

        def ask(query: Mapping[str, Any]) -> list[Row]:
            return self._view(name, "count", query, wanted=wanted)

        levels = range(KNOWN_PARTS + 1, KNOWN_PARTS + len(fields))
        rows = groups.counted(ask, [State.LOCKED.value], [State.TODO.value, {}], levels)
        rows += ask({"startkey": [LATER], "endkey": [LATER, now, {}], "group": True})
        return [
            Tally(
                State.TODO if row["key"][0] == LATER else State(row["key"][0]),
                tuple(row["key"][KNOWN_PARTS:]),
                int(row["value"]),
            )
            for row in rows
        ]

    def latest(self, limit: int) -> list[Document]:
        query = {"reduce": False, "descending": True, "limit": limit, "include_docs": True}
        rows = self._view(MAIN, "finished", query)
        return [row["doc"] for row in rows if row.get("doc")]

    def to_mend(self, limit: int) -> list[str]:
        query = {"startkey": [MEND], "endkey": [MEND, {}], "reduce": False, "limit": limit}
        return [row["id"] for row in self._rows(query)]

    def last_stranger(self) -> float | None:
        query = {"startkey": [OTHER, {}], "endkey": [OTHER], "descending": True, "limit": 1, "reduce": False}
        rows = self._rows({**query, **LAGGING})
        return float(rows[0]["key"][2]) if rows else None

    def progress(self, now: float, seconds: float) -> Progress:
        since = {"startkey": now - seconds}
        rows = self._view(MAIN, "finished", since)
        if not rows:
            return Progress(now, seconds, 0, None)
        try:
            finished, total, told = (float(each) for each in rows[0]["value"])
        except (TypeError, ValueError):
            raise self._designs.unusable(MAIN) from None
        first = self._view(MAIN, "finished", {**since, "reduce": False, "limit": 1})
        wall = total / told if told else None
        span = max(now - first[0]["key"] + (wall or 0), 0.001) if first else seconds
        return Progress(now, min(seconds, span), int(finished), wall)

    def push_keys(self, keys: Collection[str], lagging: bool = False) -> set[str]:  # noqa: FBT001, FBT002
        if not self._push_view and self._push_keys is None:
            self._push_view = self._designs.ensure(PUSH)
            if not self._push_view:
                self._push_keys = PushKeys(self._server, self._database)
        if self._push_keys is not None:
            return self._push_keys.known(keys)
        query = {"reduce": False, **(LAGGING if lagging else {})}
        found = self._view(PUSH, "keys", query, {"keys": list(keys)})
        return {row["key"] for row in found}


def _is_key(key: Any) -> bool:
    """Whether this is how a key of our view begins: [state, −priority, …]."""
    return isinstance(key, list) and key[:1] in _FIRST and all(isinstance(n, (int, float)) for n in key[1:])


_FIRST = (*([state.value if state else None] for state in STATES), [LATER], [DUE], [MEND], [OTHER])

_DUE: dict[str, Any] = {"startkey": [DUE], "endkey": [DUE, {}], "reduce": False}
