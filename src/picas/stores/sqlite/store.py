"""The embedded pool: an SQLite file that many processes of one machine share.

Every claim is one short write transaction; whoever comes second waits a moment and gets other tokens.
Claims are committed without waiting for the disk (losing one in a power cut only gives the token back),
everything else is on the disk before the call returns.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from picas.errors import InvalidInput, PoolUnavailable, TokenNotFound, TokenTooLarge
from picas.payload import CHUNK_BYTES
from picas.stores.base import Change, Progress
from picas.stores.sqlite.documents import IS_OTHER, LATER, SqliteDocuments, column_values
from picas.stores.sqlite.file import open_file, translated_errors
from picas.stores.sqlite.fleet import SqliteFleet
from picas.stores.sqlite.tally import tally
from picas.stores.sqlite.timed import TimedWatch
from picas.text import jsontext
from picas.tokens import (
    AttachmentInfo,
    State,
    Token,
    ended_at,
    not_before_of,
    number_after,
    priority_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from picas.payload import Payload
    from picas.selection import Selection
    from picas.stores.base import Filling, Tally

MAX_DOCUMENT_BYTES = 8_000_000
"""The largest document kept: CouchDB's own default, so that a pool can move between the two stores."""

MAX_NESTING = 500
"""Lists and objects in each other: more than SQLite's JSON functions and Python's reader take everywhere."""

INLINE_BYTES = 1 << 16
"""Attachments up to this size are written in the token's own transaction, larger ones before it."""

STAGE_BYTES = 8 << 20
"""A large attachment is written in transactions of this size, so that others get their turn in between."""

