"""Where the next claim in a CouchDB database looks: a walk over the index of free tokens.

It starts at the front. When others are met there (a third of a batch is taken), it goes on from another
place, and from then on from where it last was, so that pilots rarely meet and an index that lags behind
hardly matters: what one has locked is behind one. At the end it begins again at the front, and only there
waits for the index to be brought up to date. What was read and is not wanted yet is kept: while tokens are
long, a claim needs no look at the index at all.
"""

from __future__ import annotations

import random
import time
from collections import deque
from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple

from picas.text import deepjson
from picas.tokens import State, not_before_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping

    from picas.selection import Selection

    Document = dict[str, Any]
    Rows = list[dict[str, Any]]
    Read = Callable[[Mapping[str, Any]], Rows]

CONTENTION = 1 / 3
"""Share of a batch found taken from which on the walk goes elsewhere."""

FRONT_SECONDS = 1.0
"""How often it looks whether something has come to the front, at the most."""

FRONT_SHARE = 0.02
"""Of its time, what such looks may take: they are rarer while the server is slow."""

RANGE_SECONDS = 5.0
"""For how long the first and the last number that are free are known well enough to choose one between them."""

PAGE = 50
"""Rows read at a time at least; what is not claimed at once is kept."""

BATCHES = (3, 1000)
"""Where others are met fewer are claimed at a time, half as many each time but never less than the first number;
among nobody slowly more again, up to the second."""

SHARE = 1 / 250
"""Of what is free, the most to claim at a time where others are met: of few tokens, few, so that all get some."""

MOST_ROWS = 2000
"""Rows read at a time at most, to get past what does not fit."""

FIRST_PAGE = 10
"""Rows read at first, while it is not known how large documents are."""

CROWD_PAGE = 30
"""Rows read at most where many others read at the same moment, to take any of them."""

PAGE_BYTES = 4_000_000
"""A page of large documents has fewer rows, so that they do not fill the memory."""

DENSE = 0.01
"""Share of a range of numbers that must be in use for a random number to be a random place."""

MOST_SKIPPED = 10_000
"""Rows that the server may have to count off to find a random place where numbers are sparse."""

MOST_LANES = 100
"""So many different priorities are walked side by side when only age counts; of more, the highest."""

FREE: dict[str, Any] = {"startkey": ["todo"], "endkey": ["todo", {}], "reduce": False}
"""The rows of free tokens in the view: [state, −priority, number]."""

LAGGING = {"update": "false"}
"""What is added to a query that need not wait for the index."""


class _Place(NamedTuple):
    """A row: −priority, number, id."""

    priority: Any
    number: Any
    id: str


