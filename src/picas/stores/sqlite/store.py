"""The embedded pool: an SQLite file that many processes of one machine share.

Every claim is one short write transaction; whoever comes second waits a moment and gets other tokens.
Claims are committed without waiting for the disk (losing one in a power cut only gives the token back),
everything else is on the disk before the call returns.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import nullcontext
from functools import partial
from heapq import merge
from typing import TYPE_CHECKING, Any, Callable

from picas.errors import InvalidInput
from picas.stores.base import Change, Progress
from picas.stores.sqlite import numbers
from picas.stores.sqlite.attached import Attachments, with_attachments
from picas.stores.sqlite.connections import Connections
from picas.stores.sqlite.documents import IS_OTHER, LATER, SqliteDocuments, column_values
from picas.stores.sqlite.fleet import SqliteFleet
from picas.stores.sqlite.rows import columns, parse_rev, rev_of
from picas.stores.sqlite.tally import tally
from picas.stores.sqlite.timed import TimedWatch
from picas.tokens import State, Token

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from picas.payload import Payload
    from picas.selection import Selection
    from picas.stores.base import Filling, Tally

MANY = 1000
"""So many new tokens at once are a pool being filled."""

FILLING_CACHE_KIB = 32_000
"""Cache of a connection that fills a pool: push keys come in no order, and their index is to stay in memory."""

WOKEN = 1000
"""Tokens whose time has come that one claim sets free at the most."""

SHORTEST_SECONDS = 0.001
"""The shortest stretch of time that a rate is of."""

PAGE = 100
"""Tokens read at a time by a scan."""

_IS_TOKEN = f"(state IS NOT NULL OR NOT {IS_OTHER})"

_NEW_VERSION = "rev = rev + 1, state = ?, priority = ?, finished = ?, later = ?, doc = ?"

# The document stays as it is: a time in it that is over says nothing.
_WAKE = (
    "UPDATE token SET state = 'todo', later = NULL "
    "WHERE seq IN (SELECT seq FROM token WHERE later <= ? ORDER BY later LIMIT ?)"
)

_ORDER_BY = {"priority": "priority DESC, seq", "oldest": "seq", "newest": "seq DESC"}


class SqliteStore:
    """A `picas.stores.base.Store` in an SQLite file. See there for what the methods guarantee.

    Args:
        path: the file; made if it is not there.
        only: claims take only tokens that fit.

    Raises:
        PoolRefused, PoolUnavailable: see `picas.stores.sqlite.file.open_file`.
    """

    at_once = 1

    def __init__(self, path: Path, only: Selection | None = None) -> None:
        self.path = path
        self._only = only
        self.url = "sqlite:///" + str(path).replace("%", "%25")
        self._connections = Connections(path)
        self._attachments = Attachments(self._connections, self.url)

    def close(self) -> None:
        """Close the connections that no thread is using."""
        self._connections.close()

    def now(self) -> float:
        """This machine's clock: the pool does not leave it."""
        return time.time()

    # --- Adding ---

    def insert(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]] | None = None
    ) -> list[Token | None]:
        rows = [columns(token) for token in tokens]
        brought = {
            i: self._attachments.bring(token.id, files[token.id])
            for i, token in enumerate(tokens)
            if files and files.get(token.id)
        }
        with self._connections.writing() as db:
            if len(tokens) >= MANY:
                db.execute(f"PRAGMA cache_size = -{FILLING_CACHE_KIB}")
            found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'token'").fetchone()
            first = (found[0] if found else 0) + 1
            numbers.remember(db, tokens)
            values = [
                (first + i, token.id, *row, token.push_key)
                for i, (token, row) in enumerate(zip(tokens, rows))
            ]
            sql = (
                "INTO token (seq, id, rev, state, priority, finished, later, doc, push_key) "
                "VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)"
            )
            db.execute("SAVEPOINT fast")
            try:
                db.executemany(f"INSERT {sql}", values)
                added = [True] * len(values)
            except sqlite3.IntegrityError:  # some are there already: find out which
                db.execute("ROLLBACK TO fast")
                added = [db.execute(f"INSERT OR IGNORE {sql}", row).rowcount == 1 for row in values]
            for i, attached in brought.items():
                if added[i]:
                    self._attachments.attach(db, first + i, attached)
            self._attachments.unstage(db, brought.values())
        return [
            Token(token.id, token.body, rev_of(first + i, 1)) if ok else None
            for i, (token, ok) in enumerate(zip(tokens, added))
        ]

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        known: set[str] = set()
        wanted = list(keys)
        with self._connections.any() as db:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                marks = ",".join("?" * len(part))
                known.update(
                    row[0]
                    for row in db.execute(f"SELECT push_key FROM token WHERE push_key IN ({marks})", part)
                )
        return known

    def filling(self, on_wait: Callable[[str], object] | None = None) -> AbstractContextManager[Filling]:
        return nullcontext(self)

    def reserve_numbers(self, prefix: str, count: int) -> int:
        with self._connections.writing() as db:
            return numbers.reserve(db, prefix, count)

    # --- Reading ---

    def newest(self, token: Token) -> Token | None:
        return self.fetch([token.id])[0]

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        found: dict[str, Token] = {}
        with self._connections.reading() as db:
            for token_id in ids:
                row = db.execute("SELECT seq, id, rev, doc FROM token WHERE id = ?", (token_id,)).fetchone()
                if row:
                    found[token_id] = with_attachments(db, [row])[0]
        return [found.get(token_id) for token_id in ids]

    def scan(
        self, states: Collection[State] | None = None, where: Selection | None = None
    ) -> Iterator[Token]:
        if states is None:
            streams = [self._scan(_IS_TOKEN, [], where)]
        else:
            # One walk of the (state, seq) index for each, merged: no state is searched for among the others.
            streams = [self._scan("state = ?", [name], where) for name in column_values(states)]
        last = 0
        for seq, token in merge(*streams, key=lambda item: item[0]):
            if seq > last:  # one that changed from state to state meanwhile can be in two of the streams
                yield token
                last = seq

    def _scan(
        self, condition: str, params: list[Any], where: Selection | None
    ) -> Iterator[tuple[int, Token]]:
        extra, values = where.sql() if where else ("1", [])
        sql = f"SELECT seq, id, rev, doc FROM token WHERE {condition} AND seq > ? AND {extra} ORDER BY seq LIMIT {PAGE}"
        last = 0
        while True:
            with self._connections.reading() as db:
                rows = db.execute(sql, [*params, last, *values]).fetchall()
                page = with_attachments(db, rows)
            for row, token in zip(rows, page):
                yield row[0], token
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        condition, params = where.sql() if where else ("1", [])
        counted: dict[State | None, int] = dict.fromkeys((*State, None), 0)
        with self._connections.any() as db:
            for state, count in db.execute(
                f"SELECT state, count(*) FROM token WHERE state IS NOT NULL AND {condition} GROUP BY state",
                params,
            ):
                counted[State.TODO if state == LATER else State(state)] += count
            odd = f"SELECT count(*) FROM token WHERE state IS NULL AND {_IS_TOKEN} AND {condition}"
            counted[None] = db.execute(odd, params).fetchone()[0]
        return counted

    def tally(self, fields: Sequence[Sequence[str]]) -> list[Tally]:
        return tally(
            self._connections.reading, partial(self._connections.writing, durable=False), fields, self.now()
        )

    def latest(self, limit: int) -> list[Token]:
        sql = "SELECT seq, id, rev, doc FROM token WHERE finished IS NOT NULL ORDER BY finished DESC LIMIT ?"
        with self._connections.reading() as db:
            return with_attachments(db, db.execute(sql, (limit,)).fetchall())

    def progress(self, seconds: float) -> Progress:
        now = self.now()
        since = now - seconds
        with self._connections.any() as db:
            finished, first = db.execute(
                "SELECT count(*), min(finished) FROM token WHERE finished > ?", (since,)
            ).fetchone()
            sample = "SELECT json_extract(doc, '$.picas.run.wall') AS wall FROM token WHERE finished > ?"
            wall = db.execute(
                f"SELECT avg(wall) FROM ({sample} ORDER BY finished DESC LIMIT 200)", (since,)
            ).fetchone()[0]
        if finished:
            # The first of them took its time as well. A clock that was set back makes it no shorter than nothing.
            seconds = min(seconds, max(now - first + (wall or 0.0), SHORTEST_SECONDS))
        return Progress(now, seconds, finished, wall)

    def other_documents(self) -> int:
        return self.documents.others()

    @property
    def fleet(self) -> SqliteFleet:
        return SqliteFleet(self._connections.reading, partial(self._connections.writing, durable=False))

    @property
    def documents(self) -> SqliteDocuments:
        """All documents, those that are no tokens among them."""
        return SqliteDocuments(self._connections.reading, with_attachments)

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        return self._attachments.read(token_id, name)

    # --- Claiming ---

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        condition, params = self._claimable(where)
        # Said, because SQLite's planner would rather sort all todo tokens than walk a partial index in order.
        index = "token_queue" if order == "priority" else "token_age"
        query = f"FROM token INDEXED BY {index} WHERE state = 'todo' AND {condition}"
        with self._connections.any() as db:  # an empty pool is found empty without taking the write lock
            is_due = db.execute("SELECT 1 FROM token WHERE later <= ? LIMIT 1", (self.now(),)).fetchone()
            if not is_due and db.execute(f"SELECT 1 {query} LIMIT 1", params).fetchone() is None:
                return []
        with self._connections.writing(durable=False) as db:
            if is_due:
                db.execute(_WAKE, (self.now(), WOKEN))
            rows = db.execute(
                f"SELECT seq, id, rev, doc {query} ORDER BY {_ORDER_BY[order]} LIMIT ?", [*params, limit]
            ).fetchall()
            claimed = []
            updates = []
            for (seq, token_id, rev, _), free in zip(rows, with_attachments(db, rows)):
                token = take(free)
                updates.append((*columns(token), seq))
                claimed.append(Token(token_id, token.body, rev_of(seq, rev + 1), free.attachments))
            db.executemany(f"UPDATE token SET {_NEW_VERSION} WHERE seq = ?", updates)
        return claimed

    def _claimable(self, where: Selection | None) -> tuple[str, list[Any]]:
        """The condition, as SQL, on what claims take."""
        if self._only is not None:
            where = self._only if where is None else self._only & where
        return where.sql() if where else ("1", [])

    def next_due(self, where: Selection | None = None) -> float | None:
        condition, params = self._claimable(where)
        sql = f"SELECT later FROM token WHERE later IS NOT NULL AND {condition} ORDER BY later LIMIT 1"
        with self._connections.any() as db:
            found = db.execute(sql, params).fetchone()
        return found[0] if found else None

    def through(self, view: str) -> SqliteStore:
        found = self.documents.listed(view)
        if found is None or found[0] is not State.TODO:
            raise InvalidInput(
                f"{self.url} is a file and has no view {view} that tokens could be claimed by",
                "Say which tokens you mean by a condition, such as --where 'cores == 1'.",
            )
        return SqliteStore(self.path, found[1])

    def watch(self) -> TimedWatch:
        return TimedWatch()

    # --- Changing ---

    def replace(self, changes: Sequence[Change]) -> list[Token | None]:
        rows = [columns(change.token) for change in changes]
        brought = [
            self._attachments.bring(change.token.id, change.attach, change.rename.values())
            for change in changes
        ]
        written: list[Token | None] = []
        with self._connections.writing() as db:
            for change, row, attached in zip(changes, rows, brought):
                token = change.token
                seq, rev = parse_rev(token)
                updated = db.execute(
                    f"UPDATE token SET {_NEW_VERSION} WHERE seq = ? AND rev = ? AND id = ?",
                    (*row, seq, rev, token.id),
                ).rowcount
                if not updated:
                    written.append(None)
                    continue
                self._rename(db, seq, change)
                gone = [(seq, name) for name in change.remove]
                db.executemany("DELETE FROM attachment WHERE token = ? AND name = ?", gone)
                self._attachments.attach(db, seq, attached)
                written.append(Token(token.id, token.body, rev_of(seq, rev + 1)))
            self._attachments.unstage(db, brought)
        return written

    def _rename(self, db: sqlite3.Connection, seq: int, change: Change) -> None:
        for old, new in change.rename.items():
            db.execute(
                "UPDATE OR REPLACE attachment SET name = ? WHERE token = ? AND name = ?", (new, seq, old)
            )

    def delete(self, tokens: Sequence[Token]) -> list[bool]:
        gone = []
        with self._connections.writing() as db:
            for token in tokens:
                seq, rev = parse_rev(token)
                gone.append(
                    db.execute(
                        "DELETE FROM token WHERE seq = ? AND rev = ? AND id = ?", (seq, rev, token.id)
                    ).rowcount
                    == 1
                )
        return gone
