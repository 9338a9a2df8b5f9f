"""The numbers that are given out for the ids of new tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.tokens import number_after

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from picas.tokens import Token


def reserve(db: sqlite3.Connection, prefix: str, count: int) -> int:
    """See `picas.stores.base.Store.reserve_numbers`; within a transaction."""
    row = db.execute("SELECT last FROM numbering WHERE prefix = ?", (prefix,)).fetchone()
    last = row[0] if row else _highest(db, prefix)
    db.execute(
        "INSERT INTO numbering VALUES (?, ?) ON CONFLICT (prefix) DO UPDATE SET last = excluded.last",
        (prefix, last + count),
    )
    return int(last) + 1


def _highest(db: sqlite3.Connection, prefix: str) -> int:
    where, params = "1", []
    if prefix:
        where, params = "id >= ? AND id < ?", [prefix, prefix + "\U0010ffff"]
    rows = db.execute(f"SELECT id FROM token WHERE {where}", params)
    return max((number_after(prefix, token_id) for (token_id,) in rows), default=-1)


def remember(db: sqlite3.Connection, tokens: Iterable[Token]) -> None:
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