class Walk:
    """One walk; for one thread at a time.

    Args:
        read: reads rows of the view with the given parameters.
        where: which tokens are wanted; None for all.
        order: one of `picas.settings.config.ORDERS`. Among others ``oldest`` and ``newest`` are kept nearly: each takes
            its batch from somewhere near the front.
        refused: the documents that cannot be claimed.
        now: the time by the server's clock: tokens that wait for their next try are not wanted before theirs.
    """

    def __init__(
        self,
        read: Read,
        where: Selection | None,
        order: str = "priority",
        refused: Container[Mapping[str, Any]] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._where = where
        self._by_age = order != "priority"
        self._newest = order == "newest"
        self._refused = refused
        self._now = now
        self._place: _Place | None = None  # None: the front
        self._next_look = 0.0
        self._range: tuple[float, _Place, _Place] | None = None  # until when, from where to where is free
        self._kept: deque[Document] = deque()
        self._row_bytes = 0
        self._apart = False  # others are at the front
        self._crowd = False  # what is kept is in no order, so that others take other ones
        self._spread = 1  # how many batches from the front a walk by age may jump
        self._free = 0  # tokens of the highest priority, when they were last counted
        self._most = BATCHES[1]  # tokens to claim at a time

    def candidates(self, limit: int) -> list[Document]:
        """Up to ``limit`` documents that were free when they were read; none if there are none at all."""
        self._look_at_front()
        limit = min(limit, self._most)
        if self._apart:
            limit = min(limit, max(BATCHES[0], int(self._free * SHARE)))
        if self._kept:
            return self._from_kept(limit)
        self._crowd = False
        # At the front order counts, and what was written just now is to be seen; from there on the index may lag.
        fresh = self._place is None
        if fresh:
            self._next_look = time.monotonic() + FRONT_SECONDS
        wanted = limit
        while True:
            sizes_known = bool(self._row_bytes)
            count = self._page(wanted)
            rows = self._rows(count, fresh=fresh)
            taken = self._keep(rows, self._page(limit))
            if len(rows) == count and (not self._kept or (not sizes_known and len(self._kept) < limit)):
                if sizes_known and taken * 2 > len(rows):
                    # Others are just here, and the index has not seen it: elsewhere, by one that has.
                    self._go_elsewhere(limit)
                    fresh = True
                    continue
                wanted = min(2 * wanted, MOST_ROWS)  # there may be many more that do not fit
                continue
            if self._kept:
                return self._from_kept(limit)
            self._place = None
            if fresh:
                return []
            # The end. Once more from the front, with an index that knows all that has been written.
            fresh, self._apart = True, False

    def met_others(self, tried: int, won: int) -> None:
        """Note how many of a batch were got: among too many others, go elsewhere."""
        if self._crowd and not won:
            self._kept.clear()
            self.scatter()
        elif tried and (tried - won) / tried > CONTENTION:
            self._kept.clear()
            self._apart = True
            self._most = max(BATCHES[0], min(self._most, tried) // 2)
            self._spread = min(self._spread * 2, MOST_SKIPPED)
            self._go_elsewhere(tried)
        elif won:
            self._spread = 1
            self._most = min(BATCHES[1], self._most + 1 + self._most // 8)

    def scatter(self) -> None:
        """Many others are about to claim as well: take any, from a random place, before they are met."""
        top = self._top()
        if top is None:
            return
        count = min(CROWD_PAGE, self._page(1))
        most = max(1, min(top["value"], MOST_SKIPPED) - count)
        query = {**_ends(top["key"][1], last=self._newest), "reduce": False, "include_docs": True}
        skip = random.randrange(most)  # noqa: S311 - spreads pilots
        rows = self._read({**query, "limit": count, "skip": skip, **LAGGING})
        docs = [row["doc"] for row in rows if self._fits(row.get("doc"))]
        if docs:
            random.shuffle(docs)
            self._kept = deque(docs)
            self._apart = self._crowd = True
            self._next_look = time.monotonic() + FRONT_SECONDS
            self._place = _place_of(rows[-1])

    def forget(self, ids: Collection[str]) -> None:
        """These have been claimed, by another walk of the same pilot."""
        if self._kept:
            self._kept = deque(doc for doc in self._kept if doc["_id"] not in ids)

    def _keep(self, rows: Rows, most: int) -> int:
        """Take up to so many candidates from these rows, and stand where the last of them is; how many were taken."""
        taken = 0
        for row in rows:
            self._place = _place_of(row)
            doc: Any = row.get("doc")
            if self._fits(doc):
                self._kept.append(doc)
                if len(self._kept) >= most:
                    break
            elif not isinstance(doc, dict) or state_of(doc) is not State.TODO:
                taken += 1
        return taken

    def _from_kept(self, limit: int) -> list[Document]:
        return [self._kept.popleft() for _ in range(min(limit, len(self._kept)))]

    def _fits(self, doc: Any) -> bool:
        if not isinstance(doc, dict) or state_of(doc) is not State.TODO or doc in self._refused:
            return False
        if self._where is not None and not self._where.matches(doc["_id"], doc):
            return False
        due = not_before_of(doc)
        return not due or due <= self._now()

    # --- Reading ---

    def _page(self, limit: int) -> int:
        """How many rows to read."""
        if not self._row_bytes:
            return FIRST_PAGE
        if self._apart and limit >= BATCHES[0]:
            # Claims come often, and among others: what was kept would be taken by the time it is wanted.
            return max(1, min(limit, PAGE_BYTES // self._row_bytes))
        return max(1, min(max(limit, PAGE), PAGE_BYTES // self._row_bytes))

    def _rows(self, count: int, *, fresh: bool) -> Rows:
        """The next rows after the place, with their documents."""
        if not self._by_age:
            rows = self._lane(None, count, fresh=fresh)
        else:
            groups = self._read({**FREE, "reduce": True, "group_level": 2, **({} if fresh else LAGGING)})
            lanes = [self._lane(group["key"][1], count, fresh=False) for group in groups[:MOST_LANES]]
            rows = list(merge(*lanes, key=lambda row: _place_of(row)[1:], reverse=self._newest))[:count]
        if rows and isinstance(rows[-1].get("doc"), dict):
            self._row_bytes = len(deepjson.dumps(rows[-1]["doc"]))
        return rows

    def _lane(self, priority: Any, count: int, *, fresh: bool) -> Rows:
        """The next rows of one priority, or of all in their order."""
        query: dict[str, Any] = {**FREE, "include_docs": True, "limit": count, **({} if fresh else LAGGING)}
        place = self._place
        if priority is not None:
            query.update(_ends(priority, last=self._newest))
        if place is not None:
            lane = place.priority if priority is None else priority
            query.update(startkey=["todo", lane, place.number], startkey_docid=place.id, limit=count + 1)
        rows = self._read(query)
        if place is not None and rows and rows[0]["id"] == place.id:
            rows = rows[1:]  # where we stand; it may also be gone by now
        return rows[:count]

    # --- Going elsewhere ---

    def _look_at_front(self) -> None:
        """Go back to the front if something has come there that is to be taken first."""
        begun = time.monotonic()
        if self._place is None or begun < self._next_look:
            return
        if self._is_work_at_front():
            self._place = None
            self._kept.clear()
        took = time.monotonic() - begun
        self._next_look = begun + max(FRONT_SECONDS, took / FRONT_SHARE)

    def _is_work_at_front(self) -> bool:
        top = self._top()
        if top is None or self._place is None or (self._by_age and self._apart):
            return False
        ends = _ends(top["key"][1], last=self._newest)
        rows = self._read({**ends, "reduce": False, "include_docs": True, "limit": 1, **LAGGING})
        # The index may lag behind: the document tells whether it is free.
        return (
            bool(rows) and self._fits(rows[0].get("doc")) and self._is_before(_place_of(rows[0]), self._place)
        )

    def _is_before(self, found: _Place, place: _Place) -> bool:
        if self._by_age:
            return bool(found.number > place.number if self._newest else found.number < place.number)
        # Among others there is always something in front of a place that was chosen at random.
        return bool(found.priority < place.priority if self._apart else found[:2] < place[:2])

    def _top(self) -> Mapping[str, Any] | None:
        """The highest priority and how many free tokens have it."""
        groups = self._read({**FREE, "reduce": True, "group_level": 2, "limit": 1, **LAGGING})
        self._free = groups[0]["value"] if groups else 0
        return groups[0] if groups else None

    def _go_elsewhere(self, batch: int) -> None:
        self._place = self._near_front(batch) if self._by_age else self._anywhere()

    def _anywhere(self) -> _Place | None:
        """A random place among the free tokens of the highest priority."""
        top = self._top()
        if top is None:
            return None
        priority, count = top["key"][1], top["value"]
        ends = self._range_of(priority)
        if ends is None:
            return None
        first, last = ends
        if count > DENSE * (last.number - first.number + 1) and last.number > first.number:
            number = random.uniform(first.number, last.number)  # noqa: S311 - spreads pilots
            return _Place(priority, number, "")
        return self._skipped(priority, min(count, MOST_SKIPPED))

    def _range_of(self, priority: Any) -> tuple[_Place, _Place] | None:
        """The first and the last place of a priority, as they were lately."""
        now = time.monotonic()
        if self._range is None or now >= self._range[0] or self._range[1].priority != priority:
            ends = [
                self._read({**_ends(priority, last=last), "reduce": False, "limit": 1, **LAGGING})
                for last in (False, True)
            ]
            if not all(ends):
                return None
            self._range = now + RANGE_SECONDS, _place_of(ends[0][0]), _place_of(ends[1][0])
        return self._range[1:]

    def _near_front(self, batch: int) -> _Place | None:
        """A random place within a stretch from the front that grows while others are met there."""
        top = self._top()
        if top is None:
            return None
        return self._skipped(top["key"][1], min(top["value"], batch * self._spread, MOST_SKIPPED))

    def _skipped(self, priority: Any, most: int) -> _Place | None:
        """The place after a random number of rows of a priority."""
        query = {**_ends(priority, last=self._newest), "reduce": False, "limit": 1, **LAGGING}
        rows = self._read({**query, "skip": random.randrange(max(1, most))})  # noqa: S311
        return _place_of(rows[0]) if rows else None


def _ends(priority: Any, *, last: bool) -> dict[str, Any]:
    """The query for the free tokens of a priority, from its first or from its last row on."""
    low, high = ["todo", priority], ["todo", priority, {}]
    start, end = (high, low) if last else (low, high)
    return {"startkey": start, "endkey": end, "descending": last}


def _place_of(row: Mapping[str, Any]) -> _Place:
    _, priority, number = row["key"]
    return _Place(priority, number, row["id"])
