"""The pilots of a pool in CouchDB, and what people order them.

A pilot's record is a ``_local/`` document: it has one writer, and is in no index, wakes no listener, is not
replicated and keeps no history, however often it is written. Orders are one ordinary document, since more than
one person may give them, and since a database can say who may (``validate_doc_update`` is not asked about
``_local/`` documents). What times say is by the server's clock.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas import machine
from picas.stores.base import Held, PilotRecord
from picas.stores.couch import bulk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.stores.couch.http import Server

RECORD = "_local/picas-pilot-"
TURN = "_local/picas-turn-"

CONTROL = "picas_control"
"""The document of orders."""

HELD = "picas_held_"
"""Begins the ids of documents that say who has what only one process at a time may have."""

PAGE = 500
"""Records read at a time."""

ANSWER_SECONDS = 30.0
"""How long a record may take to be written: who does not get an answer is to know it well before its lease is over."""


class CouchFleet:
    """A `picas.stores.base.Fleet` in a CouchDB database.

    Args:
        database: the database's name, quoted.
    """

    steady = False

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database

    def beat(self, pilot: str, fields: Mapping[str, Any]) -> None:
        self._put(RECORD + quote(pilot, safe=""), {**fields, "beat": round(self._server.now(), 3)})

    def _put(self, path: str, fields: Mapping[str, Any]) -> None:
        # PouchDB's server compares revisions here too, and is told that this is none.
        self._server.request(
            "PUT", f"{self._database}/{path}", dict(fields), expect=(409,), seconds=ANSWER_SECONDS
        )

    def pilots(self) -> list[PilotRecord]:
        found: list[PilotRecord] = []
        query: dict[str, Any] = {"include_docs": True, "limit": PAGE}
        start = RECORD
        while True:
            # Keys and ids of these are the same, but only the keys come in order.
            query.update(startkey=start, endkey=RECORD + "\ufff0")
            rows = self._server.request(
                "GET",
                f"{self._database}/_local_docs",
                query={name: json.dumps(value) for name, value in query.items()},
            ).value["rows"]
            found += [_record(row["doc"], self._server.now()) for row in rows if row.get("doc")]
            if len(rows) < PAGE:
                return found
            start = rows[-1]["id"] + "\0"

    def forget(self, pilot: str) -> None:
        path = f"{self._database}/{RECORD}{quote(pilot, safe='')}"
        found = self._server.request("GET", path, expect=(404,))
        if found.status != 404:
            self._server.request("DELETE", f"{path}?rev={found.value['_rev']}", expect=(404, 409))

    def take_turn(self, name: str, seconds: float) -> bool:
        path = f"{self._database}/{TURN}{quote(name, safe='')}"
        found = self._server.request("GET", path, expect=(404,))
        taken = found.value.get("taken") if found.status != 404 else None
        now = self._server.now()
        # One in the future was written by the clock of another node.
        if isinstance(taken, (int, float)) and now - seconds < taken <= now + seconds:
            return False
        mine = os.urandom(6).hex()
        self._put(TURN + quote(name, safe=""), {"taken": round(now, 3), "who": mine})
        return bool(self._server.request("GET", path).value.get("who") == mine)

    def hold(
        self, name: str, who: Mapping[str, Any], seconds: float, fields: Mapping[str, Any] | None = None
    ) -> Held:
        found = self._server.request("GET", f"{self._database}/{HELD}{quote(name, safe='')}", expect=(404,))
        there: dict[str, Any] = found.value if found.status != 404 else {}
        now = self._server.now()
        last, kept = there.get("who") or {}, there.get("fields") or {}
        if last.get("id") != who["id"]:
            until = there.get("until")
            if isinstance(until, (int, float)) and now < until and not machine.is_gone(last.get("process")):
                return Held(mine=False, who=last, fields=kept)
            if seconds == 0:
                return Held(mine=False, who={}, fields=kept)
        kept = kept if fields is None else dict(fields)
        doc = {
            "_id": HELD + name,
            "type": "picas",
            "who": dict(who),
            "until": now + seconds if seconds else 0.0,
            "fields": kept,
        }
        if there:
            doc["_rev"] = there["_rev"]
        written = bulk.write(self._server, self._database, [bulk.Write(doc)])[0]
        if written.refused is not None:
            raise written.refused
        # Without a quorum others may have written another one on the other side.
        if written.revision is None or not written.quorum:
            return Held(mine=False, who={}, fields=kept)
        return Held(mine=True, who=who, fields=kept)

    def control(self) -> tuple[dict[str, Any], Any]:
        found = self._server.request("GET", f"{self._database}/{CONTROL}", expect=(404,))
        if found.status == 404:
            return {}, None
        fields = {name: value for name, value in found.value.items() if name not in ("_id", "_rev", "type")}
        return fields, found.value["_rev"]

    def set_control(self, fields: Mapping[str, Any], version: Any) -> bool:
        doc = {"_id": CONTROL, "type": "picas", **fields, **({"_rev": version} if version else {})}
        written = bulk.write(self._server, self._database, [bulk.Write(doc)])[0]
        if written.refused is not None:
            raise written.refused
        return written.revision is not None


def _record(doc: Mapping[str, Any], now: float) -> PilotRecord:
    fields = {name: value for name, value in doc.items() if name not in ("_id", "_rev", "beat")}
    beat = doc.get("beat")
    silent = max(0.0, now - beat) if isinstance(beat, (int, float)) else 0.0
    return PilotRecord(doc["_id"][len(RECORD) :], fields, silent)
