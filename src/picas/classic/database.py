"""What is behind ``CouchDB(...).db``: a database, used as couchdb-python's ``Database`` is.

The same on a server and on an embedded pool; a `Backend` is what differs.
"""

from __future__ import annotations

import base64
import io
import mimetypes
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from picas.errors import InvalidInput, PicasError
from picas.payload import Payload
from picas.tokens import AttachmentInfo, Token

from . import couch_errors
from .rows import Row, StoredDocument, ViewResults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

    Body = dict[str, Any]
    Answer = Mapping[str, Any]

CONTENT_TYPE = "application/octet-stream"
"""Of a file whose name tells nothing."""


class Backend(Protocol):
    """A place that keeps documents. Every method may raise `PoolUnavailable` and `PoolRefused`."""

    name: str

    def read(self, doc_id: str) -> Body | None:
        """The document with stubs of its attachments; None if it is not there."""

    def write(self, docs: Sequence[Mapping[str, Any]]) -> list[str | PicasError]:
        """Write documents; for each its new revision, or why it was not written.

        A document has ``_id``, its ``_rev`` unless it is new, and ``_deleted`` if it is to go. Attachments that
        it does not mention are removed.
        """

    def query(self, design: str, view: str, options: Mapping[str, Any]) -> Answer:
        """The rows of a view as CouchDB answers them; design ``""`` and view ``_all_docs`` are all documents.

        Raises:
            ResourceNotFound: there is no such view.
        """

    def attachment(self, doc_id: str, name: str) -> bytes | None:
        """An attachment's bytes; None if it is not there."""

    def info(self) -> Answer:
        """What there is to know of the database; at least ``db_name`` and ``doc_count``."""

    def security(self) -> Body:
        """Who may use it."""

    def secure(self, security: Mapping[str, Any]) -> None:
        """Say who may use it."""


