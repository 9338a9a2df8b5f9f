"""Connections to the file of a pool, one for each thread that is at it, and their transactions."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from picas.stores.sqlite.file import open_file, translated_errors

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

_abandoned: list[sqlite3.Connection] = []  # a parent's connections: closing them in the child is not safe


class Connections:
    """The connections of one process.

    Args:
        path: the file; made if it is not there.

    Raises:
        PoolRefused, PoolUnavailable: see `picas.stores.sqlite.file.open_file`; all methods too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        with self.any():
            pass  # refuse now what would be refused later

    @contextmanager
    def any(self) -> Iterator[sqlite3.Connection]:
        """For one statement, or for what sees to its transactions itself; what is not committed is rolled back."""
        if self._pid != os.getpid():
            _abandoned.extend(self._idle)
            self._idle, self._pid = [], os.getpid()
        try:
            db = self._idle.pop()
        except IndexError:
            db = open_file(self._path)
        try:
            with translated_errors(self._path):
                yield db
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            self._idle.append(db)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For several SELECTs that see the pool at one moment: a document and its attachments fit together."""
        with self.any() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that is alone in writing.

        Args:
            durable: it is on the disk when it is over.
        """
        with self.any() as db:
            db.execute("PRAGMA synchronous = " + ("FULL" if durable else "NORMAL"))
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def close(self) -> None:
        """Close the connections that no thread is using."""
        while self._idle:
            self._idle.pop().close()