LEFTOVER_SECONDS = 86_400.0
"""An attachment whose writing began this long ago and never ended is removed."""

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
_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"[^"\\]*(?:\\.[^"\\]*)*"')

_REV = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")

_abandoned: list[sqlite3.Connection] = []  # a parent's connections: closing them in the child is not safe


class _Brought(NamedTuple):
    """A file to be attached: a small one's bytes, or the row under which a large one has been written."""

    payload: Payload
    staged: int | None
    data: bytes


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
        self._idle: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        self._numbering = threading.Lock()
        with self._connection():
            pass  # refuse now what would be refused later

    # --- Connections and transactions ---

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            _abandoned.extend(self._idle)
            self._idle, self._pid = [], os.getpid()
        try:
            db = self._idle.pop()
        except IndexError:
            db = open_file(self.path)
        try:
            with translated_errors(self.path):
                yield db
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            self._idle.append(db)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """Several SELECTs that see the pool at one moment: a document and its attachments fit together."""
        with self._connection() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with self._connection() as db:
            db.execute("PRAGMA synchronous = " + ("FULL" if durable else "NORMAL"))
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def close(self) -> None:
        """Close the connections that no thread is using."""
        while self._idle:
            self._idle.pop().close()

    def now(self) -> float:
        """This machine's clock: the pool does not leave it."""
        return time.time()

    # --- Adding ---

    def insert(
        self, tokens: Sequence[Token], files: Mapping[str, Sequence[Payload]] | None = None
    ) -> list[Token | None]:
        rows = [_columns(token) for token in tokens]
        brought = {
            i: self._bring(token.id, files[token.id])
            for i, token in enumerate(tokens)
            if files and files.get(token.id)
        }
        with self._write() as db:
            if len(tokens) >= MANY:
                db.execute(f"PRAGMA cache_size = -{FILLING_CACHE_KIB}")
            found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'token'").fetchone()
            first = (found[0] if found else 0) + 1
            self._remember_numbers(db, tokens)
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
                    self._attach(db, first + i, attached)
            self._unstage(db, brought.values())
        return [
            Token(token.id, token.body, _rev(first + i, 1)) if ok else None
            for i, (token, ok) in enumerate(zip(tokens, added))
        ]

    def _remember_numbers(self, db: sqlite3.Connection, tokens: Iterable[Token]) -> None:
        """Let the numbers that are given out go on after those of these ids.

        A prefix that nobody has asked numbers of has no row; it is searched when somebody does.
        """
        higher = []
        for prefix, last in db.execute("SELECT prefix, last FROM numbering").fetchall():
            # Nearly always these are numbers that were just given out, and none of them is beyond.
            top = f"{prefix}{last}"
            beyond = (
                token.id
                for token in tokens
                if len(token.id) >= len(top)
                and (len(token.id) > len(top) or token.id > top)
                and token.id.startswith(prefix)
            )
            number = max((number_after(prefix, token_id) for token_id in beyond), default=-1)
            if number > last:
                higher.append((number, prefix))
        db.executemany("UPDATE numbering SET last = ? WHERE prefix = ?", higher)

    def known_push_keys(self, keys: Collection[str]) -> set[str]:
        known: set[str] = set()
        wanted = list(keys)
        with self._connection() as db:
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
        with self._write() as db:
            row = db.execute("SELECT last FROM numbering WHERE prefix = ?", (prefix,)).fetchone()
            last = row[0] if row else self._highest_number(db, prefix)
            db.execute(
                "INSERT INTO numbering VALUES (?, ?) ON CONFLICT (prefix) DO UPDATE SET last = excluded.last",
                (prefix, last + count),
            )
        return int(last) + 1

    def _highest_number(self, db: sqlite3.Connection, prefix: str) -> int:
        where, params = "1", []
        if prefix:
            where, params = "id >= ? AND id < ?", [prefix, prefix + "\U0010ffff"]
        rows = db.execute(f"SELECT id FROM token WHERE {where}", params)
        return max((number_after(prefix, token_id) for (token_id,) in rows), default=-1)

    # --- Reading ---

    def newest(self, token: Token) -> Token | None:
        return self.fetch([token.id])[0]

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        found: dict[str, Token] = {}
        with self._read() as db:
            for token_id in ids:
                row = db.execute("SELECT seq, id, rev, doc FROM token WHERE id = ?", (token_id,)).fetchone()
                if row:
                    found[token_id] = self._with_attachments(db, [row])[0]
        return [found.get(token_id) for token_id in ids]

    def _with_attachments(
        self, db: sqlite3.Connection, rows: Sequence[tuple[int, str, int, str]]
    ) -> list[Token]:
        attached: dict[int, dict[str, AttachmentInfo]] = {}
        marks = ",".join("?" * len(rows))
        for seq, *info in db.execute(
            f"SELECT token, name, content_type, length, digest FROM attachment WHERE token IN ({marks}) ORDER BY name",
            [row[0] for row in rows],
        ):
            attached.setdefault(seq, {})[info[0]] = AttachmentInfo(*info)
        return [
            Token(token_id, json.loads(doc), _rev(seq, rev), attached.get(seq, {}))
            for seq, token_id, rev, doc in rows
        ]

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
            with self._read() as db:
                rows = db.execute(sql, [*params, last, *values]).fetchall()
                page = self._with_attachments(db, rows)
            for row, token in zip(rows, page):
                yield row[0], token
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def counts(self, where: Selection | None = None) -> dict[State | None, int]:
        condition, params = where.sql() if where else ("1", [])
        counted: dict[State | None, int] = dict.fromkeys((*State, None), 0)
        with self._connection() as db:
            for state, count in db.execute(
                f"SELECT state, count(*) FROM token WHERE state IS NOT NULL AND {condition} GROUP BY state",
                params,
            ):
                counted[State.TODO if state == LATER else State(state)] += count
            odd = f"SELECT count(*) FROM token WHERE state IS NULL AND {_IS_TOKEN} AND {condition}"
            counted[None] = db.execute(odd, params).fetchone()[0]
        return counted

    def tally(self, fields: Sequence[Sequence[str]]) -> list[Tally]:
        return tally(self._read, partial(self._write, durable=False), fields, self.now())

    def latest(self, limit: int) -> list[Token]:
        sql = "SELECT seq, id, rev, doc FROM token WHERE finished IS NOT NULL ORDER BY finished DESC LIMIT ?"
        with self._read() as db:
            return self._with_attachments(db, db.execute(sql, (limit,)).fetchall())

    def progress(self, seconds: float) -> Progress:
        now = self.now()
        since = now - seconds
        with self._connection() as db:
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
        return SqliteFleet(self._read, partial(self._write, durable=False))

    @property
    def documents(self) -> SqliteDocuments:
        """All documents, those that are no tokens among them."""
        return SqliteDocuments(self._read, self._with_attachments)

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        with self._connection() as db:
            row = db.execute(
                "SELECT a.id, a.digest, a.length FROM attachment a JOIN token t ON t.seq = a.token "
                "WHERE t.id = ? AND a.name = ?",
                (token_id, name),
            ).fetchone()
        if row is None:
            raise TokenNotFound(f"{self.url}: token {token_id} has no attachment {name}")
        number, digest, left = row
        n = 0
        while left > 0:
            with self._connection() as db:
                # The digest too: the row's number may have gone to another attachment meanwhile.
                piece = db.execute(
                    "SELECT data FROM piece JOIN attachment ON id = attachment "
                    "WHERE attachment = ? AND digest = ? AND n = ?",
                    (number, digest, n),
                ).fetchone()
            if piece is None:
                raise PoolUnavailable(
                    f"attachment {name} of token {token_id} was replaced or deleted while it was read",
                    "Read it again.",
                )
            yield piece[0]
            left -= len(piece[0])
            n += 1

    # --- Claiming ---

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        condition, params = self._claimable(where)
        # Said, because SQLite's planner would rather sort all todo tokens than walk a partial index in order.
        index = "token_queue" if order == "priority" else "token_age"
        query = f"FROM token INDEXED BY {index} WHERE state = 'todo' AND {condition}"
        with self._connection() as db:  # an empty pool is found empty without taking the write lock
            is_due = db.execute("SELECT 1 FROM token WHERE later <= ? LIMIT 1", (self.now(),)).fetchone()
            if not is_due and db.execute(f"SELECT 1 {query} LIMIT 1", params).fetchone() is None:
                return []
        with self._write(durable=False) as db:
            if is_due:
                db.execute(_WAKE, (self.now(), WOKEN))
            rows = db.execute(
                f"SELECT seq, id, rev, doc {query} ORDER BY {_ORDER_BY[order]} LIMIT ?", [*params, limit]
            ).fetchall()
            claimed = []
            updates = []
            for (seq, token_id, rev, _), free in zip(rows, self._with_attachments(db, rows)):
                token = take(free)
                updates.append((*_columns(token), seq))
                claimed.append(Token(token_id, token.body, _rev(seq, rev + 1), free.attachments))
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
        with self._connection() as db:
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
        rows = [_columns(change.token) for change in changes]
        brought = [self._bring(change.token.id, change.attach, change.rename.values()) for change in changes]
        written: list[Token | None] = []
        with self._write() as db:
            for change, row, attached in zip(changes, rows, brought):
                token = change.token
                seq, rev = _parse_rev(token)
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
                self._attach(db, seq, attached)
                written.append(Token(token.id, token.body, _rev(seq, rev + 1)))
            self._unstage(db, brought)
        return written

    def _rename(self, db: sqlite3.Connection, seq: int, change: Change) -> None:
        for old, new in change.rename.items():
            db.execute(
                "UPDATE OR REPLACE attachment SET name = ? WHERE token = ? AND name = ?", (new, seq, old)
            )

    def _bring(self, token_id: str, payloads: Iterable[Payload], names: Iterable[str] = ()) -> list[_Brought]:
        """What is to be attached, ready for the transaction; of two of one name the last counts.

        Args:
            names: others that attachments will have.

        Raises:
            InvalidInput: a name cannot be one.
        """
        by_name = {payload.name: payload for payload in payloads}
        _check_names(token_id, (*by_name, *names))
        return [
            _Brought(payload, None, payload.read())
            if payload.length <= INLINE_BYTES
            else _Brought(payload, self._stage(payload), b"")
            for payload in by_name.values()
        ]

    def _attach(self, db: sqlite3.Connection, seq: int, brought: Iterable[_Brought]) -> None:
        for payload, staged, data in brought:
            db.execute("DELETE FROM attachment WHERE token = ? AND name = ?", (seq, payload.name))
            if staged is not None:
                db.execute("UPDATE attachment SET token = ? WHERE id = ?", (seq, staged))
                continue
            digest = _digest(hashlib.sha256(data))
            cursor = db.execute(
                "INSERT INTO attachment (token, name, content_type, length, digest, begun) VALUES (?, ?, ?, ?, ?, ?)",
                (seq, payload.name, payload.content_type, len(data), digest, self.now()),
            )
            if data:
                db.execute("INSERT INTO piece VALUES (?, 0, ?)", (cursor.lastrowid, data))

    def _stage(self, payload: Payload) -> int:
        """Write a large attachment under no token yet; its row id."""
        with self._write(durable=False) as db:
            db.execute(
                "DELETE FROM attachment WHERE token IS NULL AND begun < ?", (self.now() - LEFTOVER_SECONDS,)
            )
            row = db.execute(
                "INSERT INTO attachment (token, name, content_type, length, digest, begun) VALUES (NULL, ?, ?, 0, '', ?)",
                (payload.name, payload.content_type, self.now()),
            ).lastrowid
        assert row is not None  # SQLite gives every inserted row an id
        digest = hashlib.sha256()
        length = n = 0
        chunks = payload.chunks()
        group: list[bytes] = []
        while True:
            group = list(islice(chunks, STAGE_BYTES // CHUNK_BYTES))
            if not group:
                break
            with self._write(durable=False) as db:
                for data in group:
                    digest.update(data)
                    db.execute("INSERT INTO piece VALUES (?, ?, ?)", (row, n, data))
                    length += len(data)
                    n += 1
        with self._write(durable=False) as db:
            db.execute(
                "UPDATE attachment SET length = ?, digest = ? WHERE id = ?", (length, _digest(digest), row)
            )
        return row

    def _unstage(self, db: sqlite3.Connection, brought: Iterable[Iterable[_Brought]]) -> None:
        """Remove what was written before the transaction for tokens that then did not take it."""
        rows = [(each.staged,) for attached in brought for each in attached if each.staged is not None]
        db.executemany("DELETE FROM attachment WHERE id = ? AND token IS NULL", rows)

    def delete(self, tokens: Sequence[Token]) -> list[bool]:
        gone = []
        with self._write() as db:
            for token in tokens:
                seq, rev = _parse_rev(token)
                gone.append(
                    db.execute(
                        "DELETE FROM token WHERE seq = ? AND rev = ? AND id = ?", (seq, rev, token.id)
                    ).rowcount
                    == 1
                )
        return gone


def _columns(token: Token) -> tuple[str | None, float, float | None, float | None, str]:
    """What the columns ``state``, ``priority``, ``finished``, ``later`` and ``doc`` hold for a token."""
    try:
        token.id.encode()  # a half surrogate pair: UnicodeEncodeError is a ValueError
        doc = jsontext.encode(token.body)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"token {token.id}: the document cannot be written as JSON: {error}") from error
    if _nesting(doc) > MAX_NESTING:
        raise InvalidInput(f"token {token.id}: lists and objects are nested more than {MAX_NESTING} deep")
    if len(doc) > MAX_DOCUMENT_BYTES:
        raise TokenTooLarge(
            f"token {token.id}: its document has {len(doc):,} bytes; at most {MAX_DOCUMENT_BYTES:,} are kept",
            "Put large data in a file or an attachment and its name in the token.",
        )
    state = state_of(token.body)
    finished = ended_at(token.body) if state in (State.DONE, State.ERROR) else None
    later = not_before_of(token.body) if state is State.TODO else 0.0
    name = LATER if later else _STATE_NAMES[state]
    return (name, priority_of(token.body), finished, later or None, doc)


_STATE_NAMES: dict[State | None, str | None] = {None: None, **{state: state.value for state in State}}


def _nesting(doc: str) -> int:
    """How deep lists and objects are in each other; anything up to `MAX_NESTING` if certainly not deeper."""
    if doc.count("[") + doc.count("{") <= MAX_NESTING:  # nearly always: nothing is worth a closer look
        return 0
    deepest = level = 0
    for sign in _BRACKET_OR_STRING.findall(doc):
        if sign in "[{":
            level += 1
            deepest = max(deepest, level)
        elif sign in "]}":
            level -= 1
    return deepest


def _check_names(token_id: str, names: Iterable[str]) -> None:
    for name in names:
        if not _is_text(name):
            raise InvalidInput(
                f"token {token_id}: {name!r} cannot be the name of an attachment: it is no Unicode text"
            )


def _is_text(name: str) -> bool:
    """Whether it can be written as UTF-8, which names of files that are in no such encoding cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rev(seq: int, rev: int) -> str:
    # The row's number, which is never used again, keeps a token that was deleted and pushed anew apart.
    return f"{seq}-{rev}"


def _parse_rev(token: Token) -> tuple[int, int]:
    found = _REV.fullmatch(token.rev or "")
    if found is None:
        raise InvalidInput(f"token {token.id} was not read from this pool (its rev is {token.rev!r})")
    return int(found[1]), int(found[2])


def _digest(value: Any) -> str:
    return f"sha256-{value.hexdigest()}"
