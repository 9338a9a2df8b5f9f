"""What a CouchDB store asks of its views, and the answers from the design documents of our own.

Everything that reads a view is here: where free tokens are, in which order, how many there are of each state,
what was pushed. The store itself reads and writes documents by their ids.
"""

from __future__ import annotations

from heapq import merge
from typing import TYPE_CHECKING, Any, Protocol

from picas.stores import design
from picas.stores.base import Progress
from picas.stores.walk import FREE
from picas.tokens import State, state_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from picas.stores.http import Server

    Document = dict[str, Any]
    Row = dict[str, Any]

PAGE = 200
"""Rows read at a time with their documents."""

MANY_PRIORITIES = 100
"""So many different priorities are listed one by one; with more, order by age is only kept within each."""

STATES: tuple[State | None, ...] = (*State, None)


class Index(Protocol):
    """Where tokens are found. What it tells may be a moment old: documents are to be looked at again.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def rows(self, query: Mapping[str, Any]) -> list[Row]:
        """Rows of tokens by state, priority and age, for a `picas.stores.walk.Walk`.

        Args:
            query: parameters of a view whose keys are [state, −priority, number].
        """

    def documents(self, states: Collection[State | None]) -> Iterator[Document]:
        """The documents that are in one of these states (None: in none), oldest first, each once."""

    def free(self, *, newest: bool) -> Iterator[Document]:
        """The documents that are free, by age, whatever their priority."""

    def counts(self) -> dict[State | None, int]:
        """How many tokens are in each state; under None those that are in none."""

    def progress(self, now: float, seconds: float) -> Progress:
        """What was finished in the ``seconds`` before ``now``."""

    def push_keys(self, keys: Collection[str]) -> set[str]:
        """Those of the push keys that tokens carry."""


class OwnIndex:
    """The `Index` that our own design documents make; they are written where there are none.

    Args:
        database: the database's name, quoted.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._designed = False

    def _view(self, name: str, view: str, query: Mapping[str, Any], body: Any = None) -> list[Row]:
        if not self._designed:
            design.ensure(self._server, self._database)
            self._designed = True
        path = f"{self._database}/_design/{name}/_view/{view}"
        answer = self._server.request("GET" if body is None else "POST", path, body, query=query)
        rows: list[Row] = answer.value["rows"]
        return rows

    def rows(self, query: Mapping[str, Any]) -> list[Row]:
        return self._view(design.MAIN, "tokens", query)

    def documents(self, states: Collection[State | None]) -> Iterator[Document]:
        last: tuple[Any, ...] = ()
        for place, state, doc in merge(*self._streams(states), key=lambda item: item[0]):
            # What moved to another state meanwhile has been seen in the one before.
            if place > last and state_of(doc) is state:
                last = place
                yield doc

    def _streams(
        self, states: Collection[State | None]
    ) -> list[Iterator[tuple[tuple[Any, ...], State | None, Document]]]:
        """For each state, and each priority in it, its documents by age."""
        groups = self.rows({"group_level": 2})
        names = {state.value if state else None: state for state in states}
        found = [row["key"] for row in groups if row["key"][0] in names]
        if len(found) > MANY_PRIORITIES:
            return [self._stream([name], state) for name, state in names.items()]
        return [self._stream(key, names[key[0]]) for key in found]

    def _stream(
        self, start: list[Any], state: State | None
    ) -> Iterator[tuple[tuple[Any, ...], State | None, Document]]:
        for place, doc in self._aged(start):
            yield place, state, doc

    def _aged(self, start: list[Any], *, newest: bool = False) -> Iterator[tuple[tuple[Any, ...], Document]]:
        """The documents whose rows begin with this, in order, each with its place in that order."""
        query: dict[str, Any] = {"reduce": False, "include_docs": True, "limit": PAGE, "descending": newest}
        ends: Sequence[list[Any]] = ([*start, {}], start) if newest else (start, [*start, {}])
        query.update(startkey=ends[0], endkey=ends[1])
        while True:
            rows = self.rows(query)
            for row in rows:
                if row.get("doc"):
                    yield (*row["key"][len(start) :], row["id"]), row["doc"]
            if len(rows) < PAGE:
                return
            query.update(startkey=rows[-1]["key"], startkey_docid=rows[-1]["id"], skip=1)

    def free(self, *, newest: bool) -> Iterator[Document]:
        groups = self.rows({**FREE, "reduce": True, "group_level": 2})
        streams = [self._aged(row["key"], newest=newest) for row in groups]
        for _, doc in merge(*streams, key=lambda item: item[0], reverse=newest):
            if state_of(doc) is State.TODO:
                yield doc

    def counts(self) -> dict[State | None, int]:
        counted: dict[State | None, int] = dict.fromkeys(STATES, 0)
        for row in self.rows({"group_level": 1}):
            name = row["key"][0]
            counted[State(name) if name else None] += row["value"]
        return counted

    def progress(self, now: float, seconds: float) -> Progress:
        since = {"startkey": now - seconds}
        rows = self._view(design.MAIN, "finished", since)
        if not rows:
            return Progress(now, seconds, 0, None)
        stats = rows[0]["value"]
        first = self._view(design.MAIN, "finished", {**since, "reduce": False, "limit": 1})
        wall = stats["sum"] / stats["count"]
        span = max(now - first[0]["key"] + wall, 0.001) if first else seconds
        return Progress(now, min(seconds, span), int(stats["count"]), wall)

    def push_keys(self, keys: Collection[str]) -> set[str]:
        found = self._view(design.PUSH, "keys", {"reduce": False}, {"keys": list(keys)})
        return {row["key"] for row in found}
