"""Files that are attached to tokens: small ones go with their token's transaction, large ones are written before it."""

from __future__ import annotations

import hashlib
import json
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from picas.errors import InvalidInput, PoolUnavailable, TokenNotFound
from picas.payload import CHUNK_BYTES
from picas.stores.sqlite.rows import rev_of
from picas.tokens import AttachmentInfo, Token

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from picas.payload import Payload
    from picas.stores.sqlite.connections import Connections

INLINE_BYTES = 1 << 16
"""Attachments up to this size are written in the token's own transaction, larger ones before it."""

STAGE_BYTES = 8 << 20
"""A large attachment is written in transactions of this size, so that others get their turn in between."""

LEFTOVER_SECONDS = 86_400.0
"""An attachment whose writing began this long ago and never ended is removed."""


class Brought(NamedTuple):
    """A file to be attached: a small one's bytes, or the row under which a large one has been written."""

    payload: Payload
    staged: int | None
    data: bytes


class Attachments:
    """The files of all tokens.

    Args:
        url: the pool's, for messages.
    """

    def __init__(self, connections: Connections, url: str) -> None:
        self._connections = connections
        self._url = url

    def bring(self, token_id: str, payloads: Iterable[Payload], names: Iterable[str] = ()) -> list[Brought]:
        """What is to be attached, ready for the transaction; of two of one name the last counts.

        Args:
            names: others that attachments will have.

        Raises:
            InvalidInput: a name cannot be one.
        """
        by_name = {payload.name: payload for payload in payloads}
        _check_names(token_id, (*by_name, *names))
        return [
            Brought(payload, None, payload.read())
            if payload.length <= INLINE_BYTES
            else Brought(payload, self._stage(payload), b"")
            for payload in by_name.values()
        ]

    def attach(self, db: sqlite3.Connection, seq: int, brought: Iterable[Brought]) -> None:
        """Give the token of this row what was brought; within its transaction."""
        for payload, staged, data in brought:
            db.execute("DELETE FROM attachment WHERE token = ? AND name = ?", (seq, payload.name))
            if staged is not None:
                db.execute("UPDATE attachment SET token = ? WHERE id = ?", (seq, staged))
                continue
            digest = _digest(hashlib.sha256(data))
            cursor = db.execute(
                "INSERT INTO attachment (token, name, content_type, length, digest, begun) VALUES (?, ?, ?, ?, ?, ?)",
                (seq, payload.name, payload.content_type, len(data), digest, time.time()),
            )
            if data:
                db.execute("INSERT INTO piece VALUES (?, 0, ?)", (cursor.lastrowid, data))

    def _stage(self, payload: Payload) -> int:
        """Write a large attachment under no token yet; its row id."""
        with self._connections.writing(durable=False) as db:
            db.execute(
                "DELETE FROM attachment WHERE token IS NULL AND begun < ?", (time.time() - LEFTOVER_SECONDS,)
            )
            row = db.execute(
                "INSERT INTO attachment (token, name, content_type, length, digest, begun) VALUES (NULL, ?, ?, 0, '', ?)",
                (payload.name, payload.content_type, time.time()),
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
            with self._connections.writing(durable=False) as db:
                for data in group:
                    digest.update(data)
                    db.execute("INSERT INTO piece VALUES (?, ?, ?)", (row, n, data))
                    length += len(data)
                    n += 1
        with self._connections.writing(durable=False) as db:
            db.execute(
                "UPDATE attachment SET length = ?, digest = ? WHERE id = ?", (length, _digest(digest), row)
            )
        return row

    def unstage(self, db: sqlite3.Connection, brought: Iterable[Iterable[Brought]]) -> None:
        """Remove what was written before the transaction for tokens that then did not take it."""
        rows = [(each.staged,) for attached in brought for each in attached if each.staged is not None]
        db.executemany("DELETE FROM attachment WHERE id = ? AND token IS NULL", rows)

    def read(self, token_id: str, name: str) -> Iterator[bytes]:
        """See `picas.stores.base.Store.read_attachment`."""
        with self._connections.any() as db:
            row = db.execute(
                "SELECT a.id, a.digest, a.length FROM attachment a JOIN token t ON t.seq = a.token "
                "WHERE t.id = ? AND a.name = ?",
                (token_id, name),
            ).fetchone()
        if row is None:
            raise TokenNotFound(f"{self._url}: token {token_id} has no attachment {name}")
        number, digest, left = row
        n = 0
        while left > 0:
            with self._connections.any() as db:
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


def with_attachments(db: sqlite3.Connection, rows: Sequence[tuple[int, str, int, str]]) -> list[Token]:
    """The tokens of these rows (number, id, version, document), which know what is attached to them."""
    attached: dict[int, dict[str, AttachmentInfo]] = {}
    marks = ",".join("?" * len(rows))
    for seq, *info in db.execute(
        f"SELECT token, name, content_type, length, digest FROM attachment WHERE token IN ({marks}) ORDER BY name",
        [row[0] for row in rows],
    ):
        attached.setdefault(seq, {})[info[0]] = AttachmentInfo(*info)
    return [
        Token(token_id, json.loads(doc), rev_of(seq, rev), attached.get(seq, {}))
        for seq, token_id, rev, doc in rows
    ]


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


def _digest(value: Any) -> str:
    return f"sha256-{value.hexdigest()}"
