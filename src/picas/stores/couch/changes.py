"""What can be found without a view, from the feed of changes: the push keys, and what was finished lately."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from picas.stores.base import Progress
from picas.stores.couch.index import PAGE
from picas.tokens import TOKEN_TYPE, finished_at

if TYPE_CHECKING:
    from collections.abc import Collection

    from picas.stores.couch.http import Server

LATELY = 500
"""So many of the newest changes are looked at for what was finished lately."""


class PushKeys:
    """The push keys in a database, followed from change to change: the first look reads every document once.

    They are kept in a temporary file, so that a pool of any size fits.

    Args:
        database: the database's name, quoted.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._since = "0"
        self._lock = threading.Lock()
        # A temporary file that SQLite itself removes.
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._seen.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
        self._seen.execute("CREATE INDEX keys ON seen (key)")

    def known(self, keys: Collection[str]) -> set[str]:
        """Those of the keys that tokens carry now.

        Raises:
            PoolUnavailable, PoolRefused: the server does not tell.
        """
        with self._lock:
            self._follow()
            return {
                key
                for key in keys
                if self._seen.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone()
            }

    def _follow(self) -> None:
        while True:
            query = {"since": self._since, "limit": PAGE, "include_docs": True}
            changes = self._server.request("GET", f"{self._database}/_changes", query=query).value
            self._seen.execute("BEGIN")
            for change in changes["results"]:
                self._seen.execute("DELETE FROM seen WHERE id = ?", (change["id"],))
                key = _push_key(change.get("doc") or {})
                if key is not None:
                    self._seen.execute("INSERT INTO seen VALUES (?, ?)", (change["id"], key))
            self._seen.execute("COMMIT")
            last = changes["last_seq"]
            self._since = last if isinstance(last, str) else str(last)
            if len(changes["results"]) < PAGE:
                return


def _push_key(doc: dict[str, Any]) -> str | None:
    ours = doc.get("picas")
    key = ours.get("push") if doc.get("type") == TOKEN_TYPE and isinstance(ours, dict) else None
    return key if isinstance(key, str) else None


def progress_of_changes(server: Server, database: str, now: float, seconds: float) -> Progress:
    """What was finished lately, as far as the newest changes tell.

    Raises:
        PoolUnavailable, PoolRefused: the server does not tell.
    """
    query = {"descending": True, "limit": LATELY, "include_docs": True}
    changes = server.request("GET", f"{database}/_changes", query=query).value["results"]
    walls, ends = [], []
    for change in changes:
        doc = change.get("doc") or {}
        ended = finished_at(doc)
        if ended is not None and ended >= now - seconds:
            ends.append(ended)
            wall = ((doc.get("picas") or {}).get("run") or {}).get("wall")
            walls += [float(wall)] if isinstance(wall, (int, float)) else []
    if not ends:
        return Progress(now, seconds, 0, None)
    mean = sum(walls) / len(walls) if walls else None
    span = max(now - min(ends) + (mean or 0.0), 0.001)
    return Progress(now, min(seconds, span), len(ends), mean)
