"""A database of a CouchDB server, as a `Backend` of `Database`. The core makes the requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas.errors import PicasError
from picas.payload import CHUNK_BYTES
from picas.stores.couch import bulk
from picas.stores.couch.http import segment

from . import couch_errors
from .database import as_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.stores.couch.http import Server

_JSON_OPTIONS = frozenset(("key", "startkey", "start_key", "endkey", "end_key"))
"""Options of a view that are any JSON, strings among them in quotes."""


class HttpBackend:
    """A `picas.classic.database.Backend`.

    Args:
        name: the database's name.
    """

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self.name = name
        self._database = quote(name, safe="")

    def _path(self, doc_id: str) -> str:
        # CouchDB answers for a design document or a _local/ one only where the slash is one.
        head, slash, rest = doc_id.partition("/")
        if head in ("_design", "_local") and slash:
            return f"{self._database}/{head}/{segment(rest)}"
        return f"{self._database}/{segment(doc_id)}"

    def read(self, doc_id: str) -> dict[str, Any] | None:
        answer = self._server.request("GET", self._path(doc_id), expect=(404,))
        found: dict[str, Any] = answer.value
        return None if answer.status == 404 else found

    def write(self, docs: Sequence[Mapping[str, Any]]) -> list[str | PicasError]:
        answers: dict[int, str | PicasError] = {}
        writes: dict[int, bulk.Write] = {}
        for i, doc in enumerate(docs):
            try:
                token, files = as_token(doc)
                kept = {name: info if info.digest else None for name, info in token.attachments.items()}
                writes[i] = bulk.Write(bulk.document(token), kept, files)
            except PicasError as error:  # this one can be written nowhere
                answers[i] = error
        written = bulk.write(self._server, self._database, list(writes.values()))
        for i, each in zip(writes, written):
            answers[i] = each.revision or each.refused or self._conflict(docs[i]["_id"])
        return [answers[i] for i in range(len(docs))]

    def _conflict(self, doc_id: str) -> PicasError:
        return couch_errors.conflict(
            f"{self.name}: the document {doc_id} is not the version any more that was read",
            "Read it again, and change what there is now.",
        )

    def query(self, design: str, view: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        path = f"{self._database}/{view}"
        if design:
            path = f"{self._database}/_design/{segment(design)}/_view/{segment(view)}"
        query = {
            name: json.dumps(value) if name in _JSON_OPTIONS else value
            for name, value in options.items()
            if name != "keys"
        }
        if "keys" in options:
            body = {"keys": list(options["keys"])}
            answer = self._server.request("POST", path, body, query=query, expect=(404,))
        else:
            answer = self._server.request("GET", path, query=query, expect=(404,))
        if answer.status == 404:
            raise couch_errors.not_found(
                f"{self.name} has no view {design}/{view}" if design else f"{self.name} has no {view}",
                "picas views list shows those there are.",
            )
        found: dict[str, Any] = answer.value
        return found

    def attachment(self, doc_id: str, name: str) -> bytes | None:
        pieces = self._server.download(f"{self._path(doc_id)}/{segment(name)}", CHUNK_BYTES)
        return None if pieces is None else b"".join(pieces)

    def info(self) -> Mapping[str, Any]:
        found: dict[str, Any] = self._server.request("GET", self._database).value
        return found

    def security(self) -> dict[str, Any]:
        found: dict[str, Any] = self._server.request("GET", f"{self._database}/_security").value or {}
        return found

    def secure(self, security: Mapping[str, Any]) -> None:
        self._server.request("PUT", f"{self._database}/_security", dict(security))
