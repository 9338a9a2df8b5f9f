"""The pilots of an embedded pool, and what people order them: tables of the same file."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Callable

from picas import machine
from picas.stores.base import Held, PilotRecord
from picas.text import jsontext

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]


class SqliteFleet:
    """A `picas.stores.base.Fleet` in an SQLite file.

    Args:
        read: begins a transaction that reads.
        write: begins one that writes.
    """

    steady = True  # it is a file of this machine

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read = read
        self._write = write

    def beat(self, pilot: str, fields: Mapping[str, Any]) -> None:
        row = (pilot, *machine.clock(), jsontext.encode(fields))
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO pilot (id, boot, beat, fields) VALUES (?, ?, ?, ?)", row)

    def pilots(self) -> list[PilotRecord]:
        with self._read() as db:
            rows = db.execute("SELECT id, boot, beat, fields FROM pilot ORDER BY id").fetchall()
        return [
            PilotRecord(name, json.loads(fields), _seconds_since(boot, beat))
            for name, boot, beat, fields in rows
        ]

    def forget(self, pilot: str) -> None:
        with self._write() as db:
            db.execute("DELETE FROM pilot WHERE id = ?", (pilot,))

    def take_turn(self, name: str, seconds: float) -> bool:
        with self._read() as db:
            if self._was_taken(db, name, seconds):
                return False
        with self._write() as db:
            if self._was_taken(db, name, seconds):  # somebody was faster
                return False
            db.execute("INSERT OR REPLACE INTO turn VALUES (?, ?, ?)", (name, *machine.clock()))
        return True

    def _was_taken(self, db: sqlite3.Connection, name: str, seconds: float) -> bool:
        row = db.execute("SELECT boot, taken FROM turn WHERE name = ?", (name,)).fetchone()
        return row is not None and _seconds_since(*row) < seconds

    def hold(
        self, name: str, who: Mapping[str, Any], seconds: float, fields: Mapping[str, Any] | None = None
    ) -> Held:
        boot, now = machine.clock()
        with self._write() as db:
            row = db.execute("SELECT boot, until, who, fields FROM held WHERE name = ?", (name,)).fetchone()
            last, kept = (json.loads(row[2]), json.loads(row[3])) if row else ({}, {})
            if last.get("id") != who["id"]:
                running = row is not None and row[0] == boot and now < row[1]
                if running and not machine.is_gone(last.get("process")):
                    return Held(mine=False, who=last, fields=kept)
                if seconds == 0:
                    return Held(mine=False, who={}, fields=kept)
            kept = kept if fields is None else dict(fields)
            until = now + seconds if seconds else 0.0
            values = (name, boot, until, jsontext.encode(who), jsontext.encode(kept))
            db.execute(
                "INSERT OR REPLACE INTO held (name, boot, until, who, fields) VALUES (?, ?, ?, ?, ?)", values
            )
        return Held(mine=True, who=who, fields=kept)

    def control(self) -> tuple[dict[str, Any], Any]:
        with self._read() as db:
            row = db.execute("SELECT fields, rev FROM control").fetchone()
        return (json.loads(row[0]), row[1]) if row else ({}, None)

    def set_control(self, fields: Mapping[str, Any], version: Any) -> bool:
        text = jsontext.encode(fields)
        with self._write() as db:
            if version is None:
                found = db.execute("INSERT OR IGNORE INTO control VALUES (0, 1, ?)", (text,))
            else:
                found = db.execute(
                    "UPDATE control SET rev = rev + 1, fields = ? WHERE rev = ?", (text, version)
                )
        return found.rowcount == 1


def _seconds_since(boot: str, then: float) -> float:
    here, now = machine.clock()
    return max(0.0, now - then) if boot == here else math.inf
