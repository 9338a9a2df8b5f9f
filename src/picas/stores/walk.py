"""Where the next claim in a CouchDB database looks: a walk over the index of free tokens.

It starts at the front. When others are met there (a third of a batch is taken), it goes on from a random
place of the highest priority, and from then on from where it last was, so that pilots rarely meet and an
index that lags behind hardly matters: what one has locked is behind one. At the end it begins again at the
front, and only there waits for the index to be brought up to date.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picas.tokens import State, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from picas.selection import Selection

    Rows = list[dict[str, Any]]
    Read = Callable[[Mapping[str, Any]], Rows]

CONTENTION = 1 / 3
"""Share of a batch found taken from which on the walk goes to a random place."""

FRONT_SECONDS = 1.0
"""How often it looks whether something of higher priority has come."""

PAGE = 100
"""Rows read at a time where a condition will leave out some."""

FREE: dict[str, Any] = {"startkey": ["todo"], "endkey": ["todo", {}], "reduce": False}
"""The rows of free tokens in the view: [state, −priority, number]."""


@dataclass(frozen=True)
class _Place:
    key: list[Any]
    id: str


class Walk:
    """One walk; for one thread at a time.

    Args:
        read: reads rows of the view with the given parameters.
        where: which tokens are wanted; None for all.
    """

    def __init__(self, read: Read, where: Selection | None) -> None:
        self._read = read
        self._where = where
        self._place: _Place | None = None  # None: the front
        self._front_seen = 0.0

    def candidates(self, limit: int) -> Rows:
        """Up to ``limit`` documents that were free when they were read; none if there are none at all."""
        self._look_at_front()
        # At the front order counts, and what was written just now is to be seen; from there on the index may lag.
        fresh = self._place is None
        while True:
            count = limit if self._where is None else max(limit, PAGE)
            rows = self._rows(count, fresh=fresh)
            fitting = []
            for row in rows:
                self._place = _Place(row["key"], row["id"])
                if self._fits(row.get("doc")):
                    fitting.append(row["doc"])
                    if len(fitting) == limit:
                        break
            if fitting:
                return fitting
            if len(rows) == count:
                continue
            if fresh:
                self._place = None
                return []
            # The end. Once more from the front, with an index that knows all that has been written.
            self._place, fresh = None, True

    def met_others(self, tried: int, won: int) -> None:
        """Note how many of a batch were got: among too many others, go elsewhere."""
        if tried and (tried - won) / tried > CONTENTION:
            self._jump()

    def _fits(self, doc: Any) -> bool:
        if not isinstance(doc, dict) or state_of(doc) is not State.TODO:
            return False
        return self._where is None or self._where.matches(doc["_id"], doc)

    def _rows(self, count: int, *, fresh: bool) -> Rows:
        query: dict[str, Any] = {**FREE, "include_docs": True, "limit": count}
        if not fresh:
            query["update"] = "false"
        if self._place is not None:
            query.update(startkey=self._place.key, startkey_docid=self._place.id, limit=count + 1)
        rows = self._read(query)
        if self._place is not None and rows and rows[0]["id"] == self._place.id:
            rows = rows[1:]  # where we stand; it may also be gone by now
        return rows[:count]

    def _look_at_front(self) -> None:
        if self._place is None or time.monotonic() - self._front_seen < FRONT_SECONDS:
            return
        self._front_seen = time.monotonic()
        front = self._read({**FREE, "limit": 1, "update": "false"})
        if front and front[0]["key"][1] < self._place.key[1]:
            self._place = None

    def _jump(self) -> None:
        """To a random place among the free tokens of the highest priority."""
        first = self._read({**FREE, "limit": 1, "update": "false"})
        if not first:
            self._place = None
            return
        _, priority, low = first[0]["key"]
        range_ = {"startkey": ["todo", priority, {}], "endkey": ["todo", priority], "reduce": False}
        last = self._read({**range_, "descending": True, "limit": 1, "update": "false"})
        high = last[0]["key"][2] if last else low
        self._place = _Place(["todo", priority, random.uniform(low, high)], "")  # noqa: S311 - spreads pilots