class Database:
    """A database: its documents by id, its views by name.

    Example:
        >>> db["token_1"]["lock"]                                    # doctest: +SKIP
        0
        >>> [row.id for row in db.view("Monitor/todo", limit=2)]     # doctest: +SKIP
        ['token_1', 'token_10']
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __repr__(self) -> str:
        return f"<Database {self.name!r}>"

    @property
    def name(self) -> str:
        """The database's name."""
        return self._backend.name

    # --- Documents ---

    def __getitem__(self, doc_id: str) -> StoredDocument:
        found = self._backend.read(doc_id)
        if found is None:
            raise couch_errors.not_found(f"{self.name} has no document {doc_id}")
        return StoredDocument(found)

    def __setitem__(self, doc_id: str, doc: MutableMapping[str, Any]) -> None:
        written = self._write_one({**doc, "_id": doc_id})
        doc.update(_id=doc_id, _rev=written)

    def __delitem__(self, doc_id: str) -> None:
        self.delete(self[doc_id])

    def __contains__(self, doc_id: str) -> bool:
        return self._backend.read(doc_id) is not None

    def __iter__(self) -> Iterator[str]:
        return (row.id for row in self.view("_all_docs"))

    def __len__(self) -> int:
        return int(self.info()["doc_count"])

    def __bool__(self) -> bool:
        return True

    def get(self, id: str, default: Any = None) -> Any:  # noqa: A002 - couchdb-python's name for it
        """The document, or the default if it is not there."""
        found = self._backend.read(id)
        return default if found is None else StoredDocument(found)

    def save(self, doc: MutableMapping[str, Any]) -> tuple[str, str]:
        """Write a document; its id and revision, which the document then has too.

        Raises:
            ResourceConflict: it is not the newest version, or new under an id that is taken.
        """
        doc_id = doc.get("_id") or uuid4().hex
        self[doc_id] = doc
        return doc_id, doc["_rev"]

    def update(
        self, documents: Sequence[MutableMapping[str, Any]]
    ) -> list[tuple[bool, str, str | PicasError]]:
        """Write documents in one request: for each whether it was written, its id, and its revision or the error."""
        docs = list(documents)
        ids = [doc.get("_id") or uuid4().hex for doc in docs]
        answers = self._backend.write([{**doc, "_id": doc_id} for doc, doc_id in zip(docs, ids)])
        told: list[tuple[bool, str, str | PicasError]] = []
        for doc, doc_id, answer in zip(docs, ids, answers):
            written = isinstance(answer, str)
            if written:
                doc.update(_id=doc_id, _rev=answer)
            told.append((written, doc_id, answer))
        return told

    def delete(self, doc: Mapping[str, Any]) -> None:
        """Remove a document.

        Raises:
            ResourceConflict: it is not the newest version.
            ResourceNotFound: it is gone already.
            ValueError: it has no id.
        """
        if doc.get("_id") is None:
            raise ValueError("document ID cannot be None")
        answer = self._backend.write([_gone(doc)])[0]
        if isinstance(answer, couch_errors.ResourceConflict) and doc["_id"] not in self:
            answer = couch_errors.not_found(f"{self.name} has no document {doc['_id']}")
        if isinstance(answer, PicasError):
            raise answer

    def delete_all(self, docs: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Remove documents in one request; False for each that changed since it was read, or was not removed."""
        answers = self._backend.write([_gone(doc) for doc in docs])
        return [isinstance(answer, str) for answer in answers]

    def _write_one(self, doc: Mapping[str, Any]) -> str:
        answer = self._backend.write([doc])[0]
        if isinstance(answer, PicasError):
            raise answer
        return answer

    # --- Attachments ---

    def put_attachment(
        self,
        doc: MutableMapping[str, Any],
        content: Any,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> None:
        """Attach a file to a document that is in the database; the document then has the new revision.

        Args:
            content: bytes, text, or a file that is open for reading.
            filename: what it is called; what the open file is, if not given. ``/`` may be in it.

        Raises:
            ResourceConflict: the document is not the newest version.
            ValueError: nothing says what it is called.
        """
        if filename is None and isinstance(getattr(content, "name", None), str):
            filename = PurePath(content.name).name
        if not filename:
            raise ValueError("no filename specified for attachment")
        data = content.read() if hasattr(content, "read") else content
        data = data.encode() if isinstance(data, str) else data
        kind = content_type or mimetypes.guess_type(filename)[0] or CONTENT_TYPE
        file = {"content_type": kind, "data": base64.b64encode(data).decode("ascii")}
        self._change_attachments(doc, lambda files: files.update({filename: file}))
        # A document that is saved without a word of its new file would lose it.
        stub = {"content_type": kind, "length": len(data), "stub": True}
        doc.setdefault("_attachments", {})[filename] = stub

    def get_attachment(self, id_or_doc: str | Mapping[str, Any], filename: str, default: Any = None) -> Any:
        """An attachment as an open file, or the default if it is not there."""
        doc_id = id_or_doc if isinstance(id_or_doc, str) else id_or_doc["_id"]
        data = self._backend.attachment(doc_id, filename)
        return default if data is None else io.BytesIO(data)

    def delete_attachment(self, doc: MutableMapping[str, Any], filename: str) -> None:
        """Remove an attachment, if it is there; the document then has the new revision.

        Raises:
            ResourceConflict: the document is not the newest version.
        """
        self._change_attachments(doc, lambda files: files.pop(filename, None))
        doc.get("_attachments", {}).pop(filename, None)

    def _change_attachments(self, doc: MutableMapping[str, Any], change: Callable[[Body], object]) -> None:
        current = self[doc["_id"]]
        files = dict(current.get("_attachments") or {})
        change(files)
        doc["_rev"] = self._write_one({**current, "_rev": doc["_rev"], "_attachments": files})

    # --- Views ---

    def view(self, name: str, wrapper: Callable[[Row], Any] | None = None, **options: Any) -> ViewResults:
        """The rows of a view.

        Args:
            name: such as ``Monitor/todo``, or ``_all_docs``.
            wrapper: makes of a row what is wanted in its place.
            options: CouchDB's: ``key``, ``keys``, ``startkey``, ``endkey``, ``limit``, ``include_docs`` …

        Raises (when the rows are looked at):
            ResourceNotFound: there is no such view.
        """
        design, view = _parts(name)
        return ViewResults(
            lambda wanted: self._backend.query(design, view, wanted), options, wrapper or (lambda row: row)
        )

    def iterview(
        self, name: str, batch: int, wrapper: Callable[[Row], Any] | None = None, **options: Any
    ) -> Iterator[Any]:
        """The rows of a view, of which so many are in memory at a time."""
        if batch <= 0:
            raise ValueError("batch must be 1 or more")
        left = options.pop("limit", None)
        skip = options.pop("skip", 0)
        while left is None or left > 0:
            limit = batch if left is None else min(batch, left)
            rows = self.view(name, wrapper, **options, limit=limit, skip=skip).rows
            yield from rows
            if len(rows) < limit:
                return
            skip += len(rows)
            left = None if left is None else left - len(rows)

    # --- The database ---

    def info(self) -> Answer:
        """What there is to know of it, ``doc_count`` among others."""
        return self._backend.info()

    @property
    def security(self) -> Body:
        """Who may use it, as CouchDB says that."""
        return self._backend.security()

    @security.setter
    def security(self, security: Mapping[str, Any]) -> None:
        self._backend.secure(security)


def as_token(doc: Mapping[str, Any]) -> tuple[Token, tuple[Payload, ...]]:
    """A document for the stores: the token with what is known of the attachments that stay, and those that are new.

    Raises:
        InvalidInput: an attachment is not what a document may say of one.
    """
    body = {name: value for name, value in doc.items() if name not in ("_id", "_rev", "_attachments")}
    kept: dict[str, AttachmentInfo] = {}
    brought: list[Payload] = []
    for name, file in (doc.get("_attachments") or {}).items():
        kind = file.get("content_type") or CONTENT_TYPE
        if "data" in file and not file.get("stub"):
            brought.append(Payload(name, kind, (_bytes(doc["_id"], name, file["data"]),)))
        else:
            kept[name] = AttachmentInfo(name, kind, file.get("length", 0), file.get("digest", ""))
    return Token(doc["_id"], body, doc.get("_rev"), kept), tuple(brought)


def _bytes(doc_id: str, name: str, data: str | bytes) -> bytes:
    try:
        return base64.b64decode(data)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"document {doc_id}: the attachment {name} is not in base64", "put_attachment writes it so."
        ) from error


def _gone(doc: Mapping[str, Any]) -> Body:
    return {"_id": doc["_id"], "_rev": doc["_rev"], "_deleted": True}


def _parts(name: str) -> tuple[str, str]:
    """Design document and view of a view's name in any of its forms."""
    path = name.strip("/")
    if path.startswith("_design/"):
        design, _, view = path[len("_design/") :].partition("/_view/")
        return design, view
    design, _, view = path.rpartition("/")
    return design, view
