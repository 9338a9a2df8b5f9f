"""The free tokens that any map view lists, in the order that claims want them in.

A view of somebody else's knows nothing of priorities or ages. So a bounded number of its documents is looked
at, and what is worth claiming is kept in memory by key and id: a snapshot, which answers what our own view
would be asked, and is taken anew when it is used up.
"""

from __future__ import annotations

import random
import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from picas.stores.couch.index import age_of
from picas.stores.couch.map_view import fetch_documents
from picas.tokens import State, not_before_of, priority_of, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from picas.selection import Selection
    from picas.stores.couch.http import Server
    from picas.stores.couch.map_view import MapView

    Document = dict[str, Any]
    Row = dict[str, Any]
    Place = tuple[tuple[Any, ...], str]

KEPT = 5_000
"""Free tokens in a snapshot. Priority and age are kept among these; looking at them takes about a second."""

LOOKED_AT = 200
"""Documents read at a time."""

SECONDS = 5.0
"""A snapshot that has taken so long, of very large documents, is enough with what it has."""

SPREAD = 100_000
"""Of more tokens than it keeps, it begins at a random one of so many: the server must count its way there."""

LASTING = 20.0
"""So many times what it took to take is a snapshot good for, and at least …"""

LASTING_SECONDS = 10.0
"""… this long, until it is looked whether something better has come."""


class Snapshot:
    """The free tokens of a map view that fit, as rows with the keys ["todo", −priority, number].

    Args:
        database: the database's name, quoted.

    Attributes:
        first_due: when the time of the first token comes that was seen, fits, and waits for its next try; and its id.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def __init__(self, server: Server, database: str, view: MapView, where: Selection | None) -> None:
        self._server = server
        self._database = database
        self._view = view
        self._where = where
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._sequence: Any = None  # of the database, when the snapshot was begun
        self._taken = 0.0
        self._cost = 0.0
        self.first_due: tuple[float, str] | None = None

    def rows(self, query: Mapping[str, Any]) -> list[Row]:
        """What our own view would answer. Without ``update=false`` the rows are those of now."""
        with self._lock:
            if query.get("update") != "false" or self._age() > max(LASTING_SECONDS, LASTING * self._cost):
                self._take()
            found = _between(self._rows, query)
        if query.get("reduce", True):
            found = _counted(found, query["group_level"])
        first = query.get("skip", 0)
        found = found[first : first + query["limit"]] if "limit" in query else found[first:]
        if not query.get("include_docs"):
            return found
        ids = [row["id"] for row in found]
        docs = {doc["_id"]: doc for doc in fetch_documents(self._server, self._database, ids)}
        return [{**row, "doc": docs.get(row["id"])} for row in found]

    def _documents(self, ids: list[str]) -> Iterator[Document]:
        for start in range(0, len(ids), LOOKED_AT):
            for doc in fetch_documents(self._server, self._database, ids[start : start + LOOKED_AT]):
                if self._fits(doc):
                    yield doc

    def _fits(self, doc: Document) -> bool:
        if state_of(doc) is not State.TODO or not (
            self._where is None or self._where.matches(doc["_id"], doc)
        ):
            return False
        due = not_before_of(doc)
        if due <= self._server.now():
            return True
        self.first_due = min((due, doc["_id"]), self.first_due or (due, doc["_id"]))
        return False

    def _age(self) -> float:
        return time.monotonic() - self._taken if self._sequence is not None else float("inf")

    def _take(self) -> None:
        """Take it anew, unless nothing has been written to the database since."""
        sequence = self._server.request("GET", self._database).value.get("update_seq")
        is_due = self.first_due is not None and self.first_due[0] <= self._server.now()
        if self._sequence is not None and sequence == self._sequence and not is_due:
            self._taken = time.monotonic()
            return
        begun = time.monotonic()
        self.first_due = None
        total = self._view.total()
        start = random.randrange(min(total, SPREAD)) if total > KEPT else 0  # noqa: S311 - spreads pilots
        found: dict[str, Row] = {}
        for ids in self._view.ids(start):
            for doc in self._documents(ids):
                key = ["todo", -priority_of(doc), age_of(doc["_id"])]
                found[doc["_id"]] = {"id": doc["_id"], "key": key}
            if len(found) >= KEPT or (found and time.monotonic() - begun > SECONDS):
                break
        self._rows = sorted(found.values(), key=_place)
        self._sequence, self._taken = sequence, time.monotonic()
        self._cost = self._taken - begun


def _between(rows: list[Row], query: Mapping[str, Any]) -> list[Row]:
    """The rows from startkey to endkey."""
    if query.get("descending"):
        low, high = _end(query, "endkey", ""), _end(query, "startkey", query.get("startkey_docid", _LAST))
        backwards = -1
    else:
        low, high = _end(query, "startkey", query.get("startkey_docid", "")), _end(query, "endkey", _LAST)
        backwards = 1
    return [row for row in rows if low <= _place(row) <= high][::backwards]


def _counted(rows: list[Row], level: int) -> list[Row]:
    """What _count makes of them, by the beginnings of their keys."""
    groups = groupby(rows, key=lambda row: row["key"][:level])
    return [{"key": key, "value": sum(1 for _ in group)} for key, group in groups]


def _end(query: Mapping[str, Any], name: str, token_id: str) -> Place:
    return _collated(query[name]), token_id


def _place(row: Row) -> Place:
    return _collated(row["key"]), row["id"]


def _collated(key: list[Any]) -> tuple[Any, ...]:
    """A key as CouchDB orders it, of what there is in ours: numbers, strings, and {} after all of them."""
    return tuple((2, 0) if part == {} else (1, part) if isinstance(part, str) else (0, part) for part in key)


_LAST = "\U0010ffff"
