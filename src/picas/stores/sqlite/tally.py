"""Counting the tokens of an embedded pool by what is in their fields.

Few are counted by reading them. Of many the fields are kept in an index, for tokens that are todo or locked: a token
costs a few microseconds more when it is claimed or put back, and a million are counted without reading one of them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Callable

from picas.stores.base import Tally
from picas.tokens import State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

MANY = 20_000
"""So many tokens that are todo or locked are worth an index."""

FEW = 1_000
"""With no more than so many the index is dropped again."""

PREFIX = "token_fields_"
"""How the names of such indexes begin. There is one at the most: that of the fields that were asked for last."""

_COUNTED = "state IN ('todo', 'locked')"


def tally(read: Transaction, write: Transaction, fields: Sequence[Sequence[str]], now: float) -> list[Tally]:
    """See `picas.stores.base.Store.tally`.

    Args:
        read, write: begin a transaction.
    """
    fields = [tuple(path) for path in fields]
    values = _values(fields)
    index = PREFIX + hashlib.sha256(values.encode()).hexdigest()[:16]
    with read() as db:
        found = _indexes(db)
        count = f"SELECT count(*) FROM (SELECT 1 FROM token WHERE {_COUNTED} LIMIT {MANY})"
        many = index in found or db.execute(count).fetchone()[0] == MANY
    if many and found != [index]:
        with write() as db:
            for old in _indexes(db):
                db.execute(f"DROP INDEX {old}")
            db.execute(f"CREATE INDEX {index} ON token (state, {values}) WHERE {_COUNTED}")
    counted: dict[tuple[str, str], int] = {}
    by_index = f" INDEXED BY {index}" if many else ""
    with read() as db:
        # Another process may have asked for other fields at this very moment, and it is read without.
        by_index = by_index if index in _indexes(db) else ""
        rows = db.execute(
            f"SELECT state, {values}, count(*) FROM token{by_index} WHERE {_COUNTED} GROUP BY state, {values}"
        ).fetchall()
        rows += db.execute(
            f"SELECT 'todo', {values} AS there, count(*) FROM token WHERE later <= ? GROUP BY there", (now,)
        ).fetchall()
    if by_index and sum(count for _, _, count in rows) <= FEW:
        with write() as db:
            db.execute(f"DROP INDEX IF EXISTS {index}")
    for state, there, count in rows:
        counted[state, there] = counted.get((state, there), 0) + count
    return [
        Tally(State(state), _read(there, fields), count) for (state, there), count in sorted(counted.items())
    ]


def _indexes(db: sqlite3.Connection) -> list[str]:
    names = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND substr(name, 1, ?) = ?",
        (len(PREFIX), PREFIX),
    )
    return [name for (name,) in names]


def _values(fields: Sequence[Sequence[str]]) -> str:
    """An SQL expression, without parameters as an index wants it: the id and the fields' values as a JSON list."""
    paths = ["$" + "".join(f".{json.dumps(name)}" for name in path) for path in fields if path != ("_id",)]
    # Of two paths or more it makes a list, which keeps true apart from 1 and "1".
    paths += ["$._rev"] * (2 - len(paths))
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    extract = f"json_extract(doc, {quoted})"
    # As plain text: SQLite reads no value from an index that it takes for JSON.
    return f"(json_array(id, {extract}) || '')" if ("_id",) in fields else f"({extract} || '')"


def _read(there: str, fields: Sequence[Sequence[str]]) -> tuple[object, ...]:
    found = json.loads(there)
    token_id, found = found if ("_id",) in fields else (None, found)
    rest = iter(found)
    return tuple(token_id if path == ("_id",) else next(rest) for path in fields)
