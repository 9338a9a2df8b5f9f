"""Finding out what became of a write whose answer was lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.stores.couch.http import Server


def read_back(server: Server, database: str, bodies: Sequence[str]) -> list[str | None]:
    """For each document the new revision, if it is there now as it was to be written; else None.

    Args:
        database: the database's name, quoted.
        bodies: the documents as JSON, as they were sent.

    Raises:
        PoolUnavailable: the server still does not answer.
    """
    sent = [json.loads(body) for body in bodies]
    keys = {"keys": [body["_id"] for body in sent]}
    answer = server.request("POST", f"{database}/_all_docs", keys, query={"include_docs": True})
    return [_revision(body, row) for body, row in zip(sent, answer.value["rows"])]


def _revision(sent: Mapping[str, Any], row: Mapping[str, Any]) -> str | None:
    value = row.get("value") or {}
    found = {"_id": row.get("key"), "_deleted": True} if value.get("deleted") else row.get("doc") or {}
    revision = value.get("rev")
    if revision is None or revision == sent.get("_rev") or _content(found) != _content(sent):
        return None
    return str(revision)


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    # Attachments are written with their document or not at all.
    return {name: value for name, value in document.items() if name not in ("_rev", "_attachments")}
